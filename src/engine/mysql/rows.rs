//! Whether a dump of `mariadb-dump` or `mysqldump` has the rows of all its tables.
//!
//! When a table's triggers are made anew while it is dumped, the program can find it without columns. It then writes how the
//! table is made and goes on with the next one: no rows, no message, status 0, and the mark at the end. Before rows it
//! writes a comment, also for a table without any; so the comments tell.

use crate::database::DatabaseError;
use crate::database::tables::ExcludedTables;
use crate::engine::mysql::facts;
use crate::engine::mysql::sql::identifier;
use crate::model::entry::StreamDetail;
use crate::source::SourceError;
use crate::source::check::Check;

/// Before how a table is made.
const STRUCTURE: &[u8] = b"-- Table structure for table ";
/// Before its rows.
const DATA: &[u8] = b"-- Dumping data for table ";
/// Ends how a table is made.
const ENGINE: &[u8] = b") ENGINE=";
/// Engines without rows of their own, which the programs leave out by intention.
const WITHOUT_ROWS: [&[u8]; 3] = [b"MRG_MyISAM", b"MRG_MYISAM", b"FEDERATED"];
/// How much of a line is looked at.
const HEAD_BYTES: usize = 512;

/// Looks at a dump while it passes.
#[derive(Debug, Default)]
pub struct AllRows {
    /// The beginning of the line that is passing.
    head: Vec<u8>,
    length: u64,
    longest: u64,
    /// The table whose rows are to come.
    awaited: Option<Vec<u8>>,
    /// Tables whose rows are left out, quoted.
    left_out: Vec<Vec<u8>>,
    /// The first table whose rows did not come.
    missing: Option<Vec<u8>>,
}

impl AllRows {
    /// Looks at a dump in which some rows are left out because that was asked for.
    pub fn but_for(excluded: &ExcludedTables) -> Self {
        let left_out = excluded.rows.iter().map(|table| identifier(&table.quoted).into_bytes()).collect();
        Self { left_out, ..Self::default() }
    }

    fn look(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            self.push(&rest[..at]);
            self.end_line();
            rest = &rest[at + 1..];
        }
        self.push(rest);
    }

    /// Returns the length of the longest line in bytes, or the name of a table whose rows are missing.
    fn found(mut self) -> Result<u64, String> {
        self.end_line();
        match self.missing.or(self.awaited) {
            None => Ok(self.longest),
            Some(table) => Err(String::from_utf8_lossy(&table).into_owned()),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.length += bytes.len() as u64;
    }

    fn end_line(&mut self) {
        self.longest = self.longest.max(self.length);
        if let Some(table) = self.head.strip_prefix(STRUCTURE) {
            let awaited = Some(table.to_vec()).filter(|table| !self.left_out.contains(table));
            let before = std::mem::replace(&mut self.awaited, awaited);
            self.missing = self.missing.take().or(before);
        } else if let Some(table) = self.head.strip_prefix(DATA) {
            self.awaited.take_if(|awaited| awaited == table);
        } else if let Some(engine) = self.head.strip_prefix(ENGINE)
            && WITHOUT_ROWS.iter().any(|name| engine.starts_with(name))
        {
            self.awaited = None;
        }
        self.head.clear();
        self.length = 0;
    }
}

impl Check for AllRows {
    fn feed(&mut self, bytes: &[u8]) {
        self.look(bytes);
    }

    fn finish(self: Box<Self>, name: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        let longest = self.found().map_err(|table| DatabaseError::RowsMissing { name: name.to_owned(), table })?;
        detail.facts.set(facts::LONGEST_LINE, longest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::tables::ExcludableTable;

    fn found(dump: &str) -> Result<u64, String> {
        let all = |piece: usize| {
            let mut scan = AllRows::default();
            dump.as_bytes().chunks(piece).for_each(|bytes| scan.look(bytes));
            scan.found()
        };
        let (one, seven, whole) = (all(1), all(7), all(dump.len()));
        assert!(one == seven && seven == whole, "{one:?} {seven:?} {whole:?}");
        whole
    }

    fn table(name: &str, engine: &str, rows: bool) -> String {
        let data = if rows { format!("--\n-- Dumping data for table `{name}`\n--\n\n") } else { String::new() };
        format!(
            "--\n-- Table structure for table `{name}`\n--\nCREATE TABLE `{name}` (\n) ENGINE={engine};\n--\n{data}"
        )
    }

    #[test]
    fn a_table_without_its_rows_is_found_wherever_it_is() {
        let (good, bad) = (table("good", "InnoDB", true), table("bad", "InnoDB", false));
        let end = "-- Dump completed\n";
        assert!(found(&format!("{good}{good}{end}")).is_ok());
        for dump in [format!("{bad}{good}{end}"), format!("{good}{bad}{good}{end}"), format!("{good}{bad}{end}")] {
            assert_eq!(found(&dump), Err("`bad`".to_owned()));
        }
        assert_eq!(found(&format!("{bad}{}", table("worse", "InnoDB", false))), Err("`bad`".to_owned()));
    }

    #[test]
    fn rows_that_are_left_out_are_not_waited_for() {
        let table = |name: &str| ExcludableTable { quoted: name.into(), names: vec![name.into()], without: Vec::new() };
        let excluded = ExcludedTables { rows: vec![table("b")], ..ExcludedTables::default() };
        let found = |name: &str| {
            let mut scan = AllRows::but_for(&excluded);
            scan.look(super::tests::table(name, "InnoDB", false).as_bytes());
            scan.found()
        };
        assert!(found("b").is_ok() && found("c").is_err());
    }

    #[test]
    fn engines_without_rows_have_none() {
        for engine in ["MRG_MyISAM DEFAULT CHARSET=latin1 UNION=(`a`)", "FEDERATED CONNECTION='x'"] {
            assert!(found(&table("t", engine, false)).is_ok(), "{engine}");
        }
    }

    #[test]
    fn the_longest_line_is_known() {
        let long = "x".repeat(5000);
        assert_eq!(found(&format!("a\n{long}\nb")), Ok(5000));
        assert_eq!(found(&format!("a\n{long}")), Ok(5000));
    }
}
