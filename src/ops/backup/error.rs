//! Why there is no snapshot.

use std::sync::Arc;

use crate::model::outcome::{Ended, Outcome};
use crate::repository::access::AccessError;
use crate::repository::index::IndexError;
use crate::repository::session::SessionError;
use crate::repository::snapshots::SnapshotError;
use crate::repository::uploader::UploadError;
use crate::repository::writer::CommitError;
use crate::repository::{OpenError, StoreError};
use crate::source::SourceError;
use crate::source::files::WalkError;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Neither paths nor streams were given.
    #[error("there is nothing to back up")]
    Nothing,
    /// A stream's name is not a path, or is taken.
    #[error("a stream cannot be stored as {name:?}: {why}")]
    StreamName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The walk could not begin.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A stream failed; its command's error output is in the source.
    #[error("stream {name} failed, so no snapshot was made")]
    Stream {
        /// The stream.
        name: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// Every stream failed, though the others were to be kept.
    #[error("all streams failed, so no snapshot was made; the first was {name}")]
    AllFailed {
        /// The first of them.
        name: String,
        /// Why it failed.
        #[source]
        source: Arc<SourceError>,
    },
    /// The repository may not be written.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A thread of the run panicked, and has said why.
    #[error("the run failed for an internal reason, told above; no snapshot was made")]
    Internal,
    /// Ending was asked for.
    #[error("interrupted; what was stored will be found by the next run")]
    Cancelled,
    /// The index could not be had.
    #[error("the index cannot be used")]
    Index(#[from] IndexError),
    /// The session could not be started.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The lease could not be put.
    #[error("the lease could not be stored")]
    Lease(#[source] StoreError),
    /// The parent could not be found.
    #[error("the parent snapshot cannot be used")]
    Parent(#[from] SnapshotError),
    /// Storing failed.
    #[error("what was read could not be stored")]
    Upload(#[from] UploadError),
    /// Packs that the run relied on were deleted while it ran.
    #[error("{packs} packs that this backup relies on were deleted while it ran, so no snapshot was made")]
    Vanished {
        /// How many.
        packs: usize,
    },
    /// Packs that the run relied on are not listed any more, and may not be asked for.
    #[error(
        "{packs} packs that this backup relies on are not listed, and may not be asked for, so no snapshot was made"
    )]
    Unknown {
        /// How many.
        packs: usize,
        /// How the store refuses.
        #[source]
        source: StoreError,
    },
    /// A clean-up did not wait for the run any longer.
    #[error("the run was away for so long that a clean-up gave it up, so its snapshot does not count")]
    GivenUp,
    /// The key of this host was revoked while the run went on.
    #[error("the key of this host was revoked while it backed up, so what it made does not count")]
    ThrownOut,
    /// Whether what was made counts is not known.
    #[error("whether a clean-up had given the run up, or this host was thrown out, could not be asked")]
    LookBack(#[source] OpenError),
    /// Everything is stored but the snapshot.
    #[error("the snapshot could not be stored")]
    Commit(#[source] CommitError),
}

impl Ended for BackupError {
    fn outcome(&self) -> Outcome {
        match self {
            BackupError::Nothing | BackupError::StreamName { .. } => Outcome::Usage,
            BackupError::Walk(error) => error.outcome(),
            BackupError::Stream { .. } | BackupError::AllFailed { .. } => Outcome::FailedDump,
            BackupError::Access(error) => error.outcome(),
            BackupError::Cancelled => Outcome::Interrupted,
            BackupError::Internal | BackupError::Vanished { .. } | BackupError::GivenUp => Outcome::Failed,
            BackupError::Index(error) => error.outcome(),
            BackupError::Session(error) => error.outcome(),
            BackupError::Parent(error) => error.outcome(),
            BackupError::Upload(error) => error.outcome(),
            BackupError::ThrownOut => Outcome::Refused,
            BackupError::Lease(error) => error.outcome(),
            BackupError::LookBack(error) => error.outcome(),
            BackupError::Commit(error) => error.outcome(),
            BackupError::Unknown { source, .. } => source.outcome(),
        }
    }
}
