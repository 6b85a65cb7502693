//! Whether a database has the rows of the dump that it was restored from.
//!
//! A difference is told when it is certain, and nothing is called the same that was not looked at: what is neither is not compared, with the
//! reason.

use std::cmp::Reverse;

use crate::engine::plan::{DatabasePlan, StreamKind};
use crate::engine::tally::{CountedTable, CountedTables, ROWS_BY_TABLE, ROWS_DIGESTED, ROWS_NOT_COUNTED, RowsDigest};
use crate::model::facts::fact;

/// What a dump says of its rows.
#[derive(Debug, Clone, Default)]
pub struct DumpedRows {
    /// Its tables.
    pub tables: Vec<CountedTable>,
    /// There are digests that can be compared.
    pub are_digested: bool,
    /// What it has that cannot be compared, and why.
    not_compared: Vec<String>,
}

impl DumpedRows {
    /// Takes it from the facts of all streams of a database; none where nobody tried to count rows. `scheme` says which digests are
    /// understood.
    pub fn of(plan: &DatabasePlan, scheme: &str) -> Option<Self> {
        let mut dumped = Self { are_digested: true, ..Self::default() };
        let (mut unlisted, mut other_scheme) = (0, None);
        for stream in plan.streams.iter().filter(|stream| stream.kind != StreamKind::Globals) {
            let Some(CountedTables(tables)) = stream.facts.get(ROWS_BY_TABLE) else {
                let why = stream.facts.text(ROWS_NOT_COUNTED)?;
                dumped.not_compared.push(format!("{} (its rows were not counted: {why})", stream.path));
                continue;
            };
            let digested = stream.facts.text(ROWS_DIGESTED);
            dumped.are_digested &= digested == Some(scheme);
            other_scheme = other_scheme.or(digested.filter(|it| *it != scheme));
            unlisted += stream.facts.get(fact::TABLES_UNLISTED).unwrap_or(0);
            dumped.tables.extend(tables);
        }
        // There is nothing to be read for nothing.
        dumped.are_digested &= !dumped.tables.is_empty();
        if let Some(other) = other_scheme {
            let why = format!("digests (made otherwise, as {other:?}, by another version of this program)");
            dumped.not_compared.push(why);
        }
        if unlisted > 0 {
            dumped.not_compared.push(format!("{unlisted} other tables (too many, or not kept by name)"));
        }
        Some(dumped)
    }

    /// Leaves only these.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.tables.retain(|table| is_wanted(&table.name));
    }
}

/// A table where it was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundTable {
    /// It has so many rows, and what they are where that was asked.
    Rows(u64, Option<RowsDigest>),
    /// There is none of this name.
    Missing,
    /// It is not known, for this reason.
    Unknown(String),
}

/// What became of the rows of a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsComparison {
    /// Tables that have the rows of the dump.
    pub same_tables: u64,
    /// Rows of these.
    pub same_rows: u64,
    /// Those of them whose rows are the same ones by their digest; of the others it is known how many they have.
    pub digested_tables: u64,
    /// Tables that have others, those that differ most in front.
    pub differing: Vec<DifferingTable>,
    /// What was not compared, each with the reason.
    pub not_compared: Vec<String>,
}

/// A table that has other rows than the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingTable {
    /// Its name.
    pub name: String,
    /// Rows of the dump.
    pub dumped: u64,
    /// Rows that it has; none where there is no such table. As many as were dumped, where they are other ones.
    pub restored: Option<u64>,
}

impl DifferingTable {
    /// Tells whether there are as many rows, and others.
    pub fn has_other_rows(&self) -> bool {
        self.restored == Some(self.dumped)
    }

    /// Tells whether rows are missing.
    pub fn has_fewer_rows(&self) -> bool {
        self.restored.is_none_or(|restored| restored < self.dumped)
    }
}

impl std::fmt::Display for DifferingTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, dumped, restored } = self;
        let rows = if *dumped == 1 { "row" } else { "rows" };
        match restored {
            None => write!(f, "{name} (dumped with {dumped} {rows}, and not there)"),
            Some(_) if self.has_other_rows() => write!(f, "{name} (as many, {dumped}, and other {rows})"),
            Some(restored) => write!(f, "{name} ({dumped} {rows} dumped, {restored} there)"),
        }
    }
}

