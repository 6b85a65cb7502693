//! Every verb against every fault of what is stored and of the way to it.
//!
//! Whoever needs what is damaged ends with 4 and nobody else; who may not ends with 1, who cannot reach it with 7. Each run has
//! an empty cache, which could hide the fault, and knows what the machine knew that made the backups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coffre::crypto::secret::Passphrase;
use coffre::model::cleanup::CleanupList;
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::store::OpenOptions;
use coffre::store::location::Location;

use crate::cleanups::put_list_of;
use crate::support::desk::{Desk, Run};
use crate::support::proxy::{Proxy, Wire, s3_error};
use crate::support::random_bytes;
use crate::support::s3_server::{BUCKET, OWNER, S3Server};

/// The verbs, in the order of the columns below.
const VERBS: [&str; 11] =
    ["snapshots", "ls", "find", "diff", "stats", "restore", "dump", "verify", "read-data", "backup", "status"];

/// A repository of two snapshots, and what the verbs are asked for.
struct Bench {
    desk: Desk,
    identity: PathBuf,
    first: String,
}

impl Bench {
    /// The recovery identity opens the repository, since its slot is cheap.
    fn new(location: Option<&str>) -> Self {
        let desk = Desk::new();
        let mut bench = Self { identity: desk.at("identity"), desk, first: String::new() };
        let repository = bench.desk.at("repository");
        let location = location.unwrap_or_else(|| repository.to_str().expect("plain")).to_owned();
        let made = with_keys(&mut bench.desk.command(&["--repo", &location, "init", "--recovery-kit", "kit"]));
        assert_eq!(made.code, 0, "{made:?}");
        let kit = fs::read_to_string(bench.desk.at("kit")).expect("written");
        let identity = kit.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-"));
        fs::write(&bench.identity, identity.expect("an identity")).expect("written");
        fs::create_dir(bench.desk.at("source")).expect("made");
        fs::write(bench.desk.at("source/kept"), text(1, 300_000)).expect("written");
        fs::write(bench.desk.at("source/changed"), text(2, 50_000)).expect("written");
        let run = |bench: &Self, verb| {
            let run = bench.run_at(&location, verb, "10min", &bench.state());
            assert_eq!(run.code, 0, "{run:?}");
            run
        };
        run(&bench, "backup");
        let list = run(&bench, "snapshots").out;
        bench.first = list.lines().nth(1).and_then(|line| line.split(' ').next()).expect("a snapshot").to_owned();
        fs::write(bench.desk.at("source/changed"), text(3, 50_000)).expect("written");
        // Of snapshots of the same second, all are opened to find the latest.
        let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let before = second();
        while second() == before {
            std::thread::sleep(Duration::from_millis(20));
        }
        run(&bench, "backup");
        bench
    }

    /// Kills a run in its middle, which leaves its lease.
    fn leave_lease(&self) {
        let (identity, repository) = (self.identity.display().to_string(), self.desk.at("repository"));
        let repository_text = repository.display().to_string();
        let arguments = ["--repo", &repository_text, "--password-file", &identity, "backup", "--command", "slow", "--"];
        let mut run = self.desk.command(&[&arguments[..], &["sleep", "600"]].concat()).spawn().expect("runs");
        let sessions = repository.join("sessions");
        while fs::read_dir(&sessions).map_or(0, Iterator::count) == 0 {
            assert!(run.try_wait().expect("asked").is_none(), "it ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        run.kill().expect("killed");
        run.wait().expect("ended");
    }

    /// Puts a list of cleaning up by which nothing is deleted.
    fn leave_cleanup(&self) {
        let location: Location = self.desk.at("repository").display().to_string().parse().expect("a location");
        let identity = fs::read_to_string(&self.identity).expect("written");
        let cache = tempfile::tempdir().expect("made");
        tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
            let monitor = Arc::new(Collected::default());
            let store = coffre::store::open(&location, &OpenOptions::default(), monitor).expect("opened");
            let opened = Repository::open(store.clone(), &Passphrase::new(identity), cache.path()).await;
            put_list_of(&Arc::new(opened.expect("opens")), &*store, 1, CleanupList::default()).await;
        });
    }

    fn source(&self) -> String {
        self.desk.at("source").display().to_string()
    }

