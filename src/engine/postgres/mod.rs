//! PostgreSQL: asked by `psql`, dumped by `pg_dump` and `pg_dumpall`, restored by `pg_restore` and `psql`.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::engine::adaptations::Adaptation;
use crate::engine::dump::{DumpRequest, Flag, FlagKind};
use crate::engine::json_list::JsonList;
use crate::engine::place::{Place, Places};
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::postgres::facts::PostgresFormat;
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::engine::{Engine, ServerWords, Words};
use crate::model::facts::{StreamFacts, fact};
use crate::source::Source;

mod archive;
mod beside;
mod careful;
mod collations;
mod contents;
pub mod dump;
mod extensions;
pub mod facts;
mod fill;
mod judge;
mod locale;
mod naming;
mod owner;
mod restore;
mod roles;
mod said;
mod script;
pub mod server;
mod settings;
mod shared;
mod tablespaces;

/// Its name.
pub const NAME: &str = "postgres";
/// What ends the plain output of `pg_dump`.
const MARK: &str = "-- PostgreSQL database dump complete";
/// What ends the output of `pg_dumpall`.
const CLUSTER_MARK: &str = "-- PostgreSQL database cluster dump complete";
/// How plain dumps begin, and what they end with.
const KNOWN_DUMPS: [(&str, &str); 2] =
    [("-- PostgreSQL database dump\n", MARK), ("-- PostgreSQL database cluster dump\n", CLUSTER_MARK)];

const SPLIT_OVER: &str = "split-over";
const PLAIN: &str = "postgres-plain";
const NO_ROLE_PASSWORDS: &str = "no-role-passwords";
const FLAGS: [Flag; 3] = [
    Flag {
        name: SPLIT_OVER,
        help: "With several jobs, dump PostgreSQL's tables of this size or more as streams of their own",
        kind: FlagKind::Size { default: "1GiB" },
    },
    Flag {
        name: PLAIN,
        help: "Dump PostgreSQL as SQL instead of as an archive for pg_restore",
        kind: FlagKind::Switch,
    },
    Flag {
        name: NO_ROLE_PASSWORDS,
        help: "Leave the passwords of PostgreSQL's roles out, for users who may not read them",
        kind: FlagKind::Switch,
    },
];

const WORDS: Words = Words {
    label: "PostgreSQL",
    dump_help: "Dump a PostgreSQL database: postgresql://USER@HOST:PORT/DATABASE, or env:NAME for a variable with the URL (repeatable)",
    restore_help: "Restore PostgreSQL databases into this server; a database in the URL is the name the restored one gets",
    server: Some(ServerWords {
        example: "postgresql://postgres@localhost/",
        package: "postgresql-client",
        people: "roles",
        password: "PGPASSFILE",
        programs: server::PROGRAMS_VARIABLE,
        time_limit: Some(server::TIME_LIMIT_VARIABLE),
        variables: &[("PGPASSFILE, PGPASSWORD, PGCONNECT_TIMEOUT and others of PostgreSQL", "Heard by its clients.")],
    }),
};

/// PostgreSQL as an engine.
#[derive(Debug, Clone, Copy)]
pub struct PostgreSql;

