//! Showing what an operation does, on standard error: a bar on a terminal, a line a minute elsewhere, objects, or nothing.
//!
//! Problems with single entries are results: with `--json` they go to standard output with the others, one object each; a person
//! is told them at the end, cause by cause, or with `-v` one by one as they come. Whatever cannot be
//! written is dropped: a full or closed standard error ends no operation.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cancel::Cancel;
use crate::cli::causes::{self, Causes};
use crate::cli::{events, output};
use crate::model::path::display_bytes;
use crate::model::units::ByteSize;
use crate::progress::{Counter, Counters, EntryEvent, Monitor, Problem, Totals, Waiting};

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
pub enum Wanted {
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
    pub fn choose(wanted: Wanted, quiet: bool) -> Self {
        match wanted {
            _ if quiet => Style::Quiet,
            Wanted::None => Style::Quiet,
            Wanted::Json => Style::Objects,
            Wanted::Auto if std::io::stderr().is_terminal() => Style::Bar,
            Wanted::Auto => Style::Lines,
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
}

struct Shared {
    shown: Shown,
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
    totals: Totals,
    problems: u64,
    /// Problems that are not told yet.
    untold: Causes,
    /// Bytes and time a moment ago, and the smoothed rate in bytes a second.
    rate_from: Option<(Instant, u64)>,
    rate: f64,
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
    /// Starts showing.
    pub fn start(shown: Shown) -> Self {
        let target = match shown.style {
            Style::Bar => ProgressDrawTarget::stderr_with_hz(10),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a fixed template"));
        let shared = Arc::new(Shared {
            shown,
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
            (false, Style::Objects) => output::say(&output::object(&events::Note { message: text, subject: None })),
            (false, _) => self.shared.above(text),
        }
    }

    /// Says something that everybody must hear, `-q` or not, and that is no problem of what is being done.
    pub fn warn(&self, warning: &Problem) {
        if self.shared.shown.json {
            let warning = events::Warning { message: &warning.message, subject: &warning.subject };
            return self.shared.beside(|| output::json(&warning));
        }
        self.shared.above(&warning.to_string());
    }

    /// Returns how long this is running, without the time in which a person was asked.
    pub fn elapsed(&self) -> Duration {
        let state = self.shared.state();
        let open = state.asking.map_or(Duration::ZERO, |since| since.elapsed());
        self.shared.begun.elapsed().saturating_sub(state.asked + open)
    }

    /// Shows nothing as long as what is returned lives, because a person is asked something.
    pub fn asking(&self) -> Asking<'_> {
        let mut state = self.shared.state();
        state.asking = Some(Instant::now());
        self.shared.bar.finish_and_clear();
        Asking(&self.shared)
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
        untold.iter().for_each(|line| output::say(line));
    }
}

/// A question is open, and nothing is drawn.
#[must_use]
pub struct Asking<'a>(&'a Shared);

impl Drop for Asking<'_> {
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
        self.beside(|| output::say(text));
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
            state.measure(self.counters.get(Counter::Bytes));
            let due = shown.elapsed() >= self.shown.style.interval() && state.asking.is_none();
            if !due || self.ended.load(Ordering::Relaxed) {
                continue;
            }
            shown = Instant::now();
            match self.shown.style {
                Style::Quiet => {}
                Style::Bar => {
                    self.bar.set_message(format!("{}  {}", self.sentence(&state), state.reading));
                    self.bar.tick();
                }
                Style::Lines => output::say(&self.sentence(&state)),
                Style::Objects => output::say(&output::object(&self.event(&state))),
            }
        }
    }

    /// One line: what is done of what, how long still, and what is wrong; what a narrow terminal cuts off stands at the end.
    fn sentence(&self, state: &State) -> String {
        let get = |counter| self.counters.get(counter);
        let mut parts = vec![state.phase.clone()];
        if let Some((cause, since)) = &state.waiting {
            parts.push(waiting_for(since.elapsed(), cause));
        }
        let of = |done: String, total: Option<String>| total.map_or(done.clone(), |total| format!("{done} of {total}"));
        let (entries, bytes) = (get(Counter::Entries), get(Counter::Bytes));
        if bytes > 0 {
            let total = state.totals.bytes.map(|total| ByteSize(total.max(bytes)).to_string());
            parts.push(of(ByteSize(bytes).to_string(), total));
        }
        if let Some(total) = state.totals.packs.filter(|&total| total > 0) {
            parts.push(format!("{} of {}", output::grouped(get(Counter::Packs)), output::count(total, "pack")));
        }
        if let Some(left) = state.time_left(bytes) {
            parts.push(format!("{} left", output::duration(left)));
        }
        if state.problems > 0 {
            parts.push(output::count(state.problems, "problem"));
        }
        if entries > 0 {
            let total = state.totals.entries.map(|total| output::grouped(total.max(entries)));
            parts.push(format!("{} entries", of(output::grouped(entries), total)));
        }
        if state.rate >= 1.0 {
            parts.push(format!("{}/s", ByteSize(state.rate as u64)));
        }
        if get(Counter::NewBytes) > 0 {
            let (new, stored) = (ByteSize(get(Counter::NewBytes)), ByteSize(get(Counter::StoredBytes)));
            parts.push(format!("{new} new, {stored} stored"));
        }
        if get(Counter::Retries) > 0 {
            parts.push(output::count(get(Counter::Retries), "retry"));
        }
        parts.join("  ")
    }

    fn event<'a>(&self, state: &'a State) -> events::Progress<'a> {
        let get = |counter| self.counters.get(counter);
        events::Progress {
            bytes: get(Counter::Bytes),
            bytes_per_second: state.rate as u64,
            entries: get(Counter::Entries),
            fetched_bytes: get(Counter::FetchedBytes),
            new_bytes: get(Counter::NewBytes),
            packs: get(Counter::Packs),
            phase: &state.phase,
            problems: state.problems,
            read_bytes: get(Counter::ReadBytes),
            retries: get(Counter::Retries),
            seconds: self.begun.elapsed().as_secs_f64(),
            seconds_left: state.time_left(get(Counter::Bytes)).map(|left| left.as_secs()),
            stored_bytes: get(Counter::StoredBytes),
            total_bytes: state.totals.bytes,
            total_entries: state.totals.entries,
            total_packs: state.totals.packs,
            waiting_for_store: state.waiting.as_ref().map(|(cause, _)| cause.as_str()),
            waiting_seconds: state.waiting.as_ref().map(|(_, since)| since.elapsed().as_secs()),
        }
    }
}

