//! A real MariaDB server on a loopback port and data directory of its own, with a binary log.
//!
//! Where MariaDB is not installed, tests that need it say so and pass, unless `COFFRE_REQUIRE_SERVERS=1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Signal;

use crate::support::daemon::{
    Daemon, Directory, Owner, clean_command, free_port, password, percent_encoded, run, search_path, skip, write_secret,
};

/// Writes the statements whose results are the rows' part of a fingerprint, each with `;` at its end: one for each
/// table, one for each sequence.
///
/// The checksum of a table is the sum of its rows' hashes, so their order does not matter. In a row each value stands
/// as the hexadecimal form of its text (numbers, times) or bytes (the rest); `HEX` alone would round a number, and a
/// `FLOAT` as text has six digits. Generated columns and invisible ones take part; the history of a system-versioned
/// table and its periods do not, since a dump has neither unless it is asked to.
const FINGERPRINT_ROWS: &str = r#"
SET SESSION group_concat_max_len = 1000000000;
SELECT CONCAT('SELECT CONCAT(', QUOTE(CONCAT('table ', table_name, ': ')), ', COUNT(*), '' rows, sums '',',
    ' COALESCE(SUM(CAST(CONV(LEFT(coffre_hash, 16), 16, 10) AS UNSIGNED)), 0), '' '',',
    ' COALESCE(SUM(CAST(CONV(RIGHT(coffre_hash, 16), 16, 10) AS UNSIGNED)), 0))',
    ' FROM (SELECT MD5(CONCAT_WS('','', ', values_of_row, ')) AS coffre_hash FROM `',
    REPLACE(table_name, '`', '``'), '`) AS coffre_rows;')
FROM (
    SELECT t.table_name, GROUP_CONCAT(
        CONCAT('COALESCE(HEX(',
            REPLACE(CASE
                WHEN data_type = 'float' THEN 'CAST(CAST(# AS DOUBLE) AS CHAR)'
                WHEN data_type IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'double', 'year',
                    'date', 'time', 'datetime', 'timestamp') THEN 'CAST(# AS CHAR)'
                ELSE '#'
            END, '#', CONCAT('`', REPLACE(column_name, '`', '``'), '`')),
        '), ''NULL'')') ORDER BY ordinal_position SEPARATOR ', ') AS values_of_row
    FROM information_schema.tables AS t JOIN information_schema.columns AS c USING (table_schema, table_name)
    WHERE table_schema = DATABASE() AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
        AND c.extra NOT LIKE '%STORED GENERATED ALWAYS AS ROW%'
    GROUP BY t.table_name
) AS described
ORDER BY BINARY table_name;
SELECT CONCAT('SELECT CONCAT(', QUOTE(CONCAT('sequence ', table_name, ': ')),
    ', next_not_cached_value, '', cycle '', cycle_count) FROM `', REPLACE(table_name, '`', '``'), '`;')
FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'SEQUENCE' ORDER BY BINARY table_name;
"#;

/// A server that ends with this value, and with this process however it ends.
pub struct MariaDbServer {
    daemon: Daemon,
    programs: Programs,
    password: String,
    option_file: PathBuf,
}

/// Returns the server that all tests share, or `None` after saying on standard error that the test is skipped.
///
/// It is started by the first that asks. Tests use it in parallel, so each names databases of its own.
///
/// # Panics
/// When it cannot start, or is not installed and `COFFRE_REQUIRE_SERVERS=1`.
pub fn shared() -> Option<&'static MariaDbServer> {
    static SHARED: OnceLock<Option<MariaDbServer>> = OnceLock::new();
    let server = SHARED.get_or_init(launch).as_ref();
    if server.is_none() {
        skip(MISSING);
    }
    server
}

const MISSING: &str = "MariaDB (mariadb-install-db, mariadbd, mariadb, mariadb-dump)";

impl MariaDbServer {
    /// Starts a server for one test, as for [`shared`].
    pub fn start() -> Option<Self> {
        let server = launch();
        if server.is_none() {
            skip(MISSING);
        }
        server
    }

