//! Rows of an archive of `pg_dump --format=custom`, counted while it passes.
//!
//! The archive begins with a table of contents and has the data of its entries behind it, in blocks that name their entry
//! (`pg_backup_archiver.c` and `pg_backup_custom.c`). An archive of a version that is not known is not counted.

use std::collections::BTreeMap;

use crate::engine::postgres::copied::{CopiedRows, SCHEME, copy_statement, table_name};
use crate::engine::tally::{MOST_NAMED, RowTally, hash_of_columns};
use crate::model::entry::StreamDetail;
use crate::process::readable;
use crate::source::SourceError;
use crate::source::check::Check;

/// How an archive begins: what it is, its version in three bytes, the sizes of numbers and of places, and its format, which is custom.
const START: &[u8] = b"PGDMP";
const START_BYTES: usize = 11;
const CUSTOM: u8 = 1;
/// Second numbers of the versions that are known, of which the first is 1: those of PostgreSQL 9 to 18.
const KNOWN_VERSIONS: std::ops::RangeInclusive<u8> = 12..=16;
/// From this one on the compression is named by a byte.
const WITH_ALGORITHM: u8 = 15;
/// Longer names and statements are not kept.
const KEPT_TEXT_BYTES: usize = 1 << 20;
/// What kind of entry has rows.
const WITH_ROWS: &[u8] = b"TABLE DATA";
/// What large objects are called among tables: a name without quotes has no space.
pub(super) const LARGE_OBJECTS: &str = "large objects";
const BLOCK_OF_ROWS: u8 = 1;
const BLOCK_OF_OBJECTS: u8 = 3;

