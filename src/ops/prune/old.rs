//! Removing what tells nothing any more, behind everything else.

use crate::ops::prune::{CleanUp, PruneError};
use crate::repository::expired::ExpiredError;

impl CleanUp<'_> {
    /// Removes records that later ones tell again, those of runs that are very old, leases of sessions that were given up, what is left of removed snapshots,
    /// and lists that another one tells again.
    pub(super) async fn remove_old(&self) -> Result<u64, PruneError> {
        self.monitor.phase("removing what is old");
        let (deleting, now) = (self.deleting, self.options.clock.now());
        let retention = deleting.retention().await.map_err(ExpiredError::from)?;
        let mut removed = deleting.remove_old_retention(&retention, now).await.map_err(ExpiredError::from)? as u64;
        removed += deleting.remove_old_verifications().await?;
        removed += deleting.remove_old_runs(now).await? as u64;
        removed += deleting.remove_leases_of_given_up().await?;
        removed += deleting.remove_left_behind_snapshots(now).await?;
        removed += deleting.remove_lists_told_again(now).await?;
        Ok(removed)
    }
}
