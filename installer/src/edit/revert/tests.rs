//! Tests of reverting changes of every kind.

use super::*;
use crate::error::edit_error::EditError;
use crate::model::change::MergeKind;

fn change(before: Option<&str>, after: Option<&str>, kind: MergeKind) -> Change {
    Change {
        path: "/a".into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        mode: 0o644,
        why: String::new(),
        kind,
    }
}

/// What is no longer ours is left alone, and a file that we removed is restored only if nobody has
/// created it since.
#[test]
fn only_our_changes_to_a_file_are_reverted() {
    let back = |done: &Change, now: Option<&str>| {
        revert(done, now).map(|text| text.unwrap_or("none".into()))
    };
    let text = |text: &str| Ok(text.to_owned());
    let own = change(Some("before"), Some("ours"), MergeKind::Own);
    assert_eq!(back(&own, Some("ours")), text("before"));
    assert!(matches!(
        revert(&own, Some("theirs")),
        Err(EditError::Conflict(_))
    ));
    assert_eq!(back(&own, None), text("none"));
    let added = change(None, Some("ours"), MergeKind::Own);
    assert_eq!(back(&added, Some("ours")), text("none"));
    let removed = change(Some("before"), None, MergeKind::Own);
    assert_eq!(back(&removed, None), text("before"));
    assert_eq!(back(&removed, Some("theirs")), text("theirs"));

    // Every boot makes it again, so none of its text is the user's.
    assert_eq!(
        back(
            &change(None, Some("spec"), MergeKind::Generated),
            Some("newer")
        ),
        text("none")
    );
    assert_eq!(
        back(
            &change(None, Some("/to"), MergeKind::Link),
            Some("/elsewhere")
        ),
        text("/elsewhere")
    );

    let json = MergeKind::Json {
        keys: vec![vec!["runtimes".into(), "nvidia".into()], vec!["a".into()]],
    };
    let ours = r#"{"a": 2, "runtimes": {"nvidia": 1}}"#;
    let edited = change(Some(r#"{"a": 1}"#), Some(ours), json);
    let since = r#"{"a": 2, "runtimes": {"nvidia": 1, "other": 3}, "theirs": true}"#;
    let reverted: serde_json::Value =
        serde_json::from_str(&back(&edited, Some(since)).unwrap()).unwrap();
    assert_eq!(
        reverted,
        serde_json::json!({"a": 1, "runtimes": {"other": 3}, "theirs": true})
    );
    let conflict = back(&edited, Some(r#"{"a": 9, "runtimes": {"nvidia": 1}}"#));
    assert_eq!(conflict, Err(EditError::Conflict("a".into())));
}
