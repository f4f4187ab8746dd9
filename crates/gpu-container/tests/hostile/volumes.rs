//! Volumes at the paths that we write to or mount on, directly or through a link of the image: shared
//! with the host or private, empty or with all files that we need. Neither their content nor the
//! host's mounts change, in whichever way the container gets its GPUs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::bundle::canary::{self, Tree};
use super::bundle::{Below, RuncBundle, WAYS, Way, can_run, make_nodes, text};
use super::{add_socket, scene, script};

/// How a volume gets to a path that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// `-v VOLUME:/etc`.
    User,
    /// `-v VOLUME:/volume`, and in the image `etc -> /volume`.
    Link,
}

/// How much of what we need the volume already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// Mount points for the driver's files, the cache, and the links.
    Everything,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    /// The path in the image.
    at: &'static str,
    by: By,
    holds: Holds,
    is_shared: bool,
}

/// Each directory that we write to or mount in, or one of its parents; and each file.
const DIRECTORIES: [&str; 10] = [
    "etc",
    "etc/ld.so.conf.d",
    "etc/nvidia",
    "usr",
    "usr/lib",
    "run",
    "run/nvidia-persistenced",
    "var",
    "var/run",
    "usr/local/nvidia",
];
const FILES: [&str; 5] = [
    "etc/ld.so.cache",
    "etc/ld.so.conf.d/00-gpu-container.conf",
    "usr/lib/libcuda.so.1.2.3",
    "usr/lib/libcuda.so.1",
    "run/nvidia-persistenced/socket",
];

/// Makes everything we need in `dir`, which is an image, or a volume that is mounted at `at`.
fn fill(dir: &Path, at: &str) {
    let inner = |path: &str| {
        let within = Path::new(path).strip_prefix(at).ok()?;
        let path = dir.join(within);
        fs::create_dir_all(path.parent()?).unwrap();
        Some(path)
    };
    for path in [
        "etc/ld.so.cache",
        "etc/ld.so.conf.d/00-gpu-container.conf",
        "usr/lib/libcuda.so.1.2.3",
        "run/nvidia-persistenced/socket",
    ] {
        if let Some(path) = inner(path).filter(|p| p != dir) {
            fs::write(path, "").unwrap();
        }
    }
    for (path, target) in [
        ("usr/lib/libcuda.so.1", "libcuda.so.1.2.3"),
        ("usr/lib/libcuda.so", "libcuda.so.1"),
    ] {
        if let Some(path) = inner(path).filter(|p| p != dir) {
            symlink(target, path).unwrap();
        }
    }
    if at.starts_with("var") {
        let run = dir.join(if at == "var" { "run" } else { "" });
        fs::create_dir_all(run.join("nvidia-persistenced")).unwrap();
        fs::write(run.join("nvidia-persistenced/socket"), "").unwrap();
    }
}

fn must(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
}

/// The image and the volume of a case.
fn prepare(case: Case, name: &str) -> RuncBundle {
    let place = RuncBundle::new(name);
    canary::make(&place.path("canary"));
    make_nodes(&place);
    add_socket(&place);
    let (image, volume) = (place.image(""), place.path("host/volume"));
    for dir in ["usr/lib", "etc/ld.so.conf.d", "var", "run", "volume"] {
        fs::create_dir_all(image.join(dir)).unwrap();
    }
    if !case.at.starts_with("var") {
        symlink("/run", image.join("var/run")).unwrap();
    }
    let is_file = FILES.contains(&case.at);
    if is_file {
        fs::write(&volume, "").unwrap();
    } else {
        fs::create_dir(&volume).unwrap();
        if case.holds == Holds::Everything {
            fill(&volume, case.at);
        }
    }
    // A directory that only the host's root can enter.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o700)).unwrap();
    let at = image.join(case.at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    if case.by == By::Link {
        let _ = fs::remove_dir_all(&at);
        if is_file {
            fs::remove_dir(image.join("volume")).unwrap();
            fs::write(image.join("volume"), "").unwrap();
        }
        symlink("/volume", at).unwrap();
    }
    if case.is_shared {
        let volume = volume.display().to_string();
        must("mount", &["--bind", &volume, &volume]);
        must("mount", &["--make-shared", &volume]);
    }
    place
}

fn configure(place: &RuncBundle, case: Case, visible: &str) {
    place.make_config(visible, &script(&scene(place)), |config| {
        let at = match case.by {
            By::User => format!("/{}", case.at),
            By::Link => "/volume".into(),
        };
        let propagation = if case.is_shared {
            "rshared"
        } else {
            "rprivate"
        };
        add(config, &place.path("host/volume"), &at, propagation);
        if case.is_shared {
            // Engines set this for shared volumes.
            config["linux"]["rootfsPropagation"] = json!("shared");
        }
    });
}

fn add(config: &mut Value, source: &Path, at: &str, propagation: &str) {
    config["mounts"].as_array_mut().unwrap().push(json!({
        "type": "bind", "source": source, "destination": at, "options": ["rbind", propagation],
    }));
}

fn clean_up(place: &RuncBundle) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place_path = place.path("").to_string_lossy().into_owned();
    let points = table.lines().filter_map(|l| l.split(' ').nth(4));
    let mut points: Vec<&str> = points.filter(|p| p.starts_with(&place_path)).collect();
    points.sort_unstable();
    for point in points.into_iter().rev() {
        let _ = Command::new("umount").args(["-q", "-l", point]).output();
    }
}

