//! Runs one container in a sandbox of its own through a CRI socket, as a kubelet would; prints its
//! output and exits with its code. `gpusetup verify` starts it for Kubernetes' engines.
#![forbid(unsafe_code)]

mod cli;
mod engine;
mod failure;
mod log;
mod messages;
mod pod;
mod registry;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use probe_report::NotVerified;

use crate::cli::Arguments;
use crate::engine::CriEngine;
use crate::failure::CriFailure;
use crate::messages::{
    ContainerStatus, CreateContainerRequest, EXITED, RunSandboxRequest, StatusResponse,
};

/// The exit code if nothing is known about the engine's containers.
const NOT_VERIFIED: u8 = 7;
/// The exit code if the engine or this program failed, not the container.
const FAILED: u8 = 125;
/// Maximum number of attempts to start a pod that another program removes: a kubelet removes pods that it does not
/// know, every two seconds.
const ATTEMPTS: u32 = 4;
/// The polling interval for files and states.
const TICK: Duration = Duration::from_millis(100);
/// Time limit until containerd's CRI knows of an imported image, which it learns from an event.
const EVENT: Duration = Duration::from_secs(2);
/// The exit code of a container that was killed.
const KILLED: i32 = 137;

fn main() -> ExitCode {
    let cli = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(|e| CriFailure::File(e.to_string()))
        .and_then(|r| r.block_on(run(&cli)));
    match done {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(CriFailure::NotVerified(not_verified)) => {
            eprintln!("cri-client: {not_verified}");
            let line = serde_json::to_string(&NotVerified { not_verified });
            say(&format!("{}\n", line.unwrap_or_default()));
            ExitCode::from(NOT_VERIFIED)
        }
        Err(e) => {
            eprintln!("cri-client: {e}");
            ExitCode::from(FAILED)
        }
    }
}

/// Prints without buffering. If nothing reads the output any more, that is no error.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

async fn run(cli: &Arguments) -> Result<i32, CriFailure> {
    let (engine, status) = CriEngine::connect(&cli.socket).await?;
    if cli.remove_leftovers {
        for sandbox in engine.leftovers().await? {
            engine.remove_sandbox(&sandbox).await?;
        }
        let names = engine.image_names().await?;
        for name in names.iter().filter(|name| registry::has_served(name)) {
            engine.remove_image(name).await?;
        }
        return Ok(0);
    }
    if let Some(name) = &cli.remove_image {
        engine.remove_image(name).await?;
        return Ok(0);
    }
    if cli.no_pull && cli.archive.is_some() {
        ensure_sandbox_image(cli, &engine, &status).await?;
    }
    let image = image(cli, &engine).await?;
    // After the image, because the sandbox image may have been imported together with it.
    if cli.no_pull && cli.archive.is_none() {
        ensure_sandbox_image(cli, &engine, &status).await?;
    }
    let mut attempt = 1;
    let done = loop {
        let done = pod(cli, &engine, &image).await;
        match &done {
            Err(e) if e.is_gone() && attempt < ATTEMPTS => attempt += 1,
            _ => break done,
        }
    };
    if cli.archive.is_some() {
        let removed = engine.remove_image(&image).await;
        return done.and_then(|code| removed.map(|()| code));
    }
    done
}

/// Fails if the engine would have to pull the image that each sandbox needs.
async fn ensure_sandbox_image(
    cli: &Arguments,
    engine: &CriEngine,
    status: &StatusResponse,
) -> Result<(), CriFailure> {
    // Both engines report it in this field (CRI-O server/runtime_status.go; containerd pkg/cri/server/status.go,
    // until 2.0).
    let reported_name = || {
        let config = status.info.get("config")?;
        let config: serde_json::Value = serde_json::from_str(config).ok()?;
        Some(config["sandboxImage"].as_str()?.to_owned())
    };
    let Some(name) = cli.sandbox_image.clone().or_else(reported_name) else {
        return Err(CriFailure::NotVerified(
            "the engine does not tell which image its pods need".into(),
        ));
    };
    let end = Instant::now() + EVENT;
    loop {
        if engine.has_image(&name).await? {
            return Ok(());
        }
        if cli.archive.is_some() || Instant::now() >= end {
            break;
        }
        tokio::time::sleep(TICK).await;
    }
    Err(CriFailure::NotVerified(format!(
        "the engine has not yet pulled {name}, which every pod needs"
    )))
}

/// Returns the name of the image once the engine has it.
async fn image(cli: &Arguments, engine: &CriEngine) -> Result<String, CriFailure> {
    if let Some(archive) = &cli.archive {
        let cannot = |e| CriFailure::File(format!("{}: {e}", archive.display()));
        let name = registry::serve(archive).map_err(cannot)?;
        let refused =
            |e| CriFailure::NotVerified(format!("the engine does not take the image: {e}"));
        engine.pull(&name).await.map_err(refused)?;
        return Ok(name);
    }
    let name = cli.image.clone().unwrap_or_default();
    let end = Instant::now() + EVENT;
    while cli.stay && Instant::now() < end && !engine.has_image(&name).await? {
        tokio::time::sleep(TICK).await;
    }
    Ok(name)
}

