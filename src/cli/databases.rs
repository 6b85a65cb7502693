//! Flags that name databases, for `backup` and `restore`, and where their passwords come from.
//!
//! A password in an argument could be read by every user of the machine, so a URL that has one is refused there. It is
//! taken from the variable that `env:NAME` names, from a systemd credential, or by the client itself: `PGPASSWORD`,
//! `~/.pgpass` and services of PostgreSQL, option files of MariaDB and MySQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::engines::{DumpPlaces, EngineFlags, PlaceWritten, or};
use crate::cli::environment::Environment;
use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::password;
use crate::database::chosen::{ChosenDatabases, NamePatterns};
use crate::database::spool::SPOOL_DIRECTORY;
use crate::database::tables::TableExclusions;
use crate::database::url::DatabaseUrl;
use crate::engine::dump::DumpRequest;
use crate::engine::place::{Place, Places};
use crate::engine::{Engine, Engines};
use crate::ops::backup::StreamOptions;
use crate::process::environment::withhold;
use crate::progress::chain;
use crate::source::Source;

/// Flags of `backup` about databases.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Databases and streams")]
pub struct DatabaseArgs {
    #[command(flatten)]
    places: DumpPlaces,
    /// Dump every database of the servers named, and their roles or users
    #[arg(long)]
    all_databases: bool,
    /// With --all-databases, dump only databases with names like this (repeatable)
    #[arg(long, value_name = "PATTERN", requires = "all_databases")]
    include_database: Vec<String>,
    /// With --all-databases, leave out databases with names like this, as rdsadmin (repeatable)
    #[arg(long, value_name = "PATTERN", requires = "all_databases")]
    exclude_database: Vec<String>,
    /// Leave out tables with names like this, in PostgreSQL also SCHEMA.TABLE, and views that use them (repeatable)
    #[arg(long, value_name = "PATTERN")]
    exclude_table: Vec<String>,
    /// Leave out the rows of tables with names like this (repeatable)
    #[arg(long, value_name = "PATTERN")]
    exclude_table_data: Vec<String>,
    /// With --all-databases, leave roles or users out
    #[arg(long, requires = "all_databases")]
    no_globals: bool,
    /// Keep a digest of the rows of each table as well as how many there are, for a restore to compare; PostgreSQL writes times in UTC then
    #[arg(long)]
    digest: bool,
    /// Streams to read at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=32))]
    jobs: u16,
    #[command(flatten)]
    flags: EngineFlags,
    /// When a database or command fails, keep the others in a snapshot marked as incomplete
    #[arg(long)]
    keep_partial: bool,
    /// Do not ask of --stdin and --command that what begins like a dump ends like one
    #[arg(long)]
    no_dump_check: bool,
    /// Directory with room for a copy of the largest SQLite database [default: $TMPDIR, or /var/tmp]
    #[arg(long, value_name = "DIR", env = "COFFRE_SPOOL_DIR")]
    spool_dir: Option<PathBuf>,
}

impl DatabaseArgs {
    /// Returns what is to be dumped.
    pub fn sources(&self, environment: &Environment) -> Fallible<Vec<Arc<dyn Source>>> {
        if self.all_databases && !self.names_a_server() {
            let servers = Engines::default();
            let servers = servers.iter().filter(|engine| matches!(engine.places(), Places::Urls(_)));
            let flags: Vec<String> = servers.map(|engine| format!("--{}", engine.name())).collect();
            return Err(usage(format!("--all-databases of which server? Give {}", or(&flags))));
        }
        let chosen = ChosenDatabases::new(&self.include_database, &self.exclude_database);
        let chosen = chosen.map_err(|error| usage(chain(&error)))?;
        let exclusions = self.exclusions()?;
        if self.digest && self.places.iter().all(|(_, written)| written.is_empty()) {
            return Err(usage("--digest is about the rows of databases, and none is named"));
        }
        let mut sources = Vec::new();
        for (engine, written) in self.places.iter() {
            let places = written.iter().map(|written| place(written, engine, environment));
            let places = places.collect::<Fallible<Vec<_>>>()?;
            for url in places.iter().filter_map(Place::url) {
                if url.database.is_none() && !self.all_databases {
                    return Err(usage(format!("{url} names no database; add one, or --all-databases")));
                }
            }
            for place in &places {
                let mut request = DumpRequest::new(place.clone(), directory(&**engine, place, &places));
                request.all_databases = self.all_databases;
                request.chosen = chosen.clone();
                request.exclusions = exclusions.clone();
                request.no_globals = self.no_globals;
                request.digests = self.digest;
                request.jobs = usize::from(self.jobs);
                request.spool = spool_directory(self.spool_dir.as_deref(), environment);
                request.flags = self.flags.0.clone();
                sources.push(engine.source(request)?);
            }
        }
        Ok(sources)
    }

