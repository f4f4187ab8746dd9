//! `gpusetup bundle`: writes the support bundle.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bundle::masked::Masked;
use crate::bundle::{Bundle, archive, collect};
use crate::cli::args::{BundleArgs, Common};
use crate::error::Error;
use crate::error::exit::Exit;
use crate::files::user_output;
use crate::host::Host;
use crate::terminal::progress::Progress;
use crate::terminal::stdio;

/// How many unread files are listed on the screen. The archive lists all of them.
const SHOWN: usize = 5;

pub fn run(host: &Host, common: &Common, args: &BundleArgs) -> Result<Exit, Error> {
    let progress = Progress::new(common);
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Error::Usage(
            "an archive is nothing for a terminal: redirect it, or name a file".into(),
        ));
    }
    if to_stdout && common.json {
        return Err(Error::Usage(
            "--json and the archive cannot both go to standard output: name a file".into(),
        ));
    }
    progress.doing("looking at the host");
    let collected = collect::collect(host);
    let name = format!("gpusetup-bundle-{}", collected.made.replace([':', '-'], ""));
    let bundle = Masked::of(&collected);
    let bytes = archive::pack(&bundle, &name).map_err(Error::file(Path::new(&name), "make"))?;
    let output = match &args.output {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{name}.tar.gz")),
    };
    if to_stdout {
        stdio::bytes(&bytes);
    } else {
        // Secrets are masked, but the bundle still shows how the host is built, so it is private.
        user_output::write_private(&output, &bytes)?;
    }
    describe_archive(&bundle, &output, &bytes, common, &progress, to_stdout);
    Ok(Exit::Done)
}

fn describe_archive(
    bundle: &Bundle,
    output: &Path,
    bytes: &[u8],
    common: &Common,
    progress: &Progress,
    to_stdout: bool,
) {
    for missing in bundle.unread.iter().take(SHOWN) {
        progress.warn(&format!("not read: {missing}"));
    }
    if bundle.unread.len() > SHOWN {
        let more = bundle.unread.len() - SHOWN;
        progress.warn(&format!("and {more} more; the page lists them"));
    }
    if common.json {
        let document = json!({
            "schema": 1,
            "changed": false,
            "bundle": output,
            "bytes": bytes.len(),
            "files": bundle.files.len(),
            "logs": bundle.logs.len(),
            "unread": bundle.unread,
            "masked": bundle.masked(),
        });
        stdio::result(&format!("{document}\n"));
    } else if !to_stdout {
        let masked: usize = bundle.masked().values().sum();
        let size = bytes.len().div_ceil(1024);
        progress.done(&format!(
            "{} files and {} log files, {masked} values masked, {size} kB",
            bundle.files.len(),
            bundle.logs.len()
        ));
        stdio::result(&format!("{}\n", output.display()));
        progress.done(
            "look at its index.html before you send it: what is secret to you, only you know",
        );
    }
}
