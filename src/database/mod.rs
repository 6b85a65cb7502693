//! Talking to database servers, always by their own client programs, which know all ways to connect and to log in.
//!
//! Sources and targets build on this: where a server is ([`url::DatabaseUrl`]), which client program fits it, and how to
//! ask it something. Passwords reach a client in its environment or by files that the client reads itself, never on its
//! command line.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::outcome::{Ended, Outcome};
use crate::process::{CommandFailed, CommandOptions, said};

pub mod mysql;
pub mod postgres;
pub mod spool;
pub mod sqlite;
pub mod url;

/// Names of the facts that are kept about a stream of a database, in its entry.
pub mod fact {
    /// The kind of server: `postgres`, `mysql` or `sqlite`.
    pub const ENGINE: &str = "engine";
    /// What the server calls its own version.
    pub const SERVER_VERSION: &str = "server_version";
    /// Version of the program that made the dump.
    pub const CLIENT_VERSION: &str = "client_version";
    /// The database; streams of a whole server have none.
    pub const DATABASE: &str = "database";
    /// Size of the database on its server, in bytes.
    pub const DATABASE_BYTES: &str = "database_bytes";
    /// Rows that the server believes to have.
    pub const ROWS_ESTIMATE: &str = "rows_estimate";
    /// What the stream is: see [`super::Format`].
    pub const FORMAT: &str = "format";
    /// Position in PostgreSQL's write-ahead log right before the dump.
    pub const WAL_LSN: &str = "wal_lsn";
    /// File of MariaDB's binary log right before the dump.
    pub const BINLOG_FILE: &str = "binlog_file";
    /// Position in that file.
    pub const BINLOG_POSITION: &str = "binlog_position";
    /// Encoding of a PostgreSQL database.
    pub const ENCODING: &str = "encoding";
    /// Clauses of `CREATE DATABASE` that give a new database the properties of the dumped one.
    pub const CREATE: &str = "create_clauses";
    /// The comment of a MariaDB database.
    pub const COMMENT: &str = "comment";
    /// The tablespace of a PostgreSQL database.
    pub const TABLESPACE: &str = "tablespace";
    /// How many user mappings of foreign servers may lack options in a dump, which the user may not see.
    pub const HIDDEN_MAPPINGS: &str = "hidden_user_mappings";
    /// A JSON array of statements that set the database's owner, settings and rights, `%I` in place of its name.
    pub const SETTINGS: &str = "database_settings";
    /// On the main stream of a split dump: how many tables have streams of their own.
    pub const PARTS: &str = "parts";
    /// On the stream of a single table: the table, quoted as SQL wants it.
    pub const TABLE: &str = "table";
    /// Tables whose engine knows no transactions, so that they may have changed while they were dumped.
    pub const NOT_TRANSACTIONAL: &str = "not_transactional";
    /// Columns whose values a dump of SQL rounds.
    pub const ROUNDED: &str = "rounded";
    /// Columns that come back as others from a dump of SQL, and what becomes of them.
    pub const CHANGED: &str = "changed_by_sql";
    /// A JSON array of statements that make the roles which a PostgreSQL database uses, without passwords and rights.
    pub const ROLES: &str = "roles";
    /// Bytes of the longest line of a dump of MariaDB or MySQL; a server takes no statement longer than its
    /// `max_allowed_packet`.
    pub const LONGEST_LINE: &str = "longest_line";
    /// `max_allowed_packet` of the server that was dumped.
    pub const MAX_PACKET: &str = "max_allowed_packet";
    /// Says that rows of the past are in the dump, of system-versioned tables.
    pub const HISTORY: &str = "history";
    /// Entries in the table of contents of a custom archive.
    pub const ARCHIVE_ENTRIES: &str = "archive_entries";
    /// How a stream is compressed that should not be.
    pub const COMPRESSED: &str = "compressed";
    /// What the program that gave it wrote to its standard error although it ended well; its last lines.
    pub const SAID: &str = "said";
    /// What the check for completeness found.
    pub const CHECKED: &str = "checked";
    /// Permissions of a SQLite database file, in octal.
    pub const FILE_MODE: &str = "file_mode";
    /// User and group that own it, by name.
    pub const FILE_OWNER: &str = "file_owner";
    /// Path of a SQLite database file.
    pub const FILE: &str = "file";
}

