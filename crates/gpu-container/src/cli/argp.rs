//! Parses command lines like glibc's argp, as callers of `nvidia-container-cli` expect: long options
//! as `--name=VALUE`, `--name VALUE` or any unambiguous prefix of the name; short ones combined
//! (`-cu`) and with their value attached or following; `--` for the end of options (glibc manual,
//! "Argp", "Getopt Long").

use std::fmt::Write;

use gpu_inject::Excerpt;

/// The argument of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// A required value with this name.
    Value(&'static str),
    /// An optional value with this name, which must be attached: `--user=UID`, `-uUID`.
    Optional(&'static str),
}

/// An option of a command. Its value is stored in a `T`.
pub(super) struct Opt<T> {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    pub(super) takes: Takes,
    pub(super) help: &'static str,
    pub(super) set: Set<T>,
}

/// Stores an option's value in a `T`, or returns what is wrong with the value.
type Set<T> = fn(&mut T, &str) -> Result<(), String>;

impl<T> Opt<T> {
    /// An option with a letter and a long name.
    pub(super) const fn new(
        short: char,
        long: &'static str,
        takes: Takes,
        help: &'static str,
        set: Set<T>,
    ) -> Self {
        Self {
            short: Some(short),
            ..Self::long(long, takes, help, set)
        }
    }

    /// An option with only a long name.
    pub(super) const fn long(
        long: &'static str,
        takes: Takes,
        help: &'static str,
        set: Set<T>,
    ) -> Self {
        Self {
            short: None,
            long,
            takes,
            help,
            set,
        }
    }
}

/// Where parsing of options stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// At the first word that is no option: it is a command, and what follows are its arguments.
    AtFirstWord,
    /// Nowhere: options may come after words.
    Nowhere,
}

/// Why parsing ended without a command line to run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Help,
    Usage,
    Version,
    /// The command line is invalid; the message has getopt's wording.
    Misread(String),
    /// An option's value is invalid.
    Value(String),
}

/// Parses `args` and stores the values in `into`. Returns the words that are no options.
pub(super) fn parse<'a, T>(
    options: &[Opt<T>],
    args: &'a [String],
    order: Order,
    into: &mut T,
) -> Result<Vec<&'a str>, Stop> {
    let mut words = Vec::new();
    let mut rest = args.iter().map(String::as_str);
    while let Some(arg) = rest.next() {
        if arg == "--" {
            words.extend(rest);
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, joined) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            by_long(options, name, joined, &mut rest, into)?;
        } else if let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) {
            by_letters(options, letters, &mut rest, into)?;
        } else {
            words.push(arg);
            if order == Order::AtFirstWord {
                words.extend(rest);
                break;
            }
        }
    }
    Ok(words)
}

fn by_long<'a, T>(
    options: &[Opt<T>],
    name: &str,
    joined: Option<&str>,
    rest: &mut impl Iterator<Item = &'a str>,
    into: &mut T,
) -> Result<(), Stop> {
    let names = || {
        options
            .iter()
            .map(|o| o.long)
            .chain(["help", "usage", "version"])
    };
    let candidates: Vec<&str> = match names().find(|n| *n == name) {
        Some(exact) => vec![exact],
        None => names().filter(|n| n.starts_with(name)).collect(),
    };
    let name = match candidates[..] {
        [one] => one,
        [] => {
            let why = format!("unrecognized option '--{}'", Excerpt::of(name));
            return Err(Stop::Misread(why));
        }
        _ => {
            let candidates: String = candidates.iter().map(|f| format!(" '--{f}'")).collect();
            let why = format!("option '--{name}' is ambiguous; possibilities:{candidates}");
            return Err(Stop::Misread(why));
        }
    };
    let Some(option) = options.iter().find(|o| o.long == name) else {
        return Err(match name {
            "help" => Stop::Help,
            "usage" => Stop::Usage,
            _ => Stop::Version,
        });
    };
    let value = match (option.takes, joined) {
        (Takes::Nothing, Some(_)) => {
            let why = format!("option '--{name}' doesn't allow an argument");
            return Err(Stop::Misread(why));
        }
        (Takes::Value(_), None) => rest
            .next()
            .ok_or_else(|| Stop::Misread(format!("option '--{name}' requires an argument")))?,
        (_, joined) => joined.unwrap_or_default(),
    };
    (option.set)(into, value).map_err(Stop::Value)
}

fn by_letters<'a, T>(
    options: &[Opt<T>],
    letters: &str,
    rest: &mut impl Iterator<Item = &'a str>,
    into: &mut T,
) -> Result<(), Stop> {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '?' => return Err(Stop::Help),
            'V' => return Err(Stop::Version),
            _ => {}
        }
        let option = options.iter().find(|o| o.short == Some(letter));
        let option =
            option.ok_or_else(|| Stop::Misread(format!("invalid option -- '{letter}'")))?;
        let attached = letters.as_str();
        let value = match option.takes {
            Takes::Nothing => {
                (option.set)(into, "").map_err(Stop::Value)?;
                continue;
            }
            Takes::Value(_) if attached.is_empty() => rest.next().ok_or_else(|| {
                Stop::Misread(format!("option requires an argument -- '{letter}'"))
            })?,
            Takes::Value(_) | Takes::Optional(_) => attached,
        };
        return (option.set)(into, value).map_err(Stop::Value);
    }
    Ok(())
}

