//! Private keys of age and SSH: they open slots that were made for their public keys, and lead only where somebody knows to be led.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use coffre::crypto::derive::WriterKey;
use coffre::crypto::identity::{IdentityFile, Recipient};
use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::{Opener, SlotLock, seal_slot};
use coffre::format::keyring::SlotName;
use coffre::format::slot::{RootKey, Slot};
use coffre::model::id::SlotId;
use coffre::model::key::ObjectKey;
use coffre::repository::known::Expected;
use coffre::repository::{OpenError, Repository};
use coffre::store::OpenMode;
use coffre::store::local::LocalStore;

use crate::support::desk::{Desk, PASSWORD, Run};
use crate::support::terminal::Terminal;
use crate::support::{Bench, open};

/// What protects the keys in `tests/data/identities` that are protected.
const PROTECTION: &str = "five words that are strong";

/// A pair of keys in files of a desk.
struct Pair {
    public: String,
    private: &'static str,
    is_protected: bool,
    shown: &'static str,
}

/// Every kind of key: age's own, as text and protected by a passphrase, and those of SSH.
fn pairs(desk: &Desk) -> Vec<Pair> {
    let identity = age::x25519::Identity::generate();
    let (public, private) = (identity.to_public().to_string(), identity.to_string());
    let text = format!("# made by age-keygen\n{}\n", private.expose_secret());
    let mut lock = age::scrypt::Recipient::new(PROTECTION.into());
    lock.set_work_factor(10);
    fs::write(desk.at("age"), &text).expect("written");
    fs::write(desk.at("age-protected"), age::encrypt(&lock, text.as_bytes()).expect("sealed")).expect("written");
    fs::write(desk.at("age-armored"), age::encrypt_and_armor(&lock, text.as_bytes()).expect("sealed"))
        .expect("written");
    let mut pairs = Vec::new();
    for (private, is_protected) in [("age", false), ("age-protected", true), ("age-armored", true)] {
        pairs.push(Pair { public: public.clone(), private, is_protected, shown: "age identity" });
    }
    for (private, is_protected) in
        [("ed25519", false), ("ed25519-protected", true), ("rsa", false), ("rsa-protected", true)]
    {
        for name in [private.to_owned(), format!("{private}.pub")] {
            fs::copy(format!("{}/tests/data/identities/{name}", env!("CARGO_MANIFEST_DIR")), desk.at(&name))
                .expect("copied");
        }
        // The file of the public key, or what is in it.
        let public = match is_protected {
            true => format!("{private}.pub"),
            false => fs::read_to_string(desk.at(&format!("{private}.pub"))).expect("there").trim().to_owned(),
        };
        pairs.push(Pair { public, private, is_protected, shown: "SSH key" });
    }
    pairs
}

/// Somebody who has a private key, and its passphrase where it has one, and nothing else.
fn holder(desk: &Desk, private: &str, protection: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = desk.command(&[&["--identity-file", private], arguments].concat());
    command.env_remove("COFFRE_PASSWORD_FILE");
    if let Some(protection) = protection {
        command.env("COFFRE_PASSWORD", protection);
    }
    command
}

fn run(mut command: Command) -> Run {
    command.output().expect("runs").into()
}

/// The same on a machine that has opened nothing yet.
fn fresh(mut command: Command, desk: &Desk, name: &str) -> Run {
    command.env("COFFRE_STATE_DIR", desk.at(name)).env("COFFRE_CACHE_DIR", desk.at(&format!("{name}-cache")));
    run(command)
}

async fn opened(desk: &Desk) -> Repository {
    let store = LocalStore::open(&desk.at("repository"), OpenMode::Read).expect("there");
    let words = Passphrase::new(PASSWORD.into());
    Repository::open(Arc::new(store), &words, desk.at("own").as_path()).await.expect("it is theirs")
}

/// Puts a slot there that was made for a public key, which whoever may put objects can.
fn plant(desk: &Desk, public: &str, slot: &Slot) {
    let recipient = Recipient::parse(public).expect("a key");
    let sealed = seal_slot(&SlotLock::Recipient(recipient), &slot.encode()).expect("sealed");
    fs::write(desk.at("repository/keys/0000000000000000.age"), sealed).expect("written");
}

fn fingerprint(desk: &Desk) -> String {
    let listed = desk.run(&["key", "list"]).out;
    listed.lines().find_map(|line| line.strip_prefix("fingerprint ")).expect("told").to_owned()
}

