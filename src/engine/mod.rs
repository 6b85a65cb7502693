//! Engines of databases: everything that is known of one is in its folder.
//!
//! An [`Engine`] has two sides. What it dumps is a [`Source`] like any other. What goes back is judged first, and then
//! restored: [`Engine::judge`] asks what is there and changes nothing, [`Engine::restore`] makes one database of its streams.
//! The rest of the program knows engines by this trait alone, and finds them in [`Engines`]. `docs/engines.md` tells how to add
//! one.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::database::url::{DatabaseUrl, UrlError, UrlKind};
use crate::engine::adaptations::Adaptation;
use crate::engine::by_hand::DumpedFiles;
use crate::engine::dump::{DumpRequest, Flag};
use crate::engine::place::{Place, Places};
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::model::facts::{StreamFacts, fact};
use crate::process::CommandOptions;
use crate::source::Source;

pub mod adaptations;
pub mod by_hand;
pub mod compare;
pub mod dump;
pub mod feed;
mod json_list;
mod lines;
pub mod mysql;
pub mod parts;
pub mod place;
pub mod plan;
pub mod postgres;
pub mod restore;
pub mod sqlite;
pub mod tally;

/// A kind of database, and how it is dumped and restored.
pub trait Engine: fmt::Debug + Send + Sync {
    /// Returns its name in lower case: facts have it, flags are called by it, and all of its streams are in a directory of this
    /// name.
    fn name(&self) -> &'static str;

    /// Tells where its databases are.
    fn places(&self) -> Places;

    /// Returns what is told of it to people.
    fn words(&self) -> &'static Words;

    /// Returns its own flags of `backup`.
    fn flags(&self) -> &'static [Flag] {
        &[]
    }

    /// Returns the facts of its own that are numbers, by name.
    fn number_facts(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns how dumps of its programs begin, and what such a dump must end with: what comes by standard input is known by it.
    fn known_dumps(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Returns the variable in which its client programs look for a password. Programs of other engines do not get it.
    fn password_variable(&self) -> Option<&'static str> {
        None
    }

    /// Returns what dumps these databases. Nothing is connected yet.
    ///
    /// # Errors
    /// When the place is none of this engine.
    fn source(&self, request: DumpRequest) -> Result<Arc<dyn Source>, DatabaseError>;

    /// Tells what a stream of this engine is; `None` for one that it does not understand.
    fn kind(&self, facts: &StreamFacts) -> Option<StreamKind> {
        Some(if facts.has(fact::TABLE) { StreamKind::Table } else { StreamKind::Database })
    }

    /// Returns the name that a place gives to the only database which is restored there.
    fn new_name(&self, place: &Place) -> Option<String> {
        place.url().and_then(|url| url.database.clone())
    }

    /// Tells whether sessions are always in some database, so that the one in a URL is the one to connect to where it is not the name
    /// of what is restored.
    fn connects_to_a_database(&self) -> bool {
        false
    }

    /// Returns statements that make what belongs to the server and this database needs, such as roles.
    fn needed_globals(&self, _database: &DatabasePlan) -> Vec<String> {
        Vec::new()
    }

    /// Returns the commands of its own programs that restore what stands there as files, which are called as the streams are: one a
    /// line, as it is typed into a shell, and remarks that begin with `#`. Names in them are quoted. None where the files do not do.
    fn by_hand(&self, _dumped: &DumpedFiles<'_>) -> Vec<String> {
        Vec::new()
    }

    /// Tells whether parts of a database can be restored, and into one that is there.
    fn restores_parts(&self) -> bool {
        false
    }

    /// Returns what of its databases can be restored otherwise than it was, besides owners.
    fn adapts(&self) -> &'static [Adaptation] {
        &[]
    }

    /// Tells whether a database may need another to be restored first, so that one that failed is tried again after the others.
    fn may_need_others(&self) -> bool {
        false
    }

    /// Asks what is there, notes it in the plan of each database, and returns what stands against restoring them. Blocks.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn judge(&self, asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError>;

    /// Restores one database, or what belongs to the server.
    ///
    /// # Errors
    /// [`Unrestored`], which says in what state everything is then.
    fn restore<'a>(&'a self, restoring: &'a Restoring<'a>) -> BoxFuture<'a, Result<RestoredDatabase, Unrestored>>;
}

/// What is told of an engine to people.
#[derive(Debug)]
pub struct Words {
    /// Its name: `PostgreSQL`.
    pub label: &'static str,
    /// Help of the flag of `backup` that has its name.
    pub dump_help: &'static str,
    /// Help of the flag of `restore`: `--into-NAME`.
    pub restore_help: &'static str,
    /// Of an engine with servers, what else is told.
    pub server: Option<ServerWords>,
}

/// What is told of an engine with servers.
#[derive(Debug)]
pub struct ServerWords {
    /// A server to restore into, as an example.
    pub example: &'static str,
    /// The package with its client programs.
    pub package: &'static str,
    /// Who may log in: `roles`, `users`.
    pub people: &'static str,
    /// Where a password can be that must not stand on a command line.
    pub password: &'static str,
    /// The variable that names the directory of its client programs.
    pub programs: &'static str,
    /// The variable by which they are told how long to wait for a server, if there is one.
    pub time_limit: Option<&'static str>,
    /// Other variables that its client programs hear, each or several with what they mean.
    pub variables: &'static [(&'static str, &'static str)],
}

/// The engines that are known. A program may add its own to those that come with this library.
#[derive(Debug, Clone)]
pub struct Engines(Vec<Arc<dyn Engine>>);

