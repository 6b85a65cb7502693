//! Settings and rights of a database itself, which come when everything is in it: some of them would keep us out.
//!
//! Until then it is closed to all but its owner. What is restored belongs at first to whoever restores it, who may do much, and so would
//! whoever came in and called one of its functions.

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts;
use crate::engine::postgres::restore::PostgresRun;
use crate::engine::postgres::roles::SET_OWNER;
use crate::engine::postgres::script::{identifier, literal};
use crate::progress::Problem;

/// What opens a database to all, as PostgreSQL makes it.
const OPENING: &str = "GRANT CONNECT ON DATABASE %I TO PUBLIC";
/// The statement that stands before those which say what all may do, where that is said.
const SAID_OF_ALL: &str = "REVOKE ALL ON DATABASE %I FROM PUBLIC";

/// Tells whether all may connect to a database of which these statements were dumped.
pub fn is_open(dumped: &[String]) -> bool {
    let has = |wanted: &str| dumped.iter().any(|statement| statement == wanted);
    !has(SAID_OF_ALL) || has(OPENING)
}

/// Tells who may connect to a database that is closed to all, where what was granted is left away.
pub fn closed_note(database: &DatabasePlan) -> Option<String> {
    let JsonList(dumped) = database.fact(facts::SETTINGS)?;
    (!is_open(&dumped)).then(|| {
        format!(
            "not all might connect to {}, and without what was granted only its owner may: for those who are to: GRANT CONNECT ON \
             DATABASE {} TO …",
            database.name,
            identifier(&database.name)
        )
    })
}

impl PostgresRun<'_> {
    /// Closes a new database to all but its owner and whoever restores, and lets it be connected to only then. One who acts for a role may not
    /// connect by what that one may.
    pub(super) async fn close(&self, database: &str) -> Result<(), DatabaseError> {
        let name = identifier(database);
        let close = format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC");
        let but_us = format!("GRANT CONNECT ON DATABASE {name} TO SESSION_USER");
        let allow = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
        self.sql("asked to close a database to others", self.elsewhere(), vec![close, but_us, allow]).await
    }

    /// Takes back what whoever restores was given meanwhile who acts for a role.
    async fn leave(&self, database: &str) {
        let revoke = format!("REVOKE CONNECT ON DATABASE {} FROM SESSION_USER", identifier(database));
        let body = format!("BEGIN IF session_user <> current_user THEN EXECUTE {}; END IF; END", literal(&revoke));
        let left =
            self.sql("asked to take rights back", self.elsewhere(), vec![format!("DO {}", literal(&body))]).await;
        self.tell(left, &revoke);
    }

    /// Opens a database, and sets its owner, settings and rights. What fails is a problem, not the end: the data is there.
    pub(super) async fn settings(&self, database: &str) {
        let JsonList(dumped) = self.plan.fact(facts::SETTINGS).unwrap_or_default();
        let keeps_owners = self.restoring.wishes.adaptations.owners.are_kept();
        self.leave(database).await;
        for statement in wanted(dumped, keeps_owners) {
            // Texts and names that all databases share are kept in the encoding of the one that sets them, and the database's own
            // name is not found by another one's. Otherwise statements do not depend on each other where the database is not connected to.
            let is_other = || self.plan.fact(facts::ENCODING).as_deref() != Some("UTF8");
            let is_text = !statement.is_ascii() && (statement.starts_with("COMMENT ") || is_other());
            let from = if is_text { database } else { self.elsewhere() };
            if !keeps_owners
                && let Some(role) = role_of(&statement)
                && !self.has_role(&role).await
            {
                let note = format!("there is no role {role}, which had settings of its own in it");
                self.restoring.monitor.note(Problem::advice(self.plan.name.clone(), note));
                continue;
            }
            let sql = with_name(&statement, database);
            let set = self.sql("asked to set a property", from, vec![sql]).await;
            self.tell(set, &with_name(&statement, &self.plan.name));
        }
    }

    /// Tells whether there is a role, as far as is known.
    async fn has_role(&self, role: &str) -> bool {
        let (server, roles) = (self.server.clone(), vec![role.to_owned()]);
        blocking(move || server.missing_roles(&roles)).await.is_ok_and(|missing| missing.is_empty())
    }
}

