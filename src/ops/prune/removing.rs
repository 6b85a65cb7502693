//! Removing what was forgotten longer ago than the grace time, before anything else is looked at.
//!
//! A list names the snapshots. When it is durable it is asked once more whether somebody brought one back or holds it: whoever does
//! that reads lists behind the record, so one of the two sees the other. Only then their objects go. This machine remembers its lists
//! until that is done; where a run was cut off, the next one asks again and goes on. Nobody else acts upon them.

use std::collections::BTreeSet;

use crate::model::cleanup::{CleanupId, CleanupList, RemovedSnapshot};
use crate::model::snapshot::SnapshotId;
use crate::ops::prune::{CleanUp, PruneError, PruneReport, PruneUnfinished};
use crate::repository::deleting::was_too_long_ago;
use crate::repository::state::LeftLists;

impl CleanUp<'_> {
    /// Returns the snapshots that are to be removed now.
    pub(super) async fn expired(&self) -> Result<Vec<RemovedSnapshot>, PruneError> {
        self.monitor.phase("looking what was forgotten");
        Ok(self.deleting.expired(self.options.clock.now(), self.options.grace).await?.snapshots)
    }

    /// Removes snapshots that have expired, and what an earlier run of this machine left.
    pub(super) async fn remove(
        &self,
        expired: Vec<RemovedSnapshot>,
        report: &mut PruneReport,
    ) -> Result<(), PruneError> {
        self.monitor.phase("removing what was forgotten");
        let mut own = self.deleting.repository().state().left(LeftLists::Removing);
        if !expired.is_empty() {
            self.put_removal(expired, &[], &mut own).await?;
        }
        if own.is_empty() {
            return Ok(());
        }
        let (removals, unseen) = self.deleting.removals(&own).await?;
        let there: Vec<RemovedSnapshot> = removals.iter().flat_map(|removal| removal.there.iter().copied()).collect();
        let now = self.options.clock.now();
        let kept = self.deleting.kept_meanwhile(&there, now, self.options.grace).await?;
        let kept: BTreeSet<SnapshotId> = kept.iter().map(|removed| removed.id).collect();
        if !kept.is_empty() {
            // What else they name stays named.
            let names_kept = |removed: &RemovedSnapshot| kept.contains(&removed.id);
            let wrong = removals.iter().filter(|removal| removal.named.iter().any(names_kept));
            let lists: Vec<CleanupId> = wrong.clone().map(|removal| removal.list).collect();
            let others = wrong.flat_map(|removal| removal.named.iter().copied());
            self.put_removal(others.filter(|removed| !names_kept(removed)).collect(), &lists, &mut own).await?;
        }
        for removed in there.iter().filter(|removed| !kept.contains(&removed.id)) {
            if self.cancel.is_cancelled() {
                return Err(PruneError::Cancelled);
            }
            // By then the list may have been told again by another one, and whoever keeps a snapshot takes none of that for in force.
            if was_too_long_ago(now, self.options.clock.now()) {
                report.unfinished = Some(PruneUnfinished::TooLate);
                return Ok(());
            }
            self.deleting.remove_snapshot(removed).await?;
            report.removed_snapshots += 1;
        }
        self.note_left(LeftLists::Removing, &unseen);
        let mut done = self.deleting.repository().state().left(LeftLists::Removed);
        done.extend(own.into_iter().filter(|list| !unseen.contains(list)));
        self.note_left(LeftLists::Removed, &done);
        Ok(())
    }

    /// Puts a list that names `removed`, in the place of the lists `instead_of`; it is among `own` afterwards.
    async fn put_removal(
        &self,
        removed: Vec<RemovedSnapshot>,
        instead_of: &[CleanupId],
        own: &mut Vec<CleanupId>,
    ) -> Result<(), PruneError> {
        let domain = self.deleting.domain_of_removals()?;
        let list = CleanupList { removed, ..CleanupList::default() };
        self.put_alone(domain, &list, &mut instead_of.to_vec(), (LeftLists::Removing, own)).await?;
        Ok(())
    }
}
