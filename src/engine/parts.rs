//! Parts of a database: which tables of a dump are restored, whether as they are made, with their rows or both, and whether into
//! a database that is there.

use crate::database::DatabaseError;
use crate::database::chosen::NamePatterns;

/// Which parts of a database are restored.
#[derive(Debug, Clone, Default)]
pub struct DumpParts {
    /// Tables with names like these, and what belongs to them; everything when there is none.
    pub tables: NamePatterns,
    /// What of them.
    pub aspect: DumpAspect,
    /// They go into a database that is there, beside what it has.
    pub into_existing: bool,
}

/// What of tables, or of all there is, is restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DumpAspect {
    /// How they are made, and their rows.
    #[default]
    Whole,
    /// How they are made.
    Schema,
    /// Their rows.
    Rows,
}

/// So many names are written into a message.
const NAMED: usize = 40;

impl DumpParts {
    /// Tells whether all of a dump is meant.
    pub fn are_all(&self) -> bool {
        self.tables.is_empty() && self.aspect == DumpAspect::Whole
    }

    /// Refuses to restore into the existing database `name` of a server when there are tables `amiss`: not there although they are to
    /// get rows, or there although they are to be made.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`], which says what can be done instead.
    pub fn refuse(&self, server: String, name: &str, amiss: &[String]) -> Result<(), DatabaseError> {
        if amiss.is_empty() {
            return Ok(());
        }
        let tables = some_names(amiss);
        let why = match self.aspect == DumpAspect::Rows {
            true => {
                format!("{name} has no {tables} for the rows: restore how they are made as well, without --data-only")
            }
            false => format!(
                "{name} has {tables} already: rename or drop what is there, add rows alone by --data-only, or restore into \
                 another database by --database OLD=NEW"
            ),
        };
        Err(DatabaseError::Refused { server, why })
    }

    /// Makes sure that each pattern has a table. `names` are those of all tables in the dump, in each form that a pattern may have.
    ///
    /// # Errors
    /// [`DatabaseError::NoTable`], which names what there is.
    pub fn check<'a>(
        &self,
        database: &str,
        names: impl IntoIterator<Item = &'a str> + Clone,
        shown: &[String],
    ) -> Result<(), DatabaseError> {
        let missing = self.tables.like_nothing(names);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(DatabaseError::NoTable {
                database: database.to_owned(),
                patterns: missing,
                there: some_names(shown),
            }),
        }
    }
}

/// Writes names into one text, of very many the first and how many more there are.
pub fn some_names(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let named = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_not_there_is_told_with_those_that_are() {
        let parts = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            DumpParts { tables: NamePatterns::new(&patterns).expect("patterns"), ..DumpParts::default() }
        };
        let there = ["a".to_owned(), "b".to_owned()];
        let check = |patterns: &[&str]| parts(patterns).check("shop", there.iter().map(String::as_str), &there);
        assert!(check(&[]).is_ok() && check(&["a", "?"]).is_ok());
        let error = check(&["a", "c*", "d"]).expect_err("missing").to_string();
        assert_eq!(error, "the dump of shop has no table like c*, d; it has a, b");
        assert!(parts(&[]).are_all() && !parts(&["a"]).are_all());
    }

    #[test]
    fn very_many_names_are_cut() {
        let names: Vec<String> = (0..50).map(|n| format!("t{n}")).collect();
        assert!(some_names(&names).ends_with("t39 and 10 more"));
        assert_eq!(some_names(&names[..2]), "t0, t1");
    }
}
