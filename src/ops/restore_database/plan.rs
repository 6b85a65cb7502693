//! The plan of a restore: which streams of the snapshot become which databases, and what stands against it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::database::mysql::Mysql;
use crate::database::postgres::{Existing, MAINTENANCE, Postgres, User, identifier};
use crate::database::sqlite::beside;
use crate::database::url::DatabaseUrl;
use crate::database::{DatabaseError, Format, fact, major};
use crate::model::entry::EntryKind;
use crate::model::path::EntryPath;
use crate::ops::reading;
use crate::ops::restore_database::mysql::UNDER_WAY;
use crate::ops::restore_database::{Choice, DatabaseTarget, RestoreDatabaseError, RestoreDatabaseOptions};
use crate::repository::reader::Reader;

/// Bytes of the longest name in PostgreSQL.
const LONGEST_NAME: usize = 63;
/// How the statement among [`fact::SETTINGS`] begins that sets the owner of the database.
pub(super) const SET_OWNER: &str = "ALTER DATABASE %I OWNER TO ";

/// What would be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Version of the server that is restored into.
    pub server_version: String,
    /// The databases.
    pub databases: Vec<DatabasePlan>,
    /// Bytes that the databases took where they come from.
    pub needed_bytes: u64,
    /// Room where the server keeps its data, if it is on this machine and tells.
    pub free_bytes: Option<u64>,
    /// What makes it impossible.
    pub obstacles: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// What would become of one database.
#[derive(Debug, Clone)]
pub struct DatabasePlan {
    /// What it was called.
    pub source: String,
    /// What it is to be called; for SQLite, the file.
    pub name: String,
    /// Whether there is one of this name.
    pub exists: bool,
    /// Whether that one is the database that every PostgreSQL server has, and nobody has put anything into it: it may be
    /// replaced without being asked for.
    pub is_untouched: bool,
    /// Connections to that one, where they are counted.
    pub connections: u64,
    /// Its main stream, then those of single tables.
    pub streams: Vec<PlannedStream>,
}

/// A stream of the snapshot and what is known about it.
#[derive(Debug, Clone)]
pub struct PlannedStream {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub format: Format,
    /// Its length.
    pub bytes: u64,
    /// The facts that were kept with it.
    pub facts: BTreeMap<String, String>,
}

impl PlannedStream {
    /// Tells whether it is of the server, and not of one database.
    fn is_global(&self) -> bool {
        matches!(self.format, Format::PostgresGlobals | Format::MysqlUsers)
    }
}

impl DatabasePlan {
    /// Returns the bytes of all its streams.
    pub fn stream_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.bytes).sum()
    }

    /// Returns a fact of its main stream.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.streams.first().and_then(|stream| stream.facts.get(name)).map(String::as_str)
    }

    fn empty(name: String) -> Self {
        Self { source: name.clone(), name, exists: false, is_untouched: false, connections: 0, streams: Vec::new() }
    }

    /// Tells whether there is something that would be lost, or only be kept under another name.
    pub fn replaces(&self) -> bool {
        self.exists && !self.is_untouched
    }

    fn database_bytes(&self) -> u64 {
        self.fact(fact::DATABASE_BYTES).and_then(|text| text.parse().ok()).unwrap_or_else(|| self.stream_bytes())
    }
}

/// Finds out what would be done, asking the server; changes nothing.
///
/// # Errors
/// When the snapshot has nothing that fits, or the server cannot be asked.
pub async fn plan(reader: &Arc<Reader>, options: &RestoreDatabaseOptions) -> Result<Plan, RestoreDatabaseError> {
    let streams = find_streams(reader, options).await?;
    let has_globals = streams.iter().any(PlannedStream::is_global);
    let chosen = choose(options, streams)?;
    let options = options.clone();
    let asked = tokio::task::spawn_blocking(move || judge(&options, chosen, has_globals)).await;
    Ok(asked.expect("planning does not panic")?)
}

