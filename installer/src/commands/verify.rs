//! `gpusetup verify`: runs a container in each engine to see whether it gets the GPUs.

use serde_json::json;

use crate::cli::args::{Common, VerifyArgs};
use crate::commands::session::{EarlierRun, Rights, Session};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::host::Host;
use crate::setup::{engine_selection, gpu_files};
use crate::terminal::stdio;
use crate::transaction::receipt::Receipt;
use crate::verify::{self, Outcome, Reload};

pub fn run(host: &Host, common: &Common, args: &VerifyArgs) -> Result<Exit, Error> {
    // Under the lock: two verifications at once would take each other's containers for leftovers.
    let session = Session::begin(host, common, Rights::Engines, EarlierRun::Leave)?;
    let wanted = verify::Expectation {
        gpus: gpu_files::inventory(host)?.gpus.len(),
        reload: !args.no_daemon_reload,
    };
    let (chosen, remarks) = engine_selection::chosen(host, &args.engines, &Receipt::default())?;
    for remark in &remarks {
        session.progress.warn(remark);
    }
    let engines = chosen.iter().map(|e| &**e);
    let outcome = verify::run(&session.context(), engines, wanted)?;
    if common.json {
        let mut unseen = outcome.engines_not_verified();
        unseen.extend(outcome.no_container.iter().map(String::as_str));
        let document = json!({
            "schema": 1,
            "changed": false,
            "verified": outcome.verified,
            "not_verified": unseen,
            "not_verified_why": outcome.not_verified,
            "warnings": outcome.caveats,
        });
        stdio::result(&format!("{document}\n"));
    } else {
        stdio::result(&text(&outcome));
    }
    if outcome.is_bad() {
        return Ok(Exit::Failed);
    }
    Ok(Exit::if_partly(!outcome.not_verified.is_empty()))
}

fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut not_tried = Vec::new();
    for v in &outcome.verified {
        let trouble = v.driver_trouble.as_deref();
        let mark = if v.ok && v.loss().is_none() && trouble.is_none() {
            "ok"
        } else {
            "FAILED"
        };
        let kept = match &v.reload {
            Some(Reload::Ok) => ", kept over daemon-reload".to_owned(),
            Some(Reload::Failed(why)) => format!(", {why}"),
            Some(Reload::NotTried(why)) => {
                not_tried.push(why);
                String::new()
            }
            None => String::new(),
        };
        let trouble = trouble.map_or(String::new(), |t| format!(", {t}"));
        text.push_str(&format!(
            "  {:<11} {:<28} {mark:<7} {}{kept}{trouble}\n",
            v.engine, v.how, v.detail
        ));
    }
    not_tried.dedup();
    for why in not_tried {
        text.push_str(&format!("  daemon-reload: not tried, {why}\n"));
    }
    for name in &outcome.no_container {
        let why = verify::NO_CONTAINER;
        text.push_str(&format!("  {name:<11} not verified: {why}\n"));
    }
    // Printed last, so that it is not overlooked.
    for reason in outcome.reasons() {
        text.push_str(&format!("Not verified: {reason}\n"));
    }
    text
}
