//! What every store must do, as rules that anybody can hold a store of their own against.
//!
//! The crate's own stores are held against them in `tests/it/store_contract.rs`. For one of your own, let the tests of your crate have this
//! one with its feature `store-contract`, and call [`check`] with what makes an empty store:
//!
//! ```
//! use std::sync::Arc;
//!
//! # use coffre::MemoryStore as MyStore;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // An empty one each time: a directory or prefix that nothing else uses.
//! coffre::store_contract::check(async || Arc::new(MyStore::default()) as Arc<dyn coffre::Store>).await;
//! # }
//! ```
//!
//! A rule that is broken panics and says which, as a test does. Together they store 33 MiB and some 1200 small objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::model::key::ObjectKey;
use crate::store::{Store, StoreErrorKind};

/// Lists the rules once, for [`RULES`] and [`check`].
macro_rules! rules {
    ($($rule:ident),* $(,)?) => {
        /// The names of the rules, in the order in which they are checked.
        pub const RULES: &[&str] = &[$(stringify!($rule)),*];

        /// Checks every rule, each with a store that `fresh` makes, which must be empty.
        ///
        /// # Panics
        /// At the first rule that is broken.
        pub async fn check(mut fresh: impl AsyncFnMut() -> Arc<dyn Store>) {
            $($rule(fresh().await).await;)*
        }
    };
}

rules!(
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
);

/// What is put is got back, byte for byte, and has its length.
pub async fn an_object_is_read_back_as_it_was_stored(store: Arc<dyn Store>) {
    let (name, body) = (key("packs/00/a"), Bytes::from_static(b"\x00\xffhello\r\n"));
    store.put(&name, body.clone()).await.expect("stored");
    assert_eq!(store.get(&name).await.expect("read"), body);
    let info = store.head(&name).await.expect("there");
    assert_eq!((info.key, info.size), (name, body.len() as u64));
}

/// A put under the name of a lease replaces it, and there is one of that name.
pub async fn an_object_is_replaced(store: Arc<dyn Store>) {
    let name = key("sessions/a");
    for body in ["a longer first", "second", ""] {
        store.put(&name, body.into()).await.expect("stored");
        assert_eq!(store.get(&name).await.expect("read"), body);
        assert_eq!(store.list("sessions/").await.expect("listed").len(), 1);
    }
}

/// An object that is longer than its kind can be is not given, and its length is.
pub async fn what_is_longer_than_its_kind_can_be_is_not_given(store: Arc<dyn Store>) {
    for (bytes, expected) in [(64 << 10, None), ((64 << 10) + 1, Some(StoreErrorKind::TooLong))] {
        let name = key(&format!("keys/{bytes:016}.age"));
        store.put(&name, vec![0; bytes].into()).await.expect("stored");
        assert_eq!(store.get(&name).await.err().map(|error| error.kind), expected, "{bytes}");
        assert_eq!(store.head(&name).await.expect("there").size, bytes as u64);
    }
}

/// An object without bytes is one.
pub async fn an_empty_object_is_an_object(store: Arc<dyn Store>) {
    store.put(&key("a"), Bytes::new()).await.expect("stored");
    assert_eq!(store.get(&key("a")).await.expect("read"), Bytes::new());
    assert_eq!(store.head(&key("a")).await.expect("there").size, 0);
    assert_eq!(names(&*store, "").await, ["a"]);
}

