//! Where tables lie: in the cache, or, when that is missing, full or read-only, in files without a name.
//!
//! A run that cannot keep its tables fetches what the next one fetches again, and is right all the same.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::model::id::SegmentId;
use crate::progress::Monitor;
use crate::repository::cache::Cache;
use crate::repository::cache::temporary::Temporary;
use crate::repository::index::IndexError;
use crate::repository::index::table::Table;

/// The places for tables of one run.
#[derive(Debug)]
pub(super) struct Shelf {
    cache: Cache,
    /// The cache's directory of tables, unless it refused one.
    directory: Mutex<Result<PathBuf, io::Error>>,
}

impl Shelf {
    pub(super) fn new(cache: &Cache) -> Self {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the directory cannot be made");
        Self { cache: cache.clone(), directory: Mutex::new(cache.index().ok_or_else(missing)) }
    }

    /// Opens the cached tables that cover only segments that still exist; removes the others and damaged ones.
    pub(super) fn tables(&self, wanted: &BTreeSet<SegmentId>) -> Vec<Arc<Table>> {
        let Some(files) = self.directory().and_then(|directory| std::fs::read_dir(directory).ok()) else {
            return Vec::new();
        };
        let mut opened = Vec::new();
        for path in files.flatten().map(|file| file.path()) {
            if path.extension().is_none_or(|extension| extension != "table") {
                continue;
            }
            match Table::open(&path) {
                Ok(table) if table.segments().iter().all(|id| wanted.contains(id)) => opened.push(Arc::new(table)),
                Ok(_) | Err(_) => remove(&path),
            }
        }
        // A table of many segments makes those of single ones superfluous.
        opened.sort_by_key(|table| std::cmp::Reverse(table.segments().len()));
        let mut covered: HashSet<SegmentId> = HashSet::new();
        opened.retain(|table| {
            let is_needed = !table.segments().iter().any(|id| covered.contains(id));
            if is_needed {
                covered.extend(table.segments());
            } else {
                Self::discard(table);
            }
            is_needed
        });
        opened
    }

    /// Makes a table by what `write` puts into an empty file; `write` is called again when a place fails.
    ///
    /// # Errors
    /// [`IndexError::Cache`] when not even memory can be had.
    pub(super) fn put(
        &self,
        name: SegmentId,
        write: impl Fn(&File) -> io::Result<()>,
    ) -> Result<Arc<Table>, IndexError> {
        if let Some(directory) = self.directory() {
            match named(&directory.join(format!("{name}.table")), &write) {
                Ok(table) => return Ok(Arc::new(table)),
                Err(error) => *self.directory.lock().expect("no panic while held") = Err(error),
            }
        }
        let scratch = self.cache.scratch().to_path_buf();
        let unnamed =
            |file: io::Result<File>| file.and_then(|file| write(&file).and_then(|()| Table::map(&file, None)));
        unnamed(Temporary::unnamed(&scratch))
            .or_else(|_| unnamed(in_memory()))
            .map(Arc::new)
            .map_err(|source| IndexError::Cache { path: scratch, source })
    }

    /// Tells `monitor`, once, when tables could not be kept for the next run.
    pub(super) fn tell(&self, monitor: &dyn Monitor) {
        if let Err(reason) = &*self.directory.lock().expect("no panic while held") {
            self.cache.tell_unusable(reason, monitor);
        }
    }

    /// Removes the file of a table that another one replaces. Whoever still searches in it has it mapped.
    pub(super) fn discard(table: &Table) {
        if let Some(path) = table.path() {
            remove(path);
        }
    }

    fn directory(&self) -> Option<PathBuf> {
        self.directory.lock().expect("no panic while held").as_ref().ok().cloned()
    }
}

fn named(path: &Path, write: impl Fn(&File) -> io::Result<()>) -> io::Result<Table> {
    let temporary = Temporary::create(path)?;
    write(temporary.file())?;
    let file = temporary.persist(path)?;
    Table::map(&file, Some(path.to_path_buf()))
}

/// Makes a file that lies in memory: the last resort, of about 30 bytes for each chunk.
fn in_memory() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("coffre-index", rustix::fs::MemfdFlags::CLOEXEC)?))
}

/// Removes what lies where a table should; what stays is only superfluous.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::author::Author;
    use crate::model::id::RepositoryId;
    use crate::progress::Collected;
    use crate::repository::index::table::write_table;

    fn cache(root: &Path) -> Cache {
        Cache::open(RepositoryId([1; 16]), &root.into())
    }

    fn put(shelf: &Shelf, segment: u8) -> Arc<Table> {
        let id = SegmentId([segment; 16]);
        shelf.put(id, |file| write_table(file, &[id], Author::Reader, &[])).expect("somewhere")
    }

    #[test]
    fn a_table_that_the_cache_refuses_lies_elsewhere_and_is_told_once() {
        let directory = tempfile::tempdir().expect("made");
        let good = cache(directory.path());
        // A directory that is not empty stands where the table should.
        let path = good.index().expect("there").join(format!("{}.table", SegmentId([1; 16])));
        std::fs::create_dir_all(path.join("inside")).expect("made");
        for cache in [cache(Path::new("/dev/null/nowhere")), good] {
            let (shelf, monitor) = (Shelf::new(&cache), Collected::default());
            let table = put(&shelf, 1);
            assert_eq!((table.path(), table.segments()), (None, &[SegmentId([1; 16])][..]));
            shelf.tell(&monitor);
            shelf.tell(&monitor);
            assert_eq!((monitor.notes().len(), monitor.problems().len()), (1, 0), "{:?}", monitor.notes());
        }
        assert!(path.join("inside").exists());
    }

    #[test]
    fn tables_in_memory_hold_what_others_do() {
        let file = in_memory().expect("made");
        write_table(&file, &[SegmentId([1; 16])], Author::Reader, &[]).expect("written");
        assert_eq!(Table::map(&file, None).expect("a table").segments(), [SegmentId([1; 16])]);
    }

    #[test]
    fn only_whole_tables_of_segments_that_are_there_are_opened_and_the_rest_goes() {
        let directory = tempfile::tempdir().expect("made");
        let cache = cache(directory.path());
        let shelf = Shelf::new(&cache);
        (1..=3).for_each(|segment| drop(put(&shelf, segment)));
        let both = [SegmentId([1; 16]), SegmentId([4; 16])];
        shelf.put(SegmentId([9; 16]), |file| write_table(file, &both, Author::Reader, &[])).expect("put");
        let index = cache.index().expect("there");
        std::fs::create_dir(index.join("directory.table")).expect("made");
        let damaged = index.join(format!("{}.table", SegmentId([2; 16])));
        let mut bytes = std::fs::read(&damaged).expect("there");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&damaged, bytes).expect("writable");

        // 3 is gone from the store, 2 is damaged, 1 is in the larger table too.
        let wanted = [1, 2, 4].map(|segment| SegmentId([segment; 16])).into();
        let tables = shelf.tables(&wanted);
        assert_eq!(tables.iter().map(|table| table.segments()).collect::<Vec<_>>(), [&both]);
        assert_eq!(std::fs::read_dir(&index).expect("readable").count(), 1);
        shelf.tell(&Collected::default());
    }
}