/// Lists the streams of the target's kind.
async fn find_streams(
    reader: &Arc<Reader>,
    options: &RestoreDatabaseOptions,
) -> Result<Vec<PlannedStream>, RestoreDatabaseError> {
    let engine = options.target.engine();
    let within = match &options.within {
        Some(path) => Some(path.clone()),
        // All streams of databases are below this name.
        None => EntryPath::new(engine).ok(),
    };
    let mut walk = reader.walk(options.snapshot.root, within);
    let mut streams = Vec::new();
    while let Some(entry) = walk.next().await {
        let entry = entry.map_err(|damaged| RestoreDatabaseError::Unreadable {
            part: reading::lost_part(&damaged),
            source: damaged.error,
        })?;
        let EntryKind::Stream(content, detail) = entry.kind else { continue };
        let format = detail.facts.get(fact::FORMAT).and_then(|name| Format::from_name(name));
        if let Some(format) = format.filter(|_| detail.facts.get(fact::ENGINE).is_some_and(|name| name == engine)) {
            streams.push(PlannedStream { path: entry.path, format, bytes: content.size, facts: detail.facts });
        }
    }
    Ok(streams)
}

/// Chooses among them and gives each database its name.
fn choose(
    options: &RestoreDatabaseOptions,
    streams: Vec<PlannedStream>,
) -> Result<Vec<DatabasePlan>, RestoreDatabaseError> {
    let snapshot = options.snapshot.id.short();
    let missing = |what: String| RestoreDatabaseError::NothingFits { snapshot: snapshot.clone(), what };
    let (globals, mut streams): (Vec<_>, Vec<_>) = streams.into_iter().partition(PlannedStream::is_global);
    // The main stream before those of tables.
    streams.sort_by_key(|stream| stream.facts.contains_key(fact::TABLE));
    let mut databases: BTreeMap<String, DatabasePlan> = BTreeMap::new();
    for stream in streams {
        let name =
            stream.facts.get(fact::DATABASE).or_else(|| stream.facts.get(fact::FILE)).cloned().unwrap_or_default();
        databases.entry(name.clone()).or_insert_with(|| DatabasePlan::empty(name)).streams.push(stream);
    }
    let wanted = match &options.choice {
        Choice::Globals => {
            let name = "globals".to_owned();
            return match globals.is_empty() {
                true => {
                    let mut needed: Vec<String> =
                        databases.values().flat_map(|plan| statements(plan, fact::ROLES)).collect();
                    needed.sort();
                    needed.dedup();
                    Err(RestoreDatabaseError::NoGlobals { snapshot, needed })
                }
                false => Ok(vec![DatabasePlan { streams: globals, ..DatabasePlan::empty(name) }]),
            };
        }
        Choice::All => databases.keys().map(|name| (name.clone(), None)).collect(),
        Choice::Named(wanted) => wanted.clone(),
        Choice::Only if databases.len() > 1 => {
            return Err(RestoreDatabaseError::Several { snapshot, names: databases.into_keys().collect() });
        }
        Choice::Only => databases.keys().map(|name| (name.clone(), options.target.new_name())).collect(),
    };
    if wanted.is_empty() {
        return Err(missing(format!("database of {} that could be restored", options.target.engine())));
    }
    let mut plans = Vec::new();
    for (source, name) in wanted {
        // A name can have the character that a new name is written after.
        let whole = name.as_ref().map(|name| format!("{source}={name}")).filter(|whole| databases.contains_key(whole));
        let (source, name) = whole.map_or((source, name), |whole| (whole, None));
        let plan = databases.get(&source).cloned().ok_or_else(|| missing(format!("database {source:?}")))?;
        plans.push(DatabasePlan { name: name.unwrap_or_else(|| plan.name.clone()), ..plan });
    }
    Ok(plans)
}

