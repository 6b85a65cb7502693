//! The truth of the index: what a run may rely on, what it must not, and what does not concern it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffre::format::pack::PackKind;
use coffre::model::id::SegmentId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::time::Clock;
use coffre::ops::Cancel;
use coffre::ops::backup::{ParentChoice, backup};
use coffre::ops::verify::{ReadData, VerifyError, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::repository::MAIN_DOMAIN;
use coffre::repository::index::{Index, open_segment};
use coffre::repository::objects::UploadedPack;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::layer::record::RecordStore;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

use crate::support::at_phase::vandal;
use crate::support::{Bench, at_rest, begin, command, files_in, open, options, random_bytes, run_backup, run_verify};

/// Puts one segment for data and one for trees in place of the one there is, as a long run leaves them.
async fn split_segments(bench: &Bench) -> SegmentId {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let store = bench.store();
    let listed = store.list(ObjectKind::Index.prefix()).await.expect("listed");
    let [object] = &listed[..] else { panic!("one segment: {listed:?}") };
    let bytes = store.get(&object.key).await.expect("there");
    let whole = open_segment(&repository, object.key.segment_id().expect("ours"), &bytes).expect("ours");
    for (kind, id) in [(PackKind::Data, SegmentId([1; 16])), (PackKind::Tree, SegmentId([2; 16]))] {
        let mut packs = UploadedPack::indexed(whole.clone());
        packs.retain(|pack| pack.entry().kind == kind);
        let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
        let sealed = session.seal_segment(id, &packs);
        store.put(&ObjectKey::segment(id), sealed.into()).await.expect("put");
    }
    store.delete(&object.key).await.expect("deleted");
    SegmentId([1; 16])
}

/// However many chunks others add, a segment that is gone is missed by whoever relied on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_segment_is_not_hidden_by_what_other_hosts_add() {
    let bench = Bench::new().await;
    bench.backup().await;
    let data_segment = split_segments(&bench).await;
    let second = bench.backup().await;
    assert_eq!(second.read_bytes, 0, "the large files are taken over");
    let third = bench.backup().await;
    assert_eq!(third.read_bytes, 0);

    for pack in bench.data_packs().await {
        bench.store().delete(&pack).await.expect("deleted");
    }
    bench.store().delete(&ObjectKey::segment(data_segment)).await.expect("deleted");
    let (others, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    std::fs::write(others.path().join("more"), random_bytes(5, 9_000_000)).expect("writable");
    let mut other = options(others.path());
    other.host = "other".into();
    run_backup(bench.store(), cache.path(), other).await.expect("backed up");

    let (snapshot, now) = bench.snapshot().await;
    assert!(snapshot.counts.new_bytes > 3_000_000, "{:?}", snapshot.counts);
    assert_eq!(bench.read(&snapshot).await, Ok(now));
}

/// Both a run that compares with its parent and one that reads everything count a pack only with its whole length.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_was_cut_short_or_grew_is_stored_again() {
    for parent in [ParentChoice::Auto, ParentChoice::None] {
        for length in [0, 10, 300_000, usize::MAX] {
            let bench = Bench::new().await;
            bench.backup().await;
            for pack in bench.data_packs().await {
                bench.memory.tamper(&pack, |bytes| bytes.resize(length.min(bytes.len() + 1), 0));
            }
            let mut again = options(bench.source.path());
            again.parent = parent.clone();
            let report = run_backup(bench.store(), bench.cache.path(), again).await.expect("backed up");
            assert!(report.counts.new_bytes > 3_000_000, "{parent:?} {length}: {:?}", report.counts);
            let read = bench.read(&report.snapshot.expect("made")).await;
            assert_eq!(read, Ok(files_in(bench.source.path())), "{parent:?} {length}");
        }
    }
}

/// A dump that can be read but once must not be lost for packs of others; one that needs them is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn only_packs_that_a_run_relies_on_can_end_it() {
    let bench = Bench::new().await;
    bench.backup().await;
    let stream = |script: &str| {
        let mut stream = options(bench.source.path());
        stream.files = None;
        stream.sources = vec![command("dump.txt", &["sh", "-c", script])];
        stream
    };
    for (script, relies) in [("seq 1 100000", false), ("seq 1 100000; echo more", true)] {
        let packs = if relies { bench.data_packs().await } else { bench.data_packs().await[..1].to_vec() };
        let vandal = vandal(&bench.memory, vec![packs]);
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let report = backup(repository, stream(script), vandal.clone(), Cancel::default()).await.expect("backed up");
        let problems = vandal.heard.problems();
        assert_eq!(
            problems.iter().filter(|problem| problem.message.contains("starts again")).count(),
            usize::from(relies)
        );
        let fresh = tempfile::tempdir().expect("made");
        let entries = crate::support::read_back(bench.store(), fresh.path(), &report.snapshot.expect("made")).await;
        assert!(entries.expect("readable").iter().any(|(_, bytes)| bytes.starts_with(b"1\n2\n")));
    }
}

