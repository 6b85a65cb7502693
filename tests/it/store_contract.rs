//! What every store must do ([`coffre::store::contract`]): the same rules against each of ours, opened as a run would open it.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use coffre::crypto::digest::sha256_of;
use coffre::model::key::ObjectKey;
use coffre::store::transfer::Transfer;
use coffre::store::{Store, StoreErrorKind};

use crate::support::bucket::{fresh, open};
use crate::support::ceph::{self, ceph};
use crate::support::s3_server::{self, S3Server};
use crate::support::versioned_server::VersionedServer;

/// An empty store to test, and what keeps it alive.
struct Place {
    store: Arc<dyn Store>,
    _keep: Box<dyn Any>,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listed(name)
}

async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    let found = store.list(prefix).await.expect("listed");
    found.into_iter().map(|info| info.key.as_str().to_owned()).collect()
}

async fn memory() -> Option<Place> {
    Some(Place { store: open(&format!("memory:{}", fresh()), ("", ""), None), _keep: Box::new(()) })
}

async fn local() -> Option<Place> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("repo");
    Some(Place { store: open(root.to_str().expect("plain"), ("", ""), None), _keep: Box::new(directory) })
}

async fn s3_in_process() -> Option<Place> {
    let server = S3Server::start().await;
    Some(Place { store: open(&server.location(&fresh()), s3_server::OWNER, None), _keep: Box::new(server) })
}

async fn s3_with_versions() -> Option<Place> {
    let server = VersionedServer::start(true, 100).await;
    Some(Place { store: open(&server.location(&fresh()), s3_server::OWNER, None), _keep: Box::new(server) })
}

async fn ceph_http() -> Option<Place> {
    let store = open(&ceph()?.http(ceph::BUCKET, &fresh()), ceph::OWNER, None);
    Some(Place { store, _keep: Box::new(()) })
}

async fn ceph_https() -> Option<Place> {
    let ceph = ceph()?;
    let store = open(&ceph.https(ceph::BUCKET, &fresh()), ceph::OWNER, Some(ceph.ca_file()));
    Some(Place { store, _keep: Box::new(()) })
}

async fn ceph_locked_bucket() -> Option<Place> {
    let store = open(&ceph()?.http(ceph::LOCKED_BUCKET, &fresh()), ceph::OWNER, None);
    Some(Place { store, _keep: Box::new(()) })
}

/// Whoever has a store of their own checks it so; here every rule has a test of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_rules_are_checked_at_once() {
    let fresh = async || memory().await.expect("always there").store;
    coffre::store_contract::check(fresh).await;
    assert_eq!(RULES, coffre::store_contract::RULES);
}

/// Makes one test for each rule of the contract and the given stores.
macro_rules! contract {
    ($($place:ident),* : $rules:tt) => {
        $(contract!(@ $place $rules);)*
        contract!(@@ $rules);
    };
    (@@ [$($rule:ident),* $(,)?]) => { const RULES: &[&str] = &[$(stringify!($rule)),*]; };
    (@ $place:ident [$($rule:ident),* $(,)?]) => {
        mod $place {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $rule() {
                    if let Some(place) = super::$place().await {
                        coffre::store::contract::$rule(place.store.clone()).await;
                    }
                }
            )*
        }
    };
}

contract!(memory, local, s3_in_process, s3_with_versions, ceph_http, ceph_https, ceph_locked_bucket: [
    an_object_is_read_back_as_it_was_stored,
    an_object_is_replaced,
    an_empty_object_is_an_object,
    a_pack_of_33_mib_is_stored_and_read,
    ranges_give_exactly_what_they_name,
    what_is_not_there_is_not_found,
    deleting_twice_is_deleting_once,
    lists_are_sorted_and_complete_over_many_pages,
    prefixes_are_plain_text,
    odd_names_are_kept,
    many_put_at_once,
    racing_puts_leave_one_of_them_whole,
    what_is_longer_than_its_kind_can_be_is_not_given,
]);

#[tokio::test]
async fn what_only_begins_like_an_object_is_not_found() {
    // Not in process: the server there takes its directories for objects.
    for place in [memory().await, local().await, ceph_http().await].into_iter().flatten() {
        place.store.put(&key("packs/00/a"), "x".into()).await.expect("stored");
        for name in ["packs/00", "packs", "packs/00/a/b"] {
            let location = place.store.location();
            let kind = place.store.get(&key(name)).await.expect_err(name).kind;
            assert_eq!(kind, StoreErrorKind::NotFound, "{name} at {location}");
            let kind = place.store.head(&key(name)).await.expect_err(name).kind;
            assert_eq!(kind, StoreErrorKind::NotFound, "{name} at {location}");
        }
    }
}

/// A key that may only add: everything a backup needs, and no deletion.
async fn limited_key_may_add_but_not_delete(store: Arc<dyn Store>) {
    store.put(&key("packs/00/a"), "x".into()).await.expect("may put");
    assert_eq!(store.get(&key("packs/00/a")).await.expect("may get"), "x");
    assert_eq!(names(&*store, "").await, ["packs/00/a"]);
    let error = store.delete(&key("packs/00/a")).await.expect_err("may not delete");
    assert_eq!(error.kind, StoreErrorKind::Denied);
    assert_eq!(error.to_string(), "delete packs/00/a: access denied (HTTP 403 AccessDenied)");
    store.head(&key("packs/00/a")).await.expect("still there");
}

