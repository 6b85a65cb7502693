//! Prune: what no snapshot needs is deleted, beside running backups and without a lock (`docs/format.md`, section 14, "Cleaning up").
//!
//! Before that, snapshots that were forgotten long enough ago are removed ([`removing`]). A first look finds what nothing needs ([`finding`]), and makes a plan of
//! it ([`plan`]). What is needed of packs with much dead space, and of many small ones, is stored anew ([`rewriting`]), so that they can go as well. Then it is carried out in two halves ([`apply`]): a list dooms
//! the packs; sessions that may rely on them are waited for or given up ([`waiting`]); a second look makes sure that nothing needs them
//! by then; a last list says that they are being deleted, and they are. Whatever is not known for certain ends it before anything is
//! deleted, and so may anything else: the next run goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::cleanup::CleanupId;
use crate::model::id::{ChunkKey, DomainId, PackId, SessionId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Clock;
use crate::ops::Cancel;
use crate::progress::Monitor;
use crate::repository::access::{AccessError, Deleting};
use crate::repository::damaged::TellError;
use crate::repository::expired::{ExpiredError, GRACE};
use crate::repository::index::complete::IncompleteError;
use crate::repository::index::merging::MergeError;
use crate::repository::reader::ReadError;
use crate::repository::rewriting::RewriteError;
use crate::repository::running::RunningSession;
use crate::repository::{OpenError, Repository, StoreError};

mod apply;
mod copies;
mod finding;
mod lists;
mod look;
mod old;
mod orphans;
mod plan;
mod recipes;
mod removing;
mod rewriting;
mod segments;
mod telling_again;
mod waiting;

pub use plan::{MaxUnused, PackToRewrite, PrunePlan, Stays};

/// How to clean up.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct PruneOptions {
    /// Only tell what would be done.
    pub dry_run: bool,
    /// How long ago a snapshot must have been forgotten to be removed.
    pub grace: Duration,
    /// How long sessions are waited for that run.
    pub wait: Duration,
    /// How often is looked whether they have ended.
    pub poll: Duration,
    /// Sessions that are given up although they may run.
    pub give_up: Vec<SessionId>,
    /// How much that nothing needs may stay in packs of which the rest is needed.
    pub max_unused: MaxUnused,
    /// How many bytes may be stored anew, at most.
    pub max_rewrite: Option<u64>,
    /// How long it may take: beyond that no session is waited for. Rewriting packs leaves as much of it as `wait` asks for, at most half.
    pub max_time: Option<Duration>,
    /// Who cleans up, for those who find its lease.
    pub host: String,
    /// Memory to stay within, in bytes.
    pub memory_bytes: u64,
    /// Tells the time.
    pub clock: Clock,
}

impl Default for PruneOptions {
    /// Everything is done; sessions are waited for for an hour, within 256 MiB.
    fn default() -> Self {
        Self {
            dry_run: false,
            grace: GRACE,
            wait: Duration::from_secs(3600),
            poll: Duration::from_secs(10),
            give_up: Vec::new(),
            max_unused: MaxUnused::default(),
            max_rewrite: None,
            max_time: None,
            host: String::new(),
            memory_bytes: 256 << 20,
            clock: Clock::System,
        }
    }
}

/// A clean-up and what it goes by.
#[derive(Clone, Copy)]
struct CleanUp<'a> {
    deleting: &'a Deleting,
    options: &'a PruneOptions,
    monitor: &'a Arc<dyn Monitor>,
    cancel: &'a Cancel,
    begun: Instant,
}

impl CleanUp<'_> {
    /// Returns how much time is left, where it is bounded.
    fn time_left(&self) -> Option<Duration> {
        self.options.max_time.map(|all| all.saturating_sub(self.begun.elapsed()))
    }

    /// Tells whether the time that the run may take is over.
    fn is_over(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }
}

/// Why what was planned was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneUnfinished {
    /// Sessions run that may rely on what is to be deleted.
    Running(Vec<(SessionId, RunningSession)>),
    /// A snapshot that came meanwhile needs what was to be deleted.
    Needed {
        /// A pack that it needs.
        pack: PackId,
    },
    /// Too much time passed since the packs were doomed.
    TooLate,
    /// Nothing was rewritten, because the store is full; what was dead before was deleted.
    Full,
}

/// What was found and done.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// What was to be done.
    pub plan: PrunePlan,
    /// Snapshots that were removed.
    pub removed_snapshots: u64,
    /// Packs of which all that is needed was stored anew.
    pub rewritten_packs: u64,
    /// Their bytes.
    pub rewritten_bytes: u64,
    /// Packs that were stored instead of them.
    pub stored_packs: u64,
    /// Bytes that were stored, index segments among them.
    pub stored_bytes: u64,
    /// Packs that were to be rewritten, and for which there was no more time.
    pub postponed_packs: u64,
    /// Packs that were to be rewritten, and of which something that is needed cannot be had.
    pub damaged: Vec<PackId>,
    /// Packs that were deleted, rewritten ones among them.
    pub deleted_packs: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Index segments that were merged.
    pub merged_segments: MergedSegments,
    /// Records, leases and other objects that told nothing any more and were removed.
    pub removed_old: u64,
    /// Sessions that were given up.
    pub given_up: Vec<SessionId>,
    /// Why the plan was not carried out, if it was not.
    pub unfinished: Option<PruneUnfinished>,
    /// How long it took.
    pub duration: Duration,
}

/// Index segments that were merged into fewer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergedSegments {
    /// Those that are not there any more.
    pub replaced: u64,
    /// Those that are in their place.
    pub put: u64,
}

