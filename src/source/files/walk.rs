//! The walk: an iterator over a file tree in tree order, with threads that read directories ahead of it.
//!
//! Directories wait on a stack whose top is the one that comes next in the tree, so the threads stay just ahead of the
//! consumer. They pause when [`AHEAD_ENTRIES`] entries wait. A directory that nobody has begun when the consumer
//! arrives is read by the consumer itself; so the walk never stands still, whatever the threads are busy with.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::vec;

use crate::fs::owners::Owners;
use crate::fs::stat::FileStat;
use crate::model::path::EntryPath;
use crate::progress::Problem;
use crate::source::files::directory::{BlockItem, DirectoryPlace, EntryBlock, Rules, WalkJob};
use crate::source::files::exclude::Excludes;
use crate::source::files::found::FoundEntry;
use crate::source::files::options::{WalkError, WalkOptions};
use crate::source::files::roots;

/// How many entries may wait for the consumer: about 300 bytes each, 20 MB in all. A directory that is larger than
/// this also keeps its names in memory, about 24 bytes and the name for each.
const AHEAD_ENTRIES: usize = 64 * 1024;

/// One step of a walk.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Walked {
    /// An entry.
    Entry(FoundEntry),
    /// Something that could not be read and is missing from the walk; the walk goes on.
    Problem(Problem),
    /// One of [`WalkOptions::left_out`] was come upon, at this path.
    LeftOut(EntryPath),
}

/// An iterator over all entries of a file tree in tree order.
///
/// Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct Walk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// The directories that are open, outermost first.
    frames: Vec<OpenLevel>,
    /// The directory that was given out last and is to be entered next.
    entering: Option<Arc<Task>>,
    /// Roots that are missing, told before anything else.
    missing: VecDeque<Problem>,
    links: Vec<Problem>,
}

#[derive(Debug)]
struct OpenLevel {
    items: vec::IntoIter<Ready>,
    /// How many entries of the present block count as waiting.
    held: usize,
    more: VecDeque<Arc<Task>>,
}

/// An entry ready to be given out, with the task of reading what is below it.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Ready {
    Entry(FoundEntry, Option<Arc<Task>>),
    Problem(Problem),
    LeftOut(EntryPath),
}

#[derive(Debug)]
struct Task {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting(WalkJob),
    Running,
    Done(OpenLevel),
    Taken,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Entries in blocks that are done but not used up.
    held: AtomicUsize,
    /// How many of these there may be.
    ahead: usize,
}

#[derive(Debug, Default)]
struct Queue {
    /// Tasks to do; the last comes next in the tree. Tasks that the consumer took stay until they come to the top.
    stack: Vec<Arc<Task>>,
    idle: usize,
    stop: bool,
}

impl Walk {
    /// Checks the options and starts the threads.
    ///
    /// # Errors
    /// [`WalkError`]: no root exists, a pattern or pattern file cannot be used. A root that does not exist beside others that
    /// do is a problem that the walk tells first.
    pub fn new(options: &WalkOptions) -> Result<Self, WalkError> {
        Self::with_ahead(options, AHEAD_ENTRIES)
    }

    /// Like [`Walk::new`]; the threads pause when `ahead` entries wait.
    ///
    /// # Errors
    /// As for [`Walk::new`].
    pub fn with_ahead(options: &WalkOptions, ahead: usize) -> Result<Self, WalkError> {
        let roots = roots::plan(&options.roots)?;
        let owners = Arc::new(Owners::default());
        let top = DirectoryPlace::top(roots.top, &owners)
            .map_err(|error| WalkError::Root { path: PathBuf::from("/"), source: error.into() })?;
        let rules = Rules {
            excludes: Excludes::new(options)?,
            left_out: options.left_out.iter().filter_map(|path| identity(path)).collect(),
            one_file_system: options.one_file_system,
            owners,
        };
        let first = Arc::new(Task::new(WalkJob::List(top)));
        let shared = Arc::new(Shared {
            rules,
            queue: Mutex::new(Queue { stack: vec![Arc::clone(&first)], ..Queue::default() }),
            wake: Condvar::new(),
            held: AtomicUsize::new(0),
            ahead,
        });
        let mut walk = Self {
            shared,
            threads: Vec::new(),
            frames: Vec::new(),
            entering: Some(first),
            missing: roots.missing.into(),
            links: roots.links,
        };
        let processors = thread::available_parallelism().map_or(2, usize::from);
        let threads = if options.threads == 0 { processors.clamp(2, 8) } else { options.threads };
        for _ in 0..threads {
            let shared = Arc::clone(&walk.shared);
            let started = thread::Builder::new().name("walk".to_owned()).spawn(move || shared.work());
            walk.threads.push(started.map_err(WalkError::Thread)?);
        }
        Ok(walk)
    }

    /// Returns the roots that are symbolic links, of which nothing but the link is walked: each with where it leads and how to
    /// follow it. A link to something that another root contains is not among them.
    pub fn links(&self) -> &[Problem] {
        &self.links
    }

    /// Returns the patterns that can never match, and why.
    pub fn vain_patterns(&self) -> &[Problem] {
        &self.shared.rules.excludes.vain
    }
}

