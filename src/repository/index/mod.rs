//! The index: which chunks are stored, and where.
//!
//! Segments are fetched once, turned into sorted tables in the cache and searched there through memory maps, so lookups
//! need a fixed amount of memory however many chunks there are. Small tables are merged as an LSM tree does.
//! [`presence`] decides which packs may be relied on, [`anew`] whether a table is what its segments say, [`again`] what has
//! become of the segments since, `shelf` where tables lie.
//!
//! It has three faces. An [`Index`] is what is available, for reading: what cannot be had is told and left out. A
//! [`CheckedIndex`](checked::CheckedIndex) was compared with what is stored, for writing. A
//! [`CompleteIndex`](complete::CompleteIndex) lacks nothing, for deleting. The latter two can be read like the first; nothing
//! makes one of them from it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use crate::crypto::random;
use crate::format::FormatError;
use crate::format::index::{IndexSegment, PackEntry};
use crate::format::object::INDEX;
use crate::format::pack::{FrameHead, PackKind};
use crate::model::author::Author;
use crate::model::id::{ChunkId, ChunkKey, PackId, SegmentId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::repository::Repository;
use crate::repository::index::anew::Sum;
use crate::repository::index::own::OwnPack;
use crate::repository::index::shelf::Shelf;
use crate::repository::index::table::{ChunkPlace, PackInfo, Table, merge_tables, write_table};
use crate::repository::objects::SegmentRoom;
use crate::store::{StoreError, StoreErrorKind};

pub mod again;
pub mod anew;
mod available;
pub mod checked;
pub mod complete;
pub mod merging;
pub mod misplaced;
pub mod needed;
pub mod own;
pub mod presence;
mod shelf;
pub mod table;

/// Segments fetched at the same time.
const FETCHES: usize = 8;
/// With more tables than this, the small ones are merged.
const TABLES_MAX: usize = 8;
/// Segments from this length on stay as they are when others are merged in the repository, and so may the tables that have them.
const SETTLED_BYTES: u64 = 2 << 20;

/// Why the index could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store failed.
    #[error("the index could not be fetched")]
    Store(#[from] StoreError),
    /// A segment is damaged.
    #[error("{key} cannot be read")]
    Damaged {
        /// The segment.
        key: ObjectKey,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// Tables can be kept neither in the cache nor in temporary files nor in memory.
    #[error("there is no room for the index, not even in {path}")]
    Cache {
        /// The directory of temporary files.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Ended for IndexError {
    fn outcome(&self) -> Outcome {
        match self {
            IndexError::Store(error) => error.outcome(),
            IndexError::Damaged { .. } => Outcome::Damaged,
            IndexError::Cache { .. } => Outcome::Full,
        }
    }
}

/// The index of a repository as of when it was loaded, plus what this run added.
#[derive(Debug)]
pub struct Index {
    shelf: Shelf,
    tables: RwLock<Vec<Arc<Table>>>,
    /// Tables of which a segment was not there any more when the index was loaded again: readers try them last.
    superseded: RwLock<Vec<Arc<Table>>>,
    /// Packs that the index knows and that no new snapshot may rely on: the store does not have them whole, or they are
    /// doomed.
    unreliable: HashSet<PackId>,
    /// Those whose word on what is stored is taken; everybody's for who only reads, because every chunk is held to its id.
    trusted: Option<BTreeSet<Author>>,
    /// Segments that some required replica lacks: what they alone know would be lost with the others.
    lacking: BTreeSet<SegmentId>,
    /// Segments that could not be read; reading goes on without them, deleting must not.
    damaged: Vec<(ObjectKey, FormatError)>,
    /// Segments that tables of the cache covered, when it was opened.
    from_cache: BTreeSet<SegmentId>,
    /// Whether comparing what came from the cache with the store made anything anew, once that was done.
    made_anew: OnceCell<bool>,
    /// Segments that could not be read when it was loaded again; one at a time loads.
    again: tokio::sync::Mutex<BTreeSet<SegmentId>>,
    /// How often that brought anything else.
    loads: AtomicU64,
    /// Whether tables are not to be merged now.
    kept_apart: AtomicBool,
}

impl Index {
    /// Tells whether a chunk is stored plain in a pack that may be relied on.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.find_reliable(&id.key()).is_some()
    }

    /// Tells where a chunk lies, or its recipe, preferring a pack that may be relied on and a chunk that is stored plain.
    pub fn locate(&self, id: &ChunkId) -> Option<ChunkPlace> {
        let key = id.key();
        self.find_reliable(&key).or_else(|| self.places(&key).into_iter().next())
    }

    /// Returns every place where a chunk lies, or its recipe; hosts that ran at the same time may have stored it twice.
    pub fn locate_all(&self, id: &ChunkId) -> Vec<ChunkPlace> {
        self.places(&id.key())
    }

    /// Does the same for a chunk's key: packs that may be relied on first, and among them those that hold it plain.
    pub fn places(&self, key: &ChunkKey) -> Vec<ChunkPlace> {
        let mut places: Vec<ChunkPlace> = self.told_places(key).into_iter().map(|(_, place)| place).collect();
        if places.len() > 1 {
            let mut seen = HashSet::new();
            places.retain(|place| seen.insert(place.by_anybody()));
        }
        places
    }

    /// Returns the same in the same order, each place once for everybody who tells of it.
    pub(crate) fn told_places(&self, key: &ChunkKey) -> Vec<(PlaceRank, ChunkPlace)> {
        let of = |tables: &RwLock<Vec<Arc<Table>>>, is_superseded: bool| -> Vec<(PlaceRank, ChunkPlace)> {
            let tables = tables.read().expect("no panic while held");
            let places = tables.iter().flat_map(|table| table.find_all(key));
            places.map(|place| (PlaceRank { is_superseded, is_unreliable: !self.is_reliable(&place) }, place)).collect()
        };
        let mut places = of(&self.tables, false);
        places.append(&mut of(&self.superseded, true));
        places.sort_by_key(|(standing, place)| (*standing, place.codec.holds_recipes()));
        places
    }

    /// Returns the places where a chunk is stored plain in packs that may be relied on.
    fn reliable_places(&self, key: &ChunkKey) -> Vec<ChunkPlace> {
        let tables = self.tables.read().expect("no panic while held");
        let places = tables.iter().flat_map(|table| table.find_all(key));
        places.filter(|place| self.is_reliable(place) && !place.codec.holds_recipes()).collect()
    }

    /// Returns the places of a chunk of which a reader says so.
    pub fn vouched_places(&self, key: &ChunkKey) -> Vec<ChunkPlace> {
        let tables = self.tables.read().expect("no panic while held");
        let places = tables.iter().flat_map(|table| table.find_all(key));
        places.filter(|place| place.author == Author::Reader).collect()
    }

    /// Returns all that segments tell of a pack, which is one record unless one of them lies.
    pub fn pack(&self, id: PackId) -> Vec<PackInfo> {
        let mut records: Vec<PackInfo> = Vec::with_capacity(1);
        for tables in [&self.tables, &self.superseded] {
            for table in tables.read().expect("no panic while held").iter() {
                for record in table.pack(id) {
                    if !records.iter().any(|known| known.tells_the_same(&record)) {
                        records.push(record);
                    }
                }
            }
        }
        records
    }

    /// Tells whether a segment names a pack that was there when the index was loaded last.
    pub fn names(&self, pack: PackId) -> bool {
        self.tables.read().expect("no panic while held").iter().any(|table| table.authors(pack).next().is_some())
    }

    /// Tells whether a reader says of a pack that it is stored.
    pub fn is_vouched_for(&self, pack: PackId) -> bool {
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().any(|table| table.authors(pack).any(|author| author == Author::Reader))
    }

    /// Returns all packs, each once.
    pub fn packs(&self) -> Vec<PackInfo> {
        let mut seen = HashSet::new();
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().flat_map(|table| table.packs()).filter(|pack| seen.insert(pack.id)).collect()
    }

    /// Returns the number of chunks, those stored twice counted twice, and the plaintext bytes of those stored plain; each pack counts
    /// once, however many segments name it, and those `without` do not.
    pub fn content(&self, without: &HashSet<PackId>) -> (u64, u64) {
        let mut seen = without.clone();
        let of_tables = self.tables().into_iter().map(|table| table.content(|pack| seen.insert(pack)));
        of_tables.fold((0, 0), |(chunks, bytes), (more, more_bytes)| (chunks + more, bytes + more_bytes))
    }

    /// Returns the index segments that the tables cover.
    pub fn segments(&self) -> BTreeSet<SegmentId> {
        self.tables.read().expect("no panic while held").iter().flat_map(|table| table.segments().to_vec()).collect()
    }

    /// Returns the segments that tell of packs what is not so, with how many and the first. `truths` has of each pack in question
    /// what it tells itself and, of one that was read, its digest. Fetches all segments.
    ///
    /// # Errors
    /// When one is out of reach.
    pub async fn liars(
        &self,
        repository: &Repository,
        truths: &HashMap<PackId, Truth>,
    ) -> Result<BTreeMap<(SegmentId, Lie), (usize, PackId)>, StoreError> {
        let mut liars = BTreeMap::new();
        let mut segments = opened_segments(repository, self.segments().into_iter().collect());
        while let Some((id, opened, _room)) = segments.try_next().await? {
            let Some(Ok(segment)) = opened else { continue };
            for pack in segment.packs() {
                if let Some(lie) = truths.get(&pack.id).and_then(|truth| truth.lie_of(pack)) {
                    liars.entry((id, lie)).or_insert((0, pack.id)).0 += 1;
                }
            }
        }
        Ok(liars)
    }

    /// Lends the tables, for walking through everything.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().expect("no panic while held").clone()
    }

    fn add_segment(&self, id: SegmentId, author: Author, packs: &[PackEntry]) -> Result<(), IndexError> {
        let table = self.shelf.put(id, |file| write_table(file, &[id], author, packs))?;
        let mut tables = self.tables.write().expect("no panic while held");
        tables.push(table);
        if self.kept_apart.load(Ordering::Relaxed) { Ok(()) } else { merge_small(&self.shelf, &mut tables) }
    }

    /// Finds a chunk that is stored plain. What a recipe names may be gone while its own pack is there, so nobody relies on one
    /// who has not seen to that.
    fn find_reliable(&self, key: &ChunkKey) -> Option<ChunkPlace> {
        self.find_where(key, |location| self.is_reliable(location) && !location.codec.holds_recipes())
    }

    fn is_reliable(&self, location: &ChunkPlace) -> bool {
        !self.unreliable.contains(&location.pack) && self.trusts(location.author)
    }

    fn trusts(&self, author: Author) -> bool {
        self.trusted.as_ref().is_none_or(|trusted| trusted.contains(&author))
    }

    /// Tells whether each of `packs` may be relied on: it is there, not doomed, and somebody who is trusted says so.
    pub(crate) fn are_reliable(&self, packs: &[PackId]) -> bool {
        let tables = self.tables();
        if packs.iter().any(|pack| self.unreliable.contains(pack)) {
            return false;
        }
        let vouches = |pack: &PackId| tables.iter().flat_map(|table| table.authors(*pack)).any(|it| self.trusts(it));
        packs.iter().all(vouches)
    }

    fn find_where(&self, key: &ChunkKey, accept: impl Fn(&ChunkPlace) -> bool) -> Option<ChunkPlace> {
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().find_map(|table| match table.find(key) {
            // Nearly every chunk lies in one place.
            Some(location) if accept(&location) => Some(location),
            Some(_) => table.find_all(key).into_iter().find(|location| accept(location)),
            None => None,
        })
    }
}

/// Whether a place comes behind others for what is known before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceRank {
    /// The segment that tells of it is not there any more.
    is_superseded: bool,
    /// Its pack may not be relied on, or nobody who is trusted says that it is there.
    is_unreliable: bool,
}

