//! Questions to the person at the terminal: seen, answered by a line, and left at once by Ctrl-C.
//!
//! While a question is open nothing else is drawn. It is written to the terminal itself and read from it, so that standard
//! output stays data. A secret is not shown while it is typed, and however the question ends, the terminal shows again what
//! is typed, and what was half typed does not go to the shell.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::blocking::blocking;
use crate::cli::exit::usage;
use crate::cli::failure::{Context, Fallible};
use crate::cli::progress::ConsoleMonitor;
use crate::cli::{output, signals};

/// The person left a question without an answer.
#[derive(Debug, thiserror::Error)]
#[error("interrupted at a question, which was not answered")]
pub struct Left;

/// Asks and returns the line that was typed, without its end; nothing when the terminal was closed.
///
/// # Errors
/// [`Left`] on SIGINT, SIGTERM and SIGHUP; without a terminal, or when it cannot be read.
pub async fn ask(monitor: &ConsoleMonitor, question: &str) -> Fallible<String> {
    let answer = answered(monitor, question, false).await?;
    Ok(answer.to_string())
}

/// Asks for a secret, which is not shown while it is typed.
///
/// # Errors
/// As [`ask`].
pub async fn ask_secret(monitor: &ConsoleMonitor, question: &str) -> Fallible<Zeroizing<String>> {
    answered(monitor, question, true).await
}

async fn answered(monitor: &ConsoleMonitor, question: &str, is_secret: bool) -> Fallible<Zeroizing<String>> {
    let _still = monitor.asking();
    let terminal = terminal().context("asking at the terminal")?;
    let signal = signals::during_question()?;
    let mut mode = Mode::take(&terminal, is_secret).context("asking at the terminal")?;
    (&terminal).write_all(output::visible(question).as_bytes()).context("asking at the terminal")?;
    let reading = terminal.try_clone().context("asking at the terminal")?;
    let answer = tokio::select! {
        biased;
        () = signal => {
            mode.leave();
            let _ = (&terminal).write_all(b"\n");
            return Err(Left.into());
        }
        answer = blocking(move || read_line(reading)) => answer,
    };
    let bytes = answer.context("reading the answer")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| usage("the answer is not UTF-8"))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Opens the terminal that the process belongs to, or the one behind standard input.
fn terminal() -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open("/dev/tty") {
        Err(_) if io::stdin().is_terminal() => Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?)),
        opened => opened,
    }
}

fn read_line(terminal: File) -> io::Result<Zeroizing<Vec<u8>>> {
    // As long as the longest line that a terminal hands over, so that no secret is left behind by growing.
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    BufReader::with_capacity(1, terminal).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// The terminal's settings before the question, which come back with its end.
struct Mode<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Mode<'a> {
    fn take(terminal: &'a File, is_secret: bool) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        if is_secret {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            silent.local_modes.insert(LocalModes::ECHONL);
            tcsetattr(terminal, OptionalActions::Now, &silent)?;
        }
        Ok(Self { terminal, before })
    }

    /// Forgets what was typed so far.
    fn leave(&mut self) {
        let _ = tcflush(self.terminal, QueueSelector::IFlush);
    }
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
