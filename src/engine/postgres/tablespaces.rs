//! Tablespaces: which of those that a database was in the server lacks or does not let be used, and what that means for what is in them.

use serde::Deserialize;

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts::{self, PostgresFormat};
use crate::engine::postgres::restore::PostgresRun;
use crate::engine::postgres::script::{identifier, literal};
use crate::engine::postgres::server::Postgres;

/// What is said of tablespaces that a server lacks, or does not let be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablespacesFound {
    /// What was in them gets elsewhere.
    Note(String),
    /// What was in them keeps the rest from being restored.
    Obstacle(String),
}

/// Tablespaces that nothing can be put into.
#[derive(Debug, Clone, Deserialize)]
struct AmissTablespaces {
    /// They are not there.
    missing: Vec<String>,
    /// They may not be used.
    denied: Vec<String>,
    /// By whom, quoted as SQL wants it.
    user: String,
}

/// Asks the server for the tablespaces of a database, and tells which are not there or may not be used: by the user, or by the role that
/// makes what is restored.
///
/// # Errors
/// [`DatabaseError`].
pub fn look(
    server: &Postgres,
    database: &DatabasePlan,
    role: Option<&str>,
) -> Result<Vec<TablespacesFound>, DatabaseError> {
    let JsonList(of_tables) = database.fact(facts::TABLESPACES).unwrap_or_default();
    let mut used = of_tables.clone();
    // One that is there has its own.
    used.extend(database.fact(facts::TABLESPACE).filter(|name| !database.is_added_to && !of_tables.contains(name)));
    if used.is_empty() {
        return Ok(Vec::new());
    }
    let amiss = server.amiss_tablespaces(&used, role)?;
    let denied = denied(database, &amiss.denied, &of_tables, &amiss.user);
    Ok(missing(database, &amiss.missing, &of_tables).into_iter().chain(denied).collect())
}

/// Says what becomes of what was in tablespaces that are missing.
fn missing(database: &DatabasePlan, missing: &[String], of_tables: &[String]) -> Option<TablespacesFound> {
    if missing.is_empty() {
        return None;
    }
    let name = &database.name;
    let lacks = format!("the server has no tablespace {}, which {name} uses", missing.join(", "));
    let is_of_tables = missing.iter().any(|tablespace| of_tables.contains(tablespace));
    let is_plain = database.fact(facts::FORMAT) == Some(PostgresFormat::Plain);
    Some(match (is_of_tables, is_plain, database.is_added_to) {
        (true, true, _) => TablespacesFound::Obstacle(format!(
            "{lacks}, and a dump of SQL (--postgres-plain) ends there: make it first (CREATE TABLESPACE)"
        )),
        (true, _, true) => TablespacesFound::Note(format!(
            "{lacks}: if a table was in it, nothing is restored; make it first, or add --no-tablespaces"
        )),
        _ => TablespacesFound::Note(format!(
            "{lacks}: what was in it gets into the usual one, and that is told as what failed, with exit code 3; make it \
             first, or add --no-tablespaces"
        )),
    })
}

/// Says what becomes of what was in tablespaces that may not be used: a table in one is not made, and its rows are lost with it.
fn denied(database: &DatabasePlan, denied: &[String], of_tables: &[String], user: &str) -> Option<TablespacesFound> {
    if denied.is_empty() {
        return None;
    }
    let name = &database.name;
    let grant: Vec<String> = denied.iter().map(|it| identifier(it)).collect();
    let told = format!(
        "{user} may not use tablespace {}, which {name} uses: as an administrator: GRANT CREATE ON TABLESPACE {} TO {user}; or add \
         --no-tablespaces",
        denied.join(", "),
        grant.join(", ")
    );
    // What is added to a database may not have been in one.
    let is_of_tables = !database.is_added_to && denied.iter().any(|tablespace| of_tables.contains(tablespace));
    Some(if is_of_tables { TablespacesFound::Obstacle(told) } else { TablespacesFound::Note(told) })
}

