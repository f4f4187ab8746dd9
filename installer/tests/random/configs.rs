//! Generates configuration files as users write them, and edits as users make them.

use std::fmt::Write;

use proptest::prelude::*;

type Text = BoxedStrategy<String>;
type IsIn = fn(&str, &str) -> bool;

/// Forms that must occur among the files, each with a test of the text.
pub(crate) const FORMS: [(&str, IsIn); 26] = [
    ("JSON: on one line", |p, t| {
        is_json(p) && !t.trim().contains('\n')
    }),
    ("JSON: tabs", |p, t| is_json(p) && t.contains('\t')),
    ("JSON: CRLF", |p, t| is_json(p) && t.contains("\r\n")),
    ("JSON: integers beyond 64 bits", |p, t| {
        is_json(p) && digits(t) > 20
    }),
    ("JSON: exponents", |p, t| is_json(p) && t.contains("e-")),
    ("JSON: unicode keys", |p, t| {
        is_json(p) && t.contains("\"ünïcødé")
    }),
    ("JSON: escapes", |p, t| is_json(p) && t.contains("\\u00e9")),
    ("JSON: nested four deep", |p, t| {
        is_json(p) && depth(t, '{', '}') > 3
    }),
    ("JSON: runtimes of the user's", |p, t| {
        is_json(p) && t.contains("\"mine\"")
    }),
    ("JSON: features of the user's", |p, t| {
        is_json(p) && t.contains("\"snapshotter\"")
    }),
    ("JSON: empty", |p, t| is_json(p) && t.trim() == "{}"),
    ("TOML: CRLF", |p, t| !is_json(p) && t.contains("\r\n")),
    ("TOML: no newline at the end", |p, t| {
        !is_json(p) && !t.ends_with('\n')
    }),
    ("TOML: comment behind a value", |p, t| {
        !is_json(p) && t.contains("\" # ")
    }),
    ("TOML: indented comment", |p, t| {
        !is_json(p) && t.contains("\n  # ")
    }),
    ("TOML: runtimes under headers", |p, t| {
        !is_json(p) && t.contains(".containerd.runtimes.runc]")
    }),
    ("TOML: runtimes inline", |p, t| {
        !is_json(p) && t.contains("runtimes = {")
    }),
    ("TOML: all of CRI inline", |p, t| {
        !is_json(p) && t.contains("containerd = { runtimes")
    }),
    ("TOML: runtimes by dotted keys", |p, t| {
        !is_json(p) && t.contains("runtimes.runc.runtime_type =")
    }),
    ("TOML: arrays of tables", |p, t| {
        !is_json(p) && t.matches("[[proxy]]").count() > 1
    }),
    ("TOML: tables in arrays of tables", |p, t| {
        !is_json(p) && t.contains("[proxy.in]")
    }),
    ("TOML: multi-line strings", |p, t| {
        !is_json(p) && t.contains("'''") && t.contains("\"\"\"")
    }),
    ("TOML: multi-line arrays", |p, t| {
        !is_json(p) && t.contains("# two in a list")
    }),
    ("TOML: unicode keys", |p, t| {
        !is_json(p) && t.contains("\"ünïcødé 🦀")
    }),
    ("TOML: literal quotes", |p, t| {
        !is_json(p) && t.contains("'io.containerd.grpc.v1.cri'")
    }),
    ("TOML: nested eight deep", |p, t| {
        !is_json(p) && t.contains("a.b.c.d.e.f.g.h")
    }),
];

fn is_json(path: &str) -> bool {
    path.contains("daemon.json")
}

fn digits(text: &str) -> usize {
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.map(str::len).max().unwrap_or(0)
}

fn depth(text: &str, open: char, close: char) -> usize {
    let (mut now, mut most) = (0usize, 0);
    for c in text.chars() {
        if c == open {
            now += 1;
        } else if c == close {
            now = now.saturating_sub(1);
        }
        most = most.max(now);
    }
    most
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 2 => Just(" ".into()), 1 => "[ \t]{0,3}(\r?\n)?[ \t]{0,6}"]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-z]{1,8}(-[a-z]{1,4})?",
        1 => Just("runtimes".into()),
        1 => Just("features".into()),
        1 => Just("ünïcødé 🦀".into()),
        1 => Just("a.b/c".into()),
        1 => Just("with \\\"quotes\\\" and \\\\".into()),
    ]
}

fn scalar() -> Text {
    prop_oneof![
        Just("true".into()),
        Just("null".into()),
        "-?[1-9][0-9]{0,24}",
        "[1-9]\\.[0-9]{1,18}e-?[1-9]",
        "[a-zA-Z0-9:/. äß🦀]{0,12}".prop_map(|s| format!("\"{s}\"")),
        Just("\"\\u00e9\\n\\\"{}[],:// no comment\"".into()),
    ]
    .boxed()
}

