//! Backup: entries and streams go in, one snapshot comes out, or none.
//!
//! ```text
//! parent tree ─▶ plan: walk beside it ─▶ batches ─▶ workers: read, cut, claim, frame ─▶ assemble in order ─▶ tree
//! streams     ─▶ cut, claim, frame ────────────────▶ the same workers compress and seal ─▶ packs ─▶ index ─▶ snapshot
//! ```
//!
//! The plan is made by one thread, the work is done by as many as there are processors, and the tree is built in path
//! order whatever order the work ends in. The snapshot is written last: a run that fails or is stopped leaves chunks that
//! the next run finds, and nothing that looks like a backup.

use std::sync::Arc;
use std::time::Duration;

use crate::blocking::blocking;
use crate::model::entry::{Entry, EntryKind};
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::{MissingStream, Snapshot, SnapshotCounts, SnapshotId};
use crate::model::time::Timestamp;
use crate::ops::Cancel;
use crate::ops::backup::history::History;
use crate::ops::backup::members::Member;
pub use crate::ops::backup::options::{BackupOptions, Comparison, ParentChoice, StreamOptions};
pub use crate::ops::backup::series::GroupBy;
use crate::ops::backup::streams::StoredStream;
use crate::ops::backup::trees::TreeHistory;
use crate::progress::{Monitor, Problem, Problems, Tally};
use crate::repository::index::presence::ASKED_AT_START;
use crate::repository::index::{Index, IndexError};
use crate::repository::lease::{HeldLease, Lease};
use crate::repository::session::{Session, SessionError};
use crate::repository::snapshots::SnapshotError;
use crate::repository::uploader::UploadError;
use crate::repository::writer::{Writer, WriterOptions};
use crate::repository::{FormatError, MAIN_DOMAIN, Repository, StoreError};
use crate::source::SourceError;
use crate::source::files::{WalkError, root_names};

mod assemble;
#[cfg(test)]
mod faults;
mod files;
mod history;
mod jobs;
mod members;
mod memory;
mod options;
mod parent;
mod pipeline;
mod plan;
mod reading;
mod remembered;
mod scan;
mod series;
mod streams;
mod trees;

