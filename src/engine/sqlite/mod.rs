//! SQLite: files, copied and checked by its library, which is part of this program.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::database::DatabaseError;
use crate::engine::dump::DumpRequest;
use crate::engine::place::Places;
use crate::engine::plan::{Asked, DatabasePlan, Judgement, StreamKind};
use crate::engine::restore::{RestoredDatabase, Restoring, Unrestored};
use crate::engine::{Engine, Words};
use crate::model::facts::{StreamFacts, fact};
use crate::source::Source;

mod check;
pub mod copy;
pub mod dump;
pub mod facts;
mod judge;
mod restore;

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
        let DumpRequest { place, spool, .. } = request;
        Ok(Arc::new(dump::SqliteSource { file: place.file()?.to_owned(), spool }))
    }

    fn kind(&self, facts: &StreamFacts) -> Option<StreamKind> {
        (facts.text(fact::FORMAT) == Some(facts::FILE_FORMAT)).then_some(StreamKind::Database)
    }

    fn judge(&self, asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
        judge::judge(asked, databases)
    }

    fn restore<'a>(&'a self, restoring: &'a Restoring<'a>) -> BoxFuture<'a, Result<RestoredDatabase, Unrestored>> {
        Box::pin(restore::restore(restoring))
    }
}