impl Ended for PruneReport {
    fn outcome(&self) -> Outcome {
        match (&self.unfinished, self.damaged.is_empty()) {
            (_, false) => Outcome::Damaged,
            (Some(PruneUnfinished::Full), true) => Outcome::Full,
            (Some(_), true) => Outcome::Incomplete,
            (None, true) => Outcome::Clean,
        }
    }
}

/// Why nothing (more) may be deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// This key, or this program, may not.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// It is not known what is there and what is needed.
    #[error(transparent)]
    Incomplete(#[from] IncompleteError),
    /// It is not known for certain what was forgotten.
    #[error("it is not known for certain what was forgotten, so nothing may be deleted")]
    Forgotten(#[from] ExpiredError),
    /// A snapshot cannot be read to its end.
    #[error("snapshot {} cannot be read to its end, so nothing may be deleted", snapshot.short())]
    Unreadable {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What cannot be read.
        #[source]
        source: ReadError,
    },
    /// A pack is out of reach.
    #[error("it is not known what is in a pack, so nothing may be deleted")]
    Pack(#[source] ReadError),
    /// A chunk that is needed is nowhere.
    #[error("snapshot {} needs chunk {}, which is in no index segment, so nothing may be deleted", snapshot.short(), chunk.short())]
    Unplaced {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The chunk.
        chunk: ChunkKey,
    },
    /// A pack that is needed is not there, or not as it should be.
    #[error("{} is not there as it should be, and snapshots need chunk {} of it, so nothing may be deleted", ObjectKey::pack(*pack), chunk.short())]
    Lost {
        /// The pack.
        pack: PackId,
        /// A chunk that is needed.
        chunk: ChunkKey,
    },
    /// The cache does not give back what was written to it.
    #[error("the index in the cache is not as it was written, so nothing may be deleted")]
    Cache,
    /// A snapshot was there and is not any more.
    #[error("{} was there and is not any more, and was not removed, so nothing may be deleted", ObjectKey::snapshot(*.0))]
    Vanished(SnapshotId),
    /// Another clean-up may be about to delete what snapshots need.
    #[error("{list} dooms {}, which snapshots need: another clean-up may be about to find that out, so nothing else may be deleted", ObjectKey::pack(*pack))]
    Doomed {
        /// The list.
        list: ObjectKey,
        /// A pack.
        pack: PackId,
    },
    /// The keyring is another one by now.
    #[error("the keyring was changed meanwhile, so nothing may be deleted")]
    Keyring,
    /// The newest keyring cannot be had.
    #[error("the newest keyring cannot be had, so nothing may be deleted")]
    NewestKeyring(#[from] OpenError),
    /// Index segments could not be merged, and are as they were.
    #[error("the index could not be merged; nothing is lost by that")]
    Merge(#[from] MergeError),
    /// Another clean-up runs on this machine.
    #[error("another clean-up of this repository runs on this machine")]
    Busy,
    /// The same number was given to several lists again and again.
    #[error("other clean-ups keep putting lists of the same number at the same time; try again")]
    Contended(DomainId),
    /// The store does not list what was just put.
    #[error("{} was just put and is not listed yet, so nothing may be deleted", ObjectKey::cleanup(*.0))]
    Unlisted(CleanupId),
    /// What is needed of packs could not be stored anew.
    #[error("packs could not be rewritten; what was stored is found by the next run")]
    Rewrite(#[from] RewriteError),
    /// A list could not be put.
    #[error("the list of what is to be deleted could not be stored")]
    List(#[from] TellError),
    /// The store failed.
    #[error("the store did not do what cleaning up needs")]
    Store(#[from] StoreError),
    /// Ending was asked for.
    #[error("interrupted")]
    Cancelled,
}

impl Ended for PruneError {
    fn outcome(&self) -> Outcome {
        match self {
            PruneError::Access(error) => error.outcome(),
            PruneError::Incomplete(error) => error.outcome(),
            PruneError::Unreadable { source, .. } | PruneError::Pack(source) => source.outcome(),
            PruneError::Unplaced { .. } | PruneError::Lost { .. } | PruneError::Vanished(_) => Outcome::Damaged,
            PruneError::NewestKeyring(error) => error.outcome(),
            PruneError::List(error) => error.outcome(),
            PruneError::Rewrite(error) => error.outcome(),
            PruneError::Forgotten(error) => error.outcome(),
            PruneError::Store(error) => error.outcome(),
            PruneError::Merge(error) => error.outcome(),
            PruneError::Doomed { .. } => Outcome::Refused,
            PruneError::Busy => Outcome::Busy,
            PruneError::Cache | PruneError::Keyring | PruneError::Contended(_) | PruneError::Unlisted(_) => {
                Outcome::Failed
            }
            PruneError::Cancelled => Outcome::Interrupted,
        }
    }
}

impl CleanUp<'_> {
    /// Does what is left when nothing more is to be deleted of what snapshots might need.
    async fn tidy(&self, report: &mut PruneReport) -> Result<(), PruneError> {
        self.merge_segments(report).await?;
        report.removed_old = self.remove_old().await?;
        Ok(())
    }
}

/// Deletes what no snapshot needs.
///
/// It may end at any point, by [`PruneError`] or `kill -9`: nothing that is needed is deleted, and the next run goes on.
///
/// # Errors
/// [`PruneError`] for the first doubt; packs that were found dead before may be gone by then.
pub async fn prune(
    repository: Arc<Repository>,
    options: PruneOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<PruneReport, PruneError> {
    let begun = Instant::now();
    let deleting = repository.deleting()?;
    let clean_up = CleanUp { deleting: &deleting, options: &options, monitor: &monitor, cancel: &cancel, begun };
    let _alone = clean_up.alone()?;
    let mut report = clean_up.run().await?;
    if !clean_up.options.dry_run {
        clean_up.tidy(&mut report).await?;
    }
    Ok(PruneReport { duration: begun.elapsed(), ..report })
}
