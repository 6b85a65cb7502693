//! PostgreSQL by its client programs: which of them fits a server, what databases it has, and what is to be known of one.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::database::url::DatabaseUrl;
use crate::database::{DatabaseError, find_program, major};
use crate::process::{self, CommandOptions};

/// Names the directory of PostgreSQL's client programs, where they are not found by themselves.
pub const PROGRAMS_VARIABLE: &str = "COFFRE_POSTGRES_BIN";
/// Seconds that connecting may take, unless `PGCONNECT_TIMEOUT` says otherwise.
const CONNECT_SECONDS: &str = "20";
/// Where packages put versions beside each other.
const PROGRAM_DIRECTORIES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The database that new ones are copied from.
pub const TEMPLATE: &str = "template1";

/// What is kept about a database, and needed to make another like it.
#[derive(Debug, Clone, Deserialize)]
pub struct DatabaseFacts {
    /// The server's version, as it says it.
    pub server_version: String,
    /// The database.
    pub database: String,
    /// Its size on the server.
    pub bytes: u64,
    /// Rows that its statistics tell of.
    pub rows: i64,
    /// Position in the write-ahead log.
    pub lsn: Option<String>,
    /// Its encoding.
    pub encoding: String,
    /// Clauses for `CREATE DATABASE`.
    pub create: String,
    /// Statements with `%I` in place of the database's name.
    pub settings: Vec<String>,
    /// Whether passwords of roles may be read.
    pub reads_role_passwords: bool,
}

/// The databases of a server.
#[derive(Debug, Clone, Deserialize)]
pub struct Databases {
    /// Those that can be connected to.
    pub open: Vec<String>,
    /// Those that allow no connections.
    pub closed: Vec<String>,
}

/// A table and what it takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Table {
    /// Schema and name, quoted as SQL wants them.
    pub name: String,
    /// Bytes with what is stored out of line, without indexes.
    pub bytes: u64,
}

/// A PostgreSQL server, seen through `psql` and its kin.
#[derive(Debug, Clone)]
pub struct Postgres {
    url: DatabaseUrl,
}

impl Postgres {
    /// Names a server; nothing is connected yet.
    pub fn new(url: DatabaseUrl) -> Self {
        Self { url }
    }