impl Postgres {
    /// Returns those of these tablespaces that are not there, or may not be used by the user or a role.
    fn amiss_tablespaces(&self, names: &[String], role: Option<&str>) -> Result<AmissTablespaces, DatabaseError> {
        let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
        let user = role.map_or_else(|| "current_user".to_owned(), |role| format!("{}::name", literal(role)));
        let sql = format!(
            "SELECT json_build_object('user', quote_ident({user}),
               'missing', coalesce(json_agg(name ORDER BY name) FILTER (WHERE spcname IS NULL), '[]'),
               'denied', coalesce(json_agg(name ORDER BY name)
                                  FILTER (WHERE NOT has_tablespace_privilege(u.oid, t.oid, 'CREATE')), '[]'))
             FROM unnest(ARRAY[{}]::text[]) name LEFT JOIN pg_tablespace t ON spcname = name
               LEFT JOIN pg_roles u ON rolname = {user}",
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
        let amiss = blocking(move || server.amiss_tablespaces(&asked, None)).await?;
        let why = match (amiss.missing.is_empty(), amiss.denied.is_empty()) {
            (true, true) => return Ok(format!(" TABLESPACE {}", identifier(&name))),
            (false, _) => format!("there is no tablespace {name}, in which it was"),
            (true, false) => format!("{} may not use tablespace {name}, in which it was", amiss.user),
        };
        self.restoring.problem(format!("{why}; it is in the usual one"));
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::{StreamKind, StreamToRestore};
    use crate::model::facts::StreamFacts;
    use crate::model::path::EntryPath;

    fn database(format: PostgresFormat, is_added_to: bool) -> DatabasePlan {
        let mut facts = StreamFacts::default();
        facts.set(facts::FORMAT, format);
        let path = EntryPath::new("postgres/shop.dump").expect("safe");
        let stream = StreamToRestore { path, kind: StreamKind::Database, bytes: 100, facts };
        DatabasePlan { streams: vec![stream], is_added_to, ..DatabasePlan::new("shop") }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn told_of(lacked: &[&str], format: PostgresFormat, is_added_to: bool) -> Option<TablespacesFound> {
        missing(&database(format, is_added_to), &names(lacked), &names(&["fast"]))
    }

    #[test]
    fn a_tablespace_that_may_not_be_used_keeps_tables_from_being_made() {
        let found = |refused: &[&str]| {
            denied(&database(PostgresFormat::Custom, false), &names(refused), &names(&["fast"]), "joe")
        };
        assert_eq!(found(&[]), None);
        assert!(matches!(found(&["slow"]), Some(TablespacesFound::Note(_))));
        let told = "joe may not use tablespace slow, fast, which shop uses: as an administrator: GRANT CREATE ON TABLESPACE \"slow\", \
            \"fast\" TO joe; or add --no-tablespaces";
        assert_eq!(found(&["slow", "fast"]), Some(TablespacesFound::Obstacle(told.to_owned())));
    }

    #[test]
    fn only_a_dump_of_sql_cannot_do_without_the_tablespaces_of_its_tables() {
        let is_obstacle = |missing: &[&str], format| match told_of(missing, format, false).expect("told") {
            TablespacesFound::Obstacle(_) => true,
            TablespacesFound::Note(note) => !note.contains("--no-tablespaces"),
        };
        assert!(is_obstacle(&["slow", "fast"], PostgresFormat::Plain));
        assert!(!is_obstacle(&["slow"], PostgresFormat::Plain));
        assert!(!is_obstacle(&["slow", "fast"], PostgresFormat::Custom));
        let beside = told_of(&["fast"], PostgresFormat::Custom, true);
        assert!(matches!(beside, Some(TablespacesFound::Note(note)) if note.contains("nothing is restored")));
        assert_eq!(told_of(&[], PostgresFormat::Plain, false), None);
    }
}
