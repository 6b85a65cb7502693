//! The memory of a child process: the most anonymous memory that it had at any moment looked at.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::desk::Run;

/// Between two looks. What lasts for less may be missed, so a peak found is never too high.
const LOOK: Duration = Duration::from_millis(2);

/// Runs a command to its end; returns how it ended and its peak in MiB. Its output goes nowhere.
pub fn run(command: &mut Command) -> (Run, u64) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut status = File::open(format!("/proc/{}/status", child.id())).expect("a running process");
    let (mut text, mut peak) = (String::new(), 0);
    while child.try_wait().expect("ours").is_none() {
        text.clear();
        status.rewind().expect("a file");
        let _ = status.read_to_string(&mut text);
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
        let kib: u64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        peak = peak.max(kib / 1024);
        std::thread::sleep(LOOK);
    }
    (child.wait_with_output().expect("ended").into(), peak)
}
