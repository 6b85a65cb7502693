//! PostgreSQL by its client programs: which of them fits a server, what databases it has, and what is to be known of one.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::database::tables::ExcludableTable;
use crate::database::url::{DatabaseUrl, UrlKind};
use crate::database::{DatabaseError, major};
use crate::engine::postgres::NAME;
use crate::engine::postgres::facts::{Extension, UsedCollation};
use crate::engine::postgres::script::{literal, restricting, script};
use crate::engine::withholding_passwords;
use crate::process::{self, CommandOptions};

/// What URLs of PostgreSQL look like.
pub const URLS: UrlKind =
    UrlKind { engine: NAME, schemes: &["postgresql", "postgres"], database_parameter: Some("dbname") };
/// Where clients look for a password.
pub const PASSWORD_VARIABLE: &str = "PGPASSWORD";
/// Names the directory of PostgreSQL's client programs, where they are not found by themselves.
pub const PROGRAMS_VARIABLE: &str = "COFFRE_POSTGRES_BIN";
/// The variable by which clients are told how long to wait for a server.
pub const TIME_LIMIT_VARIABLE: &str = "PGCONNECT_TIMEOUT";
/// Seconds that connecting may take, unless `PGCONNECT_TIMEOUT` says otherwise.
const CONNECT_SECONDS: &str = "20";
/// Where packages put versions beside each other.
const PROGRAM_DIRECTORIES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The database that every server has, to connect to when none is meant.
pub const MAINTENANCE: &str = "postgres";
/// The database that new ones are copied from.
pub const TEMPLATE: &str = "template1";

/// Writes the name of a database for `--dbname`, which takes some for more than a name: a text with a `=`, or a URL, says where to connect.
pub fn as_parameter(database: &str) -> String {
    let is_url = URLS.schemes.iter().any(|scheme| database.starts_with(&format!("{scheme}://")));
    match is_url || database.contains('=') {
        true => format!("dbname='{}'", database.replace('\\', r"\\").replace('\'', r"\'")),
        false => database.to_owned(),
    }
}

/// What is kept about a database, and needed to make another like it.
#[derive(Debug, Clone, Deserialize)]
pub struct PostgresFacts {
    /// The server's version, as it says it.
    pub server_version: String,
    /// The database.
    pub database: String,
    /// Its size on the server.
    pub bytes: u64,
    /// Rows that its statistics tell of.
    pub rows: u64,
    /// Tables; of a partitioned one, which has fewer or more parts every month, itself alone.
    pub tables: u64,
    /// Position in the write-ahead log.
    pub lsn: Option<String>,
    /// Its encoding.
    pub encoding: String,
    /// Clauses for `CREATE DATABASE`.
    pub create: String,
    /// Statements with `%I` in place of the database's name.
    pub settings: Vec<String>,
    /// Statements that make the roles which own or may use something in it, without passwords and rights.
    pub roles: Vec<String>,
    /// Roles that its policies and user mappings are for, quoted as SQL wants them.
    pub named_roles: Vec<String>,
    /// Functions that run with the rights of their owner and may not be called by all.
    pub closed_functions: u64,
    /// Collations that it uses of those which every database has.
    pub collations: Vec<UsedCollation>,
    /// The tablespace that it is in, if it is not the usual one.
    pub tablespace: Option<String>,
    /// The tablespaces that its tables and indexes are in, where they are not in that one.
    pub tablespaces: Vec<String>,
    /// User mappings of foreign servers whose options this user may not see.
    pub hidden_mappings: u64,
    /// Whether passwords of roles may be read.
    pub reads_role_passwords: bool,
    /// Tables whose rows a standby does not have, where it is one.
    pub not_on_standby: Vec<String>,
    /// What it has of extensions, but for those that every database has.
    pub extensions: Vec<Extension>,
}

