//! Years of nights: hosts back up every night, each Sunday what no rule keeps is forgotten and everything is cleaned up. In the second
//! year nothing runs for a week, and one host gets another name.
//!
//! `cargo bench --bench years -- [DAYS] [HOSTS]`; the default are three years of ten hosts. It prints what there is after the first
//! night and after the last one, and what work then costs: in requests, which are the same anywhere, and in time. Store and repository
//! are in this process, clocks are told what time it is, and packs are an eighth as large as usual, as what is backed up is small.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::model::key::ObjectKey;
use coffre::model::path::EntryPath;
use coffre::model::retention::{Period, Policy, Rule};
use coffre::model::snapshot::Snapshot;
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupOptions, backup};
use coffre::ops::forget::{WantedForgotten, apply, plan};
use coffre::ops::prune::{PruneOptions, prune};
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::retention::ToldBy;
use coffre::repository::{InitOptions, Repository};
use coffre::source::files::WalkOptions;
use coffre::store::memory::MemoryStore;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError};

const DAY: i64 = 86_400;
/// The first night: 2 in the morning of a Monday, UTC.
const BEGIN: i64 = 1_767_578_400;
/// Files of a host, how large each is, and how many of them are written anew each day.
const FILES: u64 = 100;
const FILE_BYTES: usize = 20_000;
const CHANGED: u64 = 3;
const PACK_BYTES: u32 = 4 << 20;
/// Nights on which nothing runs, and from when on a host has another name.
const MISSED: Range<i64> = 400..407;
const RENAMED: i64 = 500;

/// A store that counts what it is asked for.
#[derive(Debug)]
struct Counting {
    store: MemoryStore,
    requests: AtomicU64,
}

impl Counting {
    fn asked(&self) -> &MemoryStore {
        self.requests.fetch_add(1, Ordering::Relaxed);
        &self.store
    }
}

#[async_trait]
impl Store for Counting {
    fn location(&self) -> &str {
        self.store.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, told: &Transfer) -> Result<(), StoreError> {
        self.asked().put_telling(key, body, told).await
    }

