//! Showing what an operation does, on standard error: a bar on a terminal, a line a minute elsewhere, objects, or nothing.
//!
//! Problems with single entries are results: with `--json` they go to standard output with the others, one object each; a person
//! is told them at the end, cause by cause, or with `-v` one by one as they come. Whatever cannot be
//! written is dropped: a full or closed standard error ends no operation.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::cancel::Cancel;
use crate::cli::causes::{self, Causes};
use crate::cli::output::OfRun;
use crate::cli::{events, output};
use crate::model::path::display_bytes;
use crate::model::units::ByteSize;
use crate::progress::{Counter, Counters, EntryEvent, Monitor, Problem, ProblemKind, Totals, Waiting};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Not at all; problems still are.
    Quiet,
    /// A bar that is drawn over.
    Bar,
    /// A line a minute.
    Lines,
    /// An object a second.
    Objects,
}

/// What `--progress` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WantedProgress {
    /// A bar on a terminal, else a line a minute
    Auto,
    /// One JSON object a second
    Json,
    /// Nothing
    None,
}

/// Time between two looks at the counters.
const TICK: Duration = Duration::from_millis(100);

impl Style {
    /// Chooses by the flags and by whether standard error is a terminal.
    pub fn choose(wanted: WantedProgress, quiet: bool) -> Self {
        match wanted {
            _ if quiet => Style::Quiet,
            WantedProgress::None => Style::Quiet,
            WantedProgress::Json => Style::Objects,
            WantedProgress::Auto if std::io::stderr().is_terminal() => Style::Bar,
            WantedProgress::Auto => Style::Lines,
        }
    }

    fn interval(self) -> Duration {
        match self {
            Style::Quiet | Style::Bar => TICK,
            Style::Lines => Duration::from_secs(60),
            Style::Objects => Duration::from_secs(1),
        }
    }
}

/// A monitor that shows what it hears.
pub struct ConsoleMonitor {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
    cancel: Cancel,
}

/// What a monitor shows, and how.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// How progress is shown.
    pub style: Style,
    /// Whether notes are left out.
    pub quiet: bool,
    /// Whether each step is named, and each problem when it comes.
    pub steps: bool,
    /// Whether each entry of a source is listed, with what became of it.
    pub entries: bool,
    /// Whether problems are objects on standard output.
    pub json: bool,
    /// Whether each line says which job it belongs to.
    pub names_job: bool,
}

struct Shared {
    shown: Shown,
    /// The job of a run that all this belongs to.
    of: Option<OfRun>,
    counters: Counters,
    state: Mutex<State>,
    wake: Condvar,
    ended: AtomicBool,
    bar: ProgressBar,
    begun: Instant,
}

#[derive(Default)]
struct State {
    phase: String,
    /// The file that is being read.
    reading: String,
    /// What the counters were when the phase began.
    begun_with: [u64; Counter::COUNT],
    totals: Totals,
    /// The totals are those of this phase.
    has_totals: bool,
    /// What was told that makes the result worse.
    problems: u64,
    /// Problems that are not told yet.
    untold: Causes,
    /// How fast content is handled in this phase, and how fast sealed bytes are stored.
    handling: CounterRate,
    storing: CounterRate,
    /// Why the store is waited for, and since when.
    waiting: Option<(String, Instant)>,
    /// When a line last said so.
    waiting_told: Option<Instant>,
    /// Since when a question is open.
    asking: Option<Instant>,
    /// How long questions were open.
    asked: Duration,
}

/// Says what is waited for, and for how long once that is worth a word.
fn waiting_for(so_far: Duration, cause: &str) -> String {
    let so_far = Some(so_far).filter(|so_far| *so_far >= Duration::from_secs(2));
    let so_far = so_far.map_or_else(String::new, |so_far| format!(" for {}", output::duration(so_far)));
    format!("waiting for the store{so_far}: {cause}")
}

/// A line says that the store is waited for no more often than this.
const WAITING_LINES: Duration = Duration::from_secs(60);
/// A wait this long that was told is told to be over, too.
const WAITING_OVER: Duration = Duration::from_secs(10);

