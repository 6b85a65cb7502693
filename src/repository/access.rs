//! What may be done with a repository, as values: rights and required features are asked about once, where one is made.
//!
//! Opening a repository checks what every program must know to read it. A [`Reading`] says besides that the key at hand opens
//! what is stored, a [`Writing`] that this program knows all that writers must, a [`Deleting`] both and what cleaning up
//! needs. Whatever reads, writes or deletes takes the value, so it cannot forget to ask.

use std::sync::Arc;

use crate::format::FormatError;
use crate::model::outcome::{Ended, Outcome};
use crate::repository::Repository;

/// Why something may not be done with a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The key at hand can only write.
    #[error("this key can back up but not read")]
    WriterOnly,
    /// The key at hand is that of a writer whom the repository does not have (any more).
    #[error("the key of this host is not among those that may write to the repository")]
    NotAWriter,
    /// The key at hand is that of a writer who was thrown out.
    #[error("the key of this host (writer {writer}) was revoked")]
    Revoked {
        /// Its id.
        writer: String,
    },
    /// Snapshots of this host would not count.
    #[error("the key of this host is for backups of {}, not of {host:?}", .allowed.join(", "))]
    OtherHost {
        /// The host that was to be stated.
        host: String,
        /// The hosts that may be.
        allowed: Vec<String>,
    },
    /// A newer program asks what this one does not know of whoever does this.
    #[error("this repository cannot be {operation} by this version")]
    Newer {
        /// What was to be done: `written`, `cleaned up`.
        operation: &'static str,
        /// What is not known.
        #[source]
        source: FormatError,
    },
}

impl Ended for AccessError {
    fn outcome(&self) -> Outcome {
        match self {
            AccessError::WriterOnly | AccessError::NotAWriter | AccessError::Revoked { .. } => Outcome::WrongKey,
            AccessError::OtherHost { .. } => Outcome::Refused,
            AccessError::Newer { .. } => Outcome::Refused,
        }
    }
}

/// What is stored may be read.
#[derive(Debug, Clone)]
pub struct Reading(Arc<Repository>);

/// New data may be stored.
#[derive(Debug, Clone)]
pub struct Writing(Arc<Repository>);

/// What nothing needs may be deleted.
#[derive(Debug, Clone)]
pub struct Deleting(Arc<Repository>);

impl Repository {
    /// Asks for reading.
    ///
    /// # Errors
    /// [`AccessError::WriterOnly`].
    pub fn reading(self: &Arc<Self>) -> Result<Reading, AccessError> {
        if self.keys().can_read() { Ok(Reading(self.clone())) } else { Err(AccessError::WriterOnly) }
    }

    /// Asks for writing.
    ///
    /// # Errors
    /// [`AccessError::Newer`], or why this key may not write (any more).
    pub fn writing(self: &Arc<Self>) -> Result<Writing, AccessError> {
        self.keys().may_write()?;
        self.check_features("written", &self.config().required.write)?;
        Ok(Writing(self.clone()))
    }

    /// Asks for deleting: whoever deletes must be able to read what is needed, and to write what is to stay.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn deleting(self: &Arc<Self>) -> Result<Deleting, AccessError> {
        self.reading()?;
        self.writing()?;
        self.check_features("cleaned up", &self.config().required.delete)?;
        Ok(Deleting(self.clone()))
    }

    fn check_features(&self, operation: &'static str, required: &[String]) -> Result<(), AccessError> {
        let checked = self.config().check_features(required);
        checked.map_err(|source| AccessError::Newer { operation, source })
    }
}

impl Reading {
    /// Returns the repository that may be read.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.0
    }
}

impl Writing {
    /// Asks for snapshots of `host`.
    ///
    /// # Errors
    /// [`AccessError::OtherHost`].
    pub fn check_host(&self, host: &str) -> Result<(), AccessError> {
        let allowed = self.0.keys().hosts();
        if allowed.is_empty() || allowed.iter().any(|allowed| allowed == host) {
            return Ok(());
        }
        Err(AccessError::OtherHost { host: host.to_owned(), allowed: allowed.to_vec() })
    }

    /// Returns the repository that may be written.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.0
    }
}

impl Deleting {
    /// Returns the right to write, without which nobody may delete.
    pub fn writing(&self) -> Writing {
        Writing(self.0.clone())
    }

    /// Returns the right to read, without which nobody may delete.
    pub fn reading(&self) -> Reading {
        Reading(self.0.clone())
    }

    /// Returns the repository from which may be deleted.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.0
    }
}
