//! The index: which chunks are stored, and where.
//!
//! Segments are fetched once, turned into sorted tables in the cache and searched there through memory maps, so lookups
//! need a fixed amount of memory however many chunks there are. Small tables are merged as an LSM tree does.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::crypto::random;
use crate::crypto::seal::Purpose;
use crate::format::FormatError;
use crate::format::doomed::{Doomed, join_doomed_object, split_doomed_object};
use crate::format::index::{IndexSegment, PackEntry, join_index_object, split_index_object};
use crate::format::pack::PackDirectory;
use crate::model::id::{ChunkId, ChunkKey, PackId, SegmentId, SessionId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::table::{Location, PackInfo, Table, merge_tables, write_table};
use crate::repository::sound::get_sound;
use crate::store::{StoreError, StoreErrorKind};

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
    /// The local cache failed.
    #[error("the index cache {path} cannot be used")]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The index of a repository as of when it was loaded, plus what this run added.
#[derive(Debug)]
pub struct Index {
    directory: PathBuf,
    tables: RwLock<Vec<Arc<Table>>>,
    /// Packs that the index knows and that no new snapshot may rely on: the store does not have them, or they are doomed.
    unreliable: HashSet<PackId>,
    /// Segments that could not be read; reading goes on without them, deleting must not.
    damaged: Vec<(ObjectKey, FormatError)>,
}

impl Index {
    /// Brings the local tables up to date with the store and maps them.
    ///
    /// A damaged segment is reported to `monitor` and left out: what it alone knows is read as missing, and a backup
    /// stores it again.
    ///
    /// # Errors
    /// [`IndexError`] when the store or the cache fails.
    pub async fn load(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, IndexError> {
        monitor.phase("reading the index");
        let directory = repository.cache().index();
        let listed = repository.store().list(ObjectKind::Index.prefix()).await?;
        let wanted: BTreeSet<SegmentId> = listed.iter().filter_map(|object| object.key.segment_id()).collect();
        let mut tables = open_tables(&directory, &wanted)?;
        let known: HashSet<SegmentId> = tables.iter().flat_map(|table| table.segments().to_vec()).collect();
        let missing: Vec<SegmentId> = wanted.difference(&known.into_iter().collect()).copied().collect();

        let mut fetches = stream::iter(missing)
            .map(|id| async move {
                let key = ObjectKey::segment(id);
                let open = |bytes: &Bytes| open_segment(repository, id, bytes);
                match get_sound(&**repository.store(), &key, open).await {
                    Ok(opened) => Ok(Some((id, opened))),
                    Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(FETCHES);
        let mut damaged = Vec::new();
        // One segment at a time becomes a table, so that memory does not grow with their number.
        while let Some(fetched) = fetches.try_next().await? {
            let Some((id, opened)) = fetched else { continue };
            match opened {
                Ok(segment) => {
                    tables.push(make_table(directory.join(format!("{id}.table")), &[id], &segment.packs)?);
                    merge_small(&directory, &mut tables)?;
                }
                Err(source) => {
                    let key = ObjectKey::segment(id);
                    monitor.problem(Problem { subject: key.to_string(), message: source.to_string() });
                    damaged.push((key, source));
                }
            }
        }
        merge_small(&directory, &mut tables)?;
        Ok(Self { directory, tables: RwLock::new(tables), unreliable: HashSet::new(), damaged })
    }

    /// Compares the index with the packs that the store lists, and with those that are to be deleted: chunks in packs that
    /// are gone or doomed count as not stored.
    ///
    /// # Errors
    /// [`IndexError::Store`] when the packs cannot be listed.
    pub async fn check_packs(&mut self, repository: &Repository, monitor: &dyn Monitor) -> Result<(), IndexError> {
        self.unreliable = self.gone_now(repository).await?;
        self.unreliable.extend(doomed_packs(repository, monitor).await?);
        Ok(())
    }

    /// Returns the packs that were there at [`Index::check_packs`], or were added since, and are not any more.
    ///
    /// `with_doomed` counts those as well that are to be deleted since then: their deletion waits for every session whose
    /// lease is alive, so it matters only to one whose lease was not.
    ///
    /// # Errors
    /// [`IndexError::Store`] when the packs cannot be listed.
    pub async fn lost_packs(
        &self,
        repository: &Repository,
        with_doomed: bool,
        monitor: &dyn Monitor,
    ) -> Result<HashSet<PackId>, IndexError> {
        let mut lost = self.gone_now(repository).await?;
        if with_doomed {
            lost.extend(doomed_packs(repository, monitor).await?);
        }
        lost.retain(|pack| !self.unreliable.contains(pack));
        Ok(lost)
    }

    async fn gone_now(&self, repository: &Repository) -> Result<HashSet<PackId>, IndexError> {
        let listed = repository.store().list(ObjectKind::Pack.prefix()).await?;
        let present: HashSet<PackId> = listed.iter().filter_map(|object| object.key.pack_id()).collect();
        Ok(self.packs().into_iter().map(|pack| pack.id).filter(|id| !present.contains(id)).collect())
    }

    /// Tells whether the index knows all that the store has, and the store has all that the index knows.
    pub fn is_whole(&self) -> bool {
        self.unreliable.is_empty() && self.damaged.is_empty()
    }

    /// Returns the segments that could not be read.
    pub fn damaged(&self) -> &[(ObjectKey, FormatError)] {
        &self.damaged
    }

    /// Tells whether a chunk is stored in a pack that may be relied on.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.find_where(&id.key(), |location| !self.unreliable.contains(&location.pack)).is_some()
    }

    /// Tells where a chunk lies, preferring a pack that may be relied on.
    pub fn locate(&self, id: &ChunkId) -> Option<Location> {
        let key = id.key();
        self.find_where(&key, |location| !self.unreliable.contains(&location.pack))
            .or_else(|| self.find_where(&key, |_| true))
    }

    /// Returns every place where a chunk lies; hosts that ran at the same time may have stored it twice.
    pub fn locate_all(&self, id: &ChunkId) -> Vec<Location> {
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().flat_map(|table| table.find_all(&id.key())).collect()
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

    /// Returns the number of index segments that the tables cover.
    pub fn segment_count(&self) -> usize {
        self.tables.read().expect("no panic while held").iter().map(|table| table.segments().len()).sum()
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

    /// Adds a segment that this run stored.
    ///
    /// # Errors
    /// [`IndexError::Cache`] when the table cannot be written.
    pub(crate) fn add_segment(&self, id: SegmentId, packs: &[PackEntry]) -> Result<(), IndexError> {
        let table = make_table(self.directory.join(format!("{id}.table")), &[id], packs)?;
        let mut tables = self.tables.write().expect("no panic while held");
        tables.push(table);
        merge_small(&self.directory, &mut tables)
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

/// Returns the packs that some clean-up run intends to delete. A list that cannot be read is a problem and no more: what
/// is deleted in the end is only what no snapshot refers to.
async fn doomed_packs(repository: &Repository, monitor: &dyn Monitor) -> Result<HashSet<PackId>, IndexError> {
    let mut packs = HashSet::new();
    for object in repository.store().list(ObjectKind::Doomed.prefix()).await? {
        let Some(id) = object.key.doomed_by() else { continue };
        match get_sound(&**repository.store(), &object.key, |bytes| open_doomed(repository, id, bytes)).await {
            Ok(Ok(doomed)) => packs.extend(doomed.packs),
            Ok(Err(error)) => {
                monitor.problem(Problem { subject: object.key.to_string(), message: error.to_string() });
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(packs)
}

/// Merges the smallest tables while there are too many, so that a lookup asks few and each chunk is merged O(log n) times.
fn merge_small(directory: &Path, tables: &mut Vec<Arc<Table>>) -> Result<(), IndexError> {
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
    let path = directory.join(format!("{}.table", SegmentId(random())));
    let cache = |source| IndexError::Cache { path: path.clone(), source };
    merge_tables(&path, &tables[from..]).map_err(cache)?;
    let merged = Arc::new(Table::open(&path).map_err(cache)?);
    // Whoever still searches in one of these has it mapped.
    tables.drain(from..).for_each(|table| remove_file(table.path()));
    tables.push(merged);
    Ok(())
}

/// Opens the cached tables that cover only segments that still exist; removes the others and damaged files.
fn open_tables(directory: &Path, wanted: &BTreeSet<SegmentId>) -> Result<Vec<Arc<Table>>, IndexError> {
    let cache = |source| IndexError::Cache { path: directory.to_path_buf(), source };
    let mut opened = Vec::new();
    for file in std::fs::read_dir(directory).map_err(cache)? {
        let path = file.map_err(cache)?.path();
        if path.extension().is_none_or(|extension| extension != "table") {
            continue;
        }
        match Table::open(&path) {
            Ok(table) if table.segments().iter().all(|id| wanted.contains(id)) => opened.push((Arc::new(table), path)),
            Ok(_) => remove_file(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => remove_file(&path),
        }
    }
    // A table of many segments makes those of single ones superfluous.
    opened.sort_by_key(|(table, _)| std::cmp::Reverse(table.segments().len()));
    let mut covered: HashSet<SegmentId> = HashSet::new();
    let mut tables = Vec::new();
    for (table, path) in opened {
        if table.segments().iter().any(|id| covered.contains(id)) {
            remove_file(&path);
            continue;
        }
        covered.extend(table.segments());
        tables.push(table);
    }
    Ok(tables)
}

/// Removes a cache file; one that stays is only superfluous.
fn remove_file(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn make_table(path: PathBuf, segments: &[SegmentId], packs: &[PackEntry]) -> Result<Arc<Table>, IndexError> {
    let made = write_table(&path, segments, packs).and_then(|()| Table::open(&path));
    made.map(Arc::new).map_err(|source| IndexError::Cache { path, source })
}

/// Seals a segment, for the domain that new sessions write to.
pub fn seal_segment(repository: &Repository, id: SegmentId, segment: &IndexSegment) -> Vec<u8> {
    let (domain, epoch, envelope) = repository.keys().seal_for_writers(Purpose::Index, &id.0, &segment.encode());
    join_index_object(domain, epoch, &envelope)
}

/// Seals a list of doomed packs, for the clean-up run `id`.
pub fn seal_doomed(repository: &Repository, id: SessionId, doomed: &Doomed) -> Vec<u8> {
    let (domain, epoch, envelope) = repository.keys().seal_for_writers(Purpose::Doomed, &id.0, &doomed.encode());
    join_doomed_object(domain, epoch, &envelope)
}

/// Opens an index segment's object.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_segment(repository: &Repository, id: SegmentId, object: &[u8]) -> Result<IndexSegment, FormatError> {
    let sealed = split_index_object(object)?;
    IndexSegment::decode(&repository.keys().open_for_writers("an index segment", Purpose::Index, &id.0, sealed)?)
}

/// Opens a list of doomed packs, written by the clean-up run `id`.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_doomed(repository: &Repository, id: SessionId, object: &[u8]) -> Result<Doomed, FormatError> {
    let sealed = split_doomed_object(object)?;
    Doomed::decode(&repository.keys().open_for_writers("a list of doomed packs", Purpose::Doomed, &id.0, sealed)?)
}