impl Engine for PostgreSql {
    fn name(&self) -> &'static str {
        NAME
    }

    fn places(&self) -> Places {
        Places::Urls(&server::URLS)
    }

    fn words(&self) -> &'static Words {
        &WORDS
    }

    fn flags(&self) -> &'static [Flag] {
        &FLAGS
    }

    fn number_facts(&self) -> &'static [&'static str] {
        &facts::NUMBERS
    }

    fn known_dumps(&self) -> &'static [(&'static str, &'static str)] {
        &KNOWN_DUMPS
    }

    fn password_variable(&self) -> Option<&'static str> {
        Some(server::PASSWORD_VARIABLE)
    }

    fn source(&self, request: DumpRequest) -> Result<Arc<dyn Source>, DatabaseError> {
        let DumpRequest { place, all_databases, chosen, exclusions, no_globals, .. } = request.clone();
        let DumpRequest { directory, jobs, flags, .. } = request;
        Ok(Arc::new(dump::PostgresSource {
            url: place.server()?.clone(),
            all_databases,
            chosen,
            exclusions,
            no_globals,
            plain: flags.is_on(PLAIN),
            no_role_passwords: flags.is_on(NO_ROLE_PASSWORDS),
            split_over_bytes: flags.size(SPLIT_OVER).filter(|_| jobs > 1),
            directory,
        }))
    }

    fn kind(&self, facts: &StreamFacts) -> Option<StreamKind> {
        Some(match facts.get(facts::FORMAT)? {
            PostgresFormat::Globals => StreamKind::Globals,
            PostgresFormat::Custom | PostgresFormat::Plain if facts.has(fact::TABLE) => StreamKind::Table,
            PostgresFormat::Custom | PostgresFormat::Plain => StreamKind::Database,
        })
    }

    fn connects_to_a_database(&self) -> bool {
        true
    }

    /// Whoever writes `postgres` in the URL means what to connect to.
    fn new_name(&self, place: &Place) -> Option<String> {
        place.url().and_then(|url| url.database.clone()).filter(|name| name != server::MAINTENANCE)
    }

    fn restores_parts(&self) -> bool {
        true
    }

    fn adapts(&self) -> &'static [Adaptation] {
        &[Adaptation::Owner, Adaptation::Tablespaces, Adaptation::Locale]
    }

    fn needed_globals(&self, database: &DatabasePlan) -> Vec<String> {
        let JsonList(roles) = database.fact(facts::ROLES).unwrap_or_default();
        roles
    }

    fn by_hand(&self, facts: &StreamFacts, database: &str, file: &str) -> Vec<String> {
        let at = "--host=localhost --username=postgres";
        match facts.get(facts::FORMAT) {
            // Rows of some tables are in other streams.
            _ if facts.has(fact::PARTS) => Vec::new(),
            Some(PostgresFormat::Custom) => vec![
                format!("pg_restore {at} --create --dbname=postgres {file}"),
                "# without its roles or tablespaces: --no-owner, --no-tablespaces".to_owned(),
            ],
            Some(PostgresFormat::Plain) => {
                let options = locale::createdb_options(facts);
                let rules =
                    "# it has rules of ICU beside its locale (in the fact create_clauses): add them, by --icu-rules";
                let rules = locale::has_rules(facts).then(|| rules.to_owned());
                let typed = [
                    format!("createdb {at} {options} {database}"),
                    format!("psql {at} --dbname={database} --file={file}"),
                ];
                rules.into_iter().chain(typed).collect()
            }
            Some(PostgresFormat::Globals) | None => Vec::new(),
        }
    }

    fn judge(&self, asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
        judge::judge(asked, databases)
    }

    fn restore<'a>(&'a self, restoring: &'a Restoring<'a>) -> BoxFuture<'a, Result<RestoredDatabase, Unrestored>> {
        Box::pin(restore::restore(restoring))
    }
}

/// Returns the server, connected to in a database that is none of those that are to be made or replaced: the one that the URL
/// names, if it is another, or one that servers have. Blocks.
fn server_of(place: &Place, made: &[&str]) -> Result<server::Postgres, DatabaseError> {
    let url = place.server()?;
    let named = url.database.as_deref();
    let candidates = named.into_iter().chain([server::MAINTENANCE, server::TEMPLATE]);
    let mut candidates: Vec<&str> = candidates.filter(|name| !made.contains(name)).collect();
    candidates.dedup();
    let found = server::Postgres::new(url.clone()).connectable(&candidates)?;
    Ok(server::Postgres::new(url.with_database(&found)))
}

/// Writes the statement that drops a database.
fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE {};", script::identifier(name))
}
