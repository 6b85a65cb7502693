//! PostgreSQL: asked by `psql`, dumped by `pg_dump` and `pg_dumpall`, restored by `pg_restore` and `psql`.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::engine::adaptations::Adaptation;
use crate::engine::by_hand::DumpedFiles;
use crate::engine::dump::{DumpRequest, Flag, FlagKind};
use crate::engine::json_list::JsonList;
use crate::engine::place::{Place, Places};
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::postgres::facts::PostgresFormat;
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::engine::{Engine, ServerWords, Words};
use crate::model::facts::{StreamFacts, fact};
use crate::process::shell::{is_typable, shell, shell_operand};
use crate::source::Source;

mod archive;
mod archived;
mod beside;
mod careful;
mod collations;
mod compare;
mod contents;
mod copied;
pub mod dump;
mod extensions;
pub mod facts;
mod fill;
mod judge;
mod locale;
mod naming;
mod owner;
mod pooled;
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
        let DumpRequest { directory, jobs, flags, digests, .. } = request;
        Ok(Arc::new(dump::PostgresSource {
            url: place.server()?.clone(),
            all_databases,
            chosen,
            exclusions,
            no_globals,
            digests,
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

    /// A plain dump ends at the first failure: after a `COPY` that failed, rows would be run as statements.
    fn by_hand(&self, dumped: &DumpedFiles<'_>) -> Vec<String> {
        let at = "--host=localhost --username=postgres";
        let DumpedFiles { facts, database, tables, .. } = *dumped;
        let (file, name, of_server) = (shell(dumped.file), shell(&server::as_parameter(database)), server::MAINTENANCE);
        // The one that every server has is there.
        let create = if database == of_server { "" } else { "--create " };
        match facts.get(facts::FORMAT) {
            // Rows of some tables are in other streams.
            _ if facts.has(fact::PARTS) && tables.is_empty() => Vec::new(),
            Some(PostgresFormat::Custom) => {
                let adapted = "# without its roles or tablespaces: --no-owner, --no-tablespaces".to_owned();
                if tables.is_empty() {
                    return vec![format!("pg_restore {at} {create}--dbname={of_server} {file}"), adapted];
                }
                if !is_typable(database) {
                    return Vec::new();
                }
                let rows = tables
                    .iter()
                    .map(|table| format!("pg_restore {at} --section=data --dbname={name} {}", shell(table)));
                let before =
                    format!("pg_restore {at} {create}--section=pre-data --section=data --dbname={of_server} {file}");
                let after = format!("pg_restore {at} --section=post-data --dbname={name} {file}");
                std::iter::once(before).chain(rows).chain([after, adapted]).collect()
            }
            Some(PostgresFormat::Plain) if !is_typable(database) => Vec::new(),
            Some(PostgresFormat::Plain) => {
                let options = locale::createdb_options(facts);
                let rules =
                    "# it has rules of ICU beside its locale (in the fact create_clauses): add them, by --icu-rules";
                let rules = locale::has_rules(facts).then(|| rules.to_owned());
                let made = format!("createdb {at} {options} {}", shell_operand(database));
                let made = rules.into_iter().chain([made]).filter(|_| !create.is_empty());
                made.chain([format!("psql {at} --dbname={name} --set=ON_ERROR_STOP=1 --file={file}")]).collect()
            }
            Some(PostgresFormat::Globals) => vec![
                format!("psql {at} --dbname={of_server} --file={file}"),
                "# roles that are there already get the passwords they had, the one that connects among them"
                    .to_owned(),
            ],
            None => Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(facts: &StreamFacts, database: &str, tables: &[String]) -> Vec<String> {
        PostgreSql.by_hand(&DumpedFiles { facts, database, file: "postgres/x.dump", tables })
    }

    fn of_format(format: PostgresFormat) -> StreamFacts {
        let mut facts = StreamFacts::default();
        facts.set(facts::FORMAT, format);
        facts
    }

    #[test]
    fn by_hand_a_split_archive_is_put_together_as_it_was_taken_apart() {
        let mut facts = of_format(PostgresFormat::Custom);
        facts.set(fact::PARTS, 1);
        assert!(typed(&facts, "shop", &[]).is_empty());
        let commands = typed(&facts, "it's", &["postgres/x.tables/a.dump".to_owned()]);
        let at = "pg_restore --host=localhost --username=postgres";
        let expected = [
            format!("{at} --create --section=pre-data --section=data --dbname=postgres postgres/x.dump"),
            format!(r"{at} --section=data --dbname='it'\''s' postgres/x.tables/a.dump"),
            format!(r"{at} --section=post-data --dbname='it'\''s' postgres/x.dump"),
        ];
        assert_eq!(commands[..3], expected);
    }

    #[test]
    fn by_hand_no_name_of_a_database_is_read_as_an_option_or_as_where_to_connect() {
        let plain = of_format(PostgresFormat::Plain);
        for (database, made, into) in [
            ("shop", Some("template0 shop"), "--dbname=shop "),
            ("-d", Some("template0 -- -d"), "--dbname=-d "),
            ("host=elsewhere", Some("template0 host=elsewhere"), r"--dbname='dbname='\''host=elsewhere'\''' "),
            ("postgres://x/", Some("template0 postgres://x/"), r"--dbname='dbname='\''postgres://x/'\''' "),
            (r"a=\", Some(r"template0 'a=\'"), r"--dbname='dbname='\''a=\\'\''' "),
            ("postgres", None, "--dbname=postgres "),
        ] {
            let commands = typed(&plain, database, &[]);
            let creates = commands.iter().find(|command| command.starts_with("createdb "));
            assert_eq!(creates.is_some(), made.is_some(), "{commands:?}");
            assert!(creates.zip(made).is_none_or(|(command, made)| command.ends_with(made)), "{commands:?}");
            assert!(commands.last().is_some_and(|command| command.contains(into)), "{into}: {commands:?}");
        }
        let custom = of_format(PostgresFormat::Custom);
        assert!(typed(&plain, "a\n", &[]).is_empty() && typed(&custom, "a\n", &["t".to_owned()]).is_empty());
        assert!(typed(&custom, "a\n", &[])[0].contains("--create "), "the dump has the name");
        assert!(!typed(&custom, "postgres", &[])[0].contains("--create"));
        assert!(typed(&of_format(PostgresFormat::Globals), "", &[])[0].starts_with("psql "));
    }
}
