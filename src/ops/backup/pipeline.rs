//! The threads of a backup, in one scope that ends by joining them all. One that panics ends the others: nobody waits for a
//! thread that is gone.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use tokio::runtime::Handle;

use crate::model::path::EntryPath;
use crate::model::snapshot::{SnapshotCounts, TreeRoot};
use crate::ops::Cancel;
use crate::ops::backup::assemble::{Assembled, assemble};
use crate::ops::backup::batch::Finished;
use crate::ops::backup::jobs::Jobs;
use crate::ops::backup::kept::Again;
use crate::ops::backup::large::LargeFiles;
use crate::ops::backup::members::StreamGroup;
use crate::ops::backup::options::BackupOptions;
use crate::ops::backup::parent::{LastTree, Parent, ParentEntries};
use crate::ops::backup::plan::{Passed, Planner};
use crate::ops::backup::reading::ThreadsReading;
use crate::ops::backup::remade::LastNights;
use crate::ops::backup::report::FailedStream;
use crate::ops::backup::scan::scan;
use crate::ops::backup::stopped::Stopped;
use crate::ops::backup::stored::{StoredStream, StoredStreams};
use crate::ops::backup::streams::StreamReader;
use crate::ops::backup::trees::{Held, ShownRoots, TreeCounter};
use crate::ops::backup::window::BatchWindow;
use crate::ops::backup::worker::{Own, Worker};
use crate::progress::{Monitor, Problem, Totals};
use crate::repository::nights::ClosedNight;
use crate::repository::writer::Writer;
use crate::source::files::{Walk, WalkError};

/// Finished batches waiting for the assembler.
const FINISHED_WAITING: usize = 16;

/// What the pipeline works on.
pub(super) struct Work {
    pub(super) options: BackupOptions,
    pub(super) members: Vec<StreamGroup>,
    pub(super) parent: Parent,
    /// The absolute paths of the roots, sorted.
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) cancel: Cancel,
    pub(super) reading: ThreadsReading,
    /// What earlier attempts read that cannot be read again.
    pub(super) again: Again,
    /// Where the last nights of the streams are, on a host that may read.
    pub(super) last: Option<LastNights>,
}

/// What a run stored, whole, and what it came upon.
pub(super) struct StoredWhole {
    pub(super) root: TreeRoot,
    pub(super) counts: SnapshotCounts,
    pub(super) last_tree: LastTree,
    /// The streams in it, and those that failed.
    pub(super) streams: Vec<StoredStream>,
    pub(super) missing: Vec<FailedStream>,
    /// What each root holds, and what it held in the parent.
    pub(super) held: Held,
    pub(super) parent_held: Held,
    /// Roots with something in them that could not be read.
    pub(super) unread_roots: ShownRoots,
    /// Roots of which only the symbolic link is kept.
    pub(super) links: Vec<Problem>,
    /// What was left out although nobody excluded it.
    pub(super) left_out: Vec<EntryPath>,
    pub(super) unchanged_files: u64,
    pub(super) changed_while_read: u64,
    /// Bytes read, of files and streams.
    pub(super) read_bytes: u64,
    /// What large files leave for the next night.
    pub(super) nights: Vec<ClosedNight>,
}

impl StoredWhole {
    /// Joins the tree with the streams that are in it and with what the walk passed.
    fn join(tree: Assembled, streams: StoredStreams, passed: Passed, begun: Begun) -> Self {
        let mut counts = tree.counts;
        counts.new_bytes += streams.streams.iter().map(|stream| stream.new_bytes).sum::<u64>();
        counts.unreadable += passed.problems + begun.unreachable;
        let unread_roots = tree.unread_roots.union(&passed.unread_roots).cloned().collect();
        let mut left_out = [passed.left_out, tree.left_out].concat();
        left_out.sort();
        Self {
            root: tree.root,
            counts,
            last_tree: tree.last_tree,
            read_bytes: tree.read_bytes + streams.size(),
            streams: streams.streams,
            missing: streams.missing,
            held: tree.held,
            parent_held: passed.parent_held,
            unread_roots,
            links: begun.links,
            left_out,
            unchanged_files: tree.unchanged_files,
            changed_while_read: tree.changed_while_read,
            nights: tree.nights,
        }
    }
}

