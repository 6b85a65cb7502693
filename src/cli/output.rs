//! Standard output: tables, JSON lines, and a pipe that closes early. Standard error: lines that nobody may be there to read.
//!
//! Here, and nowhere else, text reaches a terminal, and here it is made harmless ([`visible`]): names of hosts, jobs, streams and objects, and
//! what a store or a server says, come from others, and a terminal obeys what is written to it. Only the bytes of files that somebody
//! asked for (`dump`, names ended by zero bytes) are written as they are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::fs::FileType;
use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::model::entry::{Entry, EntryKind};
use crate::model::path::{is_hidden, push_hidden};

/// The first thing that could not be written to standard output.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Returns text so that a terminal shows all of it and obeys none. A line may go on in another that begins with a blank, as long
/// messages do; nothing that others wrote looks like a line of its own.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |at, c| c == '\n' && text[at + 1..].starts_with(' '), push_hidden)
}

/// Returns text on one line, and harmless as [`visible`] makes it.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_, _| false, push_hidden)
}

/// Returns text with `push` writing what is hidden in it, unless that may `stand` where it does.
fn escaped<'a>(text: &'a str, stands: impl Fn(usize, char) -> bool, push: fn(&mut String, char)) -> Cow<'a, str> {
    let is_escaped = |&(at, c): &(usize, char)| is_hidden(c) && !stands(at, c);
    if !text.char_indices().any(|c| is_escaped(&c)) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        if is_escaped(&(at, c)) { push(&mut shown, c) } else { shown.push(c) }
    }
    shown.into()
}

/// Writes bytes that somebody asked for, as they are, to standard output and tells whether somebody still reads; the first failure is kept for [`ending`].
pub fn write(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) => {
            let _ = FAILED.set(error);
            false
        }
    }
}

/// Tells whether a program reads standard output as it comes, which may show something itself.
pub fn is_read_by_a_program() -> bool {
    let kind = rustix::fs::fstat(io::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    kind.is_ok_and(|kind| matches!(kind, FileType::Fifo | FileType::Socket))
}

/// Writes the page that a verb was asked to show, line by line.
pub fn print(page: &str) -> Fallible<Exit> {
    let mut shown = String::with_capacity(page.len());
    for line in page.split_inclusive('\n') {
        let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        let parts: Vec<_> = text.split('\t').map(one_line).collect();
        shown += &parts.join("\t");
        shown += end;
    }
    write(shown.as_bytes());
    Ok(Exit::Done)
}

/// Returns how the program ends that would end with `exit`, seen from what could be written.
///
/// Only where the output `is_all_there_was_to_do` does it matter that a reader went away: a backup is none the worse for it.
pub fn ending(exit: Exit, is_all_there_was_to_do: bool) -> Exit {
    let (kind, why) = match FAILED.get() {
        None => return exit,
        Some(error) => (error.kind(), error.to_string()),
    };
    if kind != io::ErrorKind::BrokenPipe {
        say(&format!("error: standard output could not be written: {why}"));
    }
    match (exit, kind) {
        (Exit::Done, io::ErrorKind::BrokenPipe) if is_all_there_was_to_do => Exit::ReaderGone,
        (Exit::Done, kind) if is_all_there_was_to_do && kind != io::ErrorKind::BrokenPipe => Exit::Failed,
        _ => exit,
    }
}

/// Tells a person something: one line on standard error.
///
/// Best effort: a log on a full disk or a reader that has gone away must not end, or change, what is being done. `eprintln!`
/// would panic; clippy's `print_stderr` keeps it out of the crate.
pub fn say(text: &str) {
    say_marked("", text);
}

/// The same behind a mark of our own, which may have colours.
pub fn say_marked(mark: &str, text: &str) {
    // One write, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{mark}{}\n", visible(text)).as_bytes());
}

/// What is told by a run of jobs belongs to it, and most of it to one of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfRun {
    /// The id of the run.
    pub run: String,
    /// The job.
    pub job: Option<String>,
}

/// Writes one object on a line of its own.
pub fn json(event: &impl Serialize) {
    line(&object(event));
}

/// The same with the run and the job that it belongs to, if to any.
pub fn json_of(event: &impl Serialize, of: Option<&OfRun>) {
    line(&object_of(event, of));
}

/// Returns one of [`events`](crate::cli::events) as [`object`] does, with the run and the job that it belongs to.
pub fn object_of(event: &impl Serialize, of: Option<&OfRun>) -> String {
    let Some(of) = of else { return object(event) };
    let value = serde_json::to_value(event).expect("its keys are text, and it fails nowhere");
    let serde_json::Value::Object(fields) = value else { return object(event) };
    // Sorted whatever the library's map does.
    let mut fields: BTreeMap<String, serde_json::Value> = fields.into_iter().collect();
    fields.insert("run".into(), of.run.as_str().into());
    fields.extend(of.job.as_deref().map(|job| ("job".to_owned(), job.into())));
    let event = fields.remove("event").map(|event| format!("\"event\":{event},")).unwrap_or_default();
    format!("{{{event}{}", &object(&fields)[1..])
}

