//! Rows of a dump of `mariadb-dump` or `mysqldump`, counted while it passes.
//!
//! A statement with rows begins a line between statements; within it a row is what stands in brackets behind `VALUES`, and a text in it
//! has a backslash before each of its quotes. Everything else of a dump may have lines that look like such a statement.

use crate::engine::mysql::statements::{StatementBounds, quoted_name};
use crate::engine::tally::RowTally;
use crate::model::entry::StreamDetail;
use crate::source::SourceError;
use crate::source::check::Check;

/// How digests are made: of each row as the dump programs write it, without its brackets.
pub(super) const SCHEME: &str = "mysql 1";
/// How a comment begins that stands before the rows of a table, also where it has none.
const DATA: &[u8] = b"-- Dumping data for table ";
const ROWS: &[u8] = b"INSERT INTO ";
/// As much of a line as tells what it is.
const HEAD_BYTES: usize = 2048;
/// As much of the names of columns as is looked at: a table has 4096 of 64 characters at most.
const COLUMNS_BYTES: usize = 1 << 20;

/// Counts the rows of a dump.
pub(super) struct InsertedRows {
    tally: RowTally,
    statements: StatementBounds,
    /// The beginning of the line that is passing, until it is known what it is.
    held: Vec<u8>,
    is_decided: bool,
    is_behind_dashes: bool,
    /// The statement with rows that is passing.
    values: Option<PassingValues>,
}

impl InsertedRows {
    /// Begins to count, and to digest where that is asked for.
    pub(super) fn new(is_digested: bool) -> Self {
        Self {
            tally: RowTally::new(is_digested),
            statements: StatementBounds::default(),
            held: Vec::new(),
            is_decided: false,
            is_behind_dashes: false,
            values: None,
        }
    }

    /// Returns what was counted, once all has passed.
    pub(super) fn into_tally(mut self) -> RowTally {
        if self.values.is_some() || self.held.starts_with(ROWS) {
            self.tally.doubt("the dump ends within rows");
        }
        self.tally
    }

    /// Tells whether what is held is a statement with rows whose table has a name of several lines.
    fn is_within_name(&self) -> bool {
        let begins = |name: &[u8]| name.first() == Some(&b'`') && quoted_name(name).is_none();
        self.statements.are_between() && self.statements.are_plain() && self.held.strip_prefix(ROWS).is_some_and(begins)
    }

    /// Takes the beginning of a line.
    fn decide(&mut self, head: &[u8]) {
        let line = head.trim_ascii_end();
        if self.statements.are_between() {
            let is_behind_dashes = std::mem::replace(&mut self.is_behind_dashes, line == b"--");
            if self.statements.begin(line) {
                return;
            }
            if self.statements.are_plain() {
                if let Some((table, rest)) = head.strip_prefix(ROWS).and_then(quoted_name) {
                    self.tally.enter(Some(table));
                    self.values = Some(PassingValues::default());
                    return self.pass_values(rest);
                }
                let table = line.strip_prefix(DATA).filter(|_| is_behind_dashes).and_then(quoted_name);
                if let Some((table, _)) = table.filter(|(_, rest)| rest.is_empty()) {
                    self.tally.enter(Some(table));
                }
            }
        }
        self.statements.pass(head);
    }

    /// Passes what is in a statement with rows, and what comes behind it in the same line.
    fn pass_values(&mut self, bytes: &[u8]) {
        let Some(values) = &mut self.values else { return };
        if let Some(rest) = values.pass(bytes, &mut self.tally) {
            self.values = None;
            self.statements.pass(rest);
        }
    }
}

impl Check for InsertedRows {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(values) = &mut self.values {
                let Some(behind) = values.pass(rest, &mut self.tally) else { return };
                (self.values, self.is_decided, rest) = (None, true, behind);
                continue;
            }
            let end = memchr::memchr(b'\n', rest);
            let (line, behind) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
            rest = behind;
            if self.is_decided {
                self.statements.pass(line);
            } else {
                self.held.extend_from_slice(line);
                self.is_decided = self.held.len() >= HEAD_BYTES || end.is_some() && !self.is_within_name();
                if self.is_decided {
                    let held = std::mem::take(&mut self.held);
                    self.decide(&held);
                }
            }
            if end.is_some() && self.held.is_empty() {
                self.is_decided = false;
            }
        }
    }

    fn finish(self: Box<Self>, _: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        self.into_tally().keep(SCHEME, &mut detail.facts);
        Ok(())
    }
}

/// A statement with rows, behind the name of the table.
#[derive(Debug, Default)]
struct PassingValues {
    /// `VALUES` has passed; what stands in brackets before it is names of columns.
    are_rows: bool,
    depth: u32,
    quote: Option<u8>,
    is_escaped: bool,
    columns: Vec<u8>,
}

