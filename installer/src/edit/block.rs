//! Edits lines of ours between two marker lines, in a text of any language. It is used for
//! templates, which cannot be parsed as the language that they produce.

use std::ops::Range;

use crate::error::edit_error::EditError;

/// Replaces the lines between the markers, or adds them at the end.
pub fn set(text: &str, begin: &str, end: &str, lines: &str) -> Result<String, EditError> {
    let block = format!("{begin}\n{}\n{end}\n", lines.trim_end());
    if let Some(range) = find(text, begin, end)? {
        let mut made = text.to_owned();
        made.replace_range(range, &block);
        return Ok(made);
    }
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Ok(format!("{text}{gap}{block}"))
}

/// The range of our lines, including both markers.
pub fn find(text: &str, begin: &str, end: &str) -> Result<Option<Range<usize>>, EditError> {
    let mut at = 0;
    let mut from = None;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        match (line.trim(), from) {
            (l, None) if l == begin => from = Some(at),
            (l, Some(from)) if l == end => return Ok(Some(from..next)),
            (l, _) if l == begin || l == end => return Err(unpaired(begin, end)),
            _ => {}
        }
        at = next;
    }
    match from {
        None => Ok(None),
        Some(_) => Err(unpaired(begin, end)),
    }
}

fn unpaired(begin: &str, end: &str) -> EditError {
    EditError::syntax(format!("the lines {begin:?} and {end:?} are not in pairs"))
}

pub(super) fn remove(
    current: &str,
    after: &str,
    begin: &str,
    end: &str,
) -> Result<String, EditError> {
    let Some(range) = find(current, begin, end)? else {
        return Ok(current.to_owned());
    };
    let ours = find(after, begin, end)?.map(|r| after[r].trim_end());
    if ours != Some(current[range.clone()].trim_end()) {
        return Err(EditError::Conflict(format!("what follows {begin:?}")));
    }
    let mut made = current.to_owned();
    made.replace_range(range, "");
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: &str = "# begin";
    const E: &str = "# end";

    #[test]
    fn a_block_is_added_and_removed() {
        for text in ["", "a\n", "a\nb", "{{ template \"base\" . }}\n\n"] {
            let made = set(text, B, E, "x = 1\n").unwrap();
            assert!(made.starts_with(text) && made.ends_with("# begin\nx = 1\n# end\n"));
            let again = set(&made, B, E, "x = 2").unwrap();
            assert_eq!(again, made.replace("x = 1", "x = 2"));
            let more = format!("{made}user\n");
            let undone = remove(&more, &made, B, E).unwrap();
            let gap = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            assert_eq!(undone, format!("{text}{gap}user\n"));
        }
    }

    #[test]
    fn a_changed_or_broken_block_is_not_removed() {
        let made = set("a\n", B, E, "x = 1").unwrap();
        let changed = made.replace("x = 1", "x = 3");
        assert!(matches!(
            remove(&changed, &made, B, E),
            Err(EditError::Conflict(_))
        ));
        assert_eq!(remove("a\n", &made, B, E), Ok("a\n".into()));
        for bad in [
            "# begin\n",
            "# end\n",
            "# begin\n# begin\n# end\n",
            "# end\n# begin\n",
        ] {
            assert!(set(bad, B, E, "x").is_err(), "{bad}");
        }
    }
}
