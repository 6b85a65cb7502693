//! Rows as PostgreSQL's `COPY` writes them: each a line, whatever is in it. What ends them begins with a backslash and a point, which no
//! row does.

use crate::engine::tally::RowTally;
use crate::model::entry::StreamDetail;
use crate::process::readable;
use crate::source::SourceError;
use crate::source::check::Check;

/// How digests are made: of each row as `COPY` writes it, under the settings of `pg_dump` and in UTC.
pub(super) const SCHEME: &str = "postgres 1";
/// What a line is that ends rows, and how others begin that are none.
pub(super) const END: &[u8] = b"\\.";
/// Longer lines of a dump of SQL are no statement that begins rows.
const STATEMENT_BYTES: usize = 1 << 20;

/// Follows rows to their end.
#[derive(Debug, Default)]
pub(super) struct CopiedRows {
    /// The beginning of the line that is passing.
    head: [u8; 2],
    /// How much of it has passed.
    length: usize,
    pub has_ended: bool,
}

impl CopiedRows {
    /// Takes more, and returns what comes behind the end.
    pub fn pass<'a>(&mut self, mut bytes: &'a [u8], tally: &mut RowTally) -> &'a [u8] {
        while !self.has_ended && !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            if let Some(room) = self.head.get_mut(self.length..) {
                room.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
            }
            self.length += line.len();
            let Some(end) = end else {
                tally.more(line);
                return &[];
            };
            if self.length == END.len() && self.head == END {
                tally.drop_row();
                self.has_ended = true;
            } else {
                tally.end_row(line);
            }
            self.length = 0;
            bytes = &bytes[end + 1..];
        }
        bytes
    }
}

/// Writes the name of a table as it is kept; none of one that is not known in UTF-8.
pub(super) fn table_name(schema: &[u8], table: &[u8], is_utf8: bool) -> Option<String> {
    let text = |name| std::str::from_utf8(name).ok().filter(|name: &&str| is_utf8 || name.is_ascii());
    Some(format!("{}.{}", quoted(text(schema)?), quoted(text(table)?)))
}

/// Quotes a name where that is needed to read it again.
fn quoted(name: &str) -> String {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_plain =
        name.bytes().next().is_some_and(is_letter) && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Reads `COPY app.orders (id, "My, column") FROM stdin;`: the names of the table, and those of its columns.
pub(super) fn copy_statement(text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let (table, rest) = names(text.strip_prefix("COPY ")?, '.')?;
    let rest = rest.trim_start();
    let (columns, rest) = match rest.strip_prefix('(') {
        None => (Vec::new(), rest),
        Some(list) => {
            let (columns, rest) = names(list, ',')?;
            (columns, rest.strip_prefix(')')?.trim_start())
        }
    };
    rest.starts_with("FROM stdin").then_some((table, columns))
}

/// Reads names to the first that is not followed by a separator, and returns what comes behind it.
fn names(text: &str, separator: char) -> Option<(Vec<String>, &str)> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        let (name, behind) = name(rest.trim_start())?;
        found.push(name);
        match behind.strip_prefix(separator) {
            Some(more) => rest = more,
            None => return Some((found, behind)),
        }
    }
}