    /// Returns the tables that are left out of dumps.
    fn exclusions(&self) -> Fallible<TableExclusions> {
        let patterns = |patterns| NamePatterns::new(patterns).map_err(|error| usage(chain(&error)));
        let exclusions =
            TableExclusions { tables: patterns(&self.exclude_table)?, rows: patterns(&self.exclude_table_data)? };
        if !exclusions.is_empty() {
            if !self.names_a_server() {
                return Err(usage(
                    "--exclude-table and --exclude-table-data are about databases of servers, and none is named",
                ));
            }
            let is_file = |written: &PlaceWritten| matches!(written, PlaceWritten::File(_));
            if let Some((engine, _)) = self.places.iter().find(|(_, written)| written.iter().any(is_file)) {
                return Err(usage(format!(
                    "{} databases are copied whole: --exclude-table leaves nothing out of them; back them up by another command",
                    engine.words().label
                )));
            }
        }
        Ok(exclusions)
    }

    fn names_a_server(&self) -> bool {
        self.places.iter().any(|(_, written)| written.iter().any(|written| matches!(written, PlaceWritten::Url(_))))
    }

    /// Tells whether a server with roles or users is named, and they are not stored.
    pub fn lacks_globals(&self) -> bool {
        (!self.all_databases || self.no_globals) && self.names_a_server()
    }

    /// Returns how streams are read.
    pub fn stream_options(&self) -> StreamOptions {
        StreamOptions {
            jobs: usize::from(self.jobs),
            keep_partial: self.keep_partial,
            check_dumps: !self.no_dump_check,
            ..StreamOptions::default()
        }
    }
}

/// Returns the directory of the streams of a place: the engine's own, or one below it where there are several servers.
fn directory(engine: &dyn Engine, place: &Place, all: &[Place]) -> String {
    let label = |place: &Place| place.url().map(|url| url.host_label().to_owned());
    match label(place) {
        Some(host) if all.iter().any(|other| label(other) != label(&all[0])) => {
            format!("{}/{}", engine.name(), host.replace('/', "_"))
        }
        _ => engine.name().to_owned(),
    }
}

/// Returns the directory for spool files: the one given, the system's temporary one, or one on disk.
pub fn spool_directory(given: Option<&Path>, environment: &Environment) -> PathBuf {
    given.map(Path::to_path_buf).or_else(|| environment.path("TMPDIR")).unwrap_or_else(|| SPOOL_DIRECTORY.into())
}

/// Reads what was written after a flag that names a place.
pub fn place(written: &PlaceWritten, engine: &Arc<dyn Engine>, environment: &Environment) -> Fallible<Place> {
    match written {
        PlaceWritten::Url(text) => {
            let url = url(text, &**engine, environment)?;
            Ok(Place::Url(url.with_clients(environment.clients(&**engine))))
        }
        PlaceWritten::File(file) => Ok(Place::File(file.clone())),
    }
}

/// Reads a URL, or the variable that `env:NAME` names, and adds the password that a systemd credential has.
fn url(text: &str, engine: &dyn Engine, environment: &Environment) -> Fallible<DatabaseUrl> {
    let flag = format!("--{}", engine.name());
    let (written, is_argument) = match text.strip_prefix("env:") {
        None => (text.to_owned(), true),
        Some(name) => {
            let value = environment.var(name);
            withhold(name);
            (value.ok_or_else(|| usage(format!("{flag} {text}: the variable {name} is not set to a URL")))?, false)
        }
    };
    // What cannot be read may hold a password: it is not shown.
    let engines = Engines::default();
    let (found, url) = engines.parse_url(&written).map_err(|error| usage(format!("{flag}: {error}")))?;
    if found.name() != engine.name() {
        return Err(usage(format!("{flag} {url}: this is a URL of another kind of server")));
    }
    if url.password().is_some() && is_argument {
        return Err(usage(format!(
            "{flag} {url}: every user of this machine can read a password on the command line; put the URL into a variable \
             and write {flag} env:NAME, or use {}",
            engine.words().server.as_ref().map_or("another way", |words| words.password)
        )));
    }
    if url.password().is_some() {
        return Ok(url);
    }
    match environment.credential(&format!("coffre-{}-password", engine.name())) {
        None => Ok(url),
        Some(path) => Ok(url.with_password(password::read_secret(&path, "the password of the server")?)),
    }
}
