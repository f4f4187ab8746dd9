//! Follows sentences that announce a secret some words before it: `the password for bob is …`.

/// What the sentence has said so far about a secret that may follow.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Promise {
    /// How many more words to wait for the secret.
    words: u8,
    /// Whether it said whose secret it is: `for bob`.
    whose: bool,
    /// Whether it said that the secret was set or changed.
    set: bool,
}

/// How many words may come between: `The new password for the user bob of this host is`.
const WORDS: u8 = 9;

impl Promise {
    /// The state after a word such as `password`.
    pub(in super::super) fn of_secret() -> Self {
        Self {
            words: WORDS,
            ..Self::default()
        }
    }

    /// Reads the next word. Returns whether it is the last one before the secret.
    pub(super) fn keeps(&mut self, word: &str, ends_in_colon: bool) -> bool {
        if self.words == 0 {
            return false;
        }
        self.words -= 1;
        match word {
            "for" | "of" => self.whose = true,
            "set" | "reset" | "changed" | "updated" => self.set = true,
            _ => {}
        }
        match word {
            "is" | "was" | "->" | "\u{2192}" => true,
            "to" | "from" => self.set,
            _ => ends_in_colon && self.whose,
        }
    }
}
