//! Rights that what has a definer takes: whether this user has them is tried before the first row, and afterwards whether it came with
//! its definers.
//!
//! Triggers come behind the rows of their table, and views, routines and events at the end of a dump, hours later or after the
//! database that is replaced was dropped. So one of each kind is made first and dropped again. The dump makes, and drops, the same.

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::mysql::accounts::{definers_of, is_same};
use crate::engine::mysql::facts;
use crate::engine::mysql::restore::MysqlRun;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::identifier;
use crate::engine::parts::{DumpAspect, some_names};
use crate::progress::Problem;

impl MysqlRun<'_> {
    /// Makes in a database one of each kind that the dump has, and one for each definer, and drops them again.
    pub(super) async fn try_rights(&self, database: &str) -> Result<(), DatabaseError> {
        let parts = &self.restoring.wishes.parts;
        if !parts.tables.is_empty() || parts.aspect == DumpAspect::Rows {
            // What they have is not known.
            return Ok(());
        }
        let JsonList(kinds) = self.restoring.database.fact(facts::DEFINED).unwrap_or_default();
        let definers = definers_of(self.restoring.database, self.restoring.wishes.adaptations.definer.as_ref());
        let name = format!("{}.{}", identifier(database), identifier(&format!("coffre_try_{}", self.restoring.unique)));
        let tries: Vec<Try> =
            combined(&kinds, &definers).into_iter().map(|(kind, definer)| Try::new(kind, definer, &name)).collect();
        let server = self.server.clone();
        blocking(move || tries.iter().try_for_each(|it| it.run(&server))).await
    }

    /// Lists who defines what is in the database.
    pub(super) async fn definers(&self) -> Result<Vec<String>, DatabaseError> {
        let (server, name) = (self.server.clone(), self.name().to_owned());
        blocking(move || server.defined(&name, &[])).await.map(|defined| defined.definers)
    }

    /// Tells which definers it has that it should not have, besides those from `before`: a name beyond ASCII is another one in what was
    /// made under another character set, and a role that is not there becomes a user.
    pub(super) async fn tell_other_definers(&self, before: &[String]) {
        let (plan, definer) = (self.restoring.database, self.restoring.wishes.adaptations.definer.as_ref());
        // With this fact those of the dump are kept as well.
        if definer.is_none() && plan.fact(facts::DEFINED).is_none() {
            return;
        }
        let mut expected = definer.map_or_else(|| definers_of(plan, None), |definer| vec![definer.to_string()]);
        expected.extend_from_slice(before);
        let others: Vec<String> = match self.definers().await {
            Ok(found) => found.into_iter().filter(|it| !expected.iter().any(|other| is_same(it, other))).collect(),
            Err(error) => return self.restoring.problem(format!("who defines what is in it is not known: {error}")),
        };
        if others.is_empty() {
            return;
        }
        let instead = match definer {
            Some(definer) => format!("{definer} was to define all"),
            None => "did not where it was dumped".to_owned(),
        };
        let message = format!("these define something in it, and {instead}: {}", some_names(&others));
        self.restoring.monitor.problem(Problem::suspicious(self.name(), message));
    }
}

/// Combines kinds and definers, so that each is there once at least: a right to name definers is one for all kinds.
fn combined<'a>(kinds: &'a [String], definers: &'a [String]) -> Vec<(&'a str, &'a str)> {
    let (Some(kind), Some(definer)) = (kinds.first(), definers.first()) else { return Vec::new() };
    let of_kinds = kinds.iter().map(|kind| (kind.as_str(), definer.as_str()));
    of_kinds.chain(definers.iter().skip(1).map(|definer| (kind.as_str(), definer.as_str()))).collect()
}

/// Something that is made to find out whether it may be.
#[derive(Debug, PartialEq, Eq)]
struct Try {
    /// What it is, for people.
    what: String,
    make: String,
    drop: String,
}

