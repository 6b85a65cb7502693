//! Merging index segments, behind everything else: what was deleted by then is left out of them.
//!
//! The merged ones are durable first; then a list names those that they replace as gone, and only then these go. Cut off in between,
//! a repository has both, which is no harm, and the next run goes on; so it ends wherever the time that a run may take does.

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::model::cleanup::CleanupList;
use crate::model::id::SegmentId;
use crate::model::key::ObjectKey;
use crate::ops::prune::{CleanUp, PruneError, PruneReport};

/// Segments removed at the same time.
const REMOVED: usize = 8;

impl CleanUp<'_> {
    /// Merges what there is to be merged.
    pub(super) async fn merge_segments(&self, report: &mut PruneReport) -> Result<(), PruneError> {
        self.monitor.phase("merging the index");
        let clock = self.options.clock;
        let merge = self.deleting.segments_to_merge(clock.now(), &**self.monitor).await?;
        if merge.is_empty() {
            return Ok(());
        }
        self.remove_segments(merge.gone().to_vec(), report).await?;
        let ends = || self.is_over() || self.cancel.is_cancelled();
        let done = self.deleting.merge_segments(&merge, || clock.now(), ends).await?;
        report.merged_segments.put = done.put;
        if self.cancel.is_cancelled() {
            return Err(PruneError::Cancelled);
        }
        for (domain, segments) in done.replaced {
            if self.cancel.is_cancelled() {
                return Err(PruneError::Cancelled);
            }
            let gone = segments.iter().map(|id| ObjectKey::segment(*id).to_string()).collect();
            let list = CleanupList { gone, ..CleanupList::default() };
            self.put_numbered(domain, &list, &mut Vec::new(), |_| {}).await?;
            self.remove_segments(segments, report).await?;
        }
        Ok(())
    }

    /// Removes the objects of segments that a durable list names as gone.
    async fn remove_segments(&self, segments: Vec<SegmentId>, report: &mut PruneReport) -> Result<(), PruneError> {
        let removed = stream::iter(segments).map(|id| self.deleting.remove_segment(id));
        let mut removed = removed.buffer_unordered(REMOVED);
        while removed.try_next().await?.is_some() {
            report.merged_segments.replaced += 1;
        }
        Ok(())
    }
}
