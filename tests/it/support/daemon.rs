//! What the database servers of the tests have in common: a directory and a process that end with the test run, however it
//! ends, and how their clients are run.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long a server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Says that a test is skipped.
///
/// # Panics
/// When `COFFRE_REQUIRE_SERVERS=1`.
pub fn skip(missing: &str) {
    let required = std::env::var("COFFRE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(!required, "{missing} is not installed, and COFFRE_REQUIRE_SERVERS=1");
    eprintln!("skipped: {missing} is not installed");
}

/// Returns the directories where programs may be.
pub(super) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect()
}

/// The user that a server runs as: a database server refuses to be root.
pub(super) enum Owner {
    /// The user of this process.
    Caller,
    /// Another one, for this process is root's.
    Other { uid: u32, gid: u32 },
}

impl Owner {
    /// Returns the user `name`, or `nobody` where there is none, when this process is root's.
    pub(super) fn of(name: &str) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Caller;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = users.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let ids = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
            (fields[0] == name).then_some(ids)
        });
        let (uid, gid) = found.unwrap_or((65534, 65534));
        Self::Other { uid, gid }
    }

    /// Hands a file over.
    pub(super) fn give(&self, path: &Path) {
        if let Self::Other { uid, gid } = *self {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("root may");
        }
    }

    /// Lets `command` run as this user, without an intermediate process.
    pub(super) fn run_as(&self, command: &mut Command) {
        if let Self::Other { uid, gid } = *self {
            command.uid(uid).gid(gid);
        }
    }
}

/// A directory for a server, removed with this value, and with this process however it ends.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// A shell that removes the directory when its standard input, a pipe from here, comes to its end.
    watchdog: Child,
}

impl Directory {
    /// Makes one that other users may reach, whatever the directory for temporary files of this process is like.
    pub(super) fn new(kind: &str) -> Self {
        let prefix = format!("coffre-{kind}-");
        let path = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent()).expect("a temporary directory").keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        // A server that is just ending may put one more file into it. An interrupt from the terminal is not for the
        // shell: it has a process group of its own.
        let script = r#"cat >/dev/null; for _ in $(seq 100); do rm -rf -- "$0" && exit; sleep 0.1; done"#;
        let watchdog = Command::new("sh")
            .args(["-c", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .expect("sh runs");
        Self { path, watchdog }
    }

    /// Returns a path in it.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// Where servers keep their data, none of which outlives them: in memory where there is plenty. Making a database there takes
/// half the processor's time.
fn parent() -> &'static str {
    let room = rustix::fs::statvfs("/dev/shm").map_or(0, |it| it.f_bavail * it.f_frsize);
    if room >= 8 << 30 { "/dev/shm" } else { "/tmp" }
}

/// A server process: one that ends with this value, and with this process however it ends.
pub(super) struct Daemon {
    pub(super) port: u16,
    child: Mutex<Child>,
    end_signal: Signal,
    /// Keeps the thread that started the server, whose end is the server's, too.
    _keeper: Sender<()>,
    // Dropped last.
    pub(super) directory: Directory,
}

impl Daemon {
    /// Starts `command` with its messages in the file `log` of `directory`; `end_signal` ends it quickly.
    pub(super) fn start(mut command: Command, end_signal: Signal, directory: Directory, port: u16) -> Self {
        let log = fs::File::create(directory.at("log")).expect("the directory is ours");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).process_group(0);
        let prepare = move || Ok(rustix::process::set_parent_process_death_signal(Some(end_signal))?);
        // SAFETY: between fork and exec it does one system call.
        unsafe { command.pre_exec(prepare) };
        let (started, child) = channel();
        let (keeper, end) = channel();
        // "Parent" in "parent death" is the thread that forked, and a test's thread ends with the test.
        std::thread::spawn(move || {
            started.send(command.spawn()).expect("the receiver waits");
            let _: Result<(), _> = end.recv();
        });
        let child = child.recv().expect("the thread sends").expect("the server runs");
        Self { port, child: Mutex::new(child), end_signal, _keeper: keeper, directory }
    }

    /// Returns once `answers`.
    ///
    /// # Panics
    /// With the server's messages when it ends, or does not answer in time.
    pub(super) fn wait_for(&self, answers: impl Fn() -> bool) {
        let begun = Instant::now();
        while !answers() {
            let status = self.child.lock().expect("unpoisoned").try_wait().expect("asked");
            if status.is_some() || begun.elapsed() > START_LIMIT {
                let log = fs::read(self.directory.at("log")).unwrap_or_default();
                panic!("the server did not start ({status:?}):\n{}", String::from_utf8_lossy(&log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server and the processes that it started with SIGKILL, and returns when the server is gone.
    pub(super) fn kill(&self) {
        let mut child = self.child.lock().expect("unpoisoned");
        if child.try_wait().expect("asked").is_some() {
            return;
        }
        // A stopped server starts no further process while this one looks for them.
        let pid = Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, Signal::STOP);
        let begun = Instant::now();
        while process_status(pid).is_some_and(|(state, _)| state != 'T') && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let parts = children_of(pid);
        let _ = child.kill();
        for part in parts {
            let _ = rustix::process::kill_process(part, Signal::KILL);
        }
        child.wait().expect("reaped");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let begun = Instant::now();
        if let Ok(None) = child.try_wait() {
            let _ = rustix::process::kill_process(Pid::from_child(child), self.end_signal);
        }
        while let Ok(None) = child.try_wait() {
            if begun.elapsed() > Duration::from_secs(10) {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Returns the state of a process and its parent.
fn process_status(pid: Pid) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name before the parenthesis may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children_of(parent: Pid) -> Vec<Pid> {
    fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|item| Pid::from_raw(item.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(|pid| process_status(*pid).is_some_and(|(_, of)| of == parent.as_raw_nonzero().get()))
        .collect()
}

/// Writes a file that only `owner` may read.
pub(super) fn write_secret(path: &Path, text: &str, owner: &Owner) {
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("the directory is ours");
    file.write_all(text.as_bytes()).expect("written");
    owner.give(path);
}

/// Returns a new password: one that is hard to guess, for other users reach the loopback, and to quote.
pub(super) fn password() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has random bytes");
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("p:w\\d '\"$#%2F@/{hex}")
}

/// Returns a port that is free, each time another, below the range that outgoing connections take theirs from.
pub(super) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 1000 * 8;
    (0..8000)
        .map(|_| 12_000 + ((first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 8000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}

/// Returns a command that sees nothing of this environment but where programs are.
pub(super) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::join_paths(search_path()).expect("was joined before")).current_dir("/");
    command
}

/// Runs a client to its end and returns what it printed.
///
/// # Panics
/// With its messages when it fails.
pub fn run(command: &mut Command, input: &[u8]) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // One that stops early says why by its status.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("reaped")
    });
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, readable(output.stderr));
    readable(output.stdout)
}

/// Returns bytes as text, with escapes for those that are not UTF-8.
fn readable(bytes: Vec<u8>) -> String {
    let chunks = bytes.utf8_chunks();
    chunks.map(|chunk| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii())).collect()
}

/// Returns `text` as a segment of a URL's path.
pub(super) fn percent_encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