impl ConsoleMonitor {
    /// Starts showing what belongs to a job of a run, or to none.
    pub fn start(shown: Shown, of: Option<OfRun>) -> Self {
        let target = match shown.style {
            Style::Bar => ProgressDrawTarget::stderr_with_hz(10),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a fixed template"));
        let shared = Arc::new(Shared {
            shown,
            of,
            counters: Counters::default(),
            state: Mutex::default(),
            wake: Condvar::new(),
            ended: AtomicBool::new(false),
            bar,
            begun: Instant::now(),
        });
        let ticking = shared.clone();
        let ticker = (shown.style != Style::Quiet).then(|| std::thread::spawn(move || ticking.tick()));
        Self { shared, ticker: Mutex::new(ticker), cancel: Cancel::default() }
    }

    /// Returns what asks everything under this monitor to end: whoever sits at the console.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Tells whether notes are told at all.
    pub fn hears_notes(&self) -> bool {
        !self.shared.shown.quiet
    }

    /// Says something to the user, beside the bar.
    pub fn note(&self, text: &str) {
        match (self.shared.shown.quiet, self.shared.shown.style) {
            (true, _) => {}
            (false, Style::Objects) => output::say(&self.shared.object(&events::Note { message: text, subject: None })),
            (false, _) => self.shared.above(text),
        }
    }

    /// Says something that everybody must hear, `-q` or not, and that is no problem of what is being done.
    pub fn warn(&self, warning: &Problem) {
        if self.shared.shown.json {
            let warning = events::Warning { message: &warning.message, subject: &warning.subject };
            return self.shared.beside(|| self.shared.json(&warning));
        }
        self.shared.above(&warning.to_string());
    }

    /// Returns what is done now, in a line.
    pub fn now(&self) -> String {
        self.shared.sentence(&self.shared.state(), Instant::now(), None)
    }

    /// Returns how long this is running, without the time in which a person was asked.
    pub fn elapsed(&self) -> Duration {
        let state = self.shared.state();
        let open = state.asking.map_or(Duration::ZERO, |since| since.elapsed());
        self.shared.begun.elapsed().saturating_sub(state.asked + open)
    }

    /// Shows nothing as long as what is returned lives, because a person is asked something.
    pub fn asking(&self) -> QuestionOpen<'_> {
        let mut state = self.shared.state();
        state.asking = Some(Instant::now());
        self.shared.bar.finish_and_clear();
        QuestionOpen(&self.shared)
    }

    /// Begins to print a result. What is done goes on to be shown to a person at a terminal, or as objects to a program that asked
    /// for them; in a log, a result says enough.
    pub fn begin_result(&self) {
        if !matches!(self.shared.shown.style, Style::Bar | Style::Objects) {
            self.finish();
        }
    }

    /// Prints a part of the result beside the bar. A program that reads it may show things itself: then there is no bar any more.
    pub fn print_result(&self, print: impl FnOnce()) {
        if self.shared.shown.style == Style::Bar && output::is_read_by_a_program() {
            self.finish();
        }
        self.shared.beside(print);
    }

    /// Stops showing, removes the bar and tells what problems there were, before a result is printed. Doing so again tells those
    /// that came since.
    pub fn finish(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.wake.notify_all();
        let ticker = self.ticker.lock().expect("no panic while held").take();
        if let Some(ticker) = ticker {
            let _ = ticker.join();
        }
        self.shared.bar.finish_and_clear();
        let untold = self.shared.state().untold.take(output::wanted_error_width());
        untold.iter().for_each(|line| output::say(&self.shared.named(line)));
    }
}

/// A question is open, and nothing is drawn.
#[must_use]
pub struct QuestionOpen<'a>(&'a Shared);

impl Drop for QuestionOpen<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(since) = state.asking.take() {
            state.asked += since.elapsed();
        }
        if !self.0.ended.load(Ordering::Relaxed) {
            self.0.bar.reset();
        }
    }
}

impl std::fmt::Debug for ConsoleMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleMonitor").field("shown", &self.shared.shown).finish_non_exhaustive()
    }
}

impl Drop for ConsoleMonitor {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Prints a line to standard error without tearing the bar.
    fn above(&self, text: &str) {
        self.beside(|| output::say(&self.named(text)));
    }

