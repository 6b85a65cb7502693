//! One attempt at a backup: a session of its own, under a lease of its own, from the index to the snapshot.

use std::sync::Arc;
use std::time::Instant;

use crate::blocking::blocking;
use crate::model::anomaly::ANOMALIES_MAX;
use crate::model::series::{Sequence, Series};
use crate::model::snapshot::{MissingStream, Position, Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::ops::Cancel;
use crate::ops::backup::error::BackupError;
use crate::ops::backup::flagged::{Flagged, Odd};
use crate::ops::backup::history::History;
use crate::ops::backup::kept::Kept;
use crate::ops::backup::members::{self, StreamGroup};
use crate::ops::backup::memory;
use crate::ops::backup::options::{BackupOptions, StreamOptions};
use crate::ops::backup::parent::{KnownThen, Parent, ParentSearch};
use crate::ops::backup::pipeline::{self, StoredWhole, Work};
use crate::ops::backup::reading::ThreadsReading;
use crate::ops::backup::remade::LastNights;
use crate::ops::backup::remembered::Subjects;
use crate::ops::backup::report::BackupReport;
use crate::ops::backup::stopped::Stopped;
use crate::ops::backup::stored::StoredStream;
use crate::ops::backup::trees::TreeHistory;
use crate::process::own::PROGRAM;
use crate::progress::{Monitor, Problem, Problems};
use crate::repository::index::checked::{ASKED_AT_START, CheckedIndex};
use crate::repository::lease::{HeldLease, Lease};
use crate::repository::nights::{ClosedNight, FinishedNight};
use crate::repository::revoking::SessionStanding;
use crate::repository::session::Session;
use crate::repository::state::Newest;
use crate::repository::writer::{CommitError, Committer, Writer, WriterOptions};
use crate::repository::{MAIN_DOMAIN, Repository};
use crate::source::files::root_names;

/// One attempt at a backup: a session of its own, under a lease of its own.
pub(super) struct Attempt<'a> {
    pub(super) repository: &'a Arc<Repository>,
    pub(super) options: &'a BackupOptions,
    pub(super) monitor: &'a Arc<dyn Monitor>,
    pub(super) cancel: &'a Cancel,
    /// What earlier attempts read that cannot be read again.
    pub(super) kept: &'a Kept,
    pub(super) begun: Instant,
    pub(super) started: Timestamp,
}

