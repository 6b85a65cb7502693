//! What engines of databases share: where a server is ([`url::DatabaseUrl`]), which of several client programs is meant, files
//! that are needed for a while, and why one could not be asked.
//!
//! Servers are talked to by their own client programs, which know all ways to connect and to log in. Passwords reach a client
//! in its environment or by files that the client reads itself, never on its command line. What is known of one kind of
//! database is in its folder of [`crate::engine`].

use std::io;
use std::path::PathBuf;

use crate::model::outcome::{Ended, Outcome};
use crate::process::{CommandFailed, CommandOptions, said};

pub mod chosen;
pub mod clients;
pub mod spool;
pub mod tables;
pub mod url;

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
    /// A pooler gives the sessions of the server to others between transactions.
    #[error(
        "{server}: a pooler shares the sessions of the server between transactions, as PgBouncer does with pool_mode = transaction: settings \
         of a dump would be missing from it, and reach applications"
    )]
    SharedSessions {
        /// The server.
        server: String,
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
    /// A dump has no such table.
    #[error("the dump of {database} has no table like {}; it has {}", patterns.join(", "), if there.is_empty() { "none" } else { there })]
    NoTable {
        /// The database.
        database: String,
        /// The patterns that no table is like.
        patterns: Vec<String>,
        /// Names of the tables that it has.
        there: String,
    },
    /// A dump has no rows of tables, which alone were asked for: they are views, or were dumped without rows.
    #[error("the dump of {database} has no rows of what was asked for")]
    NoRows {
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
    /// What a program of another vendor than the server's writes could not be put back, or is not all.
    #[error("{server} is {}, and {program} is {}'s: {why}", vendor(*is_mariadb), vendor(!is_mariadb))]
    ForeignProgram {
        /// The server.
        server: String,
        /// The dump program.
        program: String,
        /// The server is MariaDB, and no MySQL.
        is_mariadb: bool,
        /// What comes of it.
        why: String,
    },
    /// Option files say something to a client that changes what it does.
    #[error("option files change what {program} does, by {}", options.join(", "))]
    OptionFiles {
        /// The program.
        program: String,
        /// The options.
        options: Vec<String>,
    },
    /// A dump says of a table how it is made and has no rows of it.
    #[error("{name} has no rows of table {table}: its definition was changed meanwhile")]
    RowsMissing {
        /// The program.
        name: String,
        /// The table, quoted.
        table: String,
    },
    /// The engine's own program does not understand an archive.
    #[error("what {name} wrote cannot be listed by pg_restore{}", said(stderr))]
    NotListed {
        /// The program.
        name: String,
        /// The last lines that `pg_restore` wrote to its standard error.
        stderr: Vec<String>,
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
            DatabaseError::Missing { .. } | DatabaseError::NoTable { .. } | DatabaseError::NoRows { .. } => {
                Outcome::Missing
            }
            DatabaseError::ClientOlder { .. }
            | DatabaseError::Unseen { .. }
            | DatabaseError::UnseenDatabases { .. }
            | DatabaseError::RolePasswords { .. }
            | DatabaseError::Session { .. }
            | DatabaseError::ForeignProgram { .. }
            | DatabaseError::OptionFiles { .. }
            | DatabaseError::SharedSessions { .. }
            | DatabaseError::Refused { .. } => Outcome::Refused,
            DatabaseError::Spawn { .. }
            | DatabaseError::Failed { .. }
            | DatabaseError::Answer { .. }
            | DatabaseError::NoDatabase { .. }
            | DatabaseError::Sqlite { .. }
            | DatabaseError::SqliteDamaged { .. }
            | DatabaseError::RowsMissing { .. }
            | DatabaseError::NotListed { .. }
            | DatabaseError::Spool { .. } => Outcome::Failed,
        }
    }
}

impl DatabaseError {
    /// Tells whether it is about a SQLite file itself: it is not there, is no database, or may not be read.
    pub fn is_of_the_file(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, NotADatabase, PermissionDenied, ReadOnly};
        let Self::Sqlite { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(CannotOpen | NotADatabase | PermissionDenied | ReadOnly))
    }

    /// Returns what a client program that failed said last.
    pub fn last_said(&self) -> &[String] {
        match self {
            Self::Failed { stderr, .. } => stderr,
            _ => &[],
        }
    }

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

fn vendor(is_mariadb: bool) -> &'static str {
    if is_mariadb { "MariaDB" } else { "MySQL" }
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
}
