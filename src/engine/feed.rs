//! Feeding: a stored stream goes into a client program, which is waited for, or into a spool file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::blocking::blocking;
use crate::engine::restore::{Cause, Restoring, StoredError, Unrestored};
use crate::model::path::EntryPath;
use crate::process::{CommandOptions, ProgramEnd, Stopper, readable};
use crate::sink::command::CommandTarget;

/// What a line says that a client wrote to its standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// So many statements failed, and those after them were done.
    Failed(u64),
    /// More about the one that failed last.
    Detail,
    /// Nothing is lost by the one that failed last.
    Harmless,
    /// So many failed in all, those that nothing is lost by among them.
    Total(u64),
    /// Rows are missing for what failed, or the rest will not be done either. More is said about it.
    Lost,
    /// The same, and that was all: the client can be ended.
    Over,
    /// This table comes next.
    Table(String),
    /// Something was changed on the way in: this.
    Changed(String),
    /// The statements before this one are done: it was asked to say so, with this sign.
    Done(String),
    /// Anything else.
    Other,
}

/// What a client said in all; its last lines for people.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Statements that failed.
    pub failed_statements: u64,
    /// Rows are missing.
    pub has_lost_rows: bool,
    /// Its last lines.
    pub last: Vec<String>,
    /// What was said about the first that failed, a line each.
    pub failures: Vec<String>,
    /// Statements that failed, and that nothing is lost by.
    pub harmless: u64,
    /// The client counted those that failed, and went on.
    pub has_counted: bool,
    /// What was changed, each with the table, once for all its rows.
    pub changes: BTreeSet<String>,
    /// The table that the client is at.
    table: String,
}

/// Such lines that are kept.
const KEPT_FAILURES: usize = 100;

/// Stands between what failed and the statement.
const DETAIL: &str = "; ";

impl Heard {
    /// Adds what another client said after it.
    pub fn extend(&mut self, other: Heard) {
        self.failed_statements += other.failed_statements;
        self.has_lost_rows |= other.has_lost_rows;
        self.last.extend(other.last);
        let room = KEPT_FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
        self.harmless += other.harmless;
        self.has_counted |= other.has_counted;
        let room = KEPT_FAILURES.saturating_sub(self.changes.len());
        self.changes.extend(other.changes.into_iter().take(room));
    }

    /// Returns what was said about those that failed, and how many are not among that.
    pub fn told_failures(&self) -> Vec<String> {
        let more = self.failed_statements.saturating_sub(self.failures.len() as u64);
        let more = (more > 0).then(|| format!("… and {more} more"));
        self.failures.iter().cloned().chain(more).collect()
    }

    fn note(&mut self, said: &Said, line: &[u8]) {
        match said {
            Said::Failed(count) => {
                self.failed_statements += count;
                if self.failures.len() < KEPT_FAILURES {
                    self.failures.push(readable(line));
                }
            }
            // Most of a long statement is not needed to know it.
            Said::Detail => {
                if let Some(failure) = self.failures.last_mut().filter(|it| !it.contains(DETAIL)) {
                    *failure += &format!("{DETAIL}{}", readable(line));
                }
            }
            // The line before told of it as of any other.
            Said::Harmless => {
                self.harmless += 1;
                self.failed_statements = self.failed_statements.saturating_sub(1);
                self.failures.pop();
            }
            Said::Total(total) => {
                self.has_counted = true;
                self.failed_statements = self.failed_statements.max(total.saturating_sub(self.harmless));
            }
            // A client may say much more after what matters.
            Said::Lost | Said::Over if !self.has_lost_rows => {
                self.has_lost_rows = true;
                self.last.push(readable(line));
            }
            Said::Table(table) => self.table.clone_from(table),
            Said::Changed(what) if self.changes.len() < KEPT_FAILURES => {
                self.changes.insert(format!("{}: {what}", self.table));
            }
            Said::Changed(_) | Said::Lost | Said::Over | Said::Done(_) | Said::Other => {}
        }
    }
}

/// Why a stream did not arrive. The caller knows in what state that leaves everything.
#[derive(Debug)]
pub enum FeedError {
    /// The program failed.
    Client {
        /// The program.
        program: String,
        /// Its status; negative for a signal.
        status: i32,
        /// What it said.
        heard: Heard,
    },
    /// The stream could not be had whole, or the system failed.
    Stored(StoredError),
}

impl From<StoredError> for FeedError {
    fn from(error: StoredError) -> Self {
        FeedError::Stored(error)
    }
}

impl From<std::io::Error> for FeedError {
    fn from(error: std::io::Error) -> Self {
        FeedError::Stored(StoredError::Output(error))
    }
}

impl FeedError {
    /// Says that ending was asked for.
    pub fn cancelled() -> Self {
        FeedError::Stored(StoredError::Cancelled)
    }

    /// Makes the error that says what was being done, and in what state everything is now.
    pub fn left(self, step: impl Into<String>, left: impl Into<String>) -> Unrestored {
        let cause = match self {
            FeedError::Client { program, status, heard } => Cause::Client { program, status, stderr: heard.last },
            FeedError::Stored(error) => error.into(),
        };
        Unrestored { step: step.into(), left: left.into(), cause }
    }
}

/// A client that is listened to.
struct Heeded {
    target: CommandTarget,
    program: String,
    heard: Arc<Mutex<Heard>>,
    judge: fn(&[u8]) -> Said,
}

/// Hears each thing that a client says, and `None` when it says no more. It is called from a thread of the client's own.
pub type ClientHeard = Box<dyn Fn(Option<&Said>) + Send + Sync>;

/// Tells that a client says no more, when nobody can hear it any more.
struct Ending(ClientHeard);

