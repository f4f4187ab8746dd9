//! `gpusetup recover`: rolls back or finishes an interrupted run.

use serde_json::json;

use crate::cli::args::Common;
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::terminal::stdio;

pub fn run(host: &Host, common: &Common) -> Result<Exit, Error> {
    let session = Session::begin(host, common, Rights::Engines, EarlierRun::EndOnly)?;
    let recovered = &session.recovered;
    if common.json {
        let unchecked = recovered.as_ref().map(|r| &r.unchecked);
        let document = json!({
            "schema": 1,
            "changed": recovered.is_some(),
            "unchecked": unchecked.into_iter().flatten().collect::<Vec<_>>(),
        });
        stdio::result(&format!("{document}\n"));
    } else if recovered.is_none() {
        stdio::result("Nothing to recover: no run was interrupted here.\n");
    }
    Ok(Exit::Done)
}
