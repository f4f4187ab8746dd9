//! The declared layers of each crate (layers.toml), and what in its imports does not fit them.

use std::path::Path;

use serde::Deserialize;

use crate::Graph;

/// What layers.toml says of a crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crate {
    /// Its package name.
    pub name: String,
    /// Its first file, from the top of the repository.
    pub root: String,
    /// Names of rooms, from the top layer to the bottom one.
    pub layers: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "crate")]
    crates: Vec<Crate>,
}

/// All crates of layers.toml.
pub fn read(path: &Path) -> Result<Vec<Crate>, Box<dyn std::error::Error>> {
    let file: File = toml::from_str(&std::fs::read_to_string(path)?)?;
    Ok(file.crates)
}

impl Crate {
    /// What does not fit: rooms that no layer or more than one names, rooms that are not there, and upward imports.
    pub fn faults(&self, rooms: &Graph) -> Vec<String> {
        let mut faults = Vec::new();
        for name in self.layers.iter().flatten() {
            if !rooms.contains_key(name) {
                faults.push(format!("{}: there is no room {name:?}", self.name));
            }
        }
        for (room, imported) in rooms {
            let layers: Vec<usize> = self.layers_of(room).collect();
            let [layer] = layers[..] else {
                let count = layers.len();
                faults.push(format!(
                    "{}: {count} layers name the room {room:?}",
                    self.name
                ));
                continue;
            };
            let upward = imported
                .iter()
                .filter(|target| self.layers_of(target).any(|other| other < layer));
            faults.extend(upward.map(|target| {
                format!(
                    "{}: {room} imports from {target}, which is above it",
                    self.name
                )
            }));
        }
        faults
    }

    fn layers_of(&self, room: &str) -> impl Iterator<Item = usize> {
        let layers = self.layers.iter().enumerate();
        layers.flat_map(move |(at, layer)| {
            layer
                .iter()
                .filter(move |name| *name == room)
                .map(move |_| at)
        })
    }
}
