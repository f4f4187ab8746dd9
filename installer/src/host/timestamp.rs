//! Formats times as text: RFC 3339 in UTC, so that they sort and need no time zone.

use std::time::{Duration, SystemTime};

use humantime::{Rfc3339Timestamp, format_rfc3339_seconds};

/// The first time whose year has no RFC 3339 form: 10000-01-01T00:00:00Z.
const END: Duration = Duration::from_secs(253_402_300_800);

/// A time to the second. `None` before 1970 and after 9999: a file can have such a time, but the
/// format cannot express it.
pub fn text(at: SystemTime) -> Option<String> {
    formatted(at, format_rfc3339_seconds).map(|text| text.to_string())
}

/// The same with a precision of the caller's choice.
pub fn formatted(
    at: SystemTime,
    form: impl FnOnce(SystemTime) -> Rfc3339Timestamp,
) -> Option<Rfc3339Timestamp> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < END).then(|| form(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_year_has_no_text() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(text(at(0)).as_deref(), Some("1970-01-01T00:00:00Z"));
        let last = Some("9999-12-31T23:59:59Z");
        assert_eq!(text(at(END.as_secs() - 1)).as_deref(), last);
        assert_eq!(text(at(END.as_secs())), None);
        assert_eq!(text(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
    }
}