    /// What the machine remembers.
    fn state(&self) -> PathBuf {
        self.desk.at(".local/state/coffre")
    }

    /// Runs a verb on the repository at `location`, of which the machine remembers what it did after the backups.
    fn run(&self, location: &str, verb: &str, give_up_after: &str) -> Run {
        let copy = tempfile::tempdir().expect("made");
        let state = copy.path().join("state");
        let copied = Command::new("cp").arg("-a").arg(self.state()).arg(&state).status();
        assert!(copied.expect("cp runs").success());
        self.run_at(location, verb, give_up_after, &state)
    }

    /// Runs a verb with an empty cache.
    fn run_at(&self, location: &str, verb: &str, give_up_after: &str, state: &Path) -> Run {
        let scratch = tempfile::tempdir().expect("made");
        let at = |name: &str| scratch.path().join(name).display().to_string();
        let (source, kept) = (self.source(), format!("latest:{}/kept", self.source()));
        let (cache, target, identity) = (at("cache"), at("target"), self.identity.display().to_string());
        let mut arguments = vec!["--repo", location, "--cache-dir", &cache, "--password-file", &identity];
        arguments.extend(["--give-up-after", give_up_after, "--state-dir", state.to_str().expect("plain")]);
        arguments.extend(match verb {
            "ls" => vec!["ls", "-R", "latest"],
            "find" => vec!["find", "kept"],
            "diff" => vec!["diff", &self.first, "latest"],
            "restore" => vec!["restore", "latest", "--target", &target],
            "dump" => vec!["dump", &kept],
            "read-data" => vec!["verify", "--read-data"],
            "backup" => vec!["backup", &source],
            other => vec![other],
        });
        let run = with_keys(&mut self.desk.command(&arguments));
        let damaged = fs::read_dir(scratch.path()).expect("there").count();
        assert!(damaged <= 2 && !run.err.contains("panicked"), "{verb}: {run:?}");
        if run.code != 4 {
            assert!(!find_damaged(scratch.path()), "{verb}: `.damaged` files without damage: {run:?}");
        }
        run
    }
}

/// Text that does not compress, since a test reads what a dump prints.
fn text(seed: u64, length: usize) -> String {
    random_bytes(seed, length).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_keys(command: &mut Command) -> Run {
    command.env("AWS_ACCESS_KEY_ID", OWNER.0).env("AWS_SECRET_ACCESS_KEY", OWNER.1).output().expect("runs").into()
}

fn find_damaged(directory: &Path) -> bool {
    let found = Command::new("find").arg(directory).args(["-name", "*.damaged"]).output().expect("find runs");
    !found.stdout.is_empty()
}

/// What is done to an object.
fn damage(path: &Path, how: &str) {
    let mut bytes = fs::read(path).expect("there");
    match how {
        // In what is sealed, and, of packs, in their first frame.
        "flip" if path.to_str().is_some_and(|path| path.contains("/packs/")) => bytes[20] ^= 1,
        "flip" => {
            let last = bytes.len() - 20;
            bytes[last] ^= 1;
        }
        // What is needed of a small pack stands at its beginning.
        "cut" => bytes.truncate(bytes.len().min(200) / 2),
        "empty" => bytes.clear(),
        // Made by somebody who may put objects and has no key.
        "foreign" => bytes = [&bytes[..8], &[7; 2000]].concat(),
        "gone" => return fs::remove_file(path).expect("removed"),
        other => unreachable!("{other}"),
    }
    fs::write(path, bytes).expect("written");
}

fn files_in(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for item in fs::read_dir(directory).expect("readable") {
        let path = item.expect("readable").path();
        match path.is_dir() {
            true => found.extend(files_in(&path)),
            false => _ = found.insert(path),
        }
    }
    found
}

/// The objects that are damaged, one of each kind, relative to the repository.
fn objects(bench: &Bench) -> Vec<(&'static str, PathBuf)> {
    let root = bench.desk.at("repository");
    let by_age = |kind: &str| {
        let mut files: Vec<PathBuf> = files_in(&root.join(kind)).into_iter().collect();
        files.sort_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time"));
        files
    };
    let size = |path: &PathBuf| fs::metadata(path).expect("there").len();
    let packs = by_age("packs");
    let data = packs.iter().max_by_key(|path| size(path)).expect("packs").clone();
    // The later half are those of the second run: one of data, one of its tree.
    let tree = packs[packs.len() / 2..].iter().min_by_key(|path| size(path)).expect("packs").clone();
    let slots = by_age("keys");
    let scrypt = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).expect("there")).into_owned();
    let work = |path: &PathBuf| -> u32 {
        let text = scrypt(path);
        let stanza = text.lines().find_map(|line| line.strip_prefix("-> scrypt ")).expect("a stanza");
        stanza.split(' ').nth(1).and_then(|work| work.parse().ok()).expect("a number")
    };
    let slot = slots.iter().min_by_key(|path| work(path)).expect("slots").clone();
    let (index, snapshots) = (by_age("index"), by_age("snapshots"));
    [
        ("config", by_age("config").remove(0)),
        ("keyring", by_age("keyring").remove(0)),
        ("slot in use", slot),
        ("first segment", index[0].clone()),
        ("newest snapshot", snapshots[1].clone()),
        ("older snapshot", snapshots[0].clone()),
        ("data pack", data),
        ("tree pack", tree),
        ("another run's lease", by_age("sessions").remove(0)),
        ("clean-up list", by_age("cleanup").remove(0)),
    ]
    .map(|(name, path)| (name, path.strip_prefix(&root).expect("below").to_path_buf()))
    .to_vec()
}