impl PassingValues {
    /// Takes more, and returns what comes behind the end of the statement.
    fn pass<'a>(&mut self, bytes: &'a [u8], tally: &mut RowTally) -> Option<&'a [u8]> {
        // Where what is in brackets begins.
        let (mut at, mut from) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.is_escaped {
                self.is_escaped = false;
                at += 1;
            } else if let Some(quote) = self.quote {
                let found =
                    if quote == b'`' { memchr::memchr(quote, rest) } else { memchr::memchr2(quote, b'\\', rest) };
                let Some(found) = found else { break };
                at += found + 1;
                match rest[found] == quote {
                    true => self.quote = None,
                    false => self.is_escaped = true,
                }
            } else if self.depth > 0 && self.are_rows {
                let Some(found) = memchr::memchr3(b'\'', b'(', b')', rest) else { break };
                self.bracket(rest[found]);
                if self.depth == 0 {
                    tally.end_row(&bytes[from..at + found]);
                }
                at += found + 1;
            } else {
                let was_within = self.depth > 0;
                match rest[0] {
                    b';' if !was_within => return Some(&rest[1..]),
                    b'V' | b'v' if !was_within => {
                        self.are_rows = true;
                        if !self.columns.is_empty() {
                            tally.columns(&[std::mem::take(&mut self.columns)]);
                        }
                    }
                    b'`' => self.quote = Some(b'`'),
                    other => self.bracket(other),
                }
                at += 1;
                match (was_within, self.depth > 0) {
                    (false, true) => from = at,
                    (true, false) => self.keep_columns(&bytes[from..at]),
                    _ => {}
                }
            }
        }
        if self.depth > 0 {
            match self.are_rows {
                true => tally.more(&bytes[from..]),
                false => self.keep_columns(&bytes[from..]),
            }
        }
        None
    }

    fn keep_columns(&mut self, bytes: &[u8]) {
        let room = COLUMNS_BYTES.saturating_sub(self.columns.len()).min(bytes.len());
        self.columns.extend_from_slice(&bytes[..room]);
    }

    fn bracket(&mut self, byte: u8) {
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            b'\'' => self.quote = Some(byte),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tally::CountedTable;

    fn counted(dump: &str, is_digested: bool) -> Result<Vec<CountedTable>, String> {
        let all = [1, 2, 7, 100, dump.len()].map(|piece| {
            let mut rows = InsertedRows::new(is_digested);
            dump.as_bytes().chunks(piece).for_each(|bytes| rows.feed(bytes));
            rows.into_tally().finish()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all[0].clone()
    }

    fn rows(dump: &str) -> Vec<(String, u64)> {
        counted(dump, false).expect("no doubt").into_iter().map(|table| (table.name, table.rows)).collect()
    }

    #[test]
    fn rows_are_counted_whatever_is_in_them_and_nothing_else_is() {
        let long = "x".repeat(5000);
        let dump = format!(
            "-- MariaDB dump\n--\n-- Table structure for table `a``b`\n--\nCREATE TABLE `a``b` (\n  `x` text DEFAULT ';'\n);\n\n\
             --\n-- Dumping data for table `a``b`\n--\n\n/*!40000 ALTER TABLE `a``b` DISABLE KEYS */;\n\
             INSERT INTO `a``b` VALUES\n(1,'it''s (1),(2); \\'),(3);'),\n(2,'INSERT INTO `c` VALUES (1);\\\\'),\n(3,0x28);\n\
             INSERT INTO `a``b` VALUES (4,'{long}\\n'),(5,NULL),(-6.5e+10,_binary ')');\n\
             --\n-- Dumping data for table `empty`\n--\n\n\
             --\n-- Dumping data for table `two\n-- lines`\n--\n\nINSERT INTO `two\n\nlines``;` VALUES\n(1),\n(2);\n\
             --\n-- Dumping data for table `g`\n--\nINSERT INTO `g` (`V);(`, `b``(`) VALUES (1,2),(3,4);\n\
             DELIMITER ;;\nCREATE TRIGGER t BEGIN\n--\n-- Dumping data for table `no`\n--\nINSERT INTO `no` VALUES (1);\nEND ;;\nDELIMITER ;\n\
             CREATE VIEW v AS SELECT '\nINSERT INTO `no` VALUES (1);\n';\n-- Dump completed\n"
        );
        let expected =
            [("a`b", 6), ("empty", 0), ("g", 2), ("two\n\nlines`;", 2)].map(|(name, rows)| (name.to_owned(), rows));
        assert_eq!(rows(&dump), expected);
        for cut in ["INSERT INTO `a` VALUES (1,2)", "INSERT INTO `a` VALUES (1,'\n"] {
            assert!(counted(cut, false).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_digest_is_of_values_and_not_of_how_they_are_put_into_statements() {
        let digest = |statements: &str| counted(statements, true).expect("no doubt")[0].digest.expect("asked for");
        let whole = digest("INSERT INTO `t` VALUES\n(1,'a'),\n(2,'b)');\n");
        assert_eq!(digest("INSERT INTO `t` VALUES (2,'b)');\nINSERT INTO `t` VALUES (1,'a');\n"), whole);
        assert_ne!(digest("INSERT INTO `t` VALUES (1,'b)'),(2,'a');\n").sum, whole.sum);
        let named = digest("INSERT INTO `t` (`x`, `y`) VALUES (1,'a'),(2,'b)');\n");
        assert_eq!((named.sum, named.columns != whole.columns), (whole.sum, true));
        assert_ne!(digest("INSERT INTO `t` (`y`, `x`) VALUES (1,'a'),(2,'b)');\n").columns, named.columns);
    }
}
