//! Writers: hosts with keys of their own, which back up, read nothing, and can be thrown out; and the keyring that says so.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::{SlotLock, open_slot};
use coffre::format::keyring::Keyring;
use coffre::format::slot::{RootKey, Slot};
use coffre::format::writer::WriterName;
use coffre::model::id::WriterId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, BackupReport, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::access::AccessError;
use coffre::repository::index::Index;
use coffre::repository::keys::SessionKeyError;
use coffre::repository::revoking::StillCounting;
use coffre::repository::writers::{AddedWriter, KeyringError, NewWriter, SlotPlace};
use coffre::repository::{MAIN_DOMAIN, Repository};
use coffre::store::memory::MemoryStore;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError};

use crate::support::{Bench, keyring_of, open, options};

pub fn new(name: &str, hosts: &[&str]) -> NewWriter {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    NewWriter {
        name: WriterName { name: name.into(), hosts },
        domains: vec![MAIN_DOMAIN.into()],
        group: None,
        made: Timestamp::default(),
    }
}

/// The passphrase of a writer.
pub fn words(name: &str) -> Passphrase {
    Passphrase::new(format!("the words of {name}"))
}

pub async fn add(repository: &Repository, new: &NewWriter, place: SlotPlace) -> Result<AddedWriter, KeyringError> {
    repository.add_writer(new, &SlotLock::Recovery(words(&new.name.name)), place).await
}

pub async fn open_as(name: &str, store: Arc<dyn Store>, cache: &Path) -> Arc<Repository> {
    Arc::new(Repository::open(store, &words(name), cache).await.expect("opens"))
}

pub async fn back_up(bench: &Bench, name: &str, host: &str) -> Result<BackupReport, BackupError> {
    let cache = tempfile::tempdir().expect("made");
    let repository = open_as(name, bench.store(), cache.path()).await;
    let mut options = options(bench.source.path());
    options.host = host.into();
    backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await
}

