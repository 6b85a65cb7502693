//! MariaDB and MySQL as a source: every database a stream of SQL; users, grants and what else belongs to the server one more.
//!
//! A dump is one transaction (`--single-transaction`), so what is in tables of InnoDB is consistent and nobody is stopped;
//! tables of other engines are named in the facts. A stream has one database and no `USE`, so it can be loaded into any.

use std::io::Cursor;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::database::chosen::{ChosenDatabases, left_out_fact, told_left_out};
use crate::database::tables::{ExcludableTable, ExcludedTables, TableExclusions};
use crate::database::url::DatabaseUrl;
use crate::engine::json_list::JsonList;
use crate::engine::mysql::facts::{self, MysqlFormat};
use crate::engine::mysql::inserted::InsertedRows;
use crate::engine::mysql::programs::DumpProgram;
use crate::engine::mysql::rows::AllRows;
use crate::engine::mysql::server::{Mysql, MysqlFacts, ServerFacts};
use crate::engine::mysql::users::users_dump;
use crate::engine::mysql::{MARK, NAME};
use crate::engine::tally::not_counted;
use crate::model::facts::{StreamFacts, fact};
use crate::source::check::{Check, CheckedSource, EndsWith};
use crate::source::command::CommandSource;
use crate::source::given::ReadSource;
use crate::source::names::file_name_unlike;
use crate::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource, begins};

/// Options for what a database has besides its tables.
const BESIDE_TABLES: [&str; 3] = ["--routines", "--triggers", "--events"];

/// What to dump of a server.
#[derive(Debug, Clone)]
pub struct MysqlSource {
    /// The server, and the database unless all are wanted.
    pub url: DatabaseUrl,
    /// Every database but the server's own, and users with their grants.
    pub all_databases: bool,
    /// Which of all.
    pub chosen: ChosenDatabases,
    /// Tables that are left out, or their rows.
    pub exclusions: TableExclusions,
    /// Leave the users out.
    pub no_globals: bool,
    /// Digest the rows of each table.
    pub digests: bool,
    /// Directory of the streams in the snapshot: `mysql`, or more when there are several servers.
    pub directory: String,
}

impl Source for MysqlSource {
    fn name(&self) -> Vec<u8> {
        self.url.source_name(self.all_databases).into_bytes()
    }

    /// Asks the server what there is, and returns a member for each database and one for the users.
    fn plan(&self, _: &Planning) -> Result<Vec<Member>, SourceError> {
        let server = Arc::new(Mysql::new(self.url.clone()));
        let stream = |name: String, what: What, left_out: Option<String>| {
            let opener = Arc::new(Dump { server: server.clone(), what, digests: self.digests, left_out });
            PlannedStream { name: name.into_bytes(), opener }
        };
        let mut names = Vec::new();
        let mut database = |name: &str, left_out: Option<String>| {
            let label = format!("{}/{name}", self.url.server());
            let excluded = match self.excluded(&server, name, &mut names) {
                Ok(excluded) => excluded,
                Err(error) => return Member { label, streams: Err(error.into()), notes: Vec::new() },
            };
            let notes = excluded.note(name).into_iter().collect();
            let file = file_name_unlike(name, self.all_databases.then_some("users"));
            let file = format!("{}/{file}.sql", self.directory);
            let streams = Ok(vec![stream(file, What::Database(name.to_owned(), excluded), left_out)]);
            Member { label, streams, notes }
        };
        if !self.all_databases {
            let name = self.url.database.as_deref();
            let name = name.ok_or_else(|| DatabaseError::NoDatabase { server: self.url.server() })?;
            let mut member = database(name, None);
            member.notes.extend(self.exclusions.like_nothing(&names));
            return Ok(vec![member]);
        }
        let all = server.databases()?;
        let mut notes = self.chosen.like_nothing(&all.iter().collect::<Vec<_>>());
        let (wanted, unwanted) = self.chosen.choose(all);
        notes.extend(told_left_out(&unwanted));
        let left_out = left_out_fact(&unwanted, self.no_globals.then_some("users and grants"));
        let mut members: Vec<Member> = wanted.iter().map(|name| database(name, left_out.clone())).collect();
        notes.extend(self.exclusions.like_nothing(&names));
        let users = stream(format!("{}/users.sql", self.directory), What::Users, left_out);
        if !self.no_globals {
            let granted = |grant: &String| format!("the program leaves out what is granted to everybody: {grant}");
            notes.extend(server.grants_to_public().iter().map(granted));
            notes.extend(server.beside_users());
        }
        members.push(Member {
            label: format!("{}, users", self.url.server()),
            streams: Ok(Some(users).filter(|_| !self.no_globals).into_iter().collect()),
            notes,
        });
        Ok(members)
    }

