//! A Docker that cannot be set up from here: found, named, left alone.

use std::path::Path;

use crate::engines::engine::{Engine, Facts, Management};

/// Such a Docker.
pub struct Unmanaged {
    facts: Facts,
}

impl Unmanaged {
    /// One of that name, with why it is none of ours and what to do instead.
    pub fn new(name: &str, why: impl Into<String>, instead: impl Into<String>) -> Self {
        let (why, instead) = (why.into(), instead.into());
        Self {
            facts: Facts {
                name: name.into(),
                notes: vec![format!("{why}; {instead}")],
                management: Management::Unmanaged { why, instead },
                version: None,
                running: None,
                config: None,
                configured: false,
                outdated: Vec::new(),
            },
        }
    }

    /// The same with what more is known of it.
    pub fn with(mut self, version: Option<String>, config: Option<&Path>) -> Self {
        self.facts.version = version;
        self.facts.config = config.map(Path::to_owned);
        self
    }
}

impl Engine for Unmanaged {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn facts_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }
}
