//! Coverage: which packs were ever read whole, and since when, over all runs that the repository knows of.

use crate::model::id::PackId;
use crate::model::time::Timestamp;
use crate::repository::ledger::Ledger;

/// How much of the data was read by this run and those before, packs that are damaged or missing left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Packs that no run has read whole.
    pub never_read: u64,
    /// When the pack was read whose reading lies back longest, among those that were read.
    pub oldest: Option<Timestamp>,
    /// Why the repository does not know of what this run read, if it does not.
    pub not_noted: Option<String>,
}

impl Coverage {
    /// Looks up packs in the ledger.
    pub(super) fn of(packs: &[PackId], ledger: &Ledger) -> Self {
        let mut coverage = Self::default();
        for pack in packs {
            match ledger.last_read(*pack) {
                Some(when) => coverage.oldest = Some(coverage.oldest.map_or(when, |oldest| oldest.min(when))),
                None => coverage.never_read += 1,
            }
        }
        coverage
    }
}