/// Asks the server what is there, and lists what stands against it. Blocks.
fn judge(
    options: &RestoreDatabaseOptions,
    databases: Vec<DatabasePlan>,
    has_globals: bool,
) -> Result<Plan, DatabaseError> {
    let mut plan = Plan { databases, ..Plan::default() };
    let are_globals = options.choice == Choice::Globals;
    let mut data_directory = None;
    match &options.target {
        DatabaseTarget::Postgres(url) => {
            let server = postgres_server(url);
            (plan.server_version, data_directory) = server.version()?;
            if !are_globals {
                let user = server.user()?;
                plan.obstacles.extend(obstacles_of_user(&user));
                plan.notes.extend(user.left_over.iter().map(|name| {
                    format!("database {name} was left behind by a restore that was killed: {}", drop(name))
                }));
                plan.notes.extend(user.replaced.iter().map(|name| {
                    format!("database {name} is what a restore replaced; when it is not needed: {}", drop(name))
                }));
            }
            for database in plan.databases.iter_mut().filter(|_| !are_globals) {
                let existing = server.existing(&database.name)?;
                (database.exists, database.connections) =
                    (existing.is_some(), existing.as_ref().map_or(0, |existing| existing.connections));
                database.is_untouched = database.name == MAINTENANCE && server.is_untouched(&database.name)?;
                plan.obstacles.extend(obstacles_of(&database.name, existing.as_ref()));
                let is_plain = database.fact(fact::ENCODING) == Some("UTF8");
                if !options.no_owner && is_plain {
                    let roles = roles(database);
                    let names: Vec<String> = roles.keys().cloned().collect();
                    let missing = if names.is_empty() { names } else { server.missing_roles(&names)? };
                    plan.notes.extend(missing_roles_note(database, &missing, &roles, has_globals));
                }
            }
            data_directory = data_directory.filter(|_| is_local(url));
        }
        DatabaseTarget::Mysql(url) => {
            let server = Mysql::new(url.clone());
            let known = server.server()?;
            for database in plan.databases.iter_mut().filter(|_| !are_globals) {
                let there = server.facts(&database.name)?;
                database.exists = there.is_some();
                if there.is_some_and(|facts| facts.comment.as_deref() == Some(UNDER_WAY)) {
                    let name = &database.name;
                    plan.notes.push(format!("{name} is not complete: a restore into it was killed, or is under way"));
                }
                let longest = database.fact(fact::LONGEST_LINE).and_then(|text| text.parse::<u64>().ok());
                if let (Some(longest), Some(most)) = (longest, known.max_packet)
                    && longest > most
                {
                    plan.obstacles.push(format!(
                        "a row of {} takes {longest} bytes as SQL, and the server takes {most}: raise max_allowed_packet",
                        database.name
                    ));
                }
            }
            plan.server_version = known.version;
            data_directory = known.data_directory.filter(|_| is_local(url)).or(data_directory);
        }
        DatabaseTarget::Sqlite(file) => {
            plan.server_version = crate::database::sqlite::library_version().to_owned();
            for database in &mut plan.databases {
                database.name = file.display().to_string();
                database.exists = file.exists();
            }
            plan.obstacles.extend(sqlite_obstacle(file));
            data_directory = std::path::absolute(file).ok().and_then(|file| file.parent().map(Into::into));
        }
    }
    plan.needed_bytes = plan.databases.iter().map(DatabasePlan::database_bytes).sum();
    let room = data_directory.and_then(|directory| rustix::fs::statvfs(directory).ok());
    plan.free_bytes = room.map(|room| room.f_bavail.saturating_mul(room.f_frsize));
    if are_globals {
        let note = "roles and users that exist get the passwords they had, the one that connects now among them";
        plan.notes.push(note.to_owned());
    }
    find_obstacles(&mut plan, options.in_place);
    let is_plain =
        |database: &&DatabasePlan| database.streams.iter().any(|stream| stream.format == Format::PostgresPlain);
    if let Some(database) = plan.databases.iter().find(is_plain).filter(|_| options.no_owner) {
        plan.obstacles.push(format!("{} is a dump of SQL, which --no-owner cannot change", database.name));
    }
    Ok(plan)
}

