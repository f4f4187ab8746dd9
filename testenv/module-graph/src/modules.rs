//! Reads the modules of a crate, each from its file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

use crate::{paths, types};

/// Modules by their paths within the crate; the path of the crate's first file is empty.
pub(crate) type Modules = BTreeMap<String, Module>;

/// What matters of a file for imports.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Names of the files and folders below it.
    pub(crate) children: BTreeSet<String>,
    /// Names of the items that it defines itself.
    pub(crate) items: BTreeSet<String>,
    /// Names of the types that it declares, those within functions included.
    pub(crate) types: BTreeSet<String>,
    /// Names that it takes from elsewhere, with their paths.
    pub(crate) names: BTreeMap<String, Vec<String>>,
    /// Modules from which it takes all names (`use module::*`).
    pub(crate) globs: Vec<Vec<String>>,
    /// Every path that is written in it, except in re-exports.
    pub(crate) paths: BTreeSet<Vec<String>>,
    /// Every method that is called in it.
    pub(crate) methods: BTreeSet<String>,
    /// Every text in it.
    pub(crate) texts: BTreeSet<String>,
    /// Paths that are written as another crate's, `::name`, and names that are imported by one.
    pub(crate) outside: BTreeSet<Vec<String>>,
    pub(crate) outside_names: BTreeMap<String, Vec<String>>,
    /// Modules of which all names are taken within a function.
    pub(crate) inner_globs: BTreeSet<Vec<String>>,
}

/// Reads the crate with this first file.
pub(crate) fn read(root: &Path) -> io::Result<Modules> {
    let mut modules = Modules::new();
    let dir = root.parent().unwrap_or(Path::new("."));
    add(&mut modules, "", root, dir)?;
    Ok(modules)
}

/// Adds a module and its children, whose files are in `dir`.
fn add(modules: &mut Modules, name: &str, file: &Path, dir: &Path) -> io::Result<()> {
    let text = fs::read_to_string(file).map_err(|e| of(file, &e))?;
    let parsed = syn::parse_file(&text).map_err(|e| of(file, &e))?;
    let mut module = Module::default();
    for item in parsed.items.iter().filter(|item| !is_test(item)) {
        module.take(item);
    }
    let children = module.children.clone();
    modules.insert(name.to_owned(), module);
    for child in children {
        let inner = dir.join(&child);
        let flat = dir.join(format!("{child}.rs"));
        let file = if flat.exists() {
            flat
        } else {
            inner.join("mod.rs")
        };
        add(modules, &join(name, &child), &file, &inner)?;
    }
    Ok(())
}

fn of(file: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", PathBuf::from(file).display()))
}

pub(crate) fn join(module: &str, name: &str) -> String {
    if module.is_empty() {
        name.to_owned()
    } else {
        format!("{module}::{name}")
    }
}

impl Module {
    fn take(&mut self, item: &Item) {
        match item {
            Item::Mod(ItemMod {
                ident,
                content: None,
                ..
            }) => {
                self.children.insert(ident.to_string());
            }
            Item::Use(item) => self.take_use(item),
            _ => {
                self.items.extend(name_of(item));
                self.types.extend(types::declared_in(item));
                let written = paths::written_in(item);
                self.paths.extend(written.paths);
                self.methods.extend(written.methods);
                self.texts.extend(written.texts);
                self.outside.extend(written.outside);
                self.inner_globs.extend(written.globs);
            }
        }
    }

    fn take_use(&mut self, found: &ItemUse) {
        let is_reexport = !matches!(found.vis, Visibility::Inherited);
        // `::name` is always another crate, even if a module has that name.
        if found.leading_colon.is_none() {
            self.take_tree(&found.tree, &mut Vec::new(), is_reexport);
            return;
        }
        let mut other = Self::default();
        other.take_tree(&found.tree, &mut Vec::new(), false);
        self.outside.extend(other.paths);
        self.outside_names.extend(other.names);
        self.inner_globs.extend(other.globs);
    }

    fn take_tree(&mut self, tree: &UseTree, before: &mut Vec<String>, is_reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_tree(&path.tree, before, is_reexport);
                before.pop();
            }
            UseTree::Group(group) => {
                for inner in &group.items {
                    self.take_tree(inner, before, is_reexport);
                }
            }
            UseTree::Name(name) => self.name(
                &name.ident.to_string(),
                &name.ident.to_string(),
                before,
                is_reexport,
            ),
            UseTree::Rename(name) => self.name(
                &name.rename.to_string(),
                &name.ident.to_string(),
                before,
                is_reexport,
            ),
            UseTree::Glob(_) => {
                self.globs.push(before.clone());
                if !is_reexport {
                    self.paths.insert(before.clone());
                }
            }
        }
    }

    fn name(&mut self, here: &str, there: &str, before: &[String], is_reexport: bool) {
        let mut path = before.to_vec();
        let mut here = here;
        if there == "self" {
            if here == "self" {
                here = before.last().map_or("self", String::as_str);
            }
        } else {
            path.push(there.to_owned());
        }
        if !is_reexport {
            self.paths.insert(path.clone());
        }
        self.names.insert(here.to_owned(), path);
    }
}

fn is_test(item: &Item) -> bool {
    let of: &[Attribute] = match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    };
    of.iter().any(is_for_tests)
}

/// Whether it is `#[cfg(test)]`; `#[cfg(not(test))]` is not.
pub(crate) fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|what| what.is_ident("test"))
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(i) => i.ident.to_string(),
        Item::Enum(i) => i.ident.to_string(),
        Item::Fn(i) => i.sig.ident.to_string(),
        Item::Macro(i) => i.ident.as_ref()?.to_string(),
        Item::Static(i) => i.ident.to_string(),
        Item::Struct(i) => i.ident.to_string(),
        Item::Trait(i) => i.ident.to_string(),
        Item::Type(i) => i.ident.to_string(),
        _ => return None,
    })
}
