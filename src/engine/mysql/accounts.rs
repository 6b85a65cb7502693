//! Accounts: who defines what is in a database, which of them a server does not have, and who may name others as definers.
//!
//! What a definer may do, a view or routine may do for whoever uses it. Where there is no such user it is made nevertheless, if the
//! server lets it, and fails when it is used. Naming somebody else as its definer takes a right that users of managed servers lack.

use std::collections::BTreeSet;

use crate::database::DatabaseError;
use crate::database::tables::ExcludableTable;
use crate::engine::adaptations::Account;
use crate::engine::json_list::JsonList;
use crate::engine::mysql::facts;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::sql::{identifier, is_database, literal};
use crate::engine::parts::{DumpAspect, some_names};
use crate::engine::plan::{Asked, DatabasePlan, Judgement};
use crate::model::id::unhex;

/// What has a definer: its kind as SQL, its table of `information_schema`, and the columns there for the database and for the table that
/// it is left out of a dump with.
const DEFINED: [(&str, &str, &str, Option<&str>); 4] = [
    ("'view'", "views", "table_schema", Some("table_name")),
    ("LOWER(routine_type)", "routines", "routine_schema", None),
    ("'trigger'", "triggers", "trigger_schema", Some("event_object_table")),
    ("'event'", "events", "event_schema", None),
];

/// Rights each of which lets a user of some server name others as definers.
const NAMING_RIGHTS: [&str; 4] = ["SET USER", "SUPER", "SET_USER_ID", "SET_ANY_DEFINER"];

/// What of a database has a definer, and who that is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Defined {
    /// Kinds, in the order of letters: `event`, `function`, `procedure`, `trigger`, `view`.
    pub kinds: Vec<String>,
    /// Definers, each as `USER@HOST`; a role without a host.
    pub definers: Vec<String>,
}

/// An account of a server.
struct KnownAccount {
    /// `USER@HOST`; a role without a host.
    name: String,
    /// It may read every database.
    reads_all: bool,
}

/// The user who connects.
struct Connecting {
    /// `USER@HOST`, as the server takes it.
    name: String,
    /// It may name others as definers.
    names_others: bool,
}

impl Mysql {
    /// Tells what has a definer in a database, without what belongs to tables that are left out.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(super) fn defined(&self, database: &str, left_out: &[ExcludableTable]) -> Result<Defined, DatabaseError> {
        let names = left_out.iter().map(|table| literal(&table.quoted)).collect::<Vec<_>>().join(", ");
        let selects = DEFINED.map(|(kind, table, schema, of)| {
            let is_kept = of.filter(|_| !names.is_empty()).map(|column| format!(" AND {column} NOT IN ({names})"));
            let is_here = is_database(schema, database) + &is_kept.unwrap_or_default();
            format!("SELECT {kind} AS kind, definer FROM information_schema.{table} WHERE {is_here}")
        });
        // Not by `UNION` alone, for which `App@%` may be `app@%`.
        let all = selects.join(" UNION ALL ");
        let lines = self.run(
            &format!("asked who defines what is in {database:?}"),
            &format!("SELECT DISTINCT kind, HEX(CONVERT(definer USING utf8mb4)) FROM ({all}) a;"),
        )?;
        let fields = || lines.iter().filter_map(|line| line.split_once('\t'));
        let kinds: BTreeSet<String> = fields().map(|(kind, _)| kind.to_owned()).collect();
        let definers: BTreeSet<String> = fields().filter_map(|(_, definer)| account(definer)).collect();
        Ok(Defined { kinds: kinds.into_iter().collect(), definers: definers.into_iter().collect() })
    }

    /// Returns the account of the user who connects; none where the server does not say.
    pub(super) fn current_account(&self) -> Option<String> {
        let current = self.run("asked who connects", "SELECT HEX(CONVERT(CURRENT_USER() USING utf8mb4));").ok()?;
        account(current.first()?)
    }

    fn connecting(&self) -> Option<Connecting> {
        let (name, grants) = (self.current_account()?, self.grants().ok()?);
        Some(Connecting { name, names_others: NAMING_RIGHTS.iter().any(|right| grants.has_globally(right)) })
    }

    /// Lists all accounts and roles; none where the user may not see them.
    fn known_accounts(&self) -> Option<Vec<KnownAccount>> {
        let all = "SELECT CONCAT(select_priv, HEX(CONVERT(CASE host WHEN '' THEN user ELSE CONCAT(user, '@', host) END USING utf8mb4)))
            FROM mysql.user;";
        let lines = self.run("asked for its users", all).ok()?;
        let known = |line: &String| {
            let reads_all = line.starts_with('Y');
            Some(KnownAccount { name: account(line.get(1..)?)?, reads_all })
        };
        Some(lines.iter().filter_map(known).collect())
    }
}

