//! What a way costs besides time: system calls, memory, instructions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::wait::wait;
use serde_json::{Value, json};

use crate::bundle::{self, Maker, Ready, Rootfs};
use crate::case::{Gpus, Image, Way};
use crate::host::{here, make_dir};
use crate::life;
use crate::program::{context, run};
use crate::protocol::{Calls, ShimAndHooks};
use crate::trace;

const STAGES: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Runs a whole life under strace.
pub(crate) fn calls(ready: &Ready) -> Result<Calls, String> {
    let log = |verb: &str| here(&format!("trace.{verb}"));
    let before = |verb: &str| {
        let log = log(verb).display().to_string();
        // Detached: as a parent strace would wait for the container, which waits for its start.
        ["strace", "-D", "-f", "-q", "-s", "0", "-o", &log]
            .map(str::to_owned)
            .to_vec()
    };
    life::live(ready, &before)?;
    // Wait until each strace, which is our child by now, has written its file.
    while wait().is_ok() {}
    let mut sum = Calls::default();
    for verb in ["create", "start", "delete"] {
        let text = fs::read(log(verb)).map_err(context("strace's file"))?;
        let calls = trace::count(&String::from_utf8_lossy(&text));
        sum.ours += calls.ours;
        sum.all += calls.all;
        sum.programs += calls.programs;
        sum.processes += calls.processes;
    }
    Ok(sum)
}

/// The peak memory of each program alone, in kB.
pub(crate) fn peak(maker: &Maker<'_>, ready: &Ready, way: &Way) -> Result<ShimAndHooks, String> {
    let file = here("peak");
    let by = [
        "/run/bench/bin/start-bench-peak".to_owned(),
        file.display().to_string(),
    ];
    let read = |path: &Path| -> Result<Vec<u64>, String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines()
            .map(|l| l.parse().map_err(context("a peak")))
            .collect()
    };
    let alone = alone(maker, ready, way, "nothing", &by)?;
    let shim = read(&file)?.into_iter().max();
    let hook_count = with_hooks(&alone, &by, &[])?;
    let hooks = read(&file)?;
    if hooks.len() as u64 != hook_count {
        return Err(format!("{hook_count} hooks, {} peaks", hooks.len()));
    }
    Ok(ShimAndHooks {
        shim,
        hooks: hooks.into_iter().max(),
        hook_count,
    })
}

/// The instructions of each program alone, counted by callgrind.
pub(crate) fn instructions(
    maker: &Maker<'_>,
    ready: &Ready,
    way: &Way,
) -> Result<ShimAndHooks, String> {
    let logs = here("callgrind");
    make_dir(&logs)?;
    let by = |name: &str| {
        [
            "/usr/bin/valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--callgrind-out-file=/dev/null".to_owned(),
            format!("--log-file={}/{name}.%p", logs.display()),
        ]
    };
    let read = || -> Result<Vec<u64>, String> {
        let mut instructions = Vec::new();
        for entry in fs::read_dir(&logs)
            .map_err(context("callgrind's files"))?
            .flatten()
        {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let _ = fs::remove_file(entry.path());
            let line = text.lines().find_map(|l| l.split_once("Collected : "));
            // A program that became one that callgrind does not follow has no count.
            instructions.extend(line.and_then(|(_, n)| n.trim().parse::<u64>().ok()));
        }
        Ok(instructions)
    };
    let alone = alone(maker, ready, way, "no-program", &by("shim"))?;
    let shim = read()?.into_iter().max();
    // Valgrind 3.19 does not know open_tree, with which these parts of our hook's work start.
    let less = [("--forbid-device-nodes", 0), ("--mount", 3)];
    let hook_count = with_hooks(&alone, &by("hook"), &less)?;
    let hooks = read()?;
    let sum = (hooks.len() as u64 >= hook_count && hook_count > 0).then(|| hooks.iter().sum());
    Ok(ShimAndHooks {
        shim,
        hooks: sum,
        hook_count,
    })
}

/// Runs the shim, if the way has one, up to the low-level runtime, and returns the way from there on.
fn alone(
    maker: &Maker<'_>,
    ready: &Ready,
    way: &Way,
    end: &str,
    by: &[String],
) -> Result<Ready, String> {
    if !matches!(
        way,
        Way::NoGpu | Way::Shim | Way::Other(_) | Way::OtherNoGpu(_)
    ) {
        return Ok(ready.clone());
    }
    let ends = Maker::ends_in(ready, way, end);
    let rootfs = Rootfs::mount(ready.image)?;
    let file = bundle::put(&ready.config)?;
    let mut command = Command::new(&by[0]);
    command
        .args(&by[1..])
        .arg(&ends.runtime)
        .args(["create", "--bundle"]);
    command
        .arg(bundle::path())
        .arg("alone")
        .envs(ends.environment.iter().map(|(k, v)| (k, v)));
    // With a runtime that cannot be run it fails in the end, as it should.
    let ran = run(&mut command);
    if end == "nothing" {
        ran?;
    }
    drop(rootfs);
    let text = fs::read(file).map_err(context("config.json"))?;
    let config = serde_json::from_slice(&text).map_err(context("config.json"))?;
    let plain = maker.ready(ready.image, &Way::Plain, &["/bin/busybox", "true"])?;
    Ok(Ready { config, ..plain })
}