async fn keyring(bench: &Bench) -> Keyring {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    keyring_of(&repository, &*bench.store()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_backs_up_for_its_hosts_until_it_is_thrown_out() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let added = add(&repository, &new("web", &["web1", "web2"]), SlotPlace::Repository).await.expect("added");
    let lost = NewWriter { domains: vec!["elsewhere".into()], ..new("lost", &[]) };
    let error = add(&repository, &lost, SlotPlace::Repository).await.expect_err("there is no such domain");
    assert!(matches!(&error, KeyringError::NoDomain(name) if name == "elsewhere"), "{error}");

    let report = back_up(&bench, "web", "web2").await.expect("that is what it is for");
    let before = bench.memory.totals();
    let error = back_up(&bench, "web", "db1").await.expect_err("not its host");
    assert_eq!((error.outcome(), bench.memory.totals()), (Outcome::Refused, before));
    assert_eq!(error.to_string(), "the key of this host is for backups of web1, web2, not of \"db1\"");
    let files = bench.read(&report.snapshot.expect("made")).await.expect("readers read it");
    assert_eq!(files, crate::support::files_in(bench.source.path()));
    assert_eq!(bench.verify(ReadData::All).await.findings, []);

    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let [known] = &repository.writers().expect("a reader may know")[..] else { panic!("one was added") };
    assert_eq!((known.id, &known.name, known.is_revoked), (added.id, &new("web", &["web1", "web2"]).name, false));
    assert_eq!(known.granted.len(), 1);
    for _ in 0..2 {
        let revoked = repository.revoke_writer(added.id, StillCounting::All, Clock::System.now()).await;
        assert_eq!(revoked.expect("once is enough").counting, 1);
    }
    assert_eq!(keyring(&bench).await.counter, 3, "nothing is published for nothing");
    let before = bench.memory.totals();
    let error = back_up(&bench, "web", "web2").await.expect_err("it was thrown out");
    assert!(matches!(&error, BackupError::Access(AccessError::Revoked { writer }) if *writer == added.id.to_string()));
    assert_eq!((error.outcome(), bench.memory.totals()), (Outcome::WrongKey, before), "not even a lease");
    let error = repository
        .revoke_writer(WriterId([9; 8]), StillCounting::All, Clock::System.now())
        .await
        .expect_err("there is none");
    assert!(matches!(error, KeyringError::NoWriter(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_carried_to_its_host_leaves_nothing_in_the_repository() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let slots = keyring(&bench).await.slots;
    let added = add(&repository, &new("web", &["web1"]), SlotPlace::Elsewhere).await.expect("added");
    assert_eq!((keyring(&bench).await.slots, added.slot_id), (slots, None));
    assert_eq!(bench.store().list(ObjectKind::Key.prefix()).await.expect("listed").len(), 1);
    let content = open_slot(&words("web"), &added.slot).expect("an age file").expect("its words");
    let slot = Slot::decode(&content).expect("a slot");
    assert_eq!((slot.hosts, slot.repository), (vec!["web1".to_owned()], repository.id()));
    let RootKey::Writer(key) = slot.root else { panic!("it can write and no more") };
    let record = keyring(&bench).await.writers.remove(0);
    assert_eq!(record.verifying_key, key.verifying_key(repository.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_reader_changes_the_keyring() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let added = add(&repository, &new("web", &[]), SlotPlace::Repository).await.expect("added");
    let fresh = tempfile::tempdir().expect("made");
    let writer = open_as("web", bench.store(), fresh.path()).await;
    let before = bench.memory.totals();
    let refused = |error: KeyringError| matches!(error, KeyringError::Access(AccessError::WriterOnly));
    assert!(add(&writer, &new("friend", &[]), SlotPlace::Repository).await.is_err_and(refused));
    assert!(writer.revoke_writer(added.id, StillCounting::All, Clock::System.now()).await.is_err_and(refused));
    assert!(writer.writers().is_err_and(refused), "names are for readers");
    assert_eq!(bench.memory.totals(), before);
}

/// Everything on the host, and the whole bucket: no session of anybody's opens, its own included.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_nothing() {
    let bench = Bench::new().await;
    bench.backup().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    add(&repository, &new("web", &[]), SlotPlace::Repository).await.expect("added");
    let fresh = tempfile::tempdir().expect("made");
    let writer = open_as("web", bench.store(), fresh.path()).await;
    let monitor = Arc::new(Collected::default());
    let mut options = options(bench.source.path());
    options.host = "web".into();
    let own = backup(writer.clone(), options, monitor, Cancel::default()).await.expect("backed up").snapshot;
    let ids = writer.snapshot_ids().await.expect("listed");
    assert!(ids.len() == 2 && ids.contains(&own.expect("made").id));
    for id in ids {
        let error = writer.snapshot(id).await.expect_err("its key opens no snapshot");
        assert_eq!((error.outcome(), error.is_damage()), (Outcome::WrongKey, false));
    }
    let index = Index::load(&writer, &Collected::default()).await.expect("it may know what is stored");
    let packs = index.packs();
    assert!(packs.len() >= 2);
    for pack in packs {
        let error = writer.keys().session_secret(&pack.header).map(drop);
        assert_eq!(error, Err(SessionKeyError::Access(AccessError::WriterOnly)));
    }
    // The keyring has more than one envelope for it, and opens no more than one.
    let keyring = keyring(&bench).await;
    let reader = repository.keys().reader_key().expect("a reader");
    let stranger = coffre::crypto::derive::WriterKey::random();
    keyring.domains[0].open_dedup(repository.id(), reader).expect("it is for readers");
    keyring.writers[0].open_dedups(repository.id(), &stranger).map(drop).expect_err("it is for one writer");
}

/// A store in which somebody else puts an object right before the first put of the same kind.
#[derive(Debug)]
pub struct Beaten {
    pub inner: MemoryStore,
    pub first: Mutex<Option<(ObjectKey, Bytes)>>,
}

#[async_trait]
impl Store for Beaten {
    fn location(&self) -> &str {
        self.inner.location()
    }
    async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
        let first = self.first.lock().expect("no panic").take_if(|(first, _)| first.kind() == key.kind());
        if let Some((first, body)) = first {
            self.inner.put(&first, body).await?;
        }
        self.inner.put(key, body).await
    }
    async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
        self.inner.get(key).await
    }
    async fn get_range_telling(&self, key: &ObjectKey, range: Range<u64>, _: &Transfer) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.inner.head(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    fn signs(&self) -> Signs {
        Signs::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_change_the_keyring_at_once_neither_loses_its_change() {
    for name in [[0; 8], [0xff; 8]] {
        let bench = Bench::new().await;
        // What somebody else publishes meanwhile, under a name that counts before ours or behind it.
        let aside = bench.memory.fork();
        let cache = tempfile::tempdir().expect("made");
        let other = open(Arc::new(aside.clone()), cache.path()).await.expect("opens");
        add(&other, &new("other", &[]), SlotPlace::Elsewhere).await.expect("added");
        let theirs = aside.list(ObjectKind::Keyring.prefix()).await.expect("listed").pop().expect("put").key;
        let theirs = aside.get(&theirs).await.expect("there");

        let first = Mutex::new(Some((ObjectKey::keyring(2, name), theirs)));
        let store: Arc<dyn Store> = Arc::new(Beaten { inner: bench.memory.clone(), first });
        let repository = open(store, bench.cache.path()).await.expect("opens");
        add(&repository, &new("ours", &[]), SlotPlace::Elsewhere).await.expect("added");
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let names = repository.writers().expect("known").into_iter().map(|writer| writer.name.name);
        assert_eq!(names.collect::<Vec<_>>(), ["other", "ours"], "theirs may be gone and not look again");
        assert_eq!(keyring(&bench).await.counter, 3);
    }
}
