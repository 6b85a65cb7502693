//! A command's standard output as a source.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::model::entry::StreamDetail;
use crate::model::facts::fact;
use crate::process::{CommandOptions, Piped, Process, ProgramEnd, Stopper, wait_readable};
use crate::source::{SourceError, StreamSource, secrets};

/// A running command whose standard output is read.
///
/// Dropping it before [`StreamSource::finish`] ends the command and everything in its process group; that can take
/// as long as [`CommandOptions::grace`].
#[derive(Debug)]
pub struct CommandSource {
    name: String,
    detail: StreamDetail,
    started: Instant,
    output: Option<ChildStdout>,
    received: bool,
    ended: bool,
    process: Process,
}

impl CommandSource {
    /// Starts the command.
    ///
    /// # Errors
    /// [`SourceError::Spawn`], for example when the program is not installed.
    pub fn spawn(options: &CommandOptions) -> Result<Self, SourceError> {
        let name = options.name();
        let line: Vec<Vec<u8>> = std::iter::once(&options.program)
            .chain(&options.arguments)
            .map(|argument| argument.as_bytes().to_vec())
            .collect();
        let started = Instant::now();
        let (process, pipes) = Process::spawn(options, Piped { input: false, output: true })
            .map_err(|source| SourceError::Spawn { command: name.clone(), source })?;
        let detail = StreamDetail { command: secrets::mask(&line), ..StreamDetail::default() };
        Ok(Self { name, detail, started, output: pipes.output, received: false, ended: false, process })
    }

    /// Returns a handle with which another thread can end the command.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "tests look at it"))]
    pub fn stopper(&self) -> Stopper {
        self.process.stopper()
    }

    /// Ends the command and everything in its process group, and returns when all of it is gone.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "tests look at it"))]
    pub fn abort(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.output.take());
        self.process.end();
    }
}

impl Read for CommandSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(output) = &self.output else { return Ok(0) };
        let count = rustix::io::retry_on_intr(|| rustix::io::read(output, &mut *buffer))?;
        self.received |= count > 0;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl StreamSource for CommandSource {
    fn wait_readable(&self, cancel: &Cancel, timeout: Option<Duration>) -> io::Result<bool> {
        self.output.as_ref().map_or(Ok(true), |output| wait_readable(output, cancel, timeout))
    }

    fn finish(mut self: Box<Self>) -> Result<StreamDetail, SourceError> {
        let (command, name) = (self.name.clone(), self.name.clone());
        if !self.ended {
            self.end();
            return Err(SourceError::Unfinished { name, stderr: Vec::new() });
        }
        match self.process.wait() {
            Ok((ProgramEnd::Status(0), stderr)) if self.received => {
                let said = Some(stderr.join("\n")).filter(|said| !said.is_empty());
                self.detail.facts.set_some(fact::SAID, said);
            }
            Ok((ProgramEnd::Status(0), stderr)) => return Err(SourceError::Empty { name, stderr }),
            Ok((ProgramEnd::Status(status), stderr)) => return Err(SourceError::Failed { command, status, stderr }),
            Ok((ProgramEnd::Signal(signal), stderr)) => return Err(SourceError::Killed { command, signal, stderr }),
            Err(source) => return Err(SourceError::Io { name, source }),
        }
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(StreamDetail { duration_ms, ..std::mem::take(&mut self.detail) })
    }
}

impl Drop for CommandSource {
    fn drop(&mut self) {
        self.end();
    }
}