    fn asking(&self) -> Option<&'static str> {
        Some("asking the databases")
    }
}

impl MysqlSource {
    /// Asks what of a database is left out, and adds the names of its tables to `names`.
    fn excluded(
        &self,
        server: &Mysql,
        database: &str,
        names: &mut Vec<String>,
    ) -> Result<ExcludedTables, DatabaseError> {
        if self.exclusions.is_empty() {
            return Ok(ExcludedTables::default());
        }
        let tables = server.excludable_tables(database)?;
        names.extend(tables.iter().flat_map(|table| table.names.clone()));
        let excluded = self.exclusions.choose(&tables);
        match taken_along(&tables, &excluded) {
            None => Ok(excluded),
            Some((table, other)) => Err(DatabaseError::Refused {
                server: server.url().server(),
                why: format!(
                    "the dump program takes {table} and {other} of {database} for one when a table is left out: leave both out, \
                     or none"
                ),
            }),
        }
    }
}

/// Returns a table that is left out, or whose rows are, and one that would be as well: the dump programs take upper and lower case
/// for one there.
fn taken_along<'a>(all: &'a [ExcludableTable], excluded: &'a ExcludedTables) -> Option<(&'a str, &'a str)> {
    let alike = |table: &'a ExcludableTable, stays: &dyn Fn(&ExcludableTable) -> bool| {
        let lower = table.quoted.to_lowercase();
        let other = all.iter().find(|it| it.quoted != table.quoted && it.quoted.to_lowercase() == lower && stays(it));
        other.map(|other| (&*table.quoted, &*other.quoted))
    };
    let is_there = |table: &ExcludableTable| !excluded.tables.contains(table);
    let has_rows = |table: &ExcludableTable| is_there(table) && !excluded.rows.contains(table);
    let tables = excluded.tables.iter().find_map(|table| alike(table, &is_there));
    tables.or_else(|| excluded.rows.iter().find_map(|table| alike(table, &has_rows)))
}

enum What {
    Database(String, ExcludedTables),
    Users,
}

/// A stream of one server.
struct Dump {
    server: Arc<Mysql>,
    what: What,
    digests: bool,
    /// What of the server is in none of the dumps.
    left_out: Option<String>,
}

