//! A host as a process: answers requests, one a line.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use crate::bundle::{Maker, Ready};
use crate::case::{Image, Way};
use crate::protocol::{Answer, Ask, HostOptions};
use crate::{counts, direct, host, life};

const PROGRAM: [&str; 2] = ["/bin/busybox", "true"];

/// Enters the host and answers requests until there are no more.
pub(crate) fn serve(options: &HostOptions) -> Result<(), String> {
    let mut out = std::io::stdout();
    let mut say = |answer: &Answer| -> Result<(), String> {
        let line = serde_json::to_string(answer).map_err(|e| e.to_string())?;
        writeln!(out, "{line}").map_err(|e| e.to_string())
    };
    let has_cgroups = match host::enter(options) {
        Ok(has) => has,
        Err(e) => return say(&Answer::Failed(e)),
    };
    let maker = match Maker::new(options, has_cgroups) {
        Ok(maker) => maker,
        Err(e) => return say(&Answer::Failed(e)),
    };
    say(&Answer::Done)?;
    let mut known = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let ask: Ask = serde_json::from_str(&line).map_err(|e| e.to_string())?;
        let answer = answer(&maker, options, &mut known, &ask).unwrap_or_else(Answer::Failed);
        say(&answer)?;
    }
    Ok(())
}

fn answer(
    maker: &Maker<'_>,
    options: &HostOptions,
    known: &mut HashMap<(Image, Way), Ready>,
    ask: &Ask,
) -> Result<Answer, String> {
    let mut ready = |image: &Image, way: &Way| -> Result<Ready, String> {
        if let Some(ready) = known.get(&(*image, way.clone())) {
            return Ok(ready.clone());
        }
        let ready = maker.ready(*image, way, &PROGRAM)?;
        known.insert((*image, way.clone()), ready.clone());
        Ok(ready)
    };
    Ok(match ask {
        Ask::Prove(image, way) => {
            counts::prove(maker, *image, way, options.gpus)?;
            Answer::Done
        }
        Ask::Life(image, way) => Answer::Life(life::live(&ready(image, way)?, &|_| Vec::new())?),
        Ask::Calls(image, way) => Answer::Calls(counts::calls(&ready(image, way)?)?),
        Ask::Peak(image, way) => {
            Answer::ShimAndHooks(counts::peak(maker, &ready(image, way)?, way)?)
        }
        Ask::Instructions(image, way) => {
            Answer::ShimAndHooks(counts::instructions(maker, &ready(image, way)?, way)?)
        }
        Ask::CacheByHook(image) => Answer::Milliseconds(direct::cache_by_hook(maker, *image)?),
        Ask::CacheByLdconfig(image) => Answer::Milliseconds(direct::cache_by_ldconfig(*image)?),
        Ask::Generate { nvml } => {
            let mode: &[&str] = if *nvml { &[] } else { &["--mode=procfs"] };
            Answer::Milliseconds(direct::generate("gpusetup", mode)?)
        }
        Ask::OtherGenerate(name) => {
            let other = options.others.iter().find(|o| o.name == *name);
            let generator = other.and_then(|o| o.generator.as_deref());
            Answer::Milliseconds(direct::generate(
                generator.ok_or("no generator was given")?,
                &[],
            )?)
        }
    })
}
