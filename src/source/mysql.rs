//! MariaDB and MySQL as a source: every database a stream of SQL; users, grants and what else belongs to the server one more.
//!
//! A dump is one transaction (`--single-transaction`), so what is in tables of InnoDB is consistent and nobody is stopped;
//! tables of other engines are named in the facts. A stream has one database and no `USE`, so it can be loaded into any.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::database::mysql::{Mysql, ServerFacts};
use crate::database::url::{DatabaseUrl, Engine};
use crate::database::{DatabaseError, Format, fact};
use crate::source::check::{Check, CheckedSource, MYSQL_MARK};
use crate::source::command::CommandSource;
use crate::source::names::file_name_unlike;
use crate::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};

/// Options of every dump: consistent without locks, row by row, complete, free of encodings that could be lost, and the same
/// for the same data.
const DUMP_OPTIONS: [&str; 11] = [
    "--single-transaction",
    "--quick",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    "--skip-dump-date",
    "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
    // A table locked while it is filled cannot use a sequence for its defaults, and nobody else is in a new database.
    "--skip-add-locks",
    // Tablespaces need a right that backup users rarely have, and no database needs them.
    "--no-tablespaces",
];
/// Options that only some programs know.
const OPTIONS_OF_SOME: [(&str, &str); 2] = [("--set-gtid-purged", "=OFF"), ("--column-statistics", "=0")];

/// What to dump of a server.
#[derive(Debug, Clone)]
pub struct MysqlSource {
    /// The server, and the database unless all are wanted.
    pub url: DatabaseUrl,
    /// Every database but the server's own, and users with their grants.
    pub all_databases: bool,
    /// Directory of the streams in the snapshot: `mysql`, or more when there are several servers.
    pub directory: String,
}

impl Source for MysqlSource {
    fn name(&self) -> Vec<u8> {
        self.url.source_name(self.all_databases).into_bytes()
    }

    /// Asks the server what there is, and returns a member for each database and one for the users.
    fn plan(&self, _: &Planning) -> Result<Vec<Member>, SourceError> {
        debug_assert_eq!(self.url.engine, Engine::Mysql);
        let server = Arc::new(Mysql::new(self.url.clone()));
        let member = |label: String, name: String, what: What| {
            let opener = Arc::new(Dump { server: server.clone(), what });
            Member { label, streams: Ok(vec![PlannedStream { name: name.into_bytes(), opener }]), notes: Vec::new() }
        };
        let database = |name: &str| {
            let label = format!("{}/{name}", self.url.server());
            let file = file_name_unlike(name, self.all_databases.then_some("users"));
            member(label, format!("{}/{file}.sql", self.directory), What::Database(name.to_owned()))
        };
        if !self.all_databases {
            let name = self.url.database.as_deref();
            let name = name.ok_or_else(|| DatabaseError::NoDatabase { server: self.url.server() })?;
            return Ok(vec![database(name)]);
        }
        let mut members: Vec<Member> = server.databases()?.iter().map(|name| database(name)).collect();
        let label = format!("{}, users", self.url.server());
        let users = member(label, format!("{}/users.sql", self.directory), What::Users);
        let left_out = |grant: &String| format!("the program leaves out what is granted to everybody: {grant}");
        members.push(Member { notes: server.grants_to_public().iter().map(left_out).collect(), ..users });
        Ok(members)
    }

    fn asking(&self) -> Option<&'static str> {
        Some("asking the databases")
    }
}

enum What {
    Database(String),
    Users,
}

/// A stream of one server.
struct Dump {
    server: Arc<Mysql>,
    what: What,
}

