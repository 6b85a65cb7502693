//! PostgreSQL as a source: every database a stream of `pg_dump`, and roles and tablespaces one of `pg_dumpall`.
//!
//! With several streams at once, a large database is split: one archive has everything but the rows of its largest tables,
//! and each of those tables has an archive of its own. All of them see one exported snapshot of the database, held open by
//! a session of ours that has locked the tables before it took the snapshot, so they fit together to the row. No disk is
//! needed for it. (`pg_dump --jobs` does the same, but only into a directory.)

use std::ffi::OsString;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::database::chosen::{ChosenDatabases, left_out_fact, told_left_out};
use crate::database::tables::{ExcludedTables, TableExclusions};
use crate::database::url::DatabaseUrl;
use crate::engine::json_list::JsonList;
use crate::engine::postgres::archive::{ArchiveListing, WithoutCircles};
use crate::engine::postgres::archived::ArchiveRows;
use crate::engine::postgres::copied::SqlRows;
use crate::engine::postgres::facts::{self, PostgresFormat};
use crate::engine::postgres::server::{Databases, Postgres, PostgresFacts, TEMPLATE, TableSize};
use crate::engine::postgres::shared::SharedSnapshot;
use crate::engine::postgres::{CLUSTER_MARK, MARK, NAME};
use crate::engine::tally::not_counted;
use crate::engine::withholding_passwords;
use crate::model::facts::{StreamFacts, fact};
use crate::process::{self, CommandOptions};
use crate::source::check::{Check, CheckedSource, EndsWith};
use crate::source::command::CommandSource;
use crate::source::names::{file_name_unlike, part_name};
use crate::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource, begins};

/// How long a dump waits for a table that somebody else has locked.
const LOCK_WAIT: &str = "--lock-wait-timeout=10min";
/// The same for tables that our own session has locked already: only somebody who waits for it can be in between.
const LOCK_WAIT_SPLIT: &str = "--lock-wait-timeout=1min";

/// What to dump of a server, and how.
#[derive(Debug, Clone)]
pub struct PostgresSource {
    /// The server, and the database unless all are wanted.
    pub url: DatabaseUrl,
    /// Every database that can be connected to, and the globals.
    pub all_databases: bool,
    /// Which of all.
    pub chosen: ChosenDatabases,
    /// Tables that are left out, or their rows.
    pub exclusions: TableExclusions,
    /// Leave the globals out.
    pub no_globals: bool,
    /// Digest the rows of each table.
    pub digests: bool,
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
        let server = Arc::new(Postgres::new(self.url.clone()));
        let wanted = |left_out| {
            Arc::new(DumpWanted { source: self.clone(), restrict_key: planning.stable_secret.clone(), left_out })
        };
        if !self.all_databases {
            let database = self.url.database.as_deref();
            let database = database.ok_or_else(|| DatabaseError::NoDatabase { server: self.url.server() })?;
            server.check_sessions(database)?;
            return Ok(plan_databases(&server, &wanted(None), &[database.to_owned()]));
        }
        server.check_sessions(server.maintenance_database())?;
        let mut databases = server.databases()?;
        let notes = left_out(&server, &mut databases, &self.chosen);
        let wanted = wanted(left_out_fact(&databases.closed, self.no_globals.then_some("roles and tablespaces")));
        let mut members = plan_databases(&server, &wanted, &databases.open);
        let name = format!("{}/globals.sql", self.directory).into_bytes();
        let globals = PlannedStream { name, opener: Arc::new(Globals { server: server.clone(), options: wanted }) };
        members.push(Member {
            label: format!("{}, globals", self.url.server()),
            streams: Ok(Some(globals).filter(|_| !self.no_globals).into_iter().collect()),
            notes,
        });
        Ok(members)
    }

    fn asking(&self) -> Option<&'static str> {
        Some("asking the databases")
    }
}

/// Tells what is on the server and in none of the dumps; takes what is not wanted to what cannot be dumped.
fn left_out(server: &Postgres, databases: &mut Databases, chosen: &ChosenDatabases) -> Vec<String> {
    let mut notes = chosen.like_nothing(&databases.open.iter().chain(&databases.closed).collect::<Vec<_>>());
    databases.closed.retain(|name| chosen.has(name));
    notes
        .extend(databases.closed.iter().map(|name| format!("database {name:?} allows no connections and is left out")));
    let (wanted, unwanted) = chosen.choose(std::mem::take(&mut databases.open));
    notes.extend(told_left_out(&unwanted));
    databases.open = wanted;
    databases.closed.extend(unwanted);
    match server.is_untouched(TEMPLATE) {
        Ok(true) => {}
        Ok(false) => notes.push(format!("{TEMPLATE} has objects of its own, which are left out")),
        Err(error) => notes.push(format!("what {TEMPLATE} may have is left out, and is not known: {error}")),
    }
    notes
}

