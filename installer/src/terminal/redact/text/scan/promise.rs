//! Sentences that name a secret some words before it: `the password for bob is …`.

/// What was said in this sentence that a secret may follow.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Promise {
    /// So many words on, it is forgotten.
    words: u8,
    /// Whose it is was said: `for bob`.
    whose: bool,
    /// That it was set or changed was said.
    set: bool,
}

/// `The new password for the user bob of this host is` and what follows.
const WORDS: u8 = 9;

impl Promise {
    /// A word such as `password` was read.
    pub(in super::super) fn of_secret() -> Self {
        Self {
            words: WORDS,
            ..Self::default()
        }
    }

    /// Whether this word of the sentence is the last before the secret.
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
