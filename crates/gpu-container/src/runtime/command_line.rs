//! Parses the program's name and the parts of the runtime's command line that matter here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use gpu_inject::policy::RuntimeMode;

use super::flags::{COMMANDS, GLOBAL_ALONE, GLOBAL_WITH_VALUE, takes_value};

/// Names of this program, which may have a suffix.
const NAMES: [&str; 2] = ["gpu-container-runtime", "nvidia-container-runtime"];

/// More words than these are not looked at; the ID is the first one of almost all commands.
const MAX_IDS: usize = 4;

/// Whether a low-level runtime takes this for a container's ID (runc `validateID`, crun `validate_id`). So it names
/// no other directory.
fn is_id(word: &OsStr) -> bool {
    const LONGEST_NAME: usize = 255;
    let word = word.as_bytes();
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
    word.len() <= LONGEST_NAME && word.iter().all(is_usual) && !matches!(word, b"" | b"." | b"..")
}

/// Settings in the program's name. The suffixes `.cdi` and `.legacy` select a mode
/// (nvidia-container-toolkit `cmd/nvidia-container-runtime.cdi`). `-crun` and the like select the
/// low-level runtime that is preferred, so that an engine can select it by the path in its own
/// configuration, independently of other engines on the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProgramName {
    pub(super) mode: Option<RuntimeMode>,
    pub(super) low_level: Option<String>,
}

impl ProgramName {
    pub(super) fn by(name: &str) -> Self {
        let suffix = NAMES.iter().find_map(|n| name.strip_prefix(n));
        let suffix = suffix.unwrap_or_default();
        match suffix.split_at_checked(1) {
            Some((".", mode)) => Self {
                mode: RuntimeMode::from_word(mode),
                low_level: None,
            },
            Some(("-", runtime)) if !runtime.is_empty() => Self {
                mode: None,
                low_level: Some(runtime.to_owned()),
            },
            _ => Self::default(),
        }
    }
}

/// Whether this is a name of the runtime shim.
pub(crate) fn is_name(name: &str) -> bool {
    NAMES.contains(&name) || ProgramName::by(name) != ProgramName::default()
}

/// The parts of the command line that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) makes_container: bool,
    pub(super) asks_version: bool,
    pub(super) bundle: PathBuf,
    pub(super) log: Option<PathBuf>,
    /// Where the low-level runtime keeps its containers, if it is told so.
    pub(super) root: Option<PathBuf>,
    /// Words after the command that can be the container's ID, the first one first. Others follow it, and values of
    /// flags that are not known here may come before it.
    pub(super) ids: Vec<OsString>,
}

impl Call {
    pub(super) fn read(args: &[OsString]) -> Self {
        let mut call = Self {
            bundle: ".".into(),
            ..Self::default()
        };
        let mut command: Option<&OsStr> = None;
        // Whether the word before is a global flag that may take a value.
        let mut is_after_unknown = false;
        let mut has_flags = true;
        let mut args = args.iter();
        while let Some(arg) = args.next().filter(|_| call.ids.len() < MAX_IDS) {
            if !has_flags || !arg.as_bytes().starts_with(b"-") {
                match command {
                    // The value of that flag.
                    None if is_after_unknown && COMMANDS.iter().all(|name| arg != name) => {}
                    None => command = Some(arg),
                    Some(_) if is_id(arg) => call.ids.push(arg.clone()),
                    Some(_) => {}
                }
                is_after_unknown = false;
                continue;
            }
            let (flag, inline) = flag_and_value(arg);
            let mut value = || {
                inline
                    .or_else(|| args.next().map(OsString::as_os_str))
                    .map(PathBuf::from)
            };
            is_after_unknown = false;
            match (command, flag) {
                (Some(_), "") if arg == "--" => has_flags = false,
                (None, "log" | "l") => call.log = value(),
                (None, "root" | "r") => {
                    call.root = value().filter(|root| !root.as_os_str().is_empty());
                }
                (None, "version") => call.asks_version = true,
                (None, flag) if GLOBAL_WITH_VALUE.contains(&flag) => drop(value()),
                (None, flag) => {
                    is_after_unknown = inline.is_none() && !GLOBAL_ALONE.contains(&flag);
                }
                (Some(_), "bundle" | "b") => call.bundle = value().unwrap_or_default(),
                (Some(command), flag) if takes_value(command, flag) => drop(value()),
                (Some(_), _) => {}
            }
        }
        call.makes_container = command.is_some_and(|c| c == "create" || c == "run");
        call
    }
}

