//! The types that each module of a crate declares: structs, enums, unions, traits and aliases. Associated types are not
//! among them, since their names are given by the trait.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Ident, Item};

use crate::modules::{self, is_for_tests};

/// The names of the types of each module of the crate whose first file is `root`, by the module's path within the crate.
pub fn types(root: &Path) -> io::Result<BTreeMap<String, BTreeSet<String>>> {
    let modules = modules::read(root)?.into_iter();
    Ok(modules.map(|(name, module)| (name, module.types)).collect())
}

/// The types that an item declares: itself, and those in its functions and inline modules.
pub(crate) fn declared_in(item: &Item) -> BTreeSet<String> {
    let mut types = Declared::default();
    types.visit_item(item);
    types.names
}

#[derive(Default)]
struct Declared {
    names: BTreeSet<String>,
}

impl Declared {
    fn add(&mut self, name: &Ident, attributes: &[Attribute]) {
        if !attributes.iter().any(is_for_tests) {
            self.names.insert(name.to_string());
        }
    }
}

impl<'a> Visit<'a> for Declared {
    fn visit_item_struct(&mut self, one: &'a syn::ItemStruct) {
        self.add(&one.ident, &one.attrs);
    }

    fn visit_item_enum(&mut self, one: &'a syn::ItemEnum) {
        self.add(&one.ident, &one.attrs);
    }

    fn visit_item_union(&mut self, one: &'a syn::ItemUnion) {
        self.add(&one.ident, &one.attrs);
    }

    fn visit_item_type(&mut self, one: &'a syn::ItemType) {
        self.add(&one.ident, &one.attrs);
    }

    fn visit_item_trait(&mut self, one: &'a syn::ItemTrait) {
        self.add(&one.ident, &one.attrs);
        visit::visit_item_trait(self, one);
    }

    fn visit_item_mod(&mut self, one: &'a syn::ItemMod) {
        if !one.attrs.iter().any(is_for_tests) {
            visit::visit_item_mod(self, one);
        }
    }

    fn visit_impl_item_fn(&mut self, one: &'a syn::ImplItemFn) {
        if !one.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, one);
        }
    }
}