/// One line for each option, as `--help` shows them.
pub(super) fn help<T>(options: &[Opt<T>]) -> String {
    let own = options.iter().map(|o| (o.short, o.long, o.takes, o.help));
    let built_in = [
        (Some('?'), "help", Takes::Nothing, "Give this help list"),
        (None, "usage", Takes::Nothing, "Give a short usage message"),
        (
            Some('V'),
            "version",
            Takes::Nothing,
            "Print program version",
        ),
    ];
    let mut text = String::new();
    for (short, long, takes, help) in own.chain(built_in) {
        let short = short.map_or("    ".into(), |c| format!("-{c}, "));
        let long = match takes {
            Takes::Nothing => format!("--{long}"),
            Takes::Value(name) => format!("--{long}={name}"),
            Takes::Optional(name) => format!("--{long}[={name}]"),
        };
        let _ = writeln!(text, "  {short}{long:<30} {help}");
    }
    text
}

/// All options in brackets, as `--usage` shows them.
pub(super) fn usage<T>(options: &[Opt<T>]) -> String {
    let letters: String = options
        .iter()
        .filter(|o| o.takes == Takes::Nothing)
        .filter_map(|o| o.short)
        .collect();
    let mut text = format!("[-{letters}?V]");
    for option in options {
        let _ = match option.takes {
            Takes::Nothing => write!(text, " [--{}]", option.long),
            Takes::Value(name) => write!(text, " [--{}={name}]", option.long),
            Takes::Optional(name) => write!(text, " [--{}[={name}]]", option.long),
        };
    }
    text + " [--help] [--usage] [--version]"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen(Vec<String>);

    impl Seen {
        #[allow(clippy::unnecessary_wraps, reason = "what a setter returns")]
        fn note(&mut self, text: String) -> Result<(), String> {
            self.0.push(text);
            Ok(())
        }
    }

    fn options() -> [Opt<Seen>; 5] {
        use Takes::{Nothing, Optional, Value};
        [
            Opt::new('c', "compute", Nothing, "", |s, _| s.note("c".into())),
            Opt::long("compat32", Nothing, "", |s, _| s.note("32".into())),
            Opt::new('d', "device", Value("ID"), "", |s, v| {
                s.note(format!("d={v}"))
            }),
            Opt::new('u', "user", Optional("UID"), "", |s, v| {
                s.note(format!("u={v}"))
            }),
            Opt::new('p', "pid", Value("PID"), "", |_, v| {
                v.parse::<u32>().map(drop).map_err(|e| e.to_string())
            }),
        ]
    }

    fn read(line: &str, order: Order) -> Result<(Vec<String>, Vec<String>), Stop> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut seen = Seen::default();
        let words = parse(&options(), &args, order, &mut seen)?;
        let words = words.into_iter().map(str::to_owned).collect();
        Ok((seen.0, words))
    }

    #[test]
    fn every_way_to_write_an_option() {
        let line =
            "-cd0 -d 1 --device=2 --device 3 -ccd=4 --comput -u5 -u --user=6 --user w -- --x";
        let (seen, words) = read(line, Order::Nowhere).unwrap();
        let expected = [
            "c", "d=0", "d=1", "d=2", "d=3", "c", "c", "d==4", "c", "u=5", "u=", "u=6", "u=",
        ];
        assert_eq!(seen, expected);
        assert_eq!(words, ["w", "--x"]);
    }

    #[test]
    fn global_options_end_at_the_command() {
        let (seen, words) = read("-c configure -c --device=0 /r", Order::AtFirstWord).unwrap();
        assert_eq!(seen, ["c"]);
        assert_eq!(words, ["configure", "-c", "--device=0", "/r"]);
    }

    #[test]
    fn errors_have_getopts_wording() {
        for (line, why) in [
            ("--odd", "unrecognized option '--odd'"),
            ("-cx", "invalid option -- 'x'"),
            ("--device", "option '--device' requires an argument"),
            ("-d", "option requires an argument -- 'd'"),
            (
                "--compute=1",
                "option '--compute' doesn't allow an argument",
            ),
            (
                "--comp",
                "option '--comp' is ambiguous; possibilities: '--compute' '--compat32'",
            ),
        ] {
            assert_eq!(read(line, Order::Nowhere), Err(Stop::Misread(why.into())));
        }
        assert!(matches!(read("-px", Order::Nowhere), Err(Stop::Value(_))));
        assert_eq!(read("-c?", Order::Nowhere), Err(Stop::Help));
        assert_eq!(read("--usage", Order::Nowhere), Err(Stop::Usage));
        assert_eq!(read("--vers", Order::Nowhere), Err(Stop::Version));
    }

    proptest! {
        #[test]
        fn no_line_panics(args: Vec<String>) {
            let _ = parse(&options(), &args, Order::Nowhere, &mut Seen::default());
        }
    }
}