    async fn get_telling(&self, key: &ObjectKey, told: &Transfer) -> Result<Bytes, StoreError> {
        self.asked().get_telling(key, told).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        told: &Transfer,
    ) -> Result<Bytes, StoreError> {
        self.asked().get_range_telling(key, range, told).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.asked().head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.asked().list(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.asked().delete(key).await
    }

    fn signs(&self) -> Signs {
        self.store.signs()
    }
}

fn words() -> Passphrase {
    Passphrase::new("the words of whoever reads".into())
}

async fn open(store: Arc<dyn Store>, cache: &Path) -> Arc<Repository> {
    Arc::new(Repository::open(store, &words(), cache).await.expect("opens"))
}

/// Writes a file of a host with bytes that no other has.
fn write_file(source: &Path, host: u64, file: u64, day: i64) {
    let seed = blake3::hash(&[host.to_le_bytes(), file.to_le_bytes(), day.to_le_bytes()].concat());
    let mut bytes = vec![0; FILE_BYTES];
    blake3::Hasher::new_keyed(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    std::fs::write(source.join(format!("file{file:03}")), bytes).expect("written");
}

/// The name of a host on a day; the second one gets another.
fn name_of(host: u64, day: i64) -> String {
    if host == 1 && day >= RENAMED { "renamed".into() } else { format!("host{host}") }
}

async fn back_up(repository: Arc<Repository>, source: &Path, host: String, now: Timestamp) -> Snapshot {
    let mut options = BackupOptions::default();
    options.files = Some(WalkOptions { roots: vec![source.to_path_buf()], ..WalkOptions::default() });
    options.host = host;
    options.clock = Clock::Fixed(now);
    let report = backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
    report.expect("backed up").snapshot.expect("made")
}

/// Forgets what no rule keeps and cleans up.
async fn sunday(repository: Arc<Repository>, now: Timestamp) {
    let rules = [(Period::Day, 14), (Period::Week, 8), (Period::Month, 12), (Period::Year, 3)]
        .map(|(each, n)| Rule::Each(each, n));
    let policy = Policy { rules: rules.to_vec(), zone: jiff::tz::TimeZone::UTC, now, allow_empty: false };
    let wanted = WantedForgotten::ByPolicy(policy.into(), SnapshotFilter::default());
    let monitor = Arc::new(Collected::default());
    let deleting = repository.deleting().expect("may");
    let planned = plan(&deleting, &wanted, now, &*monitor).await.expect("planned");
    apply(&deleting, &planned, &ToldBy { now, host: "keeper".into(), program: "years" }).await.expect("forgotten");
    let options = PruneOptions { clock: Clock::Fixed(now), ..PruneOptions::default() };
    let report = prune(repository, options, monitor, Cancel::default()).await.expect("cleaned up");
    assert!(report.unfinished.is_none(), "{report:?}");
}

/// What there is, by the first part of names: objects and bytes.
async fn what_is_there(store: &MemoryStore) -> BTreeMap<String, (u64, u64)> {
    let mut all = BTreeMap::<String, (u64, u64)>::new();
    for object in store.list("").await.expect("listed") {
        let prefix = object.key.as_str().split('/').next().unwrap_or_default().to_owned();
        let (count, bytes) = all.entry(prefix).or_default();
        (*count, *bytes) = (*count + 1, *bytes + object.size);
    }
    all
}

/// Work that is measured. A backup is last: the store that it went to is thrown away, and a machine that remembers it would miss it.
#[derive(Debug, Clone, Copy)]
enum Verb {
    OpenAndList,
    RestoreOneFile,
    Verify,
    BackUpUnchanged,
}

const VERBS: [Verb; 4] = [Verb::OpenAndList, Verb::RestoreOneFile, Verb::Verify, Verb::BackUpUnchanged];

impl Verb {
    /// Does it for the first host; returns requests and milliseconds.
    async fn run(self, store: &MemoryStore, cache: &Path, source: &Path, now: Timestamp) -> (u64, f64) {
        let counting = Arc::new(Counting { store: store.fork(), requests: AtomicU64::new(0) });
        let begun = Instant::now();
        let repository = open(counting.clone(), cache).await;
        let monitor = Arc::new(Collected::default());
        match self {
            Verb::OpenAndList => drop(repository.snapshots().await.expect("listed")),
            Verb::RestoreOneFile => {
                let of_host = SnapshotFilter { hosts: vec!["host0".into()], ..SnapshotFilter::default() };
                let latest = repository.find_snapshot("latest", &of_host).await.expect("found");
                let target = tempfile::tempdir().expect("made");
                let file = source.join("file007");
                let within = EntryPath::new(file.to_str().expect("plain").trim_start_matches('/'));
                let mut options = RestoreOptions::new(latest, target.path());
                options.within = Some(within.expect("a path"));
                restore(repository, options, monitor, Cancel::default()).await.expect("restored");
            }
            Verb::Verify => {
                let options = VerifyOptions { read_data: ReadData::No, ..VerifyOptions::default() };
                let report = verify(repository, options, monitor, Cancel::default()).await.expect("verified");
                assert_eq!(report.findings, []);
            }
            Verb::BackUpUnchanged => drop(back_up(repository, source, name_of(0, 0), now).await),
        }
        (counting.requests.load(Ordering::Relaxed), begun.elapsed().as_secs_f64() * 1000.0)
    }
}

/// What work costs with an empty cache, and with one that the same machine has filled.
async fn costs(store: &MemoryStore, source: &Path, now: Timestamp) -> Vec<(String, (u64, f64))> {
    let mut costs = Vec::new();
    for verb in VERBS {
        let cold = tempfile::tempdir().expect("made");
        costs.push((format!("{verb:?}"), verb.run(store, cold.path(), source, now).await));
    }
    let warm = tempfile::tempdir().expect("made");
    for verb in [Verb::OpenAndList, Verb::RestoreOneFile] {
        verb.run(store, warm.path(), source, now).await;
    }
    for verb in VERBS {
        costs.push((format!("{verb:?}, warm"), verb.run(store, warm.path(), source, now).await));
    }
    costs
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (days, hosts) = (numbers.next().unwrap_or(3 * 365), numbers.next().unwrap_or(10));
    let (store, cache) = (MemoryStore::default(), tempfile::tempdir().expect("made"));
    let at = |day: i64| Timestamp::from_seconds(BEGIN + day * DAY);
    let options = InitOptions { pack_target_bytes: PACK_BYTES, ..InitOptions::default() };
    let locks = [(SlotLock::Recovery(words()), "reader")];
    let made = Repository::init(Arc::new(store.clone()), &locks, &options, at(-1), cache.path()).await;
    drop(made.expect("an empty store takes a repository"));

    let sources: Vec<_> = (0..hosts).map(|_| tempfile::tempdir().expect("made")).collect();
    let mut first = None;
    for day in 0..i64::try_from(days).expect("few") {
        if MISSED.contains(&day) {
            continue;
        }
        for (host, source) in (0..).zip(&sources) {
            let changed = if day == 0 { FILES } else { CHANGED };
            (0..changed).for_each(|nth| write_file(source.path(), host, (day as u64 * CHANGED + nth) % FILES, day));
            let repository = open(Arc::new(store.clone()), cache.path()).await;
            back_up(repository, source.path(), name_of(host, day), at(day)).await;
        }
        if day == 0 {
            let there = what_is_there(&store).await;
            first = Some((there, costs(&store, sources[0].path(), at(day + 1)).await));
        }
        if day % 7 == 6 {
            sunday(open(Arc::new(store.clone()), cache.path()).await, at(day)).await;
        }
    }
    let (there_first, costs_first) = first.expect("a night at least");
    let (there, costs) = (what_is_there(&store).await, costs(&store, sources[0].path(), at(days as i64)).await);
    let missed = MISSED.filter(|day| *day < days as i64).count() as u64;
    println!("{hosts} hosts, {days} days, {} snapshots made", (days - missed) * hosts);
    println!("{:28} {:>10} {:>12} {:>10} {:>12}", "", "first", "KiB", "last", "KiB");
    for (prefix, (count, bytes)) in &there {
        let (count_first, bytes_first) = there_first.get(prefix).copied().unwrap_or_default();
        println!("{prefix:28} {count_first:>10} {:>12} {count:>10} {:>12}", bytes_first >> 10, bytes >> 10);
    }
    println!("{:28} {:>10} {:>12} {:>10} {:>12}", "", "requests", "ms", "requests", "ms");
    for ((what, (requests, time)), (_, (requests_first, time_first))) in costs.iter().zip(&costs_first) {
        println!("{what:28} {requests_first:>10} {time_first:>12.1} {requests:>10} {time:>12.1}");
    }
}
