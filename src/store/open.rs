//! Opening a location: the one place that knows which decorators a store gets, and in which order.

use std::sync::Arc;

use crate::progress::Monitor;
use crate::store::local::LocalStore;
use crate::store::location::Location;
use crate::store::memory::MemoryStore;
use crate::store::{Store, StoreError, StoreErrorKind};

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenMode {
    /// Reading only: nothing is changed, not even left-over temporary files.
    Read,
    /// Reading and writing.
    #[default]
    Write,
    /// Reading and writing, and a directory that is missing is made. (Buckets are made by their owner.)
    Create,
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// What for.
    pub mode: OpenMode,
}

/// Opens the store at `location`.
pub fn open(
    location: &Location,
    options: &OpenOptions,
    _monitor: Arc<dyn Monitor>,
) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Directory(path) => Ok(Arc::new(LocalStore::open(path, options.mode)?)),
        Location::Memory(name) => Ok(Arc::new(MemoryStore::named(name))),
        Location::S3(_) => Err(StoreError::new("open", location, StoreErrorKind::Other, "S3 is not there yet")),
    }
}
