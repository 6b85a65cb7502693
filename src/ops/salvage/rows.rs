//! Lines without those that something is missing of: what is left out of a dump is whole rows, so that what stays can be read as one.
//!
//! Of a line that is hit nothing is written: half of it, joined to half of another, would be a row that never was. So the line that
//! is on its way is held back until it is whole. The one behind a gap is left out up to its end, unless it is known that lines are lost.

use std::io::{self, Write};

use memchr::{memchr, memchr_iter, memrchr};

use crate::model::path::display_bytes;

/// The longest line that is held back until it is whole, in bytes.
const LINE_MAX: usize = 16 << 20;
/// Bytes of a row that it is named by, at most.
const NAME_MAX: usize = 40;
/// What a custom archive of PostgreSQL that is not compressed has before each row: a zero, and the row's length.
const ARCHIVE_HEAD: usize = 5;

/// Where lines are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowsAt {
    /// Lines that were written before.
    pub(super) lines: u64,
    /// How the last one of them begins.
    pub(super) after: Option<String>,
    /// The table that rows are of there, where the dump is SQL.
    pub(super) table: Option<String>,
}

/// Writes lines as soon as they are whole.
pub(super) struct RowWriter {
    output: Box<dyn Write + Send>,
    /// The line that is on its way.
    held: Vec<u8>,
    held_max: usize,
    /// The beginning of the line that is on its way was written, because it is too long to be held.
    is_begun: bool,
    /// The rest of a line is left out.
    skips: bool,
    lines: u64,
    last: Vec<u8>,
    table: Option<String>,
    /// Since a gap no line was written.
    is_behind_gap: bool,
    /// How the first line begins that was written since a gap, until somebody takes it.
    first: Option<String>,
    /// Bytes that were written.
    pub(super) written: u64,
    /// Bytes that were there and are left out, because their lines are not whole.
    pub(super) left_out: u64,
}

impl RowWriter {
    pub(super) fn new(output: Box<dyn Write + Send>) -> Self {
        Self {
            output,
            held: Vec::new(),
            held_max: LINE_MAX,
            is_begun: false,
            skips: false,
            lines: 0,
            last: Vec::new(),
            table: None,
            is_behind_gap: false,
            first: None,
            written: 0,
            left_out: 0,
        }
    }

    /// Takes what comes next.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.skips || self.is_begun || !self.held.is_empty() {
            let Some(end) = memchr(b'\n', bytes) else { return self.hold(bytes) };
            let (rest_of_line, next) = bytes.split_at(end + 1);
            bytes = next;
            self.end_line(rest_of_line)?;
        }
        let end = memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let (whole, begun) = bytes.split_at(end);
        let mut start = 0;
        for end in memchr_iter(b'\n', whole) {
            self.note(&whole[start..end]);
            start = end + 1;
        }
        self.put(whole)?;
        self.hold(begun)
    }

    /// Takes the rest of a line of which the beginning came before.
    fn end_line(&mut self, rest: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.skips) {
            self.left_out += rest.len() as u64;
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.held);
        line.extend_from_slice(rest);
        match std::mem::take(&mut self.is_begun) {
            true => self.lines += 1,
            false => self.note(&line[..line.len() - 1]),
        }
        self.put(&line)
    }

    fn hold(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.skips {
            self.left_out += bytes.len() as u64;
            return Ok(());
        }
        self.held.extend_from_slice(bytes);
        if self.held.len() > self.held_max || self.is_begun {
            self.is_begun = true;
            let held = std::mem::take(&mut self.held);
            self.put(&held)?;
        }
        Ok(())
    }

    /// Notes a whole line, without its end.
    fn note(&mut self, line: &[u8]) {
        self.lines += 1;
        self.last.clear();
        self.last.extend_from_slice(&line[..line.len().min(ARCHIVE_HEAD + NAME_MAX)]);
        if std::mem::take(&mut self.is_behind_gap) {
            self.first = name_of(&self.last);
        }
        match line.first() {
            Some(b'C' | b'I') => self.table = table_of(line).or(self.table.take()),
            Some(b'\\') if line == br"\." => self.table = None,
            _ => {}
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.output.write_all(bytes)
    }

    /// Notes that something is missing here: where lines are lost and nothing of others, nothing more is left out.
    pub(super) fn gap(&mut self, is_of_lines: bool) -> io::Result<RowsAt> {
        let is_between_lines = self.held.is_empty() && !self.is_begun && !self.skips;
        self.left_out += self.held.len() as u64;
        self.held.clear();
        if std::mem::take(&mut self.is_begun) {
            // What is behind the gap is no part of this line.
            self.put(b"\n")?;
            self.lines += 1;
        }
        self.skips = !(is_of_lines && is_between_lines);
        self.is_behind_gap = true;
        let after = if self.lines > 0 { name_of(&self.last) } else { None };
        Ok(RowsAt { lines: self.lines, after, table: self.table.clone() })
    }

    /// Takes how the first line begins that was written since a gap.
    pub(super) fn take_first(&mut self) -> Option<String> {
        self.first.take()
    }

    /// Writes the last line, which need not have an end, if nothing of it is missing.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let last = std::mem::take(&mut self.held);
        self.put(&last)?;
        self.output.flush()
    }
}