    /// Returns a line with the job before it, where others run beside it.
    fn named(&self, text: &str) -> String {
        match self.of.as_ref().and_then(|of| of.job.as_deref()).filter(|_| self.shown.names_job) {
            Some(job) => format!("{job}: {text}"),
            None => text.to_owned(),
        }
    }

    fn object(&self, event: &impl Serialize) -> String {
        output::object_of(event, self.of.as_ref())
    }

    fn json(&self, event: &impl Serialize) {
        output::json_of(event, self.of.as_ref());
    }

    /// Prints something without tearing the bar.
    fn beside(&self, print: impl FnOnce()) {
        match self.shown.style {
            Style::Bar => self.bar.suspend(print),
            _ => print(),
        }
    }

    fn tick(&self) {
        let mut shown = Instant::now();
        let mut state = self.state();
        while !self.ended.load(Ordering::Relaxed) {
            (state, _) = self.wake.wait_timeout(state, TICK).expect("no panic while held");
            let now = Instant::now();
            state.handling.note(self.counters.get(Counter::Bytes), now);
            state.storing.note(self.counters.get(Counter::StoredBytes), now);
            let due = shown.elapsed() >= self.shown.style.interval() && state.asking.is_none();
            if !due || self.ended.load(Ordering::Relaxed) {
                continue;
            }
            shown = Instant::now();
            match self.shown.style {
                Style::Quiet => {}
                Style::Bar => {
                    let width = output::wanted_error_width().map(|columns| columns.saturating_sub(BAR_COLUMNS));
                    let sentence = self.sentence(&state, now, width);
                    let message = with_name(sentence, &state.reading, width);
                    self.bar.set_message(output::one_line(&message).into_owned());
                    self.bar.tick();
                }
                Style::Lines => output::say(&self.named(&self.sentence(&state, now, output::wanted_error_width()))),
                Style::Objects => output::say(&self.object(&self.event(&state, now))),
            }
        }
    }

    /// One line: what is done of what, how long still, and what is wrong. What does not fit into `width` columns is left out, the
    /// least important first.
    fn sentence(&self, state: &State, now: Instant, width: Option<usize>) -> String {
        let get = |counter| self.counters.get(counter);
        let mut begin = state.phase.clone();
        if let Some((cause, since)) = &state.waiting {
            begin = format!("{begin}  {}", waiting_for(now.saturating_duration_since(*since), cause));
        }
        let mut parts = vec![begin];
        let totals = state.phase_totals();
        let of = |done: String, total: Option<String>| total.map_or(done.clone(), |total| format!("{done} of {total}"));
        let done = self.done(state);
        match done {
            PhaseDone::Nothing => {}
            PhaseDone::Content { bytes } => {
                let total = totals.bytes.map(|total| ByteSize(total.max(bytes)).to_string());
                parts.push(of(ByteSize(bytes).to_string(), total));
            }
            PhaseDone::Stored { bytes, sealed } => parts.push(format!("{} of {}", ByteSize(bytes), ByteSize(sealed))),
        }
        if let Some(total) = totals.packs.filter(|&total| total > 0) {
            let packs = self.since_phase(state, Counter::Packs);
            parts.push(format!("{} of {}", output::grouped(packs), output::count(total, "pack")));
        }
        if let Some(left) = self.time_left(state, now) {
            parts.push(format!("{} left", whole_seconds(left)));
        }
        if state.problems > 0 {
            parts.push(output::count(state.problems, "problem"));
        }
        let new = get(Counter::NewBytes);
        if new > 0 && !matches!(done, PhaseDone::Stored { .. }) {
            parts.push(format!("{} stored", ByteSize(get(Counter::StoredBytes))));
        }
        if let Some(rate) = self.rate(state, now).filter(|rate| *rate >= 1.0) {
            parts.push(format!("{}/s", ByteSize(rate as u64)));
        }
        let entries = self.since_phase(state, Counter::Entries);
        if entries > 0 {
            let total = totals.entries.map(|total| output::grouped(total.max(entries)));
            parts.push(format!("{} entries", of(output::grouped(entries), total)));
        }
        if new > 0 && !matches!(done, PhaseDone::Stored { .. }) {
            parts.push(format!("{} new", ByteSize(new)));
        }
        if get(Counter::Retries) > 0 {
            parts.push(output::count(get(Counter::Retries), "retry"));
        }
        fit(&parts, width)
    }

