//! Tables that are left out of dumps, or whose rows are, by patterns of their names; and what becomes of what is nothing without them.

use serde::Deserialize;

use crate::database::chosen::{NamePatterns, SCHEMA_MARK};

/// Patterns of tables that are left out.
#[derive(Debug, Clone, Default)]
pub struct TableExclusions {
    /// Those that are not in the dump at all.
    pub tables: NamePatterns,
    /// Those whose rows are not.
    pub rows: NamePatterns,
}

/// A table or view that is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ExcludableTable {
    /// As the dump program wants it.
    pub quoted: String,
    /// What patterns are compared with: what it is called, and then what tables are called that it is a partition of; with
    /// [`SCHEMA_MARK`] behind the schema, where there are schemas.
    pub names: Vec<String>,
    /// The same for tables that it is nothing without: those that a view uses among them.
    pub without: Vec<String>,
}

/// What of a database is left out of its dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExcludedTables {
    /// Tables and views.
    pub tables: Vec<ExcludableTable>,
    /// Tables whose rows are.
    pub rows: Vec<ExcludableTable>,
}

impl ExcludableTable {
    /// Returns its name as people are told it.
    fn told(&self) -> String {
        self.names[0].replace(SCHEMA_MARK, ".")
    }
}

impl TableExclusions {
    /// Tells whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.rows.is_empty()
    }

    /// Takes those out that are left out.
    pub fn choose(&self, all: &[ExcludableTable]) -> ExcludedTables {
        let fit = |patterns: &NamePatterns, names: &[String]| names.iter().any(|name| patterns.fit(name));
        let (tables, others): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|it| fit(&self.tables, &it.without));
        let rows = others.into_iter().filter(|it| fit(&self.rows, &it.names)).collect();
        ExcludedTables { tables, rows }
    }

    /// Tells which patterns no table is like, of all that were asked for.
    pub fn like_nothing(&self, names: &[String]) -> Vec<String> {
        let names = names.iter().map(String::as_str);
        let idle = [&self.tables, &self.rows].map(|patterns| patterns.like_nothing(names.clone()));
        idle.concat().iter().map(|pattern| format!("no table has a name like {pattern}")).collect()
    }
}

impl ExcludedTables {
    /// Returns it as the facts of the dump tell it; nothing where nothing is left out.
    pub fn fact(&self) -> Option<String> {
        let tables = self.tables.iter().map(|table| format!("table {}", table.told()));
        let rows = self.rows.iter().map(|table| format!("rows of table {}", table.told()));
        let all: Vec<String> = tables.chain(rows).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Says it at the backup.
    pub fn note(&self, database: &str) -> Option<String> {
        self.fact().map(|what| format!("of database {database:?} is left out, as was asked for: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_left_out_with_what_is_nothing_without_them() {
        let table = |name: &str, part_of: &[&str], uses: &[&str]| {
            let names: Vec<String> = [&[name], part_of].concat().iter().map(|&name| name.to_owned()).collect();
            let without = [&names[..], &uses.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()].concat();
            ExcludableTable { quoted: format!("`{name}`"), names, without }
        };
        let all = [
            table("log", &[], &[]),
            table("seen", &[], &["log"]),
            table("log_1", &["log"], &[]),
            table("shop", &[], &[]),
        ];
        let patterns = |patterns: &[&str]| {
            NamePatterns::new(&patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>())
                .expect("patterns")
        };
        let exclusions =
            |tables: &[&str], rows: &[&str]| TableExclusions { tables: patterns(tables), rows: patterns(rows) };
        let fact = |tables: &[&str], rows: &[&str]| exclusions(tables, rows).choose(&all).fact().unwrap_or_default();
        assert_eq!(fact(&["log"], &["s*"]), "table log; table seen; table log_1; rows of table shop");
        // A view has no rows of its own, and is there without those of a table.
        assert_eq!(fact(&[], &["log"]), "rows of table log; rows of table log_1");
        assert_eq!(fact(&[], &[]), "");
        let names = ["log".to_owned()];
        assert_eq!(exclusions(&["lag"], &["log"]).like_nothing(&names), ["no table has a name like lag"]);
    }
}
