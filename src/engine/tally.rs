//! How many rows each table of a dump has, and what they are: counted while the dump passes, and kept as facts.
//!
//! What is counted is what is stored, whatever others do to the database meanwhile: no snapshot has to be shared for it, no right is needed,
//! and nothing is asked of the server. A digest is the sum of a hash of each row, as the dump writes it: rows may come in any order, and one
//! that is there twice counts twice.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::facts::{Fact, FactValue, StreamFacts, fact};
use crate::model::id::{hex, parse_hex};

/// The tables of a stream, each with its rows.
pub const ROWS_BY_TABLE: Fact<CountedTables> = Fact::new("rows_by_table");
/// How the digests of rows were made, where there are some: those that were made otherwise say nothing of each other.
pub const ROWS_DIGESTED: Fact<String> = Fact::new("rows_digested");
/// Why the rows of a dump were not counted.
pub const ROWS_NOT_COUNTED: Fact<String> = Fact::new("rows_not_counted");

/// So many tables are counted by name; others are known by their number, so that no server decides how much memory is taken.
pub(crate) const MOST_NAMED: usize = 1 << 18;
/// Tables are kept by name up to so many bytes of text: some 7,000 with digests, 16,000 without.
const LISTED_BYTES: usize = 512 << 10;

/// What the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsDigest {
    /// The sum of the hashes of all rows.
    pub sum: u128,
    /// A hash of the names of the columns in their order; zero where they are not known.
    pub columns: u32,
}

impl RowsDigest {
    fn to_text(self) -> String {
        hex(&[&self.sum.to_be_bytes()[..], &self.columns.to_be_bytes()].concat())
    }

    fn from_text(text: &str) -> Option<Self> {
        let bytes: [u8; 20] = parse_hex(text)?;
        let (sum, columns) = bytes.split_at(16);
        Some(Self {
            sum: u128::from_be_bytes(sum.try_into().ok()?),
            columns: u32::from_be_bytes(columns.try_into().ok()?),
        })
    }
}

/// A table of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedTable {
    /// Its name, as its engine writes it.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// What they are.
    pub digest: Option<RowsDigest>,
}

/// Tables as a fact: a JSON array of `["app.orders",500]`, or with the digest behind that, as 32 hexadecimal digits of the rows and 8
/// of the columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountedTables(pub Vec<CountedTable>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum KeptTable {
    Digested(String, u64, String),
    Counted(String, u64),
}

impl From<&CountedTable> for KeptTable {
    fn from(table: &CountedTable) -> Self {
        match table.digest {
            Some(digest) => KeptTable::Digested(table.name.clone(), table.rows, digest.to_text()),
            None => KeptTable::Counted(table.name.clone(), table.rows),
        }
    }
}

impl KeptTable {
    fn read(self) -> Option<CountedTable> {
        Some(match self {
            KeptTable::Digested(name, rows, digest) => {
                CountedTable { name, rows, digest: Some(RowsDigest::from_text(&digest)?) }
            }
            KeptTable::Counted(name, rows) => CountedTable { name, rows, digest: None },
        })
    }
}

impl FactValue for CountedTables {
    fn to_text(&self) -> String {
        serde_json::to_string(&self.0.iter().map(KeptTable::from).collect::<Vec<_>>()).expect("its values are JSON")
    }

    fn from_text(text: &str) -> Option<Self> {
        let written: Vec<KeptTable> = serde_json::from_str(text).ok()?;
        written.into_iter().map(KeptTable::read).collect::<Option<_>>().map(Self)
    }
}

/// Counts rows while they pass, and digests them where that is asked for.
#[derive(Debug, Default)]
pub struct RowTally {
    is_digested: bool,
    tables: BTreeMap<String, Rows>,
    /// How many have names that cannot be kept, and their rows.
    unnamed: (u64, u64),
    /// Some of those would have been kept, if they were not too many.
    are_too_many: bool,
    /// The table that rows are of now.
    current: Option<(Option<String>, Rows)>,
    /// The hash of the row that is passing, of which some has passed.
    row: Option<Box<blake3::Hasher>>,
    /// Why none of it counts.
    doubt: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    rows: u64,
    sum: u128,
    columns: Option<u32>,
    lacks_digest: bool,
}

