//! Feeding: a stored stream goes into a client program, which is waited for, or into a spool file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::Cancel;
use crate::ops::dump::{DumpError, dump};
use crate::ops::restore_database::RestoreDatabaseError;
use crate::ops::restore_database::lines::marked_table;
use crate::process::{CommandOptions, Ended, Stopper, readable};
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

/// What a line says that a client wrote to its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// So many statements failed, and those after them were done.
    Failed(u64),
    /// Rows are missing for what failed, or the rest will not be done either. More is said about it.
    Lost,
    /// The same, and that was all: the client can be ended.
    Over,
    /// Which table comes next.
    Table,
    /// Something was changed on the way in.
    Changed,
    /// Anything else.
    Other,
}

/// What a client said in all; its last lines for people.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    pub(super) failed_statements: u64,
    pub(super) has_lost_rows: bool,
    pub(super) last: Vec<String>,
    /// The first lines that told of failed statements.
    pub(super) failures: Vec<String>,
    /// What was changed, each with the table, once for all its rows.
    pub(super) changes: BTreeSet<String>,
    /// The table that the client is at.
    table: String,
}

/// Such lines that are kept.
const KEPT_FAILURES: usize = 20;

impl Heard {
    /// Adds what another client said after it.
    pub(super) fn extend(&mut self, other: Heard) {
        self.failed_statements += other.failed_statements;
        self.has_lost_rows |= other.has_lost_rows;
        self.last.extend(other.last);
    }

    fn note(&mut self, said: Said, line: &[u8]) {
        match said {
            Said::Failed(count) => {
                self.failed_statements += count;
                if self.failures.len() < KEPT_FAILURES {
                    self.failures.push(readable(line));
                }
            }
            // A client may say much more after what matters.
            Said::Lost | Said::Over if !self.has_lost_rows => {
                self.has_lost_rows = true;
                self.last.push(readable(line));
            }
            Said::Table => self.table = marked_table(line).unwrap_or_default(),
            Said::Changed => {
                let what = readable(line);
                // `Warning (Code 1265): Data truncated for column 'e' at row 1`
                let what = what.split_once("): ").map_or(what.as_str(), |(_, what)| what);
                let what = what.rsplit_once(" at row ").map_or(what, |(what, _)| what);
                if self.changes.len() < KEPT_FAILURES {
                    self.changes.insert(format!("{}: {what}", self.table));
                }
            }
            Said::Lost | Said::Over | Said::Other => {}
        }
    }
}

/// Why a stream did not arrive. The caller knows in what state that leaves everything.
pub(super) enum FeedError {
    /// The program failed.
    Client { program: String, status: i32, heard: Heard },
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
            FeedError::Client { program, status, heard } => {
                RestoreDatabaseError::Client { step, program, status, stderr: heard.last, left }
            }
            FeedError::Stored(source) => RestoreDatabaseError::Stored { step, left, source },
            FeedError::Io(source) => RestoreDatabaseError::Io { step, left, source },
            FeedError::Cancelled => RestoreDatabaseError::Cancelled { left },
        }
    }
}

/// A client that is listened to.
struct Heeded {
    target: CommandTarget,
    program: String,
    heard: Arc<Mutex<Heard>>,
    judge: fn(&[u8]) -> Said,
}

impl Heeded {
    fn spawn(command: &CommandOptions, judge: fn(&[u8]) -> Said) -> Result<Self, FeedError> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stopper = Arc::new(OnceLock::<Stopper>::new());
        let listener = {
            let (heard, stopper) = (heard.clone(), stopper.clone());
            move |line: &[u8]| {
                let said = judge(line);
                heard.lock().unwrap_or_else(PoisonError::into_inner).note(said, line);
                // All that it would still do is for nothing. One that is not known yet has hardly begun.
                if let (Said::Over, Some(stopper)) = (said, stopper.get()) {
                    stopper.terminate();
                }
            }
        };
        let command = CommandOptions { listener: Some(Arc::new(listener)), ..command.clone() };
        let target = CommandTarget::spawn(&command).map_err(FeedError::Io)?;
        let _ = stopper.set(target.stopper());
        Ok(Self { target, program: command.name(), heard, judge })
    }
}

impl Feeder {
    /// Feeds the stream at `path` to a program and returns what it said on its standard error, each line judged.
    pub(super) async fn feed(
        &self,
        path: &EntryPath,
        command: &CommandOptions,
        judge: fn(&[u8]) -> Said,
    ) -> Result<Heard, FeedError> {
        self.feed_adapted(path, command, judge, |input| input).await
    }

    /// The same with something between the stream and the program.
    pub(super) async fn feed_adapted(
        &self,
        path: &EntryPath,
        command: &CommandOptions,
        judge: fn(&[u8]) -> Said,
        adapt: impl FnOnce(Box<dyn Write + Send>) -> Box<dyn Write + Send>,
    ) -> Result<Heard, FeedError> {
        let mut client = Heeded::spawn(command, judge)?;
        let input = adapt(Box::new(client.target.take_input()));
        match self.dump(path, input).await {
            // It had enough, or failed; its status tells.
            Err(DumpError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        self.wait(client).await
    }

    /// Runs a program that reads nothing and returns what it said on its standard error, each line judged.
    pub(super) async fn run(&self, command: &CommandOptions, judge: fn(&[u8]) -> Said) -> Result<Heard, FeedError> {
        self.wait(Heeded::spawn(command, judge)?).await
    }

    /// Runs a program on a few statements and returns what it said on its standard error, each line judged.
    pub(super) async fn say(
        &self,
        statements: &str,
        command: &CommandOptions,
        judge: fn(&[u8]) -> Said,
    ) -> Result<Heard, FeedError> {
        let mut client = Heeded::spawn(command, judge)?;
        // If it has ended, its status tells. They fit into the pipe.
        let _ = client.target.take_input().write_all(statements.as_bytes());
        self.wait(client).await
    }

    async fn wait(&self, client: Heeded) -> Result<Heard, FeedError> {
        let cancel = self.cancel.clone();
        let Heeded { target, program, heard, judge } = client;
        let waited = tokio::task::spawn_blocking(move || target.wait(&|| cancel.is_cancelled())).await;
        let Some((ended, last)) = waited.expect("waiting does not panic").map_err(FeedError::Io)? else {
            return Err(FeedError::Cancelled);
        };
        let mut heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        // What it lost rows for comes first, if it is not among the last lines anyway.
        heard.last.retain(|line| !last.contains(line));
        heard
            .last
            .extend(last.into_iter().filter(|line| !matches!(judge(line.as_bytes()), Said::Table | Said::Changed)));
        match ended {
            Ended::Status(0) => Ok(heard),
            ended => Err(FeedError::Client { program, status: ended.status(), heard }),
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
