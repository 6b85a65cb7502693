//! Parts of a dump of MariaDB or MySQL on its way into the client: the tables that are wanted, how they are made or their rows.
//!
//! The dump programs write a comment before each part of a dump, behind a line of two dashes. It counts between statements only:
//! within one, a line may be anything that somebody chose. A statement with rows begins a line, and no text in it has the end of a
//! line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::lines::{DecidedLines, LineEdits};
use crate::engine::mysql::statements::{StatementBounds, quoted_name};
use crate::engine::parts::{DumpAspect, DumpParts};

/// What the comments before parts begin with, and what follows them.
const PLACES: [(&[u8], SqlPlace); 8] = [
    (b"-- Table structure for table `", SqlPlace::Made("table")),
    (b"-- Dumping data for table `", SqlPlace::Rows),
    (b"-- Sequence structure for `", SqlPlace::Made("sequence")),
    (b"-- Temporary table structure for view `", SqlPlace::Made("view")),
    (b"-- Temporary view structure for view `", SqlPlace::Made("view")),
    (b"-- Final view structure for view `", SqlPlace::FinalView),
    (b"-- Dumping events for database ", SqlPlace::Other("events")),
    (b"-- Dumping routines for database ", SqlPlace::Other("procedures and functions")),
];
/// How statements begin that remove what is there.
const DROPS: [&[u8]; 5] =
    [b"DROP TABLE IF EXISTS `", b"DROP SEQUENCE IF EXISTS `", b"/*!50001 DROP ", b"/*!50003 DROP ", b"/*!50106 DROP "];
/// How statements begin that end a transaction, in front of rows and behind them.
const COMMITS: [&[u8]; 4] = [b"/*!40000 ALTER TABLE ", b"commit;", b"COMMIT;", b"set autocommit"];
/// How what is said of the triggers of a table begins, behind its rows.
pub(super) const TRIGGERS: [&[u8]; 2] = [b"/*!50003 ", b"/*!50032 "];
const ROWS: &[u8] = b"INSERT INTO ";
/// How statements begin that change the character set of the database for a trigger or routine, and back behind it.
const DATABASE: &[u8] = b"ALTER DATABASE ";
/// How the line of a column begins where a table is made.
const COLUMN: &[u8] = b"  `";
const END: &[u8] = b"-- Dump completed";
/// As much of a line as tells what it is: a name has 64 characters, each of four bytes or two back-ticks, and all modes of SQL
/// together take more.
const HEAD_BYTES: usize = 2048;

/// What a part of a dump is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SqlPlace {
    /// Settings of the session.
    Start,
    /// How something is made.
    Made(&'static str),
    /// The rows of a table, and its triggers behind them.
    Rows,
    /// How a view is made, once all that it may use is there.
    FinalView,
    /// What belongs to no table.
    Other(&'static str),
}

/// What a dump has, and which of it is wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct FoundInDump {
    /// Tables, views and sequences that are wanted.
    pub chosen: Vec<String>,
    /// Views among them.
    pub views: Vec<String>,
    /// Everything else, each with what it is.
    pub left_out: Vec<String>,
    /// All names.
    pub names: Vec<String>,
    /// The columns of tables whose rows are values without the names of columns, in their order.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Some is wanted that was made under another character set of the database, and comes without it.
    pub is_of_other_charset: bool,
}

/// Passes on of a dump what is wanted, and notes what it has.
pub(super) struct PartsOfDump<W: Write> {
    inner: W,
    parts: DumpParts,
    found: Arc<Mutex<FoundInDump>>,
    place: SqlPlace,
    /// What the place is about is wanted.
    is_wanted: bool,
    /// The columns of the table that was made last.
    columns: Vec<String>,
    /// What parts there were.
    places: BTreeSet<Vec<u8>>,
    statements: StatementBounds,
    is_behind_dashes: bool,
    /// A line of two dashes: it belongs to what follows it.
    dashes: Vec<u8>,
    /// What comes is about triggers.
    is_trigger: bool,
    /// A statement with rows is passing.
    is_rows: bool,
    /// The line that is passing is wanted.
    passes: bool,
}

/// Returns what part a comment stands before that follows a line of two dashes, and the rest of it: a name with the quote behind it.
pub(super) fn place_of(line: &[u8]) -> Option<(SqlPlace, &[u8])> {
    PLACES.iter().find_map(|(start, place)| Some((*place, line.strip_prefix(*start)?)))
}

