//! The program itself, many of it at once on one repository: backups of several hosts, forgetting and cleaning up from two machines, each killed,
//! stopped and continued at random. In the end every snapshot that is listed comes back byte for byte, every backup that said that it was
//! done and that nobody forgot is listed, and nothing is damaged.
//!
//! Each backup has a stream of rows beside its files, of which a few change from one to the next, so that recipes are written, needed and
//! cleaned up.
//!
//! `COFFRE_TORTURE_SECONDS` says how long each goes on (60), `COFFRE_TORTURE_SEED` what it does; the seed is printed. What the kernel lets
//! run first is not in the seed.
//! What is there when something is damaged is copied to the directory `COFFRE_TORTURE_KEEP`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::ceph::{BUCKET, OWNER, ceph};
use crate::support::desk::{Desk, PASSWORD, Run};
use crate::support::{files_in, random_bytes};

/// Hosts that back up, each its own files.
const HOSTS: usize = 3;
/// Machines that clean up, each with its own cache and state.
const MACHINES: usize = 2;
/// Processes at once.
const AT_ONCE: usize = 4;
/// Rows of a host's stream, and how many of them one change writes anew.
const ROWS: usize = 12_000;
const ROWS_CHANGED: usize = 60;
/// Backups that there are at least, however slow everything is.
const BACKUPS_LEAST: usize = 5;
/// How long a process may go on that nobody stops, behind a minute of all this.
const PATIENCE: Duration = Duration::from_secs(300);

/// Numbers that look random and depend on a seed alone.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// A backup that was begun.
struct Begun {
    host: usize,
    files: Files,
    rows: Vec<u8>,
    /// It said that it was done.
    is_done: bool,
    /// Somebody may have forgotten it.
    may_be_forgotten: bool,
}

enum What {
    Backup { tag: String, host: usize },
    Forget,
    Prune { machine: usize },
}

struct Running {
    child: Child,
    what: What,
    words: Vec<String>,
    stopped_until: Option<Instant>,
    is_killed: bool,
    out: PathBuf,
    err: PathBuf,
}

struct Torture {
    desk: Desk,
    /// Where the repository is, unless it is the desk's.
    location: Option<String>,
    dice: Dice,
    running: Vec<Running>,
    backups: BTreeMap<String, Begun>,
    /// Sessions that clean-ups waited for.
    waited_for: BTreeSet<String>,
    /// How long a process may go on that nobody stops.
    patience: Duration,
    begun: usize,
    ended: BTreeMap<String, usize>,
}

impl Torture {
    fn new(seed: u64) -> Self {
        let (desk, dice, location) = (Desk::with_repository(), Dice(seed), None);
        let (running, backups, waited_for) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let mut torture = Self {
            desk,
            location,
            dice,
            running,
            backups,
            waited_for,
            patience: PATIENCE,
            begun: 0,
            ended: BTreeMap::new(),
        };
        for host in 0..HOSTS {
            fs::create_dir(torture.source(host)).expect("made");
            let rows: String = (0..ROWS).map(|row| torture.row(row)).collect();
            fs::write(torture.rows(host), rows).expect("written");
            (0..6).for_each(|_| torture.change(host));
        }
        torture
    }