impl RowsComparison {
    /// Compares what was dumped with what `look` finds.
    pub fn of(dumped: DumpedRows, look: impl Fn(&str) -> FoundTable) -> Self {
        let mut compared = Self { not_compared: dumped.not_compared, ..Self::default() };
        for table in dumped.tables {
            let digest = table.digest.filter(|_| dumped.are_digested);
            let differing = |restored| DifferingTable { name: table.name.clone(), dumped: table.rows, restored };
            match look(&table.name) {
                FoundTable::Missing => compared.differing.push(differing(None)),
                FoundTable::Unknown(why) => compared.not_compared.push(format!("{} ({why})", table.name)),
                FoundTable::Rows(rows, _) if rows != table.rows => compared.differing.push(differing(Some(rows))),
                FoundTable::Rows(rows, found) => {
                    let (same, why) = match (digest, found) {
                        (None, _) => (true, None),
                        (Some(_), None) => (false, Some("its rows were counted alone")),
                        (Some(dumped), Some(found)) if dumped.columns != found.columns => {
                            (false, Some("it has as many rows; its columns are others, or in another order"))
                        }
                        (Some(dumped), Some(found)) => (dumped.sum == found.sum, None),
                    };
                    match (same, why) {
                        (_, Some(why)) => compared.not_compared.push(format!("{} ({why})", table.name)),
                        (false, None) => compared.differing.push(differing(Some(rows))),
                        (true, None) => {
                            compared.same_tables += 1;
                            compared.same_rows += rows;
                            compared.digested_tables += u64::from(digest.is_some());
                        }
                    }
                }
            }
        }
        // What is missing altogether counts as one row at least.
        let most = |it: &DifferingTable| it.restored.map_or(it.dumped.max(1), |rows| rows.abs_diff(it.dumped));
        compared.differing.sort_by_key(|it| (Reverse(most(it)), it.name.clone()));
        compared
    }

    /// Says that nothing could be compared, and why.
    pub fn failed(why: impl std::fmt::Display) -> Self {
        Self { not_compared: vec![format!("all tables ({why})")], ..Self::default() }
    }

    /// Tells whether something was looked at, and nothing differs.
    pub fn is_same(&self) -> bool {
        self.differing.is_empty() && self.same_tables > 0
    }

