//! PostgreSQL as a source: every database a stream of `pg_dump`, and roles and tablespaces one of `pg_dumpall`.
//!
//! With several streams at once, a large database is split: one archive has everything but the rows of its largest tables,
//! and each of those tables has an archive of its own. All of them see one exported snapshot of the database, held open by
//! a session of ours that has locked the tables before it took the snapshot, so they fit together to the row. No disk is
//! needed for it. (`pg_dump --jobs` does the same, but only into a directory.)

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::database::postgres::{DatabaseFacts, Postgres, SAFE_SESSION, TEMPLATE, Table};
use crate::database::url::{DatabaseUrl, Engine};
use crate::database::{DatabaseError, Format, fact, mysql};
use crate::process::{self, CommandOptions, Piped, Process, wait_readable};
use crate::source::check::{Check, CheckedSource, POSTGRES_CLUSTER_MARK, POSTGRES_MARK};
use crate::source::command::CommandSource;
use crate::source::names::{file_name_unlike, part_name};
use crate::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};

/// How often it is asked whether waiting is to end.
const CANCEL_CHECK: Duration = Duration::from_millis(200);
/// How long a dump waits for a table that somebody else has locked.
const LOCK_WAIT: &str = "--lock-wait-timeout=10min";
/// The same for tables that our own session has locked already: only somebody who waits for it can be in between.
const LOCK_WAIT_SPLIT: &str = "--lock-wait-timeout=1min";

/// Facts that the stream of a single table does not repeat.
const OF_THE_WHOLE: [&str; 7] = [
    fact::SETTINGS,
    fact::ROLES,
    fact::CREATE,
    fact::TABLESPACE,
    fact::HIDDEN_MAPPINGS,
    fact::ROWS_ESTIMATE,
    fact::DATABASE_BYTES,
];

/// What to dump of a server, and how.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    /// The server, and the database unless all are wanted.
    pub url: DatabaseUrl,
    /// Every database that can be connected to, and the globals.
    pub all_databases: bool,
    /// SQL instead of a custom archive.
    pub plain: bool,
    /// Leave the passwords of roles out of the globals, for users who may not read them.
    pub no_role_passwords: bool,
    /// Give tables of at least this size streams of their own.
    pub split_over_bytes: Option<u64>,
    /// Directory of the streams in the snapshot: `postgres`, or more when there are several servers.
    pub directory: String,
}

impl Source for PostgresSource {
    fn name(&self) -> Vec<u8> {
        self.url.source_name(self.all_databases).into_bytes()
    }

    /// Asks the server what there is, and returns a member for each database and one for the globals.
    ///
    /// The secret protects plain dumps against a server that slips commands of `psql` into them (`pg_dump --restrict-key`).
    fn plan(&self, planning: &Planning) -> Result<Vec<Member>, SourceError> {
        debug_assert_eq!(self.url.engine, Engine::Postgres);
        let server = Arc::new(Postgres::new(self.url.clone()));
        let wanted = Arc::new(Wanted { source: self.clone(), restrict_key: planning.stable_secret.clone() });
        if !self.all_databases {
            let database = self.url.database.as_deref();
            let database = database.ok_or_else(|| DatabaseError::NoDatabase { server: self.url.server() })?;
            return Ok(vec![plan_database(&server, &wanted, database)]);
        }
        let databases = server.databases()?;
        let mut members: Vec<Member> =
            databases.open.iter().map(|name| plan_database(&server, &wanted, name)).collect();
        let name = format!("{}/globals.sql", self.directory).into_bytes();
        let globals = Globals { server: server.clone(), options: wanted };
        members.push(Member {
            label: format!("{}, globals", self.url.server()),
            streams: Ok(vec![PlannedStream { name, opener: Arc::new(globals) }]),
            notes: left_out(&server, &databases.closed),
        });
        Ok(members)
    }

    fn asking(&self) -> Option<&'static str> {
        Some("asking the databases")
    }
}

