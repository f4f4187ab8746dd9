//! Containers that ran before a restart of their engine and do not run after it.

use serde::Serialize;

/// How many are named on the screen; the document of `--json` has all of them.
const NAMED: usize = 5;

/// A container that ran before the restart, and could not be started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StillDown {
    /// Its name.
    pub container: String,
    /// Why it does not run.
    pub why: String,
}

/// `1 container that ran does not run: web (no such image)`
pub fn listed(down: &[StillDown]) -> String {
    let named = down.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|d| format!("{} ({})", d.container, d.why))
        .collect();
    let more = match down.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = match down.len() {
        1 => "1 container that ran does not run".to_owned(),
        n => format!("{n} containers that ran do not run"),
    };
    format!("{first}: {}{more}", named.join(", "))
}

/// The command that starts them. Only Docker's containers are started again by name.
pub fn start_command(down: &[StillDown]) -> String {
    let names: Vec<&str> = down.iter().map(|d| d.container.as_str()).collect();
    format!("docker start {}", names.join(" "))
}

/// Both, for the last line of a command.
pub fn with_command(down: &[StillDown]) -> String {
    format!("{}; start them with: {}", listed(down), start_command(down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_are_named_and_the_others_are_counted() {
        let down = |n: usize| -> Vec<StillDown> {
            let name = |n| StillDown {
                container: format!("c{n}"),
                why: "no".into(),
            };
            (0..n).map(name).collect()
        };
        assert_eq!(
            listed(&down(1)),
            "1 container that ran does not run: c0 (no)"
        );
        assert!(listed(&down(7)).ends_with("c4 (no) and 2 more"));
        assert_eq!(start_command(&down(2)), "docker start c0 c1");
    }
}