/// The name of a flag, and its value if that is in the same word. runc and crun accept one dash as well as two.
fn flag_and_value(arg: &OsStr) -> (&str, Option<&OsStr>) {
    let bytes = arg.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=');
    let (flag, value) = match end {
        Some(end) => (&bytes[..end], Some(OsStr::from_bytes(&bytes[end + 1..]))),
        None => (bytes, None),
    };
    let flag = std::str::from_utf8(flag).unwrap_or("?");
    (flag.trim_start_matches('-'), value)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn call(line: &str) -> Call {
        Call::read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_and_the_bundle_are_found() {
        let docker = call(
            "--root /run/x --log /l.json --log-format json --systemd-cgroup create --bundle /b --pid-file /p id",
        );
        assert_eq!(
            docker,
            Call {
                makes_container: true,
                asks_version: false,
                bundle: "/b".into(),
                log: Some("/l.json".into()),
                root: Some("/run/x".into()),
                ids: vec!["id".into()],
            }
        );
        assert_eq!(call("run -b /b id").bundle, Path::new("/b"));
        assert_eq!(
            call("--log=/l create --bundle=/b id").bundle,
            Path::new("/b")
        );
        assert_eq!(call("create id").bundle, Path::new("."));
    }

    #[test]
    fn a_container_named_create_is_not_the_command() {
        assert!(!call("delete create").makes_container);
        assert!(!call("--root create state x").makes_container);
        assert!(!call("--log").makes_container);
        assert!(!call("start run").makes_container);
        // The command is not mistaken for the value of a flag without value.
        assert!(call("--debug create --bundle /b id").makes_container);
        assert!(call("--systemd-cgroup run id").makes_container);
    }

    #[test]
    fn the_value_of_an_unknown_global_flag_is_not_the_command() {
        assert!(call("--platform kvm create --bundle /b id").makes_container);
        assert!(call("--debug-log /l --platform=kvm --odd create id").makes_container);
        assert!(!call("--platform create-all state create").makes_container);
        assert!(!call("--debug frobnicate create").makes_container);
    }

    #[test]
    fn the_root_and_the_id_are_found_in_every_order() {
        let found = |line: &str| {
            let call = call(line);
            let ids: Vec<String> = call
                .ids
                .iter()
                .map(|id| id.to_str().unwrap().into())
                .collect();
            (
                call.root.unwrap_or_default().display().to_string(),
                ids.join(" "),
            )
        };
        let rows = [
            ("state c", "", "c"),
            ("--root /r state c", "/r", "c"),
            ("--root=/r --log /l kill c 9", "/r", "c 9"),
            (
                "-root /r --systemd-cgroup kill --all c KILL",
                "/r",
                "c KILL",
            ),
            ("-r /r -s state c", "/r", "c"),
            ("--root /one --root /two state c", "/two", "c"),
            ("--root= state c", "", "c"),
            ("--systemd-cgroup --rootless true delete --force c", "", "c"),
            ("--cgroup-manager systemd delete -f c", "", "c"),
            (
                "exec -d --process /run/p --pid-file /p --preserve-fds 3 c",
                "",
                "c",
            ),
            (
                "exec -t -u 0 -e A=1 --cwd x --cap CAP_X c sh -c x",
                "",
                "c sh",
            ),
            ("exec --user=0 --tty=on c", "", "c"),
            ("ps -f json c", "", "c"),
            ("ps --format json c", "", "c"),
            ("list -f json", "", ""),
            ("events --interval 5s --stats c", "", "c"),
            ("update --resources - c", "", "c"),
            ("update -r - c", "", "c"),
            ("update c --memory 7 --cpu-share 5", "", "c"),
            ("checkpoint --image-path i --work-path w c", "", "c"),
            ("kill -- c", "", "c"),
            ("kill -- -c 9", "", "-c 9"),
            ("--strange value delete --odd x c", "", "x c"),
        ];
        for (line, root, ids) in rows {
            assert_eq!(found(line), (root.to_owned(), ids.to_owned()), "{line}");
        }
    }

    #[test]
    fn hostile_words_are_no_ids_and_paths_keep_their_bytes() {
        let odd = OsStr::from_bytes(b"/r/\xff=x");
        let mut inline = OsString::from("--root=");
        inline.push(odd);
        let with = |root: &[&OsStr], id: &[u8]| {
            let args = root.iter().copied().map(OsStr::to_owned);
            let last = [OsString::from("state"), OsStr::from_bytes(id).to_owned()];
            Call::read(&args.chain(last).collect::<Vec<_>>())
        };
        for root in [&[OsStr::new("--root"), odd][..], &[inline.as_os_str()]] {
            let call = with(root, b"c");
            assert_eq!(call.root.unwrap().as_os_str(), odd);
            assert_eq!(call.ids, ["c"]);
        }
        let long = [b'a'; 4096];
        let hostile: [&[u8]; 9] = [
            b"", b".", b"..", b"/", b"a/../b", b"a\nb", b"\xff", b"a b", &long,
        ];
        for id in hostile {
            assert!(with(&[], id).ids.is_empty(), "{id:?}");
        }
        // However long a command line is, few words of it are looked at.
        let many = vec![OsString::from("exec"); 100_000];
        assert_eq!(Call::read(&many).ids.len(), MAX_IDS);
    }

    #[test]
    fn version_is_a_flag_only_before_the_command() {
        assert!(call("--version").asks_version && call("-version").asks_version);
        assert!(!call("exec id ls --version").asks_version);
    }

    #[test]
    fn the_programs_name_selects_the_mode_and_the_low_level_runtime() {
        let called = |name: &str| ProgramName::by(name);
        assert_eq!(called("nvidia-container-runtime"), ProgramName::default());
        assert_eq!(
            called("nvidia-container-runtime.cdi").mode,
            Some(RuntimeMode::Cdi)
        );
        let legacy = called("gpu-container-runtime.legacy");
        assert_eq!(legacy.mode, Some(RuntimeMode::Legacy));
        let crun = called("gpu-container-runtime-crun").low_level;
        assert_eq!(crun.as_deref(), Some("crun"));
        assert!(is_name("nvidia-container-runtime-runc") && is_name("gpu-container-runtime"));
        for other in [
            "runtime",
            "nvidia-container-runtime.odd",
            "nvidia-container-runtime-",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