/// Returns device and inode number, by which a file or directory is known under every name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = FileStat::from(rustix::fs::stat(path).ok()?);
    Some((stat.device, stat.inode))
}

impl Iterator for Walk {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        if let Some(missing) = self.missing.pop_front() {
            return Some(Walked::Problem(missing));
        }
        if let Some(task) = self.entering.take() {
            self.frames.push(self.shared.take(&task));
        }
        loop {
            let frame = self.frames.last_mut()?;
            match frame.items.next() {
                Some(Ready::Entry(entry, below)) => {
                    self.entering = below;
                    return Some(Walked::Entry(entry));
                }
                Some(Ready::Problem(problem)) => return Some(Walked::Problem(problem)),
                Some(Ready::LeftOut(path)) => return Some(Walked::LeftOut(path)),
                None => {
                    self.shared.release(mem::take(&mut frame.held));
                    match frame.more.pop_front() {
                        Some(task) => {
                            let next = self.shared.take(&task);
                            frame.items = next.items;
                            frame.held = next.held;
                        }
                        None => drop(self.frames.pop()),
                    }
                }
            }
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.shared.queue().stop = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so already; its directory was reported as a problem.
            let _ = thread.join();
        }
        // What was read ahead is nested as deep as the tree: taken apart here, it does not drop itself recursively.
        let mut frames = mem::take(&mut self.frames);
        let mut tasks: Vec<Arc<Task>> = self.entering.take().into_iter().collect();
        loop {
            if let Some(frame) = frames.pop() {
                tasks.extend(frame.more);
                tasks.extend(frame.items.filter_map(|ready| match ready {
                    Ready::Entry(_, below) => below,
                    Ready::Problem(_) | Ready::LeftOut(_) => None,
                }));
            } else if let Some(task) = tasks.pop() {
                if let State::Done(frame) = mem::replace(&mut *task.state(), State::Taken) {
                    frames.push(frame);
                }
            } else {
                return;
            }
        }
    }
}

impl Task {
    fn new(job: WalkJob) -> Self {
        Self { state: Mutex::new(State::Waiting(job)), done: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the job if nobody has begun it.
    fn begin(&self) -> Option<WalkJob> {
        let mut state = self.state();
        match mem::replace(&mut *state, State::Running) {
            State::Waiting(job) => Some(job),
            other => {
                *state = other;
                None
            }
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does until the walk is dropped.
    fn work(&self) {
        let mut queue = self.queue();
        loop {
            if queue.stop {
                return;
            }
            let room = self.held.load(Ordering::Relaxed) < self.ahead;
            let Some(task) = room.then(|| queue.stack.pop()).flatten() else {
                queue.idle += 1;
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                continue;
            };
            drop(queue);
            if let Some(job) = task.begin() {
                let frame = self.run(job);
                *task.state() = State::Done(frame);
                task.done.notify_one();
            }
            queue = self.queue();
        }
    }

    /// Does a job, offers what it leads to, and returns what it found.
    fn run(&self, job: WalkJob) -> OpenLevel {
        let block = catch_unwind(AssertUnwindSafe(|| job.run(&self.rules))).unwrap_or_else(|_| {
            let message = "reading a directory failed for an internal reason".to_owned();
            EntryBlock {
                items: vec![BlockItem::Problem(Problem::missing("walk".to_owned(), message))],
                more: Vec::new(),
            }
        });
        let mut offered = Vec::new();
        let mut offer = |job: WalkJob| {
            let task = Arc::new(Task::new(job));
            offered.push(Arc::clone(&task));
            task
        };
        let items: Vec<Ready> = block
            .items
            .into_iter()
            .map(|item| match item {
                BlockItem::Entry(entry, job) => Ready::Entry(entry, job.map(|job| offer(*job))),
                BlockItem::Problem(problem) => Ready::Problem(problem),
                BlockItem::LeftOut(path) => Ready::LeftOut(path),
            })
            .collect();
        let more = block.more.into_iter().map(&mut offer).collect();
        let held = items.len();
        self.held.fetch_add(held, Ordering::Relaxed);
        if !offered.is_empty() {
            let mut queue = self.queue();
            let wake = queue.idle.min(offered.len());
            queue.stack.extend(offered.into_iter().rev());
            drop(queue);
            (0..wake).for_each(|_| self.wake.notify_one());
        }
        OpenLevel { items: items.into_iter(), held, more }
    }

    /// Returns what a task found: reads it now, waits for the thread that reads it, or takes what is there.
    fn take(&self, task: &Task) -> OpenLevel {
        if let Some(job) = task.begin() {
            *task.state() = State::Taken;
            let mut queue = self.queue();
            while queue.stack.last().is_some_and(|top| matches!(*top.state(), State::Taken)) {
                queue.stack.pop();
            }
            drop(queue);
            return self.run(job);
        }
        let mut state = task.state();
        loop {
            match mem::replace(&mut *state, State::Taken) {
                State::Done(frame) => return frame,
                other => *state = other,
            }
            state = task.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts `entries` as used up and wakes the threads when there is room again.
    fn release(&self, entries: usize) {
        let before = self.held.fetch_sub(entries, Ordering::Relaxed);
        if before >= self.ahead && before - entries < self.ahead {
            drop(self.queue());
            self.wake.notify_all();
        }
    }
}
