//! Where entries come from: file trees, standard input, commands, databases.
//!
//! Everything here blocks and is called from threads. File trees are walked by [`files::Walk`]; what comes as one run
//! of bytes is a [`StreamSource`], which is believed only after [`StreamSource::finish`] said that it was complete.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crate::database::DatabaseError;
use crate::model::entry::StreamDetail;
use crate::model::outcome::{Ended, Outcome};
use crate::process::said;

pub mod check;
pub mod command;
pub mod files;
pub mod mysql;
pub mod postgres;
mod secrets;
mod sql_dump;
pub mod sqlite;
pub mod stdin;

/// Bytes from standard input, a command or a database: read to the end, then asked whether that was all.
pub trait StreamSource: Read + Send {
    /// Waits until reading would not block, at most for `timeout`, and tells whether that is so. Between two waits the
    /// reader can look whether it is to end.
    ///
    /// # Errors
    /// What the system says about waiting.
    fn wait_readable(&self, timeout: Duration) -> io::Result<bool>;

    /// Waits until the producer has ended and returns how the stream came about.
    ///
    /// # Errors
    /// [`SourceError`] when the stream must not be kept: the producer failed, was killed, or gave nothing.
    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError>;
}

/// Something that can be opened as a stream.
pub trait OpenStream: Send + Sync {
    /// Starts to produce the stream; blocks until its producer runs. What takes long asks `is_cancelled` on the way.
    ///
    /// # Errors
    /// [`SourceError`].
    fn open(&self, is_cancelled: &dyn Fn() -> bool) -> Result<Box<dyn StreamSource>, SourceError>;
}

/// A stream to come.
#[derive(Clone)]
pub struct PlannedStream {
    /// Path of its entry.
    pub name: Vec<u8>,
    /// How it is had.
    pub opener: Arc<dyn OpenStream>,
}

impl std::fmt::Debug for PlannedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlannedStream({})", String::from_utf8_lossy(&self.name))
    }
}

/// Streams that are worth something together only: those of one database.
#[derive(Debug)]
pub struct Member {
    /// What messages call it.
    pub label: String,
    /// Its streams, or why it has none.
    pub streams: Result<Vec<PlannedStream>, DatabaseError>,
    /// What is not among them, though one could think so.
    pub notes: Vec<String>,
}

/// Makes the name of a file from that of a database: what cannot stand in a path is percent-encoded.
fn file_name(name: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const ENCODED: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'\\');
    match name {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(name, ENCODED).to_string(),
    }
}

/// Makes the name of a file from that of a database, and another one where that is the name of what belongs to the server.
fn file_name_unlike(name: &str, taken: Option<&str>) -> String {
    match name.as_bytes() {
        [first, ..] if taken == Some(name) => format!("%{first:02X}{}", file_name(&name[1..])),
        _ => file_name(name),
    }
}

/// Why a stream must not become part of a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The command could not be started.
    #[error("{command} could not be started")]
    Spawn {
        /// The program.
        command: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The command ended with a status other than zero.
    #[error("{command} failed with status {status}{}", said(stderr))]
    Failed {
        /// The program.
        command: String,
        /// Its exit status.
        status: i32,
        /// The last lines it wrote to its standard error.
        stderr: Vec<String>,
    },
    /// The command was ended by a signal.
    #[error("{command} was ended by signal {signal}{}", said(stderr))]
    Killed {
        /// The program.
        command: String,
        /// The signal's number.
        signal: i32,
        /// The last lines it wrote to its standard error.
        stderr: Vec<String>,
    },
    /// The stream had no bytes.
    #[error("{name} gave no data{}", said(stderr))]
    Empty {
        /// The program, or `standard input`.
        name: String,
        /// The last lines a command wrote to its standard error.
        stderr: Vec<String>,
    },
    /// The stream was not read to its end.
    #[error("{name} was not read to its end{}", said(stderr))]
    Unfinished {
        /// The program, or `standard input`.
        name: String,
        /// The last lines a command wrote to its standard error.
        stderr: Vec<String>,
    },
    /// A dump does not end as it must.
    #[error("{name} was cut off: it does not end with {mark:?}")]
    CutOff {
        /// The program, or `standard input`.
        name: String,
        /// What is missing.
        mark: &'static str,
    },
    /// A dump says of a table how it is made and has no rows of it.
    #[error("{name} has no rows of table {table}: its definition was changed meanwhile")]
    RowsMissing {
        /// The program.
        name: String,
        /// The table, quoted.
        table: String,
    },
    /// `pg_restore` does not understand an archive.
    #[error("what {name} wrote cannot be listed by pg_restore{}", said(stderr))]
    NotListed {
        /// The program.
        name: String,
        /// The last lines that `pg_restore` wrote to its standard error.
        stderr: Vec<String>,
    },
    /// A database server could not be asked, or does not have what is wanted.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The system failed while the stream was read or its producer awaited.
    #[error("{name} could not be read")]
    Io {
        /// The program, or `standard input`.
        name: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Ended for SourceError {
    fn outcome(&self) -> Outcome {
        Outcome::FailedDump
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_a_file_name_of_its_own() {
        assert_eq!(file_name("a/b%"), "a%2Fb%25");
        assert_eq!(file_name_unlike("users", Some("users")), "%75sers");
        assert_eq!(file_name_unlike("users", None), "users");
        assert_eq!(file_name_unlike("%75sers", Some("users")), "%2575sers");
    }
}