/// The user that is logged in, as far as it matters to a restore.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// Its name, quoted as SQL wants it.
    pub name: String,
    /// It may make databases.
    pub creates_databases: bool,
    /// Its sessions may not write.
    pub is_read_only: bool,
    /// Databases that a killed restore left behind.
    pub left_over: Vec<String>,
    /// Databases that restores replaced and kept.
    pub replaced: Vec<String>,
}

/// A database that is there.
#[derive(Debug, Clone, Deserialize)]
pub struct Existing {
    /// Connections to it.
    pub connections: u64,
    /// The user has the rights of its owner.
    pub is_owned: bool,
    /// Transactions that were prepared in it and not ended; it cannot be renamed while there are some.
    pub prepared: u64,
}

/// The databases of a server.
#[derive(Debug, Clone, Deserialize)]
pub struct Databases {
    /// Those that can be connected to.
    pub open: Vec<String>,
    /// Those that allow no connections, or are what an interrupted `DROP DATABASE` left.
    pub closed: Vec<String>,
}

/// A table and what it takes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TableSize {
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
        let arguments = arguments.iter().map(|&a| a.to_owned()).chain(connection);
        let mut options = withholding_passwords(CommandOptions::new(program, arguments), Some(PASSWORD_VARIABLE));
        if let Some(password) = url.password() {
            options.environment.push((PASSWORD_VARIABLE.into(), password.into()));
        }
        if !self.url.clients().have_time_limit {
            options.environment.push((TIME_LIMIT_VARIABLE.into(), CONNECT_SECONDS.into()));
        }
        options.environment.push(("PGAPPNAME".into(), "coffre".into()));
        // What clients say is read here, and dumps have the encoding of their database.
        for (name, value) in [("LC_ALL", "C.UTF-8"), ("LANGUAGE", ""), ("PGCLIENTENCODING", "")] {
            options.environment.push((name.into(), value.into()));
        }
        options
    }

    /// Describes `psql` reading statements from its standard input, ending at the first that fails.
    pub fn psql(&self, database: &str) -> CommandOptions {
        let arguments = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--file=-"];
        self.command(self.find("psql", 0), database, &arguments)
    }

    /// Describes `psql` reading a dump of SQL, and tells whether it takes no commands from it: it knows how since August 2025.
    pub fn psql_for_dump(&self, database: &str) -> (CommandOptions, bool) {
        let mut command = self.psql(database);
        let asking = withholding_passwords(CommandOptions::new(&command.program, ["--help=commands"]), None);
        let help = process::run(&asking, b"").unwrap_or_default();
        let is_restricted = String::from_utf8_lossy(&help).contains("\\restrict ");
        if is_restricted {
            // Before the file.
            command.arguments.insert(0, restricting().into());
        }
        (command, is_restricted)
    }

    /// Runs statements one by one and returns what they print. `asked` says what is wanted, for the error.
    ///
    /// # Errors
    /// [`DatabaseError::Spawn`] and [`DatabaseError::Failed`].
    pub fn run(&self, database: &str, asked: &str, statements: &[String]) -> Result<String, DatabaseError> {
        let command = self.psql(database);
        let output = process::run(&command, script(statements).as_bytes())
            .map_err(|failure| DatabaseError::failed(&self.url.server(), asked, &command, failure))?;
        // A database without an encoding can have names and comments in any.
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    /// Runs statements as one transaction, of which the last gives one JSON value.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(super) fn ask<T: serde::de::DeserializeOwned>(
        &self,
        database: &str,
        asked: &str,
        sql: &str,
    ) -> Result<T, DatabaseError> {
        let answer = self.run(database, asked, &[sql.to_owned()])?;
        serde_json::from_str(&answer).map_err(|_| DatabaseError::answer(&self.url.server(), answer.as_bytes()))
    }

    /// Returns the database to connect to when none is meant: the one in the URL, or `postgres`.
    pub fn maintenance_database(&self) -> &str {
        self.url.database.as_deref().unwrap_or(MAINTENANCE)
    }

    /// Returns the first of these databases that can be connected to. They are tried while the server itself answers.
    ///
    /// # Errors
    /// What the first of them failed for.
    pub fn connectable(&self, databases: &[&str]) -> Result<String, DatabaseError> {
        let mut first = None;
        for database in databases {
            let error = match self.run(database, &format!("connected to in database {database:?}"), &[]) {
                Ok(_) => return Ok((*database).to_owned()),
                Err(error) => error,
            };
            let is_answer = error.last_said().iter().any(|line| line.contains(" failed: FATAL"));
            first.get_or_insert(error);
            if !is_answer {
                break;
            }
        }
        Err(first.unwrap_or_else(|| DatabaseError::NoDatabase { server: self.url.server() }))
    }

    /// Lists the databases, but for those from which `CREATE DATABASE` copies.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn databases(&self) -> Result<Databases, DatabaseError> {
        let sql = format!(
            "SELECT json_build_object(
               'open', coalesce(json_agg(datname ORDER BY datname) FILTER (WHERE datallowconn AND datconnlimit <> -2), '[]'),
               'closed', coalesce(json_agg(datname ORDER BY datname) FILTER (WHERE NOT datallowconn OR datconnlimit = -2), '[]'))
             FROM pg_database WHERE datname NOT IN ('template0', {})",
            literal(TEMPLATE)
        );
        self.ask(self.maintenance_database(), "asked for its databases", &sql)
    }

    /// Returns what is to be known of a database.
    ///
    /// # Errors
    /// [`DatabaseError`]; a database that is not there fails to be connected to.
    pub fn facts(&self, database: &str) -> Result<PostgresFacts, DatabaseError> {
        self.ask(database, &format!("asked about database {database:?}"), FACTS)
    }

    /// Lists the tables of at least `bytes`, largest first; leaves of partitioned tables count by themselves.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn large_tables(&self, database: &str, bytes: u64) -> Result<Vec<TableSize>, DatabaseError> {
        // Asking for a size takes a lock, so what somebody has locked is not asked for; and names are written to `pg_dump` in
        // UTF-8, which it compares in the encoding of the database.
        let sql = format!(
            "SET lock_timeout = '10s';
             SELECT coalesce(json_agg(t ORDER BY bytes DESC), '[]') FROM (
               SELECT format('%I.%I', nspname, relname) AS name, pg_table_size(c.oid) AS bytes
               FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
               WHERE relkind = 'r' AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
                 AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                                 AND deptype = 'e')
                 AND (getdatabaseencoding() = 'UTF8' OR nspname || relname ~ '^[ -~]*$')
                 AND NOT EXISTS (SELECT FROM pg_locks WHERE relation = c.oid AND mode = 'AccessExclusiveLock'
                                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
             ) t WHERE bytes >= {bytes}"
        );
        self.ask(database, &format!("asked for the tables of {database:?}"), &sql)
    }

    /// Lists tables and views, each with what it is a partition of, and what it is nothing without.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn excludable_tables(&self, database: &str) -> Result<Vec<ExcludableTable>, DatabaseError> {
        self.ask(database, &format!("asked for the tables of {database:?}"), EXCLUDABLE)
    }

    /// Returns what stands in the way of replacing a database, `None` when there is none of this name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn existing(&self, database: &str) -> Result<Option<Existing>, DatabaseError> {
        let sql = format!(
            "SELECT coalesce((SELECT json_build_object(
               'connections', (SELECT count(*) FROM pg_stat_activity a
                               WHERE a.datname = d.datname AND a.pid <> pg_backend_pid()),
               'is_owned', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(datdba, 'MEMBER'),
               'prepared', (SELECT count(*) FROM pg_prepared_xacts p WHERE p.database = d.datname))
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
        const CATALOGS: [&str; 24] = [
            "pg_class",
            "pg_type",
            "pg_proc",
            "pg_namespace",
            "pg_extension",
            "pg_largeobject_metadata",
            "pg_operator",
            "pg_opclass",
            "pg_opfamily",
            "pg_cast",
            "pg_language",
            "pg_collation",
            "pg_conversion",
            "pg_foreign_data_wrapper",
            "pg_foreign_server",
            "pg_event_trigger",
            "pg_publication",
            "pg_transform",
            "pg_statistic_ext",
            "pg_default_acl",
            "pg_ts_config",
            "pg_ts_dict",
            "pg_ts_parser",
            "pg_ts_template",
        ];
        let mut counts: Vec<String> =
            CATALOGS.iter().map(|catalog| format!("(SELECT count(*) FROM {catalog} WHERE oid >= 16384)")).collect();
        // Rights on what was there, and settings.
        counts.push(
            "(SELECT count(*) FROM pg_namespace n LEFT JOIN pg_init_privs i
                ON i.objoid = n.oid AND i.classoid = 'pg_namespace'::regclass AND i.objsubid = 0
              WHERE n.nspname = 'public' AND n.nspacl IS DISTINCT FROM i.initprivs)"
                .to_owned(),
        );
        counts.push(
            "(SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
              WHERE d.datname = current_database())"
                .to_owned(),
        );
        let sql = format!("SELECT to_json({} = 0)", counts.join(" + "));
        self.ask(database, &format!("asked what database {database:?} has"), &sql)
    }

    /// Returns what the user may do.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn user(&self) -> Result<User, DatabaseError> {
        let sql = "SELECT json_build_object(
               'name', quote_ident(rolname),
               'replaced', (SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database
                            WHERE datname ~ '_replaced_[0-9a-f]{8}$'),
               'creates_databases', rolsuper OR rolcreatedb,
               'is_read_only', pg_is_in_recovery() OR (SELECT reset_val = 'on' FROM pg_settings
                                WHERE name = 'default_transaction_read_only'),
               'left_over', (SELECT coalesce(json_agg(datname ORDER BY datname), '[]') FROM pg_database
                             WHERE datname ~ '_coffre_[0-9a-f]{8}$'))
             FROM pg_roles WHERE rolname = current_user";
        self.ask(self.maintenance_database(), "asked for the rights of the user", sql)
    }

    /// Returns those of these roles that are not there, names quoted where SQL wants that.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn missing_roles(&self, roles: &[String]) -> Result<Vec<String>, DatabaseError> {
        let names: Vec<String> = roles.iter().map(|role| literal(role)).collect();
        let sql = format!(
            "SELECT coalesce(json_agg(name), '[]') FROM unnest(ARRAY[{}]::text[]) name WHERE to_regrole(name) IS NULL",
            names.join(", ")
        );
        self.ask(self.maintenance_database(), "asked for roles", &sql)
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
        let found = self.find(name, major(server_version));
        let command = withholding_passwords(CommandOptions::new(&found, ["--version"]), Some(PASSWORD_VARIABLE));
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

    /// Finds a client program: of the server's own major version before newer ones, before whatever `PATH` has.
    fn find(&self, name: &str, server_major: u32) -> OsString {
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
        self.url.clients().find(name, &directories)
    }
}

