//! MariaDB and MySQL: asked by `mariadb` or `mysql`, dumped by `mariadb-dump` or `mysqldump`, restored by the client again.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::engine::adaptations::Adaptation;
use crate::engine::by_hand::DumpedFiles;
use crate::engine::dump::DumpRequest;
use crate::engine::mysql::facts::MysqlFormat;
use crate::engine::mysql::sql::identifier;
use crate::engine::place::Places;
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::engine::{Engine, ServerWords, Words};
use crate::model::facts::{StreamFacts, fact};
use crate::process::shell::{is_typable, shell};
use crate::source::Source;

mod accounts;
mod beside;
mod compare;
mod definer;
pub mod dump;
pub mod facts;
mod globals;
mod grants;
mod inserted;
mod judge;
mod losses;
mod marks;
mod parts;
pub mod programs;
mod references;
mod rename;
mod restore;
mod rights;
mod room;
mod rows;
pub mod server;
mod session;
mod spread;
mod sql;
mod statements;
mod users;

/// Its name.
pub const NAME: &str = "mysql";
/// What ends the output of `mariadb-dump` and `mysqldump`.
const MARK: &str = "-- Dump completed";
/// How dumps begin, and what they end with.
const KNOWN_DUMPS: [(&str, &str); 2] = [("-- MariaDB dump ", MARK), ("-- MySQL dump ", MARK)];

/// Bytes of a statement from which on a client has to be told that it may send so many.
const CLIENT_PACKET_BYTES: u64 = 16 << 20;

const WORDS: Words = Words {
    label: "MariaDB or MySQL",
    dump_help: "Dump a MariaDB or MySQL database: mysql://USER@HOST:PORT/DATABASE?option-file=FILE, or env:NAME (repeatable)",
    restore_help: "Restore MariaDB or MySQL databases into this server",
    server: Some(ServerWords {
        example: "mysql://root@localhost/",
        package: "mariadb-client, or mysql-client for MySQL",
        people: "users",
        password: "?option-file=FILE",
        programs: programs::PROGRAMS_VARIABLE,
        time_limit: None,
        variables: &[],
    }),
};

/// MariaDB and MySQL as an engine.
#[derive(Debug, Clone, Copy)]
pub struct MySql;

impl Engine for MySql {
    fn name(&self) -> &'static str {
        NAME
    }

    fn places(&self) -> Places {
        Places::Urls(&server::URLS)
    }

    fn words(&self) -> &'static Words {
        &WORDS
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
        let DumpRequest { place, all_databases, chosen, exclusions, no_globals, digests, directory, .. } = request;
        let url = place.server()?.clone();
        Ok(Arc::new(dump::MysqlSource { url, all_databases, chosen, exclusions, no_globals, digests, directory }))
    }

    fn kind(&self, facts: &StreamFacts) -> Option<StreamKind> {
        Some(match facts.get(facts::FORMAT)? {
            MysqlFormat::Sql => StreamKind::Database,
            MysqlFormat::Users => StreamKind::Globals,
        })
    }

    fn adapts(&self) -> &'static [Adaptation] {
        &[Adaptation::Definer]
    }

    fn restores_parts(&self) -> bool {
        true
    }

    /// The character set is that of the dumped database, and lines of routines end as they did. Of MySQL the programs have its name.
    fn by_hand(&self, dumped: &DumpedFiles<'_>) -> Vec<String> {
        let DumpedFiles { facts, database, .. } = *dumped;
        let is_mysql = facts.text(fact::SERVER_VERSION).is_some_and(|version| !version.contains("MariaDB"));
        let client = format!("{} --user=root --password", if is_mysql { "mysql" } else { "mariadb" });
        let file = shell(dumped.file);
        if facts.get(facts::FORMAT) == Some(MysqlFormat::Users) {
            return vec![
                format!("{client} --binary-mode --force < {file}"),
                "# users that are there already fail, or become what they were; the others are made".to_owned(),
                "# what is granted on single tables needs those tables: once more, behind the databases".to_owned(),
            ];
        }
        if !is_typable(database) {
            return Vec::new();
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _".contains(&byte);
        let clauses = facts.text(facts::CREATE).filter(|clauses| !clauses.is_empty() && clauses.bytes().all(is_plain));
        let clauses = clauses.map(|clauses| format!(" {clauses}")).unwrap_or_default();
        let named = if database.is_ascii() { "" } else { " --default-character-set=utf8mb4" };
        let is_long = facts.get(facts::LONGEST_LINE).is_some_and(|bytes| bytes >= CLIENT_PACKET_BYTES);
        let long = if is_long { " --max-allowed-packet=1G" } else { "" };
        let create = shell(&format!("CREATE DATABASE {}{clauses}", identifier(database)));
        let database = shell(database);
        vec![
            format!("{client}{named} --execute={create}"),
            format!("{client}{named}{long} --binary-mode --database={database} < {file}"),
        ]
    }

    /// A view can need a database that was restored after it.
    fn may_need_others(&self) -> bool {
        true
    }

    fn judge(&self, asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
        judge::judge(asked, databases)
    }

    fn restore<'a>(&'a self, restoring: &'a Restoring<'a>) -> BoxFuture<'a, Result<RestoredDatabase, Unrestored>> {
        Box::pin(restore::restore(restoring))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "mariadb --user=root --password";

    fn typed(facts: &StreamFacts, database: &str) -> Vec<String> {
        MySql.by_hand(&DumpedFiles { facts, database, file: "shop.sql", tables: &[] })
    }

    #[test]
    fn by_hand_a_database_gets_its_character_set_and_lines_as_they_are() {
        let made = |clauses: &str| {
            let mut facts = StreamFacts::default();
            facts.set(facts::CREATE, clauses.to_owned());
            typed(&facts, "my shop")
        };
        let fed = format!("{CLIENT} --binary-mode --database='my shop' < shop.sql");
        let create = |clauses: &str| format!("{CLIENT} --execute='CREATE DATABASE `my shop`{clauses}'");
        let clauses = "CHARACTER SET latin1 COLLATE latin1_bin";
        assert_eq!(made(clauses), [create(&format!(" {clauses}")), fed.clone()]);
        for odd in ["", "CHARACTER SET `x`", "$(id)", "a;b", "a\nb"] {
            assert_eq!(made(odd), [create(""), fed.clone()], "{odd:?}");
        }
    }

    #[test]
    fn by_hand_the_client_is_that_of_the_server_and_takes_every_name_and_line() {
        let mut of_mysql = StreamFacts::default();
        of_mysql.set(fact::SERVER_VERSION, "9.7.4".to_owned());
        of_mysql.set(facts::LONGEST_LINE, 16 << 20);
        let client = "mysql --user=root --password";
        let long = format!("{client} --max-allowed-packet=1G --binary-mode --database=a < shop.sql");
        assert_eq!(typed(&of_mysql, "a"), [format!("{client} --execute='CREATE DATABASE `a`'"), long]);
        let odd = typed(&StreamFacts::default(), "-ü`; DROP");
        let named = format!("{CLIENT} --default-character-set=utf8mb4");
        assert_eq!(odd[0], format!("{named} --execute='CREATE DATABASE `-ü``; DROP`'"));
        assert_eq!(odd[1], format!("{named} --binary-mode --database='-ü`; DROP' < shop.sql"));
        assert!(typed(&StreamFacts::default(), "a\n").is_empty(), "no shell keeps it");
        let mut users = StreamFacts::default();
        users.set(facts::FORMAT, MysqlFormat::Users);
        assert_eq!(typed(&users, "")[0], format!("{CLIENT} --binary-mode --force < shop.sql"));
    }
}
