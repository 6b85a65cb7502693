//! What a host plants with a key of its own: in another's name, where it may not, and what only readers may.

use std::sync::Arc;

use coffre::crypto::author::Signer;
use coffre::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
use coffre::crypto::session::new_domain_key;
use coffre::format::index::IndexSegment;
use coffre::format::keyring::DomainRecord;
use coffre::format::lease::Lease;
use coffre::format::object::{INDEX, LEASE, SealedAt};
use coffre::model::cleanup::CleanupList;
use coffre::model::id::{DomainEpoch, DomainId, SegmentId, SessionId, WriterId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::snapshot::SnapshotId;
use coffre::model::time::{Clock, Timestamp};
use coffre::repository::MAIN_DOMAIN;
use coffre::repository::objects::UploadedPack;
use coffre::repository::revoking::StillCounting;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::hostile::forge::{Forge, Host};
use crate::hostile::{Plant, Row, Who};

const OTHER: &str = "customer";

/// What the host `web` plants, which may write to `main` alone.
fn planted(what: &str, plant: fn(Arc<Forge>, Host) -> BoxFuture<'static, Option<SnapshotId>>) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            let host = forge.host("web", &[MAIN_DOMAIN]).await;
            plant(forge, host).await
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant)
}

/// A list of cleaning up that the host signs.
fn list(what: &str, list: fn(&Forge) -> CleanupList) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            let host = forge.host("web", &[MAIN_DOMAIN]).await;
            let list = list(&forge);
            forge.list(&host.session(MAIN_DOMAIN), 1, &list).await;
            None
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant).found("only readers may clean up")
}

/// A segment of all packs, signed by whoever `signer` is.
fn signed(what: &str, signer: fn(&Forge, &ReaderKey) -> Signer) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            let keys = forge.repository.keys();
            let signer = signer(&forge, keys.reader_key().expect("a reader"));
            let at = forge.honest.at;
            let root = keys.dedup(at).expect("known").index_key();
            let id = SegmentId([0xee; 16]);
            let place = SealedAt { repository: forge.repository.id(), object: &id.0, root: &root };
            let value = IndexSegment::forged(forge.told().await).encode();
            let object = INDEX.seal(at, &place, &signer, &value);
            forge.store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
            None
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant).told_by_all()
}

/// A segment whose value is that of all packs, changed.
fn value(what: &str, change: fn(Vec<u8>) -> Vec<u8>) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            let mut packs = forge.told().await;
            packs.iter_mut().for_each(|pack| pack.locked_until = u32::MAX);
            forge.segment_of(&change(IndexSegment::forged(packs).encode())).await;
            None
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant).found("index/ee").told_by_all()
}

/// A lease that the host signs.
fn lease(what: &str, change: fn(&mut Lease)) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            let host = forge.host("web", &[MAIN_DOMAIN]).await;
            let mut lease = Lease { host: "web".into(), operation: "backup".into(), ..Lease::default() };
            change(&mut lease);
            let session = host.session(MAIN_DOMAIN);
            let object = session.seal_forged(LEASE, &session.id().0, &lease.encode());
            forge.store.put(&ObjectKey::session(session.id()), object.into()).await.expect("put");
            None
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant)
}

async fn packs_of(forge: &Forge) -> Vec<coffre::model::id::PackId> {
    forge.told().await.into_iter().map(|pack| pack.id).collect()
}

fn lists() -> Vec<Row> {
    vec![
        list("a list that names everything as gone", |forge| {
            let gone =
                [ObjectKind::Config, ObjectKind::Keyring, ObjectKind::Key, ObjectKind::Index, ObjectKind::Snapshot]
                    .iter()
                    .map(|kind| kind.prefix().to_owned())
                    .chain([ObjectKey::snapshot(forge.honest.id).to_string()])
                    .collect();
            CleanupList { gone, is_deleting: true, ..CleanupList::default() }
        }),
        list("a list that gives up whoever made the snapshot", |forge| CleanupList {
            given_up: vec![forge.honest.session],
            is_deleting: true,
            ..CleanupList::default()
        }),
        list("a list that accounts for others' snapshots", |forge| CleanupList {
            accounted: vec![(forge.honest.id, [0; 32])],
            ..CleanupList::default()
        }),
        planted("a list that dooms every pack", |forge, host| {
            async move {
                let list = CleanupList { packs: packs_of(&forge).await, is_deleting: true, ..CleanupList::default() };
                forge.list(&host.session(MAIN_DOMAIN), u64::MAX, &list).await;
                None
            }
            .boxed()
        })
        .found("only readers may clean up"),
    ]
}

