//! The threads of a backup, in one scope that ends by joining them all. One that panics ends the others: nobody waits for a
//! thread that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use tokio::runtime::Handle;

use crate::ops::Cancel;
use crate::ops::backup::assemble::{AssembleError, Assembled, Window, assemble};
use crate::ops::backup::files::FileWorker;
use crate::ops::backup::jobs::{Job, Jobs};
use crate::ops::backup::members::Member;
use crate::ops::backup::parent::Parent;
use crate::ops::backup::plan::{Batch, Planner};
use crate::ops::backup::reading::Reading;
use crate::ops::backup::scan::scan;
use crate::ops::backup::streams::StreamReader;
use crate::ops::backup::trees::TreeCounter;
use crate::ops::backup::{BackupError, BackupOptions};
use crate::progress::{Monitor, Problem, Totals};
use crate::repository::uploader::UploadStopped;
use crate::repository::writer::Writer;
use crate::source::SourceError;
use crate::source::files::{Walk, WalkError};

/// Finished batches waiting for the assembler.
const FINISHED_WAITING: usize = 16;

/// What the pipeline works on.
pub(super) struct Work {
    pub(super) options: BackupOptions,
    pub(super) members: Vec<Member>,
    pub(super) parent: Parent,
    /// The absolute paths of the roots, sorted.
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) cancel: Cancel,
    pub(super) reading: Reading,
}

/// Why the pipeline ended early.
pub(super) enum Stopped {
    /// Ending was asked for.
    Cancelled,
    /// Uploading has stopped; the writer knows why.
    Upload,
    /// A stream failed.
    Stream { name: String, source: SourceError },
    /// No stream could be kept; why the first could not.
    AllFailed { name: String, why: String },
    /// The walk could not begin.
    Walk(WalkError),
    /// A path is taken twice.
    Name(BackupError),
    /// A thread panicked.
    Panicked,
}

impl From<UploadStopped> for Stopped {
    fn from(_: UploadStopped) -> Self {
        Stopped::Upload
    }
}

impl Stopped {
    /// The error for the caller, when uploading itself ended well.
    pub(super) fn into_error(self) -> BackupError {
        match self {
            // A worker stops like this when ending was asked for in the middle of a file.
            Stopped::Cancelled | Stopped::Upload => BackupError::Cancelled,
            Stopped::Stream { name, source } => BackupError::Stream { name, source },
            Stopped::AllFailed { name, why } => BackupError::AllFailed { name, why },
            Stopped::Walk(error) => BackupError::Walk(error),
            Stopped::Name(error) => error,
            Stopped::Panicked => BackupError::Internal,
        }
    }
}

/// Held by each thread: when it panics, everybody who could wait for it is let go.
struct EndOnPanic<'a> {
    jobs: &'a Jobs<Batch>,
    window: &'a Window,
    stopped: &'a AtomicBool,
}

impl EndOnPanic<'_> {
    fn end(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.jobs.close();
        self.window.close();
    }
}

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end();
        }
    }
}

