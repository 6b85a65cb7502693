//! What an engine needs to restore a database, and what it says of it afterwards.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::engine::adaptations::Adaptations;
use crate::engine::compare::RowsComparison;
use crate::engine::parts::DumpParts;
use crate::engine::place::Place;
use crate::engine::plan::DatabasePlan;
use crate::model::path::EntryPath;
use crate::progress::{Monitor, Problem, Totals};

/// Where the bytes of streams come from.
pub trait Stored: Send + Sync {
    /// Writes all of a stream to `output`, every byte checked before.
    ///
    /// # Errors
    /// [`StoredError`]; what was written before is right, but not all.
    fn write<'a>(
        &'a self,
        path: &'a EntryPath,
        output: Box<dyn Write + Send>,
    ) -> BoxFuture<'a, Result<(), StoredError>>;
}

/// Why a stream was not written to its end.
#[derive(Debug)]
pub enum StoredError {
    /// The output took no more.
    Output(io::Error),
    /// What is stored could not be had.
    Unread(Box<dyn Error + Send + Sync>),
    /// Ending was asked for.
    Cancelled,
}

/// A database to be restored, and all that is needed for it.
pub struct Restoring<'a> {
    /// Where to.
    pub place: &'a Place,
    /// What becomes of it.
    pub database: &'a DatabasePlan,
    /// How.
    pub wishes: &'a Wishes,
    /// Eight hexadecimal digits that no other restore has, for names of what is there for a while.
    pub unique: String,
    /// Its bytes.
    pub stored: Arc<dyn Stored>,
    /// Hears what is done, and what is amiss.
    pub monitor: Arc<dyn Monitor>,
    /// Asks to end.
    pub cancel: Cancel,
}

impl Restoring<'_> {
    /// Says what is being done, and how much there is to come from the store.
    pub fn phase(&self, what: &str) {
        self.monitor.phase(&format!("{what} {}", self.database.name));
        self.monitor.totals(Totals { bytes: Some(self.database.stream_bytes()), ..Totals::default() });
    }

    /// Tells what could not be done and is no reason to give up.
    pub fn problem(&self, message: String) {
        self.monitor.problem(Problem::missing(self.database.name.clone(), message));
    }
}

/// How databases are to be restored.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// What belongs to the server is meant, and no database.
    pub are_globals: bool,
    /// Give up at the first statement that fails; otherwise they are counted.
    pub exit_on_error: bool,
    /// What is otherwise than it was.
    pub adaptations: Adaptations,
    /// Only these parts.
    pub parts: DumpParts,
    /// Leave these extensions out, and the rows of their tables.
    pub skip_extensions: Vec<String>,
    /// Let the planner's statistics be gathered afterwards.
    pub analyze: bool,
    /// Compare the rows with those of the dump afterwards.
    pub compare: bool,
    /// Connections that restore one database at the same time.
    pub jobs: usize,
    /// Directory for spool files.
    pub spool: PathBuf,
}

/// A database that was restored.
#[derive(Debug, Clone, Default)]
pub struct RestoredDatabase {
    /// Its name, or the file; `globals` for roles and users.
    pub name: String,
    /// Bytes of dump that were restored.
    pub bytes: u64,
    /// Statements that failed.
    pub failed_statements: u64,
    /// What the client said about each of the first of those.
    pub said: Vec<String>,
    /// Columns and tables that the server changed with a warning, and what it said.
    pub changes: Vec<String>,
    /// Columns that the dump did not carry as they were, and what became of them.
    pub not_carried: Vec<String>,
    /// What in the copy uses the database that it was dumped from.
    pub uses_original: Vec<String>,
    /// What else the dump has, and was not asked for.
    pub left_out: Vec<String>,
    /// Whether the rows are those of the dump, where that was looked at.
    pub compared: Option<RowsComparison>,
    /// The database that was there before, where it was kept.
    pub replaced: Option<Replaced>,
}

/// A database that made room for a restored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// What it is called now.
    pub name: String,
    /// The statement that drops it.
    pub drop: String,
}

/// Why a database was not restored.
#[derive(Debug)]
pub struct Unrestored {
    /// What was being done.
    pub step: String,
    /// In what state everything is now.
    pub left: String,
    /// Why.
    pub cause: Cause,
}

/// What ended a restore.
#[derive(Debug)]
pub enum Cause {
    /// A client program failed.
    Client {
        /// The program.
        program: String,
        /// Its status; negative for a signal.
        status: i32,
        /// The last lines of its standard error.
        stderr: Vec<String>,
    },
    /// What is stored could not be had.
    Stored(Box<dyn Error + Send + Sync>),
    /// The server failed while something other than data was restored, or the file could not be written.
    Server(DatabaseError),
    /// The system failed.
    Io(io::Error),
    /// Ending was asked for.
    Cancelled,
}

impl From<StoredError> for Cause {
    fn from(error: StoredError) -> Self {
        match error {
            StoredError::Output(error) => Cause::Io(error),
            StoredError::Unread(error) => Cause::Stored(error),
            StoredError::Cancelled => Cause::Cancelled,
        }
    }
}
