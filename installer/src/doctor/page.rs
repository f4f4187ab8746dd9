//! Generates docs/troubleshooting.md from problems.toml. Its test writes the page if `UPDATE_DOCS`
//! is set, and otherwise compares it.

use crate::doctor::catalog::{self, Problem, Severity};
use crate::doctor::render::with_sudo;

const HEAD: &str = "<!-- Made of installer/problems.toml: UPDATE_DOCS=1 cargo test -p gpusetup troubleshooting -->

# Troubleshooting

Type this first:

<!-- not run: README.md runs doctor, testenv/scenarios/doctor mends -->
```sh
sudo gpusetup doctor         # whether each engine is set up, then what is wrong, each with what was seen and what to do
sudo gpusetup doctor -v      # why, too
sudo gpusetup doctor --fix   # mend what is safe to mend: shows first what it would do, and asks
```

The first lines say of each engine by which ways its containers get GPUs, and what the others lack, by its own files and
whoever set it up. A check that could not look is named; it is not among those that found nothing. Without root, much
cannot be looked at.

`doctor` writes nothing; what `--fix` has written `gpusetup undo` takes back. Exit code: 0 nothing found, 2 problems
found. For somebody else to look at: [the support bundle](support-bundle.md).

A message of docker, kubelet, containerd, Podman, CRI-O or nvidia-container-cli is explained by

<!-- run, sudo is env, journalctl -u docker -n 50 is echo 'could not select device driver \"\" with capabilities: [[gpu]]' -->
```sh
journalctl -u docker -n 50 | sudo gpusetup doctor --explain
```

or by pasting it. It answers with cause and fix, and says whether this host has the problem. Nothing of
the text is shown again. Exit code: 0 explained, 1 unknown.

## An engine does not start, or an install failed

`gpusetup install` puts all back by itself where an engine does not come back, and says so: exit code 1. Where it could
not, exit code 3, it lists what is left to do. Later, or after a power cut, one after the other until the engine runs:

<!-- not run: nothing has failed where these are run; testenv/scenarios/failed-restart and killed have it -->
```sh
sudo gpusetup recover          # ends a run that died, and puts back what it did
journalctl -u docker -n 20 | sudo gpusetup doctor --explain
sudo gpusetup undo             # takes out of every engine what is ours
```

By hand, with no gpusetup at all, for Docker: take the runtime `nvidia` and, if you had not set it, `features.cdi` out of
`/etc/docker/daemon.json`, remove `/etc/systemd/system/docker.service.d/50-gpusetup.conf`, then `systemctl daemon-reload`
and `systemctl restart docker`. What each file was before is in `/var/lib/gpusetup/receipt.json` (`before`); while a run has
not ended, in `journal.json` beside it.

## A damaged record

`/var/lib/gpusetup/receipt.json` and `journal.json` have a checksum over all of it and one of each text. Where one does not
hold, gpusetup says which entry of which file it is and writes nothing: exit code 1, or 3 where a run that died is still to
be ended. What is set up goes on working. The ways out, the first that there is:

1. Put the file back from a backup, as it was when gpusetup wrote it last, and look: `gpusetup undo --dry-run`.
2. A receipt without a backup: move it away. From then on undo knows of nothing, so take our parts out by hand. Of an entry
   that was not named as damaged, `before` is what the file was; `null`: there was none, so remove it.

   <!-- not run: nothing is damaged where these are run -->
   ```sh
   cd /var/lib/gpusetup
   sudo mv receipt.json receipt.json.damaged
   sudo jq -r '.content.changes[].path' receipt.json.damaged
   sudo jq -j '.content.changes[] | select(.path == \"/etc/docker/daemon.json\").before' receipt.json.damaged
   ```

3. A journal without a backup: move it away. `gpusetup plan` then shows what the run that died has not done, and
   `gpusetup install` does it. What it had done already, undo takes for yours: look at the files that the journal names.

`is of a newer gpusetup` is no damage. A gpusetup that is older than the file refuses it and writes nothing. Install the
newer one again; to go back, run `gpusetup undo` there, then install the older one and run `gpusetup install`.

A gpusetup up to commit b07101d kept no checksums. The present one reads what that left, says which entries it cannot
check (`unchecked` in the JSON document) and acts on them as before.

## Logs

A command that changes the host tells systemd's journal what it decided, what it did and how it ended, a line
each. `--log-file FILE` appends the same to a file, with times and with each program that was run.
`GPUSETUP_LOG` has a level and places, in any order: `off`, `error`, `warn`, `info` or `debug`; `journal`,
`stderr`, `file=/PATH`. A level alone is about the journal.

The runtime and the hooks say nothing of a container that starts. Of one that does not, its standard error,
as Docker, Podman or kubelet pass it on, has the reason, the container's id and these:

<!-- run, -n 50 is -n 50 --no-pager -->
```sh
journalctl -t gpu-container -n 50   # what the runtime and the hooks had to say
journalctl -t gpusetup -n 50        # what gpusetup has done here
```

## How to read what follows

Each problem has an id, which `doctor --fix ID` and the support bundle use. *Broken* is what keeps containers from their
GPUs, a *warning* what can. Where it says that `doctor` finds it, that is a check; the others are known by their message
alone, so `--explain` tells them.

";

fn page() -> String {
    let mut out = HEAD.to_owned();
    for (title, rows) in catalog::parts() {
        out.push_str(&format!(
            "## {}{}\n\n",
            title[..1].to_uppercase(),
            &title[1..]
        ));
        for row in rows {
            out.push_str(&section(row));
        }
    }
    out.trim_end().to_owned() + "\n"
}

fn section(p: &Problem) -> String {
    let severity = match p.severity {
        Severity::Broken => "broken",
        Severity::Warning => "warning",
    };
    let kind = match (p.checked, p.safe) {
        (true, true) => "`doctor` finds it, `--fix` mends it",
        (true, false) => "`doctor` finds it",
        (false, _) => "known by its message alone",
    };
    let mut out = format!("### {}\n\n`{}` · {severity} · {kind}\n\n", p.title, p.id);
    out.push_str(&format!("- **Seen as**: {}\n", plain(&p.symptom)));
    if p.checked {
        out.push_str(&format!("- **Looked at**: {}\n", plain(&p.evidence)));
    }
    out.push_str(&format!(
        "- **Cause**: {}\n- **Fix**: {}\n",
        plain(&p.cause),
        plain(&p.fix)
    ));
    if let Some(command) = p.command.as_deref().map(with_sudo) {
        out.push_str(&format!("\n  <!-- not run: it mends a host that has this problem -->\n  ```sh\n  {command}\n  ```\n"));
    }
    let source = match p.source.strip_prefix("docs/") {
        Some(page) => format!("[{page}]({page})"),
        None => format!("<{}>", p.source),
    };
    out.push_str(&format!("- **Source**: {source}\n\n"));
    out
}

/// A text with Markdown's marks escaped.
fn plain(text: &str) -> String {
    // Text in backquotes is code and stays as it is.
    let mut parts = text.split('`');
    let mut out = String::new();
    let mut is_code = false;
    for part in parts.by_ref() {
        if is_code {
            out.push_str(&format!("`{part}`"));
        } else {
            out.push_str(
                &part
                    .replace('*', "\\*")
                    .replace('_', "\\_")
                    .replace('<', "&lt;")
                    .replace('[', "\\["),
            );
        }
        is_code = !is_code;
    }
    out
}

#[test]
fn troubleshooting_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == page(),
        "run: UPDATE_DOCS=1 cargo test -p gpusetup troubleshooting"
    );
}
