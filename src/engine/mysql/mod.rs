//! MariaDB and MySQL: asked by `mariadb` or `mysql`, dumped by `mariadb-dump` or `mysqldump`, restored by the client again.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::engine::adaptations::Adaptation;
use crate::engine::dump::DumpRequest;
use crate::engine::mysql::facts::MysqlFormat;
use crate::engine::place::Places;
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::engine::{Engine, ServerWords, Words};
use crate::model::facts::StreamFacts;
use crate::source::Source;

mod accounts;
mod beside;
mod definer;
pub mod dump;
pub mod facts;
mod grants;
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
mod sql;
mod statements;

/// Its name.
pub const NAME: &str = "mysql";
/// What ends the output of `mariadb-dump` and `mysqldump`.
const MARK: &str = "-- Dump completed";
/// How dumps begin, and what they end with.
const KNOWN_DUMPS: [(&str, &str); 2] = [("-- MariaDB dump ", MARK), ("-- MySQL dump ", MARK)];

const WORDS: Words = Words {
    label: "MariaDB or MySQL",
    dump_help: "Dump a MariaDB or MySQL database: mysql://USER@HOST:PORT/DATABASE?option-file=FILE, or env:NAME (repeatable)",
    restore_help: "Restore MariaDB or MySQL databases into this server",
    server: Some(ServerWords {
        example: "mysql://root@localhost/",
        package: "mariadb-client",
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
        let DumpRequest { place, all_databases, chosen, exclusions, no_globals, directory, .. } = request;
        let url = place.server()?.clone();
        Ok(Arc::new(dump::MysqlSource { url, all_databases, chosen, exclusions, no_globals, directory }))
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

    /// The character set is that of the dumped database, and lines of routines end as they did.
    fn by_hand(&self, facts: &StreamFacts, database: &str, file: &str) -> Vec<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _".contains(&byte);
        let clauses = facts.text(facts::CREATE).filter(|clauses| !clauses.is_empty() && clauses.bytes().all(is_plain));
        let set =
            |clauses: &str| format!("mariadb --user=root --password --execute=\"ALTER DATABASE {clauses}\" {database}");
        std::iter::once(format!("mariadb-admin --user=root --password create {database}"))
            .chain(clauses.map(set))
            .chain([format!("mariadb --user=root --password --binary-mode {database} < {file}")])
            .collect()
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

    #[test]
    fn by_hand_a_database_gets_its_character_set_and_lines_as_they_are() {
        let typed = |clauses: &str| {
            let mut known = StreamFacts::default();
            known.set(facts::CREATE, clauses.to_owned());
            MySql.by_hand(&known, "'my shop'", "shop.sql")
        };
        let made = "mariadb-admin --user=root --password create 'my shop'";
        let fed = "mariadb --user=root --password --binary-mode 'my shop' < shop.sql";
        let set = "mariadb --user=root --password --execute=\"ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_bin\" 'my shop'";
        assert_eq!(typed("CHARACTER SET latin1 COLLATE latin1_bin"), [made, set, fed]);
        for odd in ["", "CHARACTER SET `x`", "$(id)", "a;b", "a\nb"] {
            assert_eq!(typed(odd), [made, fed], "{odd:?}");
        }
    }
}
