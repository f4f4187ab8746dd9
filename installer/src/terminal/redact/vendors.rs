//! The last pass of masking: tokens that have a vendor's known form, from the rules of
//! secret-forms.toml.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};
use serde::Deserialize;

use super::mark::mark;

#[derive(Deserialize)]
struct Rules {
    rule: Vec<SecretRule>,
}

#[derive(Deserialize)]
struct SecretRule {
    #[cfg_attr(not(test), expect(dead_code, reason = "for the reader"))]
    id: String,
    regex: String,
    keywords: Vec<String>,
    #[serde(skip)]
    compiled: std::sync::OnceLock<Option<Regex>>,
}

static RULES: LazyLock<Vec<SecretRule>> = LazyLock::new(|| {
    let rules: Result<Rules, _> = ::toml::from_str(include_str!("../../../secret-forms.toml"));
    rules.expect("ours; every test reads it").rule
});

pub(super) fn mask(text: &str) -> String {
    let small = text.to_ascii_lowercase();
    let mut out = text.to_owned();
    for rule in RULES
        .iter()
        .filter(|r| r.keywords.iter().any(|k| small.contains(k.as_str())))
    {
        // Compiled on first use: most rules are never needed.
        if let Some(regex) = rule.compiled.get_or_init(|| Regex::new(&rule.regex).ok()) {
            let masked = |captures: &Captures<'_>| {
                let all = &captures[0];
                match captures.get(1).filter(|m| !m.as_str().is_empty()) {
                    Some(token) => all.replace(token.as_str(), &mark("string", token.as_str())),
                    None => mark("string", all),
                }
            };
            out = regex.replace_all(&out, masked).into_owned();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_compiles() {
        assert!(RULES.len() > 200, "{}", RULES.len());
        for rule in RULES.iter() {
            assert!(
                Regex::new(&rule.regex).is_ok(),
                "{}: {}",
                rule.id,
                rule.regex
            );
            let is_small = |k: &String| *k == k.to_ascii_lowercase() && k.len() > 2;
            assert!(rule.keywords.iter().all(is_small), "{}", rule.id);
        }
    }
}
