//! `gpusetup undo`.

use crate::apply::{self, How};
use crate::cli::{Common, UndoArgs};
use crate::error::Error;
use crate::host::Host;
use crate::receipt::{RECEIPT, Record};
use crate::report::{self, Progress};
use crate::{commands, lock, signals, undo, write};

pub fn run(host: &Host, common: &Common, args: &UndoArgs) -> Result<u8, Error> {
    commands::need_root(host)?;
    let progress = Progress::new(common.quiet);
    let held = signals::hold()?;
    let _lock = lock::take(host)?;
    apply::recover(host, &progress)?;
    let Some((plan, receipt)) = undo::plan(host)? else {
        if common.json {
            report::result(&format!("{}\n", report::document(None, false, &[], true)));
        } else {
            report::result("Nothing to undo: gpusetup has changed nothing here.\n");
        }
        return Ok(0);
    };
    let restart = !args.no_restart && host.is_live();
    if !common.json {
        report::result(&format!("\n{}\n", report::plan(&plan, "restore", restart)));
    }
    if !commands::confirmed(args.yes, "Go ahead?")? {
        report::result("Nothing was changed.\n");
        return Ok(0);
    }
    let how = How {
        restart,
        verify: false,
    };
    apply::apply_without_receipt(host, &plan, how, &held, &progress)?;
    Record::delete(host, RECEIPT)?;
    write::remove_dirs(host, &receipt.directories);
    if common.json {
        report::result(&format!(
            "{}\n",
            report::document(Some(&plan), true, &[], restart)
        ));
    } else {
        report::result("Done: this host is as it was before gpusetup.\n");
    }
    Ok(0)
}
