//! A real PostgreSQL server on a loopback port and data directory of its own.
//!
//! Where PostgreSQL is not installed, tests that need it say so and pass, unless `COFFRE_REQUIRE_SERVERS=1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Signal;

use crate::support::daemon::{
    Daemon, Directory, Owner, clean_command, free_port, password, percent_encoded, run, search_path, skip, write_secret,
};

/// Settings under which equal values have equal text, whatever a database or role has set for itself.
const FINGERPRINT_SETTINGS: &str = "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres \
    -c bytea_output=hex -c extra_float_digits=3 -c xmloption=content -c search_path=pg_catalog -c row_security=off \
    -c statement_timeout=0 -c lock_timeout=0";

/// Writes the statements whose results are the rows' part of a fingerprint: one for each table and materialised view,
/// one for each sequence, one for each large object.
///
/// Parents in inheritance and partitioning count their own rows only, so it matters where a row lies. Rows are hashed
/// one by one, so that a table may be larger than the largest value.
const FINGERPRINT_ROWS: &str = r#"
SELECT CASE WHEN relkind = 'm' AND NOT relispopulated THEN
    format('SELECT %L', format('materialised view %I.%I: not populated', nspname, relname))
  ELSE
    format($$SELECT %L || count(*) || ' rows, md5 ' || md5(coalesce(string_agg(
        md5(coffre_row::text), '' ORDER BY md5(coffre_row::text) COLLATE "C"), '')) FROM ONLY %I.%I AS coffre_row$$,
      format('%s %I.%I: ', CASE relkind WHEN 'm' THEN 'materialised view' ELSE 'table' END, nspname, relname),
      nspname, relname)
  END
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'm') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
ORDER BY nspname COLLATE "C", relname COLLATE "C" \gexec

SELECT format($$SELECT %L || last_value || ', called ' || is_called FROM %I.%I$$,
    format('sequence %I.%I: ', nspname, relname), nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'S' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
ORDER BY nspname COLLATE "C", relname COLLATE "C" \gexec

SELECT format('large object %s: owner %s, rights %s, comment %s, md5 %s', oid, pg_get_userbyid(lomowner),
    coalesce(lomacl::text, 'default'), coalesce(obj_description(oid, 'pg_largeobject'), 'none'), md5(lo_get(oid)))
FROM pg_largeobject_metadata ORDER BY oid;
"#;

/// A server that ends with this value, and with this process however it ends.
pub struct PostgresServer {
    daemon: Daemon,
    programs: PathBuf,
    password: String,
    passfile: PathBuf,
}

/// Returns the server that all tests share, or `None` after saying on standard error that the test is skipped.
///
/// It is started by the first that asks. Tests use it in parallel, so each names databases of its own.
///
/// # Panics
/// When it cannot start, or is not installed and `COFFRE_REQUIRE_SERVERS=1`.
pub fn shared() -> Option<&'static PostgresServer> {
    static SHARED: OnceLock<Option<PostgresServer>> = OnceLock::new();
    let server = SHARED.get_or_init(|| launch(&[], None)).as_ref();
    if server.is_none() {
        skip(MISSING);
    }
    server
}

const MISSING: &str = "PostgreSQL (initdb, postgres, psql, pg_dump)";

