//! Reads from the files of a node what each of its runtimes does.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::fixture::Tree;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Crio(&'static str),
    Containerd(&'static str),
}

/// What a runtime does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Runtime {
    /// The program that its table names.
    pub(crate) path: String,
    /// The low-level program that makes its containers; `None` if it is not there.
    pub(crate) program: Option<String>,
    /// All other settings: root, monitor, annotations, cgroup driver.
    pub(crate) settings: Table,
}

/// The schema of a containerd's files, and CRI's plugin in it.
pub(crate) fn schema(version: &str) -> (u32, &'static str) {
    if version.starts_with("1.") {
        (2, "io.containerd.grpc.v1.cri")
    } else {
        (3, "io.containerd.cri.v1.runtime")
    }
}

/// All runtimes by name; the default one has an empty name.
pub(crate) fn runtimes(tree: &Tree, engine: Engine) -> BTreeMap<String, Runtime> {
    match engine {
        Engine::Crio(version) => crio(tree, version),
        Engine::Containerd(version) => containerd(tree, version),
    }
}

fn parsed(tree: &Tree, path: &str) -> Table {
    let text = tree.read_if_there(path).unwrap_or_default();
    text.parse()
        .unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
}

fn at<'a>(table: &'a Table, keys: &[&str]) -> Option<&'a Value> {
    let (first, rest) = keys.split_first()?;
    let mut value = table.get(*first)?;
    for key in rest {
        value = value.get(*key)?;
    }
    Some(value)
}

/// What NVIDIA's runtime and ours go by.
fn list(tree: &Tree, program: &str) -> Vec<String> {
    let own = "usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml";
    let path = if program.starts_with("/usr/local/nvidia") && tree.path(own).exists() {
        own
    } else {
        "etc/nvidia-container-runtime/config.toml"
    };
    let policy = parsed(tree, path);
    let list = at(&policy, &["nvidia-container-runtime", "runtimes"]).and_then(Value::as_array);
    list.map_or_else(
        || vec!["runc".into(), "crun".into()],
        |list| {
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        },
    )
}

fn found(tree: &Tree, name: &str, first: &[&str]) -> Option<String> {
    let usual = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    if let Some(path) = name.strip_prefix('/') {
        return tree.path(path).exists().then(|| name.to_owned());
    }
    let mut places = first
        .iter()
        .chain(&usual)
        .map(|dir| format!("{dir}/{name}"));
    places.find(|place| tree.path(&place[1..]).exists())
}

/// The low-level program below a program.
fn below(tree: &Tree, program: &str, first: &[&str]) -> Option<String> {
    let here = found(tree, program, first);
    let name = program.rsplit('/').next().unwrap();
    let is_ours = name == "gpu-container-runtime";
    if !is_ours && !name.starts_with("nvidia-container-runtime") {
        return here;
    }
    // Our packages are not in the tree.
    here.filter(|_| !is_ours).or(is_ours.then(String::new))?;
    list(tree, program)
        .iter()
        .find_map(|r| found(tree, r, first))
}

fn crio(tree: &Tree, version: &str) -> BTreeMap<String, Runtime> {
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    let built_in = if minor >= 31 { "crun" } else { "runc" };
    let mut paths = vec!["etc/crio/crio.conf".to_owned()];
    let dir = "etc/crio/crio.conf.d";
    let entries = std::fs::read_dir(tree.path(dir)).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    paths.extend(names.iter().map(|name| format!("{dir}/{name}")));
    // The built-in runtime has settings of its own where no file has a table of it.
    let devices = if minor >= 35 {
        "devices.crio.io"
    } else {
        "io.kubernetes.cri-o.Devices"
    };
    let memory = if minor >= 31 {
        "container_min_memory = \"500KiB\"\n"
    } else {
        ""
    };
    let built: Table = format!(
        "{memory}allowed_annotations = [\"io.containers.trace-syscall\", \"{devices}\"]\nmonitor_env = [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"]\n"
    )
    .parse()
    .unwrap();
    let mut tables = BTreeMap::from([(built_in.to_owned(), built)]);
    let mut default = built_in.to_owned();
    for path in paths {
        let file = parsed(tree, &path);
        if let Some(name) = at(&file, &["crio", "runtime", "default_runtime"]) {
            default = name.as_str().unwrap().to_owned();
        }
        if let Some(Value::Table(all)) = at(&file, &["crio", "runtime", "runtimes"]) {
            for (name, table) in all {
                tables.insert(name.clone(), table.as_table().unwrap().clone());
            }
        }
    }
    let given = tree.read_if_there("etc/sysconfig/crio").unwrap_or_default();
    if let Some(name) = given
        .trim()
        .rsplit('=')
        .next()
        .filter(|name| !name.is_empty())
    {
        default = name.to_owned();
    }
    let mut runtimes = BTreeMap::new();
    for (name, mut settings) in tables {
        let path = settings.remove("runtime_path");
        let path = path.map_or_else(|| name.clone(), |p| p.as_str().unwrap().to_owned());
        // This is what it is without the key.
        if settings.get("runtime_type").and_then(Value::as_str) == Some("oci") {
            settings.remove("runtime_type");
        }
        let env = settings
            .get("monitor_env")
            .and_then(Value::as_array)
            .cloned();
        let text = env.and_then(|env| {
            Some(
                env.first()?
                    .as_str()?
                    .trim_start_matches("PATH=")
                    .to_owned(),
            )
        });
        let text = text.unwrap_or_default();
        let first: Vec<&str> = text.split(':').filter(|dir| !dir.is_empty()).collect();
        let program = below(tree, &path, &first);
        runtimes.insert(
            name,
            Runtime {
                path,
                program,
                settings,
            },
        );
    }
    if let Some(runtime) = runtimes.get(&default).cloned() {
        runtimes.insert(String::new(), runtime);
    }
    runtimes
}

fn containerd(tree: &Tree, version: &str) -> BTreeMap<String, Runtime> {
    let (_, cri) = schema(version);
    let mut files = vec![parsed(tree, "etc/containerd/config.toml")];
    if at(&files[0], &["imports"]).is_some() {
        let drop_in = "etc/containerd/conf.d/50-gpusetup.toml";
        files.extend(tree.path(drop_in).exists().then(|| parsed(tree, drop_in)));
    }
    let mut runtimes: BTreeMap<String, Runtime> = BTreeMap::new();
    let mut default = "runc".to_owned();
    for file in &files {
        let Some(Value::Table(settings)) = at(file, &["plugins", cri, "containerd"]) else {
            continue;
        };
        if let Some(name) = settings.get("default_runtime_name") {
            default = name.as_str().unwrap().to_owned();
        }
        let all = settings.get("runtimes").and_then(Value::as_table);
        for (name, table) in all.into_iter().flatten() {
            let runtime = runtimes.entry(name.clone()).or_insert_with(|| Runtime {
                path: "runc".into(),
                program: None,
                settings: Table::new(),
            });
            let options = table.get("options").and_then(Value::as_table);
            for (key, value) in options.into_iter().flatten() {
                if key == "BinaryName" {
                    runtime.path = value.as_str().unwrap().to_owned();
                } else {
                    runtime.settings.insert(key.clone(), value.clone());
                }
            }
        }
    }
    for runtime in runtimes.values_mut() {
        runtime.program = below(tree, &runtime.path, &[]);
    }
    if let Some(runtime) = runtimes.get(&default).cloned() {
        runtimes.insert(String::new(), runtime);
    }
    runtimes
}