    /// Returns where it is.
    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Describes how a client program is run on `database`: the connection in its arguments, the password in its
    /// environment.
    pub fn command(&self, program: OsString, database: &str, arguments: &[&str]) -> CommandOptions {
        let url = self.url.with_database(database);
        let connection = ["--no-password".to_owned(), format!("--dbname={}", url.for_command_line())];
        let mut options = CommandOptions::new(program, arguments.iter().map(|&a| a.to_owned()).chain(connection));
        if let Some(password) = url.password() {
            options.environment.push(("PGPASSWORD".into(), password.into()));
        }
        if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
            options.environment.push(("PGCONNECT_TIMEOUT".into(), CONNECT_SECONDS.into()));
        }
        options.environment.push(("PGAPPNAME".into(), "coffre".into()));
        options
    }

    /// Describes `psql` reading statements from its standard input, ending at the first that fails.
    pub fn psql(&self, database: &str) -> CommandOptions {
        let arguments = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--file=-"];
        self.command(program("psql", 0), database, &arguments)
    }

    /// Runs statements and returns what they print. `asked` says what is wanted, for the error.
    ///
    /// # Errors
    /// [`DatabaseError::Spawn`] and [`DatabaseError::Failed`].
    pub fn run(&self, database: &str, asked: &str, statements: &str) -> Result<String, DatabaseError> {
        let command = self.psql(database);
        // What is set for the role or the database is meant for those who use it.
        let statements = format!("SET statement_timeout = 0;\nSET lock_timeout = 0;\n{statements}");
        let output = process::run(&command, statements.as_bytes())
            .map_err(|failure| DatabaseError::failed(&self.url.server(), asked, &command, failure))?;
        String::from_utf8(output).map_err(|error| DatabaseError::answer(&self.url.server(), error.as_bytes()))
    }

    /// Runs a statement that gives one JSON value.
    fn ask<T: serde::de::DeserializeOwned>(&self, database: &str, asked: &str, sql: &str) -> Result<T, DatabaseError> {
        let answer = self.run(database, asked, &format!("SET client_encoding = 'UTF8';\n{sql};\n"))?;
        serde_json::from_str(&answer).map_err(|_| DatabaseError::answer(&self.url.server(), answer.as_bytes()))
    }

    /// Returns the database to connect to when none is meant: the one in the URL, or `postgres`.
    pub fn maintenance_database(&self) -> &str {
        self.url.database.as_deref().unwrap_or("postgres")
    }

    /// Lists the databases, but for those from which `CREATE DATABASE` copies.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn databases(&self) -> Result<Databases, DatabaseError> {
        let sql = format!(
            "SELECT json_build_object(
               'open', coalesce(json_agg(datname ORDER BY datname) FILTER (WHERE datallowconn), '[]'),
               'closed', coalesce(json_agg(datname ORDER BY datname) FILTER (WHERE NOT datallowconn), '[]'))
             FROM pg_database WHERE datname NOT IN ('template0', {})",
            literal(TEMPLATE)
        );
        self.ask(self.maintenance_database(), "asked for its databases", &sql)
    }

    /// Returns what is to be known of a database.
    ///
    /// # Errors
    /// [`DatabaseError`]; a database that is not there fails to be connected to.
    pub fn facts(&self, database: &str) -> Result<DatabaseFacts, DatabaseError> {
        self.ask(database, &format!("asked about database {database:?}"), FACTS)
    }

    /// Lists the tables of at least `bytes`, largest first; leaves of partitioned tables count by themselves.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn large_tables(&self, database: &str, bytes: u64) -> Result<Vec<Table>, DatabaseError> {
        let sql = format!(
            "SELECT coalesce(json_agg(t ORDER BY bytes DESC), '[]') FROM (
               SELECT format('%I.%I', nspname, relname) AS name, pg_table_size(c.oid) AS bytes
               FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
               WHERE relkind = 'r' AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
                 AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                                 AND deptype = 'e')
             ) t WHERE bytes >= {bytes}"
        );
        self.ask(database, &format!("asked for the tables of {database:?}"), &sql)
    }

    /// Tells whether a database exists, and how many connections it has.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn connections(&self, database: &str) -> Result<Option<u64>, DatabaseError> {
        let sql = format!(
            "SELECT coalesce((SELECT to_json((SELECT count(*) FROM pg_stat_activity a
                                WHERE a.datname = d.datname AND a.pid <> pg_backend_pid()))
               FROM pg_database d WHERE datname = {}), 'null')",
            literal(database)
        );
        self.ask(self.maintenance_database(), &format!("asked for database {database:?}"), &sql)
    }

    /// Tells whether nobody has made anything in a database since the server was set up. (What `initdb` makes has lower
    /// numbers; `FirstNormalObjectId` in `src/include/access/transam.h`.)
    ///
    /// # Errors
    /// [`DatabaseError`]; a database that is not there fails to be connected to.
    pub fn is_untouched(&self, database: &str) -> Result<bool, DatabaseError> {
        const CATALOGS: [&str; 14] = [
            "pg_class",
            "pg_type",
            "pg_proc",
            "pg_namespace",
            "pg_extension",
            "pg_largeobject_metadata",
            "pg_operator",
            "pg_cast",
            "pg_language",
            "pg_collation",
            "pg_foreign_data_wrapper",
            "pg_event_trigger",
            "pg_publication",
            "pg_transform",
        ];
        let count = |catalog: &&str| format!("(SELECT count(*) FROM {catalog} WHERE oid >= 16384)");
        let sum: Vec<String> = CATALOGS.iter().map(count).collect();
        let sql = format!("SELECT to_json({} = 0)", sum.join(" + "));
        self.ask(database, &format!("asked what database {database:?} has"), &sql)
    }

    /// Tells whether there is a role, its name quoted where SQL wants that.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn has_role(&self, role: &str) -> Result<bool, DatabaseError> {
        let sql = format!("SELECT to_json(to_regrole({}) IS NOT NULL)", literal(role));
        self.ask(self.maintenance_database(), &format!("asked for role {role}"), &sql)
    }

    /// Returns the server's version, as it says it, and where it keeps its data when that may be known.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn version(&self) -> Result<(String, Option<PathBuf>), DatabaseError> {
        let sql = "SELECT json_build_array(current_setting('server_version'),
                     CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'MEMBER')
                     THEN current_setting('data_directory') END)";
        self.ask(self.maintenance_database(), "asked for its version", sql)
    }

    /// Finds a client program that is not older than the server, and returns it with its version.
    ///
    /// # Errors
    /// [`DatabaseError::ClientOlder`], or when the program is missing.
    pub fn program(&self, name: &str, server_version: &str) -> Result<(OsString, String), DatabaseError> {
        let found = program(name, major(server_version));
        let command = CommandOptions::new(&found, ["--version"]);
        let printed = process::run(&command, b"")
            .map_err(|failure| DatabaseError::failed(name, "asked for its version", &command, failure))?;
        let printed = String::from_utf8_lossy(&printed);
        // `pg_dump (PostgreSQL) 15.18 (Debian …)`
        let client = printed.split(") ").nth(1).unwrap_or(&printed).split_whitespace().next().unwrap_or("").to_owned();
        if major(&client) < major(server_version) {
            return Err(DatabaseError::ClientOlder {
                program: command.name(),
                client,
                server: self.url.server(),
                server_version: server_version.to_owned(),
            });
        }
        Ok((found, client))
    }
}

