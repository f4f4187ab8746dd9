//! Packs a bundle into an archive: JSON documents, texts and the HTML page.

use std::collections::BTreeSet;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, Header};

use super::masked::Masked;
use super::{Bundle, page};

/// Packs the bundle as a .tar.gz with one directory in it.
pub fn pack(bundle: &Masked<Bundle>, directory: &str) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut names = BTreeSet::new();
    let mut add = |name: String, content: &[u8]| -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let mut unique = name.clone();
        for n in 2.. {
            if names.insert(unique.clone()) {
                break;
            }
            unique = format!("{name}.{n}");
        }
        tar.append_data(&mut header, format!("{directory}/{unique}"), content)
    };
    add("index.html".into(), page::html(bundle).as_bytes())?;
    for (name, value) in [
        ("host.json", bundle.host.clone()),
        ("topology.json", json!(bundle.topology)),
        ("changes.json", json!(bundle.changes)),
        ("doctor.json", bundle.doctor.clone()),
        ("unread.json", json!(bundle.unread)),
        ("masked.json", json!(bundle.masked())),
    ] {
        add(name.into(), &pretty(&value)?)?;
    }
    for file in &bundle.files {
        add(
            format!("files/{}", plain(&file.name)),
            file.content.as_bytes(),
        )?;
    }
    for log in &bundle.logs {
        add(format!("logs/{}", plain(&log.name)), log.content.as_bytes())?;
    }
    let mut packed = tar.into_inner()?;
    packed.flush()?;
    packed.finish()
}

fn pretty(value: &Value) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

/// Turns a host's path into a safe name that unpacks on any system and stays below its directory.
/// A hostile host can have any file name.
fn plain(name: &str) -> String {
    let parts = name.split('/').filter(|p| !matches!(*p, "" | "." | ".."));
    let letter = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "._-+@*".contains(c) => c,
        _ => '_',
    };
    let parts: Vec<String> = parts.map(|p| p.chars().map(letter).collect()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests;
