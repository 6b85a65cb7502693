//! Changes to single lines of a dump of SQL on its way into a client.
//!
//! Dumps are cut where lines end, and none of the lines that are to be changed is long.

use std::io::{self, Write};

/// Longer lines pass as they are.
const LINE_BYTES: usize = 1024;

/// Passes a dump on, each short line through `edit`: it is given the line with its end, and writes what goes on. For a long
/// line it is given nothing.
pub(crate) struct EditedLines<W: Write, E: FnMut(&[u8], &mut dyn Write) -> io::Result<()>> {
    inner: W,
    edit: E,
    held: Vec<u8>,
    /// The line that is passing is a long one.
    is_long: bool,
}

impl<W: Write, E: FnMut(&[u8], &mut dyn Write) -> io::Result<()>> EditedLines<W, E> {
    pub(crate) fn new(inner: W, edit: E) -> Self {
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

/// Passes a dump on by its lines, of which the beginning decides what becomes of them, however their bytes come.
pub(crate) struct DecidedLines<E: LineEdits> {
    edits: E,
    /// The beginning of the line that is passing, until it is known what it is.
    held: Vec<u8>,
    is_decided: bool,
    /// The last byte of the line.
    last: u8,
    /// As much of a line as tells what it is.
    head_bytes: usize,
}

/// What becomes of lines.
pub(crate) trait LineEdits {
    /// Decides it of the line that begins so.
    fn decide(&mut self, head: &[u8]) -> io::Result<()>;

    /// Takes more of the line.
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The line has ended, and a statement with it.
    fn end_statement(&mut self);

    /// Has what was written go on.
    fn flush(&mut self) -> io::Result<()>;

    /// Takes what came of a line of which nobody knows what it is, because no more comes.
    fn cut_off(&mut self, _held: &[u8]) {}
}

impl<E: LineEdits> DecidedLines<E> {
    /// Decides by the first `head_bytes` of a line, or by all of a shorter one.
    pub(crate) fn new(edits: E, head_bytes: usize) -> Self {
        Self { edits, held: Vec::new(), is_decided: false, last: 0, head_bytes }
    }
}

impl<E: LineEdits> Write for DecidedLines<E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            let (line, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            rest = after;
            self.last = line.iter().rev().find(|byte| **byte != b'\n').copied().unwrap_or(self.last);
            if self.is_decided {
                self.edits.pass(line)?;
            } else {
                self.held.extend_from_slice(line);
                self.is_decided = end.is_some() || self.held.len() >= self.head_bytes;
                if self.is_decided {
                    self.edits.decide(&std::mem::take(&mut self.held))?;
                }
            }
            if end.is_some() {
                if self.last == b';' {
                    self.edits.end_statement();
                }
                (self.is_decided, self.last) = (false, 0);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A line that is not known yet waits for more of it.
        self.edits.flush()
    }
}

impl<E: LineEdits> Drop for DecidedLines<E> {
    fn drop(&mut self) {
        self.edits.cut_off(&self.held);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Passes a text through in pieces of every size; all must give the same.
    pub fn passed(text: &str, adapt: impl Fn(Kept) -> Box<dyn Write + Send>) -> String {
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
    fn short_lines_are_edited_and_long_ones_pass() {
        let long = "x".repeat(3000);
        let text = format!("a\n{long}\nb\nno end");
        let numbered = |kept: Kept| -> Box<dyn Write + Send> {
            Box::new(EditedLines::new(kept, |line: &[u8], out: &mut dyn Write| match line {
                [] => Ok(()),
                line => out.write_all(b"- ").and_then(|()| out.write_all(line)),
            }))
        };
        assert_eq!(passed(&text, numbered), format!("- a\n{long}\n- b\nno end"));
    }
}
