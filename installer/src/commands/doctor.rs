//! `gpusetup doctor`: finds problems, explains messages, and repairs what is safe with `--fix`.

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use crate::cli::args::{Common, DoctorArgs};
use crate::commands::session::{self, EarlierRun, Rights, Session};
use crate::doctor::explain::{self, Candidate};
use crate::doctor::facts::HostFacts;
use crate::doctor::fix::{self, Mending};
use crate::doctor::render::{self, Detail};
use crate::doctor::{self, Examined, Finding, Here};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::error::still_down;
use crate::host::Host;
use crate::render::plan;
use crate::terminal::screen::Screen;
use crate::terminal::{prompt, stdio};
use crate::transaction::ended::Ended;
use crate::transaction::run;
use crate::transaction::steps::{RollbackScope, RunOptions};

/// How many explanations are shown.
const CANDIDATES: usize = 3;
pub fn run(host: &Host, common: &Common, args: &DoctorArgs) -> Result<Exit, Error> {
    if args.explain {
        return explained(host, common);
    }
    if let Some(ids) = &args.fix {
        return mend(host, common, args, ids);
    }
    let examined = doctor::examine(host);
    tell(&examined, common);
    Ok(code(&examined))
}

/// The exit code tells whether there is a problem.
fn code(examined: &Examined) -> Exit {
    Exit::if_found(!examined.findings.is_empty())
}

fn tell(examined: &Examined, common: &Common) {
    if common.json {
        stdio::result(&format!("{}\n", render::document(examined, false, &[])));
        return;
    }
    stdio::result(&render::findings(
        examined,
        Screen::output(common.plain),
        detail(common),
    ));
}

fn detail(common: &Common) -> Detail {
    match (common.quiet, common.verbose) {
        (true, _) => Detail::Title,
        (_, true) => Detail::Cause,
        _ => Detail::Fix,
    }
}

fn mend(host: &Host, common: &Common, args: &DoctorArgs, ids: &[String]) -> Result<Exit, Error> {
    fix::are_safe(ids)?;
    // Every safe repair changes the system, not a user's own files.
    let session = Session::begin(host, common, Rights::System, EarlierRun::EndFirst)?;
    let looked_at = host.anew()?;
    let facts = HostFacts::new(&looked_at);
    let before = doctor::examine_facts(&facts);
    let mut mending = fix::plan(facts, &before.findings, ids)?;
    for left in &mending.left {
        session.progress.warn(left);
    }
    if mending.is_empty() {
        tell(&before, common);
        return Ok(code(&before));
    }
    let restart = !args.no_restart && host.is_live();
    if !common.json {
        stdio::result(&format!(
            "\n{}\n",
            fixes_as_text(&mending, restart, Screen::output(common.plain))
        ));
    }
    plan::to_log(&mending.plan, restart);
    let asks = Screen::error(common.plain);
    if !prompt::confirmed(args.yes, "Go ahead?", asks, &session.signals)? {
        stdio::result("Nothing was changed.\n");
        return Ok(code(&before));
    }
    // What a check could not read must not make the run fail; only its own reads count.
    let host = &host.anew()?;
    if mending.make_nodes(host)? {
        // With the new nodes, the plan for their links and for the spec is a different one.
        let made = format!("made {} device nodes", mending.nodes.len());
        session.progress.done(&made);
        let looked_at = host.anew()?;
        let facts = HostFacts::new(&looked_at);
        let after = doctor::examine_facts(&facts);
        let is_meant = |f: &Finding| before.findings.iter().any(|b| b.problem.id == f.problem.id);
        let meant: Vec<Finding> = after.findings.into_iter().filter(is_meant).collect();
        mending = fix::plan(facts, &meant, ids)?;
    }
    let mut ended = Ended::default();
    if !mending.plan.is_empty() {
        let how = RunOptions {
            checks_before: false,
            restart,
            verify: false,
            scope: RollbackScope::Run,
        };
        ended = run::apply(&session.context_of(host), &mut mending.plan, how)?;
    }
    // From the files as they are now, the policy among them.
    let after = doctor::examine(&session::open_host(common)?);
    let fixed: Vec<String> = before
        .findings
        .iter()
        .filter(|b| after.findings.iter().all(|a| a.problem.id != b.problem.id))
        .map(|b| b.problem.id.clone())
        .collect();
    if common.json {
        stdio::result(&format!("{}\n", render::document(&after, true, &fixed)));
    } else {
        for id in &fixed {
            session.progress.done(&format!("mended: {id}"));
        }
        stdio::result(&render::remaining(&after, Screen::output(common.plain)));
    }
    if !ended.down.is_empty() {
        // Both outputs above are about the findings.
        let warning = still_down::with_command(&ended.down);
        session.progress.warn(&warning);
        return Ok(Exit::ContainersDown);
    }
    Ok(code(&after))
}

/// The device nodes to make, then the plan as install shows it.
fn fixes_as_text(mending: &Mending, restart: bool, screen: Screen) -> String {
    let mut text = String::new();
    for node in &mending.nodes {
        text.push_str(&format!(
            "  -  make    {}   c {}:{}\n",
            node.host_path.display(),
            node.major,
            node.minor
        ));
    }
    text + &plan::text(&mending.plan, "create", restart, screen)
}

fn explained(host: &Host, common: &Common) -> Result<Exit, Error> {
    let mut input = std::io::stdin().lock();
    if std::io::stdin().is_terminal() && !common.quiet {
        stdio::say!("Paste what the program says, then press Ctrl-D on a line of its own.");
    }
    let text = end_of(&mut input, explain::LIMIT);
    let text = text.map_err(Error::file(Path::new("standard input"), "read"))?;
    let mut explanations: Vec<(Candidate, Here)> = explain::explain(&text)
        .into_iter()
        .take(CANDIDATES)
        .map(|c| (c, doctor::confirm(host, c.problem)))
        .collect();
    // The sort is stable: confirmed problems first, each group still the likeliest first.
    explanations.sort_by_key(|(_, here)| !matches!(here, Here::Confirmed { .. }));
    let is_confirmed = explanations
        .iter()
        .any(|(_, h)| matches!(h, Here::Confirmed { .. }));
    let others = if is_confirmed {
        Vec::new()
    } else {
        let mut others = doctor::examine(host).findings;
        others.truncate(CANDIDATES);
        others
    };
    if common.json {
        let document = render::explained_document(&explanations, &others);
        stdio::result(&format!("{document}\n"));
    } else if explanations.is_empty() {
        stdio::result(&render::unknown(Screen::output(common.plain)));
        if !others.is_empty() {
            stdio::result(&render::explained(
                &[],
                &others,
                Screen::output(common.plain),
            ));
        }
    } else {
        stdio::result(&render::explained(
            &explanations,
            &others,
            Screen::output(common.plain),
        ));
    }
    Ok(Exit::if_failed(explanations.is_empty()))
}

/// The last `limit` bytes of the input, however long it is: the end of a log matters most.
fn end_of(from: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let read = from.take(limit as u64).read_to_end(&mut bytes)?;
        bytes.drain(..bytes.len().saturating_sub(limit));
        // Do not read again after the end: a terminal would wait for a second Ctrl-D.
        if read < limit {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_text_is_read() {
        let text: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for limit in [1, 7, 4096, 9_999, 10_000, 20_000] {
            let read = end_of(&mut text.as_slice(), limit).unwrap();
            assert!(text.ends_with(&read), "{limit}");
            assert_eq!(read.len(), limit.min(text.len()));
        }
    }
}