/// A pack of a usual size is stored, and read whole and in part.
pub async fn a_pack_of_33_mib_is_stored_and_read(store: Arc<dyn Store>) {
    let body: Bytes = (0..33u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    store.put(&key("packs/33/a"), body.clone()).await.expect("stored");
    assert!(store.get(&key("packs/33/a")).await.expect("read") == body);
    let range = (17 << 20)..(18 << 20) + 1;
    let part = store.get_range(&key("packs/33/a"), range.clone()).await.expect("read");
    assert!(part == body.slice(range.start as usize..range.end as usize));
}

/// A range gives the bytes that it names; one past the end is an error.
pub async fn ranges_give_exactly_what_they_name(store: Arc<dyn Store>) {
    let (name, body) = (key("a"), "0123456789");
    store.put(&name, body.into()).await.expect("stored");
    for (range, expected) in [(0..10, body), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (5..5, ""), (99..99, "")] {
        assert_eq!(store.get_range(&name, range.clone()).await.expect("read"), expected, "{range:?}");
    }
    for range in [0..11, 9..11, 10..11, 100..200, 0..u64::MAX >> 1] {
        let error = store.get_range(&name, range.clone()).await.expect_err("past the end");
        assert_eq!(error.kind, StoreErrorKind::Truncated, "{range:?}: {error}");
    }
}

/// What is not there is told apart from everything else.
pub async fn what_is_not_there_is_not_found(store: Arc<dyn Store>) {
    store.put(&key("packs/00/a"), "x".into()).await.expect("stored");
    for name in ["nothing", "packs/00/b", "packs/01/a"] {
        assert_eq!(store.get(&key(name)).await.expect_err(name).kind, StoreErrorKind::NotFound, "{name}");
        assert_eq!(store.get_range(&key(name), 0..1).await.expect_err(name).kind, StoreErrorKind::NotFound, "{name}");
        let error = store.head(&key(name)).await.expect_err(name);
        assert_eq!(error.kind, StoreErrorKind::NotFound, "{name}");
        assert!(error.to_string().starts_with(&format!("head {name}: no such object")), "{error}");
    }
    assert_eq!(names(&*store, "nothing/").await, [""; 0]);
}

/// What is gone can be deleted, too.
pub async fn deleting_twice_is_deleting_once(store: Arc<dyn Store>) {
    store.put(&key("packs/00/a"), "x".into()).await.expect("stored");
    store.put(&key("packs/00/b"), "y".into()).await.expect("stored");
    for _ in 0..2 {
        store.delete(&key("packs/00/a")).await.expect("gone");
        assert_eq!(store.get(&key("packs/00/a")).await.expect_err("gone").kind, StoreErrorKind::NotFound);
    }
    store.delete(&key("never/was")).await.expect("nothing to do");
    assert_eq!(names(&*store, "").await, ["packs/00/b"]);
}

/// A listing has every object that was stored before, in bytewise order.
pub async fn lists_are_sorted_and_complete_over_many_pages(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    let mut expected = BTreeSet::new();
    for n in 0..1_050_u32 {
        let name = format!("packs/{:02x}/{:08x}", n % 7, n.wrapping_mul(2_654_435_761));
        expected.insert(name.clone());
        let store = store.clone();
        tasks.spawn(async move { store.put(&key(&name), vec![0; n as usize % 5].into()).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("stored");
    }
    let expected: Vec<_> = expected.into_iter().collect();
    assert!(names(&*store, "packs/").await == expected, "sorted and complete");
    assert_eq!(names(&*store, "packs/03/").await.len(), 150);
    let sizes: u64 = store.list("").await.expect("listed").iter().map(|info| info.size).sum();
    assert_eq!(sizes, 2_100);
}

/// A prefix need not end at a slash, and means nothing but itself.
pub async fn prefixes_are_plain_text(store: Arc<dyn Store>) {
    for name in ["packs/00/a", "packs/01/b", "packs/1f/c", "packs-old/d", "index/e"] {
        store.put(&key(name), "x".into()).await.expect("stored");
    }
    for (prefix, expected) in [
        ("", vec!["index/e", "packs-old/d", "packs/00/a", "packs/01/b", "packs/1f/c"]),
        ("packs", vec!["packs-old/d", "packs/00/a", "packs/01/b", "packs/1f/c"]),
        ("packs/", vec!["packs/00/a", "packs/01/b", "packs/1f/c"]),
        ("packs/0", vec!["packs/00/a", "packs/01/b"]),
        ("packs/00/a", vec!["packs/00/a"]),
        ("packs/00/a/", vec![]),
        ("packs/2", vec![]),
        ("acks", vec![]),
    ] {
        assert_eq!(names(&*store, prefix).await, expected, "{prefix:?}");
    }
}

/// Names are kept as they are, whatever characters they have.
pub async fn odd_names_are_kept(store: Arc<dyn Store>) {
    let mut odd = [
        "odd/with space",
        "odd/plus+and%25percent",
        "odd/question?mark&more=1#hash",
        "odd/quote'\"<>",
        "odd/tilde~!*()",
        "odd/comma,semi;colon:at@",
        "odd/été-漢字-🗄",
        "odd/.hidden",
        "odd/trailing.",
        "odd/back\\slash",
        "odd/{b}[r]^|`",
    ];
    for name in odd {
        store.put(&key(name), name.into()).await.expect(name);
    }
    odd.sort_unstable();
    assert_eq!(names(&*store, "odd/").await, odd);
    for name in odd {
        assert_eq!(store.get(&key(name)).await.expect(name), name);
        assert_eq!(names(&*store, name).await, [name]);
        store.delete(&key(name)).await.expect(name);
    }
    assert_eq!(names(&*store, "").await, [""; 0]);
}

/// Many may be stored at the same time.
pub async fn many_put_at_once(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    for n in 0..64_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            let name = key(&format!("packs/{n:02x}/x"));
            store.put(&name, vec![n; 10_000].into()).await?;
            assert_eq!(store.get(&name).await?, vec![n; 10_000]);
            Ok::<_, crate::store::StoreError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("stored and read");
    }
    assert_eq!(names(&*store, "packs/").await.len(), 64);
}

/// Of several that are put under one name at the same time one is there, whole.
pub async fn racing_puts_leave_one_of_them_whole(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    for n in 0..8_u8 {
        let store = store.clone();
        tasks.spawn(async move { store.put(&key("sessions/x"), vec![n; 60_000 + usize::from(n)].into()).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("stored");
    }
    let body = store.get(&key("sessions/x")).await.expect("read");
    assert_eq!(body, vec![body[0]; 60_000 + usize::from(body[0])]);
    assert_eq!(names(&*store, "").await, ["sessions/x"]);
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::from_listed(name)
}

async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    let found = store.list(prefix).await.expect("listed");
    found.into_iter().map(|info| info.key.as_str().to_owned()).collect()
}
