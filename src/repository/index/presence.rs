//! Which packs may be relied on.
//!
//! A pack counts as stored when the store lists it with the length that the index tells. What a listing lacks is asked for
//! by itself before it is called gone, because listings may lag behind; where asking is refused, nothing is known of it. Lists of cleaning up are always read before packs
//! are listed: a pack that a clean-up deletes between the two is then known from one of them (`docs/format.md`, section 14).

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::model::id::PackId;
use crate::model::time::Timestamp;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::table::Table;
use crate::repository::index::{Index, IndexError};
use crate::repository::objects::ListedPacks;
use crate::store::StoreError;

/// Packs asked for at the same time.
const HEADS: usize = 16;

impl Index {
    /// Compares the index with the packs that the store lists, and with those that are to be deleted: chunks in packs that
    /// are gone, have another length, or are doomed count as not stored. Before that is believed of any, the index is made
    /// anew.
    ///
    /// Returns the listing, with what it lacked and is there all the same; at most `ask_for` packs are asked for singly. Of
    /// which that is refused, nothing is relied on either.
    ///
    /// # Errors
    /// [`IndexError::Store`] when the packs cannot be listed.
    pub async fn check_packs(
        &mut self,
        repository: &Repository,
        ask_for: usize,
        now: Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<ListedPacks, IndexError> {
        monitor.phase("listing packs");
        let cleanups = repository.cleanups().await?;
        cleanups.tell(monitor);
        let mut listed = repository.objects().packs().await?;
        // Segments go on naming what a clean-up deleted, and nobody need look for it.
        listed.deleting = cleanups.deleting();
        let mut unstored = self.unstored(repository, &mut listed, ask_for).await?;
        if !unstored.is_empty() && listed.refused.is_none() && self.make_anew(repository, monitor).await? {
            unstored = self.unstored(repository, &mut listed, ask_for).await?;
        }
        self.unreliable = ids(&unstored).chain(cleanups.doomed(now)).collect();
        self.distrust_lacking();
        Ok(listed)
    }

    /// Returns the packs that are not `listed` as the index knows them, but for those that are being deleted, and completes the
    /// listing by asking for single ones.
    pub(super) async fn unstored(
        &self,
        repository: &Repository,
        listed: &mut ListedPacks,
        ask_for: usize,
    ) -> Result<Vec<(PackId, u32)>, StoreError> {
        let mut known = self.pack_sizes();
        known.retain(|(pack, _)| !listed.deleting.contains(pack));
        let mut unlisted: Vec<PackId> = ids(&known).filter(|pack| !listed.sizes.contains_key(pack)).collect();
        unlisted.truncate(ask_for);
        let asked = AskedPacks::of(repository, unlisted).await?;
        listed.sizes.extend(asked.sizes);
        listed.refused = asked.refused.into_values().next();
        Ok(not_stored(known, &listed.sizes))
    }

    /// Counts as not stored what a table may know only from a segment that some required replica lacks.
    fn distrust_lacking(&mut self) {
        let tables = self.tables();
        let lacks = |table: &&Arc<Table>| table.segments().iter().any(|segment| self.lacking.contains(segment));
        let packs = tables.iter().filter(lacks).flat_map(|table| table.pack_sizes().map(|(pack, _)| pack));
        let packs: Vec<PackId> = packs.collect();
        self.unreliable.extend(packs);
    }

    /// Returns every pack with its length, in order; with several lengths if segments contradict each other.
    pub(super) fn pack_sizes(&self) -> Vec<(PackId, u32)> {
        let mut sizes: Vec<_> = self.tables().iter().flat_map(|table| table.pack_sizes().collect::<Vec<_>>()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

/// Returns the different ids in a sorted list of packs.
pub(super) fn ids(packs: &[(PackId, u32)]) -> impl Iterator<Item = PackId> + '_ {
    packs.chunk_by(|one, next| one.0 == next.0).map(|records| records[0].0)
}

/// Leaves those of a sorted list of packs that do not have any of their lengths in `sizes`.
pub(super) fn not_stored(packs: Vec<(PackId, u32)>, sizes: &HashMap<PackId, u64>) -> Vec<(PackId, u32)> {
    let is_stored = |records: &[(PackId, u32)]| {
        let size = sizes.get(&records[0].0);
        records.iter().any(|&(_, known)| size == Some(&u64::from(known)))
    };
    packs.chunk_by(|one, next| one.0 == next.0).filter(|records| !is_stored(records)).flatten().copied().collect()
}

/// What packs that were asked for one by one said.
#[derive(Debug, Default)]
pub(super) struct AskedPacks {
    /// The length of those that are there.
    pub(super) sizes: HashMap<PackId, u64>,
    /// Those that may not be asked for, which is never the same as not being there.
    pub(super) refused: HashMap<PackId, StoreError>,
}

impl AskedPacks {
    pub(super) async fn of(repository: &Repository, packs: Vec<PackId>) -> Result<Self, StoreError> {
        let heads = stream::iter(packs).map(|pack| async move {
            let answer = repository.objects().pack_size(pack).await;
            (pack, answer)
        });
        let mut heads = heads.buffer_unordered(HEADS);
        let mut asked = Self::default();
        while let Some((pack, answer)) = heads.next().await {
            match answer {
                Ok(Some(size)) => drop(asked.sizes.insert(pack, size)),
                Ok(None) => {}
                Err(error) if error.kind.is_forbidden() => drop(asked.refused.insert(pack, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_stored_when_one_of_its_known_lengths_is_the_listed_one() {
        let pack = |id: u8| PackId([id; 16]);
        let sizes = HashMap::from([(pack(1), 100), (pack(2), 99), (pack(3), 70)]);
        let known = vec![(pack(1), 100), (pack(2), 100), (pack(3), 60), (pack(3), 70), (pack(4), 5), (pack(4), 6)];
        assert_eq!(ids(&known).collect::<Vec<_>>(), [pack(1), pack(2), pack(3), pack(4)]);
        let left = not_stored(known, &sizes);
        assert_eq!(left, [(pack(2), 100), (pack(4), 5), (pack(4), 6)]);
    }
}