/// Returns a fact as JSON: those that are numbers as numbers, the others as text.
pub fn fact_to_json(name: &str, value: &str) -> serde_json::Value {
    const NUMBERS: [&str; 10] = [
        fact::DATABASE_BYTES,
        fact::ROWS_ESTIMATE,
        fact::BINLOG_POSITION,
        fact::HIDDEN_MAPPINGS,
        fact::PARTS,
        fact::LONGEST_LINE,
        fact::MAX_PACKET,
        fact::ARCHIVE_ENTRIES,
        // Of SQLite.
        "tables",
        "user_version",
    ];
    let number = value.parse::<u64>().ok().filter(|_| NUMBERS.contains(&name));
    number.map_or_else(|| value.into(), Into::into)
}

/// What a stream of a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An archive of `pg_dump --format=custom`.
    PostgresCustom,
    /// SQL of `pg_dump`.
    PostgresPlain,
    /// Roles and tablespaces, SQL of `pg_dumpall --globals-only`.
    PostgresGlobals,
    /// SQL of `mariadb-dump` or `mysqldump`.
    MysqlSql,
    /// Users and grants, SQL of `mariadb-dump --system=users`.
    MysqlUsers,
    /// A SQLite database file.
    SqliteFile,
}

impl Format {
    const ALL: [(Format, &'static str); 6] = [
        (Format::PostgresCustom, "postgres custom"),
        (Format::PostgresPlain, "postgres plain"),
        (Format::PostgresGlobals, "postgres globals"),
        (Format::MysqlSql, "mysql sql"),
        (Format::MysqlUsers, "mysql users"),
        (Format::SqliteFile, "sqlite file"),
    ];

    /// Returns the name that [`fact::FORMAT`] has.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(format, _)| *format == self).expect("all are named").1
    }

    /// Reads such a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(format, _)| *format)
    }
}

