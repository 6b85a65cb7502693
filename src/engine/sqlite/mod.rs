//! SQLite: files, copied and checked by its library, which is part of this program.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::engine::by_hand::DumpedFiles;
use crate::engine::dump::DumpRequest;
use crate::engine::place::Places;
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::engine::{Engine, Words};
use crate::model::facts::{StreamFacts, fact};
use crate::process::shell::{is_typable, shell};
use crate::source::Source;

mod check;
pub mod copy;
pub mod dump;
pub mod facts;
mod judge;
mod restore;
mod rows;

/// Its name.
pub const NAME: &str = "sqlite";

const WORDS: Words = Words {
    label: "SQLite",
    dump_help: "Copy a SQLite database while it is in use, and check it (repeatable)",
    restore_help: "Restore a SQLite database into this file",
    server: None,
};

/// SQLite as an engine.
#[derive(Debug, Clone, Copy)]
pub struct Sqlite;

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        NAME
    }

    fn places(&self) -> Places {
        Places::Files
    }

    fn words(&self) -> &'static Words {
        &WORDS
    }

    fn number_facts(&self) -> &'static [&'static str] {
        &facts::NUMBERS
    }

    fn source(&self, request: DumpRequest) -> Result<Arc<dyn Source>, DatabaseError> {
        let DumpRequest { place, spool, digests, .. } = request;
        Ok(Arc::new(dump::SqliteSource { file: place.file()?.to_owned(), spool, digests }))
    }

    fn kind(&self, facts: &StreamFacts) -> Option<StreamKind> {
        (facts.text(fact::FORMAT) == Some(facts::FILE_FORMAT)).then_some(StreamKind::Database)
    }

    /// The file is the database: it is put where it was, for whom it was, and what is there gets another name. One program does all of it, and
    /// writes through no link there: whoever may write beside it could put one there between two commands.
    fn by_hand(&self, dumped: &DumpedFiles<'_>) -> Vec<String> {
        let DumpedFiles { facts, database, file, .. } = *dumped;
        if !is_typable(database) {
            return Vec::new();
        }
        let is_mode =
            |mode: &&str| (1..=4).contains(&mode.len()) && mode.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = facts.text(facts::FILE_MODE).filter(is_mode).unwrap_or("600");
        let owner = facts.text(facts::FILE_OWNER).and_then(|owner| owner.split_once(':'));
        let owner = owner.map(|(user, group)| format!(" -o {} -g {}", shell(user), shell(group))).unwrap_or_default();
        vec![
            "# whatever uses it ended, and no file beside its place that ends in -wal, -shm or -journal".to_owned(),
            "# what is at its place now is kept beside it, with a ~ behind its name".to_owned(),
            format!("install -bT{owner} -m {mode} -- {} {}", shell(file), shell(database)),
        ]
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
    fn by_hand_a_file_gets_its_owner_and_mode_by_the_one_command_that_writes_it() {
        let typed = |owner: Option<&str>, mode: Option<&str>, database: &str| {
            let mut facts = StreamFacts::default();
            owner.into_iter().for_each(|owner| facts.set(facts::FILE_OWNER, owner.to_owned()));
            mode.into_iter().for_each(|mode| facts.set(facts::FILE_MODE, mode.to_owned()));
            Sqlite.by_hand(&DumpedFiles { facts: &facts, database, file: "sqlite/x.db", tables: &[] })
        };
        for (owner, mode, expected) in [
            (Some("app:www-data"), Some("640"), "install -bT -o app -g www-data -m 640 -- sqlite/x.db '/srv/a b'"),
            (Some("a;b:0"), Some("64$"), "install -bT -o 'a;b' -g 0 -m 600 -- sqlite/x.db '/srv/a b'"),
            (None, None, "install -bT -m 600 -- sqlite/x.db '/srv/a b'"),
        ] {
            let commands = typed(owner, mode, "/srv/a b");
            assert_eq!(commands.last().map(String::as_str), Some(expected));
            assert!(commands[..commands.len() - 1].iter().all(|line| line.starts_with("# ")), "{commands:?}");
        }
        assert!(typed(None, None, "/srv/a\n").is_empty(), "no shell keeps it");
    }
}