/// Reads an account in hexadecimal digits. Views, triggers and events have a role with an empty host.
fn account(hex: &str) -> Option<String> {
    let text = String::from_utf8(unhex(hex)?).ok()?;
    let name = text.strip_suffix('@').unwrap_or(&text);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Adds what is said of definers: of the one that everything is to have, or of those of the dumps.
pub fn judge(server: &Mysql, asked: &Asked<'_>, databases: &[DatabasePlan], found: &mut Judgement) {
    if asked.parts.aspect == DumpAspect::Rows || asked.are_globals {
        return;
    }
    let (definer, known) = (asked.adaptations.definer.as_ref(), server.known_accounts());
    match (definer, &known) {
        (Some(definer), _) if !definer.to_string().is_ascii() => found.obstacles.push(beyond_ascii(definer)),
        (Some(definer), Some(known)) => found.obstacles.extend(missing_definer(definer, known)),
        (Some(definer), None) => found.notes.push(format!(
            "whether there is a user {definer}, who is to define everything, is not known: this user may not read mysql.user"
        )),
        (None, Some(known)) => found.notes.extend(databases.iter().filter_map(|database| missing_note(database, known))),
        (None, None) => found.notes.extend(databases.iter().filter_map(unknown_note)),
    }
    let Some(connecting) = server.connecting() else { return };
    let is_mariadb = found.server_version.contains("MariaDB");
    for database in databases {
        let mut others = definers_of(database, definer);
        others.retain(|definer| !is_same(definer, &connecting.name));
        if !others.is_empty() && !connecting.names_others {
            // MySQL does not list the rights of roles, of parts it is not known what they have, and one may name the role that one has taken on.
            let are_users = others.iter().any(|definer| definer.contains('@'));
            let is_certain = is_mariadb && asked.parts.tables.is_empty() && are_users;
            let told = if is_certain { &mut found.obstacles } else { &mut found.notes };
            told.push(unnamed(database, &others, &connecting.name, is_mariadb));
        }
        found.notes.extend(renamed_note(database, &others, known.as_deref().unwrap_or_default()));
    }
}

/// Lists who defines what is in a database once it is restored; nobody where that was not kept.
pub(super) fn definers_of(database: &DatabasePlan, definer: Option<&Account>) -> Vec<String> {
    let JsonList(dumped) = database.fact(facts::DEFINERS).unwrap_or_default();
    match definer {
        Some(definer) if !dumped.is_empty() => vec![definer.to_string()],
        _ => dumped,
    }
}

/// Tells why a name cannot be put into a dump.
fn beyond_ascii(definer: &Account) -> String {
    format!(
        "{definer}, who is to define everything, has a name beyond ASCII, which would be another one in what was made under another \
         character set: name a user in ASCII"
    )
}

/// Tells that everything cannot have a definer who is not there.
fn missing_definer(definer: &Account, known: &[KnownAccount]) -> Option<String> {
    let is_there = known.iter().any(|account| is_same(&account.name, &definer.to_string()));
    (!is_there)
        .then(|| format!("there is no user {definer}, who is to define everything: make it first, by CREATE USER"))
}

/// Tells which definers of a database are not there.
fn missing_note(database: &DatabasePlan, known: &[KnownAccount]) -> Option<String> {
    let is_missing = |definer: &String| !known.iter().any(|account| is_same(&account.name, definer));
    let missing: Vec<String> = definers_of(database, None).into_iter().filter(is_missing).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "of {} these define views, routines, triggers or events, and are not there: {}; what they define cannot be made, or \
             fails when it is used: make them first, or name another by --definer USER@HOST",
            database.name,
            some_names(&missing)
        )
    })
}

/// Tells that it is not known whether the definers of a database are there.
fn unknown_note(database: &DatabasePlan) -> Option<String> {
    let definers = definers_of(database, None);
    (!definers.is_empty()).then(|| {
        format!(
            "whether those are there who define views, routines, triggers or events of {} is not known, as this user may not read \
             mysql.user: {}",
            database.name,
            some_names(&definers)
        )
    })
}