/// Runs streams and files through the workers and returns what came of it.
pub(super) fn run(writer: &Writer, work: Work, runtime: &Handle) -> Result<StoredWhole, Stopped> {
    let Work { options, members, parent, roots, monitor, cancel, reading, again, last } = work;
    let (walk, begun) = start_walk(&options, !members.is_empty(), &*monitor).map_err(Stopped::Walk)?;
    let needs_scan = options.scan && parent.totals().is_none();
    let (last_tree, entries) = parent.start(runtime, &roots, options.skip_if_unchanged);
    let counter = TreeCounter::new(&roots, options.skip_if_unchanged);
    let (sender, finished) = sync_channel(FINISHED_WAITING);
    let line = Line::new(writer, &options, &roots, &*monitor, &cancel, &reading);

    std::thread::scope(|scope| {
        let whole = line.guard();
        let workers: Vec<_> = (0..options.threads).map(|_| line.spawn_worker(scope, sender.clone())).collect();
        let streams = line.store_streams(members, walk.is_none(), &again, last.as_ref());
        let planning = match (&streams, walk) {
            (Ok(streams), Some(walk)) => {
                if needs_scan {
                    line.spawn_scan(scope, streams);
                }
                Some(line.spawn_planner(scope, walk, entries, sender))
            }
            (_, walk) => {
                drop(sender);
                reading.during(|| drop(walk));
                None
            }
        };
        let closing = line.spawn_closing(scope, planning);
        let assembled = streams.and_then(|mut streams| {
            let entries = std::mem::take(&mut streams.entries);
            let tree = assemble(writer, last_tree, entries, &finished, &line.window, counter)?;
            Ok((tree, streams))
        });
        // Whoever still sends finds nobody listening and ends.
        drop(finished);
        if assembled.is_err() {
            whole.end();
        }
        let passed = closing.join().unwrap_or(Err(Stopped::Panicked));
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or(Err(Stopped::Panicked)));
        let mut stopped: Vec<Stopped> = joined.filter_map(Result::err).collect();
        // Behind them: whoever says that somebody else ended the run may have been ended by this.
        stopped.extend(cancel.is_cancelled().then_some(Stopped::Cancelled));
        match (assembled, passed) {
            (Ok((tree, streams)), Ok(passed)) if stopped.is_empty() => {
                Ok(StoredWhole::join(tree, streams, passed, begun))
            }
            (assembled, passed) => {
                stopped.extend(assembled.err().into_iter().chain(passed.err()));
                Err(Stopped::choose(stopped).expect("something is amiss"))
            }
        }
    })
}

/// What the threads share.
struct Line<'a> {
    writer: &'a Writer,
    options: &'a BackupOptions,
    /// The absolute paths of the roots.
    roots: &'a [Vec<u8>],
    monitor: &'a dyn Monitor,
    cancel: &'a Cancel,
    reading: &'a ThreadsReading,
    jobs: Jobs,
    window: BatchWindow,
    /// Ends the run early: somebody asked for it, or a thread has failed.
    early: Cancel,
    /// Ends the scan: the totals that it would find are of no use any more.
    scan: Cancel,
}

impl<'a> Line<'a> {
    fn new(
        writer: &'a Writer,
        options: &'a BackupOptions,
        roots: &'a [Vec<u8>],
        monitor: &'a dyn Monitor,
        cancel: &'a Cancel,
        reading: &'a ThreadsReading,
    ) -> Self {
        let early = cancel.child();
        let scan = early.child();
        let (jobs, window) = (Jobs::default(), BatchWindow::default());
        Self { writer, options, roots, monitor, cancel, reading, jobs, window, early, scan }
    }