impl Rows {
    fn add(&mut self, more: Rows) {
        self.rows += more.rows;
        self.sum = self.sum.wrapping_add(more.sum);
        let are_others = self.columns.zip(more.columns).is_some_and(|(own, more)| own != more);
        self.lacks_digest |= more.lacks_digest || are_others;
        self.columns = self.columns.or(more.columns);
    }
}

impl RowTally {
    /// Begins to count.
    pub fn new(is_digested: bool) -> Self {
        Self { is_digested, ..Self::default() }
    }

    /// Says which table rows are of from here on, which may be one that was there before. `None` is one whose name cannot be kept.
    pub fn enter(&mut self, table: Option<String>) {
        self.leave();
        self.current = Some((table, Rows::default()));
    }

    /// Says which columns the rows have, in their order.
    pub fn columns<N: AsRef<[u8]>>(&mut self, names: &[N]) {
        if self.is_digested {
            self.hashed_columns(hash_of_columns(names));
        }
    }

    /// The same of columns whose hash is known.
    pub(crate) fn hashed_columns(&mut self, hash: u32) {
        if let Some((_, rows)) = self.current.as_mut().filter(|_| self.is_digested) {
            rows.columns = Some(hash);
        }
    }

    /// Takes some of a row that has not ended.
    pub fn more(&mut self, bytes: &[u8]) {
        if self.is_digested && !bytes.is_empty() {
            self.row.get_or_insert_default().update(bytes);
        }
    }

    /// Takes the rest of a row.
    pub fn end_row(&mut self, bytes: &[u8]) {
        let Some((_, rows)) = &mut self.current else { return };
        rows.rows += 1;
        if self.is_digested {
            let hash = match self.row.take() {
                None => blake3::hash(bytes),
                Some(mut row) => row.update(bytes).finalize(),
            };
            rows.sum = rows.sum.wrapping_add(u128::from_be_bytes(first(&hash)));
        }
    }

    /// Forgets what has passed of a row: it is none.
    pub fn drop_row(&mut self) {
        self.row = None;
    }

    /// Counts rows of the table that nobody has seen, so that it has no digest.
    pub fn add_unseen(&mut self, count: u64) {
        if let Some((_, rows)) = &mut self.current {
            rows.rows += count;
            rows.lacks_digest = true;
        }
    }

    /// Adds what another has counted.
    pub fn extend(&mut self, mut other: RowTally) {
        self.leave();
        other.leave();
        other.tables.into_iter().for_each(|(name, rows)| self.add_named(name, rows));
        self.unnamed = (self.unnamed.0 + other.unnamed.0, self.unnamed.1 + other.unnamed.1);
        self.are_too_many |= other.are_too_many;
        self.doubt = self.doubt.take().or(other.doubt);
    }

    /// Says that nothing that was counted can be relied on, and why: the first reason is kept.
    pub fn doubt(&mut self, why: impl Into<String>) {
        self.doubt.get_or_insert_with(|| why.into());
    }

    fn leave(&mut self) {
        self.row = None;
        match self.current.take() {
            Some((Some(name), rows)) => self.add_named(name, rows),
            Some((None, rows)) => self.add_unnamed(rows),
            None => {}
        }
    }

    fn add_named(&mut self, name: String, rows: Rows) {
        if self.tables.len() < MOST_NAMED || self.tables.contains_key(&name) {
            self.tables.entry(name).or_default().add(rows);
        } else {
            self.are_too_many = true;
            self.add_unnamed(rows);
        }
    }

    fn add_unnamed(&mut self, rows: Rows) {
        self.unnamed = (self.unnamed.0 + 1, self.unnamed.1 + rows.rows);
    }

