//! Loading the index again while it is read: a clean-up beside a reader may have moved what a pack held, and deleted the pack.
//!
//! What was loaded before stays for readers, behind what is new: a place is tried as long as anybody ever named it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use crate::model::id::SegmentId;
use crate::model::key::ObjectKey;
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::available::{LISTINGS, ListedSegments};
use crate::repository::index::{Index, IndexError};

impl Index {
    /// Lists the segments again and loads what is new. Returns whether the segments are other ones than before.
    ///
    /// Costs one listing when they are not.
    ///
    /// # Errors
    /// [`IndexError`] when the store fails, or there is no room for tables.
    pub async fn load_again(&self, repository: &Repository, monitor: &dyn Monitor) -> Result<bool, IndexError> {
        let mut unread = self.again.lock().await;
        let mut is_other = false;
        for _ in 0..LISTINGS {
            let wanted = ListedSegments::of(repository, false).await?.all;
            is_other |= self.supersede(&wanted);
            let known = self.segments();
            let is_damaged = |id: &SegmentId| self.damaged.iter().any(|(key, _)| *key == ObjectKey::segment(*id));
            let is_new = |id: &SegmentId| !known.contains(id) && !unread.contains(id) && !is_damaged(id);
            let missing: Vec<SegmentId> = wanted.into_iter().filter(is_new).collect();
            let (mut lost, count) = (Vec::new(), missing.len());
            let damaged = self.add_segments(repository, missing, &mut lost).await?;
            is_other |= damaged.len() + lost.len() < count;
            for (id, source) in damaged {
                monitor.problem(Problem::damaged(ObjectKey::segment(id).to_string(), source.to_string()));
                unread.insert(id);
            }
            if lost.is_empty() {
                break;
            }
        }
        if is_other {
            self.loads.fetch_add(1, Ordering::SeqCst);
        }
        Ok(is_other)
    }

    /// Returns how often loading it again brought anything else: whoever looked before that looks again.
    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    /// Puts tables behind the others that tell of a segment which is not there any more; tells whether there are any.
    fn supersede(&self, wanted: &BTreeSet<SegmentId>) -> bool {
        let mut tables = self.tables.write().expect("no panic while held");
        let (left, gone): (Vec<_>, Vec<_>) =
            tables.drain(..).partition(|table| table.segments().iter().all(|id| wanted.contains(id)));
        *tables = left;
        let is_any = !gone.is_empty();
        self.superseded.write().expect("no panic while held").extend(gone);
        is_any
    }
}
