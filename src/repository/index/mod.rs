//! The index: which chunks are stored, and where.
//!
//! Segments are fetched once, turned into sorted tables in the cache and searched there through memory maps, so lookups
//! need a fixed amount of memory however many chunks there are. Small tables are merged as an LSM tree does.
//! [`presence`] decides which packs may be relied on, [`anew`] whether a table is what its segments say, `shelf` where tables
//! lie.
//!
//! It has three faces. An [`Index`] is what is available, for reading: what cannot be had is told and left out. A
//! [`CheckedIndex`](checked::CheckedIndex) was compared with what is stored, for writing. A
//! [`CompleteIndex`](complete::CompleteIndex) lacks nothing, for deleting. The latter two can be read like the first; nothing
//! makes one of them from it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::OnceCell;

use crate::crypto::random;
use crate::format::FormatError;
use crate::format::index::{IndexSegment, PackEntry};
use crate::format::object::INDEX;
use crate::format::pack::PackDirectory;
use crate::model::id::{ChunkId, ChunkKey, PackId, SegmentId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::repository::Repository;
use crate::repository::index::shelf::Shelf;
use crate::repository::index::table::{Location, PackInfo, Table, merge_tables, write_table};
use crate::store::{StoreError, StoreErrorKind};

pub mod anew;
mod available;
pub mod checked;
#[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "cleaning up will ask it"))]
pub mod complete;
pub mod presence;
mod shelf;
pub mod table;

/// Segments fetched at the same time.
const FETCHES: usize = 8;
/// With more tables than this, the small ones are merged.
const TABLES_MAX: usize = 8;

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
    /// Packs that the index knows and that no new snapshot may rely on: the store does not have them whole, or they are
    /// doomed.
    unreliable: HashSet<PackId>,
    /// Segments that some required replica lacks: what they alone know would be lost with the others.
    lacking: BTreeSet<SegmentId>,
    /// Segments that could not be read; reading goes on without them, deleting must not.
    damaged: Vec<(ObjectKey, FormatError)>,
    /// Segments that tables of the cache covered, when it was opened.
    from_cache: BTreeSet<SegmentId>,
    /// Whether comparing what came from the cache with the store made anything anew, once that was done.
    made_anew: OnceCell<bool>,
    /// Whether tables are not to be merged now.
    kept_apart: AtomicBool,
}

impl Index {
    /// Tells whether the index knows all that the store has, and the store has all that the index knows.
    pub fn is_whole(&self) -> bool {
        self.unreliable.is_empty() && self.damaged.is_empty()
    }

