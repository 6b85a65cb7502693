//! Flags that name databases, for `backup` and `restore`, and where their passwords come from.
//!
//! A password in an argument could be read by every user of the machine, so a URL that has one is refused there. It is
//! taken from the variable that `env:NAME` names, from a systemd credential, or by the client itself: `PGPASSWORD`,
//! `~/.pgpass` and services of PostgreSQL, option files of MariaDB and MySQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::password;
use crate::database::url::{DatabaseUrl, Engine};
use crate::model::units::ByteSize;
use crate::ops::backup::StreamOptions;
use crate::process::environment;
use crate::source::Source;
use crate::source::mysql::MysqlSource;
use crate::source::postgres::PostgresSource;
use crate::source::sqlite::SqliteSource;

/// Flags of `backup` about databases.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Databases and streams")]
pub struct DatabaseArgs {
    /// Dump a PostgreSQL database: postgresql://USER@HOST:PORT/DATABASE, or env:NAME for a variable with the URL (repeatable)
    #[arg(long, value_name = "URL")]
    postgres: Vec<String>,
    /// Dump a MariaDB or MySQL database: mysql://USER@HOST:PORT/DATABASE?option-file=FILE, or env:NAME (repeatable)
    #[arg(long, value_name = "URL")]
    mysql: Vec<String>,
    /// Copy a SQLite database while it is in use, and check it (repeatable)
    #[arg(long, value_name = "FILE")]
    sqlite: Vec<PathBuf>,
    /// Dump every database of the servers named, and their roles or users
    #[arg(long)]
    all_databases: bool,
    /// Streams to read at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    jobs: u16,
    /// With several jobs, dump PostgreSQL's tables of this size or more as streams of their own
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    split_over: ByteSize,
    /// Dump PostgreSQL as SQL instead of as an archive for pg_restore
    #[arg(long)]
    postgres_plain: bool,
    /// Leave the passwords of PostgreSQL's roles out, for users who may not read them
    #[arg(long)]
    no_role_passwords: bool,
    /// When a database or command fails, keep the others in a snapshot marked as incomplete
    #[arg(long)]
    keep_partial: bool,
    /// Flag a stream or a path that holds less than this percentage of the median of earlier ones; 0 flags none
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    shrink_limit: u8,
    /// Do not ask of --stdin and --command that what begins like a dump ends like one
    #[arg(long)]
    no_dump_check: bool,
    /// Directory with room for a copy of the largest SQLite database [default: $TMPDIR, or /var/tmp]
    #[arg(long, value_name = "DIR", env = "COFFRE_SPOOL_DIR")]
    spool_dir: Option<PathBuf>,
}

impl DatabaseArgs {
    /// Returns what is to be dumped.
    pub fn sources(&self) -> Fallible<Vec<Arc<dyn Source>>> {
        if self.all_databases && self.postgres.is_empty() && self.mysql.is_empty() {
            return Err(usage("--all-databases of which server? Give --postgres or --mysql"));
        }
        let urls = |texts: &[String], engine| -> Fallible<Vec<(DatabaseUrl, String)>> {
            let urls = texts.iter().map(|text| url(text, engine)).collect::<Fallible<Vec<_>>>()?;
            for url in &urls {
                if url.database.is_none() && !self.all_databases {
                    return Err(usage(format!("{url} names no database; add one, or --all-databases")));
                }
            }
            let several = urls.iter().any(|url| url.host_label() != urls[0].host_label());
            let directory = |url: &DatabaseUrl| match several {
                true => format!("{}/{}", engine.name(), url.host_label().replace('/', "_")),
                false => engine.name().to_owned(),
            };
            Ok(urls.into_iter().map(|url| (url.clone(), directory(&url))).collect())
        };
        let mut sources: Vec<Arc<dyn Source>> = Vec::new();
        for (url, directory) in urls(&self.postgres, Engine::Postgres)? {
            sources.push(Arc::new(PostgresSource {
                url,
                all_databases: self.all_databases,
                plain: self.postgres_plain,
                no_role_passwords: self.no_role_passwords,
                split_over_bytes: (self.jobs > 1).then_some(self.split_over.0),
                directory,
            }));
        }
        for (url, directory) in urls(&self.mysql, Engine::Mysql)? {
            sources.push(Arc::new(MysqlSource { url, all_databases: self.all_databases, directory }));
        }
        let spool = spool_directory(self.spool_dir.as_deref());
        for file in &self.sqlite {
            sources.push(Arc::new(SqliteSource { file: file.clone(), spool: spool.clone() }));
        }
        Ok(sources)
    }

    /// Tells whether a server with roles or users is named, and they are not stored.
    pub fn lacks_globals(&self) -> bool {
        !self.all_databases && (!self.postgres.is_empty() || !self.mysql.is_empty())
    }

    /// Returns how streams are read.
    pub fn stream_options(&self) -> StreamOptions {
        StreamOptions {
            jobs: usize::from(self.jobs),
            keep_partial: self.keep_partial,
            check_dumps: !self.no_dump_check,
            shrink_limit: f64::from(self.shrink_limit) / 100.0,
        }
    }
}

/// Returns the directory for spool files: the one given, the system's temporary one, or one on disk.
pub fn spool_directory(given: Option<&Path>) -> PathBuf {
    let named = || std::env::var_os("TMPDIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    given.map(Path::to_path_buf).or_else(named).unwrap_or_else(|| "/var/tmp".into())
}

/// Reads a URL, or the variable that `env:NAME` names, and adds the password that a systemd credential has.
pub fn url(text: &str, engine: Engine) -> Fallible<DatabaseUrl> {
    let flag = format!("--{}", engine.name());
    let (written, is_argument) = match text.strip_prefix("env:") {
        None => (text.to_owned(), true),
        Some(name) => {
            let value = std::env::var(name);
            environment::withhold(name);
            (value.map_err(|_| usage(format!("{flag} {text}: the variable {name} is not set to a URL")))?, false)
        }
    };
    // What cannot be read may hold a password: it is not shown.
    let url: DatabaseUrl = written.parse().map_err(|error| usage(format!("{flag}: {error}")))?;
    if url.engine != engine {
        return Err(usage(format!("{flag} {url}: this is a URL of another kind of server")));
    }
    if url.password().is_some() && is_argument {
        return Err(usage(format!(
            "{flag} {url}: every user of this machine can read a password on the command line; put the URL into a variable \
             and write {flag} env:NAME, or use {}",
            match engine {
                Engine::Postgres => "PGPASSFILE",
                Engine::Mysql => "?option-file=FILE",
            }
        )));
    }
    if url.password().is_some() {
        return Ok(url);
    }
    match password::credential(&format!("coffre-{}-password", engine.name())) {
        None => Ok(url),
        Some(path) => Ok(url.with_password(password::read_secret(&path, "the password of the server")?)),
    }
}
