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
    let mut peak = 0;
    while child.try_wait().expect("ours").is_none() {
        peak = peak.max(anonymous_mib(&mut status));
        std::thread::sleep(LOOK);
    }
    (child.wait_with_output().expect("ended").into(), peak)
}

/// Returns the anonymous memory that a process has now, in MiB, from its `/proc/PID/status`; 0 when it has ended.
pub fn anonymous_mib(status: &mut File) -> u64 {
    let mut text = String::new();
    status.rewind().expect("a file");
    let _ = status.read_to_string(&mut text);
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