/// Tells why PostgreSQL would refuse this user every restore.
fn obstacles_of_user(user: &User) -> Vec<String> {
    let mut found = Vec::new();
    if !user.creates_databases {
        found.push("the user may not create databases (CREATEDB)".to_owned());
    }
    if user.is_read_only {
        found.push(
            "sessions of the user are read-only (default_transaction_read_only, or the server is a standby)".to_owned(),
        );
    }
    found
}

/// Tells why PostgreSQL would refuse at the end of a restore to give a database its name.
fn obstacles_of(name: &str, existing: Option<&Existing>) -> Vec<String> {
    let mut found = Vec::new();
    if existing.is_some_and(|existing| !existing.is_owned) {
        found.push(format!("the user does not own {name}, and may not rename it"));
    }
    if let Some(prepared) = existing.map(|existing| existing.prepared).filter(|prepared| *prepared > 0) {
        found.push(format!("{name} has {prepared} prepared transactions: end them (pg_prepared_xacts)"));
    }
    if name.len() > LONGEST_NAME {
        found.push(format!("{name:?} is longer than the {LONGEST_NAME} bytes that PostgreSQL has for names"));
    }
    found
}

/// Tells why a SQLite database could not be put there: what would be taken for a part of it, or what is no database.
fn sqlite_obstacle(file: &Path) -> Option<String> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    if !file.exists() {
        if file.is_symlink() {
            return Some(format!("{} is a symbolic link to what is not there", file.display()));
        }
        return beside(file).next().map(|path| {
            format!(
                "{} is there: SQLite would take it for a part of the restored database; move it away",
                path.display()
            )
        });
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head));
    match read {
        Ok(_) if head.is_empty() || head == MAGIC => None,
        Ok(_) => Some(format!("{} is not a SQLite database; move it away", file.display())),
        Err(error) => Some(format!("{} cannot be read: {error}", file.display())),
    }
}