impl PostgresServer {
    /// Starts a server for one test, as for [`shared`].
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with settings, each as `name=value`.
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        let server = launch(settings, None);
        if server.is_none() {
            skip(MISSING);
        }
        server
    }

    /// Starts one that has a locale of this name in UTF-8, which no other server here has.
    pub fn start_with_locale(name: &str) -> Option<Self> {
        let server = launch(&[], Some(name));
        if server.is_none() {
            skip(MISSING);
        }
        server
    }

    /// Starts a standby of this one, as it is now.
    ///
    /// # Panics
    /// When it cannot start.
    pub fn standby(&self) -> Self {
        let owner = Owner::of("postgres");
        let directory = Directory::new("standby");
        owner.give(&directory.path);
        let mut copy = clean_command(&self.programs.join("pg_basebackup"));
        owner.run_as(&mut copy);
        copy.args([
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
            "--host=127.0.0.1",
            "--username=postgres",
        ]);
        copy.arg(format!("--port={}", self.port())).arg("--pgdata").arg(directory.at("data"));
        run(copy.env("PGPASSWORD", &self.password), b"");
        serve(self.programs.clone(), &owner, directory, self.password.clone(), &[], None)
    }

    /// Returns the location of a database, without the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.port(), percent_encoded(database))
    }

    /// Returns the port on 127.0.0.1 where the server listens.
    pub fn port(&self) -> u16 {
        self.daemon.port
    }

    /// Returns the password of the user `postgres`; it holds characters that need quoting in most places.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Returns a file with the password, for `PGPASSFILE`.
    pub fn passfile(&self) -> &Path {
        &self.passfile
    }

    /// Runs statements, or a whole psql script, and returns what they print: a line a row, `|` between columns.
    ///
    /// Bytes that are not UTF-8 come back as escapes.
    ///
    /// # Panics
    /// With the server's message when a statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        run(&mut self.psql(database), sql.as_bytes())
    }

    /// Makes the database, in UTF-8 and empty, unless it is there; then runs the statements in `file`.
    pub fn load(&self, database: &str, file: &Path) {
        let literal = format!("'{}'", database.replace('\'', "''"));
        if self.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = {literal}")).is_empty() {
            self.create(database, "ENCODING 'UTF8'");
        }
        run(&mut self.psql(database), &fs::read(file).expect("the statements are readable"));
    }

    /// Makes a database without an encoding, whose values, names and comments are not UTF-8.
    pub fn load_non_utf8(&self, database: &str) {
        self.create(database, "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
        let statements = b"
            CREATE TABLE every_byte AS SELECT n, 'byte ' || chr(n) AS value FROM generate_series(128, 255) AS n;
            INSERT INTO every_byte SELECT 0, string_agg(chr(n), '') FROM generate_series(1, 255) AS n;
            CREATE TABLE \"caf\xe9\" (id int PRIMARY KEY, \"pr\xe9nom\" text DEFAULT 'Ren\xe9');
            INSERT INTO \"caf\xe9\" VALUES (1, DEFAULT), (2, 'Zo\xeb'), (3, E'\\x80\\xfe\\xff');
            COMMENT ON TABLE \"caf\xe9\" IS 'd\xe9j\xe0 vu';
        ";
        run(&mut self.psql(database), statements);
    }

    /// Ends every process of the server at once with SIGKILL, as a crash of the machine would.
    ///
    /// The server does not come back: for one that [`PostgresServer::start`] gave.
    pub fn kill(&self) {
        // The server's small System V segment outlives SIGKILL; line 7 of its file has the key and the id.
        let segment = fs::read_to_string(self.daemon.directory.at("data/postmaster.pid")).ok();
        self.daemon.kill();
        if let Some(id) = segment.as_deref().and_then(|text| text.lines().nth(6)?.split_whitespace().nth(1)) {
            let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
        }
    }

    /// Returns a text that is equal for two databases exactly when their schemas and rows are, whatever their names.
    ///
    /// It has the schema as `pg_dump` writes it; for each table and populated materialised view a count and a checksum
    /// of all rows; the state of each sequence; and owner, rights, comment and checksum of each large object. What
    /// belongs to the database itself (its settings, rights and comment) is not in it.
    pub fn fingerprint(&self, database: &str) -> String {
        let mut dump = self.client("pg_dump", database);
        let schema = run(dump.args(["--schema-only", "--no-password"]).env("PGOPTIONS", FINGERPRINT_SETTINGS), b"");
        // The `\restrict` lines hold a random key, the comments versions.
        let unlike = |line: &&str| {
            !line.starts_with("--") && !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ")
        };
        let schema: Vec<_> = schema.lines().filter(unlike).filter(|line| !line.is_empty()).collect();
        let mut psql = self.psql(database);
        let rows = run(psql.env("PGOPTIONS", FINGERPRINT_SETTINGS), FINGERPRINT_ROWS.as_bytes());
        format!("{}\n\n{rows}", schema.join("\n"))
    }

    fn create(&self, database: &str, options: &str) {
        let name = database.replace('"', "\"\"");
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0 {options}"));
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = self.client("psql", database);
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// The database is named in the environment, where no character in it has a meaning.
    fn client(&self, program: &str, database: &str) -> Command {
        let mut command = clean_command(&self.programs.join(program));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database)
            .env("PGPASSFILE", &self.passfile)
            .env("PGCONNECT_TIMEOUT", "10");
        command
    }
}

