//! Renders a plan as text for people and as lines for the log.

use similar::ChangeTag;

use super::mask;
use crate::edit::diff::LineDiff;
use crate::engines::activation::Activation;
use crate::model::change::{Change, ChangeVerb, MergeKind};
use crate::terminal::screen::Screen;
use crate::transaction::plan::Plan;

/// The plan as text for people.
pub fn text(plan: &Plan, verb_create: &'static str, restart: bool, screen: Screen) -> String {
    let items = items(plan, verb_create, restart);
    // Measured as they are shown: the ASCII replacement of a character can be longer than it.
    let paths = items.iter().map(|i| screen.text(&i.what).chars().count());
    let column = paths.max().unwrap_or_default();
    // The width of the number and the verb, with two spaces after each.
    let indent = 5 + VERB;
    let is_long = |i: &Item| {
        let why = i.why.chars().count();
        why > 0 && why > screen.room(indent + column + 2)
    };
    // If one reason needs a line of its own, all get one, so that all items look alike.
    let below = items.iter().any(is_long);
    let mut text = String::new();
    for (n, item) in items.iter().enumerate() {
        let verb = screen.coloured(&format!("{:<VERB$}", item.verb), item.colour);
        let what = screen.text(&item.what);
        // A path that is longer than the screen continues in the next row.
        let mut rows = Vec::new();
        let mut rest = what.as_str();
        while !rest.is_empty() {
            let (row, more) = broken(rest, screen.room(indent), &['/']);
            rows.push(row);
            rest = more;
        }
        let what_rows = rows.join(&format!("\n{}", " ".repeat(indent)));
        let line = format!("  {}  {verb}{what_rows}", n + 1);
        if below || item.why.is_empty() {
            text.push_str(&format!("{line}\n"));
            if !item.why.is_empty() {
                let space = " ".repeat(indent);
                text.push_str(&screen.paragraph(&space, indent, &item.why));
            }
        } else {
            let space = " ".repeat(column - what.chars().count() + 2);
            text.push_str(&format!("{line}{space}{}\n", screen.text(&item.why)));
        }
        text.push_str(&item.change.map(|c| diff(c, screen)).unwrap_or_default());
    }
    text
}

/// The width of the longest verb and a space.
const VERB: usize = 8;

/// A line of the plan.
struct Item<'a> {
    verb: &'static str,
    colour: &'static str,
    what: String,
    why: String,
    /// The change whose diff is shown, if one is.
    change: Option<&'a Change>,
}

fn items<'a>(plan: &'a Plan, verb_create: &'static str, restart: bool) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    for (n, change) in plan.changes.iter().enumerate() {
        // A host can have hundreds of device nodes, so all their links share one line.
        let is_link = |c: &Change| c.kind == MergeKind::Link;
        if is_link(change) && n > 0 && is_link(&plan.changes[n - 1]) {
            continue;
        }
        let verb = match (change.verb(), &change.kind) {
            (ChangeVerb::Remove, _) => "remove",
            (_, MergeKind::Generated) => "write",
            (_, MergeKind::Link) => "link",
            (ChangeVerb::Create, _) => verb_create,
            (ChangeVerb::Edit, _) => "edit",
        };
        let more = plan.changes[n + 1..].iter().take_while(|c| is_link(c));
        let what = match more.count() {
            more if is_link(change) && more > 0 => {
                format!("{} and {more} more", change.path.display())
            }
            _ => change.path.display().to_string(),
        };
        let is_made = matches!(change.kind, MergeKind::Generated | MergeKind::Link);
        items.push(Item {
            verb,
            colour: BOLD,
            what,
            why: change.why.clone(),
            change: (!is_made && change.after.is_some()).then_some(change),
        });
    }
    for (engine, activation) in &plan.engines {
        if let (Activation::AtStart(of), true) = (activation, restart) {
            items.push(Item {
                verb: "leave",
                colour: BOLD,
                what: engine.facts().name.clone(),
                why: of.effect.clone(),
                change: None,
            });
        }
        let Some((of, verb)) = activation.of().filter(|_| restart) else {
            continue;
        };
        let hurts = activation.stops_unknown().is_some() || !activation.stopped().is_empty();
        items.push(Item {
            verb: verb.word(),
            colour: if hurts { YELLOW } else { BOLD },
            what: engine.facts().name.clone(),
            why: of.effect.clone(),
            change: None,
        });
    }
    items
}

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const FAINT: &str = "2";

