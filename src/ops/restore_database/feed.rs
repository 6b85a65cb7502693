//! Feeding: a stored stream goes into a client program, which is waited for, or into a spool file.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::Cancel;
use crate::ops::dump::{DumpError, dump};
use crate::ops::restore_database::RestoreDatabaseError;
use crate::process::{CommandOptions, Ended};
use crate::progress::Monitor;
use crate::repository::reader::Reader;
use crate::target::command::CommandTarget;

/// What feeding needs besides the program.
pub(super) struct Feeder {
    pub(super) reader: Arc<Reader>,
    pub(super) snapshot: Snapshot,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) cancel: Cancel,
}

/// Why a stream did not arrive. The caller knows in what state that leaves everything.
pub(super) enum FeedError {
    /// The program failed.
    Client { program: String, status: i32, stderr: Vec<String> },
    /// The stream could not be had whole.
    Stored(DumpError),
    /// The system failed.
    Io(std::io::Error),
    /// Ending was asked for.
    Cancelled,
}

impl From<DumpError> for FeedError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Cancelled => FeedError::Cancelled,
            other => FeedError::Stored(other),
        }
    }
}

impl FeedError {
    /// Makes the error that says what was being done, and in what state everything is now.
    pub(super) fn left(self, step: String, left: String) -> RestoreDatabaseError {
        match self {
            FeedError::Client { program, status, stderr } => {
                RestoreDatabaseError::Client { step, program, status, stderr, left }
            }
            FeedError::Stored(source) => RestoreDatabaseError::Stored { step, left, source },
            FeedError::Io(source) => RestoreDatabaseError::Io { step, left, source },
            FeedError::Cancelled => RestoreDatabaseError::Cancelled { left },
        }
    }
}

/// Failed statements are counted by what a client says about each.
fn all_heard(command: &CommandOptions) -> CommandOptions {
    CommandOptions { kept_lines: usize::MAX, ..command.clone() }
}

impl Feeder {
    /// Feeds the stream at `path` to a program and returns what it said on its standard error.
    pub(super) async fn feed(&self, path: &EntryPath, command: &CommandOptions) -> Result<Vec<String>, FeedError> {
        let mut target = CommandTarget::spawn(&all_heard(command)).map_err(FeedError::Io)?;
        let input = Box::new(target.take_input());
        match self.dump(path, input).await {
            // It had enough, or failed; its status tells.
            Err(DumpError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        self.wait(target, command).await
    }

    /// Runs a program that reads nothing and returns what it said on its standard error.
    pub(super) async fn run(&self, command: &CommandOptions) -> Result<Vec<String>, FeedError> {
        let target = CommandTarget::spawn(&all_heard(command)).map_err(FeedError::Io)?;
        self.wait(target, command).await
    }

    async fn wait(&self, target: CommandTarget, command: &CommandOptions) -> Result<Vec<String>, FeedError> {
        let cancel = self.cancel.clone();
        let waited = tokio::task::spawn_blocking(move || target.wait(&|| cancel.is_cancelled())).await;
        let program = command.name();
        match waited.expect("waiting does not panic").map_err(FeedError::Io)? {
            None => Err(FeedError::Cancelled),
            Some((Ended::Status(0), stderr)) => Ok(stderr),
            Some((ended, stderr)) => Err(FeedError::Client { program, status: ended.status(), stderr }),
        }
    }

    /// Writes the stream at `path` into a file.
    pub(super) async fn spool(&self, path: &EntryPath, file: &Path) -> Result<(), FeedError> {
        let file = std::fs::OpenOptions::new().write(true).truncate(true).open(file).map_err(FeedError::Io)?;
        match self.dump(path, Box::new(file)).await {
            Err(DumpError::Output(error)) => Err(FeedError::Io(error)),
            other => Ok(other?),
        }
    }

    /// Reads the stream at `path` through, so that what cannot be had is known before anything is given up for it.
    pub(super) async fn read_through(&self, path: &EntryPath) -> Result<(), FeedError> {
        Ok(self.dump(path, Box::new(std::io::sink())).await?)
    }

    async fn dump(&self, path: &EntryPath, output: Box<dyn Write + Send>) -> Result<(), DumpError> {
        let (monitor, cancel) = (self.monitor.clone(), self.cancel.clone());
        dump(self.reader.clone(), &self.snapshot, Some(path.clone()), output, monitor, cancel).await.map(|_| ())
    }
}