impl<W: Write> PartsOfDump<W> {
    pub(super) fn new(inner: W, parts: DumpParts, found: Arc<Mutex<FoundInDump>>) -> DecidedLines<Self> {
        let edits = Self {
            inner,
            parts,
            found,
            place: SqlPlace::Start,
            is_wanted: true,
            columns: Vec::new(),
            places: BTreeSet::new(),
            statements: StatementBounds::default(),
            is_behind_dashes: false,
            dashes: Vec::new(),
            is_trigger: false,
            is_rows: false,
            passes: true,
        };
        DecidedLines::new(edits, HEAD_BYTES)
    }

    /// Tells whether rows alone go into tables that are there, which is one transaction.
    fn is_transaction(&self) -> bool {
        self.parts.aspect == DumpAspect::Rows
    }

    /// Decides what becomes of the statement or comment that begins so. Tells whether it is a command to the client.
    fn begin(&mut self, line: &[u8]) -> io::Result<bool> {
        let is_command = self.statements.begin(line);
        if is_command {
            self.is_trigger = true;
            self.note_others();
        } else if self.statements.are_plain() {
            self.enter(line)?;
            // Where the name goes over the end of the line, the rest is read like any other statement.
            let rows = line.strip_prefix(ROWS).and_then(quoted_name);
            self.is_rows = rows.is_some();
            if let Some((name, _)) = rows.filter(|(_, rest)| self.is_wanted && !rest.starts_with(b" (")) {
                self.found().columns.entry(name).or_insert_with(|| self.columns.clone());
            }
        }
        self.is_trigger |= TRIGGERS.iter().any(|start| line.starts_with(start)) || line.starts_with(DATABASE);
        self.passes = self.is_wanted(line);
        self.is_behind_dashes = line == b"--";
        Ok(is_command)
    }

    /// Notes a column of the table that is made.
    fn note_column(&mut self, line: &[u8]) {
        if self.place == SqlPlace::Made("table") && line.starts_with(COLUMN) {
            // A name that goes over the end of the line is like no other.
            let column = quoted_name(&line[2..]).map_or_else(|| String::from_utf8_lossy(line).into(), |(name, _)| name);
            self.columns.push(column);
        }
    }

    fn found(&self) -> MutexGuard<'_, FoundInDump> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a part begins, or that the dump ends, where a line says so.
    fn enter(&mut self, line: &[u8]) -> io::Result<()> {
        if line.starts_with(END) && self.is_transaction() {
            return self.inner.write_all(b"COMMIT;\n");
        }
        let place = place_of(line).filter(|_| self.is_behind_dashes);
        let Some((place, rest)) = place else { return Ok(()) };
        let name = rest.strip_suffix(b"`").map(|name| String::from_utf8_lossy(name).replace("``", "`"));
        if name.is_some() && !self.places.insert(line.to_vec()) {
            let why = format!("the dump has two parts that call themselves {:?}", String::from_utf8_lossy(line));
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if self.place == SqlPlace::Start && self.is_transaction() {
            self.inner.write_all(b"SET autocommit=0;\n")?;
        }
        self.place = place;
        self.is_trigger = false;
        self.is_wanted = match (&name, place) {
            (_, SqlPlace::Other(_)) | (None, _) => self.parts.tables.is_empty() && !self.is_transaction(),
            (Some(name), _) => self.parts.tables.is_empty() || self.parts.tables.fit(name),
        };
        if matches!(place, SqlPlace::Made(_)) {
            self.columns.clear();
        }
        let mut found = self.found();
        if let (SqlPlace::Made(kind), None) = (place, &name)
            && !self.is_wanted
        {
            found.left_out.push(format!("a {kind} whose name has more than a line"));
        }
        if let (SqlPlace::Made(kind), Some(name)) = (place, name) {
            if self.is_wanted {
                found.views.extend((kind == "view").then(|| name.clone()));
                found.chosen.push(name.clone());
            } else {
                found.left_out.push(format!("{kind} {name}"));
            }
            found.names.push(name);
        }
        Ok(())
    }

    /// Notes that there are events or routines which are not wanted. A comment stands before them even where there are none.
    fn note_others(&self) {
        let mut found = self.found();
        if let SqlPlace::Other(kind) = self.place
            && !self.is_wanted
            && found.left_out.iter().all(|it| it != kind)
        {
            found.left_out.push(kind.to_owned());
        }
    }

    /// Tells whether a statement that begins so is wanted.
    fn is_wanted(&self, line: &[u8]) -> bool {
        let begins = |starts: &[&[u8]]| starts.iter().any(|start| line.starts_with(start));
        let is_rows = self.place == SqlPlace::Rows && !self.is_trigger;
        let fits = match self.parts.aspect {
            DumpAspect::Whole => true,
            DumpAspect::Schema => !is_rows,
            DumpAspect::Rows => is_rows && !begins(&COMMITS),
        };
        let is_asked = self.place == SqlPlace::Start || self.is_wanted && fits;
        // What is there stays, the character set of the database as well. (A view is made twice, and the first one goes.)
        let is_of_database = self.parts.into_existing && line.starts_with(DATABASE);
        self.found().is_of_other_charset |= is_asked && is_of_database;
        let is_drop = self.parts.into_existing
            && self.place != SqlPlace::FinalView
            && self.statements.are_plain()
            && begins(&DROPS);
        is_asked && !is_of_database && !is_drop
    }
}

impl<W: Write> LineEdits for PartsOfDump<W> {
    fn decide(&mut self, head: &[u8]) -> io::Result<()> {
        let line = head.trim_ascii_end();
        if !self.is_rows && self.statements.are_between() {
            let is_command = self.begin(line)?;
            let dashes = std::mem::take(&mut self.dashes);
            if self.passes {
                self.inner.write_all(&dashes)?;
            }
            if is_command {
                return if self.passes { self.inner.write_all(head) } else { Ok(()) };
            }
            if line == b"--" && self.statements.are_plain() {
                self.dashes = head.to_vec();
                self.statements.pass(head);
                return Ok(());
            }
        } else if !self.is_rows && self.statements.is_code() {
            self.note_column(line);
        }
        self.pass(head)
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_rows {
            self.statements.pass(bytes);
        }
        if self.passes { self.inner.write_all(bytes) } else { Ok(()) }
    }

