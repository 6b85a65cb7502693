//! Restore: a snapshot, or a part of it, into a directory, where only what differs is written.
//!
//! ```text
//! tree ─▶ window of entries ─▶ directories, links ─▶ files that differ: chunks located, sorted by pack and frame
//!      ─▶ range gets, several at once ─▶ each frame opened once ─▶ chunks checked and placed ─▶ files completed
//! ```
//!
//! The work is done in windows of entries, so memory is bounded; within a window every frame is fetched and decoded once.
//! A chunk that cannot be had leaves its file under the name `NAME.damaged` and is reported; everything else is restored.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::Cancel;
use crate::progress::{Monitor, Problem, Totals};
use crate::repository::Repository;
use crate::repository::index::{Index, IndexError};
use crate::repository::reader::Reader;
use crate::target::files::{FileTarget, TargetError, TargetOptions};

mod files;
mod frames;
mod select;
mod walk;

pub use select::{PatternError, Selection};

/// Ends the name of a file that could not be restored whole.
pub const DAMAGED_SUFFIX: &str = ".damaged";

/// What to restore and how.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Only this path; a directory's contents then stand directly in the target.
    pub within: Option<EntryPath>,
    /// Which entries of it.
    pub selection: Selection,
    /// The directory to restore into; made if missing.
    pub target: PathBuf,
    /// How entries are put.
    pub target_options: TargetOptions,
    /// Believe that a file with the right size and mtime has the right content, without reading it.
    pub trust_times: bool,
    /// Look for entries in the target that the snapshot does not have.
    pub find_extras: bool,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Memory to stay within, in bytes.
    pub memory_bytes: u64,
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Files written.
    pub written_files: u64,
    /// Files whose content was right already.
    pub unchanged_files: u64,
    /// Directories, links and special files put.
    pub others: u64,
    /// Bytes written into files.
    pub written_bytes: u64,
    /// Files that could not be restored whole: their paths in the snapshot.
    pub damaged: Vec<String>,
    /// Entries that could not be put, and attributes that could not be set.
    pub problems: u64,
    /// Entries whose owner could not be set, for lack of rights.
    pub owners_missed: u64,
    /// Paths below the target that the snapshot does not have, when asked for.
    pub extras: Vec<Vec<u8>>,
    /// How long it took.
    pub duration: Duration,
}

/// Why nothing more could be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The key at hand cannot read.
    #[error("this key can back up but not read, so it cannot restore")]
    WriterOnly,
    /// The index could not be had.
    #[error("the index cannot be used")]
    Index(#[from] IndexError),
    /// The target cannot be used.
    #[error("the target cannot be used")]
    Target(#[from] TargetError),
    /// The snapshot has no such path.
    #[error("snapshot {snapshot} has no {path}")]
    NoSuchPath {
        /// The snapshot.
        snapshot: String,
        /// The path.
        path: String,
    },
    /// Ending was asked for.
    #[error("interrupted; what was completed stays, and the same command goes on from there")]
    Cancelled,
}

/// Restores, and returns when everything is durable.
///
/// # Errors
/// [`RestoreError`] when the restore as a whole cannot go on; single entries are in the report.
pub async fn restore(
    repository: Arc<Repository>,
    options: RestoreOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<RestoreReport, RestoreError> {
    let begun = std::time::Instant::now();
    if !repository.keys().can_read() {
        return Err(RestoreError::WriterOnly);
    }
    let index = Arc::new(Index::load(&repository, &*monitor).await?);
    let reader = Arc::new(Reader::new(repository, index, options.memory_bytes, monitor.clone()));
    let target = match options.dry_run && !options.target.exists() {
        true => None,
        false => Some(Arc::new(FileTarget::open(&options.target, options.target_options)?)),
    };
    monitor.phase(if options.dry_run { "comparing" } else { "restoring" });
    if options.within.is_none() && options.selection.is_everything() {
        let counts = &options.snapshot.counts;
        monitor.totals(Totals { entries: Some(counts.entries()), bytes: Some(counts.bytes) });
    }
    let run = walk::Run::new(reader, options, target.clone(), monitor, cancel);
    let mut report = run.all().await?;
    if let Some(target) = target {
        report.owners_missed = target.owners_missed();
        tokio::task::spawn_blocking(move || target.sync()).await.expect("syncing does not panic")?;
    }
    report.duration = begun.elapsed();
    Ok(report)
}

/// Removes what a restore found to be too much; show it before.
///
/// Returns the number of entries removed; what cannot be removed is a problem.
///
/// # Errors
/// When the target cannot be opened.
pub fn remove_extras(target: &std::path::Path, extras: &[Vec<u8>], monitor: &dyn Monitor) -> Result<u64, RestoreError> {
    let target = FileTarget::open(target, TargetOptions::default())?;
    let mut removed = 0;
    for extra in extras {
        match target.remove(extra) {
            Ok(()) => removed += 1,
            Err(error) => monitor.problem(problem(&error)),
        }
    }
    target.sync()?;
    Ok(removed)
}

fn problem(error: &TargetError) -> Problem {
    Problem { subject: error.path.clone(), message: format!("could not {}: {}", error.action, error.source) }
}
