//! What is exchanged while a restore runs: packs of recipes and of rows for others, by whoever has the bucket, and a recipe for another
//! one, by a host that may write. Whatever comes at whichever moment, no byte is written that is not the night's.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use coffre::format::recipe::Recipe;
use coffre::model::key::ObjectKey;
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::progress::Collected;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError};

use crate::recipes::{Kept, nights, place_of};
use crate::support::kitchen::{How, STREAM, Window, ids, night};
use crate::support::{Bench, open};

/// Objects, and what is there in their place: nothing, or other bytes.
type Exchange = Vec<(ObjectKey, Option<Bytes>)>;

/// A store in which objects are exchanged when a part of a pack is asked for the `at`-th time.
#[derive(Debug)]
struct Exchanging {
    store: Arc<dyn Store>,
    asked: AtomicU64,
    at: u64,
    exchange: Exchange,
}

#[async_trait]
impl Store for Exchanging {
    fn location(&self) -> &str {
        self.store.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
        self.store.put(key, body).await
    }

    async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
        self.store.get(key).await
    }

    async fn get_range_telling(&self, key: &ObjectKey, range: Range<u64>, _: &Transfer) -> Result<Bytes, StoreError> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == self.at {
            for (key, bytes) in &self.exchange {
                // It need not be there.
                let _ = self.store.delete(key).await;
                if let Some(bytes) = bytes {
                    self.store.put(key, bytes.clone()).await?;
                }
            }
        }
        self.store.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.store.list(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.store.delete(key).await
    }

    fn signs(&self) -> Signs {
        Signs::default()
    }
}

/// Restores a night while objects are exchanged; returns how that ended, what was written, if anything, and how often packs were asked.
async fn restored(bench: &Bench, snapshot: &Snapshot, at: u64, exchange: Exchange) -> (Outcome, Option<Vec<u8>>, u64) {
    let fork = bench.fork();
    let store = Arc::new(Exchanging { store: fork.store(), asked: AtomicU64::new(0), at, exchange });
    let (cache, target) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let repository = open(store.clone(), cache.path()).await.expect("opened");
    store.asked.store(0, Ordering::SeqCst);
    let options = RestoreOptions::new(snapshot.clone(), target.path());
    let report = restore(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
    let report = report.expect("the store answers");
    let path = target.path().join(STREAM);
    let written = fs::read(&path).or_else(|_| fs::read(path.with_extension("sql.damaged")));
    (report.outcome(), written.ok(), store.asked.load(Ordering::SeqCst))
}

async fn pack_of(bench: &Bench, plain: &[u8]) -> ObjectKey {
    ObjectKey::pack(place_of(bench, plain).await[0].pack)
}

/// What whoever has the bucket may exchange.
async fn by_a_provider(nights: &Kept) -> Vec<(&'static str, Exchange)> {
    let bench = &nights.bench;
    let (second, third) = (&nights.dumps[1][..303_000], &nights.dumps[2][..204_505]);
    let recipes = [pack_of(bench, second).await, pack_of(bench, third).await];
    let rows = [pack_of(bench, &nights.new[0]).await, pack_of(bench, &nights.new[1]).await];
    let bytes = async |key: &ObjectKey| Some(bench.store().get(key).await.expect("there"));
    let swapped = async |[one, other]: &[ObjectKey; 2]| -> Exchange {
        vec![(one.clone(), bytes(other).await), (other.clone(), bytes(one).await)]
    };
    vec![
        ("packs of recipes for each other", swapped(&recipes).await),
        ("packs of rows for each other", swapped(&rows).await),
        ("recipes of the third night for those of the second", vec![(recipes[1].clone(), bytes(&recipes[0]).await)]),
        ("rows for nothing", vec![(rows[0].clone(), None)]),
        ("recipes for nothing", recipes.iter().map(|key| (key.clone(), None)).collect()),
    ]
}

/// A host takes the place of a recipe that is gone by one of its own, under the same id, which makes something else.
async fn by_a_writer(nights: &Kept) -> Exchange {
    let bench = nights.bench.fork();
    let honest = pack_of(&bench, &nights.dumps[2][..204_505]).await;
    let before = objects(&bench).await;
    let key = ids(bench.store(), bench.cache.path()).await(&nights.base[0]).key();
    let recipe = Recipe::new(1, &[(key, 0, 204_505)]).expect("a recipe");
    let window = Window { bytes: Arc::new(nights.dumps[2][..204_505].to_vec()), how: How::Forged(recipe) };
    night(bench.store(), bench.cache.path(), &[], vec![("planted", vec![window])]).await;
    let mut exchange: Exchange = vec![(honest, None)];
    for key in objects(&bench).await.into_iter().filter(|key| !before.contains(key)) {
        let bytes = bench.store().get(&key).await.expect("there");
        exchange.push((key, Some(bytes)));
    }
    assert!(exchange.len() >= 4, "a pack, a segment, a snapshot");
    exchange
}

async fn objects(bench: &Bench) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    for prefix in ["packs/", "index/", "snapshots/"] {
        keys.extend(bench.store().list(prefix).await.expect("listed").into_iter().map(|object| object.key));
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exchanged_during_a_restore_is_never_written() {
    let nights = nights().await;
    let (snapshot, dump) = (&nights.snapshots[2], &nights.dumps[2]);
    let (outcome, written, asked) = restored(&nights.bench, snapshot, u64::MAX, Vec::new()).await;
    assert!(outcome == Outcome::Clean && written.as_ref() == Some(dump));
    let mut cases = by_a_provider(&nights).await;
    cases.push(("a recipe for that of a host", by_a_writer(&nights).await));
    for (about, exchange) in cases {
        let mut damaged = 0;
        for at in 0..asked {
            let (outcome, written, _) = restored(&nights.bench, snapshot, at, exchange.clone()).await;
            let Some(written) = written else {
                // Recipes lie beside nodes of trees: without these nothing can be restored, which is told.
                assert_eq!(outcome, Outcome::Damaged, "{about}, at {at}");
                damaged += 1;
                continue;
            };
            let lost = written.iter().zip(dump).filter(|(written, byte)| written != byte);
            let (mut zeros, mut others) = (0, 0);
            lost.for_each(|(written, _)| if *written == 0 { zeros += 1 } else { others += 1 });
            assert_eq!((written.len(), others), (dump.len(), 0), "{about}, at {at}");
            let expected = if zeros > 0 { Outcome::Damaged } else { Outcome::Clean };
            assert_eq!(outcome, expected, "{about}, at {at}: {zeros} bytes are missing");
            damaged += u64::from(zeros > 0);
        }
        assert!(damaged > 0, "{about}: nobody noticed, at any of {asked} moments");
    }
}
