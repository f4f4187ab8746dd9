//! `gpusetup cdi transform`: rewrites the paths in a CDI spec.

use std::io::Read;
use std::path::Path;

use cdi::{RelativeTo, Spec};

use super::cdi_generate::print_or_write;
use crate::cli::args::{Common, PathsOf, TransformCommand};
use crate::error::Error;
use crate::error::exit::Exit;

/// How many bytes of a spec are read, far more than any spec has.
const LIMIT: u64 = 16 << 20;

pub fn run(common: &Common, command: &TransformCommand) -> Result<Exit, Error> {
    let TransformCommand::Root {
        from,
        to,
        input,
        output,
        relative_to,
    } = command;
    if common.json {
        let why = "cdi transform prints a CDI spec; --json has no meaning for it";
        return Err(Error::Usage(why.into()));
    }
    for (flag, path) in [("--from", from), ("--to", to)] {
        if !path.is_absolute() {
            let path = path.display();
            return Err(Error::Usage(format!("{flag} {path}: not an absolute path")));
        }
    }
    let bytes = read(input)?;
    let mut spec = Spec::parse(&bytes).map_err(gpu_inject::Error::from)?;
    cdi::Transform {
        from: from.clone(),
        to: to.clone(),
        relative_to: match relative_to {
            PathsOf::Host => RelativeTo::Host,
            PathsOf::Container => RelativeTo::Container,
        },
        host_path_behind: gpu_inject::oci::HOST_PATH_BEHIND,
    }
    .apply(&mut spec);
    // A JSON spec stays JSON unless the output's extension says otherwise.
    let was_json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    let is_json = match output.extension() {
        Some(e) if e == "json" => true,
        Some(e) if e == "yaml" => false,
        _ => was_json,
    };
    let text = if is_json {
        spec.to_json().map(|text| text + "\n")
    } else {
        spec.to_yaml()
    };
    print_or_write(output, &text.map_err(gpu_inject::Error::from)?)?;
    Ok(Exit::Done)
}

fn read(input: &Path) -> Result<Vec<u8>, Error> {
    let failed = Error::file(input, "read");
    let mut bytes = Vec::new();
    let read = if input == Path::new("-") {
        std::io::stdin().take(LIMIT).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(input).and_then(|f| f.take(LIMIT).read_to_end(&mut bytes))
    };
    read.map_err(failed)?;
    Ok(bytes)
}
