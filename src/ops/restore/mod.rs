//! Restore: a snapshot, or a part of it, into a directory, where only what differs is written.
//!
//! ```text
//! tree ─▶ window of entries ─▶ directories, links ─▶ files that differ: chunks located, sorted by pack and frame
//!      ─▶ range gets, several at once ─▶ each frame opened once ─▶ chunks checked and placed ─▶ files completed
//! ```
//!
//! The work is done in windows of entries, so memory is bounded; within a window every frame is fetched and decoded once.
//! A chunk that is missing or wrong leaves its file under the name `NAME.damaged` and is reported; everything else is
//! restored. A store that is out of reach ends the run: that says nothing about what is stored.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::blocking::blocking;
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::ops::{Cancel, LookError, open_reader};
use crate::progress::{Monitor, Problem, Problems, Tally, Totals};
use crate::repository::Repository;
use crate::repository::reader::ReadError;
use crate::repository::reader::walk::LostPart;
use crate::sink::error::TargetError;
use crate::sink::target::{FileTarget, TargetOptions};

mod compare;
mod directories;
mod lost;
mod open_directory;
mod places;
mod run;
mod select;
mod walk;
mod window;
mod writer;

pub use select::{PatternError, Selection};

/// Ends the name of a file that could not be restored whole.
pub const DAMAGED_SUFFIX: &str = ".damaged";

/// When something that is in the target already is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Files are written where their content differs.
    #[default]
    IfChanged,
    /// Files are written without a look at their content.
    Always,
    /// Only what is older than in the snapshot is touched.
    IfNewer,
    /// Nothing that is there is touched.
    Never,
}

impl Overwrite {
    /// Tells whether something of time `there` may be replaced by, or made into, something of time `wanted`.
    fn touches(self, there: &Timestamp, wanted: &Timestamp) -> bool {
        match self {
            Overwrite::IfChanged | Overwrite::Always => true,
            Overwrite::IfNewer => wanted > there,
            Overwrite::Never => false,
        }
    }
}

/// What to restore and how.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct RestoreOptions {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Only this path; a directory's contents then stand directly in the target.
    pub within: Option<EntryPath>,
    /// Which entries of it.
    pub selection: Selection,
    /// If given, only these, with the directories that they are in.
    pub only: Option<BTreeSet<EntryPath>>,
    /// The directory to restore into; made if missing.
    pub target: PathBuf,
    /// How entries are put.
    pub target_options: TargetOptions,
    /// Believe that a file with the right size and mtime has the right content, without reading it.
    pub trust_times: bool,
    /// What may be touched in the target.
    pub overwrite: Overwrite,
    /// Look for entries in the target that the snapshot does not have.
    pub find_extras: bool,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Memory to stay within, in bytes.
    pub memory_bytes: u64,
}

impl RestoreOptions {
    /// Restores everything in `snapshot` into the directory `target`: what differs is written, within 256 MiB of memory.
    pub fn new(snapshot: Snapshot, target: impl Into<PathBuf>) -> Self {
        Self {
            snapshot,
            within: None,
            selection: Selection::default(),
            only: None,
            target: target.into(),
            target_options: TargetOptions::default(),
            trust_times: false,
            overwrite: Overwrite::default(),
            find_extras: false,
            dry_run: false,
            memory_bytes: 256 << 20,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Files written: each is there, whole, under its name.
    pub written_files: u64,
    /// Further names of files.
    pub linked_files: u64,
    /// Files whose content was right already.
    pub unchanged_files: u64,
    /// Files that could not be put; what had their names keeps them.
    pub failed_files: u64,
    /// Those of them for which the target had no room.
    pub no_room_files: u64,
    /// Entries left as they were in the target, as [`RestoreOptions::overwrite`] says.
    pub left: u64,
    /// Directories, symbolic links and special files put.
    pub others: u64,
    /// Bytes of the files written.
    pub written_bytes: u64,
    /// What could not be restored whole.
    pub damaged: Vec<NotWhole>,
    /// What was amiss: entries that could not be put, attributes that could not be set, and damage.
    pub problems: Problems,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Entries whose owner could not be set, for lack of rights.
    pub owners_missed: u64,
    /// Paths below the target that the snapshot does not have, when asked for.
    pub extras: Vec<Vec<u8>>,
    /// Entries that are not put yet because a directory with something in it, among the extras, has their place.
    pub blocked: Vec<EntryPath>,
    /// How long it took.
    pub duration: Duration,
}

/// What of a snapshot could not be restored whole. Its `Display` is what people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotWhole {
    /// The file or stream with this path in the snapshot.
    File(EntryPath),
    /// What is below a node of the tree.
    Part(LostPart),
}

impl fmt::Display for NotWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotWhole::File(path) => write!(f, "/{path}"),
            NotWhole::Part(part) => part.fmt(f),
        }
    }
}

