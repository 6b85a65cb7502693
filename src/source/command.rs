//! A command's standard output as a source.
//!
//! The command runs in a session and process group of its own with nothing on its standard input, so that it neither
//! asks a terminal for a password nor outlives us: when the source is dropped before its end the whole group is
//! ended, and when this process dies the kernel ends the command.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};

use crate::model::entry::StreamDetail;
use crate::model::path::display_bytes;
use crate::source::stderr::StderrTail;
use crate::source::stdin::widen_pipe;
use crate::source::{SourceError, StreamSource, secrets, wait_for};

/// How long what the command left behind may keep its standard error open before it is no longer listened to.
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// How often a process group that was told to end is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct CommandOptions {
    /// The program, looked up in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables to set for it besides the ones this process has.
    pub environment: Vec<(OsString, OsString)>,
    /// Also pass on to our standard error what the command writes to its own.
    pub pass_stderr: bool,
    /// How long the command may take to end once it was told to.
    pub grace: Duration,
}

impl CommandOptions {
    /// Describes `program` with `arguments`, silent, with five seconds to end in.
    pub fn new(program: impl Into<OsString>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            pass_stderr: false,
            grace: Duration::from_secs(5),
        }
    }
}

/// A running command whose standard output is read.
///
/// Dropping it before [`StreamSource::finish`] ends the command and everything in its process group; that can take
/// as long as [`CommandOptions::grace`].
#[derive(Debug)]
pub struct CommandSource {
    name: String,
    detail: StreamDetail,
    started: Instant,
    grace: Duration,
    output: Option<ChildStdout>,
    received: bool,
    ended: bool,
    stderr: Option<StderrTail>,
    group: Arc<Group>,
    keeper: Option<JoinHandle<()>>,
}

/// Ends a command from another thread, for example while a read from it blocks.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<Group>);

impl Stopper {
    /// Asks the command to end; the reader then meets the end of the stream, and `finish` an error.
    pub fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }

    /// Ends the command at once.
    pub fn kill(&self) {
        self.0.signal(Signal::KILL);
    }
}

/// The command's process group. The leader is waited for without being reaped, and reaped only under the lock, so that
/// its number is never signalled when it may belong to somebody else.
#[derive(Debug)]
struct Group {
    leader: Pid,
    state: Mutex<GroupState>,
    exited: Condvar,
}

#[derive(Debug, Default)]
struct GroupState {
    outcome: Option<Result<Outcome, Errno>>,
    reaped: bool,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Status(i32),
    Signal(i32),
}

impl CommandSource {
    /// Starts the command.
    ///
    /// # Errors
    /// [`SourceError::Spawn`], for example when the program is not installed.
    pub fn spawn(options: &CommandOptions) -> Result<Self, SourceError> {
        let name = display_bytes(options.program.as_bytes()).to_string();
        let failed = |source| SourceError::Spawn { command: name.clone(), source };
        let line: Vec<Vec<u8>> = std::iter::once(&options.program)
            .chain(&options.arguments)
            .map(|argument| argument.as_bytes().to_vec())
            .collect();
        let started = Instant::now();
        let (keeper, running) = start(command(options)).map_err(failed)?;
        widen_pipe(&running.output);
        // From here on an early return drops `source`, which ends the command.
        let mut source = Self {
            detail: StreamDetail { command: secrets::mask(&line), ..StreamDetail::default() },
            name: name.clone(),
            started,
            grace: options.grace,
            output: Some(running.output),
            received: false,
            ended: false,
            stderr: None,
            group: running.group,
            keeper: Some(keeper),
        };
        source.stderr = Some(StderrTail::listen(running.stderr.into(), options.pass_stderr).map_err(failed)?);
        Ok(source)
    }

    /// Returns a handle with which another thread can end the command.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.group))
    }

    /// Ends the command and everything in its process group, and returns when all of it is gone.
    pub fn abort(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.output.take());
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
    fn reap(&mut self) -> Option<Result<Outcome, Errno>> {
        let outcome = self.group.wait(None);
        self.group.reap();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        outcome
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
    fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        self.output.as_ref().map_or(Ok(true), |output| wait_for(output, timeout))
    }

    fn finish(mut self: Box<Self>) -> Result<StreamDetail, SourceError> {
        if !self.ended {
            self.end();
            return Err(SourceError::Unfinished { name: self.name.clone(), stderr: Vec::new() });
        }
        let outcome = self.reap();
        let stderr = self.stderr.take().map(|tail| tail.finish(STDERR_GRACE)).unwrap_or_default();
        let (command, name) = (self.name.clone(), self.name.clone());
        match outcome {
            Some(Ok(Outcome::Status(0))) if self.received => {}
            Some(Ok(Outcome::Status(0))) => return Err(SourceError::Empty { name, stderr }),
            Some(Ok(Outcome::Status(status))) => return Err(SourceError::Failed { command, status, stderr }),
            Some(Ok(Outcome::Signal(signal))) => return Err(SourceError::Killed { command, signal, stderr }),
            Some(Err(error)) => return Err(SourceError::Io { name, source: error.into() }),
            None => return Err(SourceError::Unfinished { name, stderr }),
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

/// What the keeper hands over once the command runs.
struct Running {
    output: ChildStdout,
    stderr: ChildStderr,
    group: Arc<Group>,
}

fn command(options: &CommandOptions) -> Command {
    let mut command = Command::new(&options.program);
    command.args(&options.arguments).envs(options.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The parent may have died before the line above.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: between fork and exec only system calls are made; nothing allocates or takes a lock.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Starts the command from a thread that lives as long as it: the kernel's "parent died" is about that thread.
fn start(mut command: Command) -> io::Result<(JoinHandle<()>, Running)> {
    let (tell, told) = mpsc::sync_channel::<io::Result<Running>>(1);
    let keeper = thread::Builder::new().name("command".to_owned()).spawn(move || {
        let running = command.spawn().and_then(|mut child| {
            let missing = || io::Error::other("a pipe to the command is missing");
            let leader = Pid::from_child(&child);
            let group = Group { leader, state: Mutex::default(), exited: Condvar::new() };
            let output = child.stdout.take().ok_or_else(missing)?;
            let stderr = child.stderr.take().ok_or_else(missing)?;
            Ok(Running { output, stderr, group: Arc::new(group) })
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
        let outcome = ended.map(|status| status.as_ref().map_or(Outcome::Status(-1), Outcome::from));
        self.state().outcome = Some(outcome);
        self.exited.notify_all();
    }

    /// Waits for the leader's end, at most until `deadline`.
    fn wait(&self, deadline: Option<Instant>) -> Option<Result<Outcome, Errno>> {
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

impl From<&WaitIdStatus> for Outcome {
    fn from(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Outcome::Status(status),
            (None, signal) => Outcome::Signal(signal.unwrap_or(0)),
        }
    }
}