/// The changed lines with two lines of context, secrets masked.
fn diff(change: &Change, screen: Screen) -> String {
    let (before, after) = (
        mask(change.before.as_deref()),
        mask(change.after.as_deref()),
    );
    let mut text = String::new();
    for (n, group) in LineDiff::new(&before, &after).groups(2).iter().enumerate() {
        if n > 0 {
            let gap = screen.coloured(&screen.text("       …"), FAINT);
            text.push_str(&format!("{gap}\n"));
        }
        for line in group {
            let (sign, colour) = match line.tag() {
                ChangeTag::Delete => ('-', RED),
                ChangeTag::Insert => ('+', GREEN),
                ChangeTag::Equal => (' ', FAINT),
            };
            for row in rows(sign, line.value(), screen) {
                text.push_str(&format!("{}\n", screen.coloured(&row, colour)));
            }
        }
    }
    text
}

/// Breaks a line of a file into rows of the screen; rows after the first are indented. A tab takes
/// four columns, as editors of such files show it.
fn rows(sign: char, line: &str, screen: Screen) -> Vec<String> {
    let line = screen.text(&line.trim_end().replace('\t', "    "));
    let (first, mut rest) = broken(&line, screen.room(7), &PLACES);
    let mut rows = vec![format!("     {sign} {first}").trim_end().to_owned()];
    while !rest.is_empty() {
        let (row, more) = broken(rest.trim_start(), screen.room(11), &PLACES);
        rows.push(format!("           {row}"));
        rest = more;
    }
    rows
}

/// Characters after which a line of a file is best broken: between words, or between parts of a
/// list or a key.
const PLACES: [char; 4] = [' ', ':', ',', '.'];

/// Splits a line into what fits into `room` columns and the rest. It breaks after one of `places`
/// if there is one in the second half of the room.
fn broken<'a>(line: &'a str, room: usize, places: &[char]) -> (&'a str, &'a str) {
    let Some((end, _)) = line.char_indices().nth(room) else {
        return (line, "");
    };
    let place = line[..end].rfind(places).map(|at| at + 1);
    line.split_at(place.filter(|at| *at > end / 2).unwrap_or(end))
}

/// The commands that the user must run for the changes to take effect, if the run restarts nothing.
pub fn to_take_effect(plan: &Plan) -> Option<String> {
    let services = plan.services();
    let commands = services.iter().map(|s| s.restart_command().join(" "));
    let mut commands: Vec<String> = commands.collect();
    if commands.is_empty() {
        return None;
    }
    // Without daemon-reload, systemd would restart the unit as it read it before.
    if !plan.reloads().is_empty() {
        commands.insert(0, "systemctl daemon-reload".into());
    }
    Some(format!("For it to take effect: {}.", commands.join(" && ")))
}

/// Logs what a run is about to do, a line for each step, just before the user is asked.
pub fn to_log(plan: &Plan, restart: bool) {
    if !plan.has_work(restart) {
        log::info!("nothing to do");
    }
    for change in &plan.changes {
        let Change { path, why, .. } = change;
        let verb = match change.verb() {
            ChangeVerb::Remove => "remove",
            ChangeVerb::Create => "create",
            ChangeVerb::Edit => "edit",
        };
        log::info!("plan: {verb} {}: {why}", path.display());
    }
    for (engine, activation) in &plan.engines {
        let name = &engine.facts().name;
        match activation.of() {
            Some((of, verb)) if restart => {
                let (verb, service) = (verb.word(), &of.service.name);
                log::info!("plan: {verb} {service} for {name}: {}", of.effect);
            }
            Some((of, _)) => log::info!("plan: leave {} running as it is", of.service.name),
            None => log::info!("plan: {name} needs no restart"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host_state::HostState;
    use crate::model::toolkit_traces::OtherToolkits;

    #[test]
    fn a_path_that_is_longer_in_ascii_has_its_column() {
        let change = Change {
            path: "/home/…/.config/docker/daemon.json".into(),
            before: None,
            after: Some("{}".into()),
            mode: 0o644,
            why: "add runtime".into(),
            kind: MergeKind::Own,
        };
        let plan = Plan {
            changes: vec![change],
            engines: Vec::new(),
            wanted: None,
            default_runtime: std::collections::BTreeMap::new(),
            gpus: 0,
            warnings: Vec::new(),
            unchecked: std::collections::BTreeSet::new(),
            foreign: OtherToolkits::default(),
            state: HostState::default(),
            skipped: Vec::new(),
            unread: std::collections::BTreeMap::new(),
        };
        let screen = Screen {
            utf8: false,
            colour: false,
            width: None,
            terminal: false,
            redraws: false,
        };
        let text = super::text(&plan, "create", false, screen);
        assert_eq!(
            text.lines().next(),
            Some("  1  create  /home/.../.config/docker/daemon.json  add runtime")
        );
    }
}
