//! The page's section on the host, its GPUs and its engines.

use maud::{Markup, html};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::bundle::page::parts::{list, text};

pub(super) fn section(bundle: &Bundle) -> Markup {
    let host = &bundle.host;
    html! {
        section #host aria-labelledby="host-title" {
            h2 #host-title { "Host" }
            @if host.is_null() {
                p { "It could not be looked at; see what was not read, below." }
            } @else {
                dl {
                    @for same in facts(host).chunk_by(|_, b| b.0.is_empty()) {
                        div { dt { (same[0].0) } @for (_, value) in same { dd { (value) } } }
                    }
                }
                (engines(host))
            }
        }
    }
}

fn facts(host: &Value) -> Vec<(&'static str, String)> {
    let mut facts = vec![(
        "Distribution",
        text(&host["distribution"], "pretty_name").to_owned(),
    )];
    let mut add = |label, value: &str| {
        if !value.is_empty() {
            facts.push((label, value.to_owned()));
        }
    };
    add("Kernel", text(host, "kernel"));
    add("Control groups", text(host, "cgroup"));
    add("Init", text(host, "init"));
    let driver = &host["driver"];
    let cuda = match (&driver["cuda"][0], &driver["cuda"][1]) {
        (Value::Number(major), Value::Number(minor)) => format!(", CUDA up to {major}.{minor}"),
        _ => String::new(),
    };
    match driver {
        Value::Null => add("Driver", "none loaded"),
        _ => add(
            "Driver",
            &format!(
                "{}{cuda}, {} files",
                text(driver, "version"),
                driver["files"]
            ),
        ),
    }
    add("Mismatch", text(host, "driver_mismatch"));
    if list(host, "gpus").is_empty() {
        add("GPUs", "none");
    }
    for (n, found) in list(host, "gpus").iter().enumerate() {
        add(if n == 0 { "GPUs" } else { "" }, &gpu(found));
    }
    facts
}

fn gpu(gpu: &Value) -> String {
    let slices = match list(gpu, "mig").len() {
        0 => String::new(),
        n => format!(", {n} MIG slices"),
    };
    let name = gpu["name"].as_str().unwrap_or("GPU");
    format!("{} {name} at {}{slices}", gpu["index"], text(gpu, "pci"))
}

fn engines(host: &Value) -> Markup {
    html! {
        h3 { "Engines" }
        @if list(host, "engines").is_empty() {
            p { "None is here." }
        }
        ul.cards {
            @for engine in list(host, "engines") {
                li {
                    strong { (text(engine, "name")) } " " (text(engine, "version"))
                    @match engine["running"].as_bool() {
                        Some(true) => { " · running" }
                        Some(false) => { " · stopped" }
                        None => {}
                    }
                    " · "
                    @if engine["configured"] == true {
                        span.good { "configured" }
                    } @else if !list(engine, "outdated").is_empty() {
                        span.warn { "out of date" }
                    } @else {
                        span.warn { "not configured" }
                    }
                    @for note in list(engine, "notes") {
                        br; span.quiet { (note.as_str().unwrap_or_default()) }
                    }
                }
            }
        }
    }
}