    /// Returns the location of a database, without the password.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{}", self.port(), percent_encoded(database))
    }

    /// Returns the port on 127.0.0.1 where the server listens.
    pub fn port(&self) -> u16 {
        self.daemon.port
    }

    /// Returns the password of the user `root`; it holds characters that need quoting in most places.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Returns a file with the password in its `[client]` section, for `--defaults-file`.
    pub fn option_file(&self) -> &Path {
        &self.option_file
    }

    /// Runs statements, or a whole script with `DELIMITER`, and returns what they print: a line a row, tabs between
    /// columns.
    ///
    /// Bytes that are not UTF-8 come back as escapes. An empty `database` is none.
    ///
    /// # Panics
    /// With the server's message when a statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        run(&mut self.mariadb(database), sql.as_bytes())
    }

    /// Makes the database, in utf8mb4 and empty, unless it is there; then runs the statements in `file`.
    pub fn load(&self, database: &str, file: &Path) {
        let name = database.replace('`', "``");
        self.sql("", &format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4"));
        run(&mut self.mariadb(database), &fs::read(file).expect("the statements are readable"));
    }

    /// Ends the server at once with SIGKILL, as a crash of the machine would.
    ///
    /// The server does not come back: for one that [`MariaDbServer::start`] gave.
    pub fn kill(&self) {
        self.daemon.kill();
    }

    /// Returns a text that is equal for two databases exactly when their schemas and rows are, whatever their names.
    ///
    /// It has the schema, routines, triggers and events as `mariadb-dump` writes them; for each table a count and a
    /// checksum of all rows; and the state of each sequence. The history of system-versioned tables is not in it.
    pub fn fingerprint(&self, database: &str) -> String {
        let mut dump = self.client(&self.programs.dump);
        dump.args(["--no-data", "--routines", "--triggers", "--events", "--skip-dump-date", "--skip-comments", "--"]);
        let schema = run(dump.arg(database), b"");
        let statements = self.sql(database, FINGERPRINT_ROWS);
        let rows = self.sql(database, &format!("SET time_zone = '+00:00';\n{statements}"));
        format!("{schema}\n{rows}")
    }

    fn mariadb(&self, database: &str) -> Command {
        let mut command = self.client(&self.programs.client);
        // Lines end as they are written.
        command.args(["--batch", "--raw", "--skip-column-names", "--binary-mode"]);
        command.arg(format!("--database={database}"));
        command
    }

    fn client(&self, program: &Path) -> Command {
        let mut command = clean_command(program);
        command.arg(format!("--defaults-file={}", self.option_file.display()));
        command.args(["--protocol=tcp", "--host=127.0.0.1", "--user=root", "--default-character-set=utf8mb4"]);
        command.arg(format!("--port={}", self.port()));
        command
    }
}

fn launch() -> Option<MariaDbServer> {
    let programs = programs()?;
    let owner = Owner::of("mysql");
    let directory = Directory::new("mariadb");
    owner.give(&directory.path);
    let data = directory.at("data");
    // Nothing here outlives the server, so nothing is synced.
    let mut options: Vec<_> = [
        "--debug-no-sync",
        "--loose-innodb-flush-method=nosync",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-log-file-size=16M",
        "--innodb-buffer-pool-size=32M",
    ]
    .map(str::to_owned)
    .into();
    options.push(format!("--datadir={}", data.display()));
    options.push(format!("--tmpdir={}", directory.path.display()));
    let mut install = clean_command(&programs.install);
    owner.run_as(&mut install);
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]).args(&options);
    run(&mut install, b"");

    let password = password();
    let option_file = directory.at("my.cnf");
    let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
    write_secret(&option_file, &format!("[client]\npassword=\"{quoted}\"\n"), &Owner::Caller);
    // Run before the first connection is accepted, one statement a line.
    let init_file = directory.at("init.sql");
    let literal = password.replace('\\', "\\\\").replace('\'', "\\'");
    let statements = format!(
        "DELETE FROM mysql.global_priv WHERE Host <> 'localhost';\nFLUSH PRIVILEGES;\n\
         ALTER USER root@localhost IDENTIFIED BY '{literal}';\n"
    );
    write_secret(&init_file, &statements, &owner);
    let port = free_port();
    let mut server = clean_command(&programs.server);
    owner.run_as(&mut server);
    server.arg("--no-defaults").args(&options).arg(format!("--port={port}"));
    for (option, file) in
        [("socket", "socket"), ("pid-file", "pid"), ("init-file", "init.sql"), ("log-bin", "data/binlog")]
    {
        server.arg(format!("--{option}={}", directory.at(file).display()));
    }
    server.args(["--bind-address=127.0.0.1", "--server-id=1", "--binlog-format=ROW", "--character-set-server=utf8mb4"]);
    server.args(["--max-connections=200", "--max-allowed-packet=64M", "--event-scheduler=OFF"]);
    let daemon = Daemon::start(server, Signal::KILL, directory, port);
    let server = MariaDbServer { daemon, programs, password, option_file };
    server
        .daemon
        .wait_for(|| server.mariadb("").arg("--execute=SELECT 1").output().is_ok_and(|output| output.status.success()));
    Some(server)
}

struct Programs {
    install: PathBuf,
    server: PathBuf,
    client: PathBuf,
    dump: PathBuf,
}

fn programs() -> Option<Programs> {
    let path = search_path();
    let find = |name: &str| path.iter().map(|directory| directory.join(name)).find(|program| program.is_file());
    Some(Programs {
        install: find("mariadb-install-db")?,
        server: find("mariadbd")?,
        client: find("mariadb")?,
        dump: find("mariadb-dump")?,
    })
}
