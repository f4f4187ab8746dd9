//! What nobody else may read, taken out before anything is written.
//!
//! Rather too much than too little: a masked word costs a question, a password costs more.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Words in the name of a key whose value is a secret, whatever stands around them.
const KEY: &str = r"(?:[\w.-]*(?:password|passwd|passphrase|secret|token|credential|apikey|api[_-]key|access[_-]?key|private[_-]?key|key-data|cookie)[\w.-]*|(?:[\w.-]*[_.-])?(?:auth|authorization|pass|pwd|username)|x-[\w-]*(?:auth|key)[\w-]*)";
/// A string, a list or a word.
const VALUE: &str = r#"(?:"(?:[^"\\]|\\.)*"?|'[^'\n]*'?|\[[^\]]*\]?|\S+)"#;

/// Variables of an `Environment=` that hold no secret, but for a password in a URL.
const OPEN: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "NOTIFY_SOCKET",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "GOGC",
    "GOMAXPROCS",
];

/// A value without secrets. There is no other way to one than [`Masked::of`].
#[derive(Clone, Debug)]
pub struct Masked<T>(T);

impl<T: Serialize + DeserializeOwned> Masked<T> {
    /// Masks every text in it, and every value whose key says that it is a secret.
    pub fn of(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::from_value(masked(serde_json::to_value(
            value,
        )?))?))
    }

    /// To show that the tests would see what is not masked.
    #[cfg(test)]
    pub fn not(value: T) -> Self {
        Self(value)
    }
}

impl<T> std::ops::Deref for Masked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(mask(&text)),
        Value::Array(list) => list.into_iter().map(masked).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let is_secret = value.is_string() && whole(&KEYS, &key);
                let value = if is_secret {
                    MASK.into()
                } else {
                    masked(value)
                };
                (mask(&key), value)
            })
            .collect(),
        other => other,
    }
}

fn whole(pattern: &Regex, text: &str) -> bool {
    pattern.find(text).is_some_and(|m| m.len() == text.len())
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of ours; a test uses each")
}

static KEYS: LazyLock<Regex> = LazyLock::new(|| regex(&format!("(?i){KEY}")));

/// `key: value` and `key = value` of any language, with or without quotes.
static PAIRS: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r#"(?i)(["']?\b{KEY}["']?\s*(?:=>|[:=])[ \t]*){VALUE}"#
    ))
});

/// `--token abc`; with an equals sign it is a pair.
static FLAGS: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)(--?[\w-]*(?:password|secret|token|credential|api-key)[\w-]*[ \t]+)[^\s-]\S*")
});

/// `-e NAME=value`
static ENV_FLAGS: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"((?:^|\s)(?:-e|--env)[= \t]["']?)(\w+)=("[^"]*"?|'[^']*'?|\S*)"#));

/// HTTP headers that a client is told to send.
static HEADERS: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?i)("(?:HttpHeaders|header)"\s*:\s*)\{[^}]*\}?"#));

static SCHEMES: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)\b(bearer|basic|negotiate)[ \t]+[A-Za-z0-9+/=._~-]{6,}"));

/// Tokens that are known by their form.
static FORMS: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?",
        r"|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|dckr_pat_[\w-]{16,}",
        r"|nvapi-[\w-]{16,}|hf_\w{20,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}",
        r"|A[KS]IA[0-9A-Z]{16}|K10[0-9a-f]{32,}(?:::\S+)?",
        r"|LS0tLS1CRUdJTi[A-Za-z0-9+/=\s]*",
    ))
});

/// A private key; where the text ends in the middle, to its end.
static KEY_BLOCKS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z)",
    )
});

/// The rest of one whose beginning was cut off.
static KEY_RESTS: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?s)(?:[A-Za-z0-9+/=]+\s+)*[A-Za-z0-9+/=]*\s*-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----",
    )
});

/// A text without passwords, tokens and keys.
pub fn mask(text: &str) -> String {
    let text = KEY_BLOCKS.replace_all(text, MASK);
    let text = KEY_RESTS.replace_all(&text, MASK);
    let text = lines(&text);
    let text = HEADERS.replace_all(&text, format!("${{1}}\"{MASK}\""));
    let text = SCHEMES.replace_all(&text, format!("${{1}} {MASK}"));
    let text = PAIRS.replace_all(&text, pair);
    let text = FLAGS.replace_all(&text, format!("${{1}}{MASK}"));
    let text = ENV_FLAGS.replace_all(&text, format!("${{1}}${{2}}={MASK}"));
    urls(&FORMS.replace_all(&text, MASK))
}