    fn end_statement(&mut self) {
        self.is_rows = false;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::chosen::NamePatterns;
    use crate::engine::lines::tests::passed;

    const START: &str = "-- MariaDB dump\n--\n-- Host: x\n/*!40014 SET FOREIGN_KEY_CHECKS=0 */;\n";
    const MADE_A: &str =
        "--\n-- Table structure for table `a`\n--\nDROP TABLE IF EXISTS `a`;\nCREATE TABLE `a` (\n  `x` int\n);\n";
    const ROWS_A: &str = "--\n-- Dumping data for table `a`\n--\n/*!40000 ALTER TABLE `a` DISABLE KEYS */;\n\
        INSERT INTO `a` VALUES\n(1,'--'),\n(2,'-- Table structure for table `b`');\n/*!40000 ALTER TABLE `a` ENABLE KEYS */;\n";
    const TRIGGER_A: &str = "/*!50003 SET sql_mode = '' */ ;\nDELIMITER ;;\n/*!50003 CREATE*/ TRIGGER t BEGIN\n--\n\
        -- Dumping data for table `b`\nINSERT INTO `b` VALUES (1);\nEND */;;\nDELIMITER ;\n";
    const MADE_B: &str = "--\n-- Table structure for table `b``c`\n--\nCREATE TABLE `b``c` (y int);\n";
    const ROWS_B: &str = "--\n-- Dumping data for table `b``c`\n--\nINSERT INTO `b``c` VALUES (7);\n";
    const OTHERS: &str = "--\n-- Dumping routines for database 'shop'\n--\n\
        /*!50003 DROP PROCEDURE IF EXISTS `p` */;\nDELIMITER ;;\nCREATE PROCEDURE p()\nBEGIN END ;;\nDELIMITER ;\n";
    const END: &str = "-- Dump completed\n";

    fn parts(patterns: &[&str], aspect: DumpAspect, into_existing: bool) -> (String, FoundInDump) {
        let dump = [START, MADE_A, ROWS_A, TRIGGER_A, MADE_B, ROWS_B, OTHERS, END].concat();
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let parts = DumpParts { tables: NamePatterns::new(&patterns).expect("patterns"), aspect, into_existing };
        let text = passed(&dump, |kept| Box::new(PartsOfDump::new(kept, parts.clone(), Arc::default())));
        let found: Arc<Mutex<FoundInDump>> = Arc::default();
        PartsOfDump::new(io::sink(), parts, found.clone()).write_all(dump.as_bytes()).expect("written");
        let found = found.lock().expect("unpoisoned").clone();
        // Comments do nothing.
        (text.lines().filter(|line| !line.starts_with("--")).flat_map(|line| [line, "\n"]).collect(), found)
    }

    fn bare(text: &[&str]) -> String {
        let all = text.concat();
        all.lines().filter(|line| !line.starts_with("--")).flat_map(|line| [line, "\n"]).collect()
    }

    #[test]
    fn a_table_passes_with_its_rows_and_triggers_alone() {
        assert_eq!(
            parts(&[], DumpAspect::Whole, false).0,
            bare(&[START, MADE_A, ROWS_A, TRIGGER_A, MADE_B, ROWS_B, OTHERS])
        );
        let (text, found) = parts(&["a"], DumpAspect::Whole, false);
        assert_eq!(text, bare(&[START, MADE_A, ROWS_A, TRIGGER_A]));
        assert_eq!((found.chosen, found.names), (vec!["a".to_owned()], vec!["a".to_owned(), "b`c".to_owned()]));
        assert_eq!(found.left_out, ["table b`c", "procedures and functions"]);
        assert_eq!(parts(&["b`?"], DumpAspect::Whole, false).0, bare(&[START, MADE_B, ROWS_B]));
        // Whoever reads on knows a part by the dashes before it.
        let dump = [START, MADE_A, ROWS_A, TRIGGER_A, MADE_B, ROWS_B, OTHERS, END].concat();
        let text = wanted(&dump, &["b`?"], DumpAspect::Whole, false).0;
        assert!(text.contains(MADE_B) && text.contains(ROWS_B) && !text.contains("table `a`"), "{text}");
        let there = parts(&["a"], DumpAspect::Whole, true).0;
        let all = parts(&[], DumpAspect::Whole, true).0;
        assert!(all.contains("CREATE PROCEDURE p") && !all.contains("DROP "), "{all}");
        assert_eq!(there, bare(&[START, &MADE_A.replace("DROP TABLE IF EXISTS `a`;\n", ""), ROWS_A, TRIGGER_A]));
    }

    #[test]
    fn how_tables_are_made_and_their_rows_pass_apart() {
        assert_eq!(parts(&["a"], DumpAspect::Schema, false).0, bare(&[START, MADE_A, TRIGGER_A]));
        assert_eq!(parts(&[], DumpAspect::Schema, false).0, bare(&[START, MADE_A, TRIGGER_A, MADE_B, OTHERS]));
        let rows = ROWS_A.lines().filter(|line| !line.starts_with("/*")).collect::<Vec<_>>().join("\n") + "\n";
        let transaction = bare(&[START, "SET autocommit=0;\n", &rows, ROWS_B, "COMMIT;\n"]);
        assert_eq!(parts(&[], DumpAspect::Rows, true).0, transaction);
        // One that is cut off ends nothing.
        let cut = passed(&[START, MADE_B, ROWS_B].concat(), |kept| {
            let parts = DumpParts { aspect: DumpAspect::Rows, ..DumpParts::default() };
            Box::new(PartsOfDump::new(kept, parts, Arc::default()))
        });
        assert!(cut.contains("VALUES (7)") && !cut.contains("COMMIT"), "{cut}");
    }

    fn wanted(dump: &str, patterns: &[&str], aspect: DumpAspect, into_existing: bool) -> (String, FoundInDump) {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let parts = DumpParts { tables: NamePatterns::new(&patterns).expect("patterns"), aspect, into_existing };
        let text = passed(dump, |kept| Box::new(PartsOfDump::new(kept, parts.clone(), Arc::default())));
        let found: Arc<Mutex<FoundInDump>> = Arc::default();
        PartsOfDump::new(io::sink(), parts, found.clone()).write_all(dump.as_bytes()).expect("written");
        let found = found.lock().expect("unpoisoned").clone();
        (text, found)
    }

    #[test]
    fn no_text_of_a_routine_view_or_name_is_taken_for_a_part() {
        let smuggled = "DELIMITER ;\n--\n-- Dumping data for table `a`\n--\nGRANT ALL ON *.* TO eve;\n";
        let hidden = [
            format!("DELIMITER ;;\nCREATE PROCEDURE q() BEGIN /*\n{smuggled}*/ END ;;\nDELIMITER ;\n"),
            format!("DELIMITER ;;\nCREATE PROCEDURE q() SELECT '\\'\n{smuggled}' ;;\nDELIMITER ;\n"),
            format!("DELIMITER ;;\nCREATE PROCEDURE q() BEGIN SELECT 1\n{smuggled}END ;;\nDELIMITER ;\n"),
            format!(
                "/*!50003 SET sql_mode = 'NO_BACKSLASH_ESCAPES' */ ;\nDELIMITER ;;\nCREATE PROCEDURE q()\n\
                 SELECT '\\', ';;\n{smuggled}' ;;\nDELIMITER ;\n"
            ),
            format!("/*!50001 CREATE VIEW `v` AS SELECT 1 AS `x;\n{smuggled}` */;\n"),
            format!("DROP TABLE IF EXISTS `x;\n{smuggled}`;\nCREATE TABLE `x;\n{smuggled}` (\n  `y` int\n);\n"),
            format!("INSERT INTO `x;\n{smuggled}` VALUES\n(1);\n"),
        ];
        for hidden in hidden {
            let dump = [START, MADE_B, &hidden, MADE_A, ROWS_A, END].concat();
            let (text, found) = wanted(&dump, &["a"], DumpAspect::Whole, false);
            assert_eq!(bare(&[&text]), bare(&[START, MADE_A, ROWS_A]), "{hidden}");
            assert_eq!(found.names, ["b`c", "a"]);
            // Of what is wanted every line passes, or none.
            assert_eq!(wanted(&dump, &[], DumpAspect::Whole, false).0, dump);
            let there = wanted(&dump, &[], DumpAspect::Whole, true).0;
            assert_eq!(there.contains(&hidden), !hidden.starts_with("DROP"), "{there}");
        }
    }

    #[test]
    fn a_dump_with_one_part_twice_is_refused() {
        let dump = [START, ROWS_A, MADE_B, ROWS_A].concat();
        let error = PartsOfDump::new(io::sink(), DumpParts::default(), Arc::default()).write_all(dump.as_bytes());
        assert!(error.expect_err("refused").to_string().contains("`a`"));
    }

    #[test]
    fn columns_are_known_where_rows_name_none() {
        let made = |name: &str, rows: &str| {
            format!(
                "--\n-- Table structure for table `{name}`\n--\nCREATE TABLE `{name}` (\n  `x``y` int,\n  `z` int \
                 GENERATED ALWAYS AS (1),\n  PRIMARY KEY (`z`)\n);\n--\n-- Dumping data for table `{name}`\n--\n{rows}"
            )
        };
        let named = made("named", "INSERT INTO `named` (`x``y`, `z`) VALUES (1,2);\n");
        let dump = [START, &made("a", "INSERT INTO `a` VALUES\n(1,2);\n"), &named, &made("empty", ""), END].concat();
        let found = wanted(&dump, &[], DumpAspect::Rows, true).1;
        assert_eq!(found.columns, BTreeMap::from([("a".to_owned(), vec!["x`y".to_owned(), "z".to_owned()])]));
    }

    #[test]
    fn the_character_set_of_the_database_goes_with_the_trigger_and_never_into_one_that_is_there() {
        let other = |charset: &str| format!("ALTER DATABASE `shop` CHARACTER SET {charset} ;\n");
        let trigger = [&*other("latin1"), TRIGGER_A, &other("utf8mb4")].concat();
        let dump = [START, MADE_A, ROWS_A, &trigger, MADE_B, END].concat();
        let text = |patterns: &[&str], aspect, into_existing| {
            let (text, found) = wanted(&dump, patterns, aspect, into_existing);
            (bare(&[&text]), found.is_of_other_charset)
        };
        assert_eq!(text(&["a"], DumpAspect::Schema, false), (bare(&[START, MADE_A, &trigger]), false));
        assert_eq!(text(&["b*"], DumpAspect::Whole, false), (bare(&[START, MADE_B]), false));
        let there = text(&[], DumpAspect::Whole, true);
        assert!(there.1 && there.0.contains("TRIGGER t") && !there.0.contains("ALTER DATABASE"), "{}", there.0);
        let rows = text(&[], DumpAspect::Rows, true);
        assert!(!rows.1 && !rows.0.contains("ALTER DATABASE"), "{}", rows.0);
    }
}
