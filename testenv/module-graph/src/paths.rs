//! The paths that are written in an item: in types, expressions, patterns and the arguments of macros.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, Macro};

use crate::modules::is_for_tests;

/// The paths in an item, each once.
pub(crate) fn written_in(item: &Item) -> BTreeSet<Vec<String>> {
    let mut paths = Paths::default();
    paths.visit_item(item);
    paths.0
}

#[derive(Default)]
struct Paths(BTreeSet<Vec<String>>);

impl<'a> Visit<'a> for Paths {
    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            let parts = path.segments.iter().map(|s| s.ident.to_string());
            self.0.insert(parts.collect());
        }
        visit::visit_path(self, path);
    }

    // `pub(super)` is not an import.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_macro(&mut self, one: &'a Macro) {
        self.take(one.tokens.clone());
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

impl Paths {
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
                self.0.insert(before.clone());
                before.pop();
            }
            syn::UseTree::Rename(name) => {
                before.push(name.ident.to_string());
                self.0.insert(before.clone());
                before.pop();
            }
            syn::UseTree::Glob(_) => drop(self.0.insert(before.clone())),
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
            self.0.insert(std::mem::take(path));
        }
    }
}
