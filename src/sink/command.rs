//! A program's standard input as a target: database clients that are fed what was stored.

use std::io::{self, Write};
use std::process::ChildStdin;

use crate::cancel::Cancel;
use crate::process::{CommandOptions, Piped, Process, ProgramEnd, Stopper};

/// A running program that is being fed.
///
/// Dropping it before [`CommandTarget::wait`] ends the program and everything in its process group.
#[derive(Debug)]
pub struct CommandTarget {
    process: Process,
    input: Option<ChildStdin>,
}

impl CommandTarget {
    /// Starts the program; what it prints is thrown away, what it says on its standard error is kept for messages.
    ///
    /// # Errors
    /// What the system says, for example that it is not installed.
    pub fn spawn(command: &CommandOptions) -> io::Result<Self> {
        let (process, pipes) = Process::spawn(command, Piped { input: true, output: false })?;
        Ok(Self { process, input: pipes.input })
    }

    /// Returns a handle with which another thread can end it.
    pub fn stopper(&self) -> Stopper {
        self.process.stopper()
    }

    /// Returns what it reads from; dropping that says that nothing more comes.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take_input(&mut self) -> impl Write + Send + use<> {
        self.input.take().expect("taken once")
    }

    /// Waits until it has ended and returns how, with the last lines of its standard error; `None` when ending was asked for
    /// before, and then it was ended. Blocks.
    ///
    /// # Errors
    /// What the system says about waiting.
    pub fn wait(mut self, cancel: &Cancel) -> io::Result<Option<(ProgramEnd, Vec<String>)>> {
        drop(self.input.take());
        if !self.process.ends_unless(cancel) {
            self.process.end();
            return Ok(None);
        }
        self.process.wait().map(Some)
    }
}
