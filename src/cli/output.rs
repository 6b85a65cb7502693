//! Standard output: tables, JSON lines, and a pipe that closes early. Standard error: lines that nobody may be there to read.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::model::entry::{Entry, EntryKind};

/// The first thing that could not be written to standard output.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes bytes to standard output and tells whether somebody still reads; the first failure is kept for [`ending`].
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

/// Writes what a verb was asked to show.
pub fn print(bytes: &[u8]) -> Fallible<Exit> {
    write(bytes);
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
    // One write, so that lines of several threads do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Writes one object on a line of its own.
pub fn json(event: &impl Serialize) {
    line(&object(event));
}

/// Returns one of [`events`](crate::cli::events) as text in one line.
pub fn object(event: &impl Serialize) -> String {
    serde_json::to_string(event).expect("its keys are text, and it fails nowhere")
}

/// Writes a line.
pub fn line(text: &str) {
    write(format!("{text}\n").as_bytes());
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
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_millis(4_230)), "4.2 s");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
        assert_eq!(duration(Duration::from_secs(7_500)), "2 h 05 min");
    }
}
