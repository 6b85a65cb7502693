//! Marks in a dump on its way into the client, by which what the client says next is known to be about one table.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::feed::FeedError;
use crate::engine::lines::EditedLines;
use crate::model::id::{hex, unhex};

/// Begins what the client prints before the statements about a table.
const MARK: &str = "coffre restores table ";
/// Begins what is printed when all statements before it are done.
const DONE: &str = "coffre has done this: ";

/// The tables that were marked, each with the line of what the client reads.
pub type MarkedLines = Arc<Mutex<Vec<(u64, String)>>>;

/// Lets the client of MariaDB or MySQL print which table comes, so that what it says next is about that one.
///
/// A comment with the name stands before a table's structure and before its rows, behind a line of two dashes. Routines,
/// which may have any lines, stand where another delimiter counts.
pub fn with_marks(input: impl Write + Send + 'static, marked: MarkedLines) -> Box<dyn Write + Send> {
    const STARTS: [&[u8]; 2] = [b"-- Table structure for table `", b"-- Dumping data for table `"];
    let (mut is_behind_dashes, mut is_code, mut at) = (false, false, 0);
    Box::new(EditedLines::new(input, move |line: &[u8], out: &mut dyn Write| {
        out.write_all(line)?;
        at += 1;
        let text = line.trim_ascii_end();
        if let Some(delimiter) = text.strip_prefix(b"DELIMITER ") {
            is_code = delimiter != b";";
        }
        let name = STARTS.iter().find_map(|start| text.strip_prefix(*start)).and_then(|rest| rest.strip_suffix(b"`"));
        if let Some(name) = name.filter(|_| is_behind_dashes && !is_code) {
            out.write_all(mark(name).as_bytes())?;
            at += 1;
            marked.lock().unwrap_or_else(PoisonError::into_inner).push((at, plain(name)));
        }
        is_behind_dashes = text == b"--";
        Ok(())
    }))
}

/// Writes the statement, a line, that prints which table comes. `name` is as it stands in back-ticks.
pub(super) fn mark(name: &[u8]) -> String {
    format!("SELECT '{MARK}{}';\n", hex(name))
}

/// Writes the statement, a line, that prints that all before it are done. `sign` is in no dump: names that a server repeats may be
/// anything.
pub(super) fn mark_done(sign: &str) -> String {
    format!("SELECT '{DONE}{sign}';\n")
}

/// Returns the sign of a line that says so.
pub(super) fn done_sign(line: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(line.strip_prefix(DONE.as_bytes())?).into_owned())
}

/// Returns how many marks were put in front of a line of what the client reads.
pub(super) fn marks_before(line: u64, marked: &[(u64, String)]) -> u64 {
    marked.iter().filter(|(at, _)| *at < line).count() as u64
}

/// Gives the lines of what a client read that it names the numbers which they have in the dump: `ERROR 1146 (42S02) at line 5: …`.
pub(super) fn with_lines_of_dump(error: FeedError, of_dump: impl Fn(u64) -> u64) -> FeedError {
    const AT: &str = " at line ";
    let told = |said: &mut String| {
        let Some((before, behind)) = said.split_once(AT).filter(|(before, _)| before.starts_with("ERROR ")) else {
            return;
        };
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        if let Ok(line) = behind[..digits].parse() {
            *said = format!("{before}{AT}{}{}", of_dump(line), &behind[digits..]);
        }
    };
    match error {
        FeedError::Client { program, status, mut heard } => {
            heard.last.iter_mut().chain(&mut heard.failures).for_each(told);
            FeedError::Client { program, status, heard }
        }
        other => other,
    }
}

/// Returns the table that such a line names.
pub fn marked_table(line: &[u8]) -> Option<String> {
    let name = unhex(std::str::from_utf8(line.strip_prefix(MARK.as_bytes())?).ok()?)?;
    Some(plain(&name))
}

/// Returns a name as it is without quotes.
fn plain(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace("``", "`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;

    #[test]
    fn tables_are_marked_and_nothing_within_a_routine() {
        let long = "x".repeat(3000);
        let routine = "DELIMITER ;;\nBEGIN\n--\n-- Dumping data for table `no`\n--\nEND ;;\nDELIMITER ;\n";
        let dump = format!(
            "--\n-- Table structure for table `a``b`\n--\nCREATE TABLE\n{routine}--\n-- Dumping data for table `ü`\n--\n\
             INSERT {long};\n-- Dumping data for table `no`\nend"
        );
        let marks = |name: &str| format!("SELECT '{MARK}{}';\n", hex(name.as_bytes()));
        let expected = dump
            .replace("`a``b`\n", &format!("`a``b`\n{}", marks("a``b")))
            .replace("table `ü`\n", &format!("table `ü`\n{}", marks("ü")));
        assert_eq!(mark(b"a``b"), marks("a``b"));
        assert_eq!(passed(&dump, |kept| with_marks(kept, MarkedLines::default())), expected);
        let marked = MarkedLines::default();
        with_marks(std::io::sink(), marked.clone()).write_all(dump.as_bytes()).expect("written");
        let lines = marked.lock().expect("unpoisoned").clone();
        let line_of = |(line, name): &(u64, String)| {
            let at = usize::try_from(*line).expect("few") - 1;
            expected.lines().nth(at) == Some(marks(&name.replace('`', "``")).trim_end())
        };
        assert!(lines.len() == 2 && lines.iter().all(line_of), "{lines:?}");
        let (first, second) = (lines[0].0, lines[1].0);
        assert_eq!([first, first + 1, second, second + 1].map(|line| marks_before(line, &lines)), [0, 1, 1, 2]);
        let printed = mark_done("5e");
        assert_eq!(done_sign(printed.split('\'').nth(1).expect("quoted").as_bytes()).as_deref(), Some("5e"));
        assert_eq!(done_sign(b"coffre has done this"), None);
        assert_eq!(marked_table(format!("{MARK}{}", hex(b"a``b")).as_bytes()).as_deref(), Some("a`b"));
        assert_eq!(marked_table(b"coffre restores nothing"), None);
    }
}