/// What is known of a pack from itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    own: Sum,
    /// Of one that was read whole.
    digest: Option<[u8; 32]>,
}

impl Truth {
    /// Takes what a pack tells of itself, and its digest if it was read whole.
    pub fn of(own: &OwnPack, digest: Option<[u8; 32]>) -> Self {
        Self { own: Sum::of_pack_itself(own.info(), own.places()), digest }
    }

    fn lie_of(&self, pack: &PackEntry) -> Option<Lie> {
        if Sum::of_pack_itself(&pack.info(Author::Reader), locations(Author::Reader, pack)) != self.own {
            return Some(Lie::Content);
        }
        self.digest.is_some_and(|digest| digest != pack.digest).then_some(Lie::Digest)
    }
}

/// What a segment tells of a pack that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// Something that the pack itself tells otherwise.
    Content,
    /// Its digest alone. Padding is a part of that and of nothing else, so it may be the padding that changed.
    Digest,
}

/// Who tells of which pack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Teller {
    pub(crate) pack: PackId,
    pub(crate) author: Author,
    pub(crate) kind: PackKind,
}

/// Returns the places of all chunks of a pack, as `author` tells of them.
pub(crate) fn locations(author: Author, pack: &PackEntry) -> impl Iterator<Item = (ChunkKey, ChunkPlace)> + '_ {
    let teller = Teller { pack: pack.id, author, kind: pack.kind };
    locations_in(teller, pack.directory.frames.iter().map(|frame| (frame.head(), frame.chunks.iter().copied())))
}

