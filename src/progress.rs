//! The port through which operations tell what they do: counters, tasks, problems. No terminal here.
//!
//! `cli` shows it with bars or as JSON; tests collect it in a [`Collected`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::model::outcome::{Ended, Outcome};

/// A quantity that an operation counts while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// Entries (files, directories, streams) handled.
    Entries,
    /// Bytes of content handled, whether read or known to be unchanged.
    Bytes,
    /// Packs read whole.
    Packs,
    /// Bytes actually read from the source.
    ReadBytes,
    /// Bytes of content that are new after deduplication.
    NewBytes,
    /// Bytes that are sealed and handed on to be stored: they wait, are on their way or are stored.
    SealedBytes,
    /// Bytes written to the store, sealed; of an object on its way, what was sent by now.
    StoredBytes,
    /// Bytes fetched from the store.
    FetchedBytes,
    /// Requests to the store that were tried again.
    Retries,
}

impl Counter {
    /// Number of counters.
    pub const COUNT: usize = 9;

    /// All of them, in the order of their numbers.
    pub const ALL: [Counter; Self::COUNT] = [
        Counter::Entries,
        Counter::Bytes,
        Counter::Packs,
        Counter::ReadBytes,
        Counter::NewBytes,
        Counter::SealedBytes,
        Counter::StoredBytes,
        Counter::FetchedBytes,
        Counter::Retries,
    ];
}

/// How much work is ahead, where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries in all.
    pub entries: Option<u64>,
    /// Bytes of content in all.
    pub bytes: Option<u64>,
    /// Packs in all.
    pub packs: Option<u64>,
}

/// What a problem means for the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProblemKind {
    /// Something that was wanted is not there: it could not be read, stored, put or set.
    Missing,
    /// It is there, and does not look as it should: a dump that shrank, values that a server changed.
    Suspicious,
    /// Stored data is missing or wrong.
    Damaged,
    /// The result is as it should be, and something else could be better.
    Advice,
}

impl ProblemKind {
    /// Returns its name, as `--json` has it.
    pub fn name(self) -> &'static str {
        match self {
            ProblemKind::Missing => "missing",
            ProblemKind::Suspicious => "suspicious",
            ProblemKind::Damaged => "damaged",
            ProblemKind::Advice => "advice",
        }
    }
}

/// Something wrong with a single entry or object; the operation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it means for the result.
    pub kind: ProblemKind,
    /// The entry or object concerned, as text for people.
    pub subject: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// Makes one about something that is not there.
    pub fn missing(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Missing, subject: subject.into(), message: message.into() }
    }

    /// Makes one about something that does not look as it should.
    pub fn suspicious(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Suspicious, subject: subject.into(), message: message.into() }
    }

    /// Makes one about stored data that is missing or wrong.
    pub fn damaged(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Damaged, subject: subject.into(), message: message.into() }
    }

    /// Makes one that takes nothing from the result.
    pub fn advice(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Advice, subject: subject.into(), message: message.into() }
    }
}

/// Problems that are kept with their words; the others are counted.
const KEPT: usize = 100;

/// The problems of a run: how many of each kind, and the words of the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// Of [`ProblemKind::Missing`].
    pub missing: u64,
    /// Of [`ProblemKind::Suspicious`].
    pub suspicious: u64,
    /// Of [`ProblemKind::Damaged`].
    pub damaged: u64,
    /// Of [`ProblemKind::Advice`].
    pub advice: u64,
    /// The first of them, at most a hundred.
    pub first: Vec<Problem>,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, problem: Problem) {
        match problem.kind {
            ProblemKind::Missing => self.missing += 1,
            ProblemKind::Suspicious => self.suspicious += 1,
            ProblemKind::Damaged => self.damaged += 1,
            ProblemKind::Advice => self.advice += 1,
        }
        if self.first.len() < KEPT {
            self.first.push(problem);
        }
    }

    /// Adds those of another run.
    pub fn extend(&mut self, others: Problems) {
        self.missing += others.missing;
        self.suspicious += others.suspicious;
        self.damaged += others.damaged;
        self.advice += others.advice;
        let room = KEPT.saturating_sub(self.first.len());
        self.first.extend(others.first.into_iter().take(room));
    }

    /// Returns how many there are of all kinds.
    pub fn count(&self) -> u64 {
        self.missing + self.suspicious + self.damaged + self.advice
    }
}

