//! Tablespaces: which of those that a database was in the server lacks, and what that means for what is in them.

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts::{self, PostgresFormat};
use crate::engine::postgres::restore::PostgresRun;
use crate::engine::postgres::server::{Postgres, identifier, literal};

/// What is said of tablespaces that a server lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingTablespaces {
    /// What was in them gets elsewhere.
    Note(String),
    /// What was in them keeps the rest from being restored.
    Obstacle(String),
}

/// Asks the server for the tablespaces of a database, and tells which are not there.
///
/// # Errors
/// [`DatabaseError`].
pub fn look(server: &Postgres, database: &DatabasePlan) -> Result<Option<MissingTablespaces>, DatabaseError> {
    let JsonList(of_tables) = database.fact(facts::TABLESPACES).unwrap_or_default();
    let mut used = of_tables.clone();
    // One that is there has its own.
    used.extend(database.fact(facts::TABLESPACE).filter(|name| !database.is_added_to && !of_tables.contains(name)));
    let missing = if used.is_empty() { used } else { server.missing_tablespaces(&used)? };
    Ok(told(database, &missing, &of_tables))
}

/// Says what becomes of what was in tablespaces that are missing.
fn told(database: &DatabasePlan, missing: &[String], of_tables: &[String]) -> Option<MissingTablespaces> {
    if missing.is_empty() {
        return None;
    }
    let name = &database.name;
    let lacks = format!("the server has no tablespace {}, which {name} uses", missing.join(", "));
    let is_of_tables = missing.iter().any(|tablespace| of_tables.contains(tablespace));
    let is_plain = database.fact(facts::FORMAT) == Some(PostgresFormat::Plain);
    Some(match (is_of_tables, is_plain, database.is_added_to) {
        (true, true, _) => MissingTablespaces::Obstacle(format!(
            "{lacks}, and a dump of SQL (--postgres-plain) ends there: make it first (CREATE TABLESPACE)"
        )),
        (true, _, true) => MissingTablespaces::Note(format!(
            "{lacks}: if a table was in it, nothing is restored; make it first, or add --no-tablespaces"
        )),
        _ => MissingTablespaces::Note(format!(
            "{lacks}: what was in it gets into the usual one, and that is told as what failed, with exit code 3; make it \
             first, or add --no-tablespaces"
        )),
    })
}

impl Postgres {
    /// Returns those of these tablespaces that are not there.
    fn missing_tablespaces(&self, names: &[String]) -> Result<Vec<String>, DatabaseError> {
        let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
        let sql = format!(
            "SELECT coalesce(json_agg(name), '[]') FROM unnest(ARRAY[{}]::text[]) name
             WHERE NOT EXISTS (SELECT FROM pg_tablespace WHERE spcname = name)",
            names.join(", ")
        );
        self.ask(self.maintenance_database(), "asked for tablespaces", &sql)
    }
}

impl PostgresRun<'_> {
    /// Returns the clause for the tablespace that the database was in, if that is wanted and there is one of this name.
    pub(super) async fn tablespace(&self) -> Result<String, DatabaseError> {
        let named = self.plan.fact(facts::TABLESPACE);
        let Some(name) = named.filter(|_| !self.restoring.wishes.adaptations.no_tablespaces) else {
            return Ok(String::new());
        };
        let (server, asked) = (self.server.clone(), vec![name.clone()]);
        if blocking(move || server.missing_tablespaces(&asked)).await?.is_empty() {
            return Ok(format!(" TABLESPACE {}", identifier(&name)));
        }
        self.restoring.problem(format!("there is no tablespace {name}, in which it was; it is in the usual one"));
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::{StreamKind, StreamToRestore};
    use crate::model::facts::StreamFacts;
    use crate::model::path::EntryPath;

    fn told_of(missing: &[&str], format: PostgresFormat, is_added_to: bool) -> Option<MissingTablespaces> {
        let mut facts = StreamFacts::default();
        facts.set(facts::FORMAT, format);
        let path = EntryPath::new("postgres/shop.dump").expect("safe");
        let stream = StreamToRestore { path, kind: StreamKind::Database, bytes: 100, facts };
        let database = DatabasePlan { streams: vec![stream], is_added_to, ..DatabasePlan::new("shop") };
        let missing: Vec<String> = missing.iter().map(|&name| name.to_owned()).collect();
        told(&database, &missing, &["fast".to_owned()])
    }

    #[test]
    fn only_a_dump_of_sql_cannot_do_without_the_tablespaces_of_its_tables() {
        let is_obstacle = |missing: &[&str], format| match told_of(missing, format, false).expect("told") {
            MissingTablespaces::Obstacle(_) => true,
            MissingTablespaces::Note(note) => !note.contains("--no-tablespaces"),
        };
        assert!(is_obstacle(&["slow", "fast"], PostgresFormat::Plain));
        assert!(!is_obstacle(&["slow"], PostgresFormat::Plain));
        assert!(!is_obstacle(&["slow", "fast"], PostgresFormat::Custom));
        let beside = told_of(&["fast"], PostgresFormat::Custom, true);
        assert!(matches!(beside, Some(MissingTablespaces::Note(note)) if note.contains("nothing is restored")));
        assert_eq!(told_of(&[], PostgresFormat::Plain, false), None);
    }
}