#[test]
fn each_kind_of_private_key_opens_what_was_made_for_it_where_the_fingerprint_is_known() {
    let desk = Desk::with_repository();
    desk.backup();
    let own = fingerprint(&desk);
    for (number, pair) in pairs(&desk).iter().enumerate() {
        let private = pair.private;
        let protection = pair.is_protected.then_some(PROTECTION);
        let none = run(holder(&desk, private, protection, &["snapshots"]));
        assert!(none.code == 12 && none.err.contains("key slots for private keys opens"), "{private}: {none:?}");
        let added = desk.run(&["key", "add", "--recipient", &pair.public, "--label", private]);
        assert_eq!(added.code, 0, "{private}: {added:?}");
        for part in ["--identity-file FILE", own.as_str(), "not safe from quantum computers"] {
            assert!(added.out.contains(part), "{part}: {added:?}");
        }
        let opened = run(holder(&desk, private, protection, &["snapshots"]));
        assert_eq!(opened.code, 0, "{private}: {opened:?}");
        // Whoever does not know which repository is meant may be led anywhere.
        let name = format!("fresh{number}");
        let unknown = fresh(holder(&desk, private, protection, &["snapshots"]), &desk, &name);
        assert!(unknown.code == 12 && unknown.err.contains("whose fingerprint is known"), "{private}: {unknown:?}");
        assert!(!unknown.err.contains(&own), "what anybody may have put there is not offered: {unknown:?}");
        let told = ["--fingerprint", own.as_str(), "snapshots"];
        assert_eq!(fresh(holder(&desk, private, protection, &told), &desk, &name).code, 0, "{private}");
        assert_eq!(fresh(holder(&desk, private, protection, &["snapshots"]), &desk, &name).code, 0, "it is known now");
        let listed = desk.run(&["key", "list"]).out;
        let line = listed.lines().find(|line| line.contains(private)).expect("it is listed");
        assert!(line.contains(pair.shown) && listed.contains("not safe from quantum computers"), "{listed}");
        if pair.is_protected {
            let wrong = run(holder(&desk, private, Some("another"), &["snapshots"]));
            assert!(wrong.code == 2 && wrong.err.contains("does not open the private key"), "{private}: {wrong:?}");
            let nobody = run(holder(&desk, private, None, &["snapshots"]));
            let said = format!("a passphrase protects the private key in {private}\nhint: set COFFRE_PASSWORD_FILE");
            assert!(nobody.code == 2 && nobody.err.contains(&said), "{private}: {nobody:?}");
            let mut terminal = Terminal::start(holder(&desk, private, None, &["snapshots"]), 80);
            terminal.wait_for(&format!("passphrase of {private}: "));
            assert!(!terminal.echoes(), "it is not shown");
            terminal.enter(PROTECTION);
            let (code, seen) = terminal.end();
            assert!(code == 0 && !seen.contains(PROTECTION), "{private}: {seen}");
        }
        let passwd = run(holder(&desk, private, protection, &["key", "passwd"]));
        assert!(passwd.code == 2 && passwd.err.contains("`coffre key add` adds another"), "{passwd:?}");
        let slot = line.split(' ').next().expect("an id");
        assert_eq!(desk.run(&["key", "remove", slot]).code, 0);
        assert_eq!(run(holder(&desk, private, protection, &["snapshots"])).code, 12, "{private}");
    }
    assert_eq!(desk.run(&["verify"]).code, 0);
    // The passphrase is tried on no slot of theirs, and opens its own beside them.
    let public = pairs(&desk).remove(0).public;
    assert_eq!(desk.run(&["key", "add", "--recipient", &public]).code, 0);
    assert_eq!(desk.run(&["snapshots"]).code, 0);
}