impl OpenStream for Dump {
    fn open(&self, cancel: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
        let server = self.server.server()?;
        if self.is_asked_for(&server) {
            return Ok(self.users_of_mysql(&server, cancel)?);
        }
        let program = self.server.dump_program(&server)?;
        self.server.check_session(&program)?;
        let mut arguments = program.options();
        arguments.extend(BESIDE_TABLES.map(str::to_owned));
        let (name, part) = match &self.what {
            What::Database(database, excluded) => {
                (&**database, self.database(&server, &program, database, excluded, cancel)?)
            }
            What::Users => ("users", self.users(&program)?),
        };
        let mut facts = server_facts(&server, part.format, Some(program.version));
        facts.extend(part.facts);
        facts.set_some(fact::LEFT_OUT, self.left_out.clone());
        arguments.extend(part.arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = self.server.command(program.program, &arguments);
        let inner = Box::new(CommandSource::spawn(&command)?);
        let name = format!("{} of {name}", command.name());
        Ok(Box::new(CheckedSource::new(inner, name, part.checks).with_facts(facts)))
    }

    /// Asks the server, looks at the user's rights, and has the dump program begin.
    fn try_out(&self, cancel: &Cancel) -> Result<Option<String>, SourceError> {
        let server = self.server.server()?;
        let program = match self.is_asked_for(&server) {
            true => None,
            false => Some(self.server.dump_program(&server)?),
        };
        let name = match &self.what {
            What::Database(database, _) => database,
            What::Users => "users",
        };
        begins(self.open(cancel)?, name, cancel)?;
        let program = program.map_or_else(String::new, |program| format!(", {}", program.version));
        Ok(Some(format!("{} answers{program}", server.version)))
    }

    fn advise(&self, facts: &StreamFacts) -> Vec<String> {
        let too_long = match (facts.get(facts::LONGEST_LINE), facts.get(facts::MAX_PACKET)) {
            (Some(longest), Some(most)) if longest > most => Some(format!(
                "a row takes {longest} bytes as SQL: it can only be restored where max_allowed_packet is larger than that, and \
                 here it is {most}"
            )),
            _ => None,
        };
        let rounded = facts.text(facts::ROUNDED).map(|columns| {
            format!("the server gives FLOAT with six digits only, as DOUBLE it would give all: {columns}")
        });
        let not_transactional = facts.text(facts::NOT_TRANSACTIONAL).map(|tables| {
            format!("these tables may have changed while they were dumped, their engine has no transactions: {tables}")
        });
        let not_counted = not_counted(facts).filter(|_| self.digests);
        too_long.into_iter().chain(rounded).chain(not_transactional).chain(not_counted).collect()
    }
}

/// What is different in the dump of a database and that of the users.
struct DumpAsked {
    format: MysqlFormat,
    arguments: Vec<String>,
    facts: StreamFacts,
    checks: Vec<Box<dyn Check>>,
}

impl Dump {
    fn database(
        &self,
        server: &ServerFacts,
        program: &DumpProgram,
        database: &str,
        excluded: &ExcludedTables,
        cancel: &Cancel,
    ) -> Result<DumpAsked, DatabaseError> {
        let known = self.server.facts(database)?.ok_or_else(|| DatabaseError::Missing {
            server: self.server.url().server(),
            database: database.to_owned(),
        })?;
        self.server.check_rights(server, database)?;
        match (server.is_mariadb(), program.is_mariadb()) {
            (true, false) => {
                let why = "it leaves out packages and the past of rows, and cannot read all names";
                return Err(self.foreign(server, program, why.to_owned()));
            }
            (false, true) if !known.foreign.is_empty() => {
                let columns = known.foreign.join(", ");
                let why = format!("what it writes of generated columns and vectors ({columns}) cannot be restored");
                return Err(self.foreign(server, program, why));
            }
            _ => {}
        }
        let changed = self.server.losses(server, database, cancel)?;
        if known.has_history && !program.knows("--dump-history") {
            let why = "it has system-versioned tables, whose history needs a mariadb-dump of 10.11 or later";
            return Err(self.refused(why));
        }
        let mut arguments: Vec<String> = known.has_history.then(|| "--dump-history".to_owned()).into_iter().collect();
        arguments.extend(self.excluding(program, database, excluded)?);
        // Behind `--`, so that no name is an option.
        arguments.extend(["--".to_owned(), database.to_owned()]);
        let defined = self.server.defined(database, &excluded.tables)?;
        let mut facts = database_facts(database, known);
        let listed = |names: Vec<String>| Some(JsonList(names)).filter(|names| !names.0.is_empty());
        facts.set_some(facts::DEFINERS, listed(defined.definers));
        facts.set_some(facts::DEFINED, listed(defined.kinds));
        facts.set_some(fact::LEFT_OUT_TABLES, excluded.fact());
        facts.set_some(fact::CHANGED, Some(changed.join("; ")).filter(|_| !changed.is_empty()));
        let (rows, counted) = (AllRows::but_for(excluded), InsertedRows::new(self.digests));
        let checks: Vec<Box<dyn Check>> = vec![Box::new(EndsWith::new(MARK)), Box::new(rows), Box::new(counted)];
        Ok(DumpAsked { format: MysqlFormat::Sql, arguments, facts, checks })
    }

    /// Returns the options that leave tables out, or their rows.
    fn excluding(
        &self,
        program: &DumpProgram,
        database: &str,
        excluded: &ExcludedTables,
    ) -> Result<Vec<String>, DatabaseError> {
        const ROWS: &str = "--ignore-table-data";
        if !excluded.rows.is_empty() && !program.knows(ROWS) {
            let why =
                "the dump program cannot leave the rows of a table out: use --exclude-table, or MariaDB's mariadb-dump";
            return Err(self.refused(why));
        }
        let option = |option: &str, table: &str| format!("{option}={database}.{table}");
        let tables = excluded.tables.iter().map(|table| option("--ignore-table", &table.quoted));
        Ok(tables.chain(excluded.rows.iter().map(|table| option(ROWS, &table.quoted))).collect())
    }

    fn users(&self, program: &DumpProgram) -> Result<DumpAsked, DatabaseError> {
        if !program.knows("--system") {
            let why = "users and grants of MariaDB can only be dumped by its own mariadb-dump of 10.11 or later (package \
                mariadb-client); leave them out with --no-globals";
            return Err(self.refused(why));
        }
        // Users may need the plugins that let them in.
        let arguments = vec!["--system=plugins,users,udfs,servers".to_owned()];
        let checks: Vec<Box<dyn Check>> = vec![Box::new(EndsWith::new(MARK))];
        Ok(DumpAsked { format: MysqlFormat::Users, arguments, facts: StreamFacts::default(), checks })
    }

