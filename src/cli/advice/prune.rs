//! Cleaning up: what stops it is mostly damage, of which verifying tells more.

use crate::cli::advice::Advice;
use crate::model::outcome::{Ended, Outcome};
use crate::ops::prune::PruneError;

impl Advice for PruneError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            PruneError::Access(_) => "cleaning up needs a passphrase that can read everything",
            PruneError::Store(error) => return error.hint(),
            PruneError::NewestKeyring(error) => return error.hint(),
            PruneError::Keyring | PruneError::Contended(_) | PruneError::Unlisted(_) => "run it again",
            PruneError::Cache => "run it again: the index is fetched anew",
            PruneError::Forgotten(_) => {
                "`coffre forget --accept-missing-records` gives up what cannot be read of the records; until then nothing is removed"
            }
            PruneError::Busy => "it goes on by itself; nothing is to be removed by hand",
            PruneError::Doomed { .. } => {
                "run it again where that one ran, or after 30 days: lists of clean-ups that ended count for no longer"
            }
            PruneError::Cancelled => return None,
            _ if self.outcome() == Outcome::Damaged => {
                "`coffre verify` tells what is damaged and which snapshots it hits; nothing is deleted until it is whole or removed"
            }
            _ => return None,
        };
        Some(hint.into())
    }
}