/// Removes mount points from the tree. runc makes them for the mounts of a CDI spec, also in volumes,
/// as empty files and directories, before our hook runs.
pub(crate) fn without_mount_points(tree: Tree, before: &Tree) -> Tree {
    let is_made =
        |path: &Path, line: &str| !before.contains_key(path) && (line.ends_with("content \"\""));
    let but_the_time = |line: &str| match line.split_once(" modified ") {
        Some((head, tail)) => format!("{head} {}", tail.split_once(' ').map_or("", |t| t.1)),
        None => line.to_owned(),
    };
    tree.into_iter()
        .filter(|(path, line)| !is_made(path, line))
        .map(|(path, line)| match before.get(&path) {
            Some(then) if but_the_time(then) == but_the_time(&line) => (path, then.clone()),
            _ => (path, line),
        })
        .collect()
}

/// Whether the container has to start; `None` if that depends on the runtime.
fn starts(case: Case, way: Way, below: Below) -> Option<bool> {
    let is_file = FILES.contains(&case.at);
    let is_optional = case.at.starts_with("run") || case.at.starts_with("var");
    let is_library = ["usr", "usr/lib"].contains(&case.at);
    if case.by == By::Link && below == Below::Crun
        || case.is_shared && way == Way::Cdi
        // The runtime itself makes and mounts these.
        || way == Way::Cdi && (is_optional || is_library || case.at.ends_with("1.2.3"))
    {
        return None;
    }
    // A CDI spec is for all capabilities, so its hook writes the application profile.
    if case.at == "etc/nvidia" && way == Way::Cdi && case.by == By::Link {
        return Some(false);
    }
    // This path is not used.
    if ["usr/local/nvidia", "etc/nvidia"].contains(&case.at) || is_optional {
        return Some(true);
    }
    match case.by {
        By::User if case.at == "usr/lib/libcuda.so.1.2.3" => Some(!case.is_shared),
        By::User if is_file => Some(true),
        By::User if is_library => Some(case.holds == Holds::Everything && !case.is_shared),
        By::User => Some(true),
        // The link is replaced by our file.
        By::Link if is_file && case.at.ends_with("1.2.3") => Some(!case.is_shared),
        By::Link if is_file => Some(true),
        By::Link if is_library => Some(case.holds == Holds::Everything && !case.is_shared),
        By::Link => Some(false),
    }
}

fn try_one(case: Case, way: Way, below: Below) -> Vec<String> {
    let Case {
        at,
        by,
        holds,
        is_shared,
    } = case;
    let name = format!("volume-{at}-{by:?}-{holds:?}-{is_shared}-{way:?}-{below:?}");
    let name = name.replace('/', "-");
    let place = prepare(case, &name);
    configure(&place, case, "1");
    let before = canary::look(&place);
    let out = text(&place.start_by(way, below));
    let mut after = canary::look(&place);
    if way == Way::Cdi {
        after = without_mount_points(after, &before);
    }
    let mut failures = canary::differences(&before, &after);
    let is_started = out.contains("STARTED\n");
    if starts(case, way, below).is_some_and(|starts| starts != is_started) {
        failures.push(format!("started: {is_started}"));
    }
    let is_refusal = out.contains("volume") || out.contains("shared");
    if !is_started && !is_refusal && below == Below::Runc {
        failures.push("refused without naming the volume".into());
    }
    clean_up(&place);
    let about = |f: String| format!("{case:?} by {way:?}, {below:?}: {f}\n{out}");
    failures.into_iter().map(about).collect()
}

#[test]
fn volumes_and_the_hosts_mounts_stay_as_they_are() {
    if !can_run() {
        return;
    }
    let mut cases = Vec::new();
    for by in [By::User, By::Link] {
        for is_shared in [false, true] {
            for at in DIRECTORIES {
                for holds in [Holds::Nothing, Holds::Everything] {
                    cases.push(Case {
                        at,
                        by,
                        holds,
                        is_shared,
                    });
                }
            }
            for at in FILES {
                let holds = Holds::Nothing;
                cases.push(Case {
                    at,
                    by,
                    holds,
                    is_shared,
                });
            }
        }
    }
    let is_all = std::env::var("HOSTILE_IMAGES").is_ok_and(|w| w == "all");
    let mut todo = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        for (m, way) in WAYS.into_iter().enumerate() {
            // If a user shares exactly the file on which a CDI spec mounts, the runtime mounts on it,
            // and the mount reaches the host.
            if case.is_shared && case.by == By::User && FILES.contains(&case.at) && way == Way::Cdi
            {
                continue;
            }
            todo.push((*case, way, Below::Runc));
            let is_turn = is_all || n % 3 == m;
            if is_turn && Below::available().contains(&Below::Crun) {
                todo.push((*case, way, Below::Crun));
            }
        }
    }
    let failures = super::in_parallel(&todo, |(case, way, below)| try_one(*case, *way, *below));
    println!("{} containers with volumes", todo.len());
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}
