//! Accounts: who defines what is in a database, and which of them a server does not have.
//!
//! What a definer may do, a view or routine may do for whoever uses it. Where there is no such user it is made nevertheless, if the
//! server lets it, and fails when it is used.

use crate::database::DatabaseError;
use crate::engine::adaptations::Account;
use crate::engine::json_list::JsonList;
use crate::engine::mysql::facts;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::is_database;
use crate::engine::parts::{DumpAspect, some_names};
use crate::engine::plan::{Asked, DatabasePlan, Judgement};
use crate::model::id::unhex;

/// What has a definer: tables of `information_schema`, and their columns for the database.
const DEFINED: [(&str, &str); 4] = [
    ("views", "table_schema"),
    ("routines", "routine_schema"),
    ("triggers", "trigger_schema"),
    ("events", "event_schema"),
];

impl Mysql {
    /// Lists who defines what is in a database.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn definers(&self, database: &str) -> Result<Vec<String>, DatabaseError> {
        let definers = DEFINED.map(|(table, schema)| {
            format!("SELECT definer FROM information_schema.{table} WHERE {}", is_database(schema, database))
        });
        self.accounts(&format!("asked who defines what is in {database:?}"), &definers.join(" UNION "))
    }

    /// Lists all accounts, and roles without a host; none where the user may not see them.
    fn known_accounts(&self) -> Option<Vec<String>> {
        let all = "SELECT CASE host WHEN '' THEN user ELSE CONCAT(user, '@', host) END AS definer FROM mysql.user";
        self.accounts("asked for its users", all).ok()
    }

    fn accounts(&self, asked: &str, select: &str) -> Result<Vec<String>, DatabaseError> {
        let lines =
            self.run(asked, &format!("SELECT HEX(CONVERT(definer USING utf8mb4)) FROM ({select}) a ORDER BY 1;"))?;
        Ok(lines.iter().filter_map(|line| String::from_utf8(unhex(line)?).ok()).collect())
    }
}

/// Adds what is said of definers that the server does not have: of the one that everything is to have, or of those of the dumps.
pub fn judge(server: &Mysql, asked: &Asked<'_>, databases: &[DatabasePlan], found: &mut Judgement) {
    if asked.parts.aspect == DumpAspect::Rows || asked.are_globals {
        return;
    }
    let known = server.known_accounts();
    match (&asked.adaptations.definer, known) {
        (Some(definer), Some(known)) => found.obstacles.extend(missing_definer(definer, &known)),
        (Some(definer), None) => found.notes.push(format!(
            "whether there is a user {definer}, who is to define everything, is not known: this user may not read mysql.user"
        )),
        (None, Some(known)) => found.notes.extend(databases.iter().filter_map(|database| missing_note(database, &known))),
        (None, None) => {}
    }
}

/// Tells that everything cannot have a definer who is not there.
fn missing_definer(definer: &Account, known: &[String]) -> Option<String> {
    let is_there = known.iter().any(|account| is_same(account, &definer.to_string()));
    (!is_there)
        .then(|| format!("there is no user {definer}, who is to define everything: make it first, by CREATE USER"))
}

/// Tells which definers of a database are not there.
fn missing_note(database: &DatabasePlan, known: &[String]) -> Option<String> {
    let JsonList(definers) = database.fact(facts::DEFINERS).unwrap_or_default();
    let is_missing = |definer: &String| !known.iter().any(|account| is_same(account, definer));
    let missing: Vec<String> = definers.into_iter().filter(is_missing).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "of {} these define views, routines, triggers or events, and are not there: {}; what they define cannot be made, or \
             fails when it is used: make them first, or name another by --definer USER@HOST",
            database.name,
            some_names(&missing)
        )
    })
}

/// Compares accounts: names differ by case, hosts do not.
fn is_same(account: &str, other: &str) -> bool {
    match (account.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((user, host)), Some((name, place))) => user == name && host.eq_ignore_ascii_case(place),
        _ => account == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::{StreamKind, StreamToRestore};
    use crate::model::facts::StreamFacts;
    use crate::model::path::EntryPath;

    #[test]
    fn definers_that_are_not_there_are_named() {
        let known = ["root@localhost", "app@%", "reader"].map(str::to_owned);
        let note = |definers: &[&str]| {
            let mut facts = StreamFacts::default();
            facts.set(facts::DEFINERS, JsonList(definers.iter().map(|&it| it.to_owned()).collect()));
            let path = EntryPath::new("mysql/shop.sql").expect("safe");
            let stream = StreamToRestore { path, kind: StreamKind::Database, bytes: 100, facts };
            missing_note(&DatabasePlan { streams: vec![stream], ..DatabasePlan::new("shop") }, &known)
        };
        assert_eq!(note(&["app@%", "root@LOCALHOST", "reader"]), None);
        let told = note(&["App@%", "app@10.%", "reader", "writer"]).expect("told");
        assert!(told.contains("are not there: App@%, app@10.%, writer; "), "{told}");
        let definer = |text| missing_definer(&Account::parse(text).expect("read"), &known);
        assert!(definer("app@%").is_none() && definer("reader@%").expect("told").contains("no user reader@%"));
    }
}