fn value() -> Text {
    scalar()
        .prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                (
                    prop::collection::vec((inner.clone(), space(), space()), 0..4),
                    space()
                )
                    .prop_map(|(items, end)| {
                        let items: Vec<_> = items
                            .into_iter()
                            .map(|(v, a, b)| format!("{a}{v}{b}"))
                            .collect();
                        format!("[{}{end}]", items.join(","))
                    }),
                object(Just(Vec::new()).boxed(), inner.boxed()),
            ]
        })
        .boxed()
}

type Members = Vec<(String, String)>;

/// In one file of three, a member of the user's in the table where ours go.
fn user_member(name: &'static str, values: &[&'static str]) -> BoxedStrategy<Members> {
    let value = prop::sample::select(values.to_vec());
    prop_oneof![
        2 => Just(Vec::new()),
        1 => value.prop_map(move |v| vec![(name.to_owned(), v.to_owned())]),
    ]
    .boxed()
}

fn object(first: BoxedStrategy<Members>, value: Text) -> impl Strategy<Value = String> {
    let more = prop::collection::vec((word(), value), 0..5);
    let spaces = prop::collection::vec((space(), space(), space()), 8);
    (first, more, spaces, space()).prop_map(|(mut members, more, spaces, end)| {
        members.extend(more);
        let mut names = Vec::new();
        let mut texts = Vec::new();
        for ((key, value), (a, b, c)) in members.into_iter().zip(spaces) {
            if !names.contains(&key) {
                texts.push(format!("{a}\"{key}\"{b}:{c}{value}"));
                names.push(key);
            }
        }
        format!("{{{}{end}}}", texts.join(","))
    })
}

/// JSON in every layout that dockerd reads.
pub(crate) fn json() -> Text {
    let runtimes = user_member(
        "runtimes",
        &[
            "{}",
            "{ \"mine\": {\"path\": \"/m\", \"runtimeArgs\": [ ]} }",
            "{\n\t\t\"mine\":{\n\t\t\t\"path\":\"/m\"\n\t\t}\n\t}",
        ],
    );
    let features = user_member(
        "features",
        &[
            "{}",
            "{\"snapshotter\": true}",
            "{ \"buildkit\" : false ,\n \"snapshotter\":true }",
        ],
    );
    let first = (runtimes, features).prop_map(|(a, b)| [a, b].concat());
    (space(), object(first.boxed(), value()), space())
        .prop_map(|(a, o, b)| format!("{a}{o}{b}"))
        .boxed()
}

/// A line of TOML; a number makes its key unique.
fn toml_line() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("true".to_owned()),
        "[1-9][0-9]{0,17}",
        "0x[0-9a-f]{1,8}",
        Just("-inf".to_owned()),
        "[a-z äß🦀./:]{0,10}".prop_map(|s| format!("\"{s}\"")),
        "[a-z]{0,5}".prop_map(|s| format!("'''\n{s}\n  # no comment\n'''")),
        "[a-z]{0,5}".prop_map(|s| format!("\"\"\"\n{s} \\\n   \"quoted\"\n[no.header]\n\"\"\"")),
        Just("[ 1, 2, # two in a list\n    3,\n  ]".into()),
        Just("{ a = 1, b.c = \"x\", d = { e = [ { f = {} } ] } }".into()),
        Just("1979-05-27T07:32:00Z".into()),
    ];
    let comment = prop_oneof![3 => Just(String::new()), 1 => "[ \t]*# [a-zäß =\\[\\]]{0,12}"];
    let key = prop_oneof![
        4 => Just("k"),
        1 => Just("\"q k\".k"),
        1 => Just("dotted . k"),
        1 => Just("\"ünïcødé 🦀\".k"),
        1 => Just("a.b.c.d.e.f.g.h"),
    ];
    prop_oneof![
        6 => ("[ \t]{0,4}", key, value, comment.clone())
            .prop_map(|(indent, key, value, comment)| format!("{indent}{key}#N = {value}{comment}")),
        1 => comment,
        1 => Just("  # [not.a.table]".to_owned()),
        1 => Just(String::new()),
    ]
}

/// CRI's tables in every form that TOML allows: the text at the top of the file, and headers with
/// the first line below each.
type Cri = (&'static str, &'static [(&'static str, &'static str)]);

const CRI: [Cri; 10] = [
    ("", &[]),
    ("", &[("[plugins]", "")]),
    (
        "",
        &[
            ("[plugins]", ""),
            (
                "  [plugins.\"io.containerd.grpc.v1.cri\"]",
                "    sandbox_image = \"pause\" # mine",
            ),
            ("[plugins.\"io.containerd.grpc.v1.cri\".cni]", ""),
            ("[plugins.\"io.containerd.grpc.v1.cri\".containerd]", ""),
            (
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]",
                "  runtime_type = \"io.containerd.runc.v2\" # mine",
            ),
            (
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]",
                "  SystemdCgroup = true",
            ),
        ],
    ),
    (
        "",
        &[(
            "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]",
            "runtime_type = 'io.containerd.runc.v2'",
        )],
    ),
    (
        "",
        &[(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]",
            "runtimes = { runc = { runtime_type = \"io.containerd.runc.v2\" } } # mine",
        )],
    ),
    (
        "",
        &[(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]",
            "runtimes.runc.runtime_type = \"io.containerd.runc.v2\" # mine",
        )],
    ),
    (
        "",
        &[(
            "[plugins]",
            "\"io.containerd.grpc.v1.cri\" = { containerd = { runtimes = { runc = { runtime_type = \"io.containerd.runc.v2\", options = { SystemdCgroup = true } } } } }",
        )],
    ),
    (
        "plugins.\"io.containerd.grpc.v1.cri\" = { containerd = { runtimes = {} }, sandbox_image = \"pause\" }",
        &[],
    ),
    (
        "plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.runtime_type = \"io.containerd.runc.v2\" # mine",
        &[],
    ),
    (
        "plugins.\"io.containerd.grpc.v1.cri\".sandbox_image = \"pause\" # mine",
        &[],
    ),
];