fn snapshots() -> Vec<Row> {
    vec![
        planted("a later snapshot of another host", |forge, host| {
            async move { Some(forge.claim(&host.session(MAIN_DOMAIN), |_| {}).await) }.boxed()
        }),
        planted("a snapshot of another host of the year 2200", |forge, host| {
            async move {
                let started = Timestamp::from_seconds(7_258_118_400);
                let id = SnapshotId::new(started, [0xee; 8]);
                Some(forge.claim(&host.session(MAIN_DOMAIN), |it| (it.id, it.started) = (id, started)).await)
            }
            .boxed()
        }),
        planted("a snapshot of its own host of the year 2200", |forge, host| {
            async move {
                let started = Timestamp::from_seconds(7_258_118_400);
                let change = |it: &mut coffre::model::snapshot::Snapshot| {
                    (it.id, it.started, it.host) = (SnapshotId::new(started, [0xee; 8]), started, "web".into());
                };
                Some(forge.claim(&host.session(MAIN_DOMAIN), change).await)
            }
            .boxed()
        }),
        planted("a snapshot of its own host when it was thrown out", |forge, host| {
            async move {
                let session = host.session(MAIN_DOMAIN);
                forge
                    .reader()
                    .await
                    .revoke_writer(host.id, StillCounting::All, Clock::System.now())
                    .await
                    .expect("revoked");
                Some(forge.claim(&session, |it| it.host = "web".into()).await)
            }
            .boxed()
        }),
        planted("a snapshot in a domain that it may not write to any more", |forge, _| {
            async move {
                let at = DomainEpoch { domain: DomainId([8; 16]), epoch: 1 };
                let (dedup, repository) = (DedupSecret::random(at), forge.repository.id());
                let (secret, public) = new_domain_key();
                let record =
                    |reader: &ReaderKey| DomainRecord::seal(repository, reader, OTHER, &dedup, &secret, public.clone());
                forge.keyring(|keyring, reader| keyring.domains.push(record(reader))).await;
                let host = forge.host("db", &[MAIN_DOMAIN, OTHER]).await;
                let session = host.session(OTHER);
                forge.keyring(|keyring, _| keyring.writers.iter_mut().for_each(|it| it.withdraw(at))).await;
                Some(forge.claim(&session, |it| (it.host, it.at) = ("db".into(), at)).await)
            }
            .boxed()
        }),
        planted("a snapshot of a session that it did not begin", |forge, host| {
            async move {
                let session = host.session(MAIN_DOMAIN);
                Some(forge.claim(&session, |it| (it.session, it.host) = (SessionId([9; 16]), "web".into())).await)
            }
            .boxed()
        })
        .found("session")
        .unreadable(),
    ]
}

fn segments() -> Vec<Row> {
    vec![
        signed("a segment by a reader that is none", |forge, _| {
            Signer::reader(&ReaderKey::random(), forge.repository.id())
        })
        .found("index/ee"),
        signed("a segment by a writer that the keyring does not have", |forge, _| {
            Signer::writer(WriterId([9; 8]), &WriterKey::random(), forge.repository.id())
        })
        .found("index/ee"),
        signed("a segment by a writer who says that he is a reader", |forge, _| {
            Signer::writer(WriterId([0; 8]), &WriterKey::random(), forge.repository.id())
        })
        .found("index/ee"),
        planted("a segment by a writer that was thrown out", |forge, host| {
            async move {
                let session = host.session(MAIN_DOMAIN);
                let packs = UploadedPack::indexed(IndexSegment::forged(forge.told().await));
                forge
                    .reader()
                    .await
                    .revoke_writer(host.id, StillCounting::All, Clock::System.now())
                    .await
                    .expect("revoked");
                let id = SegmentId([0xee; 16]);
                let object = session.seal_segment(id, &packs);
                forge.store.put(&ObjectKey::segment(id), object.into()).await.expect("put");
                None
            }
            .boxed()
        }),
        value("a pack locked until a day of 33 bits", |bytes| {
            replaced(bytes, b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x1f")
        }),
        value("a pack locked until a day of 64 bits", |bytes| {
            replaced(bytes, b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
        }),
        value("a day without an end", |bytes| replaced(bytes, b"\xff\xff\xff\xff\x0f", &[0xff; 40])),
        value("sessions without number", |bytes| [&b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f"[..], &bytes[1..]].concat()),
        value("a segment cut short", |bytes| bytes[..bytes.len() - 10].to_vec()),
        value("a segment that goes on", |bytes| [&bytes[..], b"more"].concat()),
        value("a segment of nothing", |_| Vec::new()),
    ]
}

/// Puts other bytes in the place of some, wherever these are.
fn replaced(bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &bytes[..];
    while let Some(at) = rest.windows(from.len()).position(|some| some == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    assert!(!out.is_empty(), "there is something to replace");
    out.extend_from_slice(rest);
    out
}

fn leases() -> Vec<Row> {
    vec![
        lease("a lease for ever", |lease| lease.expires = Timestamp::from_seconds(i64::MAX)),
        lease("a lease before all times", |lease| {
            (lease.started, lease.renewed) = (Timestamp::from_seconds(i64::MAX), Timestamp::from_seconds(i64::MIN));
            lease.expires = Timestamp::from_seconds(i64::MIN);
        }),
        lease("a lease whose words are orders to a terminal", |lease| {
            lease.host = "\x1b[2J\r\u{9b}31m".into();
            lease.operation = "\x1b]0;owned\x07".into();
            (lease.expires, lease.index_segments) = (Timestamp::from_seconds(7_258_118_400), u64::MAX);
        }),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    lists().into_iter().chain(snapshots()).chain(segments()).chain(leases()).collect()
}
