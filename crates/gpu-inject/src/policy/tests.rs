//! Tests how config.toml becomes a policy: its defaults, each key, and what is reported of invalid ones.

use super::*;
use toml::Value;

fn parse(text: &str) -> Policy {
    Policy::from_toml(text, Path::new(PATH)).unwrap()
}

/// Every key that has an effect, each with a value other than its default.
const EVERYTHING: &str = r#"
disable-require = true
swarm-resource = "DOCKER_RESOURCE_GPU, DOCKER_RESOURCE_NPU"
accept-nvidia-visible-devices-envvar-when-unprivileged = false
accept-nvidia-visible-devices-as-volume-mounts = true
supported-driver-capabilities = "utility"

[nvidia-container-cli]
root = "/run/nvidia/driver"
debug = "/var/log/cli.log"
no-cgroups = true

[nvidia-container-runtime]
debug = "/var/log/runtime.log"
log-level = "debug"
runtimes = ["crun"]
mode = "cdi"

[nvidia-container-runtime.modes.cdi]
spec-dirs = ["/specs"]
default-kind = "my.com/gpu"
annotation-prefixes = ["my/", ""]

[nvidia-container-runtime.modes.csv]
mount-spec-path = "/csv"
compat-container-root = "/usr/local/cuda/compat_orin"

[nvidia-container-runtime.modes.jit-cdi]
nvcdi-feature-flags = ["no-additional-gids-for-device-nodes"]
nvcdi-disable-hooks = ["disable-device-node-modification", "update-application-profile"]