/// Tells that a user may not name the definers of a database.
fn unnamed(database: &DatabasePlan, others: &[String], user: &str, is_mariadb: bool) -> String {
    let right = match is_mariadb {
        true => "SET USER, before MariaDB 10.5 SUPER",
        false => "SET_ANY_DEFINER, before MySQL 8.2 SET_USER_ID",
    };
    format!(
        "{user} may not make others the definers of views, routines, triggers or events, and those of {} are {}: grant it {right}, or \
         add --definer {user}, which needs no right",
        database.name,
        some_names(others)
    )
}

/// Tells which definers may have no rights on a database that gets another name. Of those who are not there it is told anyway.
fn renamed_note(database: &DatabasePlan, others: &[String], known: &[KnownAccount]) -> Option<String> {
    if database.name == database.source {
        return None;
    }
    let may_lack = |definer: &&String| match known.iter().find(|account| is_same(&account.name, definer)) {
        Some(account) => !account.reads_all,
        None => known.is_empty(),
    };
    let lacking: Vec<String> = others.iter().filter(may_lack).cloned().collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "what these define in {} fails when it is used, unless they have rights on that name, and not on {} alone: {}; grant what \
             they need ON {}.*",
            database.name,
            database.source,
            some_names(&lacking),
            identifier(&database.name)
        )
    })
}

/// Compares accounts: names differ by case, hosts do not.
pub(super) fn is_same(account: &str, other: &str) -> bool {
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
    use crate::model::id::hex;
    use crate::model::path::EntryPath;

    fn known() -> Vec<KnownAccount> {
        let accounts = [("root@localhost", true), ("app@%", false), ("reader", false)];
        accounts.map(|(name, reads_all)| KnownAccount { name: name.to_owned(), reads_all }).into()
    }

    fn database(source: &str, definers: &[&str]) -> DatabasePlan {
        let mut facts = StreamFacts::default();
        facts.set(facts::DEFINERS, JsonList(definers.iter().map(|&it| it.to_owned()).collect()));
        let path = EntryPath::new("mysql/shop.sql").expect("safe");
        let stream = StreamToRestore { path, kind: StreamKind::Database, bytes: 100, facts };
        DatabasePlan { name: "shop".to_owned(), streams: vec![stream], ..DatabasePlan::new(source) }
    }

    #[test]
    fn definers_that_are_not_there_are_named() {
        let note = |definers: &[&str]| missing_note(&database("shop", definers), &known());
        assert_eq!(note(&["app@%", "root@LOCALHOST", "reader"]), None);
        let told = note(&["App@%", "app@10.%", "reader", "writer"]).expect("told");
        assert!(told.contains("are not there: App@%, app@10.%, writer; "), "{told}");
        let definer = |text| missing_definer(&Account::parse(text).expect("read"), &known());
        assert!(definer("app@%").is_none() && definer("reader@%").expect("told").contains("no user reader@%"));
    }

    #[test]
    fn who_may_have_no_rights_under_another_name_is_told() {
        let others = ["root@localhost", "app@%", "gone@%"].map(str::to_owned);
        let note = |source, known: &[KnownAccount]| renamed_note(&database(source, &[]), &others, known);
        assert_eq!(note("shop", &known()), None);
        let told = note("old", &known()).expect("told");
        assert!(told.contains("and not on old alone: app@%; grant what they need ON `shop`.*"), "{told}");
        let told = note("old", &[]).expect("told");
        assert!(told.contains(": root@localhost, app@%, gone@%; "), "{told}");
    }

    #[test]
    fn another_definer_takes_the_place_of_those_that_there_are() {
        let another = Account::parse("app@%").expect("read");
        assert_eq!(definers_of(&database("shop", &["a@%", "b@%"]), Some(&another)), ["app@%"]);
        assert_eq!(definers_of(&database("shop", &["a@%", "b@%"]), None), ["a@%", "b@%"]);
        assert!(definers_of(&database("shop", &[]), Some(&another)).is_empty());
    }

    #[test]
    fn a_role_has_no_host() {
        let read = |text: &str| account(&hex(text.as_bytes()));
        assert_eq!(read("reader@").as_deref(), Some("reader"));
        assert_eq!(read("müller@%").as_deref(), Some("müller@%"));
        assert_eq!(read(""), None);
        assert_eq!(account("NULL"), None);
    }
}