/// Returns the statements that a fact has as a JSON array.
fn statements(database: &DatabasePlan, name: &str) -> Vec<String> {
    database.fact(name).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Returns the role that owns a database of PostgreSQL, quoted as SQL wants it.
fn owner(database: &DatabasePlan) -> Option<String> {
    let settings = statements(database, fact::SETTINGS);
    // Where names are put in, a `%` is written twice.
    settings.iter().find_map(|statement| statement.strip_prefix(SET_OWNER)).map(|owner| owner.replace("%%", "%"))
}

/// Returns the roles that a database of PostgreSQL uses, quoted as SQL wants them, each with the statement that makes it.
fn roles(database: &DatabasePlan) -> BTreeMap<String, String> {
    let name = |statement: &str| {
        let rest = statement.strip_prefix("CREATE ROLE ")?;
        Some(rest.strip_suffix(" LOGIN").unwrap_or(rest).to_owned())
    };
    let known = statements(database, fact::ROLES);
    let mut roles: BTreeMap<String, String> =
        known.into_iter().filter_map(|statement| Some((name(&statement)?, statement))).collect();
    if let Some(owner) = owner(database) {
        roles.entry(owner.clone()).or_insert_with(|| format!("CREATE ROLE {owner}"));
    }
    roles
}

/// Says what to do about roles that are not there.
fn missing_roles_note(
    database: &DatabasePlan,
    missing: &[String],
    roles: &BTreeMap<String, String>,
    has_globals: bool,
) -> Option<String> {
    let name = &database.name;
    let owner = owner(database).filter(|owner| missing.contains(owner));
    let others = missing.iter().filter(|role| Some(*role) != owner.as_ref()).cloned().collect::<Vec<_>>().join(", ");
    let what = match (owner, others.is_empty()) {
        (None, true) => return None,
        (Some(owner), true) => format!("there is no role {owner}, which owns {name}"),
        (Some(owner), false) => {
            format!("there is no role {owner}, which owns {name}, nor {others}, which have to do with it")
        }
        (None, false) => format!("of the roles that have to do with {name} these are not there: {others}"),
    };
    let way = match has_globals {
        true => "restore roles first, by --globals,".to_owned(),
        false => {
            let make = missing.iter().filter_map(|role| roles.get(role));
            let make: Vec<String> = make.map(|statement| format!("{statement};")).collect();
            format!("this snapshot has no roles, so type {} first,", make.join(" "))
        }
    };
    Some(format!("{what}: {way} or add --no-owner"))
}

/// Writes the statement that drops a database.
pub(super) fn drop(name: &str) -> String {
    format!("DROP DATABASE {};", identifier(name))
}

fn find_obstacles(plan: &mut Plan, in_place: bool) {
    let mut names: Vec<&str> = plan.databases.iter().map(|database| database.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        plan.obstacles.push(format!("two databases are to be called {:?}", twice[0]));
    }
    for database in &plan.databases {
        let name = &database.name;
        match (database.replaces(), in_place, database.connections) {
            (true, false, _) => plan.obstacles.push(format!("{name} exists")),
            (_, _, 0) => {}
            (_, _, 1) => plan.notes.push(format!("a connection to {name} will be ended")),
            (_, _, connections) => plan.notes.push(format!("{connections} connections to {name} will be ended")),
        }
        let parts = database.fact(fact::PARTS).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let mains = database.streams.iter().filter(|stream| !stream.facts.contains_key(fact::TABLE)).count();
        let tables = database.streams.len() - mains;
        if mains != 1 || parts != tables {
            plan.obstacles.push(format!(
                "of {name} {mains} main streams and {tables} of {parts} tables with streams of their own are here; name \
                 the directory that has them all"
            ));
        }
        let dumped = database.fact(fact::SERVER_VERSION).unwrap_or_default();
        if major(dumped) > major(&plan.server_version) && !plan.server_version.is_empty() && major(dumped) > 0 {
            plan.notes.push(format!(
                "{name} was dumped from version {dumped} and goes into the older {}: some statements may fail",
                plan.server_version
            ));
        }
    }
    if let Some(free) = plan.free_bytes.filter(|free| *free < plan.needed_bytes) {
        plan.obstacles.push(format!("about {} bytes are needed and {free} are free", plan.needed_bytes));
    }
}

/// Tells whether the server is on this machine, so that its directories are ours.
fn is_local(url: &DatabaseUrl) -> bool {
    match url.host_and_port().0 {
        None => true,
        Some(host) => host == "localhost" || host == "::1" || host.starts_with("127.") || host.starts_with('/'),
    }
}

/// The server without the database that the URL names: that one may be what is to be made or replaced.
pub(super) fn postgres_server(url: &DatabaseUrl) -> Postgres {
    Postgres::new(url.with_database(MAINTENANCE))
}

impl DatabaseTarget {
    /// Returns the name of the engine, as facts have it.
    pub fn engine(&self) -> &'static str {
        match self {
            DatabaseTarget::Postgres(url) | DatabaseTarget::Mysql(url) => url.engine.name(),
            DatabaseTarget::Sqlite(_) => "sqlite",
        }
    }

    /// Returns the name that the URL gives to the only database. Whoever writes `postgres` there means what to connect to.
    fn new_name(&self) -> Option<String> {
        match self {
            DatabaseTarget::Postgres(url) => url.database.clone().filter(|name| name != MAINTENANCE),
            DatabaseTarget::Mysql(url) => url.database.clone(),
            DatabaseTarget::Sqlite(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str, exists: bool, facts: &[&[(&str, &str)]]) -> DatabasePlan {
        let stream = |facts: &&[(&str, &str)]| PlannedStream {
            path: EntryPath::new("postgres/x.dump").expect("safe"),
            format: Format::PostgresCustom,
            bytes: 100,
            facts: facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let streams = facts.iter().map(stream).collect();
        DatabasePlan { exists, streams, ..DatabasePlan::empty(name.into()) }
    }

    fn obstacles(databases: Vec<DatabasePlan>, free_bytes: Option<u64>, in_place: bool) -> (usize, usize) {
        let mut plan = Plan { databases, free_bytes, server_version: "15.18".into(), ..Plan::default() };
        plan.needed_bytes = plan.databases.iter().map(DatabasePlan::database_bytes).sum();
        find_obstacles(&mut plan, in_place);
        (plan.obstacles.len(), plan.notes.len())
    }

    #[test]
    fn what_stands_against_a_restore_is_found() {
        let whole: &[&[(&str, &str)]] = &[&[]];
        let split: &[&[(&str, &str)]] = &[&[(fact::PARTS, "1")], &[(fact::TABLE, "t")]];
        let newer: &[&[(&str, &str)]] = &[&[(fact::SERVER_VERSION, "17.1")]];
        let large: &[&[(&str, &str)]] = &[&[(fact::DATABASE_BYTES, "5000")]];
        assert_eq!(obstacles(vec![database("a", false, whole), database("b", false, split)], None, false), (0, 0));
        assert_eq!(obstacles(vec![database("a", true, whole)], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", true, whole)], None, true), (0, 0));
        let used = DatabasePlan { connections: 2, ..database("a", true, whole) };
        assert_eq!(obstacles(vec![used.clone()], None, true), (0, 1));
        assert_eq!(obstacles(vec![DatabasePlan { is_untouched: true, ..used }], None, false), (0, 1));
        assert_eq!(obstacles(vec![database("a", false, whole), database("a", false, whole)], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, &split[..1])], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, &split[1..])], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, newer)], None, false), (0, 1));
        assert_eq!(obstacles(vec![database("a", false, large)], Some(4999), false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, large)], Some(5000), false), (0, 0));
    }

    #[test]
    fn the_owner_is_among_the_settings() {
        let settings = r#"["ALTER DATABASE %I OWNER TO \"the shop\"", "REVOKE ALL ON DATABASE %I FROM PUBLIC"]"#;
        assert_eq!(owner(&database("a", false, &[&[(fact::SETTINGS, settings)]])).as_deref(), Some("\"the shop\""));
        assert_eq!(owner(&database("a", false, &[&[]])), None);
    }

    #[test]
    fn roles_that_are_missing_are_told_with_what_makes_them() {
        let settings = r#"["ALTER DATABASE %I OWNER TO shopapp"]"#;
        let made = r#"["CREATE ROLE \"the reader\"", "CREATE ROLE shopapp LOGIN"]"#;
        let database = database("shop", false, &[&[(fact::SETTINGS, settings), (fact::ROLES, made)]]);
        let roles = roles(&database);
        let note = |missing: &[&str], has_globals| {
            let missing: Vec<String> = missing.iter().map(|&name| name.to_owned()).collect();
            missing_roles_note(&database, &missing, &roles, has_globals)
        };
        assert_eq!(note(&[], false), None);
        let expected =
            "there is no role shopapp, which owns shop: restore roles first, by --globals, or add --no-owner";
        assert_eq!(note(&["shopapp"], true).as_deref(), Some(expected));
        let typed = note(&["\"the reader\"", "shopapp"], false).expect("a note");
        assert!(typed.contains("which owns shop, nor \"the reader\""), "{typed}");
        assert!(
            typed.contains("type CREATE ROLE \"the reader\"; CREATE ROLE shopapp LOGIN; first, or add --no-owner"),
            "{typed}"
        );
    }

    #[test]
    fn a_server_elsewhere_has_other_disks() {
        let local = |text: &str| is_local(&text.parse().expect("a URL"));
        assert!(local("mysql:///x") && local("postgresql://%2Frun%2Fpostgresql/x") && local("mysql://u@127.0.0.1:1/x"));
        assert!(!local("postgresql://db1/x"));
    }
}
