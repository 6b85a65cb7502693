//! The index: which chunks are stored, and where.
//!
//! Segments are fetched once, turned into sorted tables in the cache and searched there through memory maps, so lookups
//! need a fixed amount of memory however many chunks there are. Small tables are merged as an LSM tree does.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::crypto::random;
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::format::FormatError;
use crate::format::index::{IndexSegment, PackEntry, join_index_object, split_index_object};
use crate::model::id::{ChunkId, ChunkKey, PackId, SegmentId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::table::{Location, PackInfo, Table, merge_tables, write_table};
use crate::store::StoreError;

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
    /// Packs that the index knows and the store does not have.
    gone: HashSet<PackId>,
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

        let fetched: Vec<_> = stream::iter(missing)
            .map(|id| async move {
                let key = ObjectKey::segment(id);
                match repository.store().get(&key).await {
                    Ok(bytes) => Ok(Some((id, open_segment(repository, id, &bytes)))),
                    Err(error) if error.kind == crate::store::StoreErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(FETCHES)
            .try_collect()
            .await?;
        let mut damaged = Vec::new();
        for (id, segment) in fetched.into_iter().flatten() {
            match segment {
                Ok(segment) => {
                    let path = directory.join(format!("{id}.table"));
                    tables.push(make_table(path, &[id], &segment.packs)?);
                }
                Err(source) => {
                    let key = ObjectKey::segment(id);
                    monitor.problem(crate::progress::Problem { subject: key.to_string(), message: source.to_string() });
                    damaged.push((key, source));
                }
            }
        }
        let index = Self { directory, tables: RwLock::new(tables), gone: HashSet::new(), damaged };
        index.merge_small()?;
        Ok(index)
    }

    /// Compares the index with the packs that the store lists: chunks in packs that are gone count as not stored.
    ///
    /// # Errors
    /// [`IndexError::Store`] when the packs cannot be listed.
    pub async fn check_packs(&mut self, repository: &Repository) -> Result<(), IndexError> {
        let listed = repository.store().list(ObjectKind::Pack.prefix()).await?;
        let present: HashSet<PackId> = listed.iter().filter_map(|object| object.key.pack_id()).collect();
        self.gone = self.packs().into_iter().map(|pack| pack.id).filter(|id| !present.contains(id)).collect();
        Ok(())
    }

    /// Returns the packs that the index knows and the store does not have, after [`Index::check_packs`].
    pub fn gone_packs(&self) -> &HashSet<PackId> {
        &self.gone
    }

    /// Returns the segments that could not be read.
    pub fn damaged(&self) -> &[(ObjectKey, FormatError)] {
        &self.damaged
    }

    /// Tells whether a chunk is stored in a pack that is there.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.find_where(&id.key(), |location| !self.gone.contains(&location.pack)).is_some()
    }

    /// Tells where a chunk lies, preferring a pack that is there.
    pub fn locate(&self, id: &ChunkId) -> Option<Location> {
        let key = id.key();
        self.find_where(&key, |location| !self.gone.contains(&location.pack))
            .or_else(|| self.find_where(&key, |_| true))
    }

    /// Returns every place where a chunk lies; hosts that ran at the same time may have stored it twice.
    pub fn locate_all(&self, id: &ChunkId) -> Vec<Location> {
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().filter_map(|table| table.find(&id.key())).collect()
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
        self.tables.write().expect("no panic while held").push(table);
        self.merge_small()
    }

    fn find_where(&self, key: &ChunkKey, accept: impl Fn(&Location) -> bool) -> Option<Location> {
        let tables = self.tables.read().expect("no panic while held");
        tables.iter().filter_map(|table| table.find(key)).find(|location| accept(location))
    }

    /// Merges the smallest tables while there are too many, so that a lookup asks few and each chunk is merged
    /// O(log n) times.
    fn merge_small(&self) -> Result<(), IndexError> {
        let mut tables = self.tables.write().expect("no panic while held");
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
        let path = self.directory.join(format!("{}.table", SegmentId(random())));
        let cache = |source| IndexError::Cache { path: path.clone(), source };
        merge_tables(&path, &tables[from..]).map_err(cache)?;
        let merged = Arc::new(Table::open(&path).map_err(cache)?);
        tables.truncate(from);
        tables.push(merged);
        Ok(())
    }
}

/// Opens the cached tables that cover only segments that still exist; removes the others and damaged files.
fn open_tables(directory: &std::path::Path, wanted: &BTreeSet<SegmentId>) -> Result<Vec<Arc<Table>>, IndexError> {
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
fn remove_file(path: &std::path::Path) {
    let _ = std::fs::remove_file(path);
}

fn make_table(path: PathBuf, segments: &[SegmentId], packs: &[PackEntry]) -> Result<Arc<Table>, IndexError> {
    let made = write_table(&path, segments, packs).and_then(|()| Table::open(&path));
    made.map(Arc::new).map_err(|source| IndexError::Cache { path, source })
}

/// Seals a segment under the index key of the domain that new sessions write to.
pub(crate) fn seal_segment(repository: &Repository, id: SegmentId, segment: &IndexSegment) -> Vec<u8> {
    let dedup = repository.keys().current_dedup();
    let envelope = seal_envelope(&dedup.index_key(), repository.id(), Purpose::Index, &id.0, &segment.encode());
    join_index_object(dedup.domain, dedup.epoch, &envelope)
}

/// Opens an index segment's object.
///
/// # Errors
/// [`FormatError`] says what is wrong with it.
pub fn open_segment(repository: &Repository, id: SegmentId, object: &[u8]) -> Result<IndexSegment, FormatError> {
    let invalid = |why: String| FormatError::Invalid { what: "an index segment", why };
    let (domain, epoch, envelope) = split_index_object(object)?;
    let dedup = repository
        .keys()
        .dedup(domain, epoch)
        .ok_or_else(|| invalid(format!("the key of domain {domain} epoch {epoch} is not in the keyring")))?;
    let plain = open_envelope(&dedup.index_key(), repository.id(), Purpose::Index, &id.0, envelope)
        .map_err(|error| invalid(error.to_string()))?;
    IndexSegment::decode(&plain)
}