/// Tables and views with their names and those of what is above them: what they are a partition of, and for `without` also what they
/// inherit from and what a view uses. `chr(31)` is [`SCHEMA_MARK`](crate::database::chosen::SCHEMA_MARK).
const EXCLUDABLE: &str = r"
WITH RECURSIVE relations AS (
  SELECT c.oid, nspname::text AS schema, relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
), above(child, parent, is_partition) AS (
  SELECT inhrelid, inhparent, coalesce((to_jsonb(c)->>'relispartition')::boolean, false)
  FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
  UNION SELECT ev_class, refobjid, false FROM pg_rewrite r JOIN pg_depend d
    ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  WHERE ev_type = '1' AND refobjid <> ev_class
), walk(oid, up, is_partition) AS (
  SELECT oid, oid, true FROM relations
  UNION SELECT w.oid, parent, w.is_partition AND a.is_partition FROM walk w JOIN above a ON child = up
), called AS (
  SELECT w.oid, json_agg(form ORDER BY up <> w.oid) FILTER (WHERE is_partition) AS names,
         json_agg(form) AS without
  FROM walk w JOIN relations p ON p.oid = up, LATERAL (SELECT schema || chr(31) || name AS form) f GROUP BY w.oid
)
SELECT coalesce(json_agg(json_build_object('quoted', format('%I.%I', schema, name), 'names', names, 'without', without)
                         ORDER BY schema, name), '[]') FROM relations JOIN called USING (oid)";