impl Ending {
    fn tell(&self, said: &Said) {
        (self.0)(Some(said));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        (self.0)(None);
    }
}

impl Heeded {
    fn spawn(command: &CommandOptions, judge: fn(&[u8]) -> Said) -> Result<Self, FeedError> {
        Self::spawn_heard(command, judge, Box::new(|_| {}))
    }

    fn spawn_heard(command: &CommandOptions, judge: fn(&[u8]) -> Said, hear: ClientHeard) -> Result<Self, FeedError> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stopper = Arc::new(OnceLock::<Stopper>::new());
        let listener = {
            let (heard, stopper, ending) = (heard.clone(), stopper.clone(), Ending(hear));
            move |line: &[u8]| {
                let said = judge(line);
                heard.lock().unwrap_or_else(PoisonError::into_inner).note(&said, line);
                ending.tell(&said);
                // All that it would still do is for nothing. One that is not known yet has hardly begun.
                if let (Said::Over, Some(stopper)) = (said, stopper.get()) {
                    stopper.terminate();
                }
            }
        };
        let command = CommandOptions { listener: Some(Arc::new(listener)), ..command.clone() };
        let target = CommandTarget::spawn(&command)?;
        let _ = stopper.set(target.stopper());
        Ok(Self { target, program: command.name(), heard, judge })
    }
}

impl Restoring<'_> {
    /// Feeds the stream at `path` to a program and returns what it said on its standard error, each line judged.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn feed(
        &self,
        path: &EntryPath,
        command: &CommandOptions,
        judge: fn(&[u8]) -> Said,
    ) -> Result<Heard, FeedError> {
        self.feed_adapted(path, command, judge, |input| input).await
    }

    /// The same with something between the stream and the program.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn feed_adapted(
        &self,
        path: &EntryPath,
        command: &CommandOptions,
        judge: fn(&[u8]) -> Said,
        adapt: impl FnOnce(Box<dyn Write + Send>) -> Box<dyn Write + Send>,
    ) -> Result<Heard, FeedError> {
        let mut client = Heeded::spawn(command, judge)?;
        let input = adapt(Box::new(client.target.take_input()));
        match self.stored.write(path, input).await {
            // It had enough, or failed; its status tells.
            Err(StoredError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        self.wait(client).await
    }

    /// Feeds the stream at `path` to several clients at once, one for each of `hearers`, and returns what became of each. `spread`
    /// is given what they read, and decides who gets what.
    ///
    /// # Errors
    /// [`FeedError`], when the stream did not come to its end for another reason than a client, or ending was asked for.
    pub async fn feed_several(
        &self,
        path: &EntryPath,
        command: &CommandOptions,
        judge: fn(&[u8]) -> Said,
        hearers: Vec<ClientHeard>,
        spread: impl FnOnce(Vec<Box<dyn Write + Send>>) -> Box<dyn Write + Send>,
    ) -> Result<Vec<Result<Heard, FeedError>>, FeedError> {
        let clients: Result<Vec<Heeded>, FeedError> =
            hearers.into_iter().map(|hear| Heeded::spawn_heard(command, judge, hear)).collect();
        let mut clients = clients?;
        let input = |client: &mut Heeded| Box::new(client.target.take_input()) as Box<dyn Write + Send>;
        let inputs = clients.iter_mut().map(input).collect();
        let cut_off = match self.stored.write(path, spread(inputs)).await {
            Err(StoredError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Some(error),
            other => other.map(|()| None)?,
        };
        let mut ended = Vec::new();
        for client in clients {
            // What the others have begun, they end.
            match self.wait(client).await {
                Err(error @ FeedError::Stored(_)) => return Err(error),
                answer => ended.push(answer),
            }
        }
        // Whoever was given less than all did not succeed.
        match cut_off.filter(|_| ended.iter().all(Result::is_ok)) {
            Some(_) if self.cancel.is_cancelled() => Err(FeedError::cancelled()),
            Some(error) => Err(error.into()),
            None => Ok(ended),
        }
    }

    /// Runs a program that reads nothing and returns what it said on its standard error, each line judged.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn run(&self, command: &CommandOptions, judge: fn(&[u8]) -> Said) -> Result<Heard, FeedError> {
        self.wait(Heeded::spawn(command, judge)?).await
    }

    /// Runs a program on a few statements and returns what it said on its standard error, each line judged.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn say(
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
        let waited = blocking(move || target.wait(&cancel)).await;
        let Some((ended, last)) = waited? else { return Err(FeedError::cancelled()) };
        let mut heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        // What it lost rows for comes first, if it is not among the last lines anyway.
        heard.last.retain(|line| !last.contains(line));
        let is_for_us =
            |line: &String| matches!(judge(line.as_bytes()), Said::Table(_) | Said::Changed(_) | Said::Done(_));
        heard.last.extend(last.into_iter().filter(|line| !is_for_us(line)));
        // The first failure is mostly the cause of the others.
        if let Some(first) = heard.failures.first().filter(|first| !heard.last.iter().any(|it| first.starts_with(it))) {
            heard.last.insert(0, first.clone());
        }
        match ended {
            ProgramEnd::Status(0) => Ok(heard),
            ended => Err(FeedError::Client { program, status: ended.status(), heard }),
        }
    }

    /// Writes the stream at `path` into a file that is there.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn spool(&self, path: &EntryPath, file: &Path) -> Result<(), FeedError> {
        let file = std::fs::OpenOptions::new().write(true).truncate(true).open(file)?;
        Ok(self.stored.write(path, Box::new(file)).await?)
    }

    /// Reads the stream at `path` through, so that what cannot be had is known before anything is given up for it.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn read_through(&self, path: &EntryPath) -> Result<(), FeedError> {
        Ok(self.stored.write(path, Box::new(std::io::sink())).await?)
    }
}
