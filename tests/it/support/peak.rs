//! The memory of a child process: the most anonymous memory that it had at any moment looked at.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::desk::Run;

/// Between two looks. What lasts for less may be missed, so a peak found is never too high.
const LOOK: Duration = Duration::from_millis(2);

/// Runs a command to its end; returns how it ended and its peak in MiB. Its output goes nowhere.
pub fn run(command: &mut Command) -> (Run, u64) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut memory = ChildMemory::of(command, &child);
    while child.try_wait().expect("ours").is_none() {
        memory.look();
        std::thread::sleep(LOOK);
    }
    let run = child.wait_with_output().expect("ended").into();
    assert!(memory.peak_mib > 0, "{} was never seen: {run:?}", memory.name);
    (run, memory.peak_mib)
}

/// The anonymous memory of a child process, as its `/proc/PID/status` tells it.
pub struct ChildMemory {
    status: File,
    /// What the process is called once it is the program, and no copy of this one any more, whose memory it shows until then.
    name: String,
    pub peak_mib: u64,
}

impl ChildMemory {
    /// Begins to look at a child that was started by a command.
    pub fn of(command: &Command, child: &Child) -> Self {
        let status = File::open(format!("/proc/{}/status", child.id())).expect("a running process");
        let program = Path::new(command.get_program()).file_name().expect("a program").to_string_lossy();
        Self { status, name: program.chars().take(15).collect(), peak_mib: 0 }
    }

    /// Looks at it.
    pub fn look(&mut self) {
        let mut text = String::new();
        self.status.rewind().expect("a file");
        let _ = self.status.read_to_string(&mut text);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("Name:") == Some(&self.name) {
            let kib = field("RssAnon:").and_then(|field| field.split_whitespace().next()?.parse::<u64>().ok());
            self.peak_mib = self.peak_mib.max(kib.unwrap_or(0) / 1024);
        }
    }
}
