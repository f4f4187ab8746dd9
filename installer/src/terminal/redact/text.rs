//! Free text: logs, messages, command lines, settings of shells. Word by word, and what a key, a
//! flag or a command before it makes of a word.

mod parts;
mod scan;

use scan::{Next, Promise, Scan};

use super::mark::{self, mark as marked};
use super::url;
use super::words::{self, is_harmless};

/// Which words stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Words that could be of a sentence.
    Words,
    /// Words that are listed, and forms that are.
    Values,
}

/// A longer line is masked as a whole.
const LONG: usize = 64 << 10;
/// Quotes in quotes in quotes.
const DEEP: usize = 6;

/// All of a text.
pub(super) fn mask(text: &str, trust: Trust) -> String {
    Lines::new(trust).all(text)
}

/// Settings of a shell and the like: comments are masked whole.
pub(super) fn mask_settings(text: &str) -> String {
    let mut lines = Lines::new(Trust::Values);
    lines.comments = true;
    lines.all(text)
}

/// A value of a key that is shown.
pub(super) fn mask_kept(text: &str) -> String {
    // Nothing but a URL, whatever signs its password has.
    if text.contains("://") && text.contains('@') && !text.contains("@sha256:") {
        return url::mask(text);
    }
    mask(text, Trust::Words)
}

/// A comment; of gpusetup's own the words stay, since a plan shows what it would write.
pub(super) fn mask_comment(text: &str) -> String {
    if text.trim_start().starts_with("Written by gpusetup") {
        return mask(text, Trust::Words);
    }
    marked("comment", text)
}

/// The name of a key, or a part of it.
pub(super) fn mask_key(key: &str) -> String {
    let said = key.trim();
    if said.is_empty() || said.contains("://") || said.contains(char::is_whitespace) {
        return if said.is_empty() {
            key.to_owned()
        } else {
            mask(key, Trust::Values)
        };
    }
    let name = said.trim_start_matches(['-', '$']);
    if name.len() <= 10 && name.chars().all(|c| c.is_ascii_alphabetic()) {
        return key.to_owned();
    }
    let is_name = is_harmless(name, Trust::Words)
        || name.starts_with('/') && mask_path(name, Trust::Words) == name;
    if is_name {
        key.to_owned()
    } else {
        marked("string", key)
    }
}