    fn since_phase(&self, state: &State, counter: Counter) -> u64 {
        self.counters.get(counter).saturating_sub(state.begun_with[counter as usize])
    }

    /// Tells what this phase is about: content, or where none is handled what is still on its way to the store.
    fn done(&self, state: &State) -> PhaseDone {
        let bytes = self.since_phase(state, Counter::Bytes);
        let (stored, sealed) = (self.counters.get(Counter::StoredBytes), self.counters.get(Counter::SealedBytes));
        match (bytes, stored < sealed) {
            (0, true) => PhaseDone::Stored { bytes: stored, sealed },
            (0, false) => PhaseDone::Nothing,
            (bytes, _) => PhaseDone::Content { bytes },
        }
    }

    /// Returns the bytes a second of what this phase is about.
    fn rate(&self, state: &State, now: Instant) -> Option<f64> {
        match self.done(state) {
            PhaseDone::Nothing => None,
            PhaseDone::Content { .. } => state.handling.per_second(self.counters.get(Counter::Bytes), now),
            PhaseDone::Stored { bytes, .. } => state.storing.per_second(bytes, now),
        }
    }

    /// Returns how long it still takes: until everything is handled, or, where that takes longer, until what comes of it is stored.
    fn time_left(&self, state: &State, now: Instant) -> Option<Duration> {
        let done = self.done(state);
        let (stored, sealed) = (self.counters.get(Counter::StoredBytes), self.counters.get(Counter::SealedBytes));
        let (mut to_store, mut left) = (sealed.saturating_sub(stored) as f64, 0f64);
        if let PhaseDone::Content { bytes } = done {
            let to_handle = state.phase_totals().bytes?.checked_sub(bytes)? as f64;
            left = to_handle / state.handling.per_second(self.counters.get(Counter::Bytes), now)?;
            to_store += to_handle * sealed as f64 / self.counters.get(Counter::Bytes).max(1) as f64;
        }
        let is_stored_soon = to_store == 0.0 || (stored == 0 && matches!(done, PhaseDone::Content { .. }));
        if !is_stored_soon {
            left = left.max(to_store / state.storing.per_second(stored, now)?);
        }
        (left > 0.0 && left < 1e7).then(|| Duration::from_secs_f64(left.ceil()))
    }

    fn event<'a>(&self, state: &'a State, now: Instant) -> events::Progress<'a> {
        let get = |counter| self.counters.get(counter);
        events::Progress {
            bytes: get(Counter::Bytes),
            bytes_per_second: self.rate(state, now).unwrap_or(0.0) as u64,
            entries: get(Counter::Entries),
            fetched_bytes: get(Counter::FetchedBytes),
            new_bytes: get(Counter::NewBytes),
            packs: get(Counter::Packs),
            phase: &state.phase,
            problems: state.problems,
            read_bytes: get(Counter::ReadBytes),
            retries: get(Counter::Retries),
            sealed_bytes: get(Counter::SealedBytes),
            seconds: self.begun.elapsed().as_secs_f64(),
            seconds_left: self.time_left(state, now).map(|left| left.as_secs()),
            stored_bytes: get(Counter::StoredBytes),
            total_bytes: state.totals.bytes,
            total_entries: state.totals.entries,
            total_packs: state.totals.packs,
            waiting_for_store: state.waiting.as_ref().map(|(cause, _)| cause.as_str()),
            waiting_seconds: state.waiting.as_ref().map(|(_, since)| since.elapsed().as_secs()),
        }
    }
}

/// Writes an estimate, which knows no tenths.
fn whole_seconds(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => output::duration(left),
    }
}

/// What a phase has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PhaseDone {
    /// Nothing that is counted in bytes.
    Nothing,
    /// Content was handled.
    Content { bytes: u64 },
    /// What was sealed before is being stored.
    Stored { bytes: u64, sealed: u64 },
}

impl State {
    /// Returns how much there is to do in this phase.
    fn phase_totals(&self) -> Totals {
        if self.has_totals { self.totals } else { Totals::default() }
    }
}