impl OpenStream for Dump {
    fn open(&self, is_cancelled: &dyn Fn() -> bool) -> Result<Box<dyn StreamSource>, SourceError> {
        let server = self.server.server()?;
        let program = self.server.dump_program(&server)?;
        self.server.check_session(&program)?;
        let is_foreign = program.is_mariadb() && !server.is_mariadb();
        let foreign = |what: String| DatabaseError::ForeignProgram {
            server: self.server.url().server(),
            program: program.program.to_string_lossy().into_owned(),
            what,
        };
        let (format, check) = match self.what {
            What::Users => (Format::MysqlUsers, Check::Mark(MYSQL_MARK)),
            What::Database(_) => (Format::MysqlSql, Check::SqlDump),
        };
        let mut facts = server_facts(&server, format, &program.version);
        let mut arguments: Vec<&str> = DUMP_OPTIONS.to_vec();
        let of_some: Vec<String> = OPTIONS_OF_SOME
            .iter()
            .filter(|(name, _)| program.knows(name))
            .map(|(name, value)| format!("{name}{value}"))
            .collect();
        arguments.extend(of_some.iter().map(String::as_str));
        let session = program.session_option();
        arguments.extend(session.as_deref());
        let refused = |why: &str| DatabaseError::Refused { server: self.server.url().server(), why: why.to_owned() };
        let name = match &self.what {
            What::Database(database) => {
                let known = self.server.facts(database)?.ok_or_else(|| DatabaseError::Missing {
                    server: self.server.url().server(),
                    database: database.clone(),
                })?;
                self.server.check_rights(&server, database)?;
                if is_foreign && !known.foreign.is_empty() {
                    return Err(foreign(format!("generated columns and vectors ({})", known.foreign.join(", "))).into());
                }
                let changed = self.server.losses(&server, database, is_cancelled)?;
                if !changed.is_empty() {
                    facts.insert(fact::CHANGED.into(), changed.join("; "));
                }
                facts.insert(fact::DATABASE.into(), database.clone());
                facts.insert(fact::DATABASE_BYTES.into(), known.bytes.to_string());
                facts.insert(fact::ROWS_ESTIMATE.into(), known.rows.to_string());
                facts.insert(fact::CREATE.into(), known.create);
                facts.extend(known.comment.map(|comment| (fact::COMMENT.into(), comment)));
                if !known.not_transactional.is_empty() {
                    facts.insert(fact::NOT_TRANSACTIONAL.into(), known.not_transactional.join(", "));
                }
                if !known.rounded.is_empty() {
                    facts.insert(fact::ROUNDED.into(), known.rounded.join(", "));
                }
                if known.has_history {
                    if !program.knows("--dump-history") {
                        let why =
                            "it has system-versioned tables, whose history needs a mariadb-dump of 10.11 or later";
                        return Err(refused(why).into());
                    }
                    arguments.push("--dump-history");
                    facts.insert(fact::HISTORY.into(), "system-versioned tables".into());
                }
                // Behind `--`, so that no name is an option.
                arguments.extend(["--", database]);
                database.clone()
            }
            What::Users if is_foreign => return Err(foreign("users and grants".into()).into()),
            What::Users => {
                if !program.knows("--system") {
                    let why = "users and grants can only be dumped by mariadb-dump; name the databases one by one";
                    return Err(refused(why).into());
                }
                // Users may need the plugins that let them in.
                arguments.push("--system=plugins,users,udfs,servers");
                "users".to_owned()
            }
        };
        let command = self.server.command(program.program, &arguments);
        let inner = Box::new(CommandSource::spawn(&command)?);
        let name = format!("{} of {name}", command.name());
        Ok(Box::new(CheckedSource::new(inner, name, check, facts, None)?))
    }
}

fn server_facts(server: &ServerFacts, format: Format, client: &str) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from(
        [
            (fact::ENGINE, Engine::Mysql.name()),
            (fact::SERVER_VERSION, server.version.as_str()),
            (fact::CLIENT_VERSION, client),
            (fact::FORMAT, format.name()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    facts.extend(server.max_packet.map(|bytes| (fact::MAX_PACKET.into(), bytes.to_string())));
    if let Some((file, position)) = &server.binlog {
        facts.insert(fact::BINLOG_FILE.into(), file.clone());
        facts.insert(fact::BINLOG_POSITION.into(), position.clone());
    }
    facts
}