const OTHERS: [&str; 7] = [
    "[grpc]",
    "[\"ünïcødé 🦀 \".x]",
    "[a.b.c.d]",
    "[[proxy]]",
    "[proxy.in]",
    "[[proxy]] # second",
    "  [[proxy.in.list]]",
];

/// TOML as containerd's users write it, of schema 2.
pub(crate) fn toml() -> Text {
    let section = prop::collection::vec(toml_line(), 0..4);
    (
        prop::collection::vec(section, 16),
        prop::sample::select(CRI.to_vec()),
        prop::sample::subsequence(OTHERS.to_vec(), 0..=OTHERS.len()),
        prop::bool::ANY,
        prop_oneof![3 => Just(false), 1 => Just(true)],
        prop_oneof![3 => Just("\n"), 1 => Just("")],
    )
        .prop_map(
            |(sections, (top, headers), mut others, others_first, crlf, end)| {
                let mut text = String::from("# mine\nversion = 2 # two\n");
                let mut sections = sections.into_iter();
                let mut n = 0;
                let mut lines = |text: &mut String| {
                    for line in sections.next().into_iter().flatten() {
                        n += 1;
                        writeln!(text, "{}", line.replace("#N", &n.to_string())).unwrap();
                    }
                };
                lines(&mut text);
                writeln!(text, "{top}").unwrap();
                // A table in the last element of an array, which must exist.
                if !others.contains(&"[[proxy]]") {
                    others.retain(|o| !o.contains("proxy"));
                }
                let others = others.into_iter().map(|o| (o, ""));
                let headers = headers.iter().copied();
                let all: Vec<_> = if others_first {
                    others.chain(headers).collect()
                } else {
                    headers.chain(others).collect()
                };
                for (header, first) in all {
                    writeln!(text, "{header}").unwrap();
                    if !first.is_empty() {
                        writeln!(text, "{first}").unwrap();
                    }
                    lines(&mut text);
                }
                let text = format!("{}{end}", text.trim_end_matches('\n'));
                if crlf {
                    text.replace('\n', "\r\n")
                } else {
                    text
                }
            },
        )
        .boxed()
}

/// The same edit of the user's, in the file without our part and in the file with it.
pub(crate) struct Edited {
    pub(crate) before: String,
    pub(crate) now: String,
}

/// An edit, chosen by a number; `None` if this file has no place for it.
pub(crate) fn edited(path: &str, before: &str, now: &str, choice: u32) -> Option<Edited> {
    let edit = |line: &str, with: String| {
        let is_once = |text: &str| text.matches(line).count() == 1;
        (is_once(before) && is_once(now)).then(|| Edited {
            before: before.replacen(line, &with, 1),
            now: now.replacen(line, &with, 1),
        })
    };
    if is_json(path) {
        // Edit the first member: our members come last.
        let open = before.find('{')? + 1;
        let rest = &before[open..];
        if rest.trim_start().starts_with('}') || !now.starts_with(&before[..open]) {
            return None;
        }
        let with = match choice % 3 {
            0 => " \"users\": [1, {\"x\": 12345678901234567890}],",
            1 => "\n    \"users\"  :  null,",
            _ => "\"ü\":{},\t",
        };
        let add = |text: &str| format!("{}{with}{}", &text[..open], &text[open..]);
        return Some(Edited {
            before: add(before),
            now: add(now),
        });
    }
    let newline = if before.contains("\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let lines: Vec<&str> = before.lines().collect();
    let at = choice as usize / 4 % lines.len();
    // A line that both files have and that means the same wherever it is.
    let line = lines.iter().cycle().skip(at).take(lines.len()).find(|l| {
        let l = l.trim();
        l.starts_with('k') && l.contains(" = ") && !l.contains(['\'', '[', '"'])
            || l.starts_with("version")
    })?;
    let line = format!("{newline}{line}{newline}");
    match choice % 4 {
        0 => edit(&line, format!("{newline}# the user's{line}")),
        1 => edit(
            &line,
            format!("{line}  users = \"12345678901234567890\" # too{newline}"),
        ),
        2 => edit(&line, format!("{newline}{newline}{line}")),
        _ if line.contains("version") => None,
        _ => edit(&line, newline.to_owned()),
    }
}