/// Runs the life with each hook wrapped in a program and without these flags and their values. Returns how many hooks
/// there were.
fn with_hooks(ready: &Ready, by: &[String], less: &[(&str, usize)]) -> Result<u64, String> {
    let mut config = ready.config.clone();
    let mut count = 0;
    for stage in STAGES {
        let hooks = config.pointer_mut(&format!("/hooks/{stage}"));
        for hook in hooks.and_then(Value::as_array_mut).into_iter().flatten() {
            count += 1;
            let named = named(hook, count)?;
            let args = hook["args"].as_array().cloned().unwrap_or_default();
            let mut words: Vec<Value> = by.iter().map(|w| json!(w)).collect();
            words.push(json!(named));
            let mut args = args.into_iter().skip(1);
            while let Some(word) = args.next() {
                match less.iter().find(|(flag, _)| word == *flag) {
                    Some((_, values)) => args.by_ref().take(*values).for_each(drop),
                    None => words.push(word),
                }
            }
            hook["path"] = json!(by[0]);
            hook["args"] = json!(words);
        }
    }
    if count > 0 {
        life::live(
            &Ready {
                config,
                ..ready.clone()
            },
            &|_| Vec::new(),
        )?;
    }
    Ok(count)
}

/// A link to the hook's program by the name that it has to be called by: its first argument, which a wrapper cannot
/// pass on.
fn named(hook: &Value, number: u64) -> Result<PathBuf, String> {
    let path = hook["path"].as_str().unwrap_or_default();
    let name = hook
        .pointer("/args/0")
        .and_then(Value::as_str)
        .unwrap_or(path);
    let name = Path::new(name).file_name().unwrap_or_default();
    let dir = here(&format!("named/{number}"));
    make_dir(&dir)?;
    let link = dir.join(name);
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(path, &link).map_err(context("a name for a hook"))?;
    Ok(link)
}

/// The hooks of a way and their arguments.
pub(crate) fn hooks_of(config: &Value) -> Vec<Value> {
    let stages = STAGES
        .iter()
        .filter_map(|s| config.pointer(&format!("/hooks/{s}")));
    stages
        .filter_map(Value::as_array)
        .flatten()
        .cloned()
        .collect()
}

/// Whether a container of this way sees its GPUs and slices, and the libraries through their links.
pub(crate) fn prove(maker: &Maker<'_>, image: Image, way: &Way, gpus: Gpus) -> Result<(), String> {
    const SCRIPT: &str = "cd /dev; busybox ls | busybox grep -c '^nvidia[0-9]'; \
        busybox ls nvidia-caps 2>/dev/null | busybox grep -c .; \
        [ -e /usr/lib/x86_64-linux-gnu/libcuda.so.1 ] && echo 1 || echo 0; \
        busybox grep -c libcuda.so.1 /etc/ld.so.cache; exit 0";
    let ready = maker.ready(image, way, &["/bin/busybox", "sh", "-c", SCRIPT])?;
    let output = here("proof");
    let _ = fs::remove_file(&output);
    life::live_into(&ready, &|_| Vec::new(), &output)?;
    let text = fs::read_to_string(&output).map_err(context("what the container said"))?;
    let mut numbers = text.lines().map(|l| l.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let (gpus_seen, caps, links, cached) = (next(), next(), next(), next());
    let wanted = if way.has_gpus() { gpus.count } else { 0 };
    if gpus_seen != wanted {
        return Err(format!("the container sees {gpus_seen} GPUs, not {wanted}"));
    }
    // A slice has two capabilities: one for the GPU instance and one for the compute instance.
    let wanted = wanted * gpus.mig * 2;
    if gpus.mig > 0 && caps != wanted {
        return Err(format!(
            "the container has {caps} capabilities, not {wanted}"
        ));
    }
    if way.is_complete() && (links == 0 || cached == 0) {
        return Err(format!(
            "libcuda.so.1: {links} by its link, {cached} in ld.so.cache"
        ));
    }
    Ok(())
}