impl Attempt<'_> {
    /// Takes the lease before anything is looked at, so that nothing seen from now on is deleted under the run.
    pub(super) async fn run(self) -> Result<BackupReport, BackupError> {
        let writing = self.repository.writing()?;
        writing.check_host(&self.options.host)?;
        if self.options.is_empty() {
            return Err(BackupError::Nothing);
        }
        let session = writing.begin_session(MAIN_DOMAIN)?;
        let lease = if self.options.dry_run {
            None
        } else {
            let (host, operation) = (self.options.host.clone(), "backup".to_owned());
            let lease = Lease { host, operation, started: self.started, ..Lease::default() };
            let held = HeldLease::take(session.clone(), lease, self.options.clock).await;
            Some(held.map_err(BackupError::Lease)?)
        };
        let outcome = self.store(session, lease.as_ref()).await;
        // Where nobody knows whether the snapshot is there, or may yet come, the lease stays: whoever cleans up gives the session
        // up by name, and then it does not count.
        let is_in_doubt = matches!(&outcome, Err(BackupError::Commit(CommitError::Store(_))));
        if let Some(lease) = lease.filter(|_| !is_in_doubt) {
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

    /// Tells whether no snapshot is wanted because there is nothing in this run that its parent does not have. What is accepted takes one.
    fn is_skipped(&self, done: &StoredWhole, accepted: &Subjects) -> bool {
        let has_streams = !done.streams.is_empty() || !done.missing.is_empty();
        let is_same = done.held.digest.is_some() && done.held.digest == done.parent_held.digest;
        self.options.skip_if_unchanged && !self.options.dry_run && !has_streams && is_same && accepted.is_empty()
    }

    /// Waits for something that has left nothing behind until it is complete, unless ending is asked for first.
    async fn unless_cancelled<T>(&self, task: impl Future<Output = T>) -> Result<T, BackupError> {
        self.cancel.or(task).await.ok_or(BackupError::Cancelled)
    }

    /// Asks the sources what streams there are, outside the runtime, because clients are waited for.
    async fn members(&self, session: &Session) -> Result<Vec<StreamGroup>, BackupError> {
        if let Some(asking) = self.options.sources.iter().find_map(|source| source.asking()) {
            self.monitor.phase(asking);
        }
        let options = self.options.clone();
        let stable_secret = session.stable_secret();
        blocking(move || members::plan(&options, stable_secret)).await
    }

    /// Stores everything and commits the snapshot; without a lease it is a dry run.
    async fn store(&self, session: Arc<Session>, lease: Option<&HeldLease>) -> Result<BackupReport, BackupError> {
        let index = self.index(&session, lease).await?;
        let Before {
            roots,
            sequence,
            position,
            parent,
            snapshots,
            members,
            history,
            mut trees,
            flagged,
            mut suspicious,
        } = self.look_back(&index).await?;
        let parent_id = parent.snapshot();
        let previous = self.repository.state().newest(&sequence).map(|newest| (newest.id, newest.number));
        let (committer, mut done) = self.run_threads(&index, members, parent, roots, &snapshots).await?;
        done.counts.stored_bytes = committer.uploaded().bytes;
        let odd = self.judge(&done, &history, &mut trees, &flagged);
        suspicious.extend(odd.anomalies.iter().map(|it| Problem::suspicious(it.subject.clone(), it.told())));
        suspicious.extend(done.streams.iter().filter_map(StoredStream::what_is_changed));
        suspicious.extend(done.links.iter().cloned());
        odd.tell_accepted(&**self.monitor);
        let not_shared = done.streams.iter().filter_map(|stream| history.stopped_deduplicating(stream));
        suspicious.iter().cloned().chain(not_shared).for_each(|problem| self.monitor.problem(problem));
        let (mut snapshot, is_skipped) = (None, self.is_skipped(&done, &odd.accepted()));
        if let Some(lease) = lease.filter(|_| !is_skipped) {
            let honoured = self.check_that_nothing_vanished(&index, lease).await?;
            let position =
                self.repository.state().newest(&sequence).map_or(position, |it| it.next().later_of(position));
            let mut manifest = self.manifest(&committer, &index, &snapshots, parent_id, sequence.series, &done);
            (manifest.position, manifest.honoured) = (position, honoured);
            manifest.anomalies = odd.anomalies.iter().take(ANOMALIES_MAX).cloned().collect();
            self.monitor.phase("writing the snapshot");
            committer.commit(&mut manifest).await.map_err(BackupError::Commit)?;
            self.check_that_it_counts(&session, Some(&manifest)).await?;
            self.remember(&manifest);
            let roots = manifest.sources.clone();
            let known = KnownThen { roots, packs: index.relied_packs() };
            done.last_tree.keep(&manifest, self.started, &known);
            history.keep(&done.streams, &odd.flagged(), &odd.accepted());
            done.streams.iter().filter_map(|stream| stream.night.as_ref()).for_each(FinishedNight::keep);
            done.nights.iter().for_each(ClosedNight::keep);
            session.forget_old_nights();
            trees.keep(&done.held.trees, &odd.flagged(), &odd.accepted());
            snapshot = Some(manifest);
        }
        Ok(BackupReport {
            snapshot,
            parent: parent_id,
            previous,
            is_skipped,
            tree_bytes: committer.uploaded().tree_bytes,
            counts: done.counts,
            unchanged_files: done.unchanged_files,
            changed_while_read: done.changed_while_read,
            suspicious,
            anomalies: odd.anomalies,
            left_out: done.left_out,
            missing: done.missing,
            problems: Problems::default(),
            read_bytes: done.read_bytes,
            duration: self.begun.elapsed(),
        })
    }

    /// Loads the index and finds out which packs may be relied on.
    async fn index(&self, session: &Arc<Session>, lease: Option<&HeldLease>) -> Result<Arc<CheckedIndex>, BackupError> {
        let loading = CheckedIndex::load(session, ASKED_AT_START, self.options.clock.now(), &**self.monitor);
        let index = self.unless_cancelled(loading).await??;
        if let Some(lease) = lease {
            lease.note_index_segments(index.segments().len() as u64);
        }
        Ok(Arc::new(index))
    }

    /// Looks at what earlier runs stored, and asks the sources what there is.
    async fn look_back(&self, index: &Arc<CheckedIndex>) -> Result<Before, BackupError> {
        let (repository, options, monitor) = (self.repository, self.options, self.monitor);
        let session = index.session();
        monitor.phase("looking for the last snapshot");
        let roots = options.files.as_ref().map_or_else(Vec::new, |files| root_names(&files.roots));
        let sources = source_names(options, &roots);
        let series = Series { host: options.host.clone(), job: options.job.clone(), sources };
        let sequence = Sequence { author: session.author(), series };
        let listing = self.unless_cancelled(repository.list_snapshots()).await??;
        let (newest, missing) = self.unless_cancelled(repository.newest_of(&sequence, &listing)).await?;
        let (position, flagged) = (newest.as_ref().map(Newest::next).unwrap_or_default(), Flagged::by(newest));
        let snapshots = listing.that_stay();
        let mut suspicious = self.judge_clocks(&snapshots);
        suspicious.extend(missing.map(|it| Problem::suspicious(it.subject(), it.to_string())));
        let domain = session.at().domain;
        let search = ParentSearch { repository, index, options, roots: &roots, domain, monitor };
        let parent = self.unless_cancelled(search.find(&snapshots)).await??;
        let members = self.members(session).await?;
        let paths = members.iter().flat_map(|member| &member.streams).map(|stream| &stream.path);
        let trees = TreeHistory::load(repository, &sequence.series);
        let known =
            History::load(repository, index.index(), options, &sequence.series, paths, snapshots.clone(), monitor);
        let history = self.unless_cancelled(known).await??;
        Ok(Before { roots, sequence, position, parent, snapshots, members, history, trees, flagged, suspicious })
    }

    /// Reads and stores everything in threads, and waits until all of it is durable and indexed.
    async fn run_threads(
        &self,
        index: &Arc<CheckedIndex>,
        members: Vec<StreamGroup>,
        parent: Parent,
        roots: Vec<Vec<u8>>,
        snapshots: &[SnapshotId],
    ) -> Result<(Committer, StoredWhole), BackupError> {
        let (repository, options, monitor) = (self.repository, self.options, self.monitor);
        monitor.phase("backing up");
        if let Some(totals) = parent.totals() {
            monitor.totals(totals);
        }
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            threads => threads,
        };
        let pack_target_bytes = repository.config().pack_target_bytes;
        let cutting = match (options.stream_options.recipes, members.is_empty()) {
            (true, false) => memory::Cutting::Windows,
            (true, true) => memory::Cutting::LargeFiles,
            (false, _) => memory::Cutting::Chunks,
        };
        let jobs = options.stream_options.jobs;
        let shares = memory::share(options.memory_bytes, pack_target_bytes, threads, jobs, cutting);
        let writer_options = WriterOptions {
            pack_target_bytes: shares.pack_target_bytes,
            packs_in_flight: shares.packs_in_flight,
            level: options.level,
            dry_run: options.dry_run,
            extra_check: options.extra_check,
        };
        let writer = Writer::start(index.clone(), writer_options, monitor.clone());
        let domain = index.session().at().domain;
        let reading = ThreadsReading::default();
        let stream_options = StreamOptions { jobs: shares.jobs, ..options.stream_options.clone() };
        let work = Work {
            options: BackupOptions { threads: shares.threads, stream_options, ..options.clone() },
            members,
            parent,
            roots,
            monitor: monitor.clone(),
            cancel: self.cancel.clone(),
            reading: reading.clone(),
            again: self.kept.begin(repository, index, options.memory_bytes, monitor),
            last: LastNights::among(snapshots.to_vec(), domain, repository, index.index(), options, monitor),
        };
        let runtime = tokio::runtime::Handle::current();
        let upload_end = writer.end();
        let running = tokio::task::spawn_blocking(move || {
            let told = work.monitor.clone();
            let outcome = pipeline::run(&writer, work, &runtime);
            told.phase("storing");
            // Whatever happened, what was read is stored and indexed, for the next run to find.
            let flushed = writer.flush();
            (writer, outcome.and_then(|done| Ok(flushed.map(|()| done)?)))
        });
        let (writer, outcome) = tokio::select! {
            ended = running => ended.map_err(|_| BackupError::Internal)?,
            () = reading.is_stuck(self.cancel) => {
                upload_end.end().await;
                return Err(BackupError::Cancelled);
            }
        };
        let committer = writer.finish().await?;
        Ok((committer, outcome.map_err(Stopped::into_error)?))
    }

    /// Finds what is odd about what was stored.
    fn judge(&self, done: &StoredWhole, history: &History, trees: &mut TreeHistory, flagged: &Flagged) -> Odd {
        let limits = &self.options.limits;
        let was_flagged = flagged.is_any();
        let mut noticed = history.judge(&done.streams, limits);
        let (now, before) = (&done.held.trees, &done.parent_held.trees);
        noticed.extend(trees.judge(now, before, &done.unread_roots, was_flagged, limits));
        let has_measure = |name: &str| trees.knows(name) || history.knows(name);
        Odd::of(noticed, flagged, has_measure, self.options.accept_anomalies)
    }

    /// Makes sure that every pack which the run relied on is still there. Returns the number of the highest list of cleaning up that
    /// it honours.
    async fn check_that_nothing_vanished(
        &self,
        index: &CheckedIndex,
        lease: &HeldLease,
    ) -> Result<Option<u64>, BackupError> {
        self.monitor.phase("checking that nothing vanished");
        let now = self.options.clock.now();
        let lost = index.lost_packs(!lease.was_kept(), now).await?;
        if lost.is_given_up {
            self.check_that_it_counts(index.session(), None).await?;
            return Err(BackupError::GivenUp);
        }
        if !lost.gone.is_empty() {
            return Err(BackupError::Vanished { packs: lost.gone.len() });
        }
        match lost.unknown {
            Some((packs, source)) => Err(BackupError::Unknown { packs, source }),
            None => Ok(lost.honoured),
        }
    }

    /// Looks once more, behind the snapshot, whether this host was thrown out, or a clean-up had stopped waiting for this session: between
    /// the last check and the snapshot there is room for a pause of any length.
    async fn check_that_it_counts(&self, session: &Session, made: Option<&Snapshot>) -> Result<(), BackupError> {
        match self.repository.standing(session, made).await.map_err(BackupError::LookBack)? {
            SessionStanding::Counts => Ok(()),
            SessionStanding::ThrownOut => Err(BackupError::ThrownOut),
            SessionStanding::GivenUp => Err(BackupError::GivenUp),
        }
    }

    /// Remembers the snapshot as the newest of its sequence, from which the next one goes on.
    fn remember(&self, snapshot: &Snapshot) {
        let state = self.repository.state();
        // Where there is no directory at all, whoever opened the repository was told.
        let Some((directory, newest)) = state.directory().zip(Newest::of(snapshot)) else { return };
        if let Err(error) = state.remember(&newest) {
            let message = format!(
                "the number of this snapshot could not be remembered ({error}): a host that cannot read begins anew with its next \
                 one, and that this one is there is not noticed"
            );
            self.monitor.problem(Problem::advice(directory.display().to_string(), message));
        }
    }

    fn manifest(
        &self,
        committer: &Committer,
        index: &CheckedIndex,
        snapshots: &[SnapshotId],
        parent: Option<SnapshotId>,
        series: Series,
        done: &StoredWhole,
    ) -> Snapshot {
        let (options, session) = (self.options, index.session());
        let dated = options.date.unwrap_or(self.started);
        Snapshot {
            id: committer.new_snapshot_id(dated, snapshots),
            session: session.id(),
            author: session.author(),
            foreign: None,
            forgotten: None,
            held: None,
            at: session.at(),
            started: dated,
            finished: options.clock.now(),
            host: series.host,
            user: options.user.clone(),
            job: series.job,
            tags: options.tags.clone(),
            sources: series.sources,
            program: PROGRAM.to_owned(),
            parent,
            root: done.root,
            counts: done.counts,
            missing: done.missing.iter().map(MissingStream::from).collect(),
            anomalies: Vec::new(),
            position: Position::default(),
            honoured: None,
            other_epochs: index.other_epochs(),
            digest: None,
        }
    }
}

/// What is known before anything is read.
struct Before {
    /// The absolute paths of the roots, sorted.
    roots: Vec<Vec<u8>>,
    /// What the snapshot has in common with earlier ones.
    sequence: Sequence,
    /// Where it stands among them.
    position: Position,
    parent: Parent,
    /// The snapshots that there are.
    snapshots: Vec<SnapshotId>,
    members: Vec<StreamGroup>,
    history: History,
    trees: TreeHistory,
    /// What the snapshot before was flagged for.
    flagged: Flagged,
    /// What is to be looked at.
    suspicious: Vec<Problem>,
}

/// What the snapshot says was asked for: absolute paths and stream names, sorted.
fn source_names(options: &BackupOptions, roots: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut names = roots.to_vec();
    names.extend(options.sources.iter().map(|source| source.name()));
    names.sort();
    names.dedup();
    names
}
