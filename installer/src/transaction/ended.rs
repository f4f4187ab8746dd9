//! The result of a run that was carried out: what is not as it should be, for the last line, the document and the exit
//! code.

use crate::error::exit::Exit;
use crate::error::still_down::{self, StillDown};
use crate::model::skipped::{self, Skipped};
use crate::verify;

/// The result of a run that was carried out.
#[derive(Debug, Default)]
pub struct Ended {
    /// The results of the containers, if they were asked for.
    pub outcome: verify::Outcome,
    /// Containers that ran before a restart and do not run again.
    pub down: Vec<StillDown>,
    /// Engines that were left as they were.
    pub skipped: Vec<Skipped>,
    /// What must be done by hand for an engine that was rolled back and does not run as before.
    pub left: Vec<String>,
    /// What an earlier run, which died, has left to be done by hand.
    pub left_earlier: Vec<String>,
}

impl Ended {
    /// The exit code of the command.
    pub fn exit(&self) -> Exit {
        if !self.left.is_empty() {
            Exit::RollbackIncomplete
        } else if !self.down.is_empty() {
            Exit::ContainersDown
        } else {
            let is_whole = self.skipped.is_empty() && self.left_earlier.is_empty();
            Exit::if_partly(!is_whole || !self.outcome.not_verified.is_empty())
        }
    }

    /// What is not as it should be, apart from the engines that were left as they were, each as the part of a
    /// sentence that begins with `Set up, but`.
    pub fn shortfalls(&self) -> Vec<String> {
        let reasons = self.outcome.reasons().join("; ");
        let earlier = self.left_earlier.join("; ");
        let mut all = Vec::new();
        if !reasons.is_empty() {
            all.push(format!("not verified: {reasons}"));
        }
        if !self.down.is_empty() {
            all.push(still_down::with_command(&self.down));
        }
        if !earlier.is_empty() {
            all.push(format!("an earlier run has left this to do: {earlier}"));
        }
        all
    }

    /// All that is not as it should be, in one line; `None` if there is nothing.
    pub fn message(&self) -> Option<String> {
        let mut all = self.shortfalls();
        if !self.skipped.is_empty() {
            let skipped = skipped::listed(&self.skipped);
            all.insert(0, format!("left as it was: {skipped}"));
        }
        (!all.is_empty()).then(|| all.join("; and "))
    }

    /// What to do about it, each in a line.
    pub fn fixes(&self) -> Vec<String> {
        let of_skipped = self.skipped.iter().filter_map(|s| s.fix.clone());
        let by_hand = self.left.iter().map(|one| format!("by hand: {one}"));
        of_skipped.chain(by_hand).collect()
    }
}