/// What is wanted, as every stream needs to know it.
struct DumpWanted {
    source: PostgresSource,
    restrict_key: Zeroizing<String>,
    /// What of the server is in none of the dumps.
    left_out: Option<String>,
}

impl std::ops::Deref for DumpWanted {
    type Target = PostgresSource;

    fn deref(&self) -> &PostgresSource {
        &self.source
    }
}

/// Returns a member for each database, and tells what is left out of them.
fn plan_databases(server: &Arc<Postgres>, options: &Arc<DumpWanted>, databases: &[String]) -> Vec<Member> {
    let exclusions = &options.exclusions;
    let mut names = Vec::new();
    let mut members = Vec::new();
    for database in databases {
        let tables = if exclusions.is_empty() { Ok(Vec::new()) } else { server.excludable_tables(database) };
        let excluded = tables.and_then(|tables| {
            names.extend(tables.iter().flat_map(|table| table.names.clone()));
            let excluded = exclusions.choose(&tables);
            check_excluded(server, database, &excluded).map(|()| excluded)
        });
        members.push(plan_database(server, options, database, excluded));
    }
    if let Some(member) = members.last_mut().filter(|_| !exclusions.is_empty()) {
        member.notes.extend(exclusions.like_nothing(&names));
    }
    members
}

/// Makes sure that `pg_dump` understands the names of what is left out: it gets them in UTF-8, and compares them in the encoding of the
/// database.
fn check_excluded(server: &Postgres, database: &str, excluded: &ExcludedTables) -> Result<(), DatabaseError> {
    let mut names = excluded.tables.iter().chain(&excluded.rows).map(|table| &table.quoted);
    let Some(name) = names.find(|name| !name.is_ascii()) else { return Ok(()) };
    match server.facts(database)?.encoding.as_str() {
        "UTF8" => Ok(()),
        encoding => Err(DatabaseError::Refused {
            server: server.url().server(),
            why: format!(
                "{name} cannot be left out of database {database:?}: pg_dump does not find names beyond ASCII where the encoding \
                 is {encoding}"
            ),
        }),
    }
}

fn plan_database(
    server: &Arc<Postgres>,
    options: &Arc<DumpWanted>,
    database: &str,
    excluded: Result<ExcludedTables, DatabaseError>,
) -> Member {
    let label = format!("{}/{database}", options.url.server());
    let excluded = match excluded {
        Ok(excluded) => Arc::new(excluded),
        Err(error) => return Member { label, streams: Err(error.into()), notes: Vec::new() },
    };
    let notes = excluded.note(database).into_iter().collect();
    let tables = match options.split_over_bytes {
        Some(bytes) if !options.plain => server.large_tables(database, bytes).map(|mut tables| {
            let both = || excluded.tables.iter().chain(&excluded.rows);
            tables.retain(|table| !both().any(|it| it.quoted == table.name));
            tables
        }),
        _ => Ok(Vec::new()),
    };
    let streams = tables.map(|tables| {
        let shared = Arc::new(SharedSnapshot::new(server.clone(), database, &tables));
        let name = file_name_unlike(database, (options.plain && options.all_databases).then_some("globals"));
        let file = format!("{}/{name}", options.directory);
        let stream = |name: String, part: DumpPart| {
            let (server, options, database) = (server.clone(), options.clone(), database.to_owned());
            let (excluded, shared) = (excluded.clone(), shared.clone());
            let opener = Arc::new(Dump { server, options, database, part, excluded, shared });
            PlannedStream { name: name.into_bytes(), opener }
        };
        let ending = if options.plain { "sql" } else { "dump" };
        let main = stream(format!("{file}.{ending}"), DumpPart::Main { without: tables.clone() });
        let parts =
            tables.iter().map(|table| stream(part_name(&file, &table.name, "dump"), DumpPart::Table(table.clone())));
        std::iter::once(main).chain(parts).collect()
    });
    Member { label, streams: streams.map_err(SourceError::from), notes }
}