impl Try {
    /// Describes something of a kind. `name` is its full name as SQL.
    fn new(kind: &str, definer: &str, name: &str) -> Self {
        let create = format!("CREATE DEFINER={}", as_sql(definer));
        let (make, kind_of_drop) = match kind {
            "view" => (format!("{create} VIEW {name} AS SELECT 1 AS x;\n"), "VIEW"),
            "trigger" => (
                format!(
                    "CREATE TABLE {name} (x INT PRIMARY KEY);\n\
                     {create} TRIGGER {name} BEFORE INSERT ON {name} FOR EACH ROW SET @x = 1;\n"
                ),
                "TABLE",
            ),
            "event" => (format!("{create} EVENT {name} ON SCHEDULE EVERY 1 YEAR DISABLE DO DO 0;\n"), "EVENT"),
            "function" => {
                (format!("{create} FUNCTION {name}() RETURNS INT DETERMINISTIC NO SQL RETURN 0;\n"), "FUNCTION")
            }
            // The right to make a package is the same.
            _ => (format!("{create} PROCEDURE {name}() SELECT 1;\n"), "PROCEDURE"),
        };
        let article = if kind == "event" { "an" } else { "a" };
        Self {
            what: format!("{article} {kind} that {definer} defines"),
            make,
            drop: format!("DROP {kind_of_drop} IF EXISTS {name};\n"),
        }
    }

    fn run(&self, server: &Mysql) -> Result<(), DatabaseError> {
        let made = server.run(&format!("asked to make {}", self.what), &self.make);
        // A table may be there although its trigger is not.
        let dropped = server.run("asked to drop what was made for a try", &self.drop);
        made.map_err(|error| self.refused(server, error))?;
        dropped.map(|_| ())
    }

    /// Says what the server refuses, and what would help. An error of the client, from 2000 on, is none of the server.
    fn refused(&self, server: &Mysql, error: DatabaseError) -> DatabaseError {
        let is_of_server = |line: &&String| line.starts_with("ERROR ") && !line.starts_with("ERROR 2");
        let Some(said) = error.last_said().iter().find(is_of_server).cloned() else { return error };
        let own = server.current_account().unwrap_or_else(|| "USER@HOST".to_owned());
        let help = match said.starts_with("ERROR 1227 ") {
            true => format!("; add --definer {own}, who connects and needs no right for it"),
            false => String::new(),
        };
        DatabaseError::Refused {
            server: server.url().server(),
            why: format!("{} may not be made: {said}{help}", self.what),
        }
    }
}

/// Writes an account, or a role, as SQL.
fn as_sql(account: &str) -> String {
    match account.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", identifier(user), identifier(host)),
        None => identifier(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_each_definer_is_tried_once() {
        let (kinds, definers) = (["event", "view"].map(str::to_owned), ["a@%", "b@%", "c"].map(str::to_owned));
        let expected = [("event", "a@%"), ("view", "a@%"), ("event", "b@%"), ("event", "c")];
        assert_eq!(combined(&kinds, &definers), expected);
        assert!(combined(&[], &definers).is_empty() && combined(&kinds, &[]).is_empty());
    }

    #[test]
    fn what_is_made_is_dropped() {
        for (kind, definer, what, make, drop) in [
            (
                "event",
                "it`s@%",
                "an event that it`s@% defines",
                "CREATE DEFINER=`it``s`@`%` EVENT `a`.`b` ON",
                "DROP EVENT",
            ),
            ("view", "r", "a view that r defines", "CREATE DEFINER=`r` VIEW `a`.`b` AS", "DROP VIEW"),
            ("trigger", "r", "a trigger that r defines", "CREATE TABLE `a`.`b` (", "DROP TABLE"),
            ("function", "r", "a function that r defines", "CREATE DEFINER=`r` FUNCTION `a`.`b`()", "DROP FUNCTION"),
            ("package body", "r", "a package body that r defines", "CREATE DEFINER=`r` PROCEDURE", "DROP PROCEDURE"),
        ] {
            let tried = Try::new(kind, definer, "`a`.`b`");
            assert_eq!((tried.what.as_str(), tried.drop), (what, format!("{drop} IF EXISTS `a`.`b`;\n")));
            assert!(tried.make.starts_with(make), "{}", tried.make);
        }
    }
}