/// Runs the pod once and removes it.
async fn pod(cli: &Arguments, engine: &CriEngine, image: &str) -> Result<i32, CriFailure> {
    let logs = tempfile::Builder::new().prefix("cri-client-").tempdir();
    let logs = logs.map_err(|e| CriFailure::File(e.to_string()))?;
    let sandbox_config = pod::sandbox(cli, logs.path());
    let request = RunSandboxRequest {
        config: Some(sandbox_config.clone()),
        runtime_handler: cli.runtime_handler.clone(),
    };
    let sandbox = engine.run_sandbox(request).await?;
    let request = CreateContainerRequest {
        sandbox: sandbox.clone(),
        config: Some(pod::container(cli, image)),
        sandbox_config: Some(sandbox_config),
    };
    let log = logs.path().join(pod::LOG);
    let code = match engine.start(request).await {
        Ok(container) if cli.stay => stay(cli, engine, &container, &log).await,
        Ok(container) => ended(cli, engine, &container).await,
        Err(e) => Err(e),
    };
    let removed = engine.remove_sandbox(&sandbox).await;
    if !cli.stay {
        log::print(&log);
    }
    match removed {
        Err(e) if !e.is_gone() => code.and(Err(e)),
        _ => code,
    }
}

/// Waits for the container's end.
async fn ended(cli: &Arguments, engine: &CriEngine, container: &str) -> Result<i32, CriFailure> {
    let end = Instant::now() + Duration::from_secs(cli.timeout);
    loop {
        // An engine that restarts is queried again, as a kubelet does.
        let answer = engine.container(container).await;
        match answer {
            Ok(status) if status.state == EXITED => return Ok(status.exit_code),
            // It stays removed.
            Err(e) if e.is_gone() => return Err(e),
            answer if Instant::now() >= end => {
                return Err(answer.err().unwrap_or_else(|| still_running(cli)));
            }
            _ => tokio::time::sleep(TICK).await,
        }
    }
}

fn still_running(cli: &Arguments) -> CriFailure {
    CriFailure::Container(format!("still running after {} s", cli.timeout))
}

/// Prints the container's first line. For each line on standard input, makes the container look again.
async fn stay(
    cli: &Arguments,
    engine: &CriEngine,
    container: &str,
    log: &Path,
) -> Result<i32, CriFailure> {
    let end = Instant::now() + Duration::from_secs(cli.timeout);
    loop {
        if let Some((_, line)) = log::lines(log).iter().find(|(is_error, _)| !is_error) {
            say(&format!("{line}\n"));
            break;
        }
        let status = engine.container(container).await?;
        if status.state == EXITED {
            return Err(early_end(&status, log));
        }
        if Instant::now() >= end {
            return Err(still_running(cli));
        }
        tokio::time::sleep(TICK).await;
    }
    if !is_told().await {
        return Ok(0);
    }
    let command = cli.command.iter().take(1).cloned().collect();
    match engine.exec(container, command).await {
        Ok(out) if out.exit_code == 0 => {
            say(&String::from_utf8_lossy(&out.stdout));
            Ok(0)
        }
        Ok(out) => Err(CriFailure::Container(format!(
            "exit code {} in the container: {}",
            out.exit_code,
            String::from_utf8_lossy(&out.stderr).trim()
        ))),
        // Another program has removed the pod, so there is nothing to look at. This is no failure.
        Err(e) if e.is_gone() => Ok(0),
        Err(e) => match engine.container(container).await {
            Ok(status) if status.state == EXITED && status.exit_code == KILLED => Ok(0),
            Err(gone) if gone.is_gone() => Ok(0),
            _ => Err(e),
        },
    }
}

/// Why a container ended before it had printed anything.
fn early_end(status: &ContainerStatus, log: &Path) -> CriFailure {
    if status.exit_code == KILLED {
        return CriFailure::Removed;
    }
    let lines = log::lines(log);
    let message = lines.last().map_or(status.message.trim(), |(_, line)| line);
    CriFailure::Container(format!("exit code {}: {message}", status.exit_code))
}

/// Waits for a line on standard input; `false` at its end.
async fn is_told() -> bool {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let reader = std::thread::Builder::new().spawn(move || {
        let read = std::io::stdin().read_line(&mut String::new());
        let _ = sender.send(matches!(read, Ok(n) if n > 0));
    });
    reader.is_ok() && receiver.await.unwrap_or(false)
}
