//! Which packs may be relied on, and whether they are still there at the end.
//!
//! A pack counts as stored when the store lists it with the length that the index tells. What a listing lacks is asked for
//! by itself before it is called gone, because listings may lag behind; where asking is refused, nothing is known of it. Doomed lists are always read before packs are
//! listed: a pack that a clean-up deletes between the two is then known from one of them (`docs/format.md`, section 14).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};

use futures::stream::{self, StreamExt};

use crate::model::id::{ChunkId, PackId};
use crate::model::key::ObjectKey;
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::table::Table;
use crate::repository::index::{Index, IndexError, open_doomed};
use crate::repository::objects::ListedPacks;
use crate::store::{StoreError, StoreErrorKind};

/// Packs asked for at the same time.
const HEADS: usize = 16;
/// Packs missing in the listing that a backup asks for one by one when it begins; if there are more, the rest counts as
/// gone, which costs storing their chunks again.
pub const ASKED_AT_START: usize = 256;
/// Packs asked for at the end before one of them being gone is believed of the rest.
const ASKED_AT_ONCE: usize = 1000;
/// Objects that a store lists in one answer.
const LISTED_AT_ONCE: usize = 1000;

/// The packs that this run's snapshot will need.
#[derive(Debug, Default)]
pub(super) struct Reliance(RwLock<Relied>);

#[derive(Debug, Default)]
struct Relied {
    packs: HashSet<PackId>,
    /// Those of them that this run stored: the store said that they are durable.
    own: HashSet<PackId>,
}

impl Reliance {
    pub(super) fn add(&self, pack: PackId) {
        // Nearly always it is known.
        if !self.0.read().expect("no panic while held").packs.contains(&pack) {
            self.0.write().expect("no panic while held").packs.insert(pack);
        }
    }

    pub(super) fn add_own(&self, pack: PackId) {
        let mut relied = self.0.write().expect("no panic while held");
        relied.packs.insert(pack);
        relied.own.insert(pack);
    }

    fn is_own(&self, pack: PackId) -> bool {
        self.0.read().expect("no panic while held").own.contains(&pack)
    }

    fn packs(&self) -> HashSet<PackId> {
        self.0.read().expect("no panic while held").packs.clone()
    }
}