impl State {
    /// Follows the rate, smoothed over about five seconds.
    fn measure(&mut self, bytes: u64) {
        let now = Instant::now();
        let Some((then, before)) = self.rate_from.replace((now, bytes)) else { return };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds > 0.0 && bytes >= before {
            let momentary = (bytes - before) as f64 / seconds;
            let weight = (seconds / 5.0).min(1.0);
            self.rate += if self.rate == 0.0 { momentary } else { (momentary - self.rate) * weight };
        }
    }

    fn time_left(&self, bytes: u64) -> Option<Duration> {
        let left = self.totals.bytes?.checked_sub(bytes).filter(|&left| left > 0)?;
        let seconds = left as f64 / self.rate;
        (self.rate >= 1.0 && seconds < 1e7).then(|| Duration::from_secs_f64(seconds.ceil()))
    }
}

impl Monitor for ConsoleMonitor {
    fn add(&self, counter: Counter, amount: u64) {
        self.shared.counters.add(counter, amount);
    }

    fn phase(&self, what: &str) {
        {
            let mut state = self.shared.state();
            what.clone_into(&mut state.phase);
            state.reading.clear();
        }
        if self.shared.shown.steps && self.shared.shown.style != Style::Objects {
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
            return self.shared.beside(|| output::json(&entry));
        }
        self.shared.above(&format!("{word:<9}  {path}"));
    }

    fn totals(&self, totals: Totals) {
        self.shared.state().totals = totals;
    }

    fn problem(&self, problem: Problem) {
        let cause = problem.message.clone();
        self.problem_of_many(problem, &cause);
    }

    fn problem_of_many(&self, problem: Problem, cause: &str) {
        self.shared.state().problems += 1;
        if self.shared.shown.json {
            let problem =
                events::Problem { kind: problem.kind.name(), message: &problem.message, subject: &problem.subject };
            return self.shared.beside(|| output::json(&problem));
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
            self.shared.beside(|| output::json(&note));
        } else if !shown.quiet {
            self.shared.above(&note.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> ConsoleMonitor {
        let shown = Shown { style: Style::Quiet, quiet: true, steps: false, entries: false, json: false };
        ConsoleMonitor::start(shown)
    }

    #[test]
    fn the_line_says_what_is_waited_for() {
        let monitor = silent();
        let told = Instant::now().checked_sub(Duration::from_secs(15)).expect("this machine runs for longer");
        let state = State {
            phase: "opening the repository".into(),
            waiting: Some(("the connection to the store failed: Connection refused".into(), told)),
            ..State::default()
        };
        let line = monitor.shared.sentence(&state);
        assert!(line.starts_with("opening the repository  waiting for the store for 15."), "{line}");
        assert!(line.ends_with(" s: the connection to the store failed: Connection refused"), "{line}");
    }

    #[test]
    fn the_line_says_what_is_known() {
        let monitor = silent();
        monitor.phase("backing up");
        monitor.add(Counter::Entries, 12);
        monitor.add(Counter::Bytes, 5 << 20);
        let state = State {
            phase: "backing up".into(),
            totals: Totals { entries: Some(24), bytes: Some(10 << 20), ..Totals::default() },
            rate: 1e6,
            ..State::default()
        };
        let line = monitor.shared.sentence(&state);
        assert_eq!(line, "backing up  5.00 MiB of 10.0 MiB  6.0 s left  12 of 24 entries  977 KiB/s");
    }

    #[test]
    fn packs_are_told_as_packs() {
        let monitor = silent();
        monitor.add(Counter::Packs, 19);
        monitor.add(Counter::Bytes, 600 << 20);
        let totals = Totals { bytes: Some(2 << 30), packs: Some(1082), ..Totals::default() };
        let state = State { phase: "reading data".into(), totals, ..State::default() };
        assert_eq!(monitor.shared.sentence(&state), "reading data  600 MiB of 2.00 GiB  19 of 1 082 packs");
    }
}
