//! Tables of contents of archives: which entries belong to the tables that are wanted, and what these need.
//!
//! `pg_restore --table` knows no schemas and leaves out indexes, constraints, triggers and sequences. So entries are chosen here,
//! by what each depends on as `pg_restore --list --verbose` prints it, and given to `pg_restore --use-list`.

use std::collections::{BTreeMap, BTreeSet};

use crate::database::DatabaseError;
use crate::database::chosen::SCHEMA_MARK;
use crate::engine::parts::{DumpAspect, DumpParts};

/// Kinds of entries that are tables to whoever asks for one.
const TABLES: [&str; 5] = ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"];
/// Kinds of entries with rows, or what is as good as rows.
const ROWS: [&str; 3] = ["TABLE DATA", SEQUENCE_SET, "MATERIALIZED VIEW DATA"];
/// The kind of what sets a sequence to where it was. No transaction takes that back.
const SEQUENCE_SET: &str = "SEQUENCE SET";
/// Kinds of entries that a table may lack though it was asked for, as something else is missing.
const MAY_LACK: [&str; 5] = ["TABLE ATTACH", "FK CONSTRAINT", "RULE", "POLICY", "TRIGGER"];
/// Kinds of entries that belong to the table which they depend on. Longer ones come before those that they begin with.
const BELONGING: [&str; 19] = [
    "TABLE ATTACH",
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
    "SEQUENCE OWNED BY",
    SEQUENCE_SET,
    "SEQUENCE",
    "FK CONSTRAINT",
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "INDEX ATTACH",
    "INDEX",
    "DEFAULT",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "STATISTICS",
    "COMMENT",
    "ACL",
];
/// Other kinds whose names have several words.
const LONG_KINDS: [&str; 12] = [
    "DATABASE PROPERTIES",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "MATERIALIZED VIEW",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PUBLICATION TABLE",
    "SECURITY LABEL",
    "TEXT SEARCH CONFIGURATION",
    "USER MAPPING",
];

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TocEntry {
    id: u32,
    kind: String,
    schema: String,
    /// Its name; for what is on a table mostly that one's, a space, and its own.
    tag: String,
    needs: Vec<u32>,
}

/// What was chosen of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChosenEntries {
    /// The entries, as `pg_restore --use-list` wants them.
    pub list: String,
    /// The tables, by schema and name.
    pub tables: Vec<(String, String)>,
    /// What is made besides, because they need it.
    pub needed: Vec<String>,
    /// What was not chosen; first what the tables lack.
    pub left_out: Vec<String>,
}

/// Chooses among the entries of a table of contents. `owners` are the names of roles that may own something.
///
/// # Errors
/// [`DatabaseError::NoTable`], and [`DatabaseError::NoRows`] where nothing is left to be restored.
pub fn choose(
    listing: &str,
    database: &str,
    parts: &DumpParts,
    owners: &[String],
) -> Result<ChosenEntries, DatabaseError> {
    let entries = parse(listing, owners);
    let tables = || entries.iter().filter(|entry| entry.is_table());
    let names: Vec<String> = tables().map(TocEntry::marked_name).collect();
    let shown: Vec<String> = tables().filter(|entry| entry.kind != "SEQUENCE").map(TocEntry::name).collect();
    parts.check(database, names.iter().map(String::as_str), &shown)?;
    let asked = tables().filter(|entry| parts.tables.fit(&entry.marked_name())).map(|entry| entry.id).collect();
    let mut chosen = with_what_belongs(&entries, asked, parts.into_existing);
    let needed = if parts.into_existing { BTreeSet::new() } else { needs(&entries, &chosen) };
    chosen.extend(&needed);
    let of =
        |is_in: &dyn Fn(&TocEntry) -> bool| entries.iter().filter(|entry| is_in(entry)).cloned().collect::<Vec<_>>();
    let is_listed = |entry: &TocEntry| chosen.contains(&entry.id) && !entry.is_left_away(parts.aspect);
    let list: String = of(&is_listed).iter().map(|entry| format!("{};\n", entry.id)).collect();
    if list.is_empty() {
        return Err(DatabaseError::NoRows { database: database.to_owned() });
    }
    let is_new = |entry: &TocEntry| needed.contains(&entry.id) && !BELONGING.contains(&entry.kind.as_str());
    let is_other = |entry: &TocEntry| !chosen.contains(&entry.id) && entry.counts(&entries, &chosen);
    let tables =
        of(&|entry| entry.is_table() && entry.kind != "SEQUENCE" && chosen.contains(&entry.id) && !is_new(entry));
    let mut left_out = of(&is_other);
    left_out.sort_by_key(|entry| !MAY_LACK.contains(&entry.kind.as_str()));
    Ok(ChosenEntries {
        list,
        tables: tables.into_iter().map(|entry| (entry.schema, entry.tag)).collect(),
        needed: of(&is_new).iter().map(TocEntry::told).collect(),
        left_out: left_out.iter().map(TocEntry::told).collect(),
    })
}