/// What has become of the packs that a run relies on.
#[derive(Debug, Default)]
pub struct LostPacks {
    /// Those that are not there any more.
    pub gone: HashSet<PackId>,
    /// Those that the store does not list and may not be asked for, with how it refuses.
    pub unknown: Option<(usize, StoreError)>,
}

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
        monitor: &dyn Monitor,
    ) -> Result<ListedPacks, IndexError> {
        let doomed = doomed_packs(repository, monitor).await?;
        let mut listed = repository.objects().packs().await?;
        let mut unstored = self.unstored(repository, &mut listed, ask_for).await?;
        if !unstored.is_empty() && listed.refused.is_none() && self.make_anew(repository, monitor).await? {
            unstored = self.unstored(repository, &mut listed, ask_for).await?;
        }
        self.unreliable = ids(&unstored).chain(doomed).collect();
        self.distrust_lacking();
        self.listed_packs = listed.sizes.len();
        Ok(listed)
    }

    /// Returns the packs that are not `listed` as the index knows them, and completes the listing by asking for single ones.
    async fn unstored(
        &self,
        repository: &Repository,
        listed: &mut ListedPacks,
        ask_for: usize,
    ) -> Result<Vec<(PackId, u32)>, StoreError> {
        let known = self.pack_sizes();
        let mut unlisted: Vec<PackId> = ids(&known).filter(|pack| !listed.sizes.contains_key(pack)).collect();
        unlisted.truncate(ask_for);
        let asked = Asked::of(repository, unlisted).await?;
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

    /// Tells whether a chunk is stored in a pack that may be relied on, and notes that it is: the snapshot will need it.
    pub fn rely_on(&self, id: &ChunkId) -> bool {
        let location = self.find_where(&id.key(), |location| !self.unreliable.contains(&location.pack));
        location.is_some_and(|location| {
            self.reliance.add(location.pack);
            true
        })
    }

    /// Notes that the snapshot may need any of `packs`, because chunk lists that lie in them are taken over unread.
    pub fn rely_on_packs(&self, packs: &[PackId]) {
        packs.iter().for_each(|pack| self.reliance.add(*pack));
    }

    /// Returns the packs relied upon, those that this run stored among them, in order.
    pub fn relied_packs(&self) -> Vec<PackId> {
        let mut packs: Vec<_> = self.reliance.packs().into_iter().collect();
        packs.sort_unstable();
        packs
    }

    /// Returns the packs relied upon, those that this run stored among them, that are not there any more.
    ///
    /// `with_doomed` counts those as well that are to be deleted by now: their deletion waits for every session whose
    /// lease is alive, so it matters only to one whose lease was not.
    ///
    /// # Errors
    /// [`IndexError::Store`] when the packs cannot be listed or asked for.
    pub async fn lost_packs(
        &self,
        repository: &Repository,
        with_doomed: bool,
        monitor: &dyn Monitor,
    ) -> Result<LostPacks, IndexError> {
        let relied = self.reliance.packs();
        let mut needed = self.pack_sizes();
        needed.retain(|(pack, _)| relied.contains(pack));
        let mut lost = LostPacks::default();
        if with_doomed {
            let doomed = doomed_packs(repository, monitor).await?;
            lost.gone.extend(ids(&needed).filter(|pack| doomed.contains(pack)));
        }
        // A few are asked for, which is cheaper than a listing.
        let are_few = needed.len() <= self.listed_packs / LISTED_AT_ONCE + 1;
        let mut refused = HashMap::new();
        if are_few {
            let asked = Asked::of(repository, ids(&needed).collect()).await?;
            needed = not_stored(needed, &asked.sizes);
            refused = asked.refused;
        }
        if !needed.is_empty() {
            needed = not_stored(needed, &repository.objects().packs().await?.sizes);
        }
        let unlisted: Vec<PackId> = ids(&needed).collect();
        for some in unlisted.chunks(ASKED_AT_ONCE).filter(|_| !are_few) {
            let asked = Asked::of(repository, some.to_vec()).await?;
            needed = not_stored(needed, &asked.sizes);
            refused.extend(asked.refused);
            if ids(&needed).any(|pack| some.contains(&pack) && !refused.contains_key(&pack)) {
                break;
            }
        }
        // Being refused says nothing: of what this run stored, the store said that it is there.
        let (unknown, gone): (Vec<PackId>, Vec<PackId>) = ids(&needed).partition(|pack| refused.contains_key(pack));
        lost.gone.extend(gone);
        let unknown: Vec<PackId> = unknown.into_iter().filter(|pack| !self.reliance.is_own(*pack)).collect();
        lost.unknown = unknown.first().and_then(|pack| Some((unknown.len(), refused.remove(pack)?)));
        Ok(lost)
    }

    /// Returns every pack with its length, in order; with several lengths if segments contradict each other.
    fn pack_sizes(&self) -> Vec<(PackId, u32)> {
        let mut sizes: Vec<_> = self.tables().iter().flat_map(|table| table.pack_sizes().collect::<Vec<_>>()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

/// Returns the different ids in a sorted list of packs.
fn ids(packs: &[(PackId, u32)]) -> impl Iterator<Item = PackId> + '_ {
    packs.chunk_by(|one, next| one.0 == next.0).map(|records| records[0].0)
}

/// Leaves those of a sorted list of packs that do not have any of their lengths in `sizes`.
fn not_stored(packs: Vec<(PackId, u32)>, sizes: &HashMap<PackId, u64>) -> Vec<(PackId, u32)> {
    let is_stored = |records: &[(PackId, u32)]| {
        let size = sizes.get(&records[0].0);
        records.iter().any(|&(_, known)| size == Some(&u64::from(known)))
    };
    packs.chunk_by(|one, next| one.0 == next.0).filter(|records| !is_stored(records)).flatten().copied().collect()
}

/// What packs that were asked for one by one said.
#[derive(Debug, Default)]
struct Asked {
    /// The length of those that are there.
    sizes: HashMap<PackId, u64>,
    /// Those that may not be asked for, which is never the same as not being there.
    refused: HashMap<PackId, StoreError>,
}

impl Asked {
    async fn of(repository: &Repository, packs: Vec<PackId>) -> Result<Self, StoreError> {
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

/// Returns the packs that some clean-up run intends to delete. A list that cannot be read is a problem and no more: what
/// is deleted in the end is only what no snapshot refers to.
async fn doomed_packs(repository: &Repository, monitor: &dyn Monitor) -> Result<HashSet<PackId>, IndexError> {
    let mut packs = HashSet::new();
    for id in repository.objects().doomed_lists().await? {
        match repository.objects().doomed(id, |bytes| open_doomed(repository, id, bytes)).await {
            Ok(Ok(doomed)) => packs.extend(doomed.packs),
            Ok(Err(error)) => {
                monitor.problem(Problem::damaged(ObjectKey::doomed(id).to_string(), error.to_string()));
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) if error.kind.is_damage() => {
                monitor.problem(Problem::damaged(ObjectKey::doomed(id).to_string(), error.clause()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(packs)
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