impl Default for Engines {
    /// Returns those that come with this library: a line each, in the order in which help lists them.
    fn default() -> Self {
        let mut engines = Self(Vec::new());
        engines.add(Arc::new(postgres::PostgreSql));
        engines.add(Arc::new(mysql::MySql));
        engines.add(Arc::new(sqlite::Sqlite));
        engines
    }
}

impl Engines {
    /// Adds one.
    pub fn add(&mut self, engine: Arc<dyn Engine>) {
        self.0.push(engine);
    }

    /// Returns all.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Engine>> {
        self.0.iter()
    }

    /// Finds one by its name.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn Engine>> {
        self.0.iter().find(|engine| engine.name() == name)
    }

    /// Finds the one that a stream is of, by its facts.
    pub fn of(&self, facts: &StreamFacts) -> Option<&Arc<dyn Engine>> {
        facts.text(fact::ENGINE).and_then(|name| self.named(name))
    }

    /// Reads the URL of a database, and returns it with the engine that has such URLs.
    ///
    /// # Errors
    /// [`UrlError`], which never shows what was written: that may hold a password.
    pub fn parse_url(&self, text: &str) -> Result<(&Arc<dyn Engine>, DatabaseUrl), UrlError> {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        let (engine, kind) = self.with_scheme(scheme).ok_or_else(|| UrlError::Scheme { known: self.schemes() })?;
        Ok((engine, DatabaseUrl::parse(text, kind)?))
    }

    /// Finds the one whose URLs begin with a scheme.
    pub fn of_scheme(&self, scheme: &str) -> Option<&Arc<dyn Engine>> {
        self.with_scheme(scheme).map(|(engine, _)| engine)
    }

    fn with_scheme(&self, scheme: &str) -> Option<(&Arc<dyn Engine>, &'static UrlKind)> {
        self.0.iter().find_map(|engine| match engine.places() {
            Places::Urls(kind) if kind.schemes.contains(&scheme) => Some((engine, kind)),
            _ => None,
        })
    }

    fn schemes(&self) -> Vec<&'static str> {
        let scheme = |engine: &Arc<dyn Engine>| match engine.places() {
            Places::Urls(kind) => kind.schemes.first().copied(),
            Places::Files => None,
        };
        self.0.iter().filter_map(scheme).collect()
    }

    /// Returns how dumps of all engines begin and end.
    pub fn known_dumps(&self) -> Vec<(&'static str, &'static str)> {
        self.0.iter().flat_map(|engine| engine.known_dumps()).copied().collect()
    }

    /// Tells whether a fact is a number.
    pub fn is_number(&self, facts: &StreamFacts, name: &str) -> bool {
        fact::NUMBERS.contains(&name) || self.of(facts).is_some_and(|engine| engine.number_facts().contains(&name))
    }
}

/// Keeps the passwords of all other engines from a client program.
fn withholding_passwords(command: CommandOptions, own: Option<&str>) -> CommandOptions {
    let others = Engines::default().0.into_iter().filter_map(|engine| engine.password_variable());
    others.filter(|variable| Some(*variable) != own).fold(command, CommandOptions::withholding)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::source::given::Given;
    use crate::source::{Planning, SourceError};

    fn stored(bytes: String) -> Result<StreamFacts, SourceError> {
        let planning = Planning { known_dumps: Engines::default().known_dumps(), ..Planning::default() };
        let members = Given::reader("a", Cursor::new(bytes)).plan(&planning)?;
        let mut source =
            members[0].streams.as_ref().expect("given")[0].opener.open(&crate::cancel::Cancel::default())?;
        std::io::copy(&mut source, &mut std::io::sink()).expect("read");
        source.finish().map(|detail| detail.facts)
    }

    #[test]
    fn dumps_of_every_engine_are_known_by_their_beginning_and_must_be_whole() {
        let known = Engines::default().known_dumps();
        assert_eq!(known.len(), 4);
        for (start, mark) in known {
            let facts = stored(format!("--\n{start}10.11\nINSERT\n{mark} on 2026-11-25\n\n")).expect("complete");
            assert!(facts.text(fact::CHECKED).is_some_and(|found| found.contains(mark)));
            assert!(
                matches!(stored(format!("--\n{start}10.11\nINSERT\n")), Err(SourceError::CutOff { .. })),
                "{start}"
            );
        }
    }

    #[test]
    fn urls_and_facts_lead_to_their_engine() {
        let engines = Engines::default();
        let name = |text: &str| engines.parse_url(text).map(|(engine, _)| engine.name());
        assert_eq!((name("postgres://h/a"), name("mariadb://h/a")), (Ok("postgres"), Ok("mysql")));
        let error = engines.parse_url("oracle://u:geheim@h/a").expect_err("unknown").to_string();
        assert_eq!(error, "a database URL begins with postgresql:// or mysql://");
        let mut facts = StreamFacts::default();
        assert!(engines.of(&facts).is_none() && engines.is_number(&facts, "parts"));
        facts.set(fact::ENGINE, "sqlite".to_owned());
        assert!(engines.is_number(&facts, "tables") && !engines.is_number(&facts, "binlog_position"));
    }

    #[test]
    fn a_program_gets_no_password_of_another_engine() {
        let withheld = |own| withholding_passwords(CommandOptions::new("x", [""; 0]), own).withheld;
        assert_eq!(withheld(Some("PGPASSWORD")), ["MYSQL_PWD"]);
        assert_eq!(withheld(None), ["PGPASSWORD", "MYSQL_PWD"]);
    }
}