/// Why a database server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A client program is missing.
    #[error("{program} could not be started")]
    Spawn {
        /// The program.
        program: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A client program failed.
    #[error("{server} could not be {asked}: {program} ended with status {status}{}", said(stderr))]
    Failed {
        /// The server, without secrets.
        server: String,
        /// What was wanted of it, as a participle clause: `asked for its version`.
        asked: String,
        /// The program.
        program: String,
        /// Its status; negative for a signal.
        status: i32,
        /// The last lines of its standard error.
        stderr: Vec<String>,
    },
    /// The server said what was not expected.
    #[error("the answer of {server} is not understood: {answer:?}")]
    Answer {
        /// The server.
        server: String,
        /// What it said, cut short.
        answer: String,
    },
    /// The client is older than the server.
    #[error(
        "{program} is of version {client}, older than {server} of version {server_version}, and may not understand it"
    )]
    ClientOlder {
        /// The program.
        program: String,
        /// Its version.
        client: String,
        /// The server.
        server: String,
        /// The server's version.
        server_version: String,
    },
    /// No database was named.
    #[error("{server} names no database")]
    NoDatabase {
        /// The server.
        server: String,
    },
    /// There is no such database.
    #[error("{server} has no database {database:?}")]
    Missing {
        /// The server.
        server: String,
        /// The database.
        database: String,
    },
    /// The user does not see everything, and a dump would lack the rest without an error.
    #[error(
        "{server}: the user has no {right}; without it {what} would be missing from the dump, and nothing would say so"
    )]
    Unseen {
        /// The server.
        server: String,
        /// The right that is missing, as `GRANT` wants it.
        right: String,
        /// What is not shown for want of it.
        what: &'static str,
    },
    /// The user does not see every database, and those not seen would be missing.
    #[error(
        "{server}: the user has no {right}; without it databases would be missing from the dump, and nothing would say so"
    )]
    UnseenDatabases {
        /// The server.
        server: String,
        /// The right that is missing, as `GRANT` wants it.
        right: String,
    },
    /// Roles cannot be dumped with their passwords.
    #[error("{server}: this user may not read the passwords of roles, which the globals have")]
    RolePasswords {
        /// The server.
        server: String,
    },
    /// The server begins sessions so that a dump would lack something without an error.
    #[error(
        "{server} begins sessions with {setting}, which {program} does not change: {what}, and nothing would say so"
    )]
    Session {
        /// The server.
        server: String,
        /// The dump program.
        program: String,
        /// The setting and its value.
        setting: String,
        /// What would be missing.
        what: &'static str,
    },
    /// What a program of another vendor than the server's writes could not be put back.
    #[error("{server} is MySQL, and {program} is MariaDB's: what it writes of {what} cannot be restored")]
    ForeignProgram {
        /// The server.
        server: String,
        /// The dump program.
        program: String,
        /// Of what.
        what: String,
    },
    /// Option files say something to a client that changes what it does.
    #[error("option files change what {program} does, by {}", options.join(", "))]
    OptionFiles {
        /// The program.
        program: String,
        /// The options.
        options: Vec<String>,
    },
    /// A table to be locked is gone, or what is asked for is not possible.
    #[error("{server}: {why}")]
    Refused {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// A SQLite file could not be copied or checked.
    #[error("{file} could not be {what}")]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// What was tried, as a participle.
        what: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A SQLite file is damaged.
    #[error("{file} is damaged{}", said(findings))]
    SqliteDamaged {
        /// The file.
        file: PathBuf,
        /// What its integrity check found.
        findings: Vec<String>,
    },
    /// A file in the spool directory could not be used.
    #[error("{path} could not be used as a spool file")]
    Spool {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Ended for DatabaseError {
    fn outcome(&self) -> Outcome {
        match self {
            DatabaseError::Missing { .. } => Outcome::Missing,
            DatabaseError::ClientOlder { .. }
            | DatabaseError::Unseen { .. }
            | DatabaseError::UnseenDatabases { .. }
            | DatabaseError::RolePasswords { .. }
            | DatabaseError::Session { .. }
            | DatabaseError::ForeignProgram { .. }
            | DatabaseError::OptionFiles { .. }
            | DatabaseError::Refused { .. } => Outcome::Refused,
            DatabaseError::Spawn { .. }
            | DatabaseError::Failed { .. }
            | DatabaseError::Answer { .. }
            | DatabaseError::NoDatabase { .. }
            | DatabaseError::Sqlite { .. }
            | DatabaseError::SqliteDamaged { .. }
            | DatabaseError::Spool { .. } => Outcome::Failed,
        }
    }
}

impl DatabaseError {
    pub(crate) fn failed(server: &str, asked: &str, program: &CommandOptions, failure: CommandFailed) -> Self {
        match failure {
            CommandFailed::Spawn(source) | CommandFailed::Io(source) => Self::Spawn { program: program.name(), source },
            CommandFailed::Ended { status, stderr } => Self::Failed {
                server: server.to_owned(),
                asked: asked.to_owned(),
                program: program.name(),
                status,
                stderr,
            },
        }
    }

    pub(crate) fn answer(server: &str, answer: &[u8]) -> Self {
        let text = String::from_utf8_lossy(answer);
        Self::Answer { server: server.to_owned(), answer: text.chars().take(200).collect() }
    }
}

/// Finds a program: in the directory that the variable `named` holds, in the first of `directories` that has it, or by
/// `PATH`.
fn find_program(program: &str, named: &str, directories: &[PathBuf]) -> OsString {
    let chosen = std::env::var_os(named).filter(|value| !value.is_empty()).map(PathBuf::from);
    let fits = |directory: &Path| Some(directory.join(program)).filter(|path| path.is_file());
    match chosen {
        // What was asked for is used, or missed by name.
        Some(directory) => directory.join(program).into_os_string(),
        None => directories.iter().find_map(|directory| fits(directory)).map_or_else(|| program.into(), Into::into),
    }
}

/// Returns the first number in `version`: what database vendors call the major version.
pub fn major(version: &str) -> u32 {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_found_in_what_programs_print() {
        assert_eq!(major("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), 15);
        assert_eq!(major("9.6.24"), 9);
        assert_eq!(major("devel"), 0);
    }

    #[test]
    fn formats_are_found_by_their_names() {
        for (format, name) in Format::ALL {
            assert_eq!((Format::from_name(name), format.name()), (Some(format), name));
        }
        assert_eq!(Format::from_name("tar"), None);
    }
}
