//! What a backup is told: what to store, what to compare it with, and how much of the machine it may take.

use std::sync::Arc;

use crate::compress::DEFAULT_LEVEL;
use crate::model::time::{Clock, Timestamp};
use crate::process::own::host_name;
use crate::source::Source;
use crate::source::files::WalkOptions;

/// What to back up and how.
///
/// Made from its default, which has nothing to back up yet: set `files`, `sources` or both.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupOptions {
    /// File trees.
    pub files: Option<WalkOptions>,
    /// Everything else: streams of the caller's own ([`Given`](crate::source::given::Given)), databases.
    pub sources: Vec<Arc<dyn Source>>,
    /// Files of so many bytes and more are stored as streams are, by what changed since they were last read
    /// ([`StreamOptions::recipes`]), one at a time.
    pub large_file_bytes: u64,
    /// How streams are read and judged.
    pub stream_options: StreamOptions,
    /// What is odd enough to flag the snapshot.
    pub limits: AnomalyLimits,
    /// Flag nothing, and let the next runs compare with what this one finds.
    pub accept_anomalies: bool,
    /// Host that the snapshot names; by default this machine's name.
    pub host: String,
    /// User that the snapshot names; by default the one who runs this.
    pub user: String,
    /// Job that the snapshot names; may be empty.
    pub job: String,
    /// Labels of the snapshot.
    pub tags: Vec<String>,
    /// What to compare with, so that unchanged files are not read.
    pub parent: ParentChoice,
    /// What a parent that is found by itself must have in common with this run.
    pub group_by: GroupBy,
    /// What makes a file another one.
    pub comparison: Comparison,
    /// Make no snapshot when all that is in the paths is as in the parent. Streams are always new.
    pub skip_if_unchanged: bool,
    /// Date of the snapshot, not later than now; by default the start of the run.
    pub date: Option<Timestamp>,
    /// Count files ahead of the first backup, for its totals.
    pub scan: bool,
    /// Do everything but store.
    pub dry_run: bool,
    /// Open, decompress and hash again what was sealed before it is uploaded: finds faulty memory.
    pub extra_check: bool,
    /// zstd's level.
    pub level: i32,
    /// Memory to stay within, in bytes.
    pub memory_bytes: u64,
    /// Threads that read and compress; 0 chooses by the number of processors.
    pub threads: usize,
    /// Tells the time.
    pub clock: Clock,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            files: None,
            sources: Vec::new(),
            large_file_bytes: 64 << 20,
            stream_options: StreamOptions::default(),
            limits: AnomalyLimits::default(),
            accept_anomalies: false,
            host: host_name(),
            user: uzers::get_current_username().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            job: String::new(),
            tags: Vec::new(),
            parent: ParentChoice::default(),
            group_by: GroupBy::default(),
            comparison: Comparison::default(),
            skip_if_unchanged: false,
            date: None,
            scan: true,
            dry_run: false,
            extra_check: true,
            level: DEFAULT_LEVEL,
            memory_bytes: 256 << 20,
            threads: 0,
            clock: Clock::System,
        }
    }
}

impl BackupOptions {
    /// Tells whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.files.as_ref().is_none_or(|files| files.roots.is_empty()) && self.sources.is_empty()
    }

    /// Tells whether all sources can be read again: standard input cannot.
    pub(super) fn is_repeatable(&self) -> bool {
        self.sources.iter().all(|source| source.is_repeatable())
    }
}

/// What a backup is compared with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ParentChoice {
    /// The last snapshot with the same files, or with some of them, as [`BackupOptions::group_by`] says.
    #[default]
    Auto,
    /// Nothing: every file is read.
    None,
    /// This snapshot.
    Snapshot(String),
}

/// What a parent must have in common with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The job.
    pub job: bool,
    /// The paths, or at least some that overlap.
    pub paths: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, job: true, paths: true }
    }
}

/// What is compared, besides kind, size and mtime, to tell whether the content of a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The time of the last change of the inode, which ordinary programs cannot set.
    pub ctime: bool,
    /// The inode number.
    pub inode: bool,
}

impl Default for Comparison {
    fn default() -> Self {
        Self { ctime: true, inode: true }
    }
}

/// How streams are read and judged.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct StreamOptions {
    /// Streams read at the same time.
    pub jobs: usize,
    /// When a stream fails, keep the others in a snapshot that is marked as incomplete.
    pub keep_partial: bool,
    /// Ask of streams from standard input and commands that begin like a dump that they end like one.
    pub check_dumps: bool,
    /// Store of a stream or large file what changed since the night before, as far as this machine knows that; else every stream is cut fine, and
    /// parts of it that are stored already are found whoever stored them.
    pub recipes: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { jobs: 1, keep_partial: false, check_dumps: true, recipes: true }
    }
}

/// From where on something is odd, as parts of what used to be; 0 flags none.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct AnomalyLimits {
    /// A stream or root that holds less than this part of the median of earlier runs.
    pub shrink: f64,
    /// One that holds more than this many times as much.
    pub growth: f64,
    /// A root of which more than this part of the files changed or are gone.
    pub change: f64,
    /// A root of which more than this part of the files came to look random.
    pub random: f64,
    /// A database with less than this part of the tables that it had in the last run.
    pub tables: f64,
}

impl Default for AnomalyLimits {
    fn default() -> Self {
        Self { shrink: 0.5, growth: 3.0, change: 0.5, random: 0.02, tables: 1.0 }
    }
}
