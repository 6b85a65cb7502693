//! Changes to single lines of a dump of SQL on its way into a client.
//!
//! Dumps are cut where lines end, and none of the lines that are to be changed is long.

use std::io::{self, Write};

use crate::model::id::{hex, unhex};

/// Longer lines pass as they are.
const LINE_BYTES: usize = 1024;

/// Passes a dump on, each short line through `edit`: it is given the line with its end, and writes what goes on. For a long
/// line it is given nothing.
pub(super) struct EditedLines<W: Write, E: FnMut(&[u8], &mut dyn Write) -> io::Result<()>> {
    inner: W,
    edit: E,
    held: Vec<u8>,
    /// The line that is passing is a long one.
    is_long: bool,
}

impl<W: Write, E: FnMut(&[u8], &mut dyn Write) -> io::Result<()>> EditedLines<W, E> {
    pub(super) fn new(inner: W, edit: E) -> Self {
        Self { inner, edit, held: Vec::new(), is_long: false }
    }

    fn pass_held(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

impl<W: Write, E: FnMut(&[u8], &mut dyn Write) -> io::Result<()>> Write for EditedLines<W, E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            if self.is_long || self.held.len() + line.len() > LINE_BYTES {
                if !self.is_long {
                    (self.edit)(&[], &mut self.inner)?;
                }
                self.pass_held()?;
                self.inner.write_all(line)?;
                self.is_long = end.is_none();
            } else if end.is_none() {
                self.held.extend_from_slice(line);
            } else if self.held.is_empty() {
                (self.edit)(line, &mut self.inner)?;
            } else {
                self.held.extend_from_slice(line);
                let whole = std::mem::take(&mut self.held);
                (self.edit)(&whole, &mut self.inner)?;
            }
            rest = after;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A line that is not whole waits for its end.
        self.inner.flush()
    }
}

impl<W: Write, E: FnMut(&[u8], &mut dyn Write) -> io::Result<()>> Drop for EditedLines<W, E> {
    fn drop(&mut self) {
        // Mostly there is nothing: a dump ends with a whole line. Whoever reads it says what is missing.
        let _ = self.pass_held();
    }
}

/// Begins what the client prints before the statements about a table.
const MARK: &str = "coffre restores table ";

/// Lets the client of MariaDB or MySQL print which table comes, so that what it says next is about that one.
///
/// A comment with the name stands before a table's structure and before its rows, behind a line of two dashes. Routines,
/// which may have any lines, stand where another delimiter counts.
pub(super) fn with_marks(input: impl Write + Send + 'static) -> Box<dyn Write + Send> {
    const STARTS: [&[u8]; 2] = [b"-- Table structure for table `", b"-- Dumping data for table `"];
    let (mut is_behind_dashes, mut is_code) = (false, false);
    Box::new(EditedLines::new(input, move |line: &[u8], out: &mut dyn Write| {
        out.write_all(line)?;
        let text = line.trim_ascii_end();
        if let Some(delimiter) = text.strip_prefix(b"DELIMITER ") {
            is_code = delimiter != b";";
        }
        let name = STARTS.iter().find_map(|start| text.strip_prefix(*start)).and_then(|rest| rest.strip_suffix(b"`"));
        if let Some(name) = name.filter(|_| is_behind_dashes && !is_code) {
            writeln!(out, "SELECT '{MARK}{}';", hex(name))?;
        }
        is_behind_dashes = text == b"--";
        Ok(())
    }))
}

/// Returns the table that such a line names.
pub(super) fn marked_table(line: &[u8]) -> Option<String> {
    let name = unhex(std::str::from_utf8(line.strip_prefix(MARK.as_bytes())?).ok()?)?;
    Some(String::from_utf8_lossy(&name).replace("``", "`"))
}

/// Leaves out the statement that makes the role `name`, quoted as SQL wants it: it is there, for it is connected.
pub(super) fn without_role(input: impl Write + Send + 'static, name: &str) -> Box<dyn Write + Send> {
    let statement = format!("CREATE ROLE {name};\n").into_bytes();
    Box::new(EditedLines::new(input, move |line: &[u8], out: &mut dyn Write| match line == statement {
        true => Ok(()),
        false => out.write_all(line),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Passes a text through in pieces of every size; all must give the same.
    fn passed(text: &str, adapt: impl Fn(Kept) -> Box<dyn Write + Send>) -> String {
        let all: Vec<String> = [1, 2, 7, 100, text.len()]
            .into_iter()
            .map(|piece| {
                let kept = Kept::default();
                let mut writer = adapt(kept.clone());
                text.as_bytes().chunks(piece).for_each(|part| writer.write_all(part).expect("written"));
                drop(writer);
                let bytes = kept.0.lock().expect("unpoisoned").clone();
                String::from_utf8(bytes).expect("UTF-8")
            })
            .collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        all[0].clone()
    }

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
        assert_eq!(passed(&dump, with_marks), expected);
        assert_eq!(marked_table(format!("{MARK}{}", hex(b"a``b")).as_bytes()).as_deref(), Some("a`b"));
        assert_eq!(marked_table(b"coffre restores nothing"), None);
    }

    #[test]
    fn only_the_role_that_connects_is_left_out() {
        let globals =
            "CREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE postgres2;\nCREATE ROLE a";
        let expected = "ALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE postgres2;\nCREATE ROLE a";
        assert_eq!(passed(globals, |kept| without_role(kept, "postgres")), expected);
    }
}
