//! Reads from config.json what it guarantees about a container's mounts.

use super::config_view::{ContainerView, has_hidden_letters};
use super::scan::{Scan, ScannedMount};
use super::words;

/// Facts about the container's mounts from config.json, which save examining each mount. The file is the engine's,
/// not the image's. If a fact is not stated, each mount has to be examined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// /dev is a tmpfs that the runtime makes for this container.
    pub own_dev: bool,
    /// No mount of the container has shared propagation: neither a volume nor its root.
    pub no_shared_mounts: bool,
}

impl Arrangement {
    /// [`ContainerView::has_own_dev`] of a text. If the text is in the form that engines write, most of it is not
    /// parsed.
    pub fn has_own_dev(text: &[u8]) -> bool {
        let mut named = words::places(text, br#""/dev""#);
        if let (true, Some(at), None) = (is_plain(text), named.next(), named.next()) {
            let (before, after) = text.split_at(at);
            let start = before.iter().rposition(|byte| *byte == b'{');
            let end = after.iter().position(|byte| *byte == b'}');
            let object = start.zip(end).map(|(start, end)| &text[start..=at + end]);
            if let Some(Ok(mount)) = object.map(serde_json::from_slice::<ScannedMount<'_>>) {
                let mounts = Some(vec![mount]);
                let alone = Scan {
                    mounts,
                    ..Scan::default()
                };
                return ContainerView::of(&alone).has_own_dev();
            }
        }
        Scan::read(text).is_some_and(|scan| ContainerView::of(&scan).has_own_dev())
    }

    /// Whether no mount is shared, which is certain if the word occurs nowhere in the text. Runtimes share no mount
    /// by default (runc uses `rslave`, crun `private`).
    pub fn has_no_shared_mounts(text: &[u8]) -> bool {
        // A letter of the word may be written as an escape.
        !words::has(text, b"shared") && !has_hidden_letters(text)
    }
}

/// Whether every mention of /dev can be found by searching for the name: the text has no escapes and no unusual
/// paths.
fn is_plain(text: &[u8]) -> bool {
    let odd = [br"\".as_slice(), b"//", b"dev/\"", b"\"dev\""];
    let dots = [b"/..", b"/./", b"/.\""];
    let has_dots = || words::has(text, b"/.") && dots.iter().any(|way| words::has(text, *way));
    !odd.iter().any(|way| words::has(text, way)) && !has_dots()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_dev_is_distinguished_from_a_users() {
        let own = r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]}"#;
        let other = r#"{"destination":"/data","type":"bind","source":"/d","options":["rbind"]}"#;
        for (mounts, wanted) in [
            (own.to_owned(), true),
            (format!("{other},{own}"), true),
            (other.to_owned(), false),
            (own.replace("tmpfs\",\"source", "bind\",\"source"), false),
            (own.replace("nosuid", "rbind"), false),
            (own.replace("\"/dev\"", "\"/dev/\""), false),
            (format!("{own},{}", other.replace("/data", "/dev")), false),
            (
                format!("{own},{}", other.replace("/data", "/x/../dev/.")),
                false,
            ),
            (
                format!("{own},{}", other.replace("\"destination\":\"/data\",", "")),
                true,
            ),
            (
                format!("{own},{}", other.replace("/data", "/dev/shm")),
                true,
            ),
        ] {
            let text = format!(r#"{{"mounts":[{mounts}]}}"#);
            let scan = Scan::read(text.as_bytes()).unwrap();
            assert_eq!(ContainerView::of(&scan).has_own_dev(), wanted, "{text}");
            assert_eq!(Arrangement::has_own_dev(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn a_text_that_says_shared_anywhere_promises_nothing() {
        for (text, wanted) in [
            (r#"{"options":["rbind","rprivate"]}"#, true),
            (r#"{"options":["rbind","rshared"]}"#, false),
            (r#"{"linux":{"rootfsPropagation":"shared"}}"#, false),
            (r#"{"options":["rs\u0068ared"]}"#, false),
        ] {
            assert_eq!(
                Arrangement::has_no_shared_mounts(text.as_bytes()),
                wanted,
                "{text}"
            );
        }
    }
}
