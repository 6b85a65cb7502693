//! Listening to a program's standard error: the last lines are kept for the message, all may be passed on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::process::{Listener, last_lines};

/// How much of what the program said is kept in memory.
const TAIL_BYTES: usize = 64 * 1024;
/// How much of one line a listener is shown.
const LINE_BYTES: usize = 8 * 1024;

/// A thread that listens until the program, and all it left behind, closed their standard error, or until it is
/// dropped.
#[derive(Debug)]
pub(super) struct StderrTail {
    thread: Option<JoinHandle<()>>,
    said: Receiver<Vec<u8>>,
    /// Closing it ends the thread.
    stop: Option<OwnedFd>,
}

impl StderrTail {
    /// Starts to listen.
    pub fn listen(pipe: OwnedFd, pass_on: bool, listener: Option<Listener>) -> io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (tell, said) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("command stderr".to_owned()).spawn(move || {
            let mut lines = LinePieces { listener, line: Vec::new() };
            let heard = hear(pipe, &stopped, pass_on, &mut lines);
            lines.end();
            // Nobody may be interested any more.
            let _ = tell.send(heard);
        })?;
        Ok(Self { thread: Some(thread), said, stop: Some(stop) })
    }

    /// Returns the last lines. Waits at most `patience` for whoever still holds the pipe open.
    pub fn finish(mut self, patience: Duration) -> Vec<String> {
        let heard = self.said.recv_timeout(patience).or_else(|_| {
            drop(self.stop.take());
            self.said.recv()
        });
        last_lines(&heard.unwrap_or_default())
    }
}

impl Drop for StderrTail {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts lines together for a listener.
struct LinePieces {
    listener: Option<Listener>,
    line: Vec<u8>,
}

impl LinePieces {
    fn push(&mut self, bytes: &[u8]) {
        let Some(listener) = &self.listener else { return };
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = part.strip_suffix(b"\n");
            let kept = text.unwrap_or(part);
            let room = LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&kept[..kept.len().min(room)]);
            if text.is_some() {
                listener(&self.line);
                self.line.clear();
            }
        }
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.push(b"\n");
        }
    }
}

fn hear(pipe: OwnedFd, stopped: &OwnedFd, pass_on: bool, lines: &mut LinePieces) -> Vec<u8> {
    let mut pipe = File::from(pipe);
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut ready = [PollFd::new(&pipe, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return kept,
        }
        // What was said before the end is heard first.
        if ready[0].revents().is_empty() {
            return kept;
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(count) => {
                if pass_on {
                    let _ = io::stderr().write_all(&buffer[..count]);
                }
                lines.push(&buffer[..count]);
                if kept.len() + count > 2 * TAIL_BYTES {
                    kept.drain(..kept.len() - TAIL_BYTES);
                }
                kept.extend_from_slice(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_listener_is_shown_every_line_whatever_the_reads_are() {
        let long = "x".repeat(3 * LINE_BYTES);
        let text = format!("first\n\n{long}\nlast");
        for piece in [1, 7, 4096, text.len()] {
            let heard = Arc::new(Mutex::new(Vec::new()));
            let listener: Listener = {
                let heard = heard.clone();
                Arc::new(move |line: &[u8]| heard.lock().expect("unpoisoned").push(line.to_vec()))
            };
            let mut lines = LinePieces { listener: Some(listener), line: Vec::new() };
            text.as_bytes().chunks(piece).for_each(|part| lines.push(part));
            lines.end();
            let expected = ["first".as_bytes(), b"", &long.as_bytes()[..LINE_BYTES], b"last"];
            assert_eq!(*heard.lock().expect("unpoisoned"), expected, "{piece}");
        }
    }
}
