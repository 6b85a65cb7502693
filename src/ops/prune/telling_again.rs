//! Telling lists of cleaning up again, before anything is doomed: one list in the place of many (`repository/cleanups/compacting.rs`).
//!
//! It follows the lists that the first look had read and no others, because that look is what it accounts for snapshots by. The lists
//! that it names as gone stay for a day, and are removed by a later run ([`remove_old`](CleanUp::remove_old)); cut off before that,
//! a repository has both, which is no harm.

use std::collections::BTreeSet;

use crate::model::cleanup::CleanupId;
use crate::model::id::{PackId, SegmentId};
use crate::ops::prune::look::Look;
use crate::ops::prune::{CleanUp, PruneError};
use crate::repository::cleanups::compacting::ThereNow;
use crate::repository::state::LeftLists;

impl CleanUp<'_> {
    /// Puts a list in the place of many, in each domain that has as many. What any snapshot needs **must** have been found, and to lie in
    /// packs that no list dooms.
    pub(super) async fn tell_lists_again(&self, look: &Look) -> Result<(), PruneError> {
        let (cleanups, now) = (look.index.cleanups(), self.options.clock.now());
        let state = self.deleting.repository().state();
        let mut settled = state.left(LeftLists::Removed);
        let domains = cleanups.domains_with_many(now, &settled);
        let segments: BTreeSet<SegmentId> =
            if domains.is_empty() { BTreeSet::new() } else { self.deleting.every_segment().await? };
        let has_pack = |pack: PackId| look.index.is_there(pack) || look.index.names(pack);
        for domain in domains {
            let of_domain = look.index.snapshots().iter().filter(|snapshot| snapshot.at.domain == domain);
            let whole = of_domain.filter_map(|snapshot| Some((snapshot.id, snapshot.digest?))).collect();
            let there = ThereNow { whole, listed: look.index.listed(), segments: &segments, has_pack: &has_pack };
            let again = cleanups.told_again(domain, now, &settled, &there);
            if let Some((id, list)) = again {
                self.deleting.writing().put_list(domain, id, &list).await?;
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        let before = settled.len();
        let now = self.deleting.repository().cleanups().await?;
        settled.retain(|list: &CleanupId| now.has(*list));
        if settled.len() < before {
            self.note_left(LeftLists::Removed, &settled);
        }
        Ok(())
    }
}