/// Tells what is on the server and in none of the dumps.
fn left_out(server: &Postgres, closed: &[String]) -> Vec<String> {
    let closed = closed.iter().map(|name| format!("database {name:?} allows no connections and is left out"));
    let mut notes: Vec<String> = closed.collect();
    match server.is_untouched(TEMPLATE) {
        Ok(true) => {}
        Ok(false) => notes.push(format!("{TEMPLATE} has objects of its own, which are left out")),
        Err(error) => notes.push(format!("what {TEMPLATE} may have is left out, and is not known: {error}")),
    }
    notes
}

/// What is wanted, as every stream needs to know it.
struct Wanted {
    source: PostgresSource,
    restrict_key: Zeroizing<String>,
}

impl std::ops::Deref for Wanted {
    type Target = PostgresSource;

    fn deref(&self) -> &PostgresSource {
        &self.source
    }
}

fn plan_database(server: &Arc<Postgres>, options: &Arc<Wanted>, database: &str) -> Member {
    let label = format!("{}/{database}", options.url.server());
    let tables = match options.split_over_bytes {
        Some(bytes) if !options.plain => server.large_tables(database, bytes),
        _ => Ok(Vec::new()),
    };
    let streams = tables.map(|tables| {
        let shared = Arc::new(SharedSnapshot::new(server.clone(), database, &tables));
        let name = file_name_unlike(database, (options.plain && options.all_databases).then_some("globals"));
        let file = format!("{}/{name}", options.directory);
        let stream = |name: String, part: Part| {
            let (server, options, database) = (server.clone(), options.clone(), database.to_owned());
            let opener = Arc::new(Dump { server, options, database, part, shared: shared.clone() });
            PlannedStream { name: name.into_bytes(), opener }
        };
        let ending = if options.plain { "sql" } else { "dump" };
        let main = stream(format!("{file}.{ending}"), Part::Main { without: tables.clone() });
        let parts =
            tables.iter().map(|table| stream(part_name(&file, &table.name, "dump"), Part::Table(table.clone())));
        std::iter::once(main).chain(parts).collect()
    });
    Member { label, streams: streams.map_err(SourceError::from), notes: Vec::new() }
}

/// Which part of a database a stream is.
#[derive(Debug, Clone)]
enum Part {
    /// Everything but the rows of some tables, which are mostly none.
    Main { without: Vec<Table> },
    /// The rows of one table.
    Table(Table),
}

/// A stream of one database.
struct Dump {
    server: Arc<Postgres>,
    options: Arc<Wanted>,
    database: String,
    part: Part,
    shared: Arc<SharedSnapshot>,
}