    /// Returns all tables whose names can be kept.
    ///
    /// # Errors
    /// Why nothing that was counted can be relied on, or that there are too many tables.
    pub fn finish(mut self) -> Result<Vec<CountedTable>, String> {
        self.leave();
        match self.doubt.take() {
            Some(why) => Err(why),
            None if self.are_too_many => Err(format!("there are more than {MOST_NAMED} tables")),
            None => Ok(self.named()),
        }
    }

    fn named(&self) -> Vec<CountedTable> {
        let digest = |rows: &Rows| {
            let digest = RowsDigest { sum: rows.sum, columns: rows.columns.unwrap_or(0) };
            (self.is_digested && !rows.lacks_digest).then_some(digest)
        };
        let table =
            |(name, rows): (&String, &Rows)| CountedTable { name: name.clone(), rows: rows.rows, digest: digest(rows) };
        self.tables.iter().map(table).collect()
    }

    /// Keeps what was counted as facts: rows in all, and the tables by name, those with most rows first where there are very many.
    /// `scheme` says how digests are made.
    pub fn keep(mut self, scheme: &str, facts: &mut StreamFacts) {
        self.leave();
        if let Some(why) = self.doubt.take() {
            facts.set(ROWS_NOT_COUNTED, why);
            return;
        }
        let tables = self.named();
        let (unnamed, named) = (self.unnamed.0, tables.len());
        facts.set(fact::ROWS, self.unnamed.1 + tables.iter().map(|table| table.rows).sum::<u64>());
        let listed = listed(tables, LISTED_BYTES);
        let unlisted = unnamed + (named - listed.len()) as u64;
        facts.set_some(fact::TABLES_UNLISTED, Some(unlisted).filter(|count| *count > 0));
        facts.set(ROWS_BY_TABLE, CountedTables(listed));
        facts.set_some(ROWS_DIGESTED, self.is_digested.then(|| scheme.to_owned()));
    }
}

/// Chooses tables whose text fits into so many bytes: those with most rows. They come in the order of their names.
fn listed(mut tables: Vec<CountedTable>, most_bytes: usize) -> Vec<CountedTable> {
    tables.sort_by(|a, b| (Reverse(a.rows), &a.name).cmp(&(Reverse(b.rows), &b.name)));
    let mut bytes = 2;
    let fit = tables.iter().take_while(|table| {
        bytes += 1 + serde_json::to_string(&KeptTable::from(*table)).map_or(0, |text| text.len());
        bytes <= most_bytes
    });
    let count = fit.count();
    tables.truncate(count);
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

/// Says of a dump whose rows were not counted why not, where digests were asked for.
pub fn not_counted(facts: &StreamFacts) -> Option<String> {
    facts
        .text(ROWS_NOT_COUNTED)
        .map(|why| format!("its rows were not counted, so that a restore compares nothing: {why}"))
}

/// Returns what is kept of the names of columns.
pub(crate) fn hash_of_columns<N: AsRef<[u8]>>(names: &[N]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_ref()).update(&[0]);
    }
    u32::from_be_bytes(first(&hasher.finalize()))
}