/// A store whose listings of one kind lag: what was put through it is not listed yet.
#[derive(Debug)]
pub struct Lagging {
    inner: Arc<dyn Store>,
    prefix: &'static str,
    put: Mutex<Vec<ObjectKey>>,
}

impl Lagging {
    pub fn over(inner: Arc<dyn Store>, prefix: &'static str) -> Arc<Self> {
        Arc::new(Self { inner, prefix, put: Mutex::default() })
    }
}

#[async_trait]
impl Store for Lagging {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
        self.put.lock().expect("no panic while held").push(key.clone());
        self.inner.put(key, body).await
    }

    async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
        self.inner.get(key).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: std::ops::Range<u64>,
        _: &Transfer,
    ) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = self.inner.list(prefix).await?;
        let put = self.put.lock().expect("no panic while held");
        listed.retain(|object| !put.contains(&object.key) || !object.key.as_str().starts_with(self.prefix));
        Ok(listed)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    fn signs(&self) -> Signs {
        Signs::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_lags_ends_no_backup_and_makes_nothing_be_stored_twice() {
    let bench = Bench::new().await;
    let lagging = Lagging::over(bench.store(), "packs/");
    for run in 0..3 {
        std::fs::write(bench.source.path().join("a/new"), random_bytes(40 + run, 5000)).expect("writable");
        at_rest().await;
        let repository = open(lagging.clone(), bench.cache.path()).await.expect("opens");
        let monitor = Arc::new(Collected::default());
        let report = backup(repository, options(bench.source.path()), monitor.clone(), Cancel::default()).await;
        let report = report.expect("backed up");
        assert_eq!(monitor.problems(), []);
        assert!(run == 0 || report.counts.new_bytes == 5000, "run {run}: {:?}", report.counts);
        assert_eq!(bench.read(&report.snapshot.expect("made")).await, Ok(files_in(bench.source.path())));
    }
    let report = run_verify(lagging.clone(), bench.cache.path(), ReadData::No).await;
    assert_eq!((report.findings, report.notes), (vec![], vec![]));

    // What was deleted is missed all the same.
    bench.store().delete(&bench.data_packs().await[0]).await.expect("deleted");
    let report =
        run_backup(lagging.clone(), bench.cache.path(), options(bench.source.path())).await.expect("backed up");
    assert_eq!(bench.read(&report.snapshot.expect("made")).await, Ok(files_in(bench.source.path())));
    let report = run_verify(lagging, bench.cache.path(), ReadData::No).await;
    assert_eq!(report.findings.iter().map(|finding| finding.damage.to_string()).collect::<Vec<_>>(), ["is missing"]);
}

/// A host that may only write takes the chunk lists of large files over unread. What it needs of them, its last run knew.
#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_taken_over_unread_rely_on_the_packs_that_their_run_needed() {
    let bench = Bench::new().await;
    bench.backup().await;
    let needed = bench.data_packs().await;
    let (others, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    std::fs::write(others.path().join("more"), random_bytes(5, 3_000_000)).expect("writable");
    let mut other = options(others.path());
    other.host = "other".into();
    run_backup(bench.store(), cache.path(), other).await.expect("backed up");
    let all = bench.data_packs().await;
    let foreign: Vec<_> = all.into_iter().filter(|pack| !needed.contains(pack)).collect();
    assert!(!foreign.is_empty());

    for (packs, is_needed) in [(foreign, false), (needed[..1].to_vec(), true)] {
        let vandal = vandal(&bench.memory, vec![packs]);
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let report = backup(repository, options(bench.source.path()), vandal.clone(), Cancel::default()).await;
        let report = report.expect("backed up");
        let anew = vandal.heard.problems().iter().filter(|problem| problem.message.contains("starts again")).count();
        assert_eq!((anew, report.read_bytes == 0), (usize::from(is_needed), !is_needed));
        assert_eq!(bench.read(&report.snapshot.expect("made")).await, Ok(files_in(bench.source.path())));
    }
}

/// Of a pack that is not listed and may not be asked for, nothing is known: verifying ends, a backup does not rely on it, and
/// what it stored itself is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_may_not_be_asked_for_is_never_called_gone() {
    let bench = Bench::new().await;
    let lagging = Lagging::over(bench.store(), "packs/");
    let refusing = || {
        let store = FaultStore::new(lagging.clone());
        store.plan(Fault::on(Operation::Head).matching("packs/").always().fail_before(StoreErrorKind::Denied));
        Arc::new(store)
    };
    for run in 0..2 {
        std::fs::write(bench.source.path().join("a/new"), random_bytes(40 + run, 5000)).expect("writable");
        let repository = open(refusing(), bench.cache.path()).await.expect("opens");
        let monitor = Arc::new(Collected::default());
        let report = backup(repository, options(bench.source.path()), monitor.clone(), Cancel::default()).await;
        let report = report.expect("backed up");
        assert_eq!(monitor.problems(), [], "run {run}");
        assert_eq!(bench.read(&report.snapshot.expect("made")).await, Ok(files_in(bench.source.path())));
    }
    let repository = open(refusing(), bench.cache.path()).await.expect("opens");
    let error = verify(repository, VerifyOptions::default(), Arc::new(Collected::default()), Cancel::default()).await;
    match error.expect_err("nothing is known of what is not listed") {
        VerifyError::Store(source) => assert_eq!(source.kind, StoreErrorKind::Denied),
        other => panic!("{other}"),
    }

    // What this run did not store itself, and relies on, leaves the question open, whoever asks.
    let repository = open(refusing(), bench.cache.path()).await.expect("opens");
    let index = begin(&repository).await;
    index.rely_on_packs(&index.packs().iter().map(|pack| pack.id).collect::<Vec<_>>());
    let lost = index.lost_packs(false, Clock::System.now()).await.expect("checked");
    let (unknown, refused) = lost.unknown.expect("some");
    assert_eq!((lost.gone.len(), refused.kind), (0, StoreErrorKind::Denied));
    assert_eq!(unknown, index.packs().len());
}

