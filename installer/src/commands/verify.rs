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
use crate::verify::{self, Reload, Verified};

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
    let verified = verify::run(&session.context(), engines, wanted)?;
    let is_bad = |v: &Verified| !v.ok || v.loss().is_some();
    // An engine without a result is not reported as working: no container was run in these engines.
    let names = chosen.iter().map(|e| e.facts().name.as_str());
    let unseen: Vec<&str> = names
        .filter(|name| verified.iter().all(|v| v.engine != *name))
        .collect();
    if common.json {
        stdio::result(&format!(
            "{}\n",
            json!({"schema": 1, "changed": false, "verified": verified, "not_verified": unseen})
        ));
    } else {
        stdio::result(&text(&verified));
        for name in unseen {
            stdio::result(&format!(
                "  {name:<11} not verified: gpusetup runs no container in it\n"
            ));
        }
    }
    Ok(Exit::if_failed(verified.iter().any(is_bad)))
}

fn text(verified: &[Verified]) -> String {
    let mut text = String::new();
    let mut not_tried = Vec::new();
    for v in verified {
        let mark = if v.ok && v.loss().is_none() {
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
        text.push_str(&format!(
            "  {:<11} {:<28} {mark:<7} {}{kept}\n",
            v.engine, v.how, v.detail
        ));
    }
    not_tried.dedup();
    for why in not_tried {
        text.push_str(&format!("  daemon-reload: not tried, {why}\n"));
    }
    text
}