impl RestoreReport {
    /// Returns how many files are in the target as they should be.
    pub fn files_there(&self) -> u64 {
        self.written_files + self.linked_files + self.unchanged_files
    }

    /// Adds what a further run for [`RestoreReport::blocked`] did.
    pub fn add(&mut self, further: RestoreReport) {
        self.written_files += further.written_files;
        self.linked_files += further.linked_files;
        self.unchanged_files += further.unchanged_files;
        self.failed_files += further.failed_files;
        self.no_room_files += further.no_room_files;
        self.left += further.left;
        self.others += further.others;
        self.written_bytes += further.written_bytes;
        self.damaged.extend(further.damaged);
        self.problems.extend(further.problems);
        self.owners_missed += further.owners_missed;
        self.blocked = further.blocked;
        self.duration += further.duration;
    }
}

impl Ended for RestoreReport {
    fn outcome(&self) -> Outcome {
        let is_left = self.failed_files > 0 || !self.blocked.is_empty();
        if !self.damaged.is_empty() {
            return Outcome::Damaged;
        }
        match self.problems.outcome() {
            Outcome::Clean if is_left && !self.dry_run => Outcome::Incomplete,
            Outcome::Clean => Outcome::Clean,
            // What is damaged and none of the files needs.
            _ => Outcome::Incomplete,
        }
    }
}

/// Why nothing more could be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository may not be read, the index not be had, or the path not be found.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The target cannot be used.
    #[error("the target cannot be used")]
    Target(#[from] TargetError),
    /// No entry is chosen.
    #[error("nothing in snapshot {} matches what is to be included", snapshot.short())]
    NothingMatches {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The store is out of reach, or does not allow reading any more.
    #[error("the store cannot be read any more; what was completed stays, and the same command goes on from there")]
    Read(#[source] ReadError),
    /// Ending was asked for.
    #[error("interrupted; what was completed stays, and the same command goes on from there")]
    Cancelled,
}

impl Ended for RestoreError {
    fn outcome(&self) -> Outcome {
        match self {
            RestoreError::Look(error) => error.outcome(),
            RestoreError::Target(error) => error.outcome(),
            RestoreError::NothingMatches { .. } => Outcome::Missing,
            RestoreError::Read(error) => error.outcome(),
            RestoreError::Cancelled => Outcome::Interrupted,
        }
    }
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
    let tally = Tally::over(monitor);
    let monitor: Arc<dyn Monitor> = tally.clone();
    let opening = cancel.or(open_reader(repository, options.memory_bytes, monitor.clone())).await;
    let reader = opening.ok_or(RestoreError::Cancelled)??;
    let target = match options.dry_run && !options.target.exists() {
        true => None,
        false => Some(Arc::new(FileTarget::open(&options.target, options.target_options.clone())?)),
    };
    monitor.phase(if options.dry_run { "comparing" } else { "restoring" });
    if options.within.is_none() && options.selection.is_everything() {
        let counts = &options.snapshot.counts;
        monitor.totals(Totals { entries: Some(counts.entries()), bytes: Some(counts.bytes), ..Totals::default() });
    }
    let (dry_run, phases) = (options.dry_run, monitor.clone());
    let run = run::RestoreRun::new(reader, options, target.clone(), monitor, cancel);
    let mut report = run.all().await?;
    if let Some(target) = target {
        report.owners_missed = target.owners_missed();
        phases.phase("writing out to the disk");
        blocking(move || target.sync()).await?;
    }
    report.dry_run = dry_run;
    report.problems = tally.take();
    report.duration = begun.elapsed();
    Ok(report)
}

/// Removes what a restore found to be too much; show it before.
///
/// Returns the number of entries removed; what cannot be removed is a problem. [`count_extras`] tells how much it is.
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

/// Returns how many files and other things that are no directories removing the extras would take.
///
/// # Errors
/// When the target cannot be opened.
pub fn count_extras(target: &std::path::Path, extras: &[Vec<u8>]) -> Result<u64, RestoreError> {
    let target = FileTarget::open(target, TargetOptions::default())?;
    Ok(extras.iter().map(|extra| target.count_below(extra)).sum())
}

fn problem(error: &TargetError) -> Problem {
    Problem::missing(error.subject(), format!("could not {}: {}", error.action, error.source))
}