/// Returns the places of all chunks of frames.
pub(crate) fn locations_in<C: Iterator<Item = (ChunkKey, u32)>>(
    teller: Teller,
    frames: impl Iterator<Item = (FrameHead, C)>,
) -> impl Iterator<Item = (ChunkKey, ChunkPlace)> {
    let Teller { pack, author, kind } = teller;
    let mut next_offset = 0;
    (0..).zip(frames).flat_map(move |(frame, (head, chunks))| {
        let FrameHead { sealed_len, plain_len, codec } = head;
        let frame_offset = next_offset;
        next_offset += sealed_len;
        let mut next = 0;
        chunks.map(move |(key, length)| {
            let offset = next;
            next += length;
            let location =
                ChunkPlace { pack, author, kind, frame, frame_offset, sealed_len, plain_len, codec, offset, length };
            (key, location)
        })
    })
}

/// A segment that was asked for: opened, damaged, or `None` where it is not there.
type OpenedSegment = Option<Result<IndexSegment, FormatError>>;

/// Fetches and opens segments, several at a time, as far as there is room: each comes with its own, to be dropped behind it.
fn opened_segments(
    repository: &Repository,
    wanted: Vec<SegmentId>,
) -> impl Stream<Item = Result<(SegmentId, OpenedSegment, Option<SegmentRoom>), StoreError>> + Unpin {
    let fetches = stream::iter(wanted)
        .map(move |id| async move {
            let open = |bytes: &Bytes| open_segment(repository, id, bytes);
            match repository.objects().segment(id, open).await {
                Ok((opened, room)) => Ok((id, Some(opened), Some(room))),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok((id, None, None)),
                Err(error) if error.kind.is_damage() => {
                    let damaged = FormatError::Invalid { what: "an index segment", why: error.clause() };
                    Ok((id, Some(Err(damaged)), None))
                }
                Err(error) => Err(error),
            }
        })
        .buffer_unordered(FETCHES);
    Box::pin(fetches)
}

