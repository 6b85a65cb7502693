//! `coffre key`: passphrases, recovery identities and hosts come and go, beside whoever else changes them or backs up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::format::keyring::SlotName;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::ops::Cancel;
use coffre::ops::backup::backup;
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::repository::key_slots::SlotState;
use coffre::repository::writers::KeyringError;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::support::desk::{Desk, PASSWORD, Run};
use crate::support::terminal::Terminal;
use crate::support::{Bench, open, options};

fn words(text: &str) -> Passphrase {
    Passphrase::new(text.into())
}

fn lock(text: &str) -> SlotLock {
    SlotLock::Recovery(words(text))
}

fn named(label: &str) -> SlotName {
    SlotName { label: label.into(), ..SlotName::default() }
}

async fn opens(bench: &Bench, text: &str) -> bool {
    let cache = tempfile::tempdir().expect("made");
    Repository::open(bench.store(), &words(text), cache.path()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_and_go_and_the_last_one_that_reads_stays() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let own = repository.opened_by().expect("by a slot");
    let error = repository.remove_slot(own).await.expect_err("nobody could read any more");
    assert!(matches!(error, KeyringError::LastSlot(id) if id == own) && error.outcome() == Outcome::Refused, "{error}");

    let alice = repository.add_slot(&lock("of alice"), &named("Alice")).await.expect("added");
    assert!(opens(&bench, "of alice").await && bench.verify(ReadData::No).await.findings.is_empty());
    let slots = repository.key_slots().await.expect("listed");
    let seen: Vec<_> = slots.iter().map(|slot| (slot.id, slot.name.label.as_str(), slot.is_own, slot.state)).collect();
    assert_eq!(seen, [(own, "test", true, SlotState::Whole), (alice, "Alice", false, SlotState::Whole)]);

    // In one step: there is no keyring that lists both, or neither.
    let (bob, removed) = repository.replace_slot(alice, &lock("of bob"), &named("Bob")).await.expect("replaced");
    assert!(removed.left.is_none() && opens(&bench, "of bob").await && !opens(&bench, "of alice").await);
    assert_eq!(bench.store().list(ObjectKind::Keyring.prefix()).await.expect("listed").len(), 3);
    repository.remove_slot(own).await.expect("bob's is left");
    assert!(!opens(&bench, crate::support::PASSPHRASE).await);
    let error = repository.remove_slot(own).await.expect_err("it is gone");
    assert!(matches!(error, KeyringError::NoSlot(_)), "{error}");
    let error = repository.remove_slot(bob).await.expect_err("the last one");
    assert!(matches!(error, KeyringError::LastSlot(_)), "{error}");

    // What somebody put there is told apart, and may be removed.
    let planted = ObjectKey::slot(coffre::model::id::SlotId([9; 8]));
    bench.store().put(&planted, b"rubbish".to_vec().into()).await.expect("put");
    let slots = repository.key_slots().await.expect("listed");
    assert_eq!(slots.iter().map(|slot| slot.state).collect::<Vec<_>>(), [SlotState::Whole, SlotState::Unlisted]);
    repository.remove_slot(coffre::model::id::SlotId([9; 8])).await.expect("removed");
    assert_eq!(bench.store().list(ObjectKind::Key.prefix()).await.expect("listed").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_durable_before_it_is_listed_and_listed_no_more_before_it_goes() {
    let bench = Bench::new().await;
    let refusing = |operation, prefix: &str| {
        let faulty = FaultStore::new(bench.store());
        faulty.plan(Fault::on(operation).matching(prefix).always().fail_before(StoreErrorKind::Denied));
        Arc::new(faulty)
    };
    let before = bench.memory.totals();
    let store: Arc<dyn Store> = refusing(Operation::Put, "keys/");
    let repository = open(store, bench.cache.path()).await.expect("opens");
    repository.add_slot(&lock("new"), &named("")).await.expect_err("it cannot be stored");
    assert_eq!(bench.memory.totals(), before, "no keyring lists what is not there");

    let store: Arc<dyn Store> = refusing(Operation::Put, "keyring/");
    let repository = open(store, bench.cache.path()).await.expect("opens");
    repository.add_slot(&lock("new"), &named("")).await.expect_err("it cannot be listed");
    assert!(bench.verify(ReadData::No).await.findings.is_empty(), "one too many harms nothing");

    let store: Arc<dyn Store> = refusing(Operation::Delete, "keys/");
    let repository = open(store, bench.cache.path()).await.expect("opens");
    let slot = repository.add_slot(&lock("more"), &named("")).await.expect("added");
    let removed = repository.remove_slot(slot).await.expect("it is listed no more");
    assert!(removed.left.is_some_and(|error| error.kind == StoreErrorKind::Denied));
    assert!(bench.verify(ReadData::No).await.findings.is_empty());
}

/// Whoever changes the keyring at the same time as others finds its change in it afterwards, whatever the order.
#[tokio::test(flavor = "multi_thread")]
async fn many_who_add_slots_at_once_lose_none() {
    let bench = Bench::new().await;
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..6 {
        let cache = tempfile::tempdir().expect("made");
        let repository = open(bench.store(), cache.path()).await.expect("opens");
        adding.spawn(async move {
            let _cache = cache;
            repository.add_slot(&lock(&format!("number {number}")), &named("")).await.expect("added")
        });
    }
    let added = adding.join_all().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let listed: Vec<_> = repository.key_slots().await.expect("listed").into_iter().map(|slot| slot.id).collect();
    assert_eq!(listed.len(), 7);
    assert!(added.iter().all(|id| listed.contains(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_runs_while_keys_change_is_not_disturbed() {
    let bench = Bench::new().await;
    let running = open(bench.store(), bench.cache.path()).await.expect("opens");
    let changing = open(bench.store(), bench.cache.path()).await.expect("opens");
    let own = changing.opened_by().expect("by a slot");
    changing.replace_slot(own, &lock("another"), &named("")).await.expect("replaced");
    let monitor = Arc::new(Collected::default());
    let report = backup(running, options(bench.source.path()), monitor, Cancel::default()).await.expect("backed up");
    let cache = tempfile::tempdir().expect("made");
    let repository = Repository::open(bench.store(), &words("another"), cache.path()).await.expect("opens");
    let repository = Arc::new(repository);
    let snapshots = repository.snapshots().await.expect("listed");
    assert!(
        snapshots
            .iter()
            .any(|(id, snapshot)| Some(*id) == report.snapshot.as_ref().map(|it| it.id) && snapshot.is_ok())
    );
}

fn with(desk: &Desk, password: &str, arguments: &[&str]) -> Run {
    fs::write(desk.at("tried"), password).expect("written");
    desk.run(&[&["--password-file", "tried"], arguments].concat())
}

#[test]
fn passphrases_are_added_changed_and_removed() {
    let desk = Desk::with_repository();
    let add = desk.command(&["key", "add", "--label", "Alice, operations"]);
    let mut terminal = Terminal::start(add, 80);
    terminal.wait_for("new passphrase: ");
    assert!(!terminal.echoes(), "a passphrase is not shown");
    terminal.enter("of alice and long enough");
    terminal.wait_for("the same again: ");
    terminal.enter("of alice and long enough");
    let (code, seen) = terminal.end();
    assert!(code == 0 && seen.contains("opens the repository, too") && !seen.contains("of alice"), "{code}: {seen}");
    let listed = with(&desk, "of alice and long enough", &["key", "list"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    for part in ["recovery identity", "Alice, operations", "opened now", "everything", "\nfingerprint "] {
        assert!(listed.out.contains(part), "{part}: {listed:?}");
    }
    let line = listed.out.lines().find(|line| line.contains("Alice")).expect("listed");
    let alice = line.split(' ').next().expect("an id").to_owned();

    fs::write(desk.at("new"), "of bob and long enough\n").expect("written");
    let changed = with(&desk, "of alice and long enough", &["key", "passwd", "--new-password-file", "new"]);
    assert!(changed.code == 0 && changed.out.contains(&format!("in place of {alice}")), "{changed:?}");
    assert_eq!(with(&desk, "of alice and long enough", &["snapshots"]).code, 12);
    let listed = with(&desk, "of bob and long enough", &["key", "list"]);
    assert!(listed.code == 0 && listed.out.contains("Alice, operations"), "it is still hers: {listed:?}");
    // The identity on paper is no passphrase to be changed.
    let refused = desk.run(&["key", "passwd", "--new-password-file", "new"]);
    assert!(refused.code == 2 && refused.err.contains("this is the recovery identity, which stays"), "{refused:?}");
    let asked = desk.run(&["key", "add"]);
    assert!(asked.code == 2 && asked.err.contains("--new-password-file"), "{asked:?}");

    for (slot, code, said) in [
        ("ffffffffffffffff", 2, "there is no key slot"),
        ("", 2, "there is no key slot"),
        ("x", 2, "there is no key slot"),
    ] {
        let run = desk.run(&["key", "remove", slot]);
        assert!(run.code == code && run.err.contains(said), "{run:?}");
    }
    let bob = listed.out.lines().find(|line| line.contains("Alice")).expect("listed").split(' ').next().expect("an id");
    let removed = desk.run(&["key", "remove", bob]);
    assert!(removed.code == 0 && removed.out.contains("opens nothing any more"), "{removed:?}");
    assert_eq!(with(&desk, "of bob and long enough", &["snapshots"]).code, 12);
    assert_eq!(with(&desk, PASSWORD, &["snapshots"]).code, 0);
    assert_eq!(desk.run(&["verify"]).code, 0);
}

#[test]
fn a_recovery_identity_can_be_made_anew() {
    let desk = Desk::with_repository();
    desk.backup();
    let run = desk.run(&["key", "add", "--recovery"]);
    assert!(run.code == 2 && run.err.contains("--recovery-kit FILE"), "{run:?}");
    let run = desk.run(&["key", "add", "--recovery", "--recovery-kit", "second"]);
    assert_eq!(run.code, 0, "{run:?}");
    let page = fs::read_to_string(desk.at("second")).expect("written");
    let identity = page.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("on the page");
    assert!(!run.out.contains(identity) && page.contains("coffre restore "), "{page}");
    assert_eq!(with(&desk, identity, &["kit", "--check"]).code, 0);
    let mode = fs::metadata(desk.at("second")).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let first = fs::read_to_string(desk.at("kit")).expect("there");
    let first = first.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("on the page");
    assert_eq!(with(&desk, first, &["kit", "--check"]).code, 0, "both open");
    let again = desk.run(&["key", "add", "--recovery", "--recovery-kit", "second"]);
    assert!(again.code == 2 && again.err.contains("cannot be written to second"), "{again:?}");
}

/// With everything that is on the host, and the whole repository, nothing that is stored is read.
#[test]
fn a_host_with_a_key_of_its_own_backs_up_and_reads_nothing_until_it_is_thrown_out() {
    let desk = Desk::with_repository();
    desk.backup();
    let add = ["key", "add", "--writer", "web", "--host", "web1", "--to", "web.secret"];
    let added = desk.run(&add);
    assert!(added.code == 0 && added.out.contains("it backs up web1, and reads nothing"), "{added:?}");
    let secret = fs::read_to_string(desk.at("web.secret")).expect("written");
    assert!(secret.starts_with("COFFRE-HOST-") && !added.out.contains(secret.trim()), "{added:?}");
    assert_eq!(fs::metadata(desk.at("web.secret")).expect("there").permissions().mode() & 0o777, 0o600);
    let twice = desk.run(&["key", "add", "--writer", "web", "--to", "other"]);
    assert!(twice.code == 2 && twice.err.contains("already") && !desk.at("other").exists(), "{twice:?}");

    // The host has its secret, a cache, and what it remembers.
    let on_host = |arguments: &[&str]| -> Run {
        let mut command = desk.command(arguments);
        command
            .env("COFFRE_PASSWORD_FILE", desk.at("web.secret"))
            .env("HOME", desk.at("host"))
            .env("COFFRE_HOST", "web1");
        command.output().expect("runs").into()
    };
    fs::create_dir(desk.at("host")).expect("made");
    fs::write(desk.at("plain"), "five words that are strong\n").expect("written");
    fs::write(desk.at("source/secret"), "what nobody on the host may read back").expect("written");
    // It can tell of what it made by what it remembers alone.
    let first = on_host(&["backup", "source"]);
    assert!(first.code == 0 && first.out.contains("\nprevious   none that this machine remembers\n"), "{first:?}");
    let second = on_host(&["backup", "source"]);
    let before = second.out.lines().find_map(|line| line.strip_prefix("previous   ")).expect("it remembers");
    let is_a_minute = |text: &str| text.len() == 16 && text.starts_with("20");
    assert!(before.strip_suffix(" (number 0)").is_some_and(is_a_minute), "{second:?}");
    for arguments in [
        &["snapshots"][..],
        &["ls", "latest"],
        &["dump", "latest:source/secret"],
        &["restore", "latest", "--target", "out"],
        &["find", "secret"],
        &["stats"],
        &["verify"],
        &["kit"],
        &["key", "list"],
        &["key", "add", "--new-password-file", "plain"],
        &["key", "revoke-writer", "web"],
    ] {
        let run = on_host(arguments);
        assert_eq!(run.code, 12, "{arguments:?}: {run:?}");
        assert!(!run.out.contains("secret") && !run.out.contains("may read back"), "{arguments:?}: {run:?}");
    }
    assert!(!desk.at("out").exists());
    let other = on_host(&["backup", "source", "--host", "db1"]);
    assert!(other.code != 0 && other.err.contains("is for backups of web1"), "{other:?}");
    assert_eq!(desk.run(&["snapshots", "--host", "web1", "--json"]).out.lines().count(), 2);

    let revoked = desk.run(&["key", "revoke-writer", "web"]);
    assert!(revoked.code == 0 && revoked.out.contains("2 snapshots made before count as ever"), "{revoked:?}");
    let together = desk.run(&["snapshots"]).out;
    assert!(!together.contains("these do not count") && together.contains("web1"), "{together}");
    let kept = desk.run(&["restore", "latest", "--host", "web1", "--target", "out"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    let none = desk.run(&["key", "revoke-writer", "web", "--none", "--json"]);
    assert!(none.code == 0 && none.out.contains("\"counting\":0") && none.out.contains("\"foreign\":2"), "{none:?}");
    let apart = desk.run(&["snapshots"]).out;
    assert!(apart.contains("\n\nthese do not count: ") && apart.contains("FOREIGN: by a writer"), "{apart}");
    let run = on_host(&["backup", "source"]);
    assert!(run.code == 12 && run.err.contains("was revoked"), "{run:?}");
    let listed = desk.run(&["key", "list"]);
    assert!(listed.out.contains("revoked") && listed.out.contains("secret of a host"), "{listed:?}");
    let none = desk.run(&["key", "revoke-writer", "nobody"]);
    assert!(none.code == 2 && none.err.contains("there is no writer"), "{none:?}");
}
