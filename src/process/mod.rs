//! Running other programs: each in a session and process group of its own, listened to, and gone when we are.
//!
//! A program never inherits our terminal, so that it cannot ask it for a password. When a [`Process`] is dropped before
//! its end the whole group is ended, and when this process dies the kernel ends the program. What a program is told in
//! its environment is never shown, and our own secrets are not in it ([`environment`]).

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};

use crate::cancel::Cancel;
use crate::model::path::display_bytes;
use crate::process::stderr::StderrTail;

pub mod environment;
pub mod own;
pub mod shell;
mod stderr;

/// How long what a program left behind may keep its standard error open before it is no longer listened to.
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// How often a process group that was told to end is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Lines of a program's standard error that messages show.
const KEPT_LINES: usize = 20;

/// Characters of such a line that messages show: a client that repeats a failed statement repeats all its rows.
const SHOWN_CHARACTERS: usize = 300;

/// Pipes are made this large, the most that an ordinary user may ask for, so that writer and reader rarely wait.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Hears what a program says, line by line, from a thread of its own.
pub type Listener = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What to run.
#[derive(Clone)]
pub struct CommandOptions {
    /// The program, looked up in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables to set for it besides the ones this process has; they may be secret.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables that it does not get, besides our secrets.
    pub withheld: Vec<OsString>,
    /// Send what it prints to its standard error, in order with what it says there.
    pub joins_output: bool,
    /// Also pass on to our standard error what the program writes to its own.
    pub pass_stderr: bool,
    /// Is shown each line that the program writes to its standard error, cut to some KiB.
    pub listener: Option<Listener>,
    /// How long the program may take to end once it was told to.
    pub grace: Duration,
}

impl CommandOptions {
    /// Describes `program` with `arguments`, silent, with five seconds to end in.
    pub fn new(program: impl Into<OsString>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            withheld: Vec::new(),
            joins_output: false,
            pass_stderr: false,
            listener: None,
            grace: Duration::from_secs(5),
        }
    }

    /// Keeps a variable from the program, such as the password of another database.
    pub fn withholding(mut self, variable: &str) -> Self {
        self.withheld.push(variable.into());
        self
    }

    /// Returns the program's name for messages.
    pub fn name(&self) -> String {
        display_bytes(self.program.as_bytes()).to_string()
    }
}

impl fmt::Debug for CommandOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        let Self { program, arguments, .. } = self;
        write!(f, "CommandOptions({program:?} {arguments:?}, environment {names:?})")
    }
}

/// Which of a program's standard streams are pipes to us; the others are `/dev/null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piped {
    /// Its standard input.
    pub input: bool,
    /// Its standard output.
    pub output: bool,
}