/// What a backup did.
#[derive(Debug, Clone)]
pub struct BackupReport {
    /// The snapshot; `None` in a dry run and when nothing changed.
    pub snapshot: Option<Snapshot>,
    /// The parent, which is the snapshot to use when no other was made because nothing changed.
    pub parent: Option<SnapshotId>,
    /// Whether no snapshot was made because nothing changed.
    pub is_skipped: bool,
    /// Of what was stored, directory trees and index.
    pub tree_bytes: u64,
    /// What the run counted.
    pub counts: SnapshotCounts,
    /// Regular files that were taken over unread.
    pub unchanged_files: u64,
    /// Regular files that changed while they were read; what was read is kept, and the next run reads them again.
    pub changed_while_read: u64,
    /// Streams and roots that hold much less than they used to, streams that do not carry all values as they are, roots of
    /// which only the symbolic link was stored, and a clock that is wrong.
    pub suspicious: Vec<Problem>,
    /// What was left out because of [`WalkOptions::left_out`].
    pub left_out: Vec<EntryPath>,
    /// Streams that failed while the others were kept.
    pub missing: Vec<MissingStream>,
    /// What was told of: all of the above, and advice.
    pub problems: Problems,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

impl Ended for BackupReport {
    fn outcome(&self) -> Outcome {
        let is_whole = self.counts.unreadable == 0 && self.changed_while_read == 0 && self.suspicious.is_empty();
        match (self.missing.is_empty(), is_whole) {
            (false, _) => Outcome::FailedDump,
            (true, false) => Outcome::Incomplete,
            (true, true) => Outcome::Clean,
        }
    }
}

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
    #[error("all streams failed, so no snapshot was made; {name}: {why}")]
    AllFailed {
        /// The first of them.
        name: String,
        /// Why it failed.
        why: String,
    },
    /// A newer program asks of writers what this one does not know.
    #[error("this repository cannot be written by this version")]
    Features(#[source] FormatError),
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
    /// Everything is stored but the snapshot.
    #[error("the snapshot could not be stored")]
    Commit(#[source] StoreError),
}

impl Ended for BackupError {
    fn outcome(&self) -> Outcome {
        match self {
            BackupError::Nothing | BackupError::StreamName { .. } => Outcome::Usage,
            BackupError::Walk(error) => error.outcome(),
            BackupError::Stream { .. } | BackupError::AllFailed { .. } => Outcome::FailedDump,
            BackupError::Features(_) => Outcome::Refused,
            BackupError::Cancelled => Outcome::Interrupted,
            BackupError::Internal | BackupError::Vanished { .. } => Outcome::Failed,
            BackupError::Index(error) => error.outcome(),
            BackupError::Session(error) => error.outcome(),
            BackupError::Parent(error) => error.outcome(),
            BackupError::Upload(error) => error.outcome(),
            BackupError::Lease(error) | BackupError::Commit(error) => error.outcome(),
            BackupError::Unknown { source, .. } => source.outcome(),
        }
    }
}

/// Times that a backup is made anew because packs that it relied on vanished.
const ATTEMPTS: usize = 3;

/// Runs a backup.
///
/// Returns once the snapshot is durable. Peak memory is bounded by `options.memory_bytes` (see `design`). When packs that
/// the run relied on vanish meanwhile, it is made anew, unless a source is among them that can be read but once, such as standard input.
///
/// # Errors
/// [`BackupError`]; no snapshot exists then.
///
/// # Cancel safety
/// Dropping the future may leave packs that no index segment names; ask [`Cancel`] instead.
pub async fn backup(
    repository: Arc<Repository>,
    options: BackupOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<BackupReport, BackupError> {
    let begun = std::time::Instant::now();
    let mut attempts = 1;
    let tally = Tally::over(monitor);
    let monitor: Arc<dyn Monitor> = tally.clone();
    loop {
        let started = options.clock.now();
        let this =
            Attempt { repository: &repository, options: &options, monitor: &monitor, cancel: &cancel, begun, started };
        match this.run().await {
            Err(error @ (BackupError::Vanished { .. } | BackupError::Unknown { .. }))
                if options.is_repeatable() && attempts < ATTEMPTS =>
            {
                attempts += 1;
                let message = format!("{error}; it is made anew");
                monitor.problem(Problem::advice(repository.location(), message));
            }
            ended => return ended.map(|report| BackupReport { problems: tally.take(), ..report }),
        }
    }
}

/// One attempt at a backup: a session of its own, under a lease of its own.
struct Attempt<'a> {
    repository: &'a Arc<Repository>,
    options: &'a BackupOptions,
    monitor: &'a Arc<dyn Monitor>,
    cancel: &'a Cancel,
    begun: std::time::Instant,
    started: Timestamp,
}

impl Attempt<'_> {
    /// Takes the lease before anything is looked at, so that nothing seen from now on is deleted under the run.
    async fn run(self) -> Result<BackupReport, BackupError> {
        let config = self.repository.config();
        config.check_features(&config.required.write).map_err(BackupError::Features)?;
        if self.options.is_empty() {
            return Err(BackupError::Nothing);
        }
        let session = self.repository.begin_session(MAIN_DOMAIN)?;
        let lease = if self.options.dry_run {
            None
        } else {
            let (host, operation) = (self.options.host.clone(), "backup".to_owned());
            let lease = Lease { host, operation, started: self.started, ..Lease::default() };
            let held = HeldLease::take(self.repository.clone(), session.clone(), lease, self.options.clock).await;
            Some(held.map_err(BackupError::Lease)?)
        };
        let outcome = self.store(session, lease.as_ref()).await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        outcome
    }

    /// Tells of a snapshot that is dated ahead of this run, and returns what is to be looked at: a clock here that cannot be
    /// right, because what this run makes would never be the latest.
    fn judge_clocks(&self, snapshots: &[SnapshotId]) -> Vec<Problem> {
        let now = self.started;
        if now < Timestamp::PLAUSIBLE {
            let message =
                format!("says {}, which cannot be: set it, or this snapshot is never the latest", now.local());
            return vec![Problem::suspicious("this machine's clock", message)];
        }
        if let Some(newest) = snapshots.last().filter(|newest| newest.time().is_ahead_of(now)) {
            let dated = newest.time().local();
            let message = format!(
                "is dated {dated}, ahead of this machine's clock ({}): one of the two clocks was wrong. Until then `latest` passes it over",
                now.local()
            );
            self.monitor.problem(Problem::advice(format!("snapshot {}", newest.short()), message));
        }
        Vec::new()
    }

    /// Tells whether no snapshot is wanted because there is nothing in this run that its parent does not have.
    fn is_skipped(&self, done: &assemble::Assembled) -> bool {
        let has_streams = !done.streams.is_empty() || !done.missing.is_empty();
        let is_same = done.held.digest.is_some() && done.held.digest == done.parent_held.digest;
        self.options.skip_if_unchanged && !self.options.dry_run && !has_streams && is_same
    }

    /// Waits for something that has left nothing behind until it is complete, unless ending is asked for first.
    async fn unless_cancelled<T>(&self, task: impl Future<Output = T>) -> Result<T, BackupError> {
        tokio::select! {
            done = task => Ok(done),
            () = self.cancel.asked() => Err(BackupError::Cancelled),
        }
    }

    /// Asks the sources what streams there are, outside the runtime, because clients are waited for.
    async fn members(&self, session: &Session) -> Result<Vec<Member>, BackupError> {
        if let Some(asking) = self.options.sources.iter().find_map(|source| source.asking()) {
            self.monitor.phase(asking);
        }
        let options = self.options.clone();
        let stable_secret = session.stable_secret();
        blocking(move || members::plan(&options, stable_secret)).await
    }

    /// Stores everything and commits the snapshot; without a lease it is a dry run.
    async fn store(&self, session: Arc<Session>, lease: Option<&HeldLease>) -> Result<BackupReport, BackupError> {
        let (repository, options, monitor) = (self.repository, self.options, self.monitor);
        let mut index = self.unless_cancelled(Index::load(repository, &**monitor)).await??;
        self.unless_cancelled(index.check_packs(repository, ASKED_AT_START, &**monitor)).await??;
        let index = Arc::new(index);
        if let Some(lease) = lease {
            lease.note_index_segments(index.segments().len() as u64);
        }

        monitor.phase("looking for the last snapshot");
        let roots = options.files.as_ref().map_or_else(Vec::new, |files| root_names(&files.roots));
        let sources = source_names(options, &roots);
        let snapshots = self.unless_cancelled(repository.snapshot_ids()).await??;
        let mut suspicious = self.judge_clocks(&snapshots);
        let found =
            parent::Parent::find(repository, &index, options, &roots, &snapshots, session.at().domain, monitor.clone());
        let parent = self.unless_cancelled(found).await??;
        let parent_id = parent.snapshot();
        if let Some(totals) = parent.totals() {
            monitor.totals(totals);
        }

        let members = self.members(&session).await?;
        let paths = members.iter().flat_map(|member| &member.streams).map(|stream| &stream.path);
        let trees = TreeHistory::load(repository, options, &sources);
        let known = History::load(repository, &index, options, &sources, paths, snapshots, monitor);
        let history = self.unless_cancelled(known).await??;

        monitor.phase("backing up");
        let (session_id, at) = (session.id(), session.at());
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            threads => threads,
        };
        let pack_target_bytes = repository.config().pack_target_bytes;
        let shares = memory::share(options.memory_bytes, pack_target_bytes, threads, options.stream_options.jobs);
        let writer_options = WriterOptions {
            pack_target_bytes: shares.pack_target_bytes,
            packs_in_flight: shares.packs_in_flight,
            level: options.level,
            dry_run: options.dry_run,
            extra_check: options.extra_check,
        };
        let writer = Writer::start(repository.clone(), session, index.clone(), writer_options, monitor.clone());
        let reading = reading::Reading::default();
        let stream_options = StreamOptions { jobs: shares.jobs, ..options.stream_options.clone() };
        let work = pipeline::Work {
            options: BackupOptions { threads: shares.threads, stream_options, ..options.clone() },
            members,
            parent,
            roots,
            monitor: monitor.clone(),
            cancel: self.cancel.clone(),
            reading: reading.clone(),
        };
        let runtime = tokio::runtime::Handle::current();
        let upload_end = writer.end();
        let running = tokio::task::spawn_blocking(move || {
            let outcome = pipeline::run(&writer, work, &runtime);
            // Whatever happened, what was read is stored and indexed, for the next run to find.
            let flushed = writer.flush();
            (writer, outcome.and_then(|done| flushed.map(|()| done).map_err(|_| pipeline::Stopped::Upload)))
        });
        let (writer, outcome) = tokio::select! {
            ended = running => ended.map_err(|_| BackupError::Internal)?,
            () = reading.is_stuck(self.cancel) => {
                upload_end.end().await;
                return Err(BackupError::Cancelled);
            }
        };

        monitor.phase("completing the index");
        let committer = writer.finish().await?;
        let done = outcome.map_err(pipeline::Stopped::into_error)?;
        let mut counts = done.counts;
        counts.stored_bytes = committer.uploaded().bytes;
        let shrink_limit = options.stream_options.shrink_limit;
        suspicious.extend(history.judge(&done.streams, shrink_limit));
        suspicious.extend(done.streams.iter().filter_map(StoredStream::what_is_changed));
        suspicious.extend(done.links.iter().cloned());
        suspicious.extend(trees.judge(&done.held.trees, &done.parent_held.trees, shrink_limit));
        let not_shared = done.streams.iter().filter_map(|stream| history.stopped_deduplicating(stream));
        suspicious.iter().cloned().chain(not_shared).for_each(|problem| monitor.problem(problem));
        let (mut snapshot, is_skipped) = (None, self.is_skipped(&done));
        if let Some(lease) = lease.filter(|_| !is_skipped) {
            monitor.phase("checking that nothing vanished");
            let lost = index.lost_packs(repository, !lease.was_kept(), &**monitor).await?;
            if !lost.gone.is_empty() {
                return Err(BackupError::Vanished { packs: lost.gone.len() });
            }
            if let Some((packs, source)) = lost.unknown {
                return Err(BackupError::Unknown { packs, source });
            }
            let dated = options.date.unwrap_or(self.started);
            let manifest = Snapshot {
                id: committer.new_snapshot_id(dated),
                session: session_id,
                domain: at.domain,
                started: dated,
                finished: options.clock.now(),
                host: options.host.clone(),
                user: options.user.clone(),
                job: options.job.clone(),
                tags: options.tags.clone(),
                sources,
                program: concat!("coffre ", env!("CARGO_PKG_VERSION")).to_owned(),
                parent: parent_id,
                root: done.root,
                counts,
                missing: done.missing.clone(),
            };
            monitor.phase("writing the snapshot");
            committer.commit(&manifest).await.map_err(BackupError::Commit)?;
            let known = parent::Known { segments: index.segments(), packs: index.relied_packs() };
            done.last_tree.keep(&manifest, self.started, &known);
            history.keep(&done.streams);
            trees.keep(&done.held.trees);
            snapshot = Some(manifest);
        }
        Ok(BackupReport {
            snapshot,
            parent: parent_id,
            is_skipped,
            tree_bytes: committer.uploaded().tree_bytes,
            counts,
            unchanged_files: done.unchanged_files,
            changed_while_read: done.changed_while_read,
            suspicious,
            left_out: done.left_out,
            missing: done.missing,
            problems: Problems::default(),
            read_bytes: done.read_bytes,
            duration: self.begun.elapsed(),
        })
    }
}

/// What the snapshot says was asked for: absolute paths and stream names, sorted.
fn source_names(options: &BackupOptions, roots: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut names = roots.to_vec();
    names.extend(options.sources.iter().map(|source| source.name()));
    names.sort();
    names.dedup();
    names
}

/// Counts an entry as the snapshot does.
fn count(counts: &mut SnapshotCounts, entry: &Entry) {
    match entry.kind {
        EntryKind::File(_) => counts.files += 1,
        EntryKind::Directory => counts.directories += 1,
        EntryKind::Stream(..) => counts.streams += 1,
        _ => counts.others += 1,
    }
    counts.bytes += entry.size();
}
