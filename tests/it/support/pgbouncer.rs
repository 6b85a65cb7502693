//! A real PgBouncer on a loopback port, in front of a PostgreSQL server of the tests.
//!
//! Where it is not installed, tests that need it say so and pass, unless `COFFRE_REQUIRE_SERVERS=1`.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::daemon::{
    Daemon, Directory, Owner, clean_command, free_port, percent_encoded, run, search_path, skip, write_secret,
};
use crate::support::postgres::PostgresServer;

/// A pooler that ends with this value, and with this process however it ends.
pub struct Pooler {
    daemon: Daemon,
    passfile: PathBuf,
}

impl Pooler {
    /// Starts one that keeps up to `sessions` of the server for each database, and shares them as `mode` says.
    ///
    /// # Panics
    /// When it cannot start, or is not installed and `COFFRE_REQUIRE_SERVERS=1`.
    pub fn start(server: &PostgresServer, mode: &str, sessions: u32) -> Option<Self> {
        let program = search_path().into_iter().map(|directory| directory.join("pgbouncer")).find(|it| it.is_file());
        let Some(program) = program else {
            skip("PgBouncer (pgbouncer)");
            return None;
        };
        let owner = Owner::of("postgres");
        let directory = Directory::new("pgbouncer");
        owner.give(&directory.path);
        let port = free_port();
        let (users, settings) = (directory.at("users"), directory.at("settings"));
        let quoted = server.password().replace('"', "\"\"");
        write_secret(&users, &format!("\"postgres\" \"{quoted}\"\n"), &owner);
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\n\
             default_pool_size = {sessions}\n",
            server.port(),
            users.display()
        );
        write_secret(&settings, &text, &owner);
        let passfile = directory.at("pgpass");
        let escaped = server.password().replace('\\', "\\\\").replace(':', "\\:");
        write_secret(&passfile, &format!("*:{port}:*:postgres:{escaped}\n"), &Owner::Caller);
        let mut pooler = clean_command(&program);
        owner.run_as(&mut pooler);
        pooler.arg(&settings);
        let daemon = Daemon::start(pooler, Signal::TERM, directory, port);
        daemon.wait_for(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { daemon, passfile })
    }

    /// Returns the location of a database, without the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{}", self.daemon.port, percent_encoded(database))
    }

    /// Returns a file with the password of the user `postgres`, for `PGPASSFILE`.
    pub fn passfile(&self) -> &Path {
        &self.passfile
    }

    /// Runs a statement in as many sessions at the same time, and returns what each prints.
    ///
    /// # Panics
    /// With the server's message when it fails.
    pub fn sql_at_once(&self, database: &str, sql: &str, sessions: u32) -> Vec<String> {
        let one = || {
            let mut psql = clean_command(Path::new("psql"));
            psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", &self.url(database)]);
            run(psql.env("PGPASSFILE", &self.passfile), sql.as_bytes())
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..sessions).map(|_| scope.spawn(one)).collect();
            running.into_iter().map(|session| session.join().expect("it ends")).collect()
        })
    }
}