/// A path: each part of it is a word; below known directories ids are names.
pub(super) fn mask_path(path: &str, trust: Trust) -> String {
    // Lists of paths, as in PATH.
    if let Some((first, rest)) = path.split_once(":/") {
        return format!(
            "{}:{}",
            mask_path(first, trust),
            mask_path(&format!("/{rest}"), trust)
        );
    }
    let is_rooted = words::is_rooted(path);
    if trust == Trust::Values && !is_rooted && path.len() > 3 {
        return marked("string", path);
    }
    let part = |part: &str| {
        if part.contains("@sha256:") && is_harmless(part, trust) {
            return part.to_owned();
        }
        let (name, ends) = part.split_at(part.find([':', ',']).unwrap_or(part.len()));
        let is_id = is_rooted
            && (name.len() == 64 && words::is_id(name)
                || is_uuid(name)
                || words::is_id(
                    name.trim_end_matches(".scope")
                        .rsplit('-')
                        .next()
                        .unwrap_or(name),
                ));
        let is_fine = is_id || is_harmless(name, Trust::Words);
        let name = if is_fine {
            name.to_owned()
        } else {
            marked("string", name)
        };
        let ends = match ends.get(..1) {
            Some(sign) if ends[1..].starts_with('/') => {
                format!("{sign}{}", mask_path(&ends[1..], trust))
            }
            Some(sign) if !is_harmless(&ends[1..], Trust::Values) => {
                format!("{sign}{}", marked("string", &ends[1..]))
            }
            _ => ends.to_owned(),
        };
        name + &ends
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn is_uuid(text: &str) -> bool {
    let text = text.strip_prefix("pod").unwrap_or(text);
    text.len() == 36
        && text.bytes().enumerate().all(|(n, b)| match n {
            8 | 13 | 18 | 23 => b == b'-' || b == b'_',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Whether the next line may be nothing but a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

/// What is known of a text line by line.
struct Lines {
    trust: Trust,
    comments: bool,
    /// Lines that are further in belong to a secret.
    block: Option<usize>,
    /// In a key between its two marked lines.
    key: bool,
    /// A quote that was not closed.
    open: Option<char>,
    /// The word that ends a text for a command.
    here: Option<String>,
    /// Of a line that goes on: what its end made of the next word.
    carried: Option<(Next, bool)>,
    /// The line before ended in something masked.
    after_mark: bool,
    /// The line before ended in a key, such as `password:`, or in a question for it.
    asked: Asked,
}

impl Lines {
    fn new(trust: Trust) -> Self {
        Self {
            trust,
            comments: false,
            block: None,
            key: false,
            open: None,
            here: None,
            carried: None,
            after_mark: false,
            asked: Asked::No,
        }
    }

    fn all(&mut self, text: &str) -> String {
        let cut = rest_of_key(text);
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let said = line.strip_suffix('\n').unwrap_or(line);
            if at < cut {
                out.push_str(&marked("lines", said));
            } else {
                let masked = self.line(said);
                let end = masked.trim_end();
                self.after_mark = if said.trim().is_empty() {
                    self.after_mark
                } else {
                    ends_in_mark(end)
                };
                out.push_str(&masked);
            }
            out.push_str(&line[said.len()..]);
            at += line.len();
        }
        out
    }

    fn line(&mut self, line: &str) -> String {
        let said = line.trim();
        let depth = line.len() - line.trim_start().len();
        let whole = |what| {
            format!(
                "{}{}",
                &line[..depth],
                marked(what, line[depth..].trim_end())
            )
        };
        if line.len() > LONG {
            return whole("text");
        }
        if let Some(word) = &self.here {
            if said.trim_start_matches('#').trim() == word {
                self.here = None;
                return line.to_owned();
            }
            return whole("lines");
        }
        if self.key {
            self.key = !said.contains("-----END");
            return whole("lines");
        }
        if let Some(quote) = self.open {
            self.open = if line.contains(quote) {
                None
            } else {
                Some(quote)
            };
            return whole("lines");
        }
        if let Some(column) = self.block {
            if said.is_empty() || depth > column {
                return whole("lines");
            }
            self.block = None;
        }
        if self.comments && said.starts_with('#') {
            return format!("{}#{}", &line[..depth], mask_comment(said[1..].trim_end()));
        }
        if let Some(at) = line.find("-----BEGIN ") {
            self.key = !line[at..].contains("-----END");
            let before = self.words(&line[..at], self.trust, 0);
            return before + &marked("lines", line[at..].trim_end());
        }
        let comment_sign = said.trim_start_matches(['#', '/', ' ']);
        if self.after_mark
            && !comment_sign.is_empty()
            && !comment_sign.contains(char::is_whitespace)
            && !comment_sign.contains(['=', ':', '[', '{'])
            && !is_harmless(comment_sign, Trust::Values)
            || self.after_mark && comment_sign.starts_with('=')
        {
            return whole("lines");
        }
        if self.asked == Asked::Yes && !comment_sign.is_empty() && !said.starts_with('#') {
            self.asked = Asked::No;
            if !said.contains(char::is_whitespace) && !is_harmless(said, Trust::Values) {
                return whole("lines");
            }
        }
        let masked = self.words(line, self.trust, 0);
        let tail = said.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
        if tail.ends_with(": |") || tail.ends_with(": >") {
            self.block = Some(depth);
        }
        if let Some(word) = here(line) {
            self.here = Some(word);
        }
        masked
    }

    fn words(&mut self, text: &str, trust: Trust, depth: usize) -> String {
        let (next, rest) = if depth == 0 {
            self.carried.take()
        } else {
            None
        }
        .unwrap_or((Next::Free, false));
        let mut scan = Scan {
            lines: self,
            text,
            at: 0,
            out: String::with_capacity(text.len()),
            trust,
            depth,
            next,
            rest,
            before: String::new(),
            promise: Promise::default(),
        };
        let mut still = 0;
        while scan.at < text.len() {
            let before = scan.at;
            scan.step();
            // What a sign means may be found out in steps; a sign that means nothing is passed over.
            still = if scan.at == before { still + 1 } else { 0 };
            if still > 2 {
                still = 0;
                scan.next = Next::Free;
                scan.copy(scan.rest().chars().next().map_or(0, char::len_utf8));
            }
        }
        let Scan { out, next, .. } = scan;
        let is_open = matches!(next, Next::Secret | Next::SecretLine | Next::Near);
        if depth == 0 && is_open && text.trim_end().ends_with([':', '=']) {
            self.asked = Asked::Yes;
        }
        if depth == 0 && text.trim_end().ends_with('\\') {
            self.carried = Some((next, true));
        }
        out
    }
}

fn ends_in_mark(text: &str) -> bool {
    text.rfind("<masked ")
        .is_some_and(|at| mark::at_start(&text[at..]).is_some_and(|n| text[at + n..].len() <= 2))
}

/// The length of what is the rest of a key whose beginning was cut off.
fn rest_of_key(text: &str) -> usize {
    let Some(end) = text.find("-----END ") else {
        return 0;
    };
    if text[..end].contains("-----BEGIN ") {
        return 0;
    }
    // Back over lines of one word each.
    let start = text[..end].rfind('\n').map_or(0, |n| n + 1);
    let lines: Vec<&str> = text[..start].split_inclusive('\n').collect();
    let is_part = |l: &&&str| l.split_whitespace().count() <= 1 || l.contains("<masked ");
    if lines.iter().rev().take_while(is_part).count() == 0 && start > 0 {
        return 0;
    }
    let whole = text[end..].find('\n').map_or(text.len(), |n| end + n + 1);
    // What stands before it is masked, too: it is a part of the same text.
    let kept = lines
        .iter()
        .rev()
        .skip_while(is_part)
        .map(|l| l.len())
        .sum::<usize>();
    if kept == 0 { whole } else { 0 }
}

/// The word that ends what a shell is given to read: `<<EOF`.
fn here(line: &str) -> Option<String> {
    let at = line.find("<<")?;
    let word = line[at + 2..].trim_start_matches(['-', ' ']);
    let word: String = word
        .trim_start_matches(['\'', '"', '\\'])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()
        && !line[at + 2..].starts_with('<')
        && word.starts_with(|c: char| c.is_ascii_uppercase()))
    .then_some(word)
}