fn launch(settings: &[&str], locale: Option<&str>) -> Option<PostgresServer> {
    let programs = programs()?;
    let owner = Owner::of("postgres");
    let directory = Directory::new("postgres");
    let password = password();
    let secret = directory.at("password");
    write_secret(&secret, &password, &owner);
    let data = directory.at("data");
    let mut initdb = clean_command(&programs.join("initdb"));
    owner.run_as(&mut initdb);
    owner.give(&directory.path);
    initdb.args(["--no-sync", "--no-instructions", "--auth=scram-sha-256", "--username=postgres"]);
    initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]).arg("--pwfile").arg(&secret).arg("-D").arg(&data);
    run(&mut initdb, b"");
    Some(serve(programs, &owner, directory, password, settings, locale))
}

/// Starts a server on the data in a directory, and returns once it answers.
fn serve(
    programs: PathBuf,
    owner: &Owner,
    directory: Directory,
    password: String,
    settings: &[&str],
    locale: Option<&str>,
) -> PostgresServer {
    let data = directory.at("data");
    let port = free_port();
    let passfile = directory.at("pgpass");
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    write_secret(&passfile, &format!("*:{port}:*:postgres:{escaped}\n"), &Owner::Caller);
    let mut server = clean_command(&programs.join("postgres"));
    owner.run_as(&mut server);
    server.arg("-D").arg(&data).arg("-p").arg(port.to_string());
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("unix_socket_directories={}", directory.path.display()),
        // Nothing here outlives the server.
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        // Segments that would remain when it is killed are files in the data directory instead.
        "dynamic_shared_memory_type=mmap",
        "shared_buffers=64MB",
        "max_connections=200",
        "max_wal_size=2GB",
        // So that publications are complete.
        "wal_level=logical",
        "autovacuum=off",
    ] {
        server.arg("-c").arg(setting);
    }
    for setting in settings {
        server.arg("-c").arg(setting);
    }
    if let Some(name) = locale {
        let locales = directory.at("locales");
        fs::create_dir(&locales).expect("made");
        // It sorts as that one does, and has another name.
        let mut copied = Command::new("cp");
        copied.args(["-r", "/usr/lib/locale/C.utf8"]).arg(locales.join(format!("{name}.utf8")));
        assert!(copied.status().expect("runs").success(), "there is no locale C.UTF-8 to copy");
        server.env("LOCPATH", &locales);
    }
    let daemon = Daemon::start(server, Signal::QUIT, directory, port);
    let server = PostgresServer { daemon, programs, password, passfile };
    server.daemon.wait_for(|| {
        let mut psql = server.psql("postgres");
        psql.arg("-c").arg("SELECT 1").output().is_ok_and(|output| output.status.success())
    });
    server
}

/// Returns the directory of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let complete = |directory: &PathBuf| {
        ["initdb", "postgres", "psql", "pg_dump"].into_iter().all(|program| directory.join(program).is_file())
    };
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|item| Some(item.ok()?.path()))
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin"))))
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, path)| path).chain(search_path()).find(complete)
}
