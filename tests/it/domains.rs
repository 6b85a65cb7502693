//! Domains and epochs: what a session writes is named, cut, sealed and indexed under its own keys, and under no others.

use std::path::Path;
use std::sync::Arc;

use coffre::crypto::derive::DedupSecret;
use coffre::crypto::session::new_domain_key;
use coffre::format::keyring::{DomainRecord, Keyring};
use coffre::format::lease::Lease;
use coffre::format::object::{INDEX, LEASE};
use coffre::model::author::Author;
use coffre::model::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Metadata};
use coffre::model::id::{ChunkId, DomainEpoch, DomainId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::model::time::{Clock, Timestamp};
use coffre::progress::Collected;
use coffre::repository::frame::Frame;
use coffre::repository::index::checked::CheckedIndex;
use coffre::repository::index::open_segment;
use coffre::repository::lease::{HeldLease, open_lease};
use coffre::repository::session::SessionError;
use coffre::repository::tree::TreeBuilder;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::{MAIN_DOMAIN, Repository};

use crate::support::{Bench, open, options, random_bytes, read_all, run_backup};

const OTHER: &str = "customer";

/// Puts the next keyring: the domains of the last one that `keep` keeps, and one more.
async fn renew_keyring(
    bench: &Bench,
    repository: &Repository,
    keep: impl Fn(&DomainRecord) -> bool,
    more: Option<(&str, DomainEpoch)>,
) {
    let reader = repository.keys().reader_key().expect("a reader").clone();
    let newest = bench.store().list(ObjectKind::Keyring.prefix()).await.expect("listed").pop().expect("there is one");
    let object = bench.store().get(&newest.key).await.expect("there");
    let mut keyring = Keyring::decode(&object, repository.id(), &repository.keys().verifying_key()).expect("valid");
    keyring.domains.retain(keep);
    keyring.counter += 1;
    if let Some((name, at)) = more {
        let (secret, public) = new_domain_key();
        let dedup = DedupSecret::random(at);
        keyring.domains.push(DomainRecord::seal(repository.id(), &reader, name, &dedup, &secret, public));
    }
    let key = ObjectKey::keyring(keyring.counter, [7; 8]);
    bench.store().put(&key, keyring.encode(&reader).into()).await.expect("put");
}

/// What one run wrote.
struct Written {
    at: DomainEpoch,
    chunk: ChunkId,
    snapshot: Snapshot,
    lease: Vec<u8>,
}

/// Stores one file in a session of a domain.
async fn write(
    bench: &Bench,
    repository: &Arc<Repository>,
    domain: &str,
    plain: &[u8],
    sources: &[Vec<u8>],
) -> Written {
    let monitor = Arc::new(Collected::default());
    let session = repository.writing().expect("may be written").begin_session(domain).expect("there is such a domain");
    let (at, id) = (session.at(), session.id());
    let held = HeldLease::take(session.clone(), Lease::default(), Clock::System).await.expect("taken");
    let lease = bench.store().get(&ObjectKey::session(id)).await.expect("put").to_vec();
    let index = CheckedIndex::load(&session, 0, Clock::System.now(), &*monitor).await.expect("checked");
    let settings =
        WriterOptions { pack_target_bytes: 1 << 20, packs_in_flight: 1, level: 3, dry_run: false, extra_check: true };
    let writer = Writer::start(Arc::new(index), settings, monitor);
    let plain = plain.to_vec();
    let (writer, chunk, root) = tokio::task::spawn_blocking(move || {
        let (chunk, length) = (writer.id(&plain), plain.len());
        if writer.claim(&chunk) {
            let (mut frame, mut compressor) = (Frame::default(), writer.compressor());
            frame.push(&chunk, &plain);
            writer.store_frame(&mut frame, &mut compressor).expect("stored");
        }
        let chunks = ChunkList::Inline(vec![ChunkRef { id: chunk, length: u32::try_from(length).expect("short") }]);
        let kind = EntryKind::File(FileContent { size: length as u64, chunks, holes: Vec::new() });
        let path = EntryPath::new("file").expect("safe");
        let mut tree = TreeBuilder::new(&writer);
        tree.push(&Entry { path, kind, metadata: Metadata::default() }).expect("stored");
        let root = tree.finish().expect("stored");
        writer.flush().expect("stored");
        (writer, chunk, root)
    })
    .await
    .expect("no panic");
    let committer = writer.finish().await.expect("stored");
    let started = Timestamp::from_seconds(1_800_000_000);
    let mut snapshot = Snapshot {
        started,
        finished: started,
        host: "host".into(),
        user: "user".into(),
        sources: sources.to_vec(),
        program: "a test".into(),
        root,
        ..Snapshot::blank(committer.new_snapshot_id(started, &[]), id, at, Author::Reader)
    };
    committer.commit(&mut snapshot).await.expect("committed");
    held.release().await;
    Written { at, chunk, snapshot, lease }
}

async fn content(repository: &Arc<Repository>, written: &Written) -> Result<Vec<u8>, String> {
    let opened = repository.snapshot(written.snapshot.id).await.map_err(|error| error.to_string())?;
    Ok(read_all(repository.clone(), &opened).await?.remove(0).1)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_in_one_domain_is_named_sealed_and_indexed_there_alone() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let error = repository.writing().expect("may be written").begin_session(OTHER).expect_err("it is not there yet");
    assert!(matches!(error, SessionError::NoDomain(name) if name == OTHER));
    let at = DomainEpoch { domain: DomainId([9; 16]), epoch: 1 };
    renew_keyring(&bench, &repository, |_| true, Some((OTHER, at))).await;

    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let plain = random_bytes(1, 5000);
    let main = write(&bench, &repository, MAIN_DOMAIN, &plain, &[]).await;
    let other = write(&bench, &repository, OTHER, &plain, &[]).await;
    assert_eq!((other.at, main.at == other.at), (at, false));
    assert_ne!(main.chunk, other.chunk, "equal content has other names");
    assert_eq!((main.snapshot.at, other.snapshot.at), (main.at, at));
    for written in [&main, &other] {
        assert_eq!(LEASE.split(&written.lease).expect("a lease").0, written.at);
        open_lease(&repository, written.snapshot.session, &written.lease).expect("sealed for the domain's writers");
        assert_eq!(content(&repository, written).await.as_ref(), Ok(&plain));
    }
    let mut seen = Vec::new();
    for object in bench.store().list(ObjectKind::Index.prefix()).await.expect("listed") {
        let bytes = bench.store().get(&object.key).await.expect("there");
        let (sealed_for, _) = INDEX.split(&bytes).expect("a segment");
        let segment = open_segment(&repository, object.key.segment_id().expect("ours"), &bytes).expect("opened");
        assert!(segment.packs().iter().all(|pack| pack.header.at == sealed_for), "{sealed_for}");
        let written = if sealed_for == main.at { &main } else { &other };
        let keys = segment.packs().iter().flat_map(|pack| &pack.directory.frames).flat_map(|frame| &frame.chunks);
        seen.extend(keys.filter(|(key, _)| *key == written.chunk.key()).map(|_| sealed_for));
    }
    seen.sort();
    let mut expected = [main.at, other.at];
    expected.sort();
    assert_eq!(seen, expected, "each chunk in a segment of its own domain");

    // Without the keys of one domain, nothing of the other is missing.
    renew_keyring(&bench, &repository, |record| record.at == at, None).await;
    let fresh = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), fresh.path()).await.expect("opens");
    assert_eq!(content(&repository, &other).await, Ok(plain));
    content(&repository, &main).await.expect_err("its keys are gone");
    assert!(matches!(
        repository.writing().expect("may be written").begin_session(MAIN_DOMAIN),
        Err(SessionError::NoDomain(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_in_the_newest_epoch_and_older_ones_stay_readable() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let plain = random_bytes(2, 5000);
    let old = write(&bench, &repository, MAIN_DOMAIN, &plain, &[]).await;
    assert_eq!(old.at.epoch, 1);
    let next = DomainEpoch { epoch: 2, ..old.at };
    renew_keyring(&bench, &repository, |_| true, Some((MAIN_DOMAIN, next))).await;

    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let new = write(&bench, &repository, MAIN_DOMAIN, &plain, &[]).await;
    assert_eq!((new.at, new.chunk == old.chunk), (next, false));
    for written in [&old, &new] {
        assert_eq!(content(&repository, written).await.as_ref(), Ok(&plain));
    }
}

/// A snapshot that takes over what another domain holds would lose it with that domain.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_no_parent_in_another_domain() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let at = DomainEpoch { domain: DomainId([9; 16]), epoch: 1 };
    renew_keyring(&bench, &repository, |_| true, Some((OTHER, at))).await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let root = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let other = write(&bench, &repository, OTHER, b"some", &[root(bench.source.path())]).await;

    let report = bench.backup().await;
    assert_eq!(report.parent, None);
    let next = bench.backup().await;
    assert_eq!(next.parent, report.snapshot.map(|snapshot| snapshot.id));
    let mut chosen = options(bench.source.path());
    chosen.parent = coffre::ops::backup::ParentChoice::Snapshot(other.snapshot.id.to_string());
    let report = run_backup(bench.store(), bench.cache.path(), chosen).await.expect("backed up");
    assert_eq!((report.parent, report.unchanged_files), (None, 0));
}
