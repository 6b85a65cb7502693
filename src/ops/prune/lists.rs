//! Putting lists of cleaning up, and remembering those that stand for as long as this machine is not done with them.

use std::time::Duration;

use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::DomainId;
use crate::model::key::ObjectKey;
use crate::model::time::Timestamp;
use crate::ops::prune::{CleanUp, PruneError};
use crate::progress::Problem;
use crate::repository::state::LeftLists;

/// Times that a list is put because others got the same number.
const ATTEMPTS: u64 = 8;

impl CleanUp<'_> {
    /// Returns the time that a list is made at, to the second.
    pub(super) fn made(&self) -> Timestamp {
        Timestamp::from_seconds(self.options.clock.now().seconds)
    }

    /// Puts a list that says `what`, stands in the place of those that are `gone` and has a number of its own; it is among both `gone`
    /// and the lists `noted` afterwards, and among those that this machine remembers before it is there. Returns its name and when it was made.
    pub(super) async fn put_alone(
        &self,
        domain: DomainId,
        what: &CleanupList,
        gone: &mut Vec<CleanupId>,
        (left, noted): (LeftLists, &mut Vec<CleanupId>),
    ) -> Result<(CleanupId, Timestamp), PruneError> {
        self.put_numbered(domain, what, gone, |id| {
            noted.push(id);
            self.note_left(left, noted);
        })
        .await
    }

    /// Does the same, and calls `note` with the name of each list before it is there.
    pub(super) async fn put_numbered(
        &self,
        domain: DomainId,
        what: &CleanupList,
        gone: &mut Vec<CleanupId>,
        mut note: impl FnMut(CleanupId),
    ) -> Result<(CleanupId, Timestamp), PruneError> {
        for attempt in 1..=ATTEMPTS {
            let (id, before) = self.deleting.repository().cleanups().await?.behind_newest(domain);
            note(id);
            let made = self.made();
            let list = CleanupList { made, gone: [what.gone.clone(), names(gone)].concat(), before, ..what.clone() };
            self.deleting.writing().put_list(domain, id, &list).await?;
            gone.push(id);
            let cleanups = self.deleting.repository().cleanups().await?;
            if !cleanups.has(id) {
                // The next list would get the same number.
                return Err(PruneError::Unlisted(id));
            }
            if !cleanups.is_shared(domain, id.counter) {
                return Ok((id, made));
            }
            // Whoever put the other one goes on at another time.
            tokio::time::sleep(Duration::from_millis(attempt * u64::from(id.random[0]))).await;
        }
        Err(PruneError::Contended(domain))
    }

    /// Remembers the lists that stand if this run ends now.
    pub(super) fn note_left(&self, left: LeftLists, lists: &[CleanupId]) {
        if let Err(error) = self.deleting.repository().state().note_left(left, lists) {
            let follows = match left {
                LeftLists::Dooming => "what it dooms stays doomed for weeks",
                LeftLists::Removing => "objects of removed snapshots stay",
                LeftLists::Removed => "lists of removed snapshots stay for weeks",
            };
            let message = format!("cannot be written ({error}): if this run is cut off, {follows}");
            self.monitor.note(Problem::advice("the state directory", message));
        }
    }
}

/// Returns the names of lists.
pub(super) fn names(lists: &[CleanupId]) -> Vec<String> {
    lists.iter().map(|list| ObjectKey::cleanup(*list).to_string()).collect()
}
