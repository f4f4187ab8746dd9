//! Tests the pages of the manual: their links work, also in the book; the book has all of them; and
//! the part of install.md that is generated from the table of distributions is up to date.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use gpu_host::distro::{self, DistroRow, Usr};

const BEGIN: &str = "<!-- begin: made from crates/gpu-host/distros.toml, UPDATE_DOCS=1 cargo test -p gpusetup --test docs -->\n";
const END: &str = "<!-- end -->\n";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<PathBuf> {
    let mut pages = ["README.md", "packaging/README.md", "examples/README.md"]
        .map(|page| top().join(page))
        .to_vec();
    for dir in ["docs", "docs/decisions"] {
        let files = fs::read_dir(top().join(dir)).unwrap();
        let files = files.map(|e| e.unwrap().path());
        pages.extend(files.filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    pages
}

/// A text without its code, in which a bracket is not a link.
fn prose(text: &str) -> String {
    let mut in_block = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let outside = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
            out.push_str(&outside);
            out.push('\n');
        }
    }
    out
}

fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let parts = prose.split("](").skip(1);
    parts
        .filter_map(|p| Some(p.split_once(')')?.0.to_owned()))
        .collect()
}

/// The anchors that GitHub and mdBook derive from the titles.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if in_block || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
            _ => None,
        });
        found.insert(kept.collect());
    }
    found
}

/// Links of a page that lead nowhere.
fn broken(page: &Path, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for link in links(text) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let to = match file {
            "" => page.to_owned(),
            file => page.parent().unwrap().join(file),
        };
        // The book contains only its own pages.
        let docs = top().join("docs");
        let leads_out = |to: PathBuf| !to.starts_with(docs.canonicalize().unwrap());
        let leaves = page.starts_with(&docs) && to.canonicalize().is_ok_and(leads_out);
        let leads = match anchor {
            _ if leaves => false,
            "" => to.exists(),
            anchor => fs::read_to_string(&to).is_ok_and(|t| anchors(&t).contains(anchor)),
        };
        if !leads {
            broken.push(format!("{}: {link}", page.display()));
        }
    }
    broken
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        count += links(&text).len();
        wrong.extend(broken(&page, &text));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 50, "only {count} links were seen");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = top().join("docs/engines.md");
    for link in [
        "no-such.md",
        "security.md#no-such",
        "#no-such",
        "../README.md",
    ] {
        assert_eq!(broken(&page, &format!("[x]({link})")).len(), 1, "{link}");
    }
    assert!(broken(&page, "[x](security.md) `[x](y)`\n```\n[x](y)\n```\n").is_empty());
}

/// Titles that skip a level and tables with unnamed columns: a screen reader depends on both.
fn unreadable(text: &str) -> Vec<String> {
    let prose = prose(text);
    let mut wrong = Vec::new();
    let mut level = 0;
    let mut before = "";
    for line in prose.lines() {
        let hashes = line.len() - line.trim_start_matches('#').len();
        if hashes > 0 && line[hashes..].starts_with(' ') {
            if hashes > level + 1 {
                wrong.push(line.to_owned());
            }
            level = hashes;
        }
        let cells = before.trim().trim_matches('|').split('|');
        if line.trim().starts_with("|--") && cells.into_iter().any(|c| c.trim().is_empty()) {
            wrong.push(before.to_owned());
        }
        before = line;
    }
    wrong
}

#[test]
fn every_column_has_a_name_and_no_title_skips_a_level() {
    for page in pages() {
        let wrong = unreadable(&fs::read_to_string(&page).unwrap());
        assert!(wrong.is_empty(), "{}: {wrong:#?}", page.display());
    }
    for text in [
        "| | b |\n|---|---|\n",
        "| a |  |\n|---|---|\n",
        "# a\n### b\n",
    ] {
        assert_eq!(unreadable(text).len(), 1, "{text}");
    }
    assert!(unreadable("# a\n## b\n```sh\n#### c\n```\n| a | b |\n|---|--:|\n").is_empty());
}

#[test]
fn the_book_has_every_page() {
    let docs = top().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let named: BTreeSet<String> = links(&summary).into_iter().collect();
    let pages = pages();
    let pages: Vec<_> = pages.iter().filter(|p| p.starts_with(&docs)).collect();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let name = page.strip_prefix(&docs).unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || named.contains(name), "{name}");
    }
}

#[test]
fn install_md_matches_the_table_of_distributions() {
    let path = top().join("docs/install.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let wanted = format!("{head}{BEGIN}{}{END}{tail}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text == wanted,
        "run: UPDATE_DOCS=1 cargo test -p gpusetup --test docs"
    );
}

fn table() -> String {
    let mut out = String::from(
        "| distribution | an engine, if none is there | gpusetup by |\n|---|---|---|\n",
    );
    for row in distro::table() {
        let engine = row
            .engine
            .as_deref()
            .map(|e| format!("`{}`", e.replace('|', "\\|")));
        let by = match &row.reason {
            Some(_) => format!(
                "not run there: [what to do instead](distributions.md#{})",
                anchor(row)
            ),
            None => by(row).to_owned(),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {by} |",
            row.name,
            engine.unwrap_or_default()
        );
    }
    out
}

fn anchor(row: &DistroRow) -> String {
    anchors(&format!("# {}", row.name)).pop_first().unwrap()
}

fn by(row: &DistroRow) -> &'static str {
    match (row.usr, row.package_manager.as_str()) {
        (Usr::Ostree, _) => "rpm-ostree, then a reboot",
        (Usr::Transactional, _) => "transactional-update, then a reboot",
        (Usr::Sysext | Usr::Sealed, _) => "the systemd-sysext image",
        (_, "apt") => "apt",
        (_, "dnf") => "dnf",
        (_, "yum") => "yum",
        (_, "tdnf") => "tdnf",
        (_, "zypper") => "zypper",
        _ => "a recipe, or from the sources",
    }
}
