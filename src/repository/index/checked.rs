//! The checked face: compared with the packs that the store has, for a session that writes to the same repository. Only from
//! one can a writer be started, so nothing new ever relies on packs that nobody looked for, nor on what somebody says whose word
//! is not taken.
//!
//! At the end of a run it tells whether the packs that the run relied on are still there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Deref;
use std::sync::{Arc, RwLock};

use crate::format::index::PackEntry;
use crate::format::pack::PackKind;
use crate::model::author::Author;
use crate::model::id::{ChunkId, ChunkKey, PackId, SegmentId};
use crate::model::time::Timestamp;
use crate::progress::Monitor;
use crate::repository::index::presence::{AskedPacks, ids, not_stored};
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::index::{Index, IndexError};
use crate::repository::objects::DurableObject;
use crate::repository::session::Session;
use crate::store::StoreError;

/// Packs missing in the listing that a backup asks for one by one when it begins; if there are more, the rest counts as
/// gone, which costs storing their chunks again.
pub const ASKED_AT_START: usize = 256;
/// Packs asked for at the end before one of them being gone is believed of the rest.
const ASKED_AT_ONCE: usize = 1000;
/// Objects that a store lists in one answer.
const LISTED_AT_ONCE: usize = 1000;

/// The packs that this run's snapshot will need.
#[derive(Debug, Default)]
struct Reliance(RwLock<Relied>);

#[derive(Debug, Default)]
struct Relied {
    packs: HashSet<PackId>,
    /// Those of them that this run stored: the store said that they are durable.
    own: HashSet<PackId>,
}

impl Reliance {
    fn add(&self, pack: PackId) {
        // Nearly always it is known.
        if !self.0.read().expect("no panic while held").packs.contains(&pack) {
            self.0.write().expect("no panic while held").packs.insert(pack);
        }
    }

