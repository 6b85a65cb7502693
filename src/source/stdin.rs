//! Standard input as a source.

use std::io::{self, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::model::entry::StreamDetail;
use crate::process::{wait_readable, widen_pipe};
use crate::source::{SourceError, StreamSource};

/// What error messages call it.
const NAME: &str = "standard input";

/// Standard input, read without a buffer in between.
#[derive(Debug)]
pub struct StdinSource {
    input: OwnedFd,
    started: Instant,
    received: bool,
    ended: bool,
}

impl StdinSource {
    /// Takes the process's standard input.
    ///
    /// # Errors
    /// Standard input is closed or a terminal: nobody types a backup, so the pipe was forgotten.
    pub fn open() -> Result<Self, SourceError> {
        let failed = |source| SourceError::Io { name: NAME.to_owned(), source };
        if io::stdin().is_terminal() {
            return Err(failed(io::Error::other("it is a terminal; pipe the data into it")));
        }
        Ok(Self::from_fd(rustix::stdio::stdin().try_clone_to_owned().map_err(failed)?))
    }

    /// Reads from `input` as if it were standard input.
    pub fn from_fd(input: OwnedFd) -> Self {
        widen_pipe(&input);
        Self { input, started: Instant::now(), received: false, ended: false }
    }
}

impl Read for StdinSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&self.input, &mut *buffer))?;
        self.received |= count > 0;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl StreamSource for StdinSource {
    fn wait_readable(&self, cancel: &Cancel, timeout: Option<Duration>) -> io::Result<bool> {
        wait_readable(&self.input, cancel, timeout)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        let (name, stderr) = (NAME.to_owned(), Vec::new());
        if !self.ended {
            return Err(SourceError::Unfinished { name, stderr });
        }
        if !self.received {
            return Err(SourceError::Empty { name, stderr });
        }
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(StreamDetail { duration_ms, ..StreamDetail::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn source(bytes: &[u8]) -> Box<StdinSource> {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        std::fs::File::from(write).write_all(bytes).expect("written");
        Box::new(StdinSource::from_fd(read))
    }

    #[test]
    fn a_stream_is_complete_when_it_was_read_to_its_end() {
        let mut input = source(b"dump");
        let mut text = String::new();
        input.read_to_string(&mut text).expect("read");
        assert_eq!(text, "dump");
        assert!(input.finish().is_ok());
    }

    #[test]
    fn an_empty_or_half_read_stream_is_refused() {
        let mut input = source(b"");
        assert_eq!(input.read(&mut [0; 10]).expect("read"), 0);
        assert!(matches!(input.finish(), Err(SourceError::Empty { .. })));
        let mut input = source(b"dump");
        assert_eq!(input.read(&mut [0; 2]).expect("read"), 2);
        assert!(matches!(input.finish(), Err(SourceError::Unfinished { .. })));
    }
}
