//! Which repository is at a place: another one that somebody puts there, in whole or by a key slot, is never believed by a
//! machine that knows better, and costs no more than is allowed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::{SlotLock, seal_slot};
use coffre::format::slot::{RootKey, Slot};
use coffre::model::id::SlotId;
use coffre::model::key::ObjectKey;
use coffre::repository::known::Expected;
use coffre::repository::{OpenError, Repository};
use coffre::store::OpenMode;
use coffre::store::layer::record::RecordStore;
use coffre::store::local::LocalStore;

use crate::support::desk::{Desk, PASSWORD, Run};
use crate::support::{Bench, open, passphrase};

fn copy(from: &Path, to: &Path) {
    for item in fs::read_dir(from).expect("there") {
        let item = item.expect("read");
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            fs::create_dir_all(&target).expect("made");
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), &target).expect("copied");
        }
    }
}

fn objects(directory: &Path) -> usize {
    let items = fs::read_dir(directory).expect("there").map(|item| item.expect("read").path());
    items.map(|path| if path.is_dir() { objects(&path) } else { 1 }).sum()
}

fn fingerprint(desk: &Desk) -> String {
    let kit = fs::read_to_string(desk.at("kit")).expect("written");
    let line = kit.lines().find_map(|line| line.trim().strip_prefix("Fingerprint"));
    line.expect("on the page").trim().to_owned()
}

/// A slot of the least work for the passphrase of every desk that leads to the repository of `attacker`.
async fn planted(attacker: &Desk) -> Vec<u8> {
    let store = LocalStore::open(&attacker.at("repository"), OpenMode::Read).expect("there");
    let words = Passphrase::new(PASSWORD.into());
    let theirs = Repository::open(Arc::new(store), &words, attacker.at("own").as_path()).await.expect("it is theirs");
    let root = RootKey::Reader(theirs.keys().reader_key().expect("a reader").clone());
    let verifying_key = theirs.keys().verifying_key();
    let slot = Slot { repository: theirs.id(), root, verifying_key, label: "passphrase".into(), hosts: Vec::new() };
    seal_slot(&SlotLock::Recovery(words), &slot.encode()).expect("sealed")
}

