//! Generates secrets from a seed, the same in each run, and reads the places where they are
//! planted.

use serde::Deserialize;
use serde_json::json;

const WORDS: [&str; 24] = [
    "lantern", "otter", "velvet", "saffron", "meadow", "bramble", "thistle", "harbour", "walnut",
    "pebble", "falcon", "cinnamon", "orchard", "willow", "marble", "ginger", "copper", "juniper",
    "badger", "clover", "raven", "tundra", "mango", "pepper",
];

/// A small random generator (`splitmix64`): the secrets need not be hard to guess.
pub(crate) struct MadeUp(u64);

impl MadeUp {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn letters(&mut self, of: &str, length: usize) -> String {
        let letters: Vec<char> = of.chars().collect();
        (0..length)
            .map(|_| letters[self.next(letters.len())])
            .collect()
    }

    fn secret(&mut self, kind: &str, length: usize) -> String {
        const SMALL: &str = "abcdefghijklmnopqrstuvwxyz";
        const LARGE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        const DIGITS: &str = "0123456789";
        let of = match kind {
            "h" => {
                let word = WORDS[self.next(WORDS.len())];
                let number = self.letters(DIGITS, 4);
                let last = self.letters("!?#%+", 1);
                return format!("{}{}{number}{last}", word[..1].to_uppercase(), &word[1..]);
            }
            "w" => {
                let (a, b) = (self.next(WORDS.len()), self.next(WORDS.len()));
                return format!("{}-{}", WORDS[a], WORDS[b]);
            }
            "m" => format!("{SMALL}{LARGE}{DIGITS}"),
            "a" => format!("{SMALL}{LARGE}"),
            "l" => SMALL.to_owned(),
            "u" => format!("{LARGE}{DIGITS}"),
            "x" => format!("{DIGITS}abcdef"),
            "d" => DIGITS.to_owned(),
            "b" => format!("{SMALL}{LARGE}{DIGITS}+/"),
            _ => panic!("no kind of secret: {kind}"),
        };
        self.letters(&of, length)
    }

    /// Fills a form with secrets. Returns the text and those secrets that differ from other text.
    pub(crate) fn fill(&mut self, form: &str) -> (String, Vec<String>) {
        let mut text = String::new();
        let mut secrets = Vec::new();
        let mut rest = form;
        while let Some(at) = rest.find('{') {
            let (before, after) = rest.split_at(at);
            text.push_str(before);
            let inside = after[1..].split('}').next().unwrap_or_default();
            let (kind, length) = inside.split_at(inside.len().min(1));
            let is_one = matches!(kind, "h" | "w") && length.is_empty()
                || "malxudb".contains(kind) && length.parse::<usize>().is_ok();
            if inside.is_empty() || !is_one {
                text.push('{');
                rest = &after[1..];
                continue;
            }
            let secret = self.secret(kind, length.parse().unwrap_or_default());
            text.push_str(&secret);
            if secret.len() > 5 {
                secrets.push(secret);
            }
            rest = &after[inside.len() + 2..];
        }
        (text + rest, secrets)
    }
}

#[derive(Deserialize)]
struct Places {
    place: Vec<Place>,
}

#[derive(Deserialize)]
pub(crate) struct Place {
    pub path: String,
    pub text: String,
    pub ways: Vec<String>,
    pub needs: Vec<String>,
}

pub(crate) fn places() -> Vec<Place> {
    let places: Places = toml::from_str(include_str!("places.toml")).unwrap();
    places.place
}

/// The forms in a list, with `\n` replaced by line breaks.
pub(crate) fn forms(list: &str) -> Vec<String> {
    let lines = list
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|l| {
            l.replace("\\\\", "\0")
                .replace("\\n", "\n")
                .replace('\0', "\\")
        })
        .collect()
}

/// A text written in one of the ways of a place.
pub(crate) fn encoded(way: &str, text: &str) -> String {
    let escaped = json!(text).to_string();
    let way = way.replace("\\n", "\n");
    if way.contains("{json}") {
        return way.replace("{json}", &escaped[1..escaped.len() - 1]);
    }
    if way.starts_with("# ") || way.starts_with("// ") {
        let sign = way.split("{}").next().unwrap_or_default();
        let lines: Vec<String> = text.lines().map(|l| format!("{sign}{l}")).collect();
        return lines.join("\n");
    }
    way.replace("{}", text)
}

/// The parts that would reveal a secret: of a long one, either half reveals as much as the whole.
pub(crate) fn parts(secret: &str) -> Vec<&str> {
    let half = secret.len() / 2;
    if secret.len() >= 16 && secret.is_ascii() {
        vec![secret, &secret[..half], &secret[half..]]
    } else {
        vec![secret]
    }
}