    /// Makes a repository in a bucket, and uses that.
    fn on_ceph(mut self) -> Self {
        let ceph = ceph().expect("the packages of Ceph are installed");
        let prefix = format!("torture{}", self.desk.directory.path().file_name().expect("a name").display());
        self.location = Some(ceph.http(BUCKET, &prefix));
        fs::write(self.desk.at("password"), PASSWORD).expect("written");
        let kit = self.desk.at("kit of the bucket");
        let made = self.run(&["init", "--recovery-kit", kit.to_str().expect("plain")]);
        assert_eq!(made.code, 0, "{made:?}");
        let kit = fs::read_to_string(kit).expect("there");
        let identity = kit.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("there");
        fs::write(self.desk.at("password"), identity).expect("written");
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.desk.command(arguments);
        if let Some(location) = &self.location {
            command.env("COFFRE_REPO", location);
            command.env("AWS_ACCESS_KEY_ID", OWNER.0).env("AWS_SECRET_ACCESS_KEY", OWNER.1);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("runs").into()
    }

    /// A row of a table, with something new in it.
    fn row(&mut self, number: usize) -> String {
        let (a, b) = (self.dice.roll(), self.dice.roll());
        format!("{number}\t{a:x}\t{b:x}\n")
    }

    /// The file that a host's stream is read from.
    fn rows(&self, host: usize) -> PathBuf {
        self.desk.at(&format!("rows of host{host}"))
    }

    fn source(&self, host: usize) -> PathBuf {
        self.desk.at(&format!("host{host}"))
    }

    /// Writes some files of a host anew and removes some.
    fn change(&mut self, host: usize) {
        let source = self.source(host);
        for _ in 0..1 + self.dice.below(6) {
            let path = source.join(format!("file{}", self.dice.below(30)));
            let (seed, length) = (self.dice.roll(), self.dice.below(300_000));
            if self.dice.one_in(4) {
                let _ = fs::remove_file(path);
            } else if self.dice.one_in(2) {
                // The same on every host, so that they share chunks.
                fs::write(path, random_bytes(seed % 12, 200_000)).expect("written");
            } else {
                fs::write(path, random_bytes(seed, length)).expect("written");
            }
        }
        let text = fs::read_to_string(self.rows(host)).expect("there");
        let mut rows: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        for _ in 0..ROWS_CHANGED {
            let at = self.dice.below(rows.len());
            rows[at] = self.row(at);
        }
        fs::write(self.rows(host), rows.concat()).expect("written");
    }

    fn start(&mut self, what: What, words: Vec<String>) {
        let machine = match &what {
            What::Backup { host, .. } => format!("host{host}"),
            What::Forget => "machine0".to_owned(),
            What::Prune { machine } => format!("machine{machine}"),
        };
        self.begun += 1;
        let [out, err] = ["out", "err"].map(|name| self.desk.at(&format!("{name}{}", self.begun)));
        let mut arguments: Vec<&str> = vec!["--json"];
        arguments.extend(words.iter().map(String::as_str));
        let mut command = self.command(&arguments);
        command
            .env("COFFRE_HOST", &machine)
            .env("COFFRE_CACHE_DIR", self.desk.at(&format!("cache of {machine}")))
            .env("COFFRE_STATE_DIR", self.desk.at(&format!("state of {machine}")))
            .stdout(Stdio::from(File::create(&out).expect("made")))
            .stderr(Stdio::from(File::create(&err).expect("made")));
        let child = command.spawn().expect("started");
        self.running.push(Running { child, what, words, stopped_until: None, is_killed: false, out, err });
    }

    fn start_backup(&mut self) {
        let host = self.dice.below(HOSTS);
        if self.running.iter().any(|it| matches!(it.what, What::Backup { host: busy, .. } if busy == host)) {
            return;
        }
        self.change(host);
        let (tag, source, stream) = (format!("run{}", self.begun), self.source(host), self.rows(host));
        let (files, rows) = (files_in(&source), fs::read(&stream).expect("there"));
        self.backups.insert(tag.clone(), Begun { host, files, rows, is_done: false, may_be_forgotten: false });
        let [source, stream] = [&source, &stream].map(|path| path.to_str().expect("plain"));
        let words = ["backup", "--tag", &tag, source, "--command", "rows", "--", "cat", stream];
        let words = words.map(str::to_owned).to_vec();
        self.start(What::Backup { tag, host }, words);
    }

    fn start_forget(&mut self) {
        let listed = self.listed();
        if listed.len() < 4 {
            return;
        }
        let (id, tag) = &listed[self.dice.below(listed.len())];
        self.backups.get_mut(tag).expect("begun").may_be_forgotten = true;
        self.start(What::Forget, ["forget", "--yes", id].map(str::to_owned).to_vec());
    }

    fn start_prune(&mut self) {
        let machine = self.dice.below(MACHINES);
        let mut words = vec!["prune", "--grace", "0s", "--wait"];
        words.push(if self.dice.one_in(2) { "0s" } else { "2s" });
        match self.dice.below(4) {
            0 => {}
            1 => words.extend(["--max-unused", "0", "--max-rewrite", "500KiB"]),
            _ => words.extend(["--max-unused", "0"]),
        }
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        // Whether these sessions are dead or only stopped, nobody knows.
        if self.dice.one_in(2) {
            let sessions = std::mem::take(&mut self.waited_for);
            words.extend(sessions.into_iter().flat_map(|session| ["--give-up".to_owned(), session]));
        }
        self.start(What::Prune { machine }, words);
    }

    /// Snapshots that are listed, with their tags.
    fn listed(&self) -> Vec<(String, String)> {
        let run = self.run(&["--json", "snapshots"]);
        let events = run.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let snapshots = events.filter(|event| event["event"] == "snapshot");
        snapshots.map(|event| (text(&event["id"]), text(&event["tags"][0]))).collect()
    }

    /// Kills, stops and continues, and takes note of who has ended.
    fn disturb(&mut self) {
        let now = Instant::now();
        for running in &mut self.running {
            let pid = Pid::from_child(&running.child);
            if running.stopped_until.is_some_and(|until| until <= now) {
                running.stopped_until = None;
                let _ = kill_process(pid, Signal::CONT);
            }
            match self.dice.below(60) {
                0 => {
                    running.is_killed = true;
                    let _ = kill_process(pid, Signal::KILL);
                }
                1 | 2 if running.stopped_until.is_none() => {
                    running.stopped_until = Some(now + Duration::from_millis(self.dice.roll() % 3000));
                    let _ = kill_process(pid, Signal::STOP);
                }
                _ => {}
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        for mut running in std::mem::take(&mut self.running) {
            match running.child.try_wait().expect("it is ours") {
                None => self.running.push(running),
                Some(status) => self.end(running, status.code()),
            }
        }
    }

    fn end(&mut self, running: Running, code: Option<i32>) {
        let verb = running.words[0].clone();
        let ended = code.map_or("killed".to_owned(), |code| code.to_string());
        *self.ended.entry(format!("{verb} {ended}")).or_default() += 1;
        let [out, err] = [&running.out, &running.err].map(|path| fs::read_to_string(path).expect("there"));
        assert!(code.is_some() || running.is_killed, "{:?} died by itself: {err}", running.words);
        // Neither is anything damaged nor does anything panic.
        let is_wrong = matches!(code, Some(2 | 4 | 5 | 10 | 12 | 101));
        if is_wrong {
            self.keep();
        }
        assert!(!is_wrong, "{:?} ended with {ended}: {out}{err}", running.words);
        match running.what {
            What::Backup { tag, .. } if code == Some(0) => self.backups.get_mut(&tag).expect("begun").is_done = true,
            What::Prune { .. } => self.waited_for.extend(waiting_for(&out)),
            _ => {}
        }
    }

    /// Stops all that run and copies everything to where `COFFRE_TORTURE_KEEP` says, for whoever wants to know what went wrong.
    fn keep(&mut self) {
        let Some(place) = std::env::var_os("COFFRE_TORTURE_KEEP") else { return };
        for running in &mut self.running {
            let _ = running.child.kill();
        }
        let copied = Command::new("cp").arg("-a").arg(self.desk.directory.path()).arg(place).status();
        assert!(copied.expect("runs").success());
    }

    /// Lets all that run come to an end.
    fn let_end(&mut self) {
        let begun = Instant::now();
        for running in &mut self.running {
            let _ = kill_process(Pid::from_child(&running.child), Signal::CONT);
        }
        while !self.running.is_empty() {
            assert!(begun.elapsed() < self.patience, "{:?} does not end", self.running[0].words);
            self.reap();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Cleans up from a machine, after everybody has ended.
    fn prune_in_peace(&mut self, machine: usize) -> Value {
        let mut sessions = BTreeSet::new();
        for _ in 0..3 {
            let mut words: Vec<String> =
                ["prune", "--grace", "0s", "--wait", "0s", "--max-unused", "0"].map(str::to_owned).to_vec();
            words.extend(sessions.iter().flat_map(|session: &String| ["--give-up".to_owned(), session.clone()]));
            self.start(What::Prune { machine }, words);
            let out = self.running[0].out.clone();
            self.let_end();
            let out = fs::read_to_string(out).expect("there");
            let more = waiting_for(&out);
            if more.is_empty() {
                return out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            }
            sessions.extend(more);
        }
        panic!("sessions of which none runs are waited for: {sessions:?}");
    }

    /// Begins one thing after the other and disturbs them, until then.
    fn go_on(&mut self, until: Instant) {
        let are_enough = |it: &Self| it.backups.values().filter(|backup| backup.is_done).count() >= BACKUPS_LEAST;
        while Instant::now() < until || !are_enough(self) {
            if self.running.len() < AT_ONCE {
                match self.dice.below(20) {
                    0..10 => self.start_backup(),
                    10..12 => self.start_forget(),
                    12..17 => self.start_prune(),
                    _ => {}
                }
            }
            self.disturb();
            std::thread::sleep(Duration::from_millis(self.dice.roll() % 40));
        }
    }

    /// Verifies everything without a cache, looks whether each backup is there that said that it was done, and restores all.
    fn assert_whole(&self) {
        let cache = self.desk.at("fresh cache");
        let verified = self.command(&["verify", "--read-data"]).env("COFFRE_CACHE_DIR", &cache).output();
        let verified = Run::from(verified.expect("runs"));
        assert_eq!(verified.code, 0, "{verified:?}");
        let listed = self.listed();
        let tags: BTreeSet<&String> = listed.iter().map(|(_, tag)| tag).collect();
        for (tag, begun) in self.backups.iter().filter(|(_, it)| it.is_done && !it.may_be_forgotten) {
            assert!(tags.contains(tag), "{tag} of host {} said that it was done, and is not there", begun.host);
        }
        listed.iter().for_each(|(id, tag)| self.assert_restored(id, tag));
        assert!(cache.exists() && !listed.is_empty());
    }

    /// Restores a snapshot and compares all of it.
    fn assert_restored(&self, id: &str, tag: &str) {
        let begun = &self.backups[tag];
        let target = self.desk.at(&format!("restored {tag}"));
        let run = self.run(&["restore", id, "--target", target.to_str().expect("plain")]);
        assert_eq!(run.code, 0, "{tag}: {run:?}");
        let source = self.source(begun.host);
        let below = target.join(source.strip_prefix("/").expect("absolute"));
        let mut restored = if below.is_dir() { files_in(&below) } else { files_in(&target) };
        restored.remove("rows");
        assert!(restored == begun.files, "{tag} ({id}) came back otherwise");
        fs::remove_dir_all(target).expect("there");
        let dumped = self.command(&["dump", &format!("{id}:rows")]).output().expect("runs");
        assert!(dumped.status.success(), "{tag}: {}", String::from_utf8_lossy(&dumped.stderr));
        assert!(dumped.stdout == begun.rows, "the rows of {tag} ({id}) came back otherwise");
    }
}

/// The sessions that a clean-up says it waited for.
fn waiting_for(out: &str) -> Vec<String> {
    let summary = out.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok()).unwrap_or_default();
    let sessions = summary["waiting_for"].as_array().cloned().unwrap_or_default();
    sessions.iter().filter_map(|session| session.as_str().map(str::to_owned)).collect()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Where the repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Directory,
    Ceph,
}

/// Goes on for as long as `COFFRE_TORTURE_SECONDS` says, then looks at everything.
fn torture_at(place: Place) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("behind 1970").as_nanos() as u64;
    let (seed, seconds) = (number("COFFRE_TORTURE_SEED", now % 1_000_000), number("COFFRE_TORTURE_SECONDS", 60));
    println!("{place:?}: COFFRE_TORTURE_SEED={seed}");
    let mut torture = Torture::new(seed);
    if place == Place::Ceph {
        torture = torture.on_ceph();
    }
    // The more there is, the longer it takes to look at it.
    torture.patience += Duration::from_secs(seconds);
    torture.go_on(Instant::now() + Duration::from_secs(seconds));
    torture.let_end();
    // Each takes back what it left, whatever ends it then; so the first one does all at the third time, at the latest.
    let last = [0, 1, 0].map(|machine| torture.prune_in_peace(machine));
    println!("{:?}\n{}", torture.ended, last[2]);
    assert!(last[2]["event"] == "summary" && last[2]["unfinished"] == Value::Null, "{last:?}");
    torture.assert_whole();
}

#[test]
fn killed_and_stopped_at_random_nothing_is_lost() {
    torture_at(Place::Directory);
}

#[test]
fn nor_is_it_on_a_real_gateway() {
    if ceph().is_some() {
        torture_at(Place::Ceph);
    }
}