#[tokio::test]
async fn limited_key_may_add_but_not_delete_in_process() {
    let server = S3Server::start().await;
    limited_key_may_add_but_not_delete(open(&server.location(&fresh()), s3_server::LIMITED, None)).await;
}

#[tokio::test]
async fn limited_key_may_add_but_not_delete_at_ceph() {
    let Some(ceph) = ceph() else { return };
    for bucket in [ceph::BUCKET, ceph::LOCKED_BUCKET] {
        limited_key_may_add_but_not_delete(open(&ceph.http(bucket, &fresh()), ceph::LIMITED, None)).await;
    }
}

#[tokio::test]
async fn bad_credentials_are_denied_with_the_reason() {
    let Some(ceph) = ceph() else { return };
    let location = ceph.http(ceph::BUCKET, &fresh());
    for (credentials, reason) in [
        (("NOSUCHKEY00000000000", ceph::OWNER.1), "does not know this access key (HTTP 403 InvalidAccessKeyId)"),
        ((ceph::OWNER.0, "wrong"), "the secret key does not belong to the access key (HTTP 403 SignatureDoesNotMatch)"),
    ] {
        let store = open(&location, credentials, None);
        for error in [
            store.put(&key("a"), "x".into()).await.expect_err("denied"),
            store.get(&key("a")).await.expect_err("denied"),
            store.list("").await.expect_err("denied"),
        ] {
            assert_eq!(error.kind, StoreErrorKind::Denied);
            assert!(error.message.contains(reason) && !error.to_string().contains(credentials.1), "{error}");
        }
        // An answer to HEAD has no body, so no reason.
        let error = store.head(&key("a")).await.expect_err("denied");
        assert_eq!((error.kind, error.message.as_str()), (StoreErrorKind::Denied, "access denied (HTTP 403)"));
    }
}

#[tokio::test]
async fn a_digest_that_is_known_is_signed_and_the_store_compares_it() {
    let server = S3Server::start().await;
    let mut places = vec![(server.location("signed"), s3_server::OWNER, false)];
    if let Some(ceph) = ceph() {
        places.push((ceph.http(ceph::BUCKET, &fresh()), ceph::OWNER, true));
    }
    for (location, credentials, is_real) in places {
        let (store, body) = (open(&location, credentials, None), Bytes::from(vec![7; 200_000]));
        let signed = |of: &[u8]| Transfer::unheard().of_digest(sha256_of(of));
        store.put_telling(&key("a"), body.clone(), &signed(&body)).await.expect("stored");
        assert_eq!(store.get(&key("a")).await.expect("read"), body);
        if !is_real {
            // The server in process takes a wrong one for a fault of its own, which is tried again for long.
            continue;
        }
        let error = store.put_telling(&key("b"), body, &signed(b"other")).await.expect_err("another digest");
        assert!(error.to_string().contains("SHA256"), "{error}");
        assert_eq!(store.head(&key("b")).await.expect_err("refused").kind, StoreErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_no_place() {
    let server = S3Server::start().await;
    let mut places = vec![(server.location("").replace(s3_server::BUCKET, "absent"), s3_server::OWNER, false)];
    if let Some(ceph) = ceph() {
        places.push((ceph.http("absent", ""), ceph::OWNER, true));
    }
    for (location, credentials, is_real) in places {
        let store = open(&location, credentials, None);
        let error = store.list("").await.expect_err("no bucket");
        assert_eq!(error.kind, StoreErrorKind::NoSuchPlace);
        assert!(error.message.contains("the bucket does not exist"), "{error}");
        if !is_real {
            // The server in process only tells of the bucket when it is asked for a list.
            continue;
        }
        assert_eq!(store.get(&key("a")).await.expect_err("no bucket").kind, StoreErrorKind::NoSuchPlace);
        assert_eq!(store.put(&key("a"), "x".into()).await.expect_err("no bucket").kind, StoreErrorKind::NoSuchPlace);
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_at_once_with_advice() {
    let Some(ceph) = ceph() else { return };
    let other = other_certificate();
    for ca_file in [None, Some(other.path().to_owned())] {
        let store = open(&ceph.https(ceph::BUCKET, &fresh()), ceph::OWNER, ca_file);
        let started = std::time::Instant::now();
        let error = store.list("").await.expect_err("not trusted");
        assert_eq!(error.kind, StoreErrorKind::Untrusted, "{error:?}");
        assert!(error.message.contains("CA file"), "{error}");
        assert!(started.elapsed().as_secs() < 5, "not retried");
    }
    // Plain HTTP spoken to as TLS is no reason to wait either.
    let store = open(&ceph.http(ceph::BUCKET, "").replace("s3+http", "s3"), ceph::OWNER, Some(ceph.ca_file()));
    let error = store.list("").await.expect_err("no TLS there");
    assert!(error.message.contains("does not speak TLS"), "{error}");
}

/// Makes a certificate that has signed nothing, with the tool that made the gateway's.
fn other_certificate() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other"])
        .args(["-keyout", "/dev/null", "-out"])
        .arg(file.path())
        .output()
        .expect("openssl runs");
    assert!(made.status.success());
    file
}
