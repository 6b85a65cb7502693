//! Why databases were not restored, and in what state that left everything.

use crate::database::DatabaseError;
use crate::engine::restore::{Cause, Unrestored};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::SnapshotId;
use crate::ops::LookError;
use crate::ops::dump::DumpError;
use crate::process::said;
use crate::repository::reader::ReadError;
use crate::repository::reader::walk::LostPart;

/// Why databases were not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreDatabaseError {
    /// The snapshot could not be looked into.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The server could not be asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nothing fits.
    #[error("snapshot {} has no {what}", snapshot.short())]
    NothingFits {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What was looked for.
        what: String,
    },
    /// It has no roles or users.
    #[error("snapshot {} has no roles or users: they are stored with --all-databases only", snapshot.short())]
    NoGlobals {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Statements that make the roles which its databases use.
        needed: Vec<String>,
    },
    /// It is not clear which is meant.
    #[error("snapshot {} has several databases: {}", snapshot.short(), names.join(", "))]
    Several {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Their names.
        names: Vec<String>,
    },
    /// What the snapshot has of databases is not known, since its tree is damaged or out of reach.
    #[error("{part} cannot be read")]
    Unreadable {
        /// What is lost of the tree.
        part: LostPart,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Something stands against it.
    #[error("{}", reasons.join("; "))]
    Refused {
        /// What.
        reasons: Vec<String>,
    },
    /// A client program failed.
    #[error("{step} failed, {left}: {program} ended with status {status}{}", said(stderr))]
    Client {
        /// What was being done.
        step: String,
        /// The program.
        program: String,
        /// Its status; negative for a signal.
        status: i32,
        /// The last lines of its standard error.
        stderr: Vec<String>,
        /// In what state everything is now.
        left: String,
    },
    /// What is stored could not be had.
    #[error("{step} failed, {left}")]
    Stored {
        /// What was being done.
        step: String,
        /// In what state everything is now.
        left: String,
        /// Why.
        #[source]
        source: DumpError,
    },
    /// The server failed while something other than data was restored, or the file could not be written.
    #[error("{step} failed, {left}")]
    Server {
        /// What was being done.
        step: String,
        /// In what state everything is now.
        left: String,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// The system failed.
    #[error("{step} failed, {left}")]
    Io {
        /// What was being done.
        step: String,
        /// In what state everything is now.
        left: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Ending was asked for.
    #[error("interrupted; {left}")]
    Cancelled {
        /// In what state everything is now.
        left: String,
    },
}

impl Ended for RestoreDatabaseError {
    fn outcome(&self) -> Outcome {
        match self {
            RestoreDatabaseError::Look(error) => error.outcome(),
            RestoreDatabaseError::Database(error) => error.outcome(),
            RestoreDatabaseError::NothingFits { .. } | RestoreDatabaseError::NoGlobals { .. } => Outcome::Missing,
            RestoreDatabaseError::Several { .. } => Outcome::Usage,
            RestoreDatabaseError::Unreadable { source, .. } => source.outcome(),
            RestoreDatabaseError::Refused { .. } => Outcome::Refused,
            RestoreDatabaseError::Client { .. } | RestoreDatabaseError::Io { .. } => Outcome::Failed,
            RestoreDatabaseError::Stored { source, .. } => source.outcome(),
            RestoreDatabaseError::Server { source, .. } => source.outcome(),
            RestoreDatabaseError::Cancelled { .. } => Outcome::Interrupted,
        }
    }
}

impl From<Unrestored> for RestoreDatabaseError {
    fn from(Unrestored { step, left, cause }: Unrestored) -> Self {
        match cause {
            Cause::Client { program, status, stderr } => Self::Client { step, program, status, stderr, left },
            Cause::Stored(error) => match error.downcast::<DumpError>() {
                Ok(source) => Self::Stored { step, left, source: *source },
                // Of an engine that reads from somewhere else.
                Err(error) => Self::Io { step, left, source: std::io::Error::other(error) },
            },
            Cause::Server(source) => Self::Server { step, left, source },
            Cause::Io(source) => Self::Io { step, left, source },
            Cause::Cancelled => Self::Cancelled { left },
        }
    }
}
