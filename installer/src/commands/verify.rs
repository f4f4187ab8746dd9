//! `gpusetup verify`.

use serde_json::json;

use crate::cli::Common;
use crate::error::Error;
use crate::host::Host;
use crate::report::{self, Progress};
use crate::{commands, plan, verify};

pub fn run(host: &Host, common: &Common, engines: &[String]) -> Result<u8, Error> {
    commands::need_root(host)?;
    let progress = Progress::new(common.quiet);
    let gpus = plan::inventory(host)?.gpus.len();
    let chosen = plan::chosen(host, engines)?;
    let names: Vec<String> = chosen.iter().map(|e| e.facts().name.clone()).collect();
    let verified = verify::run(host, &names, gpus, &progress)?;
    let bad = verified.iter().filter(|v| !v.ok).count();
    if common.json {
        report::result(&format!(
            "{}\n",
            json!({"schema": 1, "changed": false, "verified": verified})
        ));
    } else {
        for v in &verified {
            let mark = if v.ok { "ok" } else { "FAILED" };
            report::result(&format!(
                "  {:<11} {:<28} {mark:<7} {}\n",
                v.engine, v.how, v.detail
            ));
        }
    }
    Ok(u8::from(bad > 0))
}