/// Adds partitions of the tables, and what belongs to them and to no other.
fn with_what_belongs(entries: &[TocEntry], asked: BTreeSet<u32>, into_existing: bool) -> BTreeSet<u32> {
    let by_id: BTreeMap<u32, &TocEntry> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let is_table = |id: &u32| by_id.get(id).is_some_and(|entry| entry.is_table() && entry.kind != "SEQUENCE");
    let mut chosen = asked;
    loop {
        let before = chosen.len();
        for entry in entries {
            let tables: Vec<u32> = entry.needs.iter().copied().filter(|id| is_table(id)).collect();
            if entry.kind == "TABLE ATTACH" && tables.iter().any(|id| chosen.contains(id) && !entry.is_of(by_id[id])) {
                chosen.extend(tables.iter().filter(|id| entry.is_of(by_id[*id])));
            }
            let belongs = BELONGING.contains(&entry.kind.as_str()) && entry.needs.iter().any(|id| chosen.contains(id));
            // In a database that is there, the other table of a foreign key is there as well.
            let is_alone = tables.iter().all(|id| {
                chosen.contains(id) || into_existing && entry.kind == "FK CONSTRAINT" && !entry.is_of(by_id[id])
            });
            if belongs && is_alone {
                chosen.insert(entry.id);
            }
        }
        if chosen.len() == before {
            return chosen;
        }
    }
}

/// Returns what entries need and do not have, with what is said of it.
fn needs(entries: &[TocEntry], chosen: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut needed = BTreeSet::new();
    loop {
        let has = |id: &u32, needed: &BTreeSet<u32>| chosen.contains(id) || needed.contains(id);
        let more: Vec<u32> = entries
            .iter()
            .flat_map(|entry| match has(&entry.id, &needed) {
                true => entry.needs.clone(),
                false if entry.needs.iter().any(|id| needed.contains(id)) && entry.is_said_of() => vec![entry.id],
                false => Vec::new(),
            })
            .filter(|id| !has(id, &needed) && entries.iter().any(|entry| entry.id == *id && !entry.has_data()))
            .collect();
        if more.is_empty() {
            return needed;
        }
        needed.extend(more);
    }
}

impl TocEntry {
    fn is_table(&self) -> bool {
        TABLES.contains(&self.kind.as_str())
    }

    /// Tells whether it has to do with what is not wanted of tables.
    fn is_left_away(&self, aspect: DumpAspect) -> bool {
        let is_rows = ROWS.contains(&self.kind.as_str());
        match aspect {
            DumpAspect::Whole => false,
            DumpAspect::Schema => is_rows,
            // A sequence that is there may be far beyond where it was.
            DumpAspect::Rows => !is_rows || self.kind == SEQUENCE_SET,
        }
    }

    fn has_data(&self) -> bool {
        self.kind.ends_with(" DATA")
    }

    /// Tells whether it says more of what another entry makes: who may use it, and where a sequence is.
    fn is_said_of(&self) -> bool {
        ["ACL", "COMMENT", SEQUENCE_SET].contains(&self.kind.as_str())
    }

    /// Tells whether it is named after a table: `orders orders_pkey` is after `orders`.
    fn is_of(&self, table: &TocEntry) -> bool {
        self.schema == table.schema
            && self.tag.strip_prefix(&table.tag).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }

    fn name(&self) -> String {
        format!("{}.{}", self.schema, self.tag)
    }

    /// Returns its name as patterns are compared with it.
    fn marked_name(&self) -> String {
        format!("{}{SCHEMA_MARK}{}", self.schema, self.tag)
    }

    fn told(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.schema == "-" { format!("{kind} {}", self.tag) } else { format!("{kind} {}", self.name()) }
    }