/// Returns how a row begins: its first column, of which nothing is shown that a terminal would obey.
fn name_of(line: &[u8]) -> Option<String> {
    let row = if line.first() == Some(&0) { line.get(ARCHIVE_HEAD..)? } else { line };
    let end = row.iter().position(|byte| matches!(byte, b'\t' | b',')).unwrap_or(row.len());
    let name = &row[..end.min(NAME_MAX)];
    (!name.is_empty()).then(|| display_bytes(name).to_string())
}

/// Returns the table that rows go to behind or in a line of SQL.
fn table_of(line: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(b"COPY ").or_else(|| line.strip_prefix(b"INSERT INTO "))?;
    let end = rest.iter().position(|byte| matches!(byte, b' ' | b'(')).unwrap_or(rest.len());
    let name = &rest[..end.min(2 * NAME_MAX)];
    (!name.is_empty()).then(|| display_bytes(name).to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct KeptOutput(Arc<Mutex<Vec<u8>>>);

    impl Write for KeptOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic while held").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What comes: bytes, or a gap and whether it is of lines.
    enum Coming<'a> {
        There(&'a str),
        Gap(bool),
    }
    use Coming::{Gap, There};

    fn written(coming: &[Coming<'_>], held_max: usize) -> (String, u64, Vec<(RowsAt, Option<String>)>) {
        let out = KeptOutput::default();
        let mut writer = RowWriter { held_max, ..RowWriter::new(Box::new(out.clone())) };
        let mut gaps: Vec<(RowsAt, Option<String>)> = Vec::new();
        for part in coming {
            match part {
                There(text) => writer.write(text.as_bytes()).expect("written"),
                Gap(is_of_lines) => gaps.push((writer.gap(*is_of_lines).expect("written"), None)),
            }
            if let Some(first) = writer.take_first() {
                gaps.last_mut().expect("behind one").1 = Some(first);
            }
        }
        writer.finish().expect("written");
        let text = String::from_utf8(out.0.lock().expect("no panic while held").clone()).expect("text");
        assert_eq!(writer.written, text.len() as u64);
        (text, writer.left_out, gaps)
    }

    #[test]
    fn lines_that_are_hit_are_left_out_and_no_two_are_joined() {
        let cases: &[(&[Coming<'_>], &str, u64)] = &[
            (&[There("a\nb"), There("c\nd")], "a\nbc\nd", 0),
            (&[There("a\nb"), Gap(false), There("c\nd\n")], "a\nd\n", 3),
            (&[There("a\n"), Gap(false), There("c\nd\n")], "a\nd\n", 2),
            (&[There("a\n"), Gap(true), There("c\nd\n")], "a\nc\nd\n", 0),
            (&[There("a\nb"), Gap(true), There("c\nd\n")], "a\nd\n", 3),
            (&[There("a\nb"), Gap(false), There("c"), There("c"), Gap(true), There("e\nf\n")], "a\nf\n", 5),
            (&[Gap(false), There("a\nb\n")], "b\n", 2),
            (&[There("a\nb"), Gap(false)], "a\n", 1),
            (&[There("a\nb"), Gap(false), There("no end")], "a\n", 7),
        ];
        for (at, (coming, expected, left_out)) in cases.iter().enumerate() {
            let (text, out, _) = written(coming, LINE_MAX);
            assert_eq!((text.as_str(), out), (*expected, *left_out), "{at}");
        }
    }

    #[test]
    fn a_line_too_long_to_be_held_is_ended_where_its_rest_is_missing() {
        let coming = [There("a\nlong"), There("longer"), Gap(true), There("rest\nb\n")];
        assert_eq!(written(&coming, 5).0, "a\nlonglonger\nb\n");
        let whole = [There("a\nlong"), There("longer"), There("est\nb\n")];
        let (text, left_out, _) = written(&whole, 5);
        assert_eq!((text.as_str(), left_out), ("a\nlonglongerest\nb\n", 0));
    }

    #[test]
    fn a_gap_is_named_by_the_rows_around_it_and_their_table() {
        let sql = [
            There("SET x;\nCOPY public.orders (id, at) FROM stdin;\n17\tpaid\n"),
            Gap(true),
            There("19\tfree\n\\.\n"),
            Gap(true),
            There("COPY public.seats FROM stdin;\n"),
        ];
        let (_, _, gaps) = written(&sql, LINE_MAX);
        let at = |lines, after: &str, table: Option<&str>| RowsAt {
            lines,
            after: Some(after.into()),
            table: table.map(Into::into),
        };
        assert_eq!(gaps[0], (at(3, "17", Some("public.orders")), Some("19".into())));
        assert_eq!(gaps[1], (at(5, "\\\\.", None), Some("COPY public.seats FROM stdin;".into())));
        assert_eq!(table_of(b"INSERT INTO `seats` VALUES (1,2);").as_deref(), Some("`seats`"));
        assert_eq!(name_of(b"\0\x0a\0\0\x001204\tx").as_deref(), Some("1204"), "in a custom archive");
        assert_eq!(name_of(b"\x1b[2J\trow").as_deref(), Some("\\x1b[2J"));
    }
}