[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "disabled"

[features]
ignore-imex-channel-requests = true
disable-cuda-compat-lib-hook = false
no-additional-gids-for-device-nodes = false

[gpu-container]
allowed-cdi-kinds = ["amd.com/gpu"]
allowed-cdi-kinds-in-annotations = ["intel.com/*"]
inventory = "/inventory.json"
mounts = "runtime"
"#;

#[test]
fn every_key_that_has_an_effect_is_read() {
    let expected = Policy {
        path: PATH.into(),
        accept_unprivileged: false,
        accept_mounts: true,
        disable_require: true,
        swarm_resource: vec!["DOCKER_RESOURCE_GPU".into(), "DOCKER_RESOURCE_NPU".into()],
        supported: Capabilities::of(&[gpu_host::Capability::Utility]),
        no_cgroups: true,
        driver_root: "/run/nvidia/driver".into(),
        cli_debug: Some("/var/log/cli.log".into()),
        debug: Some("/var/log/runtime.log".into()),
        log_level: Level::Debug,
        runtimes: vec!["crun".into()],
        mode: RuntimeMode::Cdi,
        spec_dirs: vec!["/specs".into()],
        default_kind: "my.com/gpu".into(),
        annotation_prefixes: vec!["my/".into()],
        csv_dir: "/csv".into(),
        csv_compat_root: Some("/usr/local/cuda/compat_orin".into()),
        cuda_compat: false,
        forbid_device_nodes: false,
        application_profile: false,
        ignore_imex: true,
        additional_gids: false,
        allowed_kinds: vec!["amd.com/gpu".into()],
        allowed_kinds_in_annotations: vec!["intel.com/*".into()],
        hook_mounts: false,
        inventory: Some("/inventory.json".into()),
        unknown: Vec::new(),
        without_effect: Vec::new(),
    };
    assert_eq!(parse(EVERYTHING), expected);
    // A key that is added to the table of keys must be added above, too.
    let table: Table = EVERYTHING.parse().unwrap();
    for key in KEYS.iter().filter(|k| k.unused.is_none()) {
        let value = key
            .name
            .split('.')
            .try_fold(Value::Table(table.clone()), |at, part| {
                at.get(part).cloned().ok_or(())
            });
        assert!(value.is_ok(), "{} is in the table only", key.name);
    }
}

#[test]
fn the_table_of_keys_has_each_once_and_a_reason_for_every_one_without_effect() {
    for (n, key) in KEYS.iter().enumerate() {
        assert!(
            KEYS.iter().skip(n + 1).all(|k| k.name != key.name),
            "{}",
            key.name
        );
        assert!(key.unused.is_none_or(|why| why.len() > 10), "{}", key.name);
    }
}

#[test]
fn unknown_keys_and_those_without_effect_are_kept_for_a_warning() {
    let policy = parse(
        "odd = 1\n[nvidia-container-cli]\nload-kmods = true\nldconfig = \"@/sbin/ldconfig\"\n\
         [nvidia-container-runtime.modes.cdi]\nnew = []\n[mine]\n",
    );
    assert_eq!(
        policy.unknown,
        ["nvidia-container-runtime.modes.cdi.new", "odd"]
    );
    let names: Vec<_> = policy.without_effect.iter().map(|k| k.name).collect();
    assert_eq!(
        names,
        [
            "nvidia-container-cli.ldconfig",
            "nvidia-container-cli.load-kmods"
        ]
    );
    assert_eq!(policy.driver_root, Path::new("/"));
}

#[test]
fn the_vendors_default_file_is_the_default_policy() {
    let policy = parse(
        r#"
#accept-nvidia-visible-devices-as-volume-mounts = false
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
[nvidia-container-cli]
environment = []
ldconfig = "@/sbin/ldconfig"
load-kmods = true
[nvidia-container-runtime]
debug = "/dev/null"
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]
[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]
[nvidia-container-runtime.modes.csv]
mount-spec-path = "/etc/nvidia-container-runtime/host-files-for-container.d"
[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "ldconfig"
[nvidia-container-runtime-hook]
path = "nvidia-container-runtime-hook"
skip-mode-detection = false
[nvidia-ctk]
path = "nvidia-ctk"
"#,
    );
    let policy = Policy {
        without_effect: Vec::new(),
        ..policy
    };
    assert_eq!(policy, Policy::default());
}

#[test]
fn cuda_compatibility_is_disabled_by_any_of_three_keys() {
    assert!(Policy::default().cuda_compat);
    for mode in ["ldconfig", "mount", "hook"] {
        let text = format!("nvidia-container-runtime.modes.legacy.cuda-compat-mode = \"{mode}\"");
        assert!(parse(&text).cuda_compat, "{mode}");
    }
    for off in [
        "nvidia-container-runtime.modes.legacy.cuda-compat-mode = \"disabled\"",
        "features.disable-cuda-compat-lib-hook = true",
        "nvidia-container-runtime.modes.jit-cdi.nvcdi-disable-hooks = [\"enable-cuda-compat\"]",
        "nvidia-container-runtime.modes.jit-cdi.nvcdi-disable-hooks = [\"all\"]",
    ] {
        assert!(!parse(off).cuda_compat, "{off}");
    }
}

#[test]
fn an_invalid_policy_is_an_error() {
    for text in [
        "disable-require = \"no\"",
        "[",
        "nvidia-container-runtime.runtimes = [1]",
        "nvidia-container-runtime = 1",
        "nvidia-container-runtime.mode = \"fast\"",
        "nvidia-container-runtime.log-level = \"loud\"",
        "nvidia-container-runtime.modes.legacy.cuda-compat-mode = \"on\"",
        "supported-driver-capabilities = \"compute,odd\"",
        // A pattern cannot stand for every vendor, for part of a name or for a device.
        "gpu-container.allowed-cdi-kinds = [\"*\"]",
        "gpu-container.allowed-cdi-kinds = [\"*/*\"]",
        "gpu-container.allowed-cdi-kinds = [\"*/gpu\"]",
        "gpu-container.allowed-cdi-kinds = [\"vendor.com\"]",
        "gpu-container.allowed-cdi-kinds = [\"vendor.com/\"]",
        "gpu-container.allowed-cdi-kinds = [\"vendor.com/g*\"]",
        "gpu-container.allowed-cdi-kinds = [\"vendor.com/gpu=0\"]",
        "gpu-container.allowed-cdi-kinds = [\"\"]",
        "gpu-container.allowed-cdi-kinds = \"vendor.com/gpu\"",
        "gpu-container.allowed-cdi-kinds-in-annotations = [\"*.com/gpu\"]",
    ] {
        assert!(Policy::from_toml(text, Path::new(PATH)).is_err(), "{text}");
    }
    let mode = Policy::from_toml("nvidia-container-runtime.mode = \"fast\"", Path::new(PATH));
    let message = mode.unwrap_err().to_string();
    assert!(
        message.contains("\"fast\"") && message.contains("jit-cdi"),
        "{message}"
    );
}

#[test]
fn the_variables_file_precedes_the_users_and_the_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, runtime: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("nvidia-container-runtime.runtimes = [\"{runtime}\"]");
        std::fs::write(path, text).unwrap();
    };
    put("etc/nvidia-container-runtime/config.toml", "host");
    put("home/nvidia-container-runtime/config.toml", "user");
    put("own.toml", "own");
    let root = Root::open(dir.path()).unwrap();
    let runtime = |set: &[(&str, &str)]| {
        let variable = |name: &str| {
            let pair = set.iter().find(|(n, _)| *n == name);
            pair.map(|(_, value)| OsString::from(value))
        };
        let path = Policy::path_in_environment(&root, variable);
        let policy = Policy::load_from(&root, &path).unwrap();
        policy.runtimes.join(",")
    };
    let own = ("NVIDIA_CTK_CONFIG_FILE_PATH", "/own.toml");
    assert_eq!(runtime(&[]), "host");
    assert_eq!(runtime(&[("XDG_CONFIG_HOME", "/home")]), "user");
    assert_eq!(runtime(&[("XDG_CONFIG_HOME", "/home"), own]), "own");
    assert_eq!(runtime(&[("XDG_CONFIG_HOME", "/elsewhere")]), "host");
    let gone = ("NVIDIA_CTK_CONFIG_FILE_PATH", "/gone.toml");
    assert_eq!(runtime(&[gone]), "runc,crun");
    // `load`, which hooks use, ignores the environment.
    assert_eq!(Policy::load(&root).unwrap().runtimes, ["host"]);
}