/// Finds a client program: of the server's own major version before newer ones, before whatever `PATH` has.
fn program(name: &str, server_major: u32) -> OsString {
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for (root, prefix) in PROGRAM_DIRECTORIES {
        for directory in std::fs::read_dir(root).into_iter().flatten().flatten() {
            let found = directory.file_name().to_str().and_then(|name| name.strip_prefix(prefix)?.parse().ok());
            versions.extend(found.map(|version: u32| (version, directory.path().join("bin"))));
        }
    }
    versions.retain(|(version, _)| *version >= server_major);
    versions.sort();
    if server_major == 0 {
        versions.reverse();
    }
    let directories: Vec<PathBuf> = versions.into_iter().map(|(_, directory)| directory).collect();
    find_program(name, PROGRAMS_VARIABLE, &directories)
}

/// Writes a text as SQL's string literal, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Writes a name as SQL's quoted identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One JSON object about the database that is connected to. What later versions added to `pg_database` is taken from
/// its row as JSON, so that one statement does for all of them. The statements for settings follow what `pg_dump --create`
/// writes, with the name of the database left open.
const FACTS: &str = r"
WITH d AS (SELECT *, to_jsonb(p) AS j FROM pg_database p WHERE datname = current_database()),
statements(place, statement) AS (
  SELECT 1, format('ALTER DATABASE %%I OWNER TO %I', pg_get_userbyid(datdba)) FROM d
  UNION ALL
  SELECT 2, format('COMMENT ON DATABASE %%I IS %s', replace(quote_literal(shobj_description(oid, 'pg_database')), '%', '%%'))
  FROM d WHERE shobj_description(oid, 'pg_database') IS NOT NULL
  UNION ALL
  SELECT 3, format('ALTER DATABASE %%I CONNECTION LIMIT %s', datconnlimit) FROM d WHERE datconnlimit >= 0
  UNION ALL
  SELECT 4, 'REVOKE ALL ON DATABASE %I FROM PUBLIC' FROM d WHERE datacl IS NOT NULL
  UNION ALL
  SELECT 5, format('GRANT %s ON DATABASE %%I TO %s%s', privilege_type,
                   CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                   CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM d, aclexplode(datacl) a WHERE datacl IS NOT NULL AND grantee <> datdba
  UNION ALL
  SELECT 6, format('ALTER %s %%I SET %I TO %s',
           CASE WHEN setrole = 0 THEN 'DATABASE'
                ELSE format('ROLE %I IN DATABASE', pg_get_userbyid(setrole)) END,
           split_part(setting, '=', 1),
           replace(CASE WHEN split_part(setting, '=', 1) IN ('local_preload_libraries', 'search_path',
                          'session_preload_libraries', 'shared_preload_libraries', 'temp_tablespaces',
                          'unix_socket_directories') AND value <> ''
                   THEN value ELSE quote_literal(value) END, '%', '%%'))
  FROM d JOIN pg_db_role_setting ON setdatabase = d.oid, unnest(setconfig) setting,
       substr(setting, strpos(setting, '=') + 1) value
  UNION ALL
  SELECT 7, 'ALTER DATABASE %I IS_TEMPLATE true' FROM d WHERE datistemplate
)
SELECT json_build_object(
  'server_version', current_setting('server_version'),
  'database', current_database(),
  'bytes', pg_database_size(d.oid),
  'rows', (SELECT coalesce(sum(reltuples), 0)::bigint FROM pg_class WHERE relkind IN ('r', 'm') AND reltuples > 0),
  'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
  'encoding', pg_encoding_to_char(encoding),
  'create', format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype) ||
     CASE coalesce(j->>'datlocprovider', 'c')
       WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j->>'datlocale', j->>'daticulocale'))
       WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j->>'datlocale')
       ELSE '' END ||
     CASE WHEN j->>'daticurules' IS NOT NULL THEN format(' ICU_RULES %L', j->>'daticurules') ELSE '' END,
  'settings', (SELECT coalesce(json_agg(statement ORDER BY place, statement), '[]') FROM statements),
  'reads_role_passwords', has_table_privilege('pg_catalog.pg_authid', 'SELECT')
) FROM d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(literal(r"it's a \ path"), r"E'it''s a \\ path'");
        assert_eq!(identifier("My \"shop\""), "\"My \"\"shop\"\"\"");
    }

    #[test]
    fn a_password_goes_into_the_environment_only() {
        let url: DatabaseUrl = "postgresql://joe:geheim@h/shop".parse().expect("a URL");
        let command = Postgres::new(url).psql("other");
        assert!(command.arguments.iter().all(|argument| !argument.to_string_lossy().contains("geheim")));
        assert!(command.environment.contains(&("PGPASSWORD".into(), "geheim".into())));
        assert!(command.arguments.contains(&"--dbname=postgresql://joe@h/other".into()));
        assert!(!format!("{command:?}").contains("geheim"));
    }
}