/// What stands in an entry, each from which version on.
const ENTRY: [(u8, EntryField); 16] = [
    (0, EntryField::Id),
    (0, EntryField::HasData),
    (0, EntryField::OtherText),
    (0, EntryField::OtherText),
    (0, EntryField::Table),
    (0, EntryField::Kind),
    (0, EntryField::OtherNumber),
    (0, EntryField::OtherText),
    (0, EntryField::OtherText),
    (0, EntryField::Copy),
    (0, EntryField::Schema),
    (0, EntryField::OtherText),
    (14, EntryField::OtherText),
    (16, EntryField::OtherNumber),
    (0, EntryField::OtherText),
    (0, EntryField::OtherText),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryField {
    Id,
    HasData,
    Table,
    Kind,
    Copy,
    Schema,
    OtherNumber,
    OtherText,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArchivePlace {
    Start,
    Compression,
    /// So many more numbers, the time that it was made at.
    Time(u8),
    /// So many more texts: the database, and versions.
    Titles(u8),
    EntryCount,
    /// This field of an entry.
    Field(usize),
    /// What the entry depends on, to the end of that.
    Needs,
    /// Where the data of the entry is, which nobody knew.
    Where,
    BlockKind,
    BlockOfRows,
    BlockOfObjects,
    /// How many bytes of rows come, none behind the last.
    RowsLength,
    Rows(usize),
    /// The number of a large object, none behind the last.
    ObjectNumber,
    ObjectLength,
    Object(usize),
}

/// How it is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bytes(usize),
    Number,
    Text { is_kept: bool },
}

/// What came.
#[derive(Debug, Clone, Copy)]
enum ArchiveValue<'a> {
    Bytes(&'a [u8]),
    Number(i64),
    Text(Option<&'a [u8]>),
}

impl<'a> ArchiveValue<'a> {
    fn number(self) -> i64 {
        if let ArchiveValue::Number(number) = self { number } else { 0 }
    }

    fn bytes(self) -> &'a [u8] {
        if let ArchiveValue::Bytes(bytes) | ArchiveValue::Text(Some(bytes)) = self { bytes } else { &[] }
    }
}

/// The entry that is passing.
#[derive(Debug, Default)]
struct PassingEntry {
    id: i64,
    has_rows: bool,
    table: Vec<u8>,
    schema: Vec<u8>,
    /// The table that its rows are put into, with or without its schema.
    into: Vec<String>,
    /// The hash of its columns.
    columns: u32,
}

/// Counts the rows of an archive.
pub struct ArchiveRows {
    tally: RowTally,
    /// Names are in UTF-8.
    is_utf8: bool,
    version: u8,
    number_bytes: usize,
    where_bytes: usize,
    place: ArchivePlace,
    /// What has come of it.
    held: Vec<u8>,
    /// The text that has begun: how many bytes are to come.
    text: Option<usize>,
    entries_left: i64,
    entry: PassingEntry,
    /// Entries whose rows are to come: the name of the table, and the hash of its columns.
    tables: BTreeMap<i64, (Option<String>, u32)>,
    rows: CopiedRows,
    /// It is not understood from here on.
    is_lost: bool,
}

impl ArchiveRows {
    /// Begins to count the rows of an archive from a database of this encoding, and digests them where that is asked for.
    pub fn new(is_digested: bool, encoding: &str) -> Self {
        Self {
            tally: RowTally::new(is_digested),
            is_utf8: encoding == "UTF8",
            version: 0,
            number_bytes: 0,
            where_bytes: 0,
            place: ArchivePlace::Start,
            held: Vec::new(),
            text: None,
            entries_left: 0,
            entry: PassingEntry::default(),
            tables: BTreeMap::new(),
            rows: CopiedRows::default(),
            is_lost: false,
        }
    }

    fn lose(&mut self, why: impl Into<String>) {
        self.tally.doubt(why);
        self.is_lost = true;
        (self.held, self.tables) = (Vec::new(), BTreeMap::new());
    }

    /// Tells how what comes next is written.
    fn form(&self) -> Form {
        match self.place {
            ArchivePlace::Start => Form::Bytes(START_BYTES),
            ArchivePlace::Compression if self.version >= WITH_ALGORITHM => Form::Bytes(1),
            ArchivePlace::Titles(_) | ArchivePlace::Needs => Form::Text { is_kept: false },
            ArchivePlace::Field(at) => match ENTRY[at].1 {
                EntryField::Id | EntryField::HasData | EntryField::OtherNumber => Form::Number,
                EntryField::OtherText => Form::Text { is_kept: false },
                EntryField::Table | EntryField::Kind | EntryField::Copy | EntryField::Schema => {
                    Form::Text { is_kept: true }
                }
            },
            ArchivePlace::Where => Form::Bytes(1 + self.where_bytes),
            ArchivePlace::BlockKind => Form::Bytes(1),
            _ => Form::Number,
        }
    }

    /// Takes what came and goes on to what comes behind it.
    fn take(&mut self, came: ArchiveValue<'_>) {
        let number = came.number();
        self.place = match self.place {
            ArchivePlace::Start => match came.bytes() {
                [b'P', b'G', b'D', b'M', b'P', 1, version, _, number_bytes @ 1..=8, where_bytes @ 1..=8, CUSTOM]
                    if KNOWN_VERSIONS.contains(version) =>
                {
                    self.version = *version;
                    (self.number_bytes, self.where_bytes) = (usize::from(*number_bytes), usize::from(*where_bytes));
                    ArchivePlace::Compression
                }
                [start @ .., major, minor, _, _, _, _] if start == START => {
                    return self.lose(format!("archives of version {major}.{minor} are not known"));
                }
                _ => return self.lose("this is no archive of pg_dump"),
            },
            ArchivePlace::Compression if number == 0 && came.bytes().iter().all(|byte| *byte == 0) => {
                ArchivePlace::Time(7)
            }
            ArchivePlace::Compression => return self.lose("the archive is compressed"),
            ArchivePlace::Time(1) => ArchivePlace::Titles(3),
            ArchivePlace::Time(left) => ArchivePlace::Time(left - 1),
            ArchivePlace::Titles(1) => ArchivePlace::EntryCount,
            ArchivePlace::Titles(left) => ArchivePlace::Titles(left - 1),
            ArchivePlace::EntryCount => {
                self.entries_left = number;
                self.next_entry()
            }
            ArchivePlace::Field(at) => {
                self.take_field(ENTRY[at].1, came);
                self.field_from(at + 1)
            }
            ArchivePlace::Needs if matches!(came, ArchiveValue::Text(None)) => ArchivePlace::Where,
            ArchivePlace::Needs => ArchivePlace::Needs,
            ArchivePlace::Where => {
                self.end_entry();
                if self.tables.len() > MOST_NAMED {
                    return self.lose("the archive has rows of too many tables");
                }
                self.next_entry()
            }
            ArchivePlace::BlockKind => match came.bytes() {
                [BLOCK_OF_ROWS] => ArchivePlace::BlockOfRows,
                [BLOCK_OF_OBJECTS] => ArchivePlace::BlockOfObjects,
                _ => return self.lose("a block of the archive is of no kind that is known"),
            },
            ArchivePlace::BlockOfRows => {
                let Some((table, columns)) = self.tables.remove(&number) else {
                    return self.lose("the archive has rows of what is no table");
                };
                self.tally.enter(table);
                self.tally.hashed_columns(columns);
                self.rows = CopiedRows::default();
                ArchivePlace::RowsLength
            }
            ArchivePlace::RowsLength if number == 0 && !self.rows.has_ended => {
                return self.lose("rows of the archive do not end as rows do");
            }
            ArchivePlace::RowsLength if number == 0 => ArchivePlace::BlockKind,
            ArchivePlace::BlockOfObjects => {
                self.tally.enter(Some(LARGE_OBJECTS.to_owned()));
                ArchivePlace::ObjectNumber
            }
            ArchivePlace::ObjectNumber if number == 0 => ArchivePlace::BlockKind,
            ArchivePlace::ObjectNumber => {
                self.tally.add_unseen(1);
                ArchivePlace::ObjectLength
            }
            ArchivePlace::ObjectLength if number == 0 => ArchivePlace::ObjectNumber,
            ArchivePlace::RowsLength | ArchivePlace::ObjectLength => match (usize::try_from(number), self.place) {
                (Ok(length), ArchivePlace::RowsLength) => ArchivePlace::Rows(length),
                (Ok(length), _) => ArchivePlace::Object(length),
                (Err(_), _) => return self.lose("a length in the archive is none"),
            },
            // These are passed as they come.
            ArchivePlace::Rows(_) | ArchivePlace::Object(_) => self.place,
        };
    }

    fn next_entry(&mut self) -> ArchivePlace {
        self.entry = PassingEntry::default();
        self.entries_left -= 1;
        if self.entries_left < 0 { ArchivePlace::BlockKind } else { self.field_from(0) }
    }

    /// Returns the next field that this version has, from one on.
    fn field_from(&self, at: usize) -> ArchivePlace {
        let is_there = |at: &usize| ENTRY[*at].0 <= self.version;
        (at..ENTRY.len()).find(is_there).map_or(ArchivePlace::Needs, ArchivePlace::Field)
    }

    fn take_field(&mut self, field: EntryField, came: ArchiveValue<'_>) {
        let entry = &mut self.entry;
        match field {
            EntryField::Id => entry.id = came.number(),
            EntryField::HasData => entry.has_rows = came.number() != 0,
            EntryField::Table => entry.table = came.bytes().to_vec(),
            EntryField::Kind => entry.has_rows &= came.bytes() == WITH_ROWS,
            EntryField::Schema => entry.schema = came.bytes().to_vec(),
            EntryField::Copy if entry.has_rows => {
                let text = String::from_utf8_lossy(came.bytes());
                match copy_statement(&text) {
                    Some((table, columns)) => (entry.into, entry.columns) = (table, hash_of_columns(&columns)),
                    None => self.tally.doubt(format!("a statement is not understood: {}", readable(came.bytes()))),
                }
            }
            EntryField::Copy | EntryField::OtherNumber | EntryField::OtherText => {}
        }
    }

    fn end_entry(&mut self) {
        let PassingEntry { id, has_rows, table, schema, into, columns } = std::mem::take(&mut self.entry);
        if !has_rows {
            return;
        }
        // Rows of a partition that are put into the table above it may come into another partition.
        let (lossy, mut into) = (String::from_utf8_lossy, into.iter().rev());
        let is_its_own =
            into.next().is_some_and(|name| *name == lossy(&table)) && into.all(|name| *name == lossy(&schema));
        let name = table_name(&schema, &table, self.is_utf8).filter(|_| is_its_own);
        self.tables.insert(id, (name, columns));
    }

    /// Takes what there is of a number, a text or some bytes, and returns the rest.
    fn gather<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let form = self.form();
        // Each row may come with its length, which is read where it is.
        if matches!(form, Form::Number)
            && self.held.is_empty()
            && let Some((written, rest)) = bytes.split_at_checked(1 + self.number_bytes)
        {
            self.take(ArchiveValue::Number(number(written)));
            return rest;
        }
        let is_kept = match form {
            Form::Text { is_kept } => is_kept || self.text.is_none(),
            Form::Bytes(_) | Form::Number => true,
        };
        let wanted = match (form, self.text) {
            (Form::Bytes(count), _) => count - self.held.len(),
            (_, None) => 1 + self.number_bytes - self.held.len(),
            (_, Some(left)) => left,
        };
        let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
        if is_kept {
            self.held.extend_from_slice(taken);
        }
        if let Some(left) = &mut self.text {
            *left -= taken.len();
        }
        if taken.len() < wanted {
            return rest;
        }
        let held = std::mem::take(&mut self.held);
        match (form, self.text.take()) {
            (Form::Bytes(_), _) => self.take(ArchiveValue::Bytes(&held)),
            (Form::Number, _) => self.take(ArchiveValue::Number(number(&held))),
            (Form::Text { .. }, Some(_)) => self.take(ArchiveValue::Text(Some(&held))),
            (Form::Text { is_kept }, None) => match usize::try_from(number(&held)) {
                Err(_) => self.take(ArchiveValue::Text(None)),
                Ok(0) => self.take(ArchiveValue::Text(Some(&[]))),
                Ok(length) if is_kept && length > KEPT_TEXT_BYTES => self.lose("a name in the archive is too long"),
                Ok(length) => self.text = Some(length),
            },
        }
        rest
    }
}