#[test]
fn what_is_no_key_is_told() {
    let desk = Desk::with_repository();
    for name in ["ecdsa", "ecdsa.pub"] {
        fs::copy(format!("{}/tests/data/identities/{name}", env!("CARGO_MANIFEST_DIR")), desk.at(name))
            .expect("copied");
    }
    fs::write(desk.at("empty"), "# nothing\n").expect("written");
    fs::write(desk.at("two"), "age1qqq\nage1qqq\n").expect("written");
    for (recipient, said) in [
        ("hunter2", "no public key"),
        ("ecdsa.pub", "cannot be used"),
        ("two", "no public key"),
        ("empty", "no public key"),
    ] {
        let refused = desk.run(&["key", "add", "--recipient", recipient]);
        assert!(refused.code == 2 && refused.err.contains(said), "{recipient}: {refused:?}");
    }
    for (private, said) in [
        ("ecdsa", "cannot be used"),
        ("empty", "no private key"),
        ("absent", "could not be read"),
        ("password", "no private key"),
    ] {
        let refused = run(holder(&desk, private, None, &["snapshots"]));
        assert!(refused.code == 2 && refused.err.contains(said), "{private}: {refused:?}");
    }
    // A passphrase that protects a key does not become that of a new repository.
    let identity = age::x25519::Identity::generate();
    fs::write(desk.at("age"), identity.to_string().expose_secret()).expect("written");
    let made = run(holder(&desk, "age", Some(PROTECTION), &["--repo", "new", "init", "--show-identity"]));
    assert!(made.code == 2 && made.err.contains("`coffre key add --recipient`"), "{made:?}");
    assert!(!desk.at("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_somebody_made_for_a_public_key_leads_nobody_elsewhere() {
    let (desk, attacker) = (Desk::with_repository(), Desk::with_repository());
    desk.backup();
    let own = fingerprint(&desk);
    let pair = pairs(&desk).remove(0);
    // A long label, so that what somebody planted is shorter and comes first.
    let label = "alice ".repeat(500);
    assert_eq!(desk.run(&["key", "add", "--recipient", &pair.public, "--label", &label]).code, 0);
    let theirs = opened(&attacker).await;
    plant(&desk, &pair.public, &Slot::of_reader(theirs.id(), theirs.keys().reader_key().expect("a reader"), ""));
    for (name, arguments) in [("told", vec!["--fingerprint", &own, "snapshots"]), ("told", vec!["snapshots"])] {
        let opened = fresh(holder(&desk, pair.private, None, &arguments), &desk, name);
        assert!(opened.code == 0 && opened.err.contains("it was passed over"), "{opened:?}");
    }
    let unknown = fresh(holder(&desk, pair.private, None, &["snapshots"]), &desk, "unknown");
    assert_eq!(unknown.code, 12, "{unknown:?}");
    // Where it is the only one, it is told for what it is.
    let listed = desk.run(&["key", "list"]).out;
    let line = listed.lines().find(|line| line.contains("age identity") && !line.contains("not listed"));
    assert_eq!(desk.run(&["key", "remove", &line.expect("ours")[..8]]).code, 0);
    let run = run(holder(&desk, pair.private, None, &["snapshots"]));
    let said = format!("is not the one that was there before: its fingerprint is {}, not {own}", theirs.fingerprint());
    assert!(run.code == 12 && run.err.contains(&said), "{run:?}");
}

/// Who backs up here knows the repository and its verifying key, and has a key of its own that the keyring lists.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_for_a_public_key_must_have_the_reader_key() {
    let desk = Desk::with_repository();
    desk.backup();
    let pair = pairs(&desk).remove(0);
    let repository = opened(&desk).await;
    let (verifying_key, root) = (repository.keys().verifying_key(), RootKey::Writer(WriterKey::random()));
    let slot = Slot { repository: repository.id(), root, verifying_key, label: "alice".into(), hosts: Vec::new() };
    plant(&desk, &pair.public, &slot);
    let refused = run(holder(&desk, pair.private, None, &["snapshots"]));
    assert!(refused.code == 4 && refused.err.contains("has the key of a host that backs up"), "{refused:?}");
    let added = desk.run(&["key", "add", "--recipient", &pair.public]);
    assert_eq!(added.code, 0, "{added:?}");
    let found = run(holder(&desk, pair.private, None, &["snapshots"]));
    assert!(found.code == 0 && found.out.contains("host1"), "the right one is found behind it: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_somebody_made_for_public_keys_cost_a_bounded_sum() {
    let bench = Bench::new().await;
    let opened = open(bench.store(), bench.cache.path()).await.expect("opens");
    let identity = age::x25519::Identity::generate();
    let public = Recipient::parse(&identity.to_public().to_string()).expect("a key");
    opened.add_slot(&SlotLock::Recipient(public), &SlotName::default()).await.expect("added");
    let mut planted = 0u16;
    let mut plant = async |stanzas: usize, stanza: &str, count: usize| {
        let stanzas = format!("-> {stanza}\nAAAA\n").repeat(stanzas);
        for _ in 0..count {
            let id = SlotId([&[0; 6][..], &planted.to_be_bytes()].concat().try_into().expect("8 bytes"));
            let file = format!("age-encryption.org/v1\n{stanzas}--- AAAA\n");
            bench.store().put(&ObjectKey::slot(id), file.into_bytes().into()).await.expect("put");
            planted += 1;
        }
    };
    let identities = |text: &str| match IdentityFile::read(text.as_bytes()) {
        Ok(IdentityFile::Open(identities)) => Opener::Identities(identities),
        other => panic!("{other:?}"),
    };
    let expected = Expected { fingerprint: Some(opened.fingerprint()), ..Expected::default() };
    let own = identities(identity.to_string().expose_secret());
    let other = identities(age::x25519::Identity::generate().to_string().expose_secret());
    let opening = async |opener: &Opener| {
        let opened = Repository::open_expected(bench.store(), opener, &expected, bench.cache.path()).await;
        opened.map(drop)
    };
    // 1024 stanzas of RSA are tried, and what has too many is left alone; what costs less comes first.
    plant(17, "X25519 AAAA", 3).await;
    plant(16, "ssh-rsa AAAA BBBB", 100).await;
    opening(&own).await.expect("it is the cheapest");
    let error = opening(&other).await.expect_err("it is for another");
    let said = "none of the 64 key slots for private keys opens with this one; 40 more were not tried, because they ask for too much";
    assert!(
        matches!(error, OpenError::WrongIdentity { slots: 64, untried: 40 }) && error.to_string() == said,
        "{error}"
    );
    // Several keys in a file cost as often.
    let two: Vec<_> = (0..2).map(|_| age::x25519::Identity::generate().to_string()).collect();
    let two = identities(&two.iter().map(|key| format!("{}\n", key.expose_secret())).collect::<String>());
    let error = opening(&two).await.expect_err("it is for another");
    assert!(matches!(error, OpenError::WrongIdentity { slots: 32, untried: 72 }), "{error}");
    // Whoever has the passphrase is not held up by any of it.
    open(bench.store(), bench.cache.path()).await.expect("opens");
}