impl Ended for Problems {
    fn outcome(&self) -> Outcome {
        match (self.damaged, self.missing + self.suspicious) {
            (0, 0) => Outcome::Clean,
            (0, _) => Outcome::Incomplete,
            (_, _) => Outcome::Damaged,
        }
    }
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

    /// Says what the operation is doing now, as a short clause ("reading the index"). What is counted from now on belongs to that.
    fn phase(&self, what: &str);

    /// Says how much there is to do in this phase; may be called again as more becomes known.
    fn totals(&self, totals: Totals);

    /// Reports something wrong with one entry or object.
    fn problem(&self, problem: Problem);

    /// Reports something wrong that may be wrong with many entries, for the same `cause`, which says so of any of them.
    fn problem_of_many(&self, problem: Problem, _cause: &str) {
        self.problem(problem);
    }

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

/// Passes everything on and keeps the problems, for the report of the run: what came out of it is known without asking
/// whoever shows it.
pub struct Tally {
    monitor: Arc<dyn Monitor>,
    problems: Mutex<Problems>,
}

impl Tally {
    /// Makes one that passes on to `monitor`.
    pub fn over(monitor: Arc<dyn Monitor>) -> Arc<Self> {
        Arc::new(Self { monitor, problems: Mutex::default() })
    }

    /// Takes the problems that were told so far.
    pub fn take(&self) -> Problems {
        std::mem::take(&mut *self.problems.lock().expect("no panic while held"))
    }
}

impl Monitor for Tally {
    fn add(&self, counter: Counter, amount: u64) {
        self.monitor.add(counter, amount);
    }

    fn phase(&self, what: &str) {
        self.monitor.phase(what);
    }

    fn totals(&self, totals: Totals) {
        self.monitor.totals(totals);
    }

    fn problem(&self, problem: Problem) {
        self.problems.lock().expect("no panic while held").add(problem.clone());
        self.monitor.problem(problem);
    }

    fn problem_of_many(&self, problem: Problem, cause: &str) {
        self.problems.lock().expect("no panic while held").add(problem.clone());
        self.monitor.problem_of_many(problem, cause);
    }

    fn entry(&self, path: &[u8], what: EntryEvent) {
        self.monitor.entry(path, what);
    }

    fn waiting(&self, waiting: Option<Waiting<'_>>) {
        self.monitor.waiting(waiting);
    }

    fn note(&self, note: Problem) {
        self.monitor.note(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_keeps_what_it_passes_on() {
        let heard = Arc::new(Collected::default());
        let tally = Tally::over(heard.clone());
        tally.problem(Problem::advice("a", "could be better"));
        assert_eq!(tally.take().outcome(), Outcome::Clean);
        tally.problem(Problem::suspicious("b", "shrank"));
        tally.problem(Problem::missing("c", "could not be read"));
        tally.note(Problem::advice("d", "is no problem"));
        let problems = tally.take();
        assert_eq!((problems.count(), problems.outcome()), (2, Outcome::Incomplete));
        tally.problem(Problem::damaged("e", "is damaged"));
        assert_eq!(tally.take().outcome(), Outcome::Damaged);
        assert_eq!((heard.problems().len(), heard.notes().len()), (4, 1));
    }

    #[test]
    fn a_million_problems_take_the_room_of_a_hundred() {
        let mut problems = Problems::default();
        (0..1_000_000).for_each(|_| problems.add(Problem::missing("a", "b")));
        let mut all = problems.clone();
        all.extend(problems);
        assert_eq!((all.missing, all.first.len()), (2_000_000, KEPT));
    }
}