/// As it is written, so that what is left is still of its language.
fn pair(found: &Captures<'_>) -> String {
    let (whole, key) = (&found[0], &found[1]);
    let value = &whole[key.len()..];
    let quote = match value.as_bytes().first() {
        Some(b'"') => "\"",
        Some(b'\'') => "'",
        // A list or a table begins here: its own keys say what is secret.
        Some(b'{') => return whole.to_owned(),
        Some(b'[') => return format!("{key}[\"{MASK}\"]"),
        _ => {
            // What closes the string or the list that the pair stands in.
            let end = value
                .trim_end_matches(['"', '\'', ']', ')', '}', ','])
                .len();
            return format!("{key}{MASK}{}", &value[end..]);
        }
    };
    format!("{key}{quote}{MASK}{quote}")
}

/// What only the place of a line tells: a unit's environment, a table of headers, a text below
/// its key.
fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_headers = false;
    let mut continued = false;
    // Lines deeper than this belong to a secret key.
    let mut block: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        let depth = line.len() - line.trim_start().len();
        if let Some(key) = block {
            if trimmed.is_empty() || depth > key {
                continue;
            }
            block = None;
        }
        let is_environment = trimmed.starts_with("Environment=") || continued;
        continued = is_environment && trimmed.ends_with('\\');
        if trimmed.starts_with('[') {
            let name = trimmed.trim_matches(['[', ']']);
            in_headers = matches!(name.rsplit('.').next(), Some("header" | "auth"));
        }
        let end = if line.ends_with('\n') { "\n" } else { "" };
        match trimmed.split_once(['=', ':']) {
            _ if is_environment => {
                out.push_str(&environment(line));
                continue;
            }
            Some((key, _)) if in_headers && !trimmed.starts_with(['#', '[']) => {
                out.push_str(&format!("{key}= \"{MASK}\"{end}"));
                continue;
            }
            Some((key, value))
                if is_block(value) && whole(&KEYS, key.trim().trim_matches(['"', '\''])) =>
            {
                block = Some(depth);
                out.push_str(&format!("{}{key}: {MASK}{end}", &line[..depth]));
                continue;
            }
            // A line of YAML: without quotes a value goes on over spaces.
            Some((key, value)) if is_bare(value) && whole(&KEYS, key.trim_start_matches("- ")) => {
                out.push_str(&format!("{}{key}: {MASK}{end}", &line[..depth]));
                continue;
            }
            _ => {}
        }
        out.push_str(line);
    }
    out
}

/// How YAML says that the text is in the lines below, and TOML that it goes on there.
fn is_block(value: &str) -> bool {
    value.trim_start().starts_with(['|', '>'])
}

fn is_bare(value: &str) -> bool {
    let first = value.strip_prefix(' ').map(str::trim_start);
    first.is_some_and(|v| !v.is_empty() && !v.starts_with(['"', '\'', '[', '{', '=']))
}

/// The values of a unit's environment, but for those that are known to be none of a secret.
fn environment(line: &str) -> String {
    // Quoted as a whole, a value goes on over spaces; else to the first that is not quoted.
    static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
        regex(concat!(
            r#"("[A-Za-z_]\w*)=(?:[^"\\\n]|\\.)*"#,
            r"|('[A-Za-z_]\w*)=[^'\n]*",
            r#"|([A-Za-z_]\w*)=(?:"(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|[^"'\s])*"#,
        ))
    });
    let (head, rest) = match line.split_once("Environment=") {
        Some((head, rest)) => (format!("{head}Environment="), rest),
        None => (String::new(), line),
    };
    let replaced = ASSIGNED.replace_all(rest, |found: &Captures<'_>| {
        let name = (1..=3)
            .find_map(|n| found.get(n))
            .map_or("", |m| m.as_str());
        let bare = name.trim_start_matches(['"', '\'']);
        if OPEN.contains(&bare.to_ascii_uppercase().as_str()) {
            return found[0].to_owned();
        }
        format!("{name}={MASK}")
    });
    head + &replaced
}