/// The rate of a counter over the last half minute, long enough for packs that go out one after the other.
#[derive(Debug, Default)]
struct CounterRate(VecDeque<(Instant, u64)>);

impl CounterRate {
    const OVER: Duration = Duration::from_secs(30);
    const SAMPLED_EVERY: Duration = Duration::from_millis(500);
    /// What less time shows is not worth saying.
    const KNOWN_AFTER: Duration = Duration::from_secs(1);

    fn note(&mut self, count: u64, now: Instant) {
        let is_due = |(at, _): &(Instant, u64)| now.duration_since(*at) >= Self::SAMPLED_EVERY;
        if self.0.back().is_none_or(is_due) {
            self.0.push_back((now, count));
        }
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= Self::OVER) {
            self.0.pop_front();
        }
    }

    /// Returns it for a counter that is `count` now, once it is known and not zero.
    fn per_second(&self, count: u64, now: Instant) -> Option<f64> {
        let (at, before) = self.0.front()?;
        let passed = now.duration_since(*at);
        let rate = count.saturating_sub(*before) as f64 / passed.as_secs_f64();
        (passed >= Self::KNOWN_AFTER && rate > 0.0).then_some(rate)
    }
}

/// Columns of the bar before the line: the spinner and a space.
const BAR_COLUMNS: usize = 2;
/// A name of a file that gets fewer columns than this is left out.
const NAME_COLUMNS: usize = 16;

/// Joins as many of `parts` as fit into `width` columns, in their order, which is that of their importance. The first is always
/// there.
fn fit(parts: &[String], width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut line = String::new();
    for part in parts {
        let columns = line.chars().count() + 2 + part.chars().count();
        match line.is_empty() {
            true if part.chars().count() > width => {
                line = part.chars().take(width.saturating_sub(1)).collect();
                line.push('…');
            }
            true => line.clone_from(part),
            false if columns <= width => line = format!("{line}  {part}"),
            false => {}
        }
    }
    line
}

/// Adds the file that is being read, or as much of its end as there is room for.
fn with_name(line: String, name: &str, width: Option<usize>) -> String {
    let room = width.unwrap_or(usize::MAX).saturating_sub(line.chars().count() + 2);
    let columns = name.chars().count();
    match (name.is_empty() || room < NAME_COLUMNS.min(columns), columns <= room) {
        (true, _) => line,
        (false, true) => format!("{line}  {name}"),
        (false, false) => {
            let end: String = name.chars().skip(columns + 1 - room).collect();
            format!("{line}  …{end}")
        }
    }
}

impl Monitor for ConsoleMonitor {
    fn add(&self, counter: Counter, amount: u64) {
        self.shared.counters.add(counter, amount);
    }

    fn phase(&self, what: &str) {
        let is_another = {
            let mut state = self.shared.state();
            let is_another = state.phase != what;
            what.clone_into(&mut state.phase);
            state.reading.clear();
            for (begun_with, counter) in state.begun_with.iter_mut().zip(Counter::ALL) {
                *begun_with = self.shared.counters.get(counter);
            }
            state.handling = CounterRate::default();
            state.has_totals = false;
            is_another
        };
        if is_another && self.shared.shown.steps && self.shared.shown.style != Style::Objects {
            self.shared.above(what);
        }
    }

    fn entry(&self, path: &[u8], what: EntryEvent) {
        let shown = self.shared.shown;
        let word = match what {
            EntryEvent::Begun if shown.style == Style::Bar => {
                self.shared.state().reading = format!("/{}", display_bytes(path));
                return;
            }
            EntryEvent::Begun => return,
            EntryEvent::New => "new",
            EntryEvent::Changed => "changed",
            EntryEvent::Unchanged => "unchanged",
        };
        if !shown.entries {
            return;
        }
        let path = format!("/{}", display_bytes(path));
        if shown.json {
            let entry = events::BackedUpEntry { change: word, path };
            return self.shared.beside(|| self.shared.json(&entry));
        }
        self.shared.above(&format!("{word:<9}  {path}"));
    }

    fn totals(&self, totals: Totals) {
        let mut state = self.shared.state();
        (state.totals, state.has_totals) = (totals, true);
    }