/// Which part of a database a stream is.
#[derive(Debug, Clone)]
enum DumpPart {
    /// Everything but the rows of some tables, which are mostly none.
    Main { without: Vec<TableSize> },
    /// The rows of one table.
    Table(TableSize),
}

/// A stream of one database.
struct Dump {
    server: Arc<Postgres>,
    options: Arc<DumpWanted>,
    database: String,
    part: DumpPart,
    excluded: Arc<ExcludedTables>,
    shared: Arc<SharedSnapshot>,
}

impl OpenStream for Dump {
    fn open(&self, cancel: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
        let known = self.server.facts(&self.database)?;
        let (pg_dump, client) = self.server.program("pg_dump", &known.server_version)?;
        let (pg_restore, _) = self.server.program("pg_restore", &known.server_version)?;
        let mut arguments: Vec<String> = Vec::new();
        let (digests, encoding) = (self.options.digests, &known.encoding);
        let (format, mut checks): (_, Vec<Box<dyn Check>>) = if self.options.plain {
            arguments.push("--format=plain".into());
            arguments.extend(restrict_argument(&pg_dump, &self.options.restrict_key));
            let rows = Box::new(SqlRows::new(digests, encoding));
            (PostgresFormat::Plain, vec![Box::new(EndsWith::new(MARK)), rows])
        } else {
            // Compressed data neither deduplicates nor compresses again.
            arguments.extend(["--format=custom".into(), "--compress=0".into()]);
            let rows = Box::new(ArchiveRows::new(digests, encoding));
            (PostgresFormat::Custom, vec![Box::new(ArchiveListing::start(&pg_restore)?), rows])
        };
        let share = match &self.part {
            DumpPart::Main { without } if without.is_empty() => None,
            _ => Some(self.shared.share(cancel)?),
        };
        match &share {
            None => arguments.push(LOCK_WAIT.into()),
            Some(share) => {
                let wait = if matches!(self.part, DumpPart::Main { .. }) { LOCK_WAIT } else { LOCK_WAIT_SPLIT };
                arguments.extend([format!("--snapshot={}", share.snapshot), wait.into()]);
            }
        }
        let mut facts = server_facts(&known.server_version, format, &client);
        keep_always(&mut facts, &known);
        match &self.part {
            DumpPart::Main { without } => {
                let excluded = &*self.excluded;
                arguments.extend(excluded.tables.iter().map(|table| format!("--exclude-table={}", table.quoted)));
                let rows = excluded.rows.iter().map(|table| &table.quoted);
                let rows = rows.chain(without.iter().map(|table| &table.name));
                arguments.extend(rows.map(|table| format!("--exclude-table-data={table}")));
                facts.set_some(fact::LEFT_OUT_TABLES, excluded.fact());
                keep_of_the_whole(&mut facts, &known);
                facts.set_some(fact::LEFT_OUT, self.options.left_out.clone());
                if !without.is_empty() {
                    facts.set(fact::PARTS, without.len() as u64);
                }
            }
            DumpPart::Table(table) => {
                arguments.extend(["--data-only".into(), "--strict-names".into(), format!("--table={}", table.name)]);
                facts.set(fact::TABLE, table.name.clone());
                checks.push(Box::new(WithoutCircles));
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.server.command(pg_dump, &self.database, &arguments);
        if digests {
            // Whatever time zone the server has, and what it knows of that zone, a time is written in the same way; texts are, whatever
            // a role has set for itself.
            command.environment.push(("PGTZ".into(), "UTC".into()));
            command.environment.push(("PGCLIENTENCODING".into(), encoding.into()));
            facts.set(facts::BYTEA_OUTPUT, self.server.bytea_output(&self.database)?);
        }
        let name = format!("{} of {}", command.name(), self.database);
        let inner = Box::new(CommandSource::spawn(&command)?);
        let kept = share.map(|share| Box::new(share) as Box<dyn Send>);
        Ok(Box::new(CheckedSource::new(inner, name, checks).with_facts(facts).keeping(kept)))
    }

    /// Asks the server, and has `pg_dump` begin, which locks what it will read.
    fn try_out(&self, cancel: &Cancel) -> Result<Option<String>, SourceError> {
        let version = self.server.facts(&self.database)?.server_version;
        let (_, client) = self.server.program("pg_dump", &version)?;
        begins(self.open(cancel)?, &self.database, cancel)?;
        Ok(Some(format!("PostgreSQL {version} answers, pg_dump {client}")))
    }

    fn advise(&self, facts: &StreamFacts) -> Vec<String> {
        let hidden = facts.get(facts::HIDDEN_MAPPINGS).map(|count| {
            format!(
                "passwords and options of {count} user mappings of foreign servers may be missing: only a superuser may read them"
            )
        });
        let unlogged = facts
            .text(facts::NOT_ON_STANDBY)
            .map(|tables| format!("a standby has no rows of unlogged tables, so the dump has none of these: {tables}"));
        let not_counted = not_counted(facts).filter(|_| self.options.digests);
        hidden.into_iter().chain(unlogged).chain(not_counted).collect()
    }
}

/// Keeps what every stream of a database says.
fn keep_always(facts: &mut StreamFacts, known: &PostgresFacts) {
    facts.set(fact::DATABASE, known.database.clone());
    facts.set(facts::ENCODING, known.encoding.clone());
    facts.set_some(facts::WAL_LSN, known.lsn.clone());
}

/// Keeps what the stream of a single table does not repeat.
fn keep_of_the_whole(facts: &mut StreamFacts, known: &PostgresFacts) {
    facts.set(fact::DATABASE_BYTES, known.bytes);
    facts.set(fact::ROWS_ESTIMATE, known.rows);
    facts.set(fact::TABLES, known.tables);
    facts.set(facts::CREATE, known.create.clone());
    facts.set(facts::SETTINGS, JsonList(known.settings.clone()));
    facts.set(facts::ROLES, JsonList(known.roles.clone()));
    let named_roles = JsonList(known.named_roles.clone());
    facts.set_some(facts::NAMED_ROLES, Some(named_roles).filter(|roles| !roles.0.is_empty()));
    facts.set_some(facts::CLOSED_FUNCTIONS, Some(known.closed_functions).filter(|count| *count > 0));
    let collations = JsonList(known.collations.clone());
    facts.set_some(facts::COLLATIONS, Some(collations).filter(|collations| !collations.0.is_empty()));
    facts.set_some(facts::TABLESPACE, known.tablespace.clone());
    let tablespaces = JsonList(known.tablespaces.clone());
    facts.set_some(facts::TABLESPACES, Some(tablespaces).filter(|tablespaces| !tablespaces.0.is_empty()));
    facts.set_some(facts::HIDDEN_MAPPINGS, Some(known.hidden_mappings).filter(|count| *count > 0));
    let unlogged = known.not_on_standby.join(", ");
    facts.set_some(facts::NOT_ON_STANDBY, Some(unlogged).filter(|tables| !tables.is_empty()));
    let extensions = JsonList(known.extensions.clone());
    facts.set_some(facts::EXTENSIONS, Some(extensions).filter(|extensions| !extensions.0.is_empty()));
}

fn server_facts(server_version: &str, format: PostgresFormat, client: &str) -> StreamFacts {
    let mut facts = StreamFacts::default();
    facts.set(fact::ENGINE, NAME.to_owned());
    facts.set(fact::SERVER_VERSION, server_version.to_owned());
    facts.set(fact::CLIENT_VERSION, client.to_owned());
    facts.set(facts::FORMAT, format);
    facts
}

/// Returns `--restrict-key=…` where the program knows it (since the fixes of August 2025, CVE-2025-8714).
fn restrict_argument(program: &OsString, key: &str) -> Option<String> {
    let command = withholding_passwords(CommandOptions::new(program, ["--help"]), None);
    let help = process::run(&command, b"").unwrap_or_default();
    String::from_utf8_lossy(&help).contains("--restrict-key").then(|| format!("--restrict-key={key}"))
}

/// Roles, their memberships and settings, and tablespaces.
struct Globals {
    server: Arc<Postgres>,
    options: Arc<DumpWanted>,
}

impl OpenStream for Globals {
    fn open(&self, _: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
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
        let mut facts = server_facts(&known.server_version, PostgresFormat::Globals, &client);
        facts.set_some(facts::WAL_LSN, known.lsn);
        facts.set_some(fact::LEFT_OUT, self.options.left_out.clone());
        let inner = Box::new(CommandSource::spawn(&command)?);
        let check: Box<dyn Check> = Box::new(EndsWith::new(CLUSTER_MARK));
        Ok(Box::new(CheckedSource::new(inner, command.name(), vec![check]).with_facts(facts)))
    }
}