    /// Takes a difference for what it is not certain to be, where `why` says so.
    pub fn excuse(&mut self, why: impl Fn(&DifferingTable) -> Option<String>) {
        let excused = |table: &DifferingTable| why(table).map(|why| format!("{table}: {why}"));
        let not_compared = &mut self.not_compared;
        self.differing.retain(|table| match excused(table) {
            Some(why) => {
                not_compared.push(why);
                false
            }
            None => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::StreamToRestore;
    use crate::engine::tally::RowTally;
    use crate::model::facts::StreamFacts;
    use crate::model::path::EntryPath;

    fn table(name: &str, rows: u64, digest: Option<(u128, u32)>) -> CountedTable {
        let digest = digest.map(|(sum, columns)| RowsDigest { sum, columns });
        CountedTable { name: name.to_owned(), rows, digest }
    }

    fn dumped(tables: &[CountedTable], are_digested: bool) -> DumpedRows {
        DumpedRows { tables: tables.to_vec(), are_digested, not_compared: Vec::new() }
    }

    #[test]
    fn each_table_is_the_same_or_differs_or_is_not_compared() {
        let digest = |sum, columns| Some(RowsDigest { sum, columns });
        let (same, differs, unknown) = (|it: &RowsComparison| it.same_tables == 1, true, false);
        type Case = (Option<(u128, u32)>, FoundTable, Option<bool>);
        let cases: [Case; 9] = [
            (None, FoundTable::Rows(5, None), None),
            (None, FoundTable::Rows(4, None), Some(differs)),
            (None, FoundTable::Missing, Some(differs)),
            (None, FoundTable::Unknown("why".into()), Some(unknown)),
            (Some((7, 1)), FoundTable::Rows(5, digest(7, 1)), None),
            (Some((7, 1)), FoundTable::Rows(5, digest(8, 1)), Some(differs)),
            (Some((7, 1)), FoundTable::Rows(5, digest(8, 2)), Some(unknown)),
            (Some((7, 1)), FoundTable::Rows(5, None), Some(unknown)),
            // That rows are missing is certain, whatever else is not.
            (Some((7, 1)), FoundTable::Rows(4, digest(8, 2)), Some(differs)),
        ];
        for (kept, found, expected) in cases {
            let compared = RowsComparison::of(dumped(&[table("t", 5, kept)], true), |_| found.clone());
            assert_eq!(same(&compared), expected.is_none(), "{found:?}");
            assert_eq!(compared.differing.len(), usize::from(expected == Some(differs)), "{found:?}");
            assert_eq!(compared.not_compared.len(), usize::from(expected == Some(unknown)), "{found:?}");
            assert_eq!(
                (compared.is_same(), compared.digested_tables > 0),
                (expected.is_none(), expected.is_none() && kept.is_some())
            );
        }
        // Digests of another kind are not looked at.
        let compared = RowsComparison::of(dumped(&[table("t", 5, Some((7, 1)))], false), |_| FoundTable::Rows(5, None));
        assert!(compared.is_same() && compared.digested_tables == 0);
        assert!(!RowsComparison::failed("why").is_same() && !RowsComparison::default().is_same());
    }

    #[test]
    fn the_largest_difference_comes_first_and_what_is_not_certain_is_none() {
        let tables = [table("a", 5, Some((1, 0))), table("b", 5, None), table("c", 0, None), table("d", 9, None)];
        let look = |name: &str| match name {
            "a" => FoundTable::Rows(5, Some(RowsDigest { sum: 2, columns: 0 })),
            "b" => FoundTable::Rows(7, None),
            "c" => FoundTable::Missing,
            _ => FoundTable::Rows(0, None),
        };
        let mut compared = RowsComparison::of(dumped(&tables, true), look);
        let told: Vec<String> = compared.differing.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "d (9 rows dumped, 0 there)",
                "b (5 rows dumped, 7 there)",
                "c (dumped with 0 rows, and not there)",
                "a (as many, 5, and other rows)"
            ]
        );
        let fewer: Vec<bool> = compared.differing.iter().map(DifferingTable::has_fewer_rows).collect();
        assert_eq!(fewer, [true, false, true, false]);
        compared.excuse(|table| table.has_other_rows().then(|| "another version".to_owned()));
        assert_eq!(compared.not_compared, ["a (as many, 5, and other rows): another version"]);
        assert_eq!(compared.differing.len(), 3);
    }

    #[test]
    fn rows_of_all_streams_of_a_database_are_taken_from_their_facts() {
        let stream = |kind, names: &[&str], scheme: Option<&str>| {
            let mut tally = RowTally::new(scheme.is_some());
            for name in names {
                tally.enter((!name.is_empty()).then(|| (*name).to_owned()));
                tally.end_row(b"");
            }
            let mut facts = StreamFacts::default();
            tally.keep(scheme.unwrap_or_default(), &mut facts);
            StreamToRestore { path: EntryPath::new("x/y").expect("safe"), kind, bytes: 1, facts }
        };
        let plan = |streams: Vec<StreamToRestore>| DatabasePlan { streams, ..DatabasePlan::new("shop") };
        let (main, part) = (StreamKind::Database, StreamKind::Table);
        let split = plan(vec![stream(main, &["a", ""], Some("x 1")), stream(part, &["b"], Some("x 1"))]);
        let mut dumped = DumpedRows::of(&split, "x 1").expect("counted");
        assert_eq!(dumped.tables.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(dumped.are_digested && dumped.not_compared == ["1 other tables (too many, or not kept by name)"]);
        dumped.retain(|name| name == "b");
        assert_eq!(dumped.tables.len(), 1);
        let other = DumpedRows::of(&split, "x 2").expect("counted");
        assert!(!other.are_digested && other.not_compared[0].contains("as \"x 1\""), "{other:?}");
        assert!(!DumpedRows::of(&plan(vec![stream(main, &["a"], None)]), "x 1").expect("counted").are_digested);
        // What was not understood when it was dumped is told, and the rest is compared.
        let mut doubted = stream(part, &[], Some("x 1"));
        doubted.facts = StreamFacts::default();
        doubted.facts.set(ROWS_NOT_COUNTED, "why".to_owned());
        let some =
            DumpedRows::of(&plan(vec![stream(main, &["a"], Some("x 1")), doubted.clone()]), "x 1").expect("tried");
        assert!(some.are_digested && some.tables.len() == 1);
        assert_eq!(some.not_compared, ["x/y (its rows were not counted: why)"]);
        assert!(!DumpedRows::of(&plan(vec![doubted]), "x 1").expect("tried").are_digested);
        // Those of a dump from before rows were counted are not known.
        let old = StreamToRestore { facts: StreamFacts::default(), ..stream(part, &[], None) };
        assert!(DumpedRows::of(&plan(vec![stream(main, &["a"], None), old]), "x 1").is_none());
    }
}