/// What is expected of each object's damages, verb by verb; `status` comes last, and tells what `verify` found just before.
///                                 snapshots ls find diff stats restore dump verify read-data backup status
const DAMAGES: [(&str, &str, [i32; 11]); 21] = [
    ("config", "flip cut empty gone", [4; 11]),
    ("keyring", "flip cut empty gone", [4; 11]),
    ("slot in use", "flip cut empty", [4; 11]),
    ("slot in use", "gone", [12; 11]),
    ("first segment", "flip", [0, 0, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    ("first segment", "cut", [0, 0, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    ("first segment", "empty", [0, 0, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    ("first segment", "gone", [0, 0, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    ("newest snapshot", "flip cut empty", [4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 4]),
    // The machine knows that it was there.
    ("newest snapshot", "gone", [4, 4, 4, 4, 0, 4, 4, 4, 4, 3, 4]),
    ("older snapshot", "flip cut empty", [4, 0, 4, 4, 4, 0, 0, 4, 4, 0, 4]),
    // The newest knows that it was there.
    ("older snapshot", "gone", [4, 0, 4, 1, 0, 0, 0, 4, 4, 0, 4]),
    ("data pack", "flip", [0, 0, 0, 0, 0, 4, 4, 0, 4, 0, 3]),
    ("data pack", "cut empty", [0, 0, 0, 0, 0, 4, 4, 4, 4, 0, 3]),
    ("data pack", "gone", [0, 0, 0, 0, 0, 4, 4, 4, 4, 0, 3]),
    ("tree pack", "flip", [0, 4, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    ("tree pack", "cut empty", [0, 4, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    ("tree pack", "gone", [0, 4, 4, 4, 0, 4, 4, 4, 4, 0, 3]),
    // Only whoever deletes needs to know who else is at work.
    ("another run's lease", "flip cut empty gone", [0; 11]),
    // What it told is lost, which matters to whoever deletes; nothing that is stored is.
    ("clean-up list", "flip cut empty foreign", [0, 0, 0, 0, 0, 0, 0, 4, 4, 0, 3]),
    // Nothing tells that it was there.
    ("clean-up list", "gone", [0; 11]),
];

#[test]
fn whoever_needs_what_is_damaged_ends_with_4_and_nobody_else() {
    let bench = Bench::new(None);
    bench.leave_lease();
    bench.leave_cleanup();
    let objects = objects(&bench);
    let rows: Vec<(&Path, String, [i32; 11])> = DAMAGES
        .iter()
        .flat_map(|(object, hows, codes)| hows.split(' ').map(move |how| (*object, how, *codes)))
        .map(|(object, how, codes)| {
            let (_, path) = objects.iter().find(|(name, _)| *name == object).expect("an object of that name");
            (path.as_path(), format!("{object}, {how}"), codes)
        })
        .collect();
    assert_eq!(rows.len(), 41, "ten objects, four damages, and a list that nobody made");
    let (waiting, wrong) = (Mutex::new(rows.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((path, name, codes)) = { waiting.lock().expect("free").next() } {
                    let copy = tempfile::tempdir().expect("made");
                    let repository = copy.path().join("repository");
                    let copied =
                        Command::new("cp").arg("-a").arg(bench.desk.at("repository")).arg(&repository).status();
                    assert!(copied.expect("cp runs").success());
                    damage(&repository.join(path), name.rsplit(' ').next().expect("a damage"));
                    for (verb, code) in VERBS.iter().zip(codes) {
                        let run = bench.run(repository.to_str().expect("plain"), verb, "10min");
                        if run.code != code {
                            wrong
                                .lock()
                                .expect("free")
                                .push(format!("{name}: {verb} {} for {code}: {}", run.code, run.err));
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("free");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs every verb on an S3 store behind a proxy to which `fault` is done for good, and compares the codes.
async fn check_way(name: &str, codes: [i32; 11], hint: &str, fault: impl Fn(&Proxy)) {
    let server = S3Server::start().await;
    let direct = server.location("p");
    let bench = tokio::task::spawn_blocking(move || Bench::new(Some(&direct))).await.expect("made");
    let proxy = Proxy::start(server.address).await;
    fault(&proxy);
    let location = format!("s3+http://{}/{BUCKET}/p", proxy.address);
    let runs = tokio::task::spawn_blocking(move || VERBS.map(|verb| (verb, bench.run(&location, verb, "1s"))));
    let runs = runs.await.expect("run");
    let wrong: Vec<String> = runs
        .iter()
        .zip(codes)
        // With 3 `status` tells how others ended.
        .filter(|((_, run), code)| run.code != *code || (![0, 3].contains(code) && !run.err.contains(hint)))
        .map(|((verb, run), code)| format!("{name}: {verb} {} for {code}: {}{}", run.code, run.out, run.err))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (verb, run) in &runs {
        let said = format!("{}{}", run.out, run.err).to_lowercase();
        assert!(!said.contains("damaged"), "{name}: {verb} calls something damaged: {run:?}");
        assert!(!said.contains("everything has been read"), "{name}: {verb}: {run:?}");
    }
}

//                         snapshots ls find diff stats restore dump verify read-data backup status
const ALL_BUT_LISTS: [i32; 11] = [0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 3];
const PACKS_AWAY: [i32; 11] = [0, 7, 7, 7, 0, 7, 7, 7, 7, 7, 0];

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ends_with_1_and_calls_nothing_damaged() {
    let denied = || s3_error("403 Forbidden", "AccessDenied");
    check_way("denied", [1; 11], "credentials", |proxy| proxy.always("", "", denied())).await;
    check_way("packs denied", ALL_BUT_LISTS, "credentials", |proxy| proxy.always("", "/packs/", denied())).await;
    let expired = s3_error("400 Bad Request", "ExpiredToken");
    check_way("expired", [1; 11], "credentials", |proxy| proxy.always("", "", expired.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_ends_with_7_and_calls_nothing_damaged() {
    check_way("unreachable", [7; 11], "network", |proxy| proxy.always("", "", Wire::Reset)).await;
    check_way("gone away", PACKS_AWAY, "network", |proxy| proxy.always("", "/packs/", Wire::Reset)).await;
    let failing = s3_error("503 Service Unavailable", "InternalError");
    check_way("failing", [7; 11], "network", |proxy| proxy.always("", "", failing.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_break_off_end_with_7_and_call_nothing_damaged() {
    check_way("broken off", [7; 11], "network", |proxy| proxy.always("GET", "", Wire::CutBody(7))).await;
    let reading = [0, 7, 7, 7, 0, 7, 7, 7, 7, 0, 0];
    check_way("packs broken off", reading, "network", |proxy| proxy.always("GET", "/packs/", Wire::CutBody(7))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_is_told_by_every_verb() {
    let missing = s3_error("404 Not Found", "NoSuchBucket");
    check_way("no bucket", [1; 11], "the bucket does not exist", |proxy| proxy.always("", "", missing.clone())).await;
}