/// Merges the smallest tables while there are too many, so that a lookup asks few and each chunk is merged O(log n) times. Those of
/// segments that are merged in the repository sooner or later are apart from the others: only they have to be made anew then.
fn merge_small(shelf: &Shelf, tables: &mut Vec<Arc<Table>>) -> Result<(), IndexError> {
    let (mut settled, mut small): (Vec<_>, Vec<_>) =
        tables.drain(..).partition(|table| table.segment_bytes() >= SETTLED_BYTES);
    let merged = merge_smallest(shelf, &mut settled).and_then(|()| merge_smallest(shelf, &mut small));
    tables.extend(settled.into_iter().chain(small));
    merged
}

fn merge_smallest(shelf: &Shelf, tables: &mut Vec<Arc<Table>>) -> Result<(), IndexError> {
    if tables.len() <= TABLES_MAX {
        return Ok(());
    }
    tables.sort_by_key(|table| std::cmp::Reverse(table.chunk_count()));
    let mut from = tables.len() - TABLES_MAX / 2;
    let mut size: usize = tables[from..].iter().map(|table| table.chunk_count()).sum();
    while from > 0 && tables[from - 1].chunk_count() < 2 * size {
        from -= 1;
        size += tables[from].chunk_count();
    }
    // One that is not as it was written stays by itself: what is missed in it makes it anew.
    let sound: Vec<Arc<Table>> = tables[from..].iter().filter(|table| table.is_sound()).cloned().collect();
    if sound.len() < 2 {
        return Ok(());
    }
    let merged = shelf.put(SegmentId(random()), |file| merge_tables(file, &sound))?;
    let is_kept = merged.path().is_some();
    tables.retain(|table| !sound.iter().any(|sound| Arc::ptr_eq(sound, table)));
    // A merged table that goes with this run leaves the next one those that it was made from.
    sound.iter().filter(|_| is_kept).for_each(|table| Shelf::discard(table));
    tables.push(merged);
    Ok(())
}

/// Opens an index segment's object. One of a domain that was erased names nothing, whatever is in it: its packs are dead. Nor does,
/// for a writer, one of an epoch that it was not let into.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_segment(repository: &Repository, id: SegmentId, object: &[u8]) -> Result<IndexSegment, FormatError> {
    let keys = repository.keys();
    if INDEX.split(object).is_ok_and(|(at, _)| keys.is_not_for_us(at)) {
        return Ok(IndexSegment::of(Author::Reader, Vec::new()));
    }
    let opened = keys.open_for_writers(INDEX, &id.0, object)?;
    IndexSegment::decode(opened.author, opened.value())
}