/// `http://user:password@proxy`, also where the password has letters that it should not.
fn urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'))
            .unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        match word.rfind('@') {
            Some(at) if !word[at..].starts_with("@sha256:") => {
                out.push_str(MASK);
                out.push_str(&word[at..]);
            }
            _ => out.push_str(word),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each with what must go, marked by `«»`.
    const TEXTS: &[&str] = &[
        "{\"proxies\": {\"http-proxy\": \"http://«user:pa/ss»@proxy:3128\"}}",
        "proxy=http://«u:p,w»@h:1/x and http://open/",
        "{\"auths\": {\"nvcr.io\": {\"auth\": \"«JG9hdXRo»\"}}}",
        "{\"identitytoken\": \"«a\\\"b c»\", \"HttpHeaders\": {\"X-Meta\": \"«m»\"}}",
        "[plugins.x.registry.configs.\"r\".auth]\n  username = \"«u»\"\n  password = '«p w»'\n  other = \"«o»\"\n[debug]\n  level = \"info\"",
        "[host.\"https://r\".header]\n  X-Custom = [\"«c1»\", \"«c2»\"]\n",
        "authorization = [\n  \"Basic «abcdefgh»\",\n]",
        "  auth:\n    username: «u»\n    password: «p»\n    auth: «a»\n",
        "password: «two» «words»\nuser: x\n",
        "  - token: «a,b c»\n",
        "default_env = [\"NGC_API_KEY=«a,b»\", \"X=1\"]",
        "PASSWORD=«a;b,c&d\"e» after\n",
        "token: |\n  «line1»\n  «line2»\nnext: 1\n",
        "Environment=\"FOO=«a b»\" BAR=«c» \"PATH=/usr/bin\" BAZ='«d e»'\n",
        "Environment=PLAIN=«x» NVIDIA_VISIBLE_DEVICES=all \\\n  MORE=«y»\n",
        "Environment=HTTPS_PROXY=http://«u:p»@proxy\n",
        "Environment=FOO='«a»'«tail1» BAR=«x»\"«y z»\" \"BAZ=«q\\\"r»\"\n",
        "ExecStart=/usr/bin/k3s agent --token «K1» --node-name a --registry-password=«x»\n",
        "docker run -e KEY=«v» --env='DB=«w»' image",
        "-----BEGIN RSA PRIVATE KEY-----\n«MIIEabc»\n-----END RSA PRIVATE KEY-----\nafter",
        "«MIIEabc»\n«MIIEdef==»\n-----END PRIVATE KEY-----\nafter",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n«b3BlbnNz»",
        "client-key-data: «LS0tLS1CRUdJTiBSU0E»\n",
        "X «LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt»",
        "Authorization: Bearer «eyJhbGciOiJIUzI1NiJ9.eyJzdWIifQ.c2ln»",
        "pulled with «nvapi-0123456789abcdefXYZ» and «ghp_0123456789abcdefghij»",
        "level=error msg=\"login\" password=«hunter2» user=x",
        "AWS_SECRET_ACCESS_KEY=«abc/def+g»\nAWS_ACCESS_KEY_ID=«AKIAIOSFODNN7EXAMPLE»",
    ];

    #[test]
    fn secrets_go_and_what_stands_beside_them_stays() {
        for marked in TEXTS {
            let text = marked.replace(['«', '»'], "");
            let masked = mask(&text);
            for secret in marked.split('«').skip(1) {
                let (secret, after) = secret.split_once('»').unwrap();
                assert!(
                    secret.len() < 2 && masked.contains(MASK) || !masked.contains(secret),
                    "{secret:?} is still in {masked}"
                );
                // A password that is left in part is found out by the rest of it.
                assert!(
                    secret.len() > 1 || !masked.contains(&format!("\"{secret}\"")),
                    "{masked}"
                );
                let _ = after;
            }
            assert_eq!(mask(&masked), masked, "a second mask changes it");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "{\"passed\": [\"driver-missing\"], \"author\": \"x\", \"tlskey\": \"/etc/key.pem\"}",
            "image nvcr.io/nvidia/cuda@sha256:0123 docker://nvcr.io/x@sha256:0123",
            "Environment=\"PATH=/usr/lib/gpu-container/bin:/usr/bin\"\n",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"x\"\n",
            "  SystemdCgroup = true\n  BinaryName = \"/usr/bin/gpu-container-runtime\"\n",
            "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.",
            "ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock\n",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Half a file, a binary, whatever: no panic, and a second mask finds nothing more.
        #[test]
        fn any_text_can_be_masked(text in r#"([a-z]{0,6}|password|token|Environment=|://|@|"|'|\[|\]|\{|=|: |\n|\\\\|-----BEGIN PRIVATE KEY-----|«|\PC){0,40}"#) {
            let masked = mask(&text);
            prop_assert_eq!(mask(&masked), masked);
        }

        /// Whatever a password is made of, it goes from where passwords usually stand.
        #[test]
        fn any_password_goes(secret in "[A-Za-z0-9!#$%*+,.:;=?^_~/-]{8,24}") {
            for text in [
                format!("{{\"password\": \"{secret}\"}}"),
                format!("password = '{secret}'\n"),
                format!("  password: {secret}\n"),
                format!("http://user:{secret}@proxy:3128/"),
                format!("Environment=\"X={secret}\"\n"),
                format!("Environment=X={secret}\n"),
            ] {
                prop_assert!(!mask(&text).contains(&secret), "{} of {}", mask(&text), text);
            }
        }
    }
}