fn name(text: &str) -> Option<(String, &str)> {
    let Some(text) = text.strip_prefix('"') else {
        let end = text.find([' ', '.', ',', '(', ')']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut at = 0;
    loop {
        at += text[at..].find('"')?;
        if !text[at + 1..].starts_with('"') {
            return Some((text[..at].replace("\"\"", "\""), &text[at + 1..]));
        }
        at += 2;
    }
}

/// Counts the rows of a dump of SQL.
///
/// A comment stands before the rows of each table. A line that looks like the statement which begins rows, and stands in the body of a
/// function, has none before it.
pub struct SqlRows {
    tally: RowTally,
    /// Names are in UTF-8.
    is_utf8: bool,
    /// The line that is passing, unless it is too long.
    line: Vec<u8>,
    is_long: bool,
    /// The comment has passed, and nothing but empty lines and dashes behind it.
    is_announced: bool,
    /// The rows are put into the table above the partition that they are of, and may come into another.
    goes_above: bool,
    rows: Option<CopiedRows>,
}

impl SqlRows {
    /// Begins to count the rows of a dump from a database of this encoding, and digests them where that is asked for.
    pub fn new(is_digested: bool, encoding: &str) -> Self {
        let tally = RowTally::new(is_digested);
        let is_utf8 = encoding == "UTF8";
        let (line, is_long, is_announced, goes_above) = (Vec::new(), false, false, false);
        Self { tally, is_utf8, line, is_long, is_announced, goes_above, rows: None }
    }

    fn end_line(&mut self) {
        const ANNOUNCING: &[u8] = b"-- Data for Name: ";
        const OF_TABLE: &[u8] = b"; Type: TABLE DATA; ";
        const ABOVE: &[u8] = b"-- load via partition root ";
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_long) {
            self.is_announced = false;
        } else if line.starts_with(ANNOUNCING) {
            self.is_announced = memchr::memmem::find(&line, OF_TABLE).is_some();
            self.goes_above = false;
        } else if self.is_announced && line.starts_with(ABOVE) {
            self.goes_above = true;
        } else if self.is_announced && line.starts_with(b"COPY ") {
            if memchr::memchr_iter(b'"', &line).count() % 2 == 1 {
                // A name goes over the end of the line.
                line.push(b'\n');
                self.line = line;
                return;
            }
            self.is_announced = false;
            let text = String::from_utf8_lossy(&line);
            match copy_statement(&text) {
                Some((table, columns)) if table.len() == 2 => {
                    let name = table_name(table[0].as_bytes(), table[1].as_bytes(), self.is_utf8);
                    self.tally.enter(name.filter(|_| !self.goes_above));
                    self.tally.columns(&columns);
                    self.rows = Some(CopiedRows::default());
                }
                _ => self.tally.doubt(format!("a statement is not understood: {}", readable(&line))),
            }
        } else {
            self.is_announced &= line.is_empty() || line == b"--";
        }
    }
}

impl Check for SqlRows {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(rows) = &mut self.rows {
                rest = rows.pass(rest, &mut self.tally);
                if rows.has_ended {
                    self.rows = None;
                }
                continue;
            }
            let end = memchr::memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            self.is_long |= self.line.len() + line.len() > STATEMENT_BYTES;
            if self.is_long {
                self.line.clear()
            } else {
                self.line.extend_from_slice(line)
            }
            rest = end.map_or(&[][..], |end| &rest[end + 1..]);
            if end.is_some() {
                self.end_line();
            }
        }
    }

    fn finish(mut self: Box<Self>, _: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        if self.rows.is_some() {
            self.tally.doubt("the dump ends within rows");
        }
        self.tally.keep(SCHEME, &mut detail.facts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tally::{CountedTable, CountedTables, ROWS_BY_TABLE};

    #[test]
    fn statements_that_begin_rows_are_read_whatever_the_names_are() {
        let read = |text: &str| copy_statement(text).map(|(table, columns)| (table.join("|"), columns.join("|")));
        let both = |table: &str, columns: &str| Some((table.to_owned(), columns.to_owned()));
        assert_eq!(
            read("COPY app.orders (id, \"My, (x) \"\"col\", c) FROM stdin;\n"),
            both("app|orders", "id|My, (x) \"col|c")
        );
        assert_eq!(read("COPY \"a.b\".\"c\"\"d (e)\" (x) FROM stdin;"), both("a.b|c\"d (e)", "x"));
        assert_eq!(read("COPY public.nocols  FROM stdin;"), both("public|nocols", ""));
        for other in
            ["COPY a.b (c) TO stdout;", "COPY a.b (c FROM stdin;", "COPY a.\"b FROM stdin;", "COPY ", "INSERT INTO a"]
        {
            assert_eq!(read(other), None, "{other}");
        }
        let name = |schema: &str, table: &str, is_utf8| table_name(schema.as_bytes(), table.as_bytes(), is_utf8);
        assert_eq!(name("app", "orders_1", true).as_deref(), Some("app.orders_1"));
        assert_eq!(name("My app", "or\"ders", true).as_deref(), Some("\"My app\".\"or\"\"ders\""));
        assert_eq!(name("public", "grün", true).as_deref(), Some("public.\"grün\""));
        assert_eq!(name("public", "grün", false), None);
        assert_eq!(table_name(b"a", b"\xfc", true), None);
    }

    fn counted(dump: &str, is_digested: bool) -> Option<Vec<CountedTable>> {
        let all = [1, 2, 7, 100, dump.len()].map(|piece| {
            let mut rows = Box::new(SqlRows::new(is_digested, "UTF8"));
            dump.as_bytes().chunks(piece).for_each(|bytes| rows.feed(bytes));
            let mut detail = StreamDetail::default();
            rows.finish("pg_dump", &mut detail).expect("it judges nothing");
            detail.facts.get(ROWS_BY_TABLE).map(|CountedTables(tables)| tables)
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        all[0].clone()
    }

    #[test]
    fn rows_of_a_dump_of_sql_are_counted_and_no_lines_of_anything_else() {
        let data = |name: &str, copy: &str, rows: &str| {
            format!(
                "--\n-- Data for Name: {name}; Type: TABLE DATA; Schema: app; Owner: joe\n--\n\nCOPY {copy} FROM stdin;\n{rows}\\.\n\n\n"
            )
        };
        let body = "CREATE FUNCTION f() AS $$\nCOPY app.no (a) FROM stdin;\n1\n$$;\n";
        let dump = [
            body,
            &data("b", "app.b (x, y)", "1\t\\\\.\n\\\\.x\t-- Data for Name: c; Type: TABLE DATA; \n\n"),
            "-- Data for Name: f; Type: FUNCTION; Schema: app\n\nCOPY app.no (a) FROM stdin;\n",
            &data("a", "app.a (x)", ""),
            &data("two lines", "app.\"two\nlines\" (\"\"\"\nFROM stdin;\n\")", "1\n"),
            &data("part", "app.above (x)", "1\n2\n").replace("COPY", "-- load via partition root app.above\n\nCOPY"),
            "-- end\n",
        ];
        let tables = counted(&dump.concat(), false).expect("counted");
        let found: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
        assert_eq!(found, [("app.\"two\nlines\"", 1), ("app.a", 0), ("app.b", 3)]);
        // The order of rows makes no difference, that of columns does.
        let digest = |copy: &str, rows: &str| {
            counted(&data("t", copy, rows), true).expect("counted")[0].digest.expect("asked for")
        };
        assert_eq!(digest("app.t (x, y)", "1\t2\n3\t4\n"), digest("app.t (x, \"y\")", "3\t4\n1\t2\n"));
        assert_ne!(digest("app.t (x, y)", "1\t2\n3\t4\n").sum, digest("app.t (x, y)", "1\t4\n3\t2\n").sum);
        assert_ne!(digest("app.t (x, y)", "").columns, digest("app.t (y, x)", "").columns);
        for cut in ["COPY app.t (x", "COPY t (x) FROM stdin;\n"] {
            let dump = format!("-- Data for Name: t; Type: TABLE DATA; Schema: app\n\n{cut}\n1\n");
            assert_eq!(counted(&dump, false), None, "{cut}");
        }
        assert_eq!(counted(&data("t", "app.t (x)", "1\n").replace("\\.", ""), false), None);
    }
}