/// Returns the role that a statement sets something for, quoted as SQL wants it. A `%` in its name is written twice.
fn role_of(statement: &str) -> Option<String> {
    let (role, _) = statement.strip_prefix("ALTER ROLE ")?.split_once(" IN DATABASE %I ")?;
    Some(role.replace("%%", "%"))
}

/// Returns the statements that are run; without owners, those that give nothing to a role.
fn wanted(dumped: Vec<String>, keeps_owners: bool) -> Vec<String> {
    let opening = (!dumped.iter().any(|statement| statement == SAID_OF_ALL)).then(|| OPENING.to_owned());
    let dumped = dumped.into_iter().filter(|statement| keeps_owners || !gives_to_role(statement));
    opening.into_iter().chain(dumped).collect()
}

/// Tells whether a statement is about what a role owns or may do. What all may do is not.
fn gives_to_role(statement: &str) -> bool {
    let is_of_all = [" FROM PUBLIC", " TO PUBLIC"].iter().any(|end| statement.ends_with(end));
    let is_rights = ["GRANT ", "REVOKE "].iter().any(|start| statement.starts_with(start));
    is_rights && !is_of_all || statement.starts_with(SET_OWNER)
}

/// Puts the name of the database into a statement, in which `%I` stands for it and `%%` for `%`.
fn with_name(statement: &str, database: &str) -> String {
    let mut parts = statement.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    while let Some(part) = parts.next() {
        match part.strip_prefix('I') {
            Some(rest) => text.extend([identifier(database).as_str(), rest]),
            // What stands between two of them.
            None if part.is_empty() => text.extend(["%", parts.next().unwrap_or_default()]),
            None => text.extend(["%", part]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_database_is_put_in_and_nothing_else_is_changed() {
        let named = |statement: &str| with_name(statement, "a %I\"b");
        assert_eq!(named("ALTER DATABASE %I SET a TO '100%%'"), "ALTER DATABASE \"a %I\"\"b\" SET a TO '100%'");
        assert_eq!(named("COMMENT ON DATABASE %I IS '%%I %%%% I'"), "COMMENT ON DATABASE \"a %I\"\"b\" IS '%I %% I'");
        assert_eq!(named("SELECT 5 % 2"), "SELECT 5 % 2");
    }

    #[test]
    fn a_database_is_opened_as_it_was_and_without_owners_no_role_gets_anything() {
        let all = |statements: &[&str]| statements.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        let owner = "ALTER DATABASE %I OWNER TO \"TO PUBLIC\"";
        assert_eq!(wanted(all(&[owner]), true), all(&[OPENING, owner]));
        let dumped = [
            owner,
            "REVOKE ALL ON DATABASE %I FROM app",
            SAID_OF_ALL,
            "GRANT TEMPORARY ON DATABASE %I TO PUBLIC",
            "GRANT CONNECT ON DATABASE %I TO \"PUBLIC\"",
            "ALTER ROLE app IN DATABASE %I SET a TO 'b'",
            "ALTER DATABASE %I SET a TO 'b'",
        ];
        assert_eq!(wanted(all(&dumped), true), all(&dumped));
        assert!(is_open(&all(&[owner])) && is_open(&all(&[SAID_OF_ALL, OPENING])) && !is_open(&all(&dumped)));
        assert_eq!(wanted(all(&dumped), false), all(&[dumped[2], dumped[3], dumped[5], dumped[6]]));
        assert_eq!(role_of("ALTER ROLE \"a %% b\" IN DATABASE %I SET a TO 'b'").as_deref(), Some("\"a % b\""));
        assert_eq!(role_of(dumped[6]), None);
    }
}
