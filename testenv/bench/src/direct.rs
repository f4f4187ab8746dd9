//! Parts of a start measured alone: the loader's cache, and `cdi generate`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bundle::{self, Maker, Rootfs};
use crate::case::{Image, Way};
use crate::counts::hooks_of;
use crate::host::here;
use crate::program::{context, run};

/// Milliseconds of the hook on a fresh overlay over the image, without a container.
pub(crate) fn cache_by_hook(maker: &Maker<'_>, image: Image) -> Result<f64, String> {
    let ready = maker.ready(image, &Way::Cdi, &["/bin/busybox", "true"])?;
    let hooks = hooks_of(&ready.config);
    let hook = hooks.first().ok_or("our CDI spec has no hook")?;
    let rootfs = Rootfs::mount(image)?;
    bundle::put(&ready.config)?;
    let words = hook["args"].as_array().cloned().unwrap_or_default();
    let words = words.iter().skip(1).filter_map(Value::as_str);
    let mut command = Command::new("/usr/bin/gpu-container-hook");
    // Nothing is mounted on /proc there.
    command.args(words.filter(|w| *w != "--forbid-device-nodes"));
    let state = json!({"ociVersion": "1.0.2", "id": "bench", "status": "creating",
        "pid": std::process::id(), "bundle": bundle::path()});
    let errors = here("errors");
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&errors).map_err(context("a file for errors"))?)
        .spawn()
        .map_err(context("the hook"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(state.to_string().as_bytes())
            .map_err(context("the hook"))?;
    }
    let status = child.wait().map_err(context("the hook"))?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let cache = fs::metadata(bundle::path().join("rootfs/etc/ld.so.cache"));
    drop(rootfs);
    let why = fs::read_to_string(&errors).unwrap_or_default();
    if !status.success() {
        return Err(format!("the hook by itself: {status}: {}", why.trim()));
    }
    cache.map_err(context("the cache that the hook should have made"))?;
    Ok(took)
}

/// Milliseconds of the host's ldconfig on a fresh overlay over the image.
pub(crate) fn cache_by_ldconfig(image: Image) -> Result<f64, String> {
    let rootfs = Rootfs::mount(image)?;
    let mut command = Command::new("/sbin/ldconfig");
    command.arg("-r").arg(bundle::path().join("rootfs"));
    let began = Instant::now();
    run(&mut command)?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    drop(rootfs);
    Ok(took)
}

/// Milliseconds of this program's `cdi generate`.
pub(crate) fn generate(program: &str, arguments: &[&str]) -> Result<f64, String> {
    let mut command = Command::new(program);
    let output = here("generated.yaml");
    command
        .args(["cdi", "generate"])
        .arg(format!("--output={}", output.display()))
        .args(arguments);
    let began = Instant::now();
    run(&mut command)?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    fs::remove_file(output).map_err(context("the generated spec"))?;
    Ok(took)
}