    /// Tells whether whoever is told what was not chosen wants to hear of it: of a table that was not chosen itself alone, and which of
    /// its foreign keys need a table that was; of others all.
    fn counts(&self, entries: &[TocEntry], chosen: &BTreeSet<u32>) -> bool {
        const NEVER: [&str; 5] = ["ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES"];
        let is_on_chosen = || {
            let owner =
                entries.iter().find(|table| table.is_table() && self.needs.contains(&table.id) && self.is_of(table));
            owner.is_some_and(|table| chosen.contains(&table.id))
        };
        match self.kind.as_str() {
            kind if NEVER.contains(&kind) => false,
            "FK CONSTRAINT" => self.needs.iter().any(|id| chosen.contains(id)),
            kind if MAY_LACK.contains(&kind) => is_on_chosen(),
            "SEQUENCE" => self.needs.iter().all(|id| !entries.iter().any(|entry| entry.id == *id && entry.is_table())),
            kind => !BELONGING.contains(&kind),
        }
    }
}

/// Reads a table of contents: `218; 1259 16400 TABLE app orders joe`, and below it what the entry depends on.
fn parse(listing: &str, owners: &[String]) -> Vec<TocEntry> {
    let mut entries: Vec<TocEntry> = Vec::new();
    let mut schemas: Vec<String> = Vec::new();
    for line in listing.lines() {
        if let Some(needs) = line.strip_prefix(";\tdepends on:") {
            if let Some(entry) = entries.last_mut() {
                entry.needs = needs.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            }
            continue;
        }
        let Some((id, what)) = line.split_once("; ").filter(|_| !line.starts_with(';')) else { continue };
        let (Ok(id), Some(what)) = (id.parse(), what.splitn(3, ' ').nth(2)) else { continue };
        let (kind, rest) = kind_of(what);
        let rest = without_owner(rest, owners);
        let known =
            schemas.iter().filter(|name| rest.strip_prefix(name.as_str()).is_some_and(|it| it.starts_with(' ')));
        let schema = known.max_by_key(|name| name.len()).map_or_else(|| first_word(rest), String::as_str);
        let tag = rest[schema.len()..].strip_prefix(' ').unwrap_or_default();
        let (kind, schema, tag) = (kind.to_owned(), schema.to_owned(), tag.to_owned());
        if kind == "SCHEMA" {
            schemas.push(tag.clone());
        }
        entries.push(TocEntry { id, kind, schema, tag, needs: Vec::new() });
    }
    entries
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

/// Splits the kind of an entry off.
fn kind_of(what: &str) -> (&str, &str) {
    let all = BELONGING.iter().chain(&LONG_KINDS);
    let known = all.filter_map(|kind| what.strip_prefix(kind)?.strip_prefix(' ').map(|rest| (*kind, rest)));
    let longest = known.max_by_key(|(kind, _)| kind.len());
    longest.unwrap_or_else(|| what.split_once(' ').unwrap_or((what, "")))
}

/// Cuts the owner off, which stands last and may have spaces.
fn without_owner<'a>(text: &'a str, owners: &[String]) -> &'a str {
    let known = owners.iter().filter_map(|owner| text.strip_suffix(owner.as_str())?.strip_suffix(' '));
    known.min_by_key(|rest| rest.len()).unwrap_or_else(|| text.rsplit_once(' ').map_or(text, |(rest, _)| rest))
}

