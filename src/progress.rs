//! The port through which operations tell what they do: counters, tasks, problems. No terminal here.
//!
//! `cli` shows it with bars or as JSON; tests collect it in a [`Collected`].

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A quantity that an operation counts while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// Entries (files, directories, streams) handled.
    Entries,
    /// Bytes of content handled, whether read or known to be unchanged.
    Bytes,
    /// Bytes actually read from the source.
    ReadBytes,
    /// Bytes of content that are new after deduplication.
    NewBytes,
    /// Bytes written to the store, sealed.
    StoredBytes,
    /// Bytes fetched from the store.
    FetchedBytes,
    /// Requests to the store that were tried again.
    Retries,
}

impl Counter {
    /// Number of counters.
    pub const COUNT: usize = 7;
}

/// How much work is ahead, where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries in all.
    pub entries: Option<u64>,
    /// Bytes of content in all.
    pub bytes: Option<u64>,
}

/// Something wrong with a single entry or object; the operation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The entry or object concerned, as text for people.
    pub subject: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

/// What keeps everything waiting: the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// What happened at the last try, as a clause: `the connection to the store failed: Connection refused`.
    pub cause: &'a str,
    /// How long it has not answered by now.
    pub so_far: std::time::Duration,
}

/// Returns an error and its causes in one line, for problems and findings.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// What becomes of one entry of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryEvent {
    /// It is being read.
    Begun,
    /// It was stored, and the parent does not have it.
    New,
    /// It was stored, and is another in the parent.
    Changed,
    /// It is as in the parent.
    Unchanged,
}

/// Hears what an operation does. Calls are cheap and come from any thread.
pub trait Monitor: Send + Sync {
    /// Adds `amount` to `counter`.
    fn add(&self, counter: Counter, amount: u64);

    /// Says what the operation is doing now, as a short clause ("reading the index").
    fn phase(&self, what: &str);

    /// Says how much there is to do; may be called again as more becomes known.
    fn totals(&self, totals: Totals);

    /// Reports something wrong with one entry or object.
    fn problem(&self, problem: Problem);

    /// Says what becomes of an entry of the source. Who does not list entries leaves it out.
    fn entry(&self, _path: &[u8], _what: EntryEvent) {}

    /// Says that the store is waited for, again at each further try, and `None` once it answers.
    fn waiting(&self, waiting: Option<Waiting<'_>>) {
        let _ = waiting;
    }

    /// Tells something that people should know and that makes nothing of the result wrong: it is no problem.
    fn note(&self, note: Problem) {
        let _ = note;
    }
}

/// Counters that threads add to without locks.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Counter::COUNT]);

impl Counters {
    /// Adds `amount` to `counter`.
    pub fn add(&self, counter: Counter, amount: u64) {
        self.0[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns the present value of `counter`.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}

/// A monitor that keeps everything, for tests and for callers without a terminal.
#[derive(Debug, Default)]
pub struct Collected {
    /// The counters.
    pub counters: Counters,
    problems: Mutex<Vec<Problem>>,
    notes: Mutex<Vec<Problem>>,
    phases: Mutex<Vec<String>>,
    waits: Mutex<Vec<Option<String>>>,
}

impl Collected {
    /// Returns the problems reported so far.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().expect("no panic while held").clone()
    }

    /// Returns the notes told so far.
    pub fn notes(&self) -> Vec<Problem> {
        self.notes.lock().expect("no panic while held").clone()
    }

    /// Returns the phases reported so far.
    pub fn phases(&self) -> Vec<String> {
        self.phases.lock().expect("no panic while held").clone()
    }
}

impl Collected {
    /// Returns what was waited for so far: the causes, and `None` where a wait ended.
    pub fn waits(&self) -> Vec<Option<String>> {
        self.waits.lock().expect("no panic while held").clone()
    }
}

impl Monitor for Collected {
    fn add(&self, counter: Counter, amount: u64) {
        self.counters.add(counter, amount);
    }

    fn phase(&self, what: &str) {
        self.phases.lock().expect("no panic while held").push(what.to_owned());
    }

    fn totals(&self, _: Totals) {}

    fn problem(&self, problem: Problem) {
        self.problems.lock().expect("no panic while held").push(problem);
    }

    fn waiting(&self, waiting: Option<Waiting<'_>>) {
        let cause = waiting.map(|waiting| waiting.cause.to_owned());
        self.waits.lock().expect("no panic while held").push(cause);
    }

    fn note(&self, note: Problem) {
        self.notes.lock().expect("no panic while held").push(note);
    }
}