    fn problem(&self, problem: Problem) {
        let cause = problem.message.clone();
        self.problem_of_many(problem, &cause);
    }

    fn problem_of_many(&self, problem: Problem, cause: &str) {
        // Advice takes nothing from the result.
        self.shared.state().problems += u64::from(problem.kind != ProblemKind::Advice);
        if self.shared.shown.json {
            let problem =
                events::Problem { kind: problem.kind.name(), message: &problem.message, subject: &problem.subject };
            return self.shared.beside(|| self.shared.json(&problem));
        }
        let at_once = match self.shared.shown.steps {
            true => Some(problem),
            false => self.shared.state().untold.add(problem, cause),
        };
        if let Some(problem) = at_once {
            self.shared.above(&causes::one(&problem, output::wanted_error_width()).join("\n"));
        }
    }

    fn waiting(&self, waiting: Option<Waiting<'_>>) {
        let line = {
            let mut state = self.shared.state();
            let lasted = state.waiting.take().map(|(_, since)| since.elapsed());
            match waiting {
                Some(waiting) => {
                    let since = Instant::now().checked_sub(waiting.so_far).unwrap_or_else(Instant::now);
                    state.waiting = Some((waiting.cause.to_owned(), since));
                    let is_due = state.waiting_told.is_none_or(|told| told.elapsed() >= WAITING_LINES);
                    is_due.then(|| {
                        state.waiting_told = Some(Instant::now());
                        waiting_for(waiting.so_far, waiting.cause)
                    })
                }
                None => lasted
                    .filter(|lasted| *lasted >= WAITING_OVER)
                    .map(|lasted| format!("the store answers again, after {}", output::duration(lasted))),
            }
        };
        // A bar shows it while it lasts, and JSON in its events.
        if let Some(line) = line.filter(|_| self.shared.shown.style == Style::Lines) {
            self.shared.above(&line);
        }
    }