/// Reads names that are quoted as SQL wants them: `"My shop".t` is `My shop` and `t`.
pub fn unquoted(text: &str) -> Vec<String> {
    let (mut names, mut is_quoted) = (vec![String::new()], false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let name = names.last_mut().expect("there is one from the beginning");
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => name.push('"'),
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => names.push(String::new()),
            c => name.push(c),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::chosen::NamePatterns;

    const LISTING: &str = ";\n; Archive created at 2026\n3417; 0 0 ENCODING - ENCODING \n\
        6; 2615 16385 SCHEMA - app postgres\n7; 2615 1 SCHEMA - my app the owner\n850; 1247 16387 TYPE app mood postgres\n;\tdepends on: 6\n\
        227; 1255 16419 FUNCTION public f() postgres\n\
        216; 1259 16393 TABLE app customers postgres\n;\tdepends on: 6 850\n\
        215; 1259 16392 SEQUENCE app customers_id_seq postgres\n;\tdepends on: 6 216\n\
        3421; 0 0 SEQUENCE OWNED BY app customers_id_seq postgres\n;\tdepends on: 215\n\
        218; 1259 16400 TABLE app orders postgres\n;\tdepends on: 6\n\
        219; 1259 1 TABLE my app odd table the owner\n;\tdepends on: 7\n\
        220; 1259 16421 VIEW public v postgres\n;\tdepends on: 218\n\
        222; 1259 1 TABLE public parted postgres\n223; 1259 1 TABLE public parted_1 postgres\n;\tdepends on: 222\n\
        3236; 0 0 TABLE ATTACH public parted_1 postgres\n;\tdepends on: 223 222\n\
        224; 1259 1 TABLE public kid postgres\n;\tdepends on: 850 216\n\
        3237; 2604 1 DEFAULT app customers id postgres\n;\tdepends on: 215 216 216\n\
        3239; 2604 1 DEFAULT public kid id postgres\n;\tdepends on: 224 215\n\
        3406; 0 1 TABLE DATA app customers postgres\n;\tdepends on: 216\n\
        3408; 0 1 TABLE DATA app orders postgres\n;\tdepends on: 218\n\
        3411; 0 1 TABLE DATA public parted_1 postgres\n;\tdepends on: 223\n\
        3425; 0 0 SEQUENCE SET app customers_id_seq postgres\n;\tdepends on: 215\n\
        3243; 2606 1 CONSTRAINT app customers customers_pkey postgres\n;\tdepends on: 216\n\
        3244; 1259 1 INDEX app orders_n_idx postgres\n;\tdepends on: 218\n\
        3257; 2620 1 TRIGGER app orders tr postgres\n;\tdepends on: 218 227\n\
        3256; 2606 1 FK CONSTRAINT app orders orders_c_fkey postgres\n;\tdepends on: 216 3243 218\n";

    fn chosen(patterns: &[&str], aspect: DumpAspect, into_existing: bool) -> Result<ChosenEntries, DatabaseError> {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let parts = DumpParts { tables: NamePatterns::new(&patterns).expect("patterns"), aspect, into_existing };
        choose(LISTING, "shop", &parts, &["postgres".into(), "the owner".into()])
    }

    fn ids(patterns: &[&str], aspect: DumpAspect, into_existing: bool) -> Vec<u32> {
        let chosen = chosen(patterns, aspect, into_existing).expect("there");
        chosen.list.lines().filter_map(|line| line.trim_end_matches(';').parse().ok()).collect()
    }

    #[test]
    fn a_table_comes_with_what_belongs_to_it_and_what_it_needs() {
        assert_eq!(ids(&["customers"], DumpAspect::Whole, false), [6, 850, 216, 215, 3421, 3237, 3406, 3425, 3243]);
        // Sequences that are there are not set.
        assert_eq!(ids(&["customers"], DumpAspect::Rows, true), [3406]);
        assert_eq!(ids(&["customers"], DumpAspect::Schema, false), [6, 850, 216, 215, 3421, 3237, 3243]);
        let orders = chosen(&["app.orders"], DumpAspect::Whole, false).expect("there");
        assert_eq!(orders.tables, [("app".to_owned(), "orders".to_owned())]);
        assert_eq!(orders.needed, ["schema app", "function public.f()"]);
        assert!(orders.left_out.contains(&"fk constraint app.orders orders_c_fkey".to_owned()), "{orders:?}");
        assert!(orders.left_out.contains(&"table app.customers".to_owned()), "{orders:?}");
        assert!(orders.left_out.contains(&"view public.v".to_owned()), "{orders:?}");
        // The other table of a foreign key is there already.
        assert_eq!(ids(&["orders"], DumpAspect::Whole, true), [218, 3408, 3244, 3257, 3256]);
        assert_eq!(ids(&["parted"], DumpAspect::Whole, false), [222, 223, 3236, 3411]);
    }

    #[test]
    fn what_tables_lack_is_told_first() {
        let first =
            |pattern: &str| chosen(&[pattern], DumpAspect::Whole, false).expect("there").left_out.swap_remove(0);
        assert_eq!(first("customers"), "fk constraint app.orders orders_c_fkey");
        assert_eq!(first("orders"), "fk constraint app.orders orders_c_fkey");
        assert_eq!(first("parted_1"), "table attach public.parted_1");
    }

    #[test]
    fn a_view_has_no_rows() {
        let error = chosen(&["v"], DumpAspect::Rows, true).expect_err("a view").to_string();
        assert_eq!(error, "the dump of shop has no rows of what was asked for");
    }

    #[test]
    fn names_may_have_spaces_and_patterns_schemas() {
        assert_eq!(ids(&["my app.odd*"], DumpAspect::Whole, false), [7, 219]);
        assert_eq!(ids(&["odd table"], DumpAspect::Whole, true), [219]);
        let error = chosen(&["order"], DumpAspect::Whole, false).expect_err("missing").to_string();
        assert!(error.contains("no table like order; it has app.customers, app.orders, my app.odd table"), "{error}");
    }

    #[test]
    fn quoted_names_are_read() {
        assert_eq!(unquoted(r#""My ""x"".".t"#), [r#"My "x"."#, "t"]);
        assert_eq!(unquoted("app.orders"), ["app", "orders"]);
    }
}