/// A missing file means the defaults, which are weaker than most policies.
#[test]
fn a_policy_that_exists_but_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    std::fs::write(dir.path().join("bytes"), b"# \xff\n").unwrap();
    std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    for path in ["/directory", "/bytes", "/loop", "/bytes/below"] {
        assert!(Policy::load_from(&root, Path::new(path)).is_err(), "{path}");
    }
    let none = Policy::load_from(&root, Path::new("/none")).unwrap();
    assert_eq!(none, Policy::default());
}

/// Every start of a container reads the file, so neither its size nor its nesting may cost much.
#[test]
fn a_file_that_no_policy_is_like_is_an_error_soon() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let deep = 100_000;
    for text in [
        "#".repeat(2 << 20),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{b=".repeat(deep)),
        format!("{}b = 1", "a.".repeat(deep)),
        format!("[{}b]", "a.".repeat(deep)),
        "[a]\n".repeat(deep),
        "\"".repeat(deep),
        "'''".repeat(deep),
        "= = =\n".repeat(deep),
    ] {
        std::fs::write(dir.path().join("config.toml"), &text).unwrap();
        let begin = std::time::Instant::now();
        let what = &text[..20];
        let path = Path::new("/config.toml");
        assert!(Policy::load_from(&root, path).is_err(), "{what}");
        let salvaged = Policy::salvaged(&root, path);
        assert_eq!(salvaged.runtimes, ["runc", "crun"], "{what}");
        let took = begin.elapsed();
        println!("{what}: {took:?}");
        assert!(took.as_secs() < 20, "{what}: {took:?}");
    }
}

#[test]
fn of_a_broken_file_the_keys_that_can_be_read_are_known() {
    let salvaged = |text: &str| Policy::salvaged_from(text, Path::new("/c"));
    let fine = "swarm-resource = \"DOCKER_RESOURCE_GPU\"\n[nvidia-container-runtime]\n\
        runtimes = [\"/opt/crun\"]\nmodes.cdi.annotation-prefixes = [\"site/\", \"\"]\n";
    for broken in [
        fine.to_owned(),
        format!("disable-require = 1\n{fine}mode = \"fast\"\n"),
        format!("{fine}mode = \n"),
        format!("{fine}mode = \"auto\n"),
        format!("= 1\n{fine}"),
    ] {
        let policy = salvaged(&broken);
        assert_eq!(policy.swarm_resource, ["DOCKER_RESOURCE_GPU"], "{broken}");
        assert_eq!(policy.runtimes, ["/opt/crun", "runc", "crun"], "{broken}");
        assert_eq!(policy.annotation_prefixes, ["site/", "cdi.k8s.io/"]);
        // What a container is given never comes from such a file.
        let rest = Policy {
            path: super::PATH.into(),
            swarm_resource: Vec::new(),
            runtimes: Policy::default().runtimes,
            annotation_prefixes: Policy::default().annotation_prefixes,
            ..policy
        };
        assert_eq!(rest, Policy::default(), "{broken}");
    }
    for garbage in [
        "",
        "\0",
        "[nvidia-container-runtime\nruntimes = 1",
        "\u{feff}{}",
    ] {
        let policy = salvaged(garbage);
        assert_eq!(policy.runtimes, ["runc", "crun"], "{garbage}");
    }
}