    /// Tells whether the server is asked for the stream, and no dump program writes it.
    fn is_asked_for(&self, server: &ServerFacts) -> bool {
        matches!(self.what, What::Users) && !server.is_mariadb()
    }

    fn users_of_mysql(&self, server: &ServerFacts, cancel: &Cancel) -> Result<Box<dyn StreamSource>, DatabaseError> {
        if !self.server.grants()?.has_on_database("SELECT", "mysql") {
            let (server, right) = (self.server.url().server(), "SELECT ON `mysql`.*".to_owned());
            return Err(DatabaseError::Unseen { server, right, what: "users and grants" });
        }
        let statements = self.server.users_as_sql(&server.version, cancel)?;
        let dump = ReadSource::new(Box::new(Cursor::new(users_dump(&server.version, &statements))));
        let mut facts = server_facts(server, MysqlFormat::Users, None);
        facts.set_some(facts::PARTIAL_REVOKES, self.server.has_partial_revokes()?.then(|| "on".to_owned()));
        facts.set_some(fact::LEFT_OUT, self.left_out.clone());
        let checks: Vec<Box<dyn Check>> = vec![Box::new(EndsWith::new(MARK))];
        Ok(Box::new(CheckedSource::new(Box::new(dump), "users".to_owned(), checks).with_facts(facts)))
    }

    fn foreign(&self, server: &ServerFacts, program: &DumpProgram, why: String) -> DatabaseError {
        DatabaseError::ForeignProgram {
            server: self.server.url().server(),
            program: program.program.to_string_lossy().into_owned(),
            is_mariadb: server.is_mariadb(),
            why,
        }
    }

    fn refused(&self, why: &str) -> DatabaseError {
        DatabaseError::Refused { server: self.server.url().server(), why: why.to_owned() }
    }
}

fn database_facts(database: &str, known: MysqlFacts) -> StreamFacts {
    let mut facts = StreamFacts::default();
    facts.set(fact::DATABASE, database.to_owned());
    facts.set(fact::DATABASE_BYTES, known.bytes);
    facts.set(fact::ROWS_ESTIMATE, known.rows);
    facts.set(fact::TABLES, known.tables);
    facts.set(facts::CREATE, known.create);
    facts.set_some(facts::COMMENT, known.comment);
    let listed = |names: Vec<String>| Some(names.join(", ")).filter(|_| !names.is_empty());
    facts.set_some(facts::NOT_TRANSACTIONAL, listed(known.not_transactional));
    facts.set_some(facts::ROUNDED, listed(known.rounded));
    facts.set_some(facts::HISTORY, known.has_history.then(|| "system-versioned tables".to_owned()));
    facts
}

fn server_facts(server: &ServerFacts, format: MysqlFormat, client: Option<String>) -> StreamFacts {
    let mut facts = StreamFacts::default();
    facts.set(fact::ENGINE, NAME.to_owned());
    facts.set(fact::SERVER_VERSION, server.version.clone());
    facts.set_some(fact::CLIENT_VERSION, client);
    facts.set(facts::FORMAT, format);
    facts.set_some(facts::MAX_PACKET, server.max_packet);
    if let Some((file, position)) = &server.binlog {
        facts.set(facts::BINLOG_FILE, file.clone());
        facts.set_some(facts::BINLOG_POSITION, position.parse().ok());
    }
    facts.set_some(facts::GTIDS, server.gtids.clone());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_differs_in_case_alone_is_never_taken_along() {
        let table = |name: &str| ExcludableTable { quoted: name.into(), names: vec![name.into()], without: Vec::new() };
        let all = ["log", "Log", "other"].map(table);
        let excluded = |tables: &[&str], rows: &[&str]| {
            let of = |names: &[&str]| names.iter().map(|name| table(name)).collect();
            ExcludedTables { tables: of(tables), rows: of(rows) }
        };
        assert_eq!(taken_along(&all, &excluded(&["log"], &[])), Some(("log", "Log")));
        assert_eq!(taken_along(&all, &excluded(&["other"], &["Log"])), Some(("Log", "log")));
        for (tables, rows) in [(&["log", "Log"][..], &[][..]), (&["other"], &[]), (&["Log"], &["log"])] {
            let is_taken = taken_along(&all, &excluded(tables, rows)).is_some();
            assert_eq!(is_taken, tables == ["Log"], "{tables:?}");
        }
    }
}