/// Returns the first bytes of a hash.
fn first<const N: usize>(hash: &blake3::Hash) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash.as_bytes()[..N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(is_digested: bool, rows: &[&[&str]]) -> CountedTable {
        let mut tally = RowTally::new(is_digested);
        tally.enter(Some("t".to_owned()));
        tally.columns(&["a", "b"]);
        for pieces in rows {
            let (last, others) = pieces.split_last().expect("a row");
            others.iter().for_each(|piece| tally.more(piece.as_bytes()));
            tally.end_row(last.as_bytes());
        }
        tally.finish().expect("no doubt").remove(0)
    }

    #[test]
    fn a_digest_is_that_of_the_rows_in_any_order_and_however_they_come() {
        let whole = counted(true, &[&["1\tone"], &["2\ttwo"], &[""]]);
        assert_eq!(whole.rows, 3);
        assert_eq!(counted(true, &[&["", ""], &["2\t", "tw", "o"], &["1", "\tone"]]), whole);
        let others: [&[&[&str]]; 4] = [
            &[&["1\ttwo"], &["2\tone"], &[""]],
            &[&["1\tone"], &["2\ttwo"]],
            &[&["1\tone"], &["2\ttwo"], &[""], &[""]],
            // Twice is not never.
            &[&["1\tone"], &["1\tone"], &[""]],
        ];
        others.iter().for_each(|rows| assert_ne!(counted(true, rows).digest, whole.digest, "{rows:?}"));
        assert_eq!(counted(false, &[&["1"]]), CountedTable { name: "t".to_owned(), rows: 1, digest: None });
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let mut tally = RowTally::new(true);
        tally.enter(Some("a \"b\"".to_owned()));
        tally.columns(&["x"]);
        tally.end_row(b"1");
        tally.enter(None);
        tally.end_row(b"9");
        tally.enter(Some("unseen".to_owned()));
        tally.add_unseen(5);
        tally.enter(Some("a \"b\"".to_owned()));
        tally.end_row(b"2");
        tally.more(b"no row");
        tally.drop_row();
        let mut facts = StreamFacts::default();
        tally.keep("test 1", &mut facts);
        assert_eq!((facts.get(fact::ROWS), facts.get(fact::TABLES_UNLISTED)), (Some(8), Some(1)));
        assert_eq!(facts.text(ROWS_DIGESTED), Some("test 1"));
        let CountedTables(tables) = facts.get(ROWS_BY_TABLE).expect("understood");
        let names: Vec<_> = tables.iter().map(|it| (it.name.as_str(), it.rows, it.digest.is_some())).collect();
        assert_eq!(names, [("a \"b\"", 2, true), ("unseen", 5, false)]);
        let kept = CountedTables(tables);
        assert_eq!(CountedTables::from_text(&kept.to_text()), Some(kept));
        // What a newer program writes otherwise is not understood, and no error.
        for other in ["[[\"a\",1,\"00\"]]", "[[\"a\"]]", "[[\"a\",1,2,3]]", "{}"] {
            assert_eq!(CountedTables::from_text(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_doubtful_is_not_kept() {
        let mut tally = RowTally::new(false);
        tally.enter(Some("a".to_owned()));
        tally.end_row(b"");
        tally.doubt("the first");
        tally.doubt("the second");
        let mut facts = StreamFacts::default();
        tally.keep("test 1", &mut facts);
        assert!(!facts.has(ROWS_BY_TABLE) && !facts.has(fact::ROWS));
        assert!(not_counted(&facts).is_some_and(|said| said.ends_with(": the first")), "{facts:?}");
    }

    #[test]
    fn more_tables_than_are_kept_take_no_more_memory_and_are_not_called_missing() {
        let mut tally = RowTally::new(false);
        for number in 0..=MOST_NAMED {
            tally.enter(Some(format!("t{number}")));
            tally.end_row(b"");
        }
        tally.enter(Some("t0".to_owned()));
        tally.end_row(b"");
        tally.leave();
        assert_eq!((tally.tables.len(), tally.unnamed, tally.tables["t0"].rows), (MOST_NAMED, (1, 1), 2));
        let mut all = RowTally::new(false);
        all.extend(tally);
        assert!(all.finish().is_err_and(|why| why.contains("more than 262144 tables")));
    }

    #[test]
    fn of_very_many_tables_the_largest_are_kept_by_name() {
        let table = |at: u64| CountedTable { name: format!("t{at:02}"), rows: at % 50, digest: None };
        let all: Vec<_> = (0..100).map(table).collect();
        // `["t00",9],` has ten bytes, and those of ten rows and more eleven.
        let kept = listed(all.clone(), 2 + 11 * 4);
        let names: Vec<_> = kept.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["t48", "t49", "t98", "t99"]);
        assert_eq!(listed(all.clone(), usize::MAX), all);
    }
}