    fn add_own(&self, pack: PackId) {
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
    /// Whether a clean-up does not wait for this session any longer.
    pub is_given_up: bool,
    /// The number of the highest list of cleaning up that the run honours.
    pub honoured: Option<u64>,
}

/// The index as a session may rely on it. It is read like any [`Index`].
#[derive(Debug)]
pub struct CheckedIndex {
    session: Arc<Session>,
    index: Arc<Index>,
    /// Packs that the store listed.
    listed_packs: usize,
    /// Packs in which recipes by the session's author may be wrong.
    damaged_recipes: BTreeSet<PackId>,
    reliance: Reliance,
}

impl Deref for CheckedIndex {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl CheckedIndex {
    /// Loads the index of the repository that `session` writes to, and compares it with the packs that are there; at most
    /// `ask_for` that the listing lacks are asked for singly.
    ///
    /// # Errors
    /// [`IndexError`] when the store fails, or there is no room for tables anywhere.
    pub async fn load(
        session: &Arc<Session>,
        ask_for: usize,
        now: Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<Self, IndexError> {
        let repository = session.repository();
        let mut index = Index::load(repository, monitor).await?;
        let listed = index.check_packs(repository, ask_for, now, monitor).await?;
        index.trusted = Some(repository.keys().trusted());
        // They were just read.
        let told = repository.lists.read().await.clone();
        let mut damaged_recipes = told.map(|told| told.found_damaged()).unwrap_or_default();
        damaged_recipes
            .retain(|pack| listed.sizes.contains_key(pack) && may_hold_recipes_by(&index, *pack, session.author()));
        let (session, listed_packs) = (session.clone(), listed.sizes.len());
        Ok(Self { session, index: Arc::new(index), listed_packs, damaged_recipes, reliance: Reliance::default() })
    }

    /// Loads it for a session that stores anew what packs hold which are to go: it relies on no pack of another epoch than its own,
    /// and on none that is `left_out`.
    ///
    /// # Errors
    /// As for [`CheckedIndex::load`].
    pub async fn load_without(
        session: &Arc<Session>,
        left_out: &HashSet<PackId>,
        now: Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<Self, IndexError> {
        let mut checked = Self::load(session, ASKED_AT_START, now, monitor).await?;
        let index = Arc::get_mut(&mut checked.index).expect("it was just loaded");
        let is_elsewhere = |pack: &PackInfo| pack.header.at != session.at();
        let elsewhere: Vec<PackId> =
            index.packs().iter().filter(|pack| is_elsewhere(pack)).map(|pack| pack.id).collect();
        index.unreliable.extend(elsewhere.iter().chain(left_out));
        Ok(checked)
    }

    /// Returns the session that it was checked for.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Returns the index for a reader.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Returns the packs that were found damaged although they are there, and in which recipes by the session's author may lie: what
    /// these were made from may be wrong.
    pub(crate) fn damaged_recipes(&self) -> &BTreeSet<PackId> {
        &self.damaged_recipes
    }

    /// Adds a segment that this run stored, and relies on its packs.
    ///
    /// # Errors
    /// [`IndexError::Cache`] when there is no room for its table anywhere.
    pub(crate) fn add_stored(&self, segment: DurableObject<SegmentId>, packs: &[PackEntry]) -> Result<(), IndexError> {
        packs.iter().for_each(|pack| self.reliance.add_own(pack.id));
        self.index.add_segment(segment.id(), self.session.author(), packs)
    }

    /// Tells whether a chunk is stored in a pack that may be relied on, and notes that it is: the snapshot will need it.
    ///
    /// A chunk that is stored as a recipe is, for this, when this run stored it: it has seen to what the recipe names.
    pub fn rely_on(&self, id: &ChunkId) -> bool {
        let is_ours = |at: &ChunkPlace| !at.codec.holds_recipes() || self.reliance.is_own(at.pack);
        self.rely_where(&id.key(), is_ours)
    }

    /// Tells whether a chunk is stored plain in a pack that may be relied on, without relying on it.
    pub(crate) fn has_plain(&self, key: &ChunkKey) -> bool {
        self.index.find_reliable(key).is_some()
    }

    /// Tells whether a recipe lies in a pack that may be relied on; returns its places.
    pub fn reliable_recipes(&self, key: &ChunkKey) -> Vec<ChunkPlace> {
        let places = self.index.vouched_places(key).into_iter();
        places.filter(|place| place.codec.holds_recipes() && self.index.is_reliable(place)).collect()
    }

    /// Does the same for a chunk that must be stored plain, because a recipe of plain chunks names it.
    pub fn rely_on_plain(&self, key: &ChunkKey) -> bool {
        self.rely_where(key, |at| !at.codec.holds_recipes())
    }

    /// Does the same, and returns the places in packs that may be relied on, of which the first is relied on.
    pub fn rely_on_plain_at(&self, key: &ChunkKey) -> Vec<ChunkPlace> {
        let places = self.index.reliable_places(key);
        if let Some(first) = places.first() {
            self.reliance.add(first.pack);
        }
        places
    }

    /// Does the same for what a recipe names, or what such a recipe names in turn: a recipe that an earlier run stored will do, since
    /// whoever asks asks for all that it names as well. Of a chunk of which there are several recipes none will, unless they are of one
    /// length, as copies are: they may name different chunks, and be too deep to be named.
    pub fn rely_on_named(&self, key: &ChunkKey) -> bool {
        self.rely_on_copies(key, |_| true)
    }

    /// Does the same for a chunk of which a recipe is known that is `length` bytes long: no other one will do.
    pub fn rely_on_recipe(&self, key: &ChunkKey, length: u32) -> bool {
        self.rely_on_copies(key, |found| found == length)
    }

    fn rely_on_copies(&self, key: &ChunkKey, is_known: impl Fn(u32) -> bool) -> bool {
        let places = self.index.places(key);
        let mut lengths = places.iter().filter(|at| at.codec.holds_recipes()).map(|at| at.length);
        let first = lengths.next();
        let are_copies = lengths.all(|length| Some(length) == first) && first.is_some_and(is_known);
        self.rely_where(key, |at| !at.codec.holds_recipes() || are_copies && !self.reliance.is_own(at.pack))
    }

    fn rely_where(&self, key: &ChunkKey, accept: impl Fn(&ChunkPlace) -> bool) -> bool {
        let location = self.index.find_where(key, |at| self.index.is_reliable(at) && accept(at));
        location.is_some_and(|location| {
            self.reliance.add(location.pack);
            true
        })
    }

    /// Tells whether a place is in a pack that may be relied on, without relying on it.
    pub fn may_rely_on(&self, place: &ChunkPlace) -> bool {
        self.index.is_reliable(place)
    }

    /// Notes that the snapshot may need any of `packs`, because chunk lists or recipes that lie in them are taken over.
    pub fn rely_on_packs(&self, packs: &[PackId]) {
        packs.iter().for_each(|pack| self.reliance.add(*pack));
    }

    /// Returns the packs relied upon, those that this run stored among them, in order.
    pub fn relied_packs(&self) -> Vec<PackId> {
        let mut packs: Vec<_> = self.reliance.packs().into_iter().collect();
        packs.sort_unstable();
        packs
    }

    /// Returns the epochs, other than the session's, under whose keys packs that are relied upon were sealed, in order.
    pub fn other_epochs(&self) -> Vec<u32> {
        let own = self.session.at().epoch;
        let sealed = |pack: &PackId| self.index.pack(*pack).into_iter().map(|record| record.header.at.epoch);
        let relied = self.reliance.packs();
        let others = relied.iter().filter(|pack| !self.reliance.is_own(**pack)).flat_map(sealed);
        others.filter(|epoch| *epoch != own).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns the packs relied upon, those that this run stored among them, that are not there any more.
    ///
    /// Those that are being deleted count as gone. `with_doomed` counts those as well that are to be deleted by `now`: that
    /// waits for every session whose lease is alive, so it matters only to one whose lease was not.
    ///
    /// # Errors
    /// [`IndexError::Store`] when the packs cannot be listed or asked for.
    pub async fn lost_packs(&self, with_doomed: bool, now: Timestamp) -> Result<LostPacks, IndexError> {
        let repository = self.session.repository();
        let relied = self.reliance.packs();
        let mut needed = self.index.pack_sizes();
        needed.retain(|(pack, _)| relied.contains(pack));
        let mut lost = LostPacks::default();
        let cleanups = repository.cleanups().await?;
        lost.is_given_up = cleanups.gives_up(self.session.id());
        lost.honoured = cleanups.honoured_by(self.session.at().domain, &relied);
        let doomed = if with_doomed { cleanups.doomed(now) } else { cleanups.deleting() };
        lost.gone.extend(ids(&needed).filter(|pack| doomed.contains(pack)));
        // A few are asked for, which is cheaper than a listing.
        let are_few = needed.len() <= self.listed_packs / LISTED_AT_ONCE + 1;
        let mut refused = HashMap::new();
        if are_few {
            let asked = AskedPacks::of(repository, ids(&needed).collect()).await?;
            needed = not_stored(needed, &asked.sizes);
            refused = asked.refused;
        }
        if !needed.is_empty() {
            needed = not_stored(needed, &repository.objects().packs().await?.sizes);
        }
        let unlisted: Vec<PackId> = ids(&needed).collect();
        for some in unlisted.chunks(ASKED_AT_ONCE).filter(|_| !are_few) {
            let asked = AskedPacks::of(repository, some.to_vec()).await?;
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
}

/// Tells whether recipes by an author may lie in a pack.
fn may_hold_recipes_by(index: &Index, pack: PackId, author: Author) -> bool {
    index.pack(pack).iter().any(|record| record.kind == PackKind::Tree)
        && index.tables().iter().any(|table| table.authors(pack).any(|known| known == author))
}
