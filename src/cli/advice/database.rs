//! Databases: rights that are missing, clients that are, and what their programs say.

use crate::cli::advice::client::client_hint;
use crate::cli::advice::restore::ANOTHER_SNAPSHOT;
use crate::cli::advice::{Advice, backup};
use crate::cli::engines::or;
use crate::database::DatabaseError;
use crate::engine::{Engines, ServerWords};
use crate::model::outcome::{Ended, Outcome};
use crate::ops::restore_database::RestoreDatabaseError;

impl Advice for RestoreDatabaseError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            RestoreDatabaseError::Several { .. } => {
                "choose with --database OLD[=NEW], as often as wanted, or --all-databases"
            }
            RestoreDatabaseError::NoGlobals { needed, .. } if needed.is_empty() => {
                "make the roles or users that its databases need by hand, or restore without owners, by --no-owner"
            }
            RestoreDatabaseError::NoGlobals { needed, .. } => {
                let make: Vec<String> = needed.iter().map(|statement| format!("{statement};")).collect();
                return Some(format!(
                    "make those that its databases need: {} Or restore without owners, by --no-owner",
                    make.join(" ")
                ));
            }
            RestoreDatabaseError::NothingFits { .. } => {
                "`latest` is the newest of all jobs: choose another by --job NAME, or write its id (`coffre snapshots` lists them, `coffre \
                 ls -R SNAPSHOT` what is in one); a dump made by --command goes through `coffre dump … | client`"
            }
            RestoreDatabaseError::Refused { .. } => {
                "--database OLD=NEW gives another name, --in-place replaces; --plan shows everything and changes nothing"
            }
            RestoreDatabaseError::Unreadable { source, .. } if source.outcome() == Outcome::Damaged => ANOTHER_SNAPSHOT,
            RestoreDatabaseError::Unreadable { source, .. } => return source.hint(),
            RestoreDatabaseError::Client { stderr, .. } => return client_hint(stderr),
            RestoreDatabaseError::Server { source, .. } | RestoreDatabaseError::Database(source) => {
                return source.hint();
            }
            RestoreDatabaseError::Stored { source, .. } => return source.hint(),
            RestoreDatabaseError::Look(error) => return error.hint(),
            RestoreDatabaseError::Io { .. } | RestoreDatabaseError::Cancelled { .. } => return None,
        };
        Some(hint.into())
    }
}

/// Says which packages have the client programs of databases, and which variables name their directories.
fn where_programs_are() -> String {
    let engines = Engines::default();
    let servers: Vec<&ServerWords> = engines.iter().filter_map(|engine| engine.words().server.as_ref()).collect();
    let packages: Vec<&str> = servers.iter().map(|words| words.package).collect();
    let variables: Vec<String> = servers.iter().map(|words| words.programs.to_owned()).collect();
    let (packages, variables) = (packages.join(", "), or(&variables));
    format!("install the client programs ({packages}), or name their directory in {variables}")
}

const BY_ITSELF: &str = "run the client by itself to see why";

impl Advice for DatabaseError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            DatabaseError::Spawn { .. } => return Some(where_programs_are()),
            DatabaseError::ClientOlder { .. } => {
                "install the client programs of that version, or name their directory in COFFRE_POSTGRES_BIN"
            }
            DatabaseError::Failed { stderr, .. } => return client_hint(stderr).or_else(|| Some(BY_ITSELF.into())),
            DatabaseError::UnseenDatabases { right, .. } => {
                return Some(format!(
                    "as an administrator: GRANT {right} TO this user; or name its databases one by one"
                ));
            }
            DatabaseError::Unseen { right, .. } => {
                return Some(format!("as an administrator: GRANT {right} TO this user"));
            }
            DatabaseError::OptionFiles { .. } => {
                "put what is needed to connect into a file of its own and name it by ?option-file=FILE; no other is read then"
            }
            DatabaseError::Session { setting, .. } => {
                let name = setting.split(' ').next().unwrap_or_default();
                return Some(format!(
                    "as an administrator: SET GLOBAL {name} = DEFAULT, and look for it in init_connect; what that says is not run for \
                     users with CONNECTION ADMIN (MySQL: CONNECTION_ADMIN)"
                ));
            }
            DatabaseError::ForeignProgram { is_mariadb: true, .. } => {
                "install MariaDB's own client programs (mariadb-dump and mariadb, package mariadb-client), or name their directory in \
                 COFFRE_MYSQL_BIN"
            }
            DatabaseError::ForeignProgram { is_mariadb: false, .. } => {
                "install MySQL's own client programs (mysqldump and mysql, package mysql-client), or name their directory in \
                 COFFRE_MYSQL_BIN"
            }
            DatabaseError::SharedSessions { .. } => {
                "connect to the server itself, or to a pool that keeps a session for each client (pool_mode = session)"
            }
            DatabaseError::NoDatabase { .. } => "add one to the URL, or --all-databases",
            DatabaseError::NoTable { .. } => {
                "a pattern is like the name of a table, or with PostgreSQL SCHEMA.TABLE; upper and lower case differ"
            }
            DatabaseError::NoRows { .. } => {
                "views have none, and a backup with --exclude-table-data left some out: leave --data-only away"
            }
            DatabaseError::Missing { .. } => "compare its name with those that the server lists",
            DatabaseError::RolePasswords { .. } => {
                "add --no-role-passwords, or GRANT pg_read_all_data TO this user; without them roles must be given new passwords after \
                 a restore"
            }
            DatabaseError::Spool { .. } => "name a directory with room by --spool-dir or COFFRE_SPOOL_DIR",
            DatabaseError::Sqlite { .. } if self.is_of_the_file() => {
                "is it there, is it a database, and may this user read it and its directory?"
            }
            DatabaseError::Sqlite { .. } => return None,
            DatabaseError::SqliteDamaged { .. } => {
                "repair it (`sqlite3 FILE .recover`), or restore it; earlier snapshots are untouched"
            }
            DatabaseError::RowsMissing { .. } => {
                "run it again when nobody changes tables or triggers; nothing of this run is in a snapshot"
            }
            DatabaseError::NotListed { .. } => backup::BY_ITSELF,
            DatabaseError::Answer { .. } | DatabaseError::Refused { .. } => BY_ITSELF,
        };
        Some(hint.into())
    }
}