/// The other order would miss a pack that is deleted between the two.
#[tokio::test(flavor = "multi_thread")]
async fn lists_of_cleaning_up_are_read_before_packs_are_listed() {
    let bench = Bench::new().await;
    let recorded = RecordStore::new(bench.store());
    let places = |calls: &[coffre::store::layer::record::Call], prefix: &str| -> Vec<usize> {
        let lists = calls.iter().enumerate().filter(|(_, call)| call.operation == Operation::List);
        lists.filter(|(_, call)| call.subject == prefix).map(|(at, _)| at).collect()
    };
    let repository = open(Arc::new(recorded.clone()), bench.cache.path()).await.expect("opens");
    begin(&repository).await;
    let calls = recorded.take();
    assert!(places(&calls, "cleanup/") < places(&calls, "packs/"), "{calls:?}");

    bench.backup().await;
    let index = begin(&repository).await;
    index.rely_on_packs(&index.packs().iter().map(|pack| pack.id).collect::<Vec<_>>());
    recorded.take();
    let lost = index.lost_packs(true, Clock::System.now()).await.expect("checked");
    assert!(lost.gone.is_empty() && lost.unknown.is_none(), "{lost:?}");
    let calls = recorded.take();
    assert_eq!((places(&calls, "cleanup/"), places(&calls, "packs/")), (vec![0], vec![1]), "{calls:?}");
}

/// Whoever merges segments puts the new one first; who listed the old ones looks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_goes_between_listing_and_fetching_is_looked_for_again() {
    /// Lists once more what was there before.
    #[derive(Debug)]
    struct Stale {
        inner: Arc<dyn Store>,
        old: Mutex<Vec<Vec<ObjectInfo>>>,
    }
    #[async_trait]
    impl Store for Stale {
        fn location(&self) -> &str {
            self.inner.location()
        }
        async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
            self.inner.put(key, body).await
        }
        async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
            self.inner.get(key).await
        }
        async fn get_range_telling(
            &self,
            key: &ObjectKey,
            range: std::ops::Range<u64>,
            _: &Transfer,
        ) -> Result<Bytes, StoreError> {
            self.inner.get_range(key, range).await
        }
        async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
            self.inner.head(key).await
        }
        async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
            let old = (prefix == "index/").then(|| self.old.lock().expect("no panic while held").pop()).flatten();
            match old {
                Some(old) => Ok(old),
                None => self.inner.list(prefix).await,
            }
        }
        async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
            self.inner.delete(key).await
        }

        fn signs(&self) -> Signs {
            Signs::default()
        }
    }
    let bench = Bench::new().await;
    bench.backup().await;
    let old = bench.store().list("index/").await.expect("listed");
    split_segments(&bench).await;
    for (times, lost) in [(1, 0), (2, 0), (3, 1)] {
        let cache = tempfile::tempdir().expect("made");
        let store = Stale { inner: bench.store(), old: Mutex::new(vec![old.clone(); times]) };
        let repository = open(Arc::new(store), cache.path()).await.expect("opens");
        let monitor = Collected::default();
        let index = Index::load(&repository, &monitor).await.expect("loaded");
        assert_eq!((index.damaged().len(), monitor.problems().len()), (lost, lost), "{times} old listings");
        assert_eq!(index.packs().is_empty(), lost > 0);
    }
}