    fn guard(&self) -> EndOnPanic<'_> {
        EndOnPanic(self)
    }

    fn spawn_worker<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        finished: SyncSender<Finished>,
    ) -> ScopedJoinHandle<'scope, Result<(), Stopped>> {
        scope.spawn(move || {
            let guard = self.guard();
            let (own, large) = (self.own(), self.large());
            let worker = Worker::new(large, &self.jobs, self.monitor, &self.early, self.reading, own);
            let done = worker.run(&finished);
            if done.is_err() {
                guard.end();
            }
            done
        })
    }

    /// Returns which files are large.
    fn large(&self) -> LargeFiles<'_> {
        LargeFiles { writer: self.writer, options: self.options }
    }

    /// Returns what is coffre's own, by its content.
    fn own(&self) -> Own<'_> {
        let marks = self.options.files.as_ref().map_or(&[][..], |files| &files.left_out_marks);
        Own { marks, roots: self.roots }
    }

    /// Stores the streams; when the backup is `all` streams, one of them at least must be kept.
    fn store_streams(
        &self,
        members: Vec<StreamGroup>,
        is_all: bool,
        again: &Again,
        last: Option<&LastNights>,
    ) -> Result<StoredStreams, Stopped> {
        let reader = StreamReader {
            writer: self.writer,
            options: self.options,
            jobs: &self.jobs,
            monitor: self.monitor,
            cancel: self.cancel,
            now: self.options.clock.now(),
            again,
            last,
            is_all,
            all: self.early.child(),
        };
        reader.store_all(members, &self.options.stream_options)
    }

    fn spawn_scan<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, streams: &StoredStreams) {
        let Some(files) = &self.options.files else { return };
        let done =
            Totals { entries: Some(streams.streams.len() as u64), bytes: Some(streams.size()), ..Totals::default() };
        scope.spawn(move || scan(files, done, self.monitor, &self.scan, self.reading));
    }

    fn spawn_planner<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        walk: Walk,
        parent: ParentEntries,
        finished: SyncSender<Finished>,
    ) -> ScopedJoinHandle<'scope, Passed> {
        let planner = Planner {
            jobs: &self.jobs,
            finished,
            window: &self.window,
            monitor: self.monitor,
            early: &self.early,
            reading: self.reading,
            roots: self.roots,
            large: self.large(),
            comparison: self.options.comparison,
        };
        scope.spawn(move || {
            let (_guard, _is_over) = (self.guard(), OnDrop(&self.scan));
            planner.run(walk, parent)
        })
    }

    /// Waits for the planner; after it no more jobs come.
    fn spawn_closing<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        planning: Option<ScopedJoinHandle<'scope, Passed>>,
    ) -> ScopedJoinHandle<'scope, Result<Passed, Stopped>> {
        scope.spawn(move || {
            let passed =
                planning.map_or(Ok(Passed::default()), |planning| planning.join().map_err(|_| Stopped::Panicked));
            self.jobs.close();
            passed
        })
    }
}

/// Held by each thread: when it panics, everybody who could wait for it is let go.
struct EndOnPanic<'a>(&'a Line<'a>);

impl EndOnPanic<'_> {
    fn end(&self) {
        self.0.early.cancel();
        self.0.jobs.close();
        self.0.window.close();
    }
}

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end();
        }
    }
}

/// Cancels when its holder ends, however that is.
struct OnDrop<'a>(&'a Cancel);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What was found when the walk began.
#[derive(Default)]
struct Begun {
    /// Roots of which only the symbolic link is kept.
    links: Vec<Problem>,
    /// Roots that could not be reached and were told.
    unreachable: u64,
}

/// Starts the walk. When there are streams, too, files of which none can be reached are a problem and no error: a dump must
/// not wait for a volume to be mounted.
fn start_walk(
    options: &BackupOptions,
    has_streams: bool,
    monitor: &dyn Monitor,
) -> Result<(Option<Walk>, Begun), WalkError> {
    let mut begun = Begun::default();
    let Some(mut files) = options.files.clone().filter(|files| !files.roots.is_empty()) else {
        return Ok((None, begun));
    };
    loop {
        match Walk::new(&files) {
            Ok(walk) => {
                walk.vain_patterns().iter().for_each(|vain| monitor.problem(vain.clone()));
                begun.links = walk.links().to_vec();
                return Ok((Some(walk), begun));
            }
            Err(WalkError::Root { path, source }) if has_streams => {
                let message = format!("cannot be backed up: {source}");
                monitor.problem(Problem::missing(path.display().to_string(), message));
                begun.unreachable += 1;
                files.roots.retain(|root| *root != path);
                if files.roots.is_empty() {
                    return Ok((None, begun));
                }
            }
            Err(error) => return Err(error),
        }
    }
}
