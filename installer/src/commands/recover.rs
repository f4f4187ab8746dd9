//! `gpusetup recover`.

use serde_json::json;

use crate::cli::args::Common;
use crate::commands::session;
use crate::error::Error;
use crate::host::{Host, signals};
use crate::terminal::progress::Progress;
use crate::terminal::stdio;
use crate::transaction::{lock, rollback};

pub fn run(host: &Host, common: &Common) -> Result<u8, Error> {
    session::ensure_root(host)?;
    let progress = Progress::new(common);
    // Held to the end: a recovery that is stopped half-way would be one more to recover from.
    let _held = signals::hold()?;
    let _lock = lock::take(host)?;
    let recovered = rollback::recover(host, &progress)?;
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
    Ok(0)
}
