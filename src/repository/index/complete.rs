//! The complete face: every segment read, every snapshot opened, every replica asked, or an error. Whoever deletes takes
//! this one and no other, because what half an index does not know looks like what nobody needs.
//!
//! ```
//! # use coffre::repository::access::Deleting;
//! # use coffre::repository::index::complete::CompleteIndex;
//! fn delete_unneeded(deleting: &Deleting, index: &CompleteIndex) {}
//! ```
//!
//! The index that serves restoring is not taken for it:
//!
//! ```compile_fail,E0308
//! # use coffre::repository::access::Deleting;
//! # use coffre::repository::index::{Index, complete::CompleteIndex};
//! # fn delete_unneeded(deleting: &Deleting, index: &CompleteIndex) {}
//! fn clean_up(deleting: &Deleting, index: &Index) {
//!     delete_unneeded(deleting, index);
//! }
//! ```
//!
//! Nor is that of a writer, which leaves out what it must not rely on:
//!
//! ```compile_fail,E0308
//! # use coffre::repository::access::Deleting;
//! # use coffre::repository::index::{checked::CheckedIndex, complete::CompleteIndex};
//! # fn delete_unneeded(deleting: &Deleting, index: &CompleteIndex) {}
//! fn clean_up(deleting: &Deleting, index: &CheckedIndex) {
//!     delete_unneeded(deleting, index);
//! }
//! ```

use std::ops::Deref;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::format::FormatError;
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::Snapshot;
use crate::progress::Monitor;
use crate::repository::access::Deleting;
use crate::repository::index::{Index, IndexError};
use crate::repository::snapshots::SnapshotError;

/// Why it is not known what is needed, so that nothing may be deleted.
#[derive(Debug, thiserror::Error)]
pub enum IncompleteError {
    /// A part of the index is missing.
    #[error("the index is not complete, so nothing may be deleted")]
    Index(#[from] IndexError),
    /// A snapshot cannot be opened, or they cannot all be listed.
    #[error("not every snapshot can be opened, so nothing may be deleted")]
    Snapshots(#[from] SnapshotError),
}

impl Ended for IncompleteError {
    fn outcome(&self) -> Outcome {
        match self {
            IncompleteError::Index(error) => error.outcome(),
            IncompleteError::Snapshots(error) => error.outcome(),
        }
    }
}

/// All that is stored and all that is needed, as of when it was loaded.
#[derive(Debug)]
pub struct CompleteIndex {
    index: Arc<Index>,
    snapshots: Vec<Snapshot>,
}

impl Deref for CompleteIndex {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl Index {
    /// Tells whether every segment that was listed was read.
    ///
    /// # Errors
    /// [`IndexError::Damaged`] names the first that was not.
    pub fn require_all_segments(&self) -> Result<(), IndexError> {
        match self.damaged().first() {
            None => Ok(()),
            Some((key, source)) => Err(IndexError::Damaged { key: key.clone(), source: source.clone() }),
        }
    }
}

impl CompleteIndex {
    /// Opens all snapshots, then reads all segments: what a snapshot needs was indexed before it was visible.
    ///
    /// # Errors
    /// [`IncompleteError`] for the first doubt.
    pub async fn load(deleting: &Deleting, monitor: &dyn Monitor) -> Result<Self, IncompleteError> {
        let repository = deleting.repository();
        let ids = repository.objects().every_snapshot().await.map_err(SnapshotError::List)?;
        let mut opening = repository.listed_snapshots(ids);
        let mut snapshots = Vec::new();
        while let Some((_, snapshot)) = opening.next().await {
            snapshots.push(snapshot?);
        }
        let segments = repository.objects().every_segment().await.map_err(IndexError::Store)?;
        let index = Index::load(repository, monitor).await?;
        index.require_all_segments()?;
        if let Some(missing) = segments.difference(&index.segments()).next() {
            let source = FormatError::Invalid { what: "an index segment", why: "it is listed and was not read".into() };
            return Err(IndexError::Damaged { key: ObjectKey::segment(*missing), source }.into());
        }
        Ok(Self { index: Arc::new(index), snapshots })
    }

    /// Returns the index for a reader.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Returns all snapshots, the oldest first: what they need is all that is needed.
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }
}