/// Our ends of the pipes that were asked for.
#[derive(Debug, Default)]
pub struct Pipes {
    /// What the program reads.
    pub input: Option<ChildStdin>,
    /// What the program writes.
    pub output: Option<ChildStdout>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramEnd {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl ProgramEnd {
    /// Returns the status; that of a signal is its negative.
    pub fn status(self) -> i32 {
        match self {
            ProgramEnd::Status(status) => status,
            ProgramEnd::Signal(signal) => -signal,
        }
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    grace: Duration,
    stderr: Option<StderrTail>,
    group: Arc<Group>,
    keeper: Option<JoinHandle<()>>,
}

/// Ends a program from another thread, for example while a read from it blocks.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Group>);

impl Stopper {
    /// Asks the program to end; who reads from it then meets the end of its output.
    pub fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }
}

/// The program's process group. The leader is waited for without being reaped, and reaped only under the lock, so that
/// its number is never signalled when it may belong to somebody else.
#[derive(Debug)]
struct Group {
    leader: Pid,
    state: Mutex<GroupState>,
    exited: Condvar,
}

#[derive(Debug, Default)]
struct GroupState {
    outcome: Option<Result<ProgramEnd, Errno>>,
    reaped: bool,
}

impl Process {
    /// Starts the program.
    ///
    /// # Errors
    /// What the system says, for example that the program is not installed.
    pub fn spawn(options: &CommandOptions, piped: Piped) -> io::Result<(Self, Pipes)> {
        let (keeper, running) = start(command(options, piped))?;
        for pipe in [running.pipes.input.as_ref().map(AsFd::as_fd), running.pipes.output.as_ref().map(AsFd::as_fd)] {
            pipe.into_iter().for_each(widen_pipe);
        }
        // From here on an early return drops `process`, which ends the program.
        let mut process = Self { grace: options.grace, stderr: None, group: running.group, keeper: Some(keeper) };
        let tail = StderrTail::listen(running.stderr.into(), options.pass_stderr, options.listener.clone());
        process.stderr = Some(tail?);
        Ok((process, running.pipes))
    }

    /// Returns a handle with which another thread can end the program.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.group))
    }

    /// Waits for the end of the program, unless ending is asked for before, and tells whether it has come.
    pub fn ends_unless(&self, cancel: &Cancel) -> bool {
        let group = self.group.clone();
        let _waking = cancel.wakes(move || {
            // Whoever looks has seen that ending is asked for, or waits by now.
            drop(group.state());
            group.exited.notify_all();
        });
        let mut state = self.group.state();
        while state.outcome.is_none() && !cancel.is_cancelled() {
            state = self.group.exited.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.outcome.is_some()
    }

    /// Waits for the end of the program, and returns it with the last lines of its standard error.
    ///
    /// # Errors
    /// What the system says about waiting.
    pub fn wait(&mut self) -> io::Result<(ProgramEnd, Vec<String>)> {
        let ended = self.reap();
        let stderr = self.stderr.take().map(|tail| tail.finish(STDERR_GRACE)).unwrap_or_default();
        Ok((ended?, stderr))
    }

    /// Ends the program and everything in its process group, and returns when all of it is gone; that can take as long as
    /// [`CommandOptions::grace`]. Close the pipes before.
    pub fn end(&mut self) {
        let deadline = Instant::now() + self.grace;
        if self.keeper.is_some() {
            self.group.signal(Signal::TERM);
            if self.group.wait(Some(deadline)).is_none() {
                self.group.signal(Signal::KILL);
            }
            let _ = self.reap();
            self.group.end_rest(deadline);
        }
        drop(self.stderr.take());
    }

    /// Waits for the leader's end and collects it.
    fn reap(&mut self) -> io::Result<ProgramEnd> {
        let outcome = self.group.wait(None);
        self.group.reap();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        Ok(outcome.expect("waited for without a deadline")?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why a program gave no result.
#[derive(Debug)]
pub enum CommandFailed {
    /// It could not be started.
    Spawn(io::Error),
    /// Its pipes could not be used.
    Io(io::Error),
    /// It ended with a status other than zero, or by a signal, which counts as its negative.
    Ended {
        /// The status.
        status: i32,
        /// The last lines of its standard error.
        stderr: Vec<String>,
    },
}

/// Runs a program to its end on `input`, which fits into a pipe, and returns what it wrote.
///
/// # Errors
/// [`CommandFailed`].
pub fn run(options: &CommandOptions, input: &[u8]) -> Result<Vec<u8>, CommandFailed> {
    run_unless(options, input, &Cancel::default())
}

/// The same, unless ending is asked for: then the program is ended, and that is an error.
///
/// # Errors
/// [`CommandFailed`], [`CommandFailed::Io`] of the kind `Interrupted` when ending was asked for.
pub fn run_unless(options: &CommandOptions, input: &[u8], cancel: &Cancel) -> Result<Vec<u8>, CommandFailed> {
    let mut output = Vec::new();
    run_heard(options, input, cancel, |bytes| output.extend_from_slice(bytes))?;
    Ok(output)
}

/// The same, with what the program writes given to `hear` as it comes, for one that writes more than anybody would keep.
///
/// # Errors
/// As for [`run_unless`].
pub fn run_heard(
    options: &CommandOptions,
    input: &[u8],
    cancel: &Cancel,
    mut hear: impl FnMut(&[u8]),
) -> Result<(), CommandFailed> {
    debug_assert!(input.len() < PIPE_BYTES / 2);
    let interrupted = || CommandFailed::Io(io::ErrorKind::Interrupted.into());
    let (mut process, pipes) =
        Process::spawn(options, Piped { input: true, output: true }).map_err(CommandFailed::Spawn)?;
    if let Some(mut pipe) = pipes.input {
        // A program that ends without reading says why itself.
        let _ = pipe.write_all(input);
    }
    if let Some(mut pipe) = pipes.output {
        let mut piece = vec![0; 64 * 1024];
        loop {
            while !wait_readable(&pipe, cancel, None).map_err(CommandFailed::Io)? {
                if cancel.is_cancelled() {
                    return Err(interrupted());
                }
            }
            match pipe.read(&mut piece) {
                Ok(0) => break,
                // One that writes all the time is never waited for.
                Ok(_) if cancel.is_cancelled() => return Err(interrupted()),
                Ok(count) => hear(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CommandFailed::Io(error)),
            }
        }
    }
    match process.wait().map_err(CommandFailed::Io)? {
        (ProgramEnd::Status(0), _) => Ok(()),
        (ended, stderr) => Err(CommandFailed::ended(ended, stderr)),
    }
}

impl CommandFailed {
    /// Tells of a program that ended badly.
    pub fn ended(ended: ProgramEnd, stderr: Vec<String>) -> Self {
        Self::Ended { status: ended.status(), stderr }
    }
}

/// Waits until `input` has bytes or has ended, unless ending is asked for before, and at most for `timeout`; tells whether it
/// has.
///
/// # Errors
/// What the system says about waiting.
pub fn wait_readable(input: impl AsFd, cancel: &Cancel, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout
        .map(|timeout| Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() });
    let cancelled = cancel.descriptor()?;
    let mut waited_for = [PollFd::new(&input, PollFlags::IN), PollFd::new(&cancelled, PollFlags::IN)];
    match poll(&mut waited_for, timeout.as_ref()) {
        Ok(_) => Ok(!waited_for[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Asks for a large pipe; what is no pipe, or a limit that was reached, does no harm.
pub fn widen_pipe(pipe: impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

/// Shows the last lines of a program's standard error behind a message, each on a line of its own.
pub fn said(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    lines[lines.len().saturating_sub(KEPT_LINES)..]
        .iter()
        .fold(String::from("; it said:"), |text, line| text + "\n    " + line)
}

/// Makes text for people out of the last lines of what a program wrote.
fn last_lines(bytes: &[u8]) -> Vec<String> {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
    lines[lines.len().saturating_sub(KEPT_LINES)..].iter().map(|line| readable(line)).collect()
}

/// Makes text for people out of a line that a program wrote: on one line, and not too long.
pub fn readable(line: &[u8]) -> String {
    let spaced: Vec<u8> = line.trim_ascii_end().iter().map(|&byte| if byte == b'\t' { b' ' } else { byte }).collect();
    let text = display_bytes(&spaced).to_string();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What the keeper hands over once the program runs.
struct Running {
    pipes: Pipes,
    stderr: ChildStderr,
    group: Arc<Group>,
}

fn command(options: &CommandOptions, piped: Piped) -> Command {
    let stdio = |piped| if piped { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(&options.program);
    environment::withhold_secrets(&mut command);
    for name in &options.withheld {
        command.env_remove(name);
    }
    command.args(&options.arguments).envs(options.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(stdio(piped.input)).stdout(stdio(piped.output)).stderr(Stdio::piped());
    let (parent, joins_output) = (rustix::process::getpid(), options.joins_output);
    let prepare = move || {
        rustix::process::setsid()?;
        if joins_output {
            rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have died before the line above.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Starts the program from a thread that lives as long as it: the kernel's "parent died" is about that thread.
fn start(mut command: Command) -> io::Result<(JoinHandle<()>, Running)> {
    let (tell, told) = mpsc::sync_channel::<io::Result<Running>>(1);
    let keeper = thread::Builder::new().name("command".to_owned()).spawn(move || {
        let running = command.spawn().and_then(|mut child| {
            let missing = || io::Error::other("a pipe to the program is missing");
            let leader = Pid::from_child(&child);
            let group = Group { leader, state: Mutex::default(), exited: Condvar::new() };
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let pipes = Pipes { input: child.stdin.take(), output: child.stdout.take() };
            Ok(Running { pipes, stderr, group: Arc::new(group) })
        });
        let group = running.as_ref().ok().map(|running| Arc::clone(&running.group));
        // The receiver waits below; it cannot be gone.
        let _ = tell.send(running);
        if let Some(group) = group {
            group.await_leader();
        }
    })?;
    let running = told.recv().map_err(io::Error::other)??;
    Ok((keeper, running))
}

impl Group {
    fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until the leader has ended, leaving it to be reaped.
    fn await_leader(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(self.leader), options));
        let outcome = ended.map(|status| status.as_ref().map_or(ProgramEnd::Status(-1), ProgramEnd::from));
        self.state().outcome = Some(outcome);
        self.exited.notify_all();
    }

    /// Waits for the leader's end, at most until `deadline`.
    fn wait(&self, deadline: Option<Instant>) -> Option<Result<ProgramEnd, Errno>> {
        let mut state = self.state();
        while state.outcome.is_none() {
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                Some(left) => self.exited.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.exited.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.outcome
    }

    fn signal(&self, signal: Signal) {
        let state = self.state();
        if !state.reaped {
            // It fails only when nobody is left.
            let _ = rustix::process::kill_process_group(self.leader, signal);
        }
    }

    fn reap(&self) {
        let mut state = self.state();
        if !state.reaped {
            let _ = rustix::process::waitid(WaitId::Pid(self.leader), WaitIdOptions::EXITED);
            state.reaped = true;
        }
    }

    /// Waits until nobody is left in the group, and kills who is at `deadline`. While the group has members its number
    /// is not given to anybody else; it could only be if all numbers were used up within one poll.
    fn end_rest(&self, deadline: Instant) {
        while rustix::process::test_kill_process_group(self.leader).is_ok() {
            if Instant::now() >= deadline {
                let _ = rustix::process::kill_process_group(self.leader, Signal::KILL);
                return;
            }
            thread::sleep(POLL);
        }
    }
}

impl From<&WaitIdStatus> for ProgramEnd {
    fn from(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => ProgramEnd::Status(status),
            (None, signal) => ProgramEnd::Signal(signal.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program would end by itself in a minute, which is not what either wait tells of.
    #[test]
    fn whoever_waits_for_a_program_is_woken_when_ending_is_asked_for() {
        let cancel = Cancel::default();
        let sleep = CommandOptions::new("/bin/sleep", ["60"]);
        let (mut process, _pipes) = Process::spawn(&sleep, Piped { input: true, output: true }).expect("started");
        thread::scope(|scope| {
            let output = scope.spawn(|| run_unless(&sleep, b"", &cancel));
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                cancel.cancel();
            });
            assert!(!process.ends_unless(&cancel), "it has not ended");
            let outcome = output.join().expect("no panic");
            let is_interrupted = |error: &io::Error| error.kind() == io::ErrorKind::Interrupted;
            assert!(matches!(&outcome, Err(CommandFailed::Io(error)) if is_interrupted(error)), "{outcome:?}");
        });
        process.end();
        assert!(process.ends_unless(&cancel), "an end that has come is told whatever was asked for");
    }
}