impl OpenStream for Dump {
    fn open(&self, is_cancelled: &dyn Fn() -> bool) -> Result<Box<dyn StreamSource>, SourceError> {
        let known = self.server.facts(&self.database)?;
        let (pg_dump, client) = self.server.program("pg_dump", &known.server_version)?;
        let (pg_restore, _) = self.server.program("pg_restore", &known.server_version)?;
        let mut arguments: Vec<String> = Vec::new();
        let check = if self.options.plain {
            arguments.push("--format=plain".into());
            arguments.extend(restrict_argument(&pg_dump, &self.options.restrict_key));
            Check::Mark(POSTGRES_MARK)
        } else {
            // Compressed data neither deduplicates nor compresses again.
            arguments.extend(["--format=custom".into(), "--compress=0".into()]);
            Check::Archive(pg_restore)
        };
        let format = if self.options.plain { Format::PostgresPlain } else { Format::PostgresCustom };
        let mut facts = known_facts(&known, format, &client);
        let share = match &self.part {
            Part::Main { without } if without.is_empty() => None,
            _ => Some(self.shared.share(is_cancelled)?),
        };
        match &share {
            None => arguments.push(LOCK_WAIT.into()),
            Some(share) => {
                let wait = if matches!(self.part, Part::Main { .. }) { LOCK_WAIT } else { LOCK_WAIT_SPLIT };
                arguments.extend([format!("--snapshot={}", share.snapshot), wait.into()]);
            }
        }
        match &self.part {
            Part::Main { without } => {
                arguments.extend(without.iter().map(|table| format!("--exclude-table-data={}", table.name)));
                if !without.is_empty() {
                    facts.insert(fact::PARTS.into(), without.len().to_string());
                }
            }
            Part::Table(table) => {
                arguments.extend(["--data-only".into(), "--strict-names".into(), format!("--table={}", table.name)]);
                facts.insert(fact::TABLE.into(), table.name.clone());
                facts.retain(|name, _| !OF_THE_WHOLE.contains(&name.as_str()));
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = self.server.command(pg_dump, &self.database, &arguments);
        let name = format!("{} of {}", command.name(), self.database);
        let inner = Box::new(CommandSource::spawn(&command)?);
        let kept = share.map(|share| Box::new(share) as Box<dyn Send>);
        Ok(Box::new(CheckedSource::new(inner, name, check, facts, kept)?))
    }
}

fn known_facts(known: &DatabaseFacts, format: Format, client: &str) -> BTreeMap<String, String> {
    let array = |texts: &[String]| serde_json::to_string(texts).expect("texts are JSON");
    let mut facts = server_facts(&known.server_version, format, client);
    facts.extend(
        [
            (fact::DATABASE, known.database.clone()),
            (fact::DATABASE_BYTES, known.bytes.to_string()),
            (fact::ROWS_ESTIMATE, known.rows.to_string()),
            (fact::ENCODING, known.encoding.clone()),
            (fact::CREATE, known.create.clone()),
            (fact::SETTINGS, array(&known.settings)),
            (fact::ROLES, array(&known.roles)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    facts.extend(known.tablespace.iter().map(|name| (fact::TABLESPACE.to_owned(), name.clone())));
    if known.hidden_mappings > 0 {
        facts.insert(fact::HIDDEN_MAPPINGS.to_owned(), known.hidden_mappings.to_string());
    }
    facts.extend(known.lsn.iter().map(|lsn| (fact::WAL_LSN.to_owned(), lsn.clone())));
    facts
}

fn server_facts(server_version: &str, format: Format, client: &str) -> BTreeMap<String, String> {
    BTreeMap::from(
        [
            (fact::ENGINE, Engine::Postgres.name()),
            (fact::SERVER_VERSION, server_version),
            (fact::CLIENT_VERSION, client),
            (fact::FORMAT, format.name()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
}

/// Returns `--restrict-key=…` where the program knows it (since the fixes of August 2025, CVE-2025-8714).
fn restrict_argument(program: &OsString, key: &str) -> Option<String> {
    let help = process::run(&CommandOptions::new(program, ["--help"]).withholding(mysql::PASSWORD_VARIABLE), b"")
        .unwrap_or_default();
    String::from_utf8_lossy(&help).contains("--restrict-key").then(|| format!("--restrict-key={key}"))
}

/// Roles, their memberships and settings, and tablespaces.
struct Globals {
    server: Arc<Postgres>,
    options: Arc<Wanted>,
}

impl OpenStream for Globals {
    fn open(&self, _: &dyn Fn() -> bool) -> Result<Box<dyn StreamSource>, SourceError> {
        let database = self.server.maintenance_database();
        let known = self.server.facts(database)?;
        let (pg_dumpall, client) = self.server.program("pg_dumpall", &known.server_version)?;
        if !known.reads_role_passwords && !self.options.no_role_passwords {
            return Err(DatabaseError::RolePasswords { server: self.options.url.server() }.into());
        }
        let mut arguments = vec!["--globals-only".to_owned()];
        if self.options.no_role_passwords {
            arguments.push("--no-role-passwords".into());
        }
        arguments.extend(restrict_argument(&pg_dumpall, &self.options.restrict_key));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = self.server.command(pg_dumpall, database, &arguments);
        let mut facts = server_facts(&known.server_version, Format::PostgresGlobals, &client);
        facts.extend(known.lsn.map(|lsn| (fact::WAL_LSN.to_owned(), lsn)));
        let inner = Box::new(CommandSource::spawn(&command)?);
        Ok(Box::new(CheckedSource::new(inner, command.name(), Check::Mark(POSTGRES_CLUSTER_MARK), facts, None)?))
    }
}

/// The snapshot that the streams of one database share: taken when the first is opened, given up when the last has ended.
struct SharedSnapshot {
    server: Arc<Postgres>,
    database: String,
    tables: Vec<Table>,
    state: Mutex<SharedState>,
}

struct SharedState {
    held: Option<ExportedSnapshot>,
    /// Streams that have not ended.
    left: usize,
}

/// One stream's share in it.
struct Share {
    shared: Arc<SharedSnapshot>,
    snapshot: String,
}

impl SharedSnapshot {
    fn new(server: Arc<Postgres>, database: &str, tables: &[Table]) -> Self {
        let state = Mutex::new(SharedState { held: None, left: tables.len() + 1 });
        Self { server, database: database.to_owned(), tables: tables.to_vec(), state }
    }

    fn share(self: &Arc<Self>, is_cancelled: &dyn Fn() -> bool) -> Result<Share, DatabaseError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = match state.held.take() {
            Some(held) => held,
            None => ExportedSnapshot::take(&self.server, &self.database, &self.tables, is_cancelled)?,
        };
        let snapshot = held.id.clone();
        state.held = Some(held);
        Ok(Share { shared: self.clone(), snapshot })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = state.left.saturating_sub(1);
        if state.left == 0 {
            drop(state.held.take());
        }
    }
}

/// A session that holds a snapshot open for others to use. Dropping it ends the session, and with it the locks.
struct ExportedSnapshot {
    id: String,
    /// Closing it ends `psql`.
    input: Option<ChildStdin>,
    _process: Process,
}

impl ExportedSnapshot {
    /// Locks the tables against being changed in shape or emptied, then takes the snapshot: truncating a table is seen by
    /// older snapshots too, so the other order would not be safe.
    ///
    /// A table that somebody has locked is waited for, unless `is_cancelled` says otherwise.
    fn take(
        server: &Postgres,
        database: &str,
        tables: &[Table],
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, DatabaseError> {
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let statements = format!(
            "{SAFE_SESSION}
             BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
             SET LOCAL idle_in_transaction_session_timeout = 0;
             SET LOCAL statement_timeout = 0;
             SET LOCAL lock_timeout = '10min';
             LOCK TABLE {} IN ACCESS SHARE MODE;
             SELECT pg_export_snapshot();\n",
            names.join(", ")
        );
        let command = server.psql(database);
        let spawn = |source| DatabaseError::Spawn { program: command.name(), source };
        let (mut process, pipes) = Process::spawn(&command, Piped { input: true, output: true }).map_err(spawn)?;
        let mut input = pipes.input;
        if let Some(input) = &mut input {
            // If it has ended, what it printed is missing, and its status tells why.
            let _ = input.write_all(statements.as_bytes()).and_then(|()| input.flush());
        }
        let mut id = String::new();
        if let Some(output) = pipes.output {
            while !wait_readable(&output, CANCEL_CHECK).map_err(spawn)? {
                if is_cancelled() {
                    let why = "ending was asked for while its tables were waited for".to_owned();
                    return Err(DatabaseError::Refused { server: server.url().server(), why });
                }
            }
            BufReader::new(output).read_line(&mut id).map_err(spawn)?;
        }
        let id = id.trim().to_owned();
        if id.is_empty() {
            drop(input);
            let (ended, stderr) = process.wait().map_err(spawn)?;
            let failure = process::CommandFailed::ended(ended, stderr);
            return Err(DatabaseError::failed(&server.url().server(), "asked for a snapshot", &command, failure));
        }
        Ok(Self { id, input, _process: process })
    }
}

impl Drop for ExportedSnapshot {
    fn drop(&mut self) {
        // `psql` meets the end of its input and logs out before it would be told to end.
        drop(self.input.take());
    }
}