/// Reads a number: its sign, and its bytes from the lowest.
fn number(bytes: &[u8]) -> i64 {
    let Some((sign, bytes)) = bytes.split_first() else { return 0 };
    let value = bytes.iter().rev().fold(0i64, |value, byte| value.wrapping_shl(8) | i64::from(*byte));
    if *sign == 0 { value } else { value.wrapping_neg() }
}

impl Check for ArchiveRows {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_lost {
            rest = match self.place {
                ArchivePlace::Rows(left) | ArchivePlace::Object(left) => {
                    let (passing, behind) = rest.split_at(left.min(rest.len()));
                    let left = left - passing.len();
                    let is_rows = matches!(self.place, ArchivePlace::Rows(_));
                    if is_rows {
                        // Empty lines come behind the end.
                        self.rows.pass(passing, &mut self.tally);
                    }
                    self.place = match (is_rows, left) {
                        (true, 0) => ArchivePlace::RowsLength,
                        (true, left) => ArchivePlace::Rows(left),
                        (false, 0) => ArchivePlace::ObjectLength,
                        (false, left) => ArchivePlace::Object(left),
                    };
                    behind
                }
                _ => self.gather(rest),
            };
        }
    }

    fn finish(mut self: Box<Self>, _: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        if self.place != ArchivePlace::BlockKind || !self.held.is_empty() || !self.tables.is_empty() {
            self.tally.doubt("the archive has not all rows that its table of contents tells of");
        }
        self.tally.keep(SCHEME, &mut detail.facts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tally::{CountedTables, ROWS_BY_TABLE, ROWS_NOT_COUNTED};
    use crate::model::facts::{StreamFacts, fact};

    fn written(value: i64) -> Vec<u8> {
        let bytes = i32::try_from(value.abs()).expect("small").to_le_bytes();
        [&[u8::from(value < 0)][..], &bytes].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [written(text.len() as i64), text.as_bytes().to_vec()].concat()
    }

    /// An entry: its number, whether it has data, its kind, schema, name and statement.
    fn entry(version: u8, (id, has_data): (i64, bool), kind: &str, schema: &str, tag: &str, copy: &str) -> Vec<u8> {
        let mut all = vec![
            written(id),
            written(i64::from(has_data)),
            text("0"),
            text("16400"),
            text(tag),
            text(kind),
            written(3),
        ];
        all.extend([text("CREATE …"), text(""), text(copy), text(schema), written(-1)]);
        all.extend((version >= 14).then(|| text("heap")));
        all.extend((version >= 16).then(|| written(114)));
        all.extend([text("joe"), text("false"), text("12"), text("7"), written(-1), vec![0; 9]]);
        all.concat()
    }

    fn archive(version: u8, entries: &[Vec<u8>], blocks: &[Vec<u8>]) -> Vec<u8> {
        let compression = if version >= 15 { vec![0] } else { written(0) };
        let mut all = vec![[START, &[1, version, 0, 4, 8, CUSTOM]].concat(), compression];
        all.extend(std::iter::repeat_with(|| written(1)).take(7));
        all.extend([text("shop"), text("15.20"), text("15.20"), written(entries.len() as i64)]);
        [all.concat(), entries.concat(), blocks.concat()].concat()
    }

    fn rows(id: i64, pieces: &[&str]) -> Vec<u8> {
        let pieces: Vec<u8> = pieces.iter().flat_map(|piece| text(piece)).collect();
        [vec![1], written(id), pieces, written(0)].concat()
    }

    fn counted(archive: &[u8], is_digested: bool, encoding: &str) -> StreamFacts {
        let all = [1, 2, 7, 100, archive.len()].map(|piece| {
            let mut rows = Box::new(ArchiveRows::new(is_digested, encoding));
            archive.chunks(piece).for_each(|bytes| rows.feed(bytes));
            let mut detail = StreamDetail::default();
            rows.finish("pg_dump", &mut detail).expect("it judges nothing");
            detail.facts
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all[0].clone()
    }

    fn whole(version: u8) -> Vec<u8> {
        let entries = [
            entry(version, (5, false), "TABLE", "app", "a", ""),
            entry(version, (7, true), "TABLE DATA", "app", "a", "COPY app.a (x, y) FROM stdin;\n"),
            entry(version, (8, true), "TABLE DATA", "app", "grün", "COPY app.\"grün\" (x) FROM stdin;\n"),
            entry(version, (9, true), "BLOBS", "", "BLOBS", ""),
        ];
        let objects: Vec<u8> = [
            vec![3],
            written(9),
            written(16500),
            text("abc\n\\."),
            text("d"),
            written(0),
            written(16501),
            written(0),
            written(0),
        ]
        .concat();
        let blocks =
            [rows(8, &["1\n", "2", "\n\\", ".\n\n\n"]), objects, rows(7, &["1\ta\n2\t\\\\.\n3\t\n", "\\.\n\n\n"])];
        archive(version, &entries, &blocks)
    }

    #[test]
    fn rows_of_every_known_version_are_counted_however_they_come() {
        for version in KNOWN_VERSIONS {
            let facts = counted(&whole(version), false, "UTF8");
            let CountedTables(tables) = facts.get(ROWS_BY_TABLE).unwrap_or_else(|| panic!("{facts:?}"));
            let found: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
            assert_eq!(found, [("app.\"grün\"", 2), ("app.a", 3), (LARGE_OBJECTS, 2)], "{version}");
            assert_eq!(facts.get(fact::ROWS), Some(7));
        }
        // Nobody knows what a name beyond ASCII is in another encoding.
        let facts = counted(&whole(14), true, "LATIN1");
        let CountedTables(tables) = facts.get(ROWS_BY_TABLE).expect("counted");
        let found: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.digest.is_some())).collect();
        assert_eq!(found, [("app.a", true), (LARGE_OBJECTS, false)]);
        assert_eq!((facts.get(fact::ROWS), facts.get(fact::TABLES_UNLISTED)), (Some(7), Some(1)));
    }

    #[test]
    fn what_is_not_understood_is_not_counted() {
        let why = |archive: &[u8]| {
            let facts = counted(archive, false, "UTF8");
            assert!(!facts.has(ROWS_BY_TABLE), "{facts:?}");
            facts.text(ROWS_NOT_COUNTED).expect("a reason").to_owned()
        };
        let with = |at: usize, byte: u8| {
            let mut archive = whole(14);
            archive[at] = byte;
            archive
        };
        assert_eq!(why(&with(6, 17)), "archives of version 1.17 are not known");
        assert_eq!(why(&with(0, b'Q')), "this is no archive of pg_dump");
        assert_eq!(why(&with(10, 5)), "archives of version 1.14 are not known");
        assert_eq!(why(&with(12, 6)), "the archive is compressed");
        let whole = whole(14);
        for length in (1..whole.len() - 1).step_by(3) {
            why(&whole[..length]);
        }
        let table = entry(14, (7, true), "TABLE DATA", "app", "a", "COPY app.a (x) FROM stdin;\n");
        // Rows that go into the table above are counted, of none that is known.
        let through = entry(14, (7, true), "TABLE DATA", "app", "a", "COPY app.b (x) FROM stdin;\n");
        let facts = counted(&archive(14, &[through], &[rows(7, &["1\n\\.\n\n\n"])]), true, "UTF8");
        assert_eq!((facts.get(fact::ROWS), facts.get(fact::TABLES_UNLISTED)), (Some(1), Some(1)));
        for blocks in [vec![rows(6, &["\\.\n\n\n"])], vec![rows(7, &["1\n"])], vec![vec![9, 9]], vec![]] {
            why(&archive(14, std::slice::from_ref(&table), &blocks));
        }
        let other = entry(14, (7, true), "TABLE DATA", "app", "a", "INSERT");
        why(&archive(14, &[other], &[rows(7, &["1\n\\.\n\n\n"])]));
    }
}