/// A machine that has not opened anything yet.
fn fresh(desk: &Desk, name: &str, arguments: &[&str]) -> Run {
    let mut command = desk.command(arguments);
    command.env("COFFRE_STATE_DIR", desk.at(name)).env("COFFRE_CACHE_DIR", desk.at(&format!("{name}-cache")));
    command.output().expect("runs").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_slot_leads_nobody_elsewhere_who_knows_or_was_told() {
    let (desk, attacker) = (Desk::with_passphrase(), Desk::with_passphrase());
    desk.backup();
    let (own, theirs) = (fingerprint(&desk), fingerprint(&attacker));
    let slot = planted(&attacker).await;
    let ours: Vec<_> =
        fs::read_dir(desk.at("repository/keys")).expect("there").map(|key| key.expect("read").path()).collect();
    copy(&attacker.at("repository"), &desk.at("repository"));
    fs::write(desk.at("repository/keys/0000000000000000.age"), slot).expect("written");

    // While the right slot is there, whoever knows which is meant takes it, and says what was passed over.
    let backup = ["backup", desk.at("source").to_str().expect("plain")].map(str::to_owned);
    let backup: Vec<&str> = backup.iter().map(String::as_str).collect();
    let told = [&["--fingerprint", own.as_str()], &backup[..]].concat();
    for (who, run) in [("known", desk.run(&backup)), ("told", fresh(&desk, "told", &told))] {
        assert_eq!(run.code, 0, "{who}: {run:?}");
        let warning = format!(
            "0000000000000000.age: opens as well and leads to another repository, with the fingerprint {theirs}"
        );
        assert!(run.err.contains(&warning), "{who}: {run:?}");
    }
    let run = fresh(&desk, "innocent", &backup);
    assert_eq!(run.code, 12, "{run:?}");
    assert!(
        run.err.contains("this passphrase opens 2 repositories at ")
            && run.err.contains("hint: somebody put a key slot there"),
        "{run:?}"
    );
    assert!(run.err.contains(&own) && run.err.contains(&theirs) && !desk.at("innocent").exists(), "{run:?}");

    // Without the right slots nothing is left but what was planted.
    ours.iter().for_each(|key| fs::remove_file(key).expect("ours"));
    let stored = objects(&desk.at("repository"));
    let run = desk.run(&backup);
    assert_eq!(run.code, 12, "{run:?}");
    let said = format!("is not the one that was there before: its fingerprint is {theirs}, not {own}");
    assert!(run.err.contains(&said) && run.err.contains(&format!("--fingerprint {theirs} once")), "{run:?}");
    let run = fresh(&desk, "told again", &told);
    assert_eq!(run.code, 12, "{run:?}");
    assert!(
        run.err.contains(&format!("is not the one that was asked for: its fingerprint is {theirs}, not {own}")),
        "{run:?}"
    );
    assert!(run.err.contains("hint: compare both with the recovery kit"), "{run:?}");
    assert_eq!(objects(&desk.at("repository")), stored, "nothing was written for anybody");
    // What is theirs opens, and what is ours is nobody's there.
    let run = fresh(&desk, "innocent", &["snapshots"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(
        run.err.contains(&format!("for the first time: compare its fingerprint {theirs} with the recovery kit")),
        "{run:?}"
    );

    // Somebody who is sure says so once.
    let run = desk.run(&["--fingerprint", &theirs.to_lowercase(), "snapshots"]);
    assert!(run.code == 4 && run.err.contains("is not the one that was there before; from now on"), "{run:?}");
    let run = desk.run(&["snapshots"]);
    assert!(run.code == 4 && !run.err.contains("the repository at"), "{run:?}");
}

#[test]
fn a_machine_remembers_in_text_beside_the_cache_and_says_where_it_cannot() {
    let desk = Desk::with_repository();
    desk.backup();
    let known = desk.at(".local/state/coffre/known_repositories");
    let text = fs::read_to_string(&known).expect("remembered by init");
    let line = text.lines().find(|line| !line.starts_with('#')).expect("a line");
    assert_eq!(line.split(' ').next(), Some(fingerprint(&desk).as_str()), "{text}");
    assert!(line.ends_with(&format!(" {}", desk.at("repository").display())), "{text}");
    fs::remove_dir_all(desk.at(".cache")).expect("there");
    for repository in ["repository", "./repository/", &format!("file://{}", desk.at("repository").display())] {
        let run = desk.run(&["--repo", repository, "snapshots"]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    }
    assert_eq!(fs::read_to_string(&known).expect("there"), text);

    let first = fresh(&desk, "other", &["snapshots"]);
    assert!(first.code == 0 && first.err.contains("for the first time"), "{first:?}");
    assert_eq!(fresh(&desk, "other", &["snapshots"]).err, "");
    assert_eq!(fresh(&desk, "quiet", &["-q", "snapshots"]).err, "");
    let mode = fs::metadata(desk.at("other")).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    for nowhere in ["/proc/nowhere", "/dev/null/state"] {
        let run = desk.run(&["--state-dir", nowhere, "snapshots"]);
        assert!(
            run.code == 0 && run.err.contains("could not be remembered in ") && run.err.contains("--state-dir"),
            "{run:?}"
        );
    }
    // A line that rots is told, and does not open the door to another without a word.
    fs::write(&known, text.replace(line, &line.replacen(&fingerprint(&desk), "0123-4567-89AB-CDEF", 1)))
        .expect("written");
    let run = desk.run(&["snapshots"]);
    assert!(
        run.code == 0 && run.err.contains("could not be read from") && run.err.contains("for the first time"),
        "{run:?}"
    );
    assert_eq!(desk.run(&["snapshots"]).err, "");
    let run = desk.run(&["--fingerprint", "0123", "snapshots"]);
    assert!(run.code == 2 && run.err.contains("16 letters and digits"), "{run:?}");
}

/// A header that looks like that of a slot with this work factor and cannot be opened.
fn rubbish(log_n: u32) -> Vec<u8> {
    format!("age-encryption.org/v1\n-> scrypt AAAA {log_n}\nAAAA\n--- AAAA\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_somebody_planted_cost_a_bounded_sum() {
    let bench = Bench::new().await;
    let plant = async |number: u16, bytes: Vec<u8>| {
        let id = [&[0; 6][..], &number.to_be_bytes()].concat().try_into().expect("8 bytes");
        bench.store().put(&ObjectKey::slot(SlotId(id)), bytes.into()).await.expect("put");
    };
    // What asks for too much is left alone, however much there is of it.
    for number in 0..300 {
        plant(number, rubbish(19 + u32::from(number) % 40)).await;
    }
    plant(300, [b"age-encryption.org/v1\n-> scrypt AAAA 1\n".to_vec(), vec![b'A'; 64 << 10]].concat()).await;
    let recorded = Arc::new(RecordStore::new(bench.store()));
    let opened = open(recorded.clone(), bench.cache.path()).await.expect("the right slot is cheaper");
    let large = ObjectKey::slot(SlotId([0, 0, 0, 0, 0, 0, 1, 44])).to_string();
    assert!(!recorded.calls().iter().any(|call| call.to_string().contains(&large)), "its length is in the listing");
    let wrong = Passphrase::new("mistyped".into());
    let error = Repository::open(bench.store(), &wrong, bench.cache.path()).await.expect_err("another passphrase");
    assert!(matches!(error, OpenError::WrongKey { slots: 1, untried: 301 }), "{error:?}");
    let said =
        "none of the 1 key slots opens with this passphrase; 301 more were not tried, because they ask for too much";
    assert_eq!(error.to_string(), said);

    // Slots of less work than the right one are tried before it, up to the sum: 2^23.
    for number in 400..400 + 1023 {
        plant(number, rubbish(11)).await;
    }
    open(bench.store(), bench.cache.path()).await.expect("1023 · 2^11 + 2^12 is less");
    for number in 2000..2000 + 32 {
        plant(number, rubbish(18)).await;
    }
    let error = Repository::open(bench.store(), &wrong, bench.cache.path()).await.expect_err("another passphrase");
    let within = (1u64 << 23) - (1023 << 11) - (1 << 12);
    let tried = 1023 + 1 + usize::try_from(within >> 18).expect("few");
    assert!(
        matches!(error, OpenError::WrongKey { slots, untried } if slots == tried && untried == 301 + 1056 - tried),
        "{error:?}"
    );
    // Who expects a repository is settled with the first that leads there.
    let expected = Expected { fingerprint: Some(opened.fingerprint()), ..Expected::default() };
    Repository::open_expected(bench.store(), &passphrase(), &expected, bench.cache.path()).await.expect("opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_keys_do_not_belong_together_is_damaged() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let other = Bench::new().await;
    let stranger = open(other.store(), other.cache.path()).await.expect("opens");
    let root = RootKey::Reader(stranger.keys().reader_key().expect("a reader").clone());
    let verifying_key = repository.keys().verifying_key();
    let slot = Slot { repository: repository.id(), root, verifying_key, label: String::new(), hosts: Vec::new() };
    let words = Passphrase::new("planted".into());
    let sealed = seal_slot(&SlotLock::Recovery(words.clone()), &slot.encode()).expect("sealed");
    bench.store().put(&ObjectKey::slot(SlotId([7; 8])), sealed.into()).await.expect("put");
    let error = Repository::open(bench.store(), &words, bench.cache.path()).await.expect_err("it opens nothing");
    let OpenError::Damaged { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("its keys do not belong together"), "{source}");
}
