//! Where entries come from: file trees, standard input, commands.
//!
//! Everything here blocks and is called from threads. File trees are walked by [`files::Walk`]; what comes as one run
//! of bytes is a [`StreamSource`], which is believed only after [`StreamSource::finish`] said that it was complete.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::model::entry::StreamDetail;
use crate::model::path::display_bytes;

pub mod command;
pub mod files;
mod secrets;
mod stderr;
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
    #[error("{command} failed with status {status}{}", tail(stderr))]
    Failed {
        /// The program.
        command: String,
        /// Its exit status.
        status: i32,
        /// The last lines it wrote to its standard error.
        stderr: Vec<String>,
    },
    /// The command was ended by a signal.
    #[error("{command} was ended by signal {signal}{}", tail(stderr))]
    Killed {
        /// The program.
        command: String,
        /// The signal's number.
        signal: i32,
        /// The last lines it wrote to its standard error.
        stderr: Vec<String>,
    },
    /// The stream had no bytes.
    #[error("{name} gave no data{}", tail(stderr))]
    Empty {
        /// The program, or `standard input`.
        name: String,
        /// The last lines a command wrote to its standard error.
        stderr: Vec<String>,
    },
    /// The stream was not read to its end.
    #[error("{name} was not read to its end{}", tail(stderr))]
    Unfinished {
        /// The program, or `standard input`.
        name: String,
        /// The last lines a command wrote to its standard error.
        stderr: Vec<String>,
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

/// Waits until `input` has bytes or has ended.
fn wait_for(input: impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Shows the last lines of a command's standard error behind a message, each on a line of its own.
fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    lines.iter().fold(String::from("; it said:"), |text, line| text + "\n    " + line)
}

/// Makes text for people out of the last lines of what a command wrote.
fn last_lines(bytes: &[u8], most: usize) -> Vec<String> {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    let skipped = lines.len().saturating_sub(most);
    lines[skipped..].iter().map(|line| display_bytes(line.trim_ascii_end()).to_string()).collect()
}