/// One JSON object about the database that is connected to. What later versions added to `pg_database` is taken from
/// its row as JSON, so that one statement does for all of them. The statements for settings follow what `pg_dump --create`
/// writes, with the name of the database left open.
const FACTS: &str = r"
WITH d AS (
  SELECT *, to_jsonb(p) AS j, replace(quote_ident(pg_get_userbyid(datdba)), '%', '%%') AS owner
  FROM pg_database p WHERE datname = current_database()
),
statements(place, statement) AS (
  SELECT 1, 'ALTER DATABASE %I OWNER TO ' || owner FROM d
  UNION ALL
  SELECT 2, format('COMMENT ON DATABASE %%I IS %s', replace(quote_literal(shobj_description(oid, 'pg_database')), '%', '%%'))
  FROM d WHERE shobj_description(oid, 'pg_database') IS NOT NULL
  UNION ALL
  SELECT 8, format('ALTER DATABASE %%I CONNECTION LIMIT %s', datconnlimit) FROM d WHERE datconnlimit >= 0
  UNION ALL
  SELECT 4, 'REVOKE ALL ON DATABASE %I FROM ' || who FROM d, unnest(ARRAY['PUBLIC', owner]) who WHERE datacl IS NOT NULL
  UNION ALL
  SELECT 5, format('GRANT %s ON DATABASE %%I TO %s%s', privilege_type,
                   CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE replace(quote_ident(pg_get_userbyid(grantee)), '%', '%%') END,
                   CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM d, aclexplode(datacl) a WHERE datacl IS NOT NULL
  UNION ALL
  SELECT 6, format('ALTER %s %%I SET %I TO %s',
           CASE WHEN setrole = 0 THEN 'DATABASE'
                ELSE format('ROLE %s IN DATABASE', replace(quote_ident(pg_get_userbyid(setrole)), '%', '%%')) END,
           split_part(setting, '=', 1),
           -- An empty list is kept as one empty name, which is written as an empty text.
           replace(CASE WHEN is_list AND value = repeat(chr(34), 2) THEN quote_literal('')
                        WHEN is_list AND value <> '' THEN value
                        ELSE quote_literal(value) END, '%', '%%'))
  FROM d JOIN pg_db_role_setting ON setdatabase = d.oid, unnest(setconfig) setting,
       substr(setting, strpos(setting, '=') + 1) value,
       LATERAL (SELECT split_part(setting, '=', 1) IN ('local_preload_libraries', 'search_path',
                  'session_preload_libraries', 'shared_preload_libraries', 'temp_tablespaces',
                  'unix_socket_directories') AS is_list) l
  UNION ALL
  SELECT 7, 'ALTER DATABASE %I IS_TEMPLATE true' FROM d WHERE datistemplate
)
SELECT json_build_object(
  'server_version', current_setting('server_version'),
  'database', current_database(),
  'bytes', pg_database_size(d.oid),
  'rows', (SELECT coalesce(sum(reltuples), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           WHERE relkind IN ('r', 'm') AND reltuples > 0 AND relpersistence <> 't'
             AND nspname !~ '^pg_' AND nspname <> 'information_schema'),
  'tables', (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
             WHERE relkind IN ('r', 'p') AND relpersistence <> 't'
               AND NOT coalesce((to_jsonb(c)->>'relispartition')::boolean, false)
               AND nspname !~ '^pg_' AND nspname <> 'information_schema'),
  'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
  'encoding', pg_encoding_to_char(encoding),
  'create', format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(encoding), datcollate, datctype) ||
     CASE coalesce(j->>'datlocprovider', 'c')
       WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j->>'datlocale', j->>'daticulocale'))
       WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j->>'datlocale')
       ELSE '' END ||
     CASE WHEN j->>'daticurules' IS NOT NULL THEN format(' ICU_RULES %L', j->>'daticurules') ELSE '' END,
  'settings', (SELECT coalesce(json_agg(statement ORDER BY place, statement), '[]') FROM statements),
  'roles', (SELECT coalesce(json_agg('CREATE ROLE ' || quote_ident(rolname) || CASE WHEN rolcanlogin THEN ' LOGIN' ELSE '' END
                            ORDER BY rolname), '[]')
            FROM pg_roles r WHERE rolname !~ '^pg_' AND (r.oid = d.datdba
              OR r.oid IN (SELECT setrole FROM pg_db_role_setting WHERE setdatabase = d.oid)
              OR r.oid IN (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
                           AND (dbid = d.oid OR dbid = 0 AND classid = 'pg_database'::regclass AND objid = d.oid)))),
  'named_roles', (SELECT coalesce(json_agg(DISTINCT quote_ident(rolname)), '[]') FROM pg_roles r
                  WHERE r.oid IN (SELECT unnest(polroles) FROM pg_policy UNION ALL SELECT umuser FROM pg_user_mappings)),
  'closed_functions', (SELECT count(*) FROM pg_proc p WHERE p.oid >= 16384 AND prosecdef AND proacl IS NOT NULL
                       AND NOT EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                                       AND d.deptype = 'e')),
  'collations', (SELECT coalesce(json_agg(json_build_object('name', collname, 'used_by', used_by) ORDER BY collname), '[]') FROM (
                   SELECT collname, min(CASE WHEN classid = 'pg_class'::regclass THEN objid::regclass::text END) AS used_by
                   FROM pg_depend JOIN pg_collation c ON c.oid = refobjid
                   WHERE refclassid = 'pg_collation'::regclass AND objid >= 16384
                     AND collnamespace = 'pg_catalog'::regnamespace GROUP BY collname) used),
  'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = dattablespace AND spcname <> 'pg_default'),
  'tablespaces', (SELECT coalesce(json_agg(spcname ORDER BY spcname), '[]') FROM pg_tablespace t
                  WHERE spcname <> 'pg_default'
                    AND EXISTS (SELECT FROM pg_class c WHERE reltablespace = t.oid AND c.oid >= 16384)),
  'hidden_mappings', (SELECT count(*) FROM pg_user_mappings WHERE umoptions IS NULL
                      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)),
  'reads_role_passwords', has_table_privilege('pg_catalog.pg_authid', 'SELECT'),
  'not_on_standby', (SELECT coalesce(json_agg(format('%I.%I', nspname, relname) ORDER BY nspname, relname), '[]')
                     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                     WHERE pg_is_in_recovery() AND relkind = 'r' AND relpersistence = 'u'),
  'extensions', (SELECT coalesce(json_agg(json_build_object('name', extname, 'version', extversion, 'tables',
                   (SELECT coalesce(json_agg(json_build_array(nspname, relname) ORDER BY nspname, relname), '[]')
                    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = ANY (extconfig)))
                   ORDER BY extname), '[]') FROM pg_extension WHERE extname <> 'plpgsql')
) FROM d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_into_the_environment_only() {
        let url = DatabaseUrl::parse("postgresql://joe:geheim@h/shop", &URLS).expect("a URL");
        let command = Postgres::new(url).psql("other");
        assert!(command.arguments.iter().all(|argument| !argument.to_string_lossy().contains("geheim")));
        assert!(command.environment.contains(&("PGPASSWORD".into(), "geheim".into())));
        assert!(command.arguments.contains(&"--dbname=postgresql://joe@h/other".into()));
        assert!(!format!("{command:?}").contains("geheim"));
    }
}