/// Returns one of [`events`](crate::cli::events) as text in one line.
pub fn object(event: &impl Serialize) -> String {
    let text = serde_json::to_string(event).expect("its keys are text, and it fails nowhere");
    // What JSON lets stand, a terminal need not.
    let push = |shown: &mut String, c| {
        let _ = write!(shown, "\\u{:04x}", u32::from(c));
    };
    escaped(&text, |_, _| false, push).into_owned()
}

/// Writes a line.
pub fn line(text: &str) {
    write(format!("{}\n", visible(text)).as_bytes());
}

/// Returns the columns of the terminal that standard output is, or 80.
pub fn width() -> usize {
    columns(io::stdout()).unwrap_or(80)
}

/// Returns the columns that a table may take: those of the terminal, or of COLUMNS; in a pipe as many as it needs.
pub fn wanted_width() -> Option<usize> {
    wanted(io::stdout())
}

/// Returns the columns that a line on standard error may take, in the same way.
pub fn wanted_error_width() -> Option<usize> {
    wanted(io::stderr())
}

fn wanted(stream: impl AsFd) -> Option<usize> {
    columns(stream).or_else(|| std::env::var("COLUMNS").ok()?.parse().ok()).filter(|&columns| columns > 0)
}

fn columns(terminal: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Returns the type letter and permissions of an entry as `ls -l` shows them.
pub fn mode_text(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File(_) => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink(_) => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        EntryKind::CharDevice(_) => 'c',
        EntryKind::BlockDevice(_) => 'b',
        EntryKind::Stream(..) => '|',
    };
    let mode = entry.metadata.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Names the kind of an entry, for JSON.
pub fn kind_name(entry: &Entry) -> &'static str {
    match entry.kind {
        EntryKind::File(_) => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice(_) => "character device",
        EntryKind::BlockDevice(_) => "block device",
        EntryKind::Stream(..) => "stream",
    }
}

/// Writes a number with thin groups of three digits (`83 734`).
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Writes a duration as people say it: `4.2 s`, `3 min 07 s`, `2 h 05 min`.
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes a length of time by its two largest units: `1 d 2 h`, `3 h 5 min`, `40 s`.
pub fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let said = units.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    let said: Vec<String> = said.map(|(count, unit)| format!("{count} {unit}")).collect();
    if said.is_empty() { "0 s".to_owned() } else { said.join(" ") }
}

/// Writes a number and its noun, in the plural unless the number is one: files, entries, days.
pub fn count(number: u64, noun: &str) -> String {
    let plural = match (number, noun) {
        (1, _) => noun.to_owned(),
        (_, noun) => match noun.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
            _ => format!("{noun}s"),
        },
    };
    format!("{} {plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_is_obeyed_by_a_terminal() {
        for (text, shown) in [
            ("shop \u{e4}\u{1f980}", "shop \u{e4}\u{1f980}"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("a\rb\x08\x7f", "a\\x0db\\x08\\x7f"),
            ("\u{9b}31m", "\\xc2\\x9b31m"),
            ("txt.\u{202e}exe", "txt.\\xe2\\x80\\xaeexe"),
            ("it said:\n    no\nresult    clean", "it said:\n    no\\x0aresult    clean"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(one_line("a\n b"), "a\\x0a b");
        assert_eq!(object(&"\x1b\u{9b}\u{202e}\x7fa"), "\"\\u001b\\u009b\\u202e\\u007fa\"");
    }
    use std::time::Duration;

    #[test]
    fn numbers_are_grouped_and_nouns_agree() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(83_734), "83 734");
        assert_eq!(grouped(1_000_000), "1 000 000");
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(2, "entry"), "2 entries");
        assert_eq!((count(3, "retry"), count(0, "day")), ("3 retries".into(), "0 days".into()));
    }

    #[test]
    fn an_object_begins_with_what_it_is() {
        let note = |subject| object(&crate::cli::events::Note { message: "said", subject });
        assert_eq!(note(Some("/a\"b")), r#"{"event":"note","message":"said","subject":"/a\"b"}"#);
        assert_eq!(note(None), r#"{"event":"note","message":"said"}"#);
    }

    #[test]
    fn an_object_of_a_run_names_it_and_its_job_among_the_other_fields() {
        let of = |job: Option<&str>| OfRun { run: "r".into(), job: job.map(Into::into) };
        let note = crate::cli::events::Note { message: "a\u{9b}", subject: Some("s") };
        assert_eq!(
            object_of(&note, Some(&of(Some("nightly")))),
            "{\"event\":\"note\",\"job\":\"nightly\",\"message\":\"a\\u009b\",\"run\":\"r\",\"subject\":\"s\"}"
        );
        assert!(!object_of(&note, Some(&of(None))).contains("job"));
        assert_eq!(object_of(&note, None), object(&note));
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_millis(4_230)), "4.2 s");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
        assert_eq!(duration(Duration::from_secs(7_500)), "2 h 05 min");
    }
}
