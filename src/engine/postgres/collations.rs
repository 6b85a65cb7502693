//! Collations that columns and indexes name: whether the database that they are restored into has them.
//!
//! Those that a database has from the beginning are the locales that the operating system had when the server was set up. A table that
//! names one which is not there cannot be made. Of a locale that came later the server makes collations when a superuser asks for that,
//! in each database by itself: so they are asked for in a new one that lacks some.

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::parts::some_names;
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts::{self, UsedCollation};
use crate::engine::postgres::restore::PostgresRun;
use crate::engine::postgres::script::literal;
use crate::engine::postgres::server::Postgres;
use crate::progress::Problem;

/// Asks the server for the collations of a database, and tells which are missing. `None` when none is.
///
/// What a new database has is known when it is made: until then another one is asked.
///
/// # Errors
/// [`DatabaseError`].
pub fn look(server: &Postgres, database: &DatabasePlan) -> Result<Option<String>, DatabaseError> {
    let looked_in = match database.is_added_to {
        true if !database.exists => return Ok(None),
        true => database.name.as_str(),
        false => server.maintenance_database(),
    };
    let missing = server.missing_collations(looked_in, database)?;
    Ok(missing.map(|missing| match database.is_added_to {
        true => format!("{} has no collation {missing}: what needs it is not made", database.name),
        false => format!(
            "{looked_in} has no collation {missing}, which {} uses: where the server has the locale and the user is a superuser, the \
             restore adds it; otherwise what needs it is not made",
            database.name
        ),
    }))
}

/// Writes names of the collations that are missing, each with what needs it; none where none is.
fn told(used: &[UsedCollation], missing: &[String]) -> Option<String> {
    let of_missing = used.iter().filter(|collation| missing.contains(&collation.name));
    let shown = of_missing.map(|UsedCollation { name, used_by }| match used_by {
        Some(table) => format!("{name} (of {table})"),
        None => name.clone(),
    });
    let shown: Vec<String> = shown.collect();
    (!shown.is_empty()).then(|| some_names(&shown))
}

impl Postgres {
    /// Tells which collations that were used in a dumped database are not in `looked_in`.
    fn missing_collations(&self, looked_in: &str, dumped: &DatabasePlan) -> Result<Option<String>, DatabaseError> {
        let JsonList(used) = dumped.fact(facts::COLLATIONS).unwrap_or_default();
        if used.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = used.iter().map(|collation| literal(&collation.name)).collect();
        let sql = format!(
            "SELECT coalesce(json_agg(name), '[]') FROM unnest(ARRAY[{}]::text[]) name
             WHERE NOT EXISTS (SELECT FROM pg_collation WHERE collname = name AND collnamespace = 'pg_catalog'::regnamespace)",
            names.join(", ")
        );
        let missing: Vec<String> = self.ask(looked_in, "asked for collations", &sql)?;
        Ok(told(&used, &missing))
    }
}

impl PostgresRun<'_> {
    /// Has the server make collations of its locales where a new database lacks some that are needed, and tells those that are missing
    /// nevertheless. What cannot be asked for is told by what fails.
    pub(super) async fn import_collations(&self, database: &str) {
        let Ok(Some(_)) = self.missing_collations(database).await else { return };
        let import = "SELECT pg_import_system_collations('pg_catalog')".to_owned();
        let _ = self.sql("asked for collations of its locales", database, vec![import]).await;
        if let Ok(Some(missing)) = self.missing_collations(database).await {
            let note = format!(
                "there is no collation {missing}: what needs it is not made; install the locale on the server, and restore as a superuser"
            );
            self.restoring.monitor.note(Problem::advice(self.plan.name.clone(), note));
        }
    }

    async fn missing_collations(&self, database: &str) -> Result<Option<String>, DatabaseError> {
        let (server, database, plan) = (self.server.clone(), database.to_owned(), self.plan.clone());
        blocking(move || server.missing_collations(&database, &plan)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collation_that_is_missing_is_told_with_what_needs_it() {
        let used = [("de_DE.utf8", Some("app.t")), ("fr_FR.utf8", None), ("C.utf8", None)];
        let used = used.map(|(name, by)| UsedCollation { name: name.to_owned(), used_by: by.map(str::to_owned) });
        assert_eq!(told(&used, &[]), None);
        let missing = ["de_DE.utf8", "fr_FR.utf8"].map(str::to_owned);
        assert_eq!(told(&used, &missing).as_deref(), Some("de_DE.utf8 (of app.t), fr_FR.utf8"));
    }
}
