//! `gpusetup recover`: rolls back or finishes an interrupted run.

use serde_json::json;

use crate::cli::args::{Common, RecoverArgs};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::terminal::screen::Screen;
use crate::terminal::stdio;
use crate::transaction::rollback::Recovered;

pub fn run(host: &Host, common: &Common, args: &RecoverArgs) -> Result<Exit, Error> {
    let earlier = if args.give_up {
        EarlierRun::GiveUp
    } else {
        EarlierRun::EndOnly
    };
    let session = Session::begin(host, common, Rights::Engines, earlier)?;
    let recovered = session.recovered.as_ref();
    if common.json {
        let document = json!({
            "schema": 1,
            "changed": recovered.is_some(),
            "unchecked": recovered.into_iter().flat_map(|r| &r.unchecked).collect::<Vec<_>>(),
            "left": session.left_of_earlier_run(),
            "given_up": recovered.and_then(|r| r.given_up.as_ref()),
        });
        stdio::result(&format!("{document}\n"));
    } else {
        let screen = Screen::output(common.plain);
        match recovered {
            None => stdio::result("Nothing to recover: no run was interrupted here.\n"),
            Some(recovered) => stdio::result(&left(recovered, screen)),
        }
    }
    Ok(Exit::if_partly(!session.left_of_earlier_run().is_empty()))
}

/// What could not be put back, a line for each, and where the journal is now. Empty if everything
/// was put back.
fn left(recovered: &Recovered, screen: Screen) -> String {
    let mut text = String::new();
    if !recovered.left.is_empty() {
        text.push_str("Partly done: not everything could be put back. By hand:\n");
    }
    for one in &recovered.left {
        text.push_str(&screen.paragraph("  - ", 4, one));
    }
    if let Some(journal) = &recovered.given_up {
        let given_up = format!(
            "That run is given up; its journal, which has each file as it was, is now {}.",
            journal.display()
        );
        text.push_str(&screen.paragraph("", 0, &given_up));
    }
    text
}