/// Sets a flag when its holder ends, however that is.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs streams and files through the workers and returns the tree.
pub(super) fn run(writer: &Writer, work: Work, runtime: &Handle) -> Result<Assembled, Stopped> {
    let Work { options, members, parent, roots, monitor, cancel, reading } = work;
    let (walk, unreachable) = start_walk(&options, !members.is_empty(), &*monitor).map_err(Stopped::Walk)?;
    let links = walk.as_ref().map_or_else(Vec::new, |walk| walk.links().to_vec());
    let jobs: Jobs<Batch> = Jobs::new();
    let window = Window::default();
    let stopped = AtomicBool::new(false);
    let (sender, finished) = sync_channel(FINISHED_WAITING);
    let needs_scan = options.scan && parent.totals().is_none();
    let (last_tree, entries) = parent.start(runtime, &roots, options.skip_if_unchanged);
    let scan_over = AtomicBool::new(false);
    let scanned = options.files.as_ref().filter(|_| needs_scan);
    let guard = || EndOnPanic { jobs: &jobs, window: &window, stopped: &stopped };

    std::thread::scope(|scope| {
        let whole = guard();
        let workers: Vec<_> = (0..options.threads)
            .map(|_| {
                let (sender, monitor) = (sender.clone(), monitor.clone());
                let (jobs, cancel, reading, guard) = (&jobs, &cancel, &reading, guard());
                scope.spawn(move || {
                    let mut worker = FileWorker::new(writer, jobs, &*monitor, cancel, reading);
                    let done = (|| {
                        while let Some(job) = jobs.next() {
                            match job {
                                Job::Frame(frame) => worker.seal(frame)?,
                                // A failed send means that the assembler has given up, which it tells itself.
                                Job::Batch(batch) => drop(sender.send(worker.read(batch)?)),
                            }
                        }
                        worker.finish()
                    })();
                    if done.is_err() {
                        guard.end();
                    }
                    done
                })
            })
            .collect();

        let reader = StreamReader {
            writer,
            jobs: &jobs,
            monitor: &*monitor,
            cancel: &cancel,
            now: options.clock.now(),
            is_all: walk.is_none(),
            failed: AtomicBool::new(false),
        };
        let streams = reader.store_all(members, &options.stream_options);
        let planner = Planner {
            jobs: &jobs,
            finished: sender,
            window: &window,
            monitor: &*monitor,
            cancel: &cancel,
            stopped: &stopped,
            reading: &reading,
            comparison: options.comparison,
        };
        let (streams, planning) = match (streams, walk) {
            (Ok(streams), Some(walk)) => {
                if let Some(files) = scanned {
                    let bytes = streams.streams.iter().map(|stream| stream.size).sum();
                    let done = Totals { entries: Some(streams.streams.len() as u64), bytes: Some(bytes) };
                    let (monitor, is_over, reading) = (&*monitor, &scan_over, &reading);
                    scope.spawn(move || scan(files, done, monitor, is_over, reading));
                }
                let (guard, is_over) = (guard(), OnDrop(&scan_over));
                let plan = move || {
                    let (_guard, _is_over) = (guard, is_over);
                    planner.run(walk, entries)
                };
                (Ok(streams), Some(scope.spawn(plan)))
            }
            (streams, walk) => {
                drop(planner);
                reading.during(|| drop(walk));
                (streams, None)
            }
        };
        let closing = scope.spawn({
            let jobs = &jobs;
            move || {
                let passed = planning.map(|planning| planning.join().map_err(|_| Stopped::Panicked)).transpose();
                jobs.close();
                passed
            }
        });
        let assembled = match streams {
            Ok(stored) => assemble(
                writer,
                last_tree,
                stored.entries,
                &finished,
                &window,
                TreeCounter::new(&roots, options.skip_if_unchanged),
            )
            .map(|mut assembled| {
                assembled.read_bytes += stored.streams.iter().map(|stream| stream.size).sum::<u64>();
                assembled.counts.new_bytes += stored.streams.iter().map(|stream| stream.new_bytes).sum::<u64>();
                assembled.streams = stored.streams;
                assembled.missing = stored.missing;
                assembled
            })
            .map_err(|error| match error {
                AssembleError::Upload => Stopped::Upload,
                AssembleError::Name(error) => Stopped::Name(error),
            }),
            Err(error) => Err(error),
        };
        // Whoever still sends finds nobody listening and ends.
        drop(finished);
        if assembled.is_err() {
            whole.end();
        }
        let passed = closing.join().unwrap_or(Err(Stopped::Panicked));
        let (mut failed, mut panicked) = (false, false);
        for worker in workers {
            match worker.join() {
                Ok(done) => failed |= done.is_err(),
                Err(_) => panicked = true,
            }
        }
        if panicked {
            return Err(Stopped::Panicked);
        }
        let passed = passed?;
        let mut assembled = assembled?;
        if cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        if failed {
            return Err(Stopped::Upload);
        }
        if let Some(passed) = passed {
            assembled.counts.unreadable += passed.problems;
            (assembled.parent_held, assembled.left_out) = (passed.parent_held, passed.left_out);
        }
        assembled.counts.unreadable += unreachable;
        assembled.links = links;
        Ok(assembled)
    })
}

/// Starts the walk. When there are streams, too, files of which none can be reached are a problem and no error: a dump must
/// not wait for a volume to be mounted. Returns how many roots were told.
fn start_walk(
    options: &BackupOptions,
    has_streams: bool,
    monitor: &dyn Monitor,
) -> Result<(Option<Walk>, u64), WalkError> {
    let Some(mut files) = options.files.clone().filter(|files| !files.roots.is_empty()) else { return Ok((None, 0)) };
    let mut unreachable = 0;
    loop {
        match Walk::new(&files) {
            Ok(walk) => {
                walk.vain_patterns().iter().for_each(|vain| monitor.problem(vain.clone()));
                return Ok((Some(walk), unreachable));
            }
            Err(WalkError::Root { path, source }) if has_streams => {
                let message = format!("cannot be backed up: {source}");
                monitor.problem(Problem::missing(path.display().to_string(), message));
                unreachable += 1;
                files.roots.retain(|root| *root != path);
                if files.roots.is_empty() {
                    return Ok((None, unreachable));
                }
            }
            Err(error) => return Err(error),
        }
    }
}