    /// Tells whether a chunk is stored plain in a pack that may be relied on.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.find_reliable(&id.key()).is_some()
    }

    /// Tells where a chunk lies, or its recipe, preferring a pack that may be relied on and a chunk that is stored plain.
    pub fn locate(&self, id: &ChunkId) -> Option<Location> {
        let key = id.key();
        self.find_reliable(&key).or_else(|| self.places(&key).into_iter().next())
    }

    /// Returns every place where a chunk lies, or its recipe; hosts that ran at the same time may have stored it twice.
    pub fn locate_all(&self, id: &ChunkId) -> Vec<Location> {
        self.places(&id.key())
    }

    /// Does the same for a chunk's key: packs that may be relied on first, and among them those that hold it plain.
    pub fn places(&self, key: &ChunkKey) -> Vec<Location> {
        let tables = self.tables.read().expect("no panic while held");
        let mut places: Vec<Location> = tables.iter().flat_map(|table| table.find_all(key)).collect();
        places.sort_by_key(|place| (self.unreliable.contains(&place.pack), place.codec.holds_recipes()));
        places
    }

    /// Returns what is known about a pack.
    pub fn pack(&self, id: PackId) -> Option<PackInfo> {
        self.tables.read().expect("no panic while held").iter().find_map(|table| table.pack(id))
    }

    /// Returns all packs, each once.
    pub fn packs(&self) -> Vec<PackInfo> {
        let mut seen = HashSet::new();
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().flat_map(|table| table.packs()).filter(|pack| seen.insert(pack.id)).collect()
    }

    /// Returns the number of chunks, those stored twice counted twice.
    pub fn chunk_count(&self) -> usize {
        self.tables.read().expect("no panic while held").iter().map(|table| table.chunk_count()).sum()
    }

    /// Returns the index segments that the tables cover.
    pub fn segments(&self) -> BTreeSet<SegmentId> {
        self.tables.read().expect("no panic while held").iter().flat_map(|table| table.segments().to_vec()).collect()
    }

    /// Returns how many chunks the index places in each pack; the same chunk in two tables counts twice. Reads all tables.
    pub fn chunks_in_packs(&self) -> HashMap<PackId, u64> {
        let mut counts = HashMap::new();
        for table in self.tables() {
            for (pack, chunks) in table.packs().zip(table.chunks_in_packs()) {
                *counts.entry(pack.id).or_default() += u64::from(chunks);
            }
        }
        counts
    }

    /// Returns where the index places chunks in a pack whose own directory has other ones there: frame and offset in it.
    ///
    /// `chunks_in_packs` saves looking through the whole index for a pack about which both agree.
    pub fn misplaced(
        &self,
        pack: PackId,
        directory: &PackDirectory,
        chunks_in_packs: &HashMap<PackId, u64>,
    ) -> Vec<(u32, u32)> {
        let mut true_places = HashSet::new();
        for (frame, record) in (0u32..).zip(&directory.frames) {
            let mut offset = 0;
            for &(key, length) in &record.chunks {
                true_places.insert((key, frame, offset, length));
                offset += length;
            }
        }
        let tables = self.tables();
        let knowing: Vec<_> = tables.iter().filter(|table| table.pack(pack).is_some()).collect();
        let confirmed = knowing
            .iter()
            .flat_map(|table| true_places.iter().map(move |place| (table, place)))
            .filter(|(table, (key, frame, offset, length))| {
                table
                    .find_all(key)
                    .iter()
                    .any(|at| (at.pack, at.frame, at.offset, at.length) == (pack, *frame, *offset, *length))
            })
            .count() as u64;
        if chunks_in_packs.get(&pack) == Some(&confirmed) {
            return Vec::new();
        }
        let located = knowing.iter().flat_map(|table| table.rows().map(move |row| (row.key, table.location(&row))));
        located
            .filter_map(|(key, location)| Some((key, location.filter(|location| location.pack == pack)?)))
            .filter(|(key, at)| !true_places.contains(&(*key, at.frame, at.offset, at.length)))
            .map(|(_, at)| (at.frame, at.offset))
            .collect()
    }

    /// Lends the tables, for walking through everything.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().expect("no panic while held").clone()
    }

    fn add_segment(&self, id: SegmentId, packs: &[PackEntry]) -> Result<(), IndexError> {
        let table = self.shelf.put(id, |file| write_table(file, &[id], packs))?;
        let mut tables = self.tables.write().expect("no panic while held");
        tables.push(table);
        if self.kept_apart.load(Ordering::Relaxed) { Ok(()) } else { merge_small(&self.shelf, &mut tables) }
    }

    /// Finds a chunk that is stored plain. What a recipe names may be gone while its own pack is there, so nobody relies on one
    /// who has not seen to that.
    fn find_reliable(&self, key: &ChunkKey) -> Option<Location> {
        self.find_where(key, |location| self.is_reliable(location) && !location.codec.holds_recipes())
    }

    fn is_reliable(&self, location: &Location) -> bool {
        !self.unreliable.contains(&location.pack)
    }

    fn find_where(&self, key: &ChunkKey, accept: impl Fn(&Location) -> bool) -> Option<Location> {
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().find_map(|table| match table.find(key) {
            // Nearly every chunk lies in one place.
            Some(location) if accept(&location) => Some(location),
            Some(_) => table.find_all(key).into_iter().find(|location| accept(location)),
            None => None,
        })
    }
}

/// A segment that was asked for: opened, damaged, or `None` where it is not there.
type Opened = Option<Result<IndexSegment, FormatError>>;

/// Fetches and opens segments, several at a time.
fn opened_segments(
    repository: &Repository,
    wanted: Vec<SegmentId>,
) -> impl Stream<Item = Result<(SegmentId, Opened), StoreError>> + Unpin {
    let fetches = stream::iter(wanted)
        .map(move |id| async move {
            let open = |bytes: &Bytes| open_segment(repository, id, bytes);
            match repository.objects().segment(id, open).await {
                Ok(opened) => Ok((id, Some(opened))),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok((id, None)),
                Err(error) if error.kind.is_damage() => {
                    let damaged = FormatError::Invalid { what: "an index segment", why: error.clause() };
                    Ok((id, Some(Err(damaged))))
                }
                Err(error) => Err(error),
            }
        })
        .buffer_unordered(FETCHES);
    Box::pin(fetches)
}

/// Merges the smallest tables while there are too many, so that a lookup asks few and each chunk is merged O(log n) times.
fn merge_small(shelf: &Shelf, tables: &mut Vec<Arc<Table>>) -> Result<(), IndexError> {
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
    let merged = shelf.put(SegmentId(random()), |file| merge_tables(file, &tables[from..]))?;
    let is_kept = merged.path().is_some();
    // A merged table that goes with this run leaves the next one those that it was made from.
    tables.drain(from..).filter(|_| is_kept).for_each(|table| Shelf::discard(&table));
    tables.push(merged);
    Ok(())
}

/// Opens an index segment's object.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_segment(repository: &Repository, id: SegmentId, object: &[u8]) -> Result<IndexSegment, FormatError> {
    IndexSegment::decode(repository.keys().open_for_writers(INDEX, &id.0, object)?.value())
}
