//! The paths that are written in an item: in types, expressions, patterns and the arguments of macros; the
//! methods that it calls, and the texts in it.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Macro, Meta};

use crate::modules::is_for_tests;

/// What an item has written in it, each once.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) paths: BTreeSet<Vec<String>>,
    pub(crate) methods: BTreeSet<String>,
    /// Those that begin with `::`.
    pub(crate) outside: BTreeSet<Vec<String>>,
    /// Modules of which all names are taken.
    pub(crate) globs: BTreeSet<Vec<String>>,
    /// String literals, those in attributes (`#[error("…")]`) among them; comments are not.
    pub(crate) texts: BTreeSet<String>,
}

pub(crate) fn written_in(item: &Item) -> Written {
    let mut written = Written::default();
    written.visit_item(item);
    written
}

impl<'a> Visit<'a> for Written {
    fn visit_path(&mut self, path: &'a syn::Path) {
        let parts = path.segments.iter().map(|s| s.ident.to_string());
        let set = match path.leading_colon {
            None => &mut self.paths,
            Some(_) => &mut self.outside,
        };
        set.insert(parts.collect());
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, one: &'a syn::ExprMethodCall) {
        self.methods.insert(one.method.to_string());
        visit::visit_expr_method_call(self, one);
    }

    fn visit_lit_str(&mut self, one: &'a syn::LitStr) {
        self.texts.insert(one.value());
    }

    fn visit_attribute(&mut self, one: &'a Attribute) {
        // Comments, and the reasons of lints, are for who reads the source.
        let is_for_readers = ["doc", "allow", "expect"].map(|name| one.path().is_ident(name));
        if is_for_readers.contains(&true) {
            return;
        }
        if let Meta::List(list) = &one.meta {
            self.take_texts(list.tokens.clone());
        }
        visit::visit_attribute(self, one);
    }

    // `pub(super)` is not an import.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_macro(&mut self, one: &'a Macro) {
        self.take(one.tokens.clone());
        self.take_texts(one.tokens.clone());
        visit::visit_macro(self, one);
    }

    fn visit_impl_item_fn(&mut self, one: &'a syn::ImplItemFn) {
        if !one.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, one);
        }
    }

    // A `use` within a function.
    fn visit_item_use(&mut self, one: &'a syn::ItemUse) {
        let mut before = Vec::new();
        self.tree(&one.tree, &mut before);
    }
}

impl Written {
    fn tree(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for inner in &group.items {
                    self.tree(inner, before);
                }
            }
            syn::UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.paths.insert(before.clone());
                before.pop();
            }
            syn::UseTree::Rename(name) => {
                before.push(name.ident.to_string());
                self.paths.insert(before.clone());
                before.pop();
            }
            syn::UseTree::Glob(_) => {
                self.paths.insert(before.clone());
                self.globs.insert(before.clone());
            }
        }
    }

    fn take_texts(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.take_texts(group.stream()),
                TokenTree::Literal(literal) => {
                    if let syn::Lit::Str(text) = syn::Lit::new(literal) {
                        self.texts.insert(text.value());
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// A macro's arguments need not be Rust syntax, so any names with `::` between them count as a path.
    fn take(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end(&mut path);
                    self.take(group.stream());
                    colons = 0;
                }
                _ => {
                    self.end(&mut path);
                    colons = 0;
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            self.paths.insert(std::mem::take(path));
        }
    }
}
