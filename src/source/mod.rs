//! Where entries come from: file trees, standard input, commands, databases, and whatever else a program can read.
//!
//! Everything here blocks and is called from threads. File trees are walked by [`files::Walk`]. All else is a [`Source`]: it
//! plans [`Member`]s, each of which has streams, and each stream can be opened. What comes then is a [`StreamSource`], which is
//! believed only after [`StreamSource::finish`] said that it was complete.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::cancel::Cancel;
use crate::database::DatabaseError;
use crate::model::entry::StreamDetail;
use crate::model::facts::StreamFacts;
use crate::model::outcome::{Ended, Outcome};
use crate::model::units::ByteSize;
use crate::process::said;

pub mod check;
pub mod command;
pub mod files;
pub mod given;
pub mod names;
mod secrets;
pub mod stdin;

/// Something that a backup stores besides files, as one stream or many.
///
/// [`given::Given`] is what a caller can read by itself. Whoever writes another has four things to do: name it, plan its streams,
/// open each of them, and say at the end of each whether that was all.
pub trait Source: fmt::Debug + Send + Sync {
    /// Returns what snapshots list as their source: short, without secrets, and the same in every run.
    fn name(&self) -> Vec<u8>;

    /// Finds out which streams there are, asking whoever knows. Blocks.
    ///
    /// # Errors
    /// When that cannot be known at all; what is wrong with a single member is in it.
    fn plan(&self, planning: &Planning) -> Result<Vec<Member>, SourceError>;

    /// Tells whether it can be read again, should a backup have to begin anew.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Returns what planning does, as a clause, if it may take long: `asking the databases`.
    fn asking(&self) -> Option<&'static str> {
        None
    }
}

/// What a source may need to know to plan. Its `Debug` does not show the secret.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Planning {
    /// How dumps begin, and what each of these must end with: what is asked of streams of the caller's that look like one.
    pub known_dumps: Vec<(&'static str, &'static str)>,
    /// Letters and digits that are the same in every run, and that nobody knows who writes into what is stored. A source can
    /// mark with it what must not be taken for its own commands.
    pub stable_secret: Zeroizing<String>,
}

impl fmt::Debug for Planning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planning").field("known_dumps", &self.known_dumps).finish_non_exhaustive()
    }
}

/// How long is waited for the first bytes of a stream that is tried.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// Bytes from standard input, a command or a database: read to the end, then asked whether that was all.
pub trait StreamSource: Read + Send {
    /// Waits until reading would not block, unless ending is asked for before, and at most for `timeout`; tells whether that is
    /// so.
    ///
    /// # Errors
    /// What the system says about waiting.
    fn wait_readable(&self, cancel: &Cancel, timeout: Option<Duration>) -> io::Result<bool>;

    /// Waits until the producer has ended and returns how the stream came about.
    ///
    /// # Errors
    /// [`SourceError`] when the stream must not be kept: the producer failed, was killed, or gave nothing.
    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError>;
}

/// Something that can be opened as a stream.
pub trait OpenStream: Send + Sync {
    /// Starts to produce the stream; blocks until its producer runs. What takes long listens to `cancel`.
    ///
    /// # Errors
    /// [`SourceError`].
    fn open(&self, cancel: &Cancel) -> Result<Box<dyn StreamSource>, SourceError>;

    /// Tries whether the stream can be had, up to its first bytes, and says what gives it; `None` where that is known by a backup alone.
    ///
    /// # Errors
    /// As when it is opened, and what its producer says that gives nothing.
    fn try_out(&self, _cancel: &Cancel) -> Result<Option<String>, SourceError> {
        Ok(None)
    }

    /// Says what is not wrong with a stream that was stored with these facts, but could be better.
    fn advise(&self, _facts: &StreamFacts) -> Vec<String> {
        Vec::new()
    }
}

/// Waits for the first bytes of a stream, and ends it: then its producer was let in, and may read what it begins with.
///
/// # Errors
/// What the producer says that gives nothing, or gives it too late.
pub fn begins(mut source: Box<dyn StreamSource>, name: &str, cancel: &Cancel) -> Result<(), SourceError> {
    let failed = |source| SourceError::Io { name: name.to_owned(), source };
    if !source.wait_readable(cancel, Some(BEGINS_WITHIN)).map_err(failed)? {
        let why = format!("it gave nothing within {} s", BEGINS_WITHIN.as_secs());
        return Err(failed(io::Error::new(io::ErrorKind::TimedOut, why)));
    }
    match source.read(&mut [0; 64]).map_err(failed)? {
        0 => source.finish().map(drop),
        _ => Ok(()),
    }
}

/// A stream to come.
#[derive(Clone)]
pub struct PlannedStream {
    /// Path of its entry.
    pub name: Vec<u8>,
    /// How it is had.
    pub opener: Arc<dyn OpenStream>,
}

impl fmt::Debug for PlannedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlannedStream({})", String::from_utf8_lossy(&self.name))
    }
}

/// Streams that are worth something together only: those of one database.
#[derive(Debug)]
pub struct Member {
    /// What messages call it.
    pub label: String,
    /// Its streams, or why it has none.
    pub streams: Result<Vec<PlannedStream>, SourceError>,
    /// What is not among them, though one could think so.
    pub notes: Vec<String>,
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
    /// A database server could not be asked, or does not have what is wanted.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A source of the caller's own failed.
    #[error(transparent)]
    Own(Box<dyn std::error::Error + Send + Sync>),
    /// What was read is stored no more, and it cannot be read again.
    #[error(
        "{} that {name} gave {} in packs that were deleted while the backup ran, and it cannot be read again",
        ByteSize(lost_bytes.unwrap_or(*bytes)),
        lost_bytes.map_or("may have been", |_| "were")
    )]
    Lost {
        /// The stream.
        name: String,
        /// Bytes that it had.
        bytes: u64,
        /// Those of them that are lost, where that can be told.
        lost_bytes: Option<u64>,
    },
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
