//! What the provider puts again, elsewhere, or not any more: objects that somebody honest made once.

use std::sync::Arc;

use coffre::crypto::digest::sha256_of;
use coffre::format::keyring::{SlotName, SlotRecord};
use coffre::format::slot::Role;
use coffre::model::cleanup::CleanupList;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::repository::MAIN_DOMAIN;
use futures::FutureExt;

use crate::hostile::forge::Forge;
use crate::hostile::{Plant, Row, Who};

/// Puts a copy of the first object of a kind under other names.
fn copied(kind: ObjectKind, names: &'static [&'static str]) -> Plant {
    Box::new(move |forge: Arc<Forge>| {
        async move {
            let first = forge.store.list(kind.prefix()).await.expect("listed").remove(0);
            let object = forge.store.get(&first.key).await.expect("there");
            for name in names {
                forge.store.put(&ObjectKey::from_listed(*name), object.clone()).await.expect("put");
            }
            None
        }
        .boxed()
    })
}

/// What becomes of lists that were put: other bytes under a name, or none.
type Change = fn(Vec<(ObjectKey, bytes::Bytes)>) -> Vec<(ObjectKey, Option<bytes::Bytes>)>;

/// Has a reader put lists, the second of which honours the first and so on, and then does something with them.
fn lists(change: Change) -> Plant {
    Box::new(move |forge: Arc<Forge>| {
        async move {
            let (session, mut before, mut put) = (forge.session(), None, Vec::new());
            for counter in 1..=3 {
                let packs = vec![coffre::model::id::PackId([counter as u8; 16])];
                let list = CleanupList { packs, before, is_deleting: counter == 3, ..CleanupList::default() };
                let key = forge.list(&session, counter, &list).await;
                let object = forge.store.get(&key).await.expect("there");
                before = Some(sha256_of(&object));
                put.push((key, object));
            }
            for (key, object) in change(put) {
                match object {
                    Some(object) => {
                        forge.store.delete(&key).await.expect("deleted");
                        forge.store.put(&key, object).await.expect("put");
                    }
                    None => forge.store.delete(&key).await.expect("deleted"),
                }
            }
            None
        }
        .boxed()
    })
}

/// Publishes newer keyrings and lets `after` take away what the provider hides.
fn keyrings(after: fn(Vec<ObjectKey>) -> Vec<ObjectKey>) -> Plant {
    Box::new(move |forge: Arc<Forge>| {
        async move {
            forge.host("web", &[MAIN_DOMAIN]).await;
            forge.host("db", &[MAIN_DOMAIN]).await;
            let listed = forge.store.list(ObjectKind::Keyring.prefix()).await.expect("listed");
            for key in after(listed.into_iter().map(|object| object.key).collect()) {
                forge.store.delete(&key).await.expect("deleted");
            }
            None
        }
        .boxed()
    })
}

/// The keyring knows a newer slot than the one that is there.
fn older_slot() -> Plant {
    Box::new(|forge: Arc<Forge>| {
        async move {
            let repository = forge.repository.id();
            forge
                .keyring(|keyring, reader| {
                    let id = keyring.slots[0].id;
                    let name = SlotName { label: "changed since".into(), ..SlotName::default() };
                    let newer = b"the object that was put when the passphrase was changed";
                    keyring.slots[0] = SlotRecord::new(repository, reader, (id, Role::Reader), newer, &name);
                })
                .await;
            None
        }
        .boxed()
    })
}

pub(super) fn rows() -> Vec<Row> {
    let row = |what: &str, plant| Row::new(Who::Provider, what, plant);
    let cleanup = ObjectKey::from_listed("cleanup/00000009-0909090909090909");
    assert!(cleanup.cleanup_id().is_some());
    vec![
        row(
            "the configuration under a higher number",
            copied(ObjectKind::Config, &["config/00000009-0000000000000000"]),
        )
        .found("00000009"),
        row("the keyring under a higher number", copied(ObjectKind::Keyring, &["keyring/00000009-0000000000000000"]))
            .found("00000009"),
        row("a key slot under another name", copied(ObjectKind::Key, &["keys/0000000000000000.age"])),
        row("a pack under another name", copied(ObjectKind::Pack, &["packs/00/00000000000000000000000000000000"])),
        row(
            "an index segment under another name",
            copied(ObjectKind::Index, &["index/00000000000000000000000000000000"]),
        )
        .found("0000000000")
        .told_by_all(),
        row(
            "the snapshot under later dates",
            copied(
                ObjectKind::Snapshot,
                &["snapshots/22000101T000000Z-0000000000000000", "snapshots/99991231T235959Z-ffffffffffffffff"],
            ),
        )
        .found("22000101"),
        row("the snapshot as a segment", copied(ObjectKind::Snapshot, &["index/00000000000000000000000000000000"]))
            .found("0000000000")
            .told_by_all(),
        row("a segment as a snapshot", copied(ObjectKind::Index, &["snapshots/22000101T000000Z-0000000000000000"]))
            .found("22000101"),
        row("a segment as a list", copied(ObjectKind::Index, &["cleanup/00000001-0000000000000000"])).found("00000001"),
        row(
            "the snapshot as a record of a verification",
            copied(ObjectKind::Snapshot, &["verified/22000101T000000Z-0000000000000000"]),
        ),
        row(
            "the snapshot as a record of retention",
            copied(ObjectKind::Snapshot, &["retention/22000101T000000Z-0000000000000000"]),
        )
        .found("22000101"),
        row("a key slot as a lease", copied(ObjectKind::Key, &["sessions/00000000000000000000000000000000"])),
        row(
            "objects whose names are orders to a terminal",
            copied(
                ObjectKind::Snapshot,
                &[
                    "snapshots/\x1b[31mred",
                    "snapshots/\x1b]0;title\x07",
                    "index/\x1b[2J",
                    "keys/\x1b[2J.age",
                    "keyring/\x1b[2J",
                    "cleanup/00000001-\x1b[2J",
                    "sessions/\u{9b}31m",
                    "packs/00/\r\x1b[K",
                    "retention/\u{202e}",
                    "verified/\u{202e}",
                    "\x1b[8m",
                ],
            ),
        ),
        row("lists in their order", lists(|_| Vec::new())),
        row("a list under another number", lists(|put| vec![(key(9), Some(put[2].1.clone()))])).found("00000009"),
        row(
            "lists under each other's names",
            lists(|put| vec![(put[0].0.clone(), Some(put[1].1.clone())), (put[1].0.clone(), Some(put[0].1.clone()))]),
        )
        .found("00000001"),
        row("a chain of lists with a hole", lists(|put| vec![(put[1].0.clone(), None)])),
        row("a chain of lists without its end", lists(|put| vec![(put[2].0.clone(), None)])),
        row("a list cut short", lists(|put| vec![(put[2].0.clone(), Some(put[2].1.slice(..100)))])).found("00000003"),
        row("the keyring of before the writers were added", keyrings(|mut all| all.split_off(1))),
        row("a keyring hidden among others", keyrings(|mut all| vec![all.remove(1)])),
        row("a key slot of before its passphrase was changed", older_slot()).found("slot"),
    ]
}

fn key(counter: u64) -> ObjectKey {
    ObjectKey::cleanup(coffre::model::cleanup::CleanupId { counter, random: [counter as u8; 8] })
}
