//! The machine that the figures were taken on.

use std::fs;
use std::process::Command;

use crate::figures::Machine;

pub(crate) fn look() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let cpu = cpus
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    Machine {
        date: first_line(Command::new("date").args(["-u", "+%F"])),
        // The version; after it come the builder's words.
        kernel: read("/proc/sys/kernel/osrelease")
            .trim()
            .split('-')
            .next()
            .unwrap_or_default()
            .to_owned(),
        distribution: name.unwrap_or_default().trim_matches('"').to_owned(),
        cpu: cpu.map(|(_, name)| name.to_owned()).unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, Into::into),
        runc: first_line(Command::new("runc").arg("--version")),
        crun: first_line(Command::new("crun").arg("--version")),
        load: [load(), String::new()],
    }
}

pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn first_line(command: &mut Command) -> String {
    let out = command.output().map(|o| o.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&out);
    text.lines().next().unwrap_or_default().to_owned()
}
