//! Reads which IMEX channels a container requests.

use std::collections::HashSet;

use crate::error::Error;

/// The IMEX channels that a container requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Imex {
    /// None.
    #[default]
    None,
    /// Every channel of the host.
    All,
    /// The channels with these numbers.
    Listed(Vec<u32>),
}

/// The highest channel. A channel is a device's minor number, which has 20 bits
/// (nvidia-container-toolkit `pkg/nvcdi/lib-imex.go`).
const HIGHEST: u32 = (1 << 20) - 1;

/// Reads `N`, `channelN` and `all`. An empty list, `void` and `none` request no channel.
///
/// `all` is accepted from the variable too. nvidia-container-toolkit ignores it there, because its
/// own default could be the reason for it (pytorch/test-infra #5852). Here a variable that is not
/// set requests nothing.
pub(super) fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Imex, Error> {
    let mut channels = Vec::new();
    let mut seen = HashSet::new();
    for word in words {
        let word = word.trim();
        let id = word.strip_prefix("channel").unwrap_or(word);
        match id {
            "" if id == word => {}
            "void" | "none" => return Ok(Imex::None),
            "all" => return Ok(Imex::All),
            _ => {
                let number = Some(id)
                    .filter(|id| id.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|id| id.parse::<u32>().ok())
                    .filter(|n| *n <= HIGHEST)
                    .ok_or_else(|| Error::ImexChannel(word.into()))?;
                // An image may list any number, so duplicates are found by hash instead of comparing all.
                if seen.insert(number) {
                    channels.push(number);
                }
            }
        }
    }
    Ok(if channels.is_empty() {
        Imex::None
    } else {
        Imex::Listed(channels)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Imex, Error> {
        read(text.split(','))
    }

    #[test]
    fn channels_by_number_by_name_and_all() {
        assert_eq!(parse("").unwrap(), Imex::None);
        assert_eq!(parse("none").unwrap(), Imex::None);
        assert_eq!(
            parse("0, channel7,7,1048575").unwrap(),
            Imex::Listed(vec![0, 7, 1_048_575])
        );
        assert_eq!(parse("3,all").unwrap(), Imex::All);
        assert_eq!(parse("channelall").unwrap(), Imex::All);
    }

    #[test]
    fn a_channel_beyond_the_device_number_or_with_a_path_is_refused() {
        for text in [
            "1048576",
            "-1",
            "+1",
            "../../x",
            "0/../1",
            "channel",
            "99999999999999999999",
        ] {
            assert!(matches!(parse(text), Err(Error::ImexChannel(_))), "{text}");
        }
    }
}
