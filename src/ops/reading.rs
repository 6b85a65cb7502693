//! What the operations that look into snapshots begin with: a reader over the loaded index.

use std::sync::Arc;

use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::SnapshotId;
use crate::progress::Monitor;
use crate::repository::access::AccessError;
use crate::repository::index::{Index, IndexError};
use crate::repository::reader::{ReadError, Reader};
use crate::repository::snapshots::SnapshotError;
use crate::repository::{Repository, StoreError};

/// Why something could not be looked up: what every verb that reads begins with.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The repository may not be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The index could not be had.
    #[error("the index cannot be used")]
    Index(#[from] IndexError),
    /// A snapshot could not be had.
    #[error("the snapshots cannot be read")]
    Snapshots(#[from] SnapshotError),
    /// A part of a tree cannot be read.
    #[error("a part of the tree cannot be read")]
    Tree(#[from] ReadError),
    /// The store failed.
    #[error("the repository cannot be listed")]
    Store(#[from] StoreError),
    /// The snapshot has no such path.
    #[error("snapshot {} has no /{path}", snapshot.short())]
    NoSuchPath {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The path.
        path: EntryPath,
    },
    /// The snapshot has nothing at all.
    #[error("snapshot {} has no entries", snapshot.short())]
    Empty {
        /// The snapshot.
        snapshot: SnapshotId,
    },
}

impl Ended for LookError {
    fn outcome(&self) -> Outcome {
        match self {
            LookError::Access(error) => error.outcome(),
            LookError::Index(error) => error.outcome(),
            LookError::Snapshots(error) => error.outcome(),
            LookError::Tree(error) => error.outcome(),
            LookError::Store(error) => error.outcome(),
            LookError::NoSuchPath { .. } | LookError::Empty { .. } => Outcome::Missing,
        }
    }
}

/// Loads the index and makes a reader over it that stays within `memory_bytes`.
///
/// # Errors
/// [`LookError::Access`] and [`LookError::Index`].
pub async fn open_reader(
    repository: Arc<Repository>,
    memory_bytes: u64,
    monitor: Arc<dyn Monitor>,
) -> Result<Arc<Reader>, LookError> {
    let reading = repository.reading()?;
    let index = Arc::new(Index::load(&repository, &*monitor).await?);
    Ok(Arc::new(Reader::new(reading, index, memory_bytes, monitor)))
}
