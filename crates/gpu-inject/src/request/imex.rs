//! Which IMEX channels are asked for.

use std::collections::HashSet;

use crate::error::Error;

/// The IMEX channels asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Imex {
    /// None.
    #[default]
    None,
    /// Every channel of the host.
    All,
    /// Those of these numbers.
    Listed(Vec<u32>),
}

/// A channel is the minor of a device number (nvidia-container-toolkit
/// `pkg/nvcdi/lib-imex.go`: 20 bits).
const HIGHEST: u32 = (1 << 20) - 1;

/// `N`, `channelN` and `all`; nothing, `void` and `none` ask for none.
///
/// `all` counts from the variable too. nvidia-container-toolkit drops it there, because a
/// default of its own could put it there (pytorch/test-infra #5852); here a variable that
/// is not set asks for nothing.
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
                // As many as an image likes: not compared with all before it.
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

    fn of(text: &str) -> Result<Imex, Error> {
        read(text.split(','))
    }

    #[test]
    fn channels_by_number_by_name_and_all() {
        assert_eq!(of("").unwrap(), Imex::None);
        assert_eq!(of("none").unwrap(), Imex::None);
        assert_eq!(
            of("0, channel7,7,1048575").unwrap(),
            Imex::Listed(vec![0, 7, 1_048_575])
        );
        assert_eq!(of("3,all").unwrap(), Imex::All);
        assert_eq!(of("channelall").unwrap(), Imex::All);
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
            assert!(matches!(of(text), Err(Error::ImexChannel(_))), "{text}");
        }
    }
}