    fn note(&self, note: Problem) {
        let shown = self.shared.shown;
        if shown.json {
            let note = events::Note { message: &note.message, subject: Some(&note.subject) };
            self.shared.beside(|| self.shared.json(&note));
        } else if !shown.quiet {
            self.shared.above(&note.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> ConsoleMonitor {
        let shown =
            Shown { style: Style::Quiet, quiet: true, steps: false, entries: false, json: false, names_job: false };
        ConsoleMonitor::start(shown, None)
    }

    /// What was told ten seconds ago began then, so that rates are a tenth of the counters.
    fn ten_seconds_ago() -> Instant {
        Instant::now().checked_sub(Duration::from_secs(10)).expect("this machine runs for longer")
    }

    fn state(phase: &str, totals: Totals) -> State {
        let rate = || CounterRate(VecDeque::from([(ten_seconds_ago(), 0)]));
        let (handling, storing) = (rate(), rate());
        State { phase: phase.into(), totals, has_totals: true, handling, storing, ..State::default() }
    }

    /// Returns the line at the width of three terminals.
    fn lines(monitor: &ConsoleMonitor, state: &State) -> Vec<String> {
        let now = state.storing.0[0].0 + Duration::from_secs(10);
        let at = |columns: usize| monitor.shared.sentence(state, now, Some(columns - BAR_COLUMNS));
        let lines: Vec<String> = [80, 100, 120].map(at).into();
        for (line, columns) in lines.iter().zip([80, 100, 120]) {
            assert!(line.chars().count() + BAR_COLUMNS <= columns, "{line}");
        }
        lines
    }

    #[test]
    fn the_line_says_what_is_waited_for() {
        let monitor = silent();
        let mut state = state("opening the repository", Totals::default());
        let cause = "the connection to the store failed: Connection refused".to_owned();
        state.waiting = Some((cause, state.storing.0[0].0));
        assert_eq!(
            lines(&monitor, &state),
            [
                "opening the repository  waiting for the store for 10.0 s: the connection to t…",
                "opening the repository  waiting for the store for 10.0 s: the connection to the store failed: Con…",
                "opening the repository  waiting for the store for 10.0 s: the connection to the store failed: Connection refused",
            ]
        );
    }

    #[test]
    fn what_is_stored_and_how_long_it_takes_fit_the_narrowest_terminal() {
        let monitor = silent();
        let totals = Totals { entries: Some(137_885), bytes: Some(5 << 30), ..Totals::default() };
        let mut state = state("backing up", totals);
        state.problems = 2;
        for (counter, amount) in [
            (Counter::Entries, 2_660),
            (Counter::Bytes, 414 << 20),
            (Counter::NewBytes, 215 << 20),
            (Counter::SealedBytes, 132 << 20),
            (Counter::StoredBytes, 32 << 20),
            (Counter::Retries, 1),
        ] {
            monitor.add(counter, amount);
        }
        assert_eq!(
            lines(&monitor, &state),
            [
                "backing up  414 MiB of 5.00 GiB  8 min 21 s left  2 problems  32.0 MiB stored",
                "backing up  414 MiB of 5.00 GiB  8 min 21 s left  2 problems  32.0 MiB stored  41.4 MiB/s  1 retry",
                "backing up  414 MiB of 5.00 GiB  8 min 21 s left  2 problems  32.0 MiB stored  41.4 MiB/s  2 660 of 137 885 entries",
            ]
        );
        let named = with_name(lines(&monitor, &state)[0].clone(), "/usr/share/doc/a-file", Some(98));
        assert!(named.ends_with("stored  …r/share/doc/a-file") && named.chars().count() == 98, "{named}");
    }

    #[test]
    fn once_everything_is_read_the_line_is_about_storing() {
        let monitor = silent();
        for (counter, amount) in
            [(Counter::Bytes, 300 << 20), (Counter::NewBytes, 300 << 20), (Counter::SealedBytes, 180 << 20)]
        {
            monitor.add(counter, amount);
        }
        monitor.phase("storing");
        monitor.add(Counter::StoredBytes, 120 << 20);
        let begun_with = monitor.shared.state().begun_with;
        let state = State { begun_with, has_totals: false, ..state("storing", Totals::default()) };
        assert_eq!(lines(&monitor, &state)[0], "storing  120 MiB of 180 MiB  5 s left  12.0 MiB/s");
        let now = state.storing.0[0].0 + Duration::from_secs(10);
        let event = monitor.shared.event(&state, now);
        assert_eq!((event.seconds_left, event.bytes_per_second), (Some(5), 12 << 20));
        monitor.add(Counter::StoredBytes, 60 << 20);
        assert_eq!(
            lines(&monitor, &state)[0],
            "storing  180 MiB stored  300 MiB new",
            "nothing is on its way any more"
        );
    }

    #[test]
    fn a_phase_tells_what_it_has_done_itself() {
        let monitor = silent();
        monitor.phase("reading data");
        monitor.totals(Totals { bytes: Some(1 << 30), packs: Some(32), ..Totals::default() });
        monitor.add(Counter::Packs, 19);
        monitor.add(Counter::Bytes, 600 << 20);
        let sentence = || monitor.shared.sentence(&monitor.shared.state(), Instant::now(), None);
        assert_eq!(sentence(), "reading data  600 MiB of 1.00 GiB  19 of 32 packs");
        monitor.phase("checking trees");
        assert_eq!(sentence(), "checking trees");
        monitor.add(Counter::Entries, 7);
        assert_eq!(sentence(), "checking trees  7 entries");
    }

    #[test]
    fn advice_is_no_problem() {
        let monitor = silent();
        monitor.problem(Problem::advice("snapshot 1", "is dated ahead of this machine's clock"));
        assert_eq!(monitor.shared.state().problems, 0);
        monitor.problem(Problem::suspicious("a", "shrank"));
        assert_eq!(monitor.shared.state().problems, 1);
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let (begun, mut rate) = (Instant::now(), CounterRate::default());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        rate.note(0, at(0));
        assert_eq!(rate.per_second(100, at(0)), None, "it is not known yet");
        for second in 1..=100 {
            rate.note(if second < 50 { second * 1000 } else { 49_000 + second - 50 }, at(second));
        }
        assert_eq!(rate.per_second(49_050, at(100)), Some(1.0));
        assert!(rate.0.len() < 70, "{}", rate.0.len());
    }
}
