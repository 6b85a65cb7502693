//! Forgetting: by rules and by name, bringing back, holds, and what happens when records of it are hidden or damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coffre::model::cleanup::CleanupList;
use coffre::model::hold::Hold;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::retention::{Policy, Rule};
use coffre::model::snapshot::{Position, Snapshot, SnapshotId};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{ParentChoice, backup};
use coffre::ops::forget::{ForgetError, Policies, WantedForgotten, apply, give_up, hold, plan, release, undo};
use coffre::ops::snapshots::{SnapshotsReport, snapshots};
use coffre::ops::verify::{ReadData, VerifyReport};
use coffre::progress::Collected;
use coffre::repository::MAIN_DOMAIN;
use coffre::repository::access::{AccessError, Deleting};
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::expired::{Expired, ExpiredError, GRACE};
use coffre::repository::retention::{RetentionChange, ToldBy};
use coffre::repository::writers::SlotPlace;
use coffre::store::Store;
use coffre::store::layer::Operation;
use jiff::tz::TimeZone;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cleanups::put_list;
use crate::support::at_request::{AtRequest, in_full};
use crate::support::desk::{Desk, Run};
use crate::support::{Bench, at_rest, open, options_at, run_verify};
use crate::writers::{add, new, open_as};

const DAY: i64 = 86_400;
/// When the first snapshot of a test is dated: a midnight in UTC.
const BEGIN: i64 = 1_790_035_200;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// The time of whoever forgets: long after all snapshots of a test.
const NOW: Timestamp = Timestamp::from_seconds(BEGIN + 400 * DAY);

pub fn told_by(now: Timestamp) -> ToldBy {
    ToldBy { now, host: "desk".into(), program: "a test" }
}

async fn deleting(bench: &Bench) -> Deleting {
    deleting_with(bench.store(), bench.cache.path()).await
}

pub async fn deleting_with(store: Arc<dyn Store>, cache: &Path) -> Deleting {
    open(store, cache).await.expect("opens").deleting().expect("may delete")
}

/// Puts so many snapshots, a day apart and all with the tree of `like`, numbered behind it.
async fn grow(bench: &Bench, like: &Snapshot, count: i64) -> Vec<Snapshot> {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let mut made = vec![like.clone()];
    for day in 1..=count {
        let session = repository.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
        let before = made.last().expect("one");
        let position = Position { number: before.position.number + 1, before: before.digest };
        let started = at(BEGIN + day * DAY);
        let id = SnapshotId::new(started, u64::try_from(day).expect("few").to_be_bytes());
        let (finished, session_id) = (started, session.id());
        let snapshot = Snapshot { id, started, finished, session: session_id, position, digest: None, ..like.clone() };
        let object = session.seal_snapshot(&snapshot);
        let digest = Some(Sha256::digest(&object).into());
        bench.store().put(&ObjectKey::snapshot(id), object.into()).await.expect("put");
        made.push(Snapshot { digest, ..snapshot });
    }
    made
}

/// A repository with so many snapshots of one sequence.
async fn with_snapshots(count: i64) -> (Bench, Vec<Snapshot>) {
    let bench = Bench::new().await;
    let options = options_at(bench.source.path(), Clock::Fixed(at(BEGIN)));
    let report = backup(
        open(bench.store(), bench.cache.path()).await.expect("opens"),
        options,
        Arc::new(Collected::default()),
        Cancel::default(),
    );
    let first = report.await.expect("backed up").snapshot.expect("made");
    let all = grow(&bench, &first, count - 1).await;
    (bench, all)
}

async fn list(bench: &Bench, cache: &Path) -> SnapshotsReport {
    let repository = open(bench.store(), cache).await.expect("opens");
    snapshots(&repository, &SnapshotFilter::default(), &Collected::default()).await.expect("listed")
}

/// What is listed, and what is listed as forgotten, by its place among `all`.
async fn listed(bench: &Bench, all: &[Snapshot]) -> (Vec<usize>, Vec<usize>) {
    let report = list(bench, bench.cache.path()).await;
    assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.problems);
    let place = |it: &Snapshot| all.iter().position(|other| other.id == it.id).expect("one of them");
    (report.snapshots.iter().map(place).collect(), report.forgotten.iter().map(place).collect())
}

async fn forget(deleting: &Deleting, all: &[&Snapshot]) -> Result<(), ForgetError> {
    let names = all.iter().map(|snapshot| snapshot.id.to_string()).collect();
    let plan = plan(deleting, &WantedForgotten::Named(names, false), NOW, &Collected::default()).await?;
    apply(deleting, &plan, &told_by(NOW)).await
}

fn name(snapshot: &Snapshot) -> Vec<String> {
    vec![snapshot.id.to_string()]
}

async fn verified(bench: &Bench) -> VerifyReport {
    run_verify(bench.store(), bench.cache.path(), ReadData::No).await
}

async fn retention_objects(bench: &Bench) -> Vec<ObjectKey> {
    let listed = bench.store().list(ObjectKind::Retention.prefix()).await.expect("listed");
    listed.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_left_out_and_comes_back() {
    let (bench, all) = with_snapshots(4).await;
    let deleting = deleting(&bench).await;
    forget(&deleting, &[&all[1], &all[3]]).await.expect("forgotten");
    assert_eq!(listed(&bench, &all).await, (vec![0, 2], vec![1, 3]));
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let latest = repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect("found");
    assert_eq!(latest.id, all[2].id);
    // By its id it is there, and says what it is; nothing is missing, and all of it is verified.
    let found = repository.find_snapshot(&all[3].id.to_string(), &SnapshotFilter::default()).await.expect("found");
    assert_eq!(found.forgotten.map(|it| it.when), Some(NOW));
    let report = verified(&bench).await;
    assert_eq!((report.snapshots, report.findings, report.notes), (4, vec![], vec![]));
    assert_eq!(bench.store().list("snapshots/").await.expect("listed").len(), 4, "nothing was deleted");
    let error = forget(&deleting, &[&all[1]]).await.expect_err("it is");
    assert!(matches!(error, ForgetError::Already(id) if id == all[1].id), "{error}");

    undo(&deleting, &name(&all[1]), &told_by(NOW)).await.expect("it is back");
    assert_eq!(listed(&bench, &all).await, (vec![0, 1, 2], vec![3]));
    let error = undo(&deleting, &name(&all[1]), &told_by(NOW)).await.expect_err("it is back already");
    assert!(matches!(error, ForgetError::NotForgotten(id) if id == all[1].id), "{error}");
    // What was forgotten last.
    let later = at(NOW.seconds + 60);
    let names = [&all[0], &all[1]].map(|it| it.id.to_string()).to_vec();
    let planned =
        plan(&deleting, &WantedForgotten::Named(names, false), later, &Collected::default()).await.expect("planned");
    apply(&deleting, &planned, &told_by(later)).await.expect("forgotten");
    let back = undo(&deleting, &["last".into()], &told_by(later)).await.expect("back");
    assert_eq!(back.len(), 2);
    assert_eq!(listed(&bench, &all).await, (vec![0, 1, 2], vec![3]));
    undo(&deleting, &["last".into()], &told_by(later)).await.expect("back");
    assert_eq!(listed(&bench, &all).await, (vec![0, 1, 2, 3], vec![]));
    let error = undo(&deleting, &["last".into()], &told_by(later)).await.expect_err("nothing is left");
    assert!(matches!(error, ForgetError::NothingForgotten), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_behind_what_is_forgotten() {
    let (bench, all) = with_snapshots(3).await;
    forget(&deleting(&bench).await, &[&all[2]]).await.expect("forgotten");
    at_rest().await;
    // A machine that knows nothing but what is stored.
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let mut options = options_at(bench.source.path(), Clock::Fixed(at(BEGIN + 10 * DAY)));
    let made = backup(repository.clone(), options.clone(), Arc::new(Collected::default()), Cancel::default()).await;
    let made = made.expect("backed up").snapshot.expect("made");
    assert_eq!((made.position.number, made.position.before), (3, all[2].digest), "its number is its own");
    assert_eq!(made.parent, Some(all[1].id), "nothing is taken over from it");
    options.parent = ParentChoice::Snapshot(all[2].id.to_string());
    let made = backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await;
    assert_eq!(made.expect("backed up").snapshot.expect("made").parent, None);
}

/// Nothing goes by name that is held, or the last good one of its series.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_one_and_what_is_held_stay() {
    let (bench, all) = with_snapshots(3).await;
    let deleting = deleting(&bench).await;
    let error = forget(&deleting, &[&all[0], &all[1], &all[2]]).await.expect_err("it is the last");
    assert!(matches!(error, ForgetError::LastGood { .. }), "{error}");
    hold(&deleting, &name(&all[1]), "audit", None, &told_by(NOW)).await.expect("held");
    let error = forget(&deleting, &[&all[1]]).await.expect_err("it is held");
    assert!(matches!(&error, ForgetError::Held { hold, .. } if hold.reason == "audit"), "{error}");
    assert_eq!(error.to_string(), format!("snapshot {} is held: audit", all[1].id.short()));
    let named: Vec<String> = [0, 2].map(|nth| all[nth].id.to_string()).to_vec();
    let planned =
        plan(&deleting, &WantedForgotten::Named(named, false), NOW, &Collected::default()).await.expect("planned");
    apply(&deleting, &planned, &told_by(NOW)).await.expect("one is left, and held");
    assert_eq!(listed(&bench, &all).await, (vec![1], vec![0, 2]));
    // Holding one that is forgotten brings it back.
    hold(&deleting, &name(&all[0]), "", None, &told_by(NOW)).await.expect("held");
    assert_eq!(listed(&bench, &all).await, (vec![0, 1], vec![2]));
    release(&deleting, &name(&all[0]), &told_by(NOW)).await.expect("released");
    let error = release(&deleting, &name(&all[0]), &told_by(NOW)).await.expect_err("it is not held");
    assert!(matches!(error, ForgetError::NotHeld(id) if id == all[0].id), "{error}");
    let error = hold(&deleting, &name(&all[0]), "", Some(NOW), &told_by(NOW)).await.expect_err("it would be over");
    assert!(matches!(error, ForgetError::Over), "{error}");
    // A hold that is over holds nothing.
    let until = Some(at(NOW.seconds + 60));
    hold(&deleting, &name(&all[0]), "", until, &told_by(NOW)).await.expect("held");
    let later = at(NOW.seconds + 60);
    let wanted = WantedForgotten::Named(name(&all[0]), false);
    plan(&deleting, &wanted, NOW, &Collected::default()).await.expect_err("it is held now");
    let planned = plan(&deleting, &wanted, later, &Collected::default()).await.expect("it is over by then");
    assert_eq!(planned.going().count(), 1);
}

async fn expired(bench: &Bench, days: i64) -> Result<Expired, ExpiredError> {
    deleting(bench).await.expired(at(NOW.seconds + days * DAY), GRACE).await
}

/// What may be removed, by its place among `all`.
fn places(expired: &Expired, all: &[Snapshot]) -> BTreeSet<usize> {
    let place = |id: SnapshotId| all.iter().position(|other| other.id == id).expect("one of them");
    expired.snapshots.iter().map(|removed| place(removed.id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_removed_was_forgotten_long_enough_ago_and_is_not_held() {
    let (bench, all) = with_snapshots(5).await;
    let deleting = deleting(&bench).await;
    forget(&deleting, &[&all[0], &all[1], &all[2]]).await.expect("forgotten");
    let now = expired(&bench, 2).await.expect("known");
    assert_eq!((now.snapshots.len(), now.waiting.len()), (0, 3));
    assert_eq!(now.waiting[0].1, at(NOW.seconds + 3 * DAY));
    let later = expired(&bench, 3).await.expect("known");
    assert_eq!(places(&later, &all), [0, 1, 2].into());
    let second = later.snapshots.iter().find(|it| it.id == all[1].id).expect("it is one");
    assert_eq!((Some(second.digest), second.before), (all[1].digest, all[0].digest));
    // Somebody holds one without bringing it back, and brings back another.
    let read = deleting.retention().await.expect("read");
    let held = Hold { when: NOW, reason: String::new(), until: Some(at(NOW.seconds + 10 * DAY)) };
    let change = RetentionChange { hold: vec![(all[0].id, held)], ..RetentionChange::default() };
    deleting.tell_retention(&read, change, &told_by(NOW)).await.expect("told");
    undo(&deleting, &name(&all[1]), &told_by(NOW)).await.expect("back");
    let later = expired(&bench, 3).await.expect("known");
    assert_eq!((places(&later, &all), later.held.len()), ([2].into(), 1));
    assert_eq!(places(&expired(&bench, 10).await.expect("known"), &all), [0, 2].into());
    // What a clean-up names is gone, and cannot come back.
    let removed = later.snapshots.clone();
    put_list(&bench, 1, CleanupList { removed, ..CleanupList::default() }).await;
    assert_eq!(places(&expired(&bench, 10).await.expect("known"), &all), [0].into());
    let error = undo(&deleting, &name(&all[2]), &told_by(NOW)).await.expect_err("it is gone");
    assert!(matches!(error, ForgetError::Removed(id) if id == all[2].id), "{error}");
    assert_eq!(error.outcome(), Outcome::Missing);
    assert_eq!(verified(&bench).await.findings, []);
}

/// Forgotten is one object: another one under its name is not.
#[tokio::test(flavor = "multi_thread")]
async fn another_object_under_the_name_of_a_forgotten_one_is_not_removed() {
    let (bench, all) = with_snapshots(3).await;
    forget(&deleting(&bench).await, &[&all[1]]).await.expect("forgotten");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let session = repository.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
    let other = session.seal_snapshot(&Snapshot { session: session.id(), user: "other".into(), ..all[1].clone() });
    let key = ObjectKey::snapshot(all[1].id);
    bench.store().delete(&key).await.expect("deleted");
    bench.store().put(&key, other.into()).await.expect("put");
    // The cache has the one that was there.
    let cache = tempfile::tempdir().expect("made");
    let opened = open(bench.store(), cache.path()).await.expect("opens").deleting().expect("may");
    let found = opened.expired(at(NOW.seconds + 9 * DAY), GRACE).await.expect("known");
    assert_eq!((found.snapshots.len(), found.exchanged), (0, vec![all[1].id]));
    let report = list(&bench, cache.path()).await;
    assert_eq!((report.forgotten.len(), report.snapshots.len()), (0, 3));
}

/// Whoever did not know of the other leaves more, not less.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_readers_who_tell_at_once_the_one_that_keeps_counts() {
    let (bench, all) = with_snapshots(4).await;
    let (one, other) = (deleting(&bench).await, deleting(&bench).await);
    forget(&one, &[&all[0]]).await.expect("forgotten");
    let both_read = [one.retention().await.expect("read"), other.retention().await.expect("read")];
    let planned = |names: Vec<usize>| {
        let named = names.iter().map(|nth| all[*nth].id.to_string()).collect();
        WantedForgotten::Named(named, false)
    };
    // Both plan before either tells.
    let plan_one = plan(&one, &planned(vec![1, 2]), NOW, &Collected::default()).await.expect("planned");
    let plan_other = plan(&other, &planned(vec![2]), NOW, &Collected::default()).await.expect("planned");
    let held = Hold { when: NOW, reason: "audit".into(), until: None };
    let change = RetentionChange {
        hold: vec![(all[1].id, held)],
        bring_back: vec![all[0].id, all[1].id],
        ..RetentionChange::default()
    };
    apply(&one, &plan_one, &told_by(NOW)).await.expect("forgotten");
    apply(&other, &plan_other, &told_by(NOW)).await.expect("forgotten");
    other.tell_retention(&both_read[1], change, &told_by(NOW)).await.expect("told");
    assert_eq!(listed(&bench, &all).await, (vec![0, 1, 3], vec![2]), "both forgot the third");
    let later = expired(&bench, 9).await.expect("no doubt");
    assert_eq!(places(&later, &all), [2].into());
    assert_eq!(retention_objects(&bench).await.len(), 4);
    // The next one knows of all of them.
    forget(&one, &[&all[0]]).await.expect("forgotten");
    assert_eq!(listed(&bench, &all).await, (vec![1, 3], vec![0, 2]));
}

async fn hold_by_another(store: Arc<dyn Store>, snapshot: &Snapshot) {
    let cache = tempfile::tempdir().expect("made");
    let another = deleting_with(store, cache.path()).await;
    hold(&another, &name(snapshot), "audit", None, &told_by(NOW)).await.expect("held");
}

/// Whenever it was told: a plan knows of no record that it was not judged by.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_a_plan_did_not_know_of_counts_more_than_the_plan() {
    let (made, all) = with_snapshots(3).await;
    let rules = vec![Rule::Last(2)];
    let policy = Policy { rules, zone: TimeZone::UTC, now: NOW, allow_empty: false };
    let wanted = WantedForgotten::ByPolicy(Policies::from(policy), SnapshotFilter::default());

    // Between planning and telling, and behind that.
    for is_told_first in [true, false] {
        let bench = made.fork();
        let deleting = deleting(&bench).await;
        let planned = plan(&deleting, &wanted, NOW, &Collected::default()).await.expect("planned");
        assert_eq!(planned.going().count(), 1);
        if is_told_first {
            hold_by_another(bench.store(), &all[0]).await;
        }
        apply(&deleting, &planned, &told_by(NOW)).await.expect("told");
        if !is_told_first {
            hold_by_another(bench.store(), &all[0]).await;
        }
        assert_eq!(listed(&bench, &all).await, (vec![0, 1, 2], vec![]), "told first: {is_told_first}");
        let held = expired(&bench, 9).await.expect("no doubt");
        assert_eq!((held.snapshots.len(), held.waiting.len()), (0, 0));
    }

    // While snapshots are judged, by a machine that has none of them.
    let bench = made.fork();
    let (store, first) = (bench.store(), all[0].clone());
    let holding = async move { hold_by_another(store, &first).await };
    let store = AtRequest::new(bench.store(), Operation::Get, "snapshots/", in_full(holding));
    let cache = tempfile::tempdir().expect("made");
    let deleting = deleting_with(store.clone(), cache.path()).await;
    let planned = plan(&deleting, &wanted, NOW, &Collected::default()).await.expect("planned");
    assert!(store.has_acted());
    apply(&deleting, &planned, &told_by(NOW)).await.expect("told");
    assert_eq!(listed(&bench, &all).await, (vec![0, 1, 2], vec![]));
    // Who plans from here on knows of it.
    let planned = plan(&deleting, &wanted, NOW, &Collected::default()).await.expect("planned");
    assert_eq!(planned.going().count(), 0);
}

/// Behind fifteen records both of two who read the same tell all again that they knew of.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_back_while_another_one_tells_all_again_stays() {
    let (bench, all) = with_snapshots(4).await;
    let (one, other) = (deleting(&bench).await, deleting(&bench).await);
    forget(&one, &[&all[0]]).await.expect("forgotten");
    for _ in 0..7 {
        forget(&one, &[&all[1]]).await.expect("forgotten");
        undo(&one, &name(&all[1]), &told_by(NOW)).await.expect("back");
    }
    assert_eq!(retention_objects(&bench).await.len(), 15);
    let wanted = WantedForgotten::Named(name(&all[2]), false);
    let planned = plan(&one, &wanted, NOW, &Collected::default()).await.expect("planned");
    undo(&other, &name(&all[0]), &told_by(NOW)).await.expect("back");
    apply(&one, &planned, &told_by(NOW)).await.expect("told");
    assert_eq!(listed(&bench, &all).await, (vec![0, 1, 3], vec![2]));
    assert_eq!(places(&expired(&bench, 9).await.expect("no doubt"), &all), [2].into());
}

/// What takes a record away, and whether a machine that never saw it misses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_hidden_or_damaged_is_told_and_stops_removing_alone() {
    for (is_damaged, nth) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
        let (bench, all) = with_snapshots(5).await;
        let first = deleting(&bench).await;
        forget(&first, &[&all[0], &all[1]]).await.expect("forgotten");
        hold(&first, &name(&all[2]), "audit", None, &told_by(NOW)).await.expect("held");
        undo(&first, &name(&all[1]), &told_by(NOW)).await.expect("back");
        hold(&first, &name(&all[3]), "audit", None, &told_by(NOW)).await.expect("held");
        assert_eq!(places(&expired(&bench, 9).await.expect("known"), &all), [0].into());
        let keys = retention_objects(&bench).await;
        let key = &keys[nth];
        let saved = bench.store().get(key).await.expect("there");
        match is_damaged {
            true => bench.memory.tamper(key, |bytes| bytes[100] ^= 1),
            false => bench.store().delete(key).await.expect("deleted"),
        }
        let fresh = tempfile::tempdir().expect("made");
        // Nobody misses the newest but who saw it, or finds it damaged.
        for (cache, misses) in [(bench.cache.path(), true), (fresh.path(), is_damaged || nth == 1)] {
            let case = format!("damaged {is_damaged}, record {nth}, knows it {}", cache == bench.cache.path());
            let repository = open(bench.store(), cache).await.expect("opens");
            let report = list(&bench, cache).await;
            assert_eq!(report.problems.damaged, u64::from(misses), "{case}: {:?}", report.problems);
            assert_eq!((report.forgotten.len(), report.snapshots.len()), (1, 4), "{case}");
            let latest = repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect("found");
            assert_eq!(latest.id, all[4].id, "{case}");
            let answer = repository.deleting().expect("may").expired(at(NOW.seconds + 9 * DAY), GRACE).await;
            match misses {
                true => assert!(matches!(answer, Err(ExpiredError::Doubt { .. })), "{case}: {answer:?}"),
                false => assert_eq!(places(&answer.expect("no doubt"), &all), [0].into(), "{case}"),
            }
        }
        let told = verified(&bench).await.findings;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].object.to_string().starts_with("retention/"), "{told:?}");
        // It comes back, or somebody who knows of it goes on without.
        let again = bench.fork();
        again.memory.tamper(&keys[0], |_| ());
        match is_damaged {
            true => again.memory.tamper(key, |bytes| bytes[100] ^= 1),
            false => again.store().put(key, saved).await.expect("put"),
        }
        assert_eq!(list(&again, again.cache.path()).await.outcome(), Outcome::Clean);
        let given_up = give_up(&deleting(&bench).await, &told_by(NOW)).await.expect("gone on");
        assert_eq!(given_up.len(), 1);
        assert_eq!(list(&bench, bench.cache.path()).await.outcome(), Outcome::Clean);
        assert_eq!(verified(&bench).await.findings, []);
        assert_eq!(places(&expired(&bench, 9).await.expect("no doubt"), &all), [0].into());
        assert_eq!(give_up(&deleting(&bench).await, &told_by(NOW)).await.expect("nothing to do").len(), 0);
    }
}

/// A log does not grow for ever.
#[tokio::test(flavor = "multi_thread")]
async fn old_records_may_go_when_they_are_told_again() {
    let (bench, all) = with_snapshots(3).await;
    let deleting = deleting(&bench).await;
    for _ in 0..20 {
        forget(&deleting, &[&all[0]]).await.expect("forgotten");
        undo(&deleting, &name(&all[0]), &told_by(NOW)).await.expect("back");
    }
    forget(&deleting, &[&all[1]]).await.expect("forgotten");
    assert_eq!(retention_objects(&bench).await.len(), 41);
    let day_later = at(NOW.seconds + DAY);
    let read = deleting.retention().await.expect("read");
    assert_eq!(deleting.remove_old_retention(&read, NOW).await.expect("removed"), 0);
    assert_eq!(deleting.remove_old_retention(&read, day_later).await.expect("removed"), 31);
    assert_eq!(retention_objects(&bench).await.len(), 10);
    assert_eq!(listed(&bench, &all).await, (vec![0, 2], vec![1]));
    // Whoever never saw what went misses nothing.
    let fresh = tempfile::tempdir().expect("made");
    assert_eq!(list(&bench, fresh.path()).await.outcome(), Outcome::Clean);
    assert_eq!(places(&expired(&bench, 9).await.expect("no doubt"), &all), [1].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_backs_up_neither_forgets_nor_holds() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    add(&repository, &new("web", &["web"]), SlotPlace::Repository).await.expect("added");
    let cache = tempfile::tempdir().expect("made");
    let web = open_as("web", bench.store(), cache.path()).await;
    assert_eq!(web.deleting().map(drop), Err(AccessError::WriterOnly));
    assert_eq!(web.retention().await.expect("nothing to read").holds().count(), 0);
}

// What follows goes through the program.

/// A desk with a snapshot of each of so many days, of which the first is two tags richer.
fn days(count: i64) -> Desk {
    let desk = Desk::with_repository();
    let source = desk.at("source");
    for day in 0..count {
        let time = at(BEGIN + day * DAY + 7200).to_string();
        let tags: &[&str] = if day == 0 { &["--tag", "release", "--tag", "x"] } else { &[] };
        let words = [&["backup", source.to_str().expect("plain"), "--time", &time], tags].concat();
        let run = desk.run(&words);
        assert_eq!(run.code, 0, "{run:?}");
    }
    desk
}

fn ids(desk: &Desk) -> Vec<String> {
    let snapshots = desk.json(&["snapshots"]);
    snapshots.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

/// The days that a policy keeps, with the reasons.
fn kept(desk: &Desk, rules: &[&str]) -> BTreeMap<i64, String> {
    let events = desk.json(&[&["forget", "--dry-run"], rules].concat());
    let mut kept = BTreeMap::new();
    for event in events.iter().filter(|event| event["event"] == "decision") {
        if event["forget"] == Value::Bool(false) {
            let started: Timestamp = Timestamp::parse_local(event["started"].as_str().expect("text")).expect("a time");
            kept.insert((started.seconds - BEGIN) / DAY, event["why"].as_str().expect("text").to_owned());
        }
    }
    kept
}

#[test]
fn each_rule_keeps_what_it_says() {
    // From a Tuesday to the Wednesday after the next, over the end of a month.
    let desk = days(16);
    let first = ids(&desk).remove(0);
    let days_of = |rules: &[&str]| kept(&desk, rules).into_keys().collect::<Vec<_>>();
    for (rules, expected) in [
        (&["--keep-last", "2"][..], &[14, 15][..]),
        (&["--keep-hourly", "1"], &[15]),
        (&["--keep-daily", "3"], &[13, 14, 15]),
        (&["--keep-weekly", "2"], &[12, 15]),
        (&["--keep-monthly", "5"], &[8, 15]),
        (&["--keep-yearly", "5"], &[15]),
        (&["--keep-within", "2d"], &[13, 14, 15]),
        (&["--keep-within-hourly", "1d"], &[14, 15]),
        (&["--keep-within-daily", "1d"], &[14, 15]),
        (&["--keep-within-weekly", "1w"], &[12, 15]),
        (&["--keep-within-monthly", "1m"], &[8, 15]),
        (&["--keep-within-yearly", "1y"], &[15]),
        (&["--keep-tag", "release,x", "--keep-last", "1"], &[0, 15]),
        (&["--keep-tag", "release,other", "--keep-last", "1"], &[15]),
        (&["--keep-id", &first, "--keep-last", "1"], &[0, 15]),
        (&["--keep-last", "1", "--keep-weekly", "1", "--keep-daily", "2"], &[14, 15]),
        (&["--keep-tag", "nobody has it"], &[15]),
        (&["--keep-tag", "nobody has it", "--allow-empty"], &[]),
        (&["--keep-last", "1", "--tag", "x"], &[0]),
        (&["--keep-last", "1", "--host", "elsewhere"], &[]),
        // It is 2 in the morning in UTC, and the evening before in Honolulu.
        (&["--keep-monthly", "5", "--time-zone", "HST10"], &[9, 15]),
    ] {
        assert_eq!(days_of(rules), expected, "{rules:?}");
    }
    assert_eq!(kept(&desk, &["--keep-last", "2"])[&14], "last 2 of 2");
    assert_eq!(ids(&desk).len(), 16, "nothing was changed");
}

fn told(run: &Run) -> String {
    format!("{}{}", run.out, run.err).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_person_forgets_brings_back_and_holds() {
    let desk = days(4);
    let all = ids(&desk);
    let run = desk.run(&["forget", "--keep-last", "3"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(told(&run).contains("forgot 1 snapshot; `coffre forget --undo last` undoes it"), "{run:?}");
    assert_eq!(ids(&desk), all[1..]);
    let run = desk.run(&["snapshots", "--forgotten"]);
    assert!(run.out.contains(&all[0][..8]) && !run.out.contains(&all[1][..8]), "{run:?}");
    assert!(told(&run).contains("no rule keeps it"), "{run:?}");
    let target = desk.at("restored");
    let run = desk.run(&["restore", &all[0], "--target", target.to_str().expect("plain")]);
    assert!(run.code == 0 && told(&run).contains("was forgotten on"), "{run:?}");
    assert_eq!(desk.json(&["find", "a.txt"]).len(), 3);
    let stats = desk.json(&["stats"]);
    assert_eq!(stats[0]["snapshots"], 3);
    let run = desk.run(&["forget", "--undo", "last"]);
    assert!(run.code == 0 && run.out.contains("brought back 1 snapshot"), "{run:?}");
    assert_eq!(ids(&desk), all);

    let run = desk.run(&["hold", "add", &all[0][..8], "--reason", "audit", "--until", "2999-01-31"]);
    assert!(run.code == 0 && run.out.contains("holds 1 snapshot"), "{run:?}");
    let run = desk.run(&["hold", "list"]);
    assert!(run.out.contains("2999-01-31 00:00") && run.out.contains("audit"), "{run:?}");
    let run = desk.run(&["snapshots"]);
    assert!(told(&run).contains("held until 2999-01-31 00:00 (audit)"), "{run:?}");
    let run = desk.run(&["forget", "--keep-last", "2"]);
    assert!(run.code == 0 && told(&run).contains("held until 2999-01-31T00:00:00Z (audit)"), "{run:?}");
    assert_eq!(ids(&desk), [&all[..1], &all[2..]].concat());
    let run = desk.run(&["hold", "remove", &all[0]]);
    assert!(run.code == 0 && run.out.contains("released 1 snapshot"), "{run:?}");
    let run = desk.run(&["forget", &all[0]]);
    assert_eq!((run.code, ids(&desk)), (0, all[2..].to_vec()), "{run:?}");
}

#[test]
fn each_way_to_end_has_its_code() {
    let desk = days(3);
    let all = ids(&desk);
    for (words, code, says) in [
        (&["forget"][..], 2, "no rule says what is to be kept"),
        (&["forget", "--keep-last", "0"], 2, "--keep-last"),
        (&["forget", "--keep-within", "soon"], 2, "is no span of time"),
        (&["forget", "--keep-last", "1", "--time-zone", "Nowhere/At all"], 2, "no such time zone"),
        (&["forget", &all[0], "--keep-last", "1"], 2, "not both"),
        (&["forget", &all[0], "--host", "a"], 2, "do not go with ids"),
        (&["forget", "--undo"], 2, "bring back which snapshots?"),
        (&["forget", "--undo", "last", "--keep-last", "1"], 2, "does not go with rules"),
        (&["hold", "add"], 2, "SNAPSHOTS"),
        (&["hold", "add", &all[0], "--until", "2001-01-01"], 2, "over before it begins"),
        (&["forget", "00000000"], 1, "there is no snapshot"),
        (&["forget", "--undo", "last"], 1, "nothing is forgotten"),
        (&["forget", "--undo", &all[0]], 1, "is not forgotten"),
        (&["hold", "remove", &all[0]], 1, "is not held"),
        (&["forget", "--keep-last", "1"], 1, "nobody is there to be asked"),
        (&["forget", &all[0], &all[1], &all[2]], 1, "is the last good one of host host1"),
        (&["forget", "--accept-missing-records"], 0, "all records of retention are there"),
        (&["forget", "--keep-last", "1", "--dry-run"], 0, "would forget 2 snapshots; nothing was changed"),
        (&["forget", "--keep-last", "3"], 0, "nothing to forget: 3 snapshots kept"),
    ] {
        let run = desk.run(words);
        assert!(run.code == code && told(&run).contains(says), "{words:?}: {run:?}");
    }
    assert_eq!(ids(&desk), all);
    let run = desk.run(&["forget", "--keep-last", "1", "--yes", "--quiet"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{run:?}");
    assert_eq!(ids(&desk), all[2..]);
    let run = desk.run(&["forget", &all[2], "--allow-empty"]);
    assert_eq!((run.code, ids(&desk).len()), (0, 0), "{run:?}");
    // A record is gone.
    let records = std::fs::read_dir(desk.at("repository/retention")).expect("there");
    let mut records: Vec<_> = records.map(|entry| entry.expect("there").path()).collect();
    records.sort();
    std::fs::remove_file(&records[0]).expect("removed");
    let run = desk.run(&["snapshots"]);
    assert!(run.code == 4 && told(&run).contains("nothing is removed meanwhile"), "{run:?}");
    let run = desk.run(&["verify"]);
    assert!(run.code == 4 && told(&run).contains("is not in the store"), "{run:?}");
    let run = desk.run(&["forget", "--accept-missing-records"]);
    assert!(run.code == 0 && run.out.contains("given up"), "{run:?}");
    assert_eq!(desk.run(&["verify"]).code, 0);
}

/// Does what is due with the desk's repository, of which nobody sees what would be forgotten, by rules of a configuration.
fn run_due(desk: &Desk, rules: &str) -> Run {
    let at = |name: &str| desk.at(name).display().to_string();
    let text = format!(
        "[repositories.archive]\nlocation = \"{}\"\npassword-file = \"{}\"\n\
         [repositories.archive.forget]\nevery = \"1d\"\n{rules}\n",
        at("repository"),
        at("password"),
    );
    std::fs::write(desk.at("coffre.toml"), text).expect("written");
    std::fs::set_permissions(desk.at("coffre.toml"), Permissions::from_mode(0o644)).expect("set");
    let mut command = desk.command(&["run"]);
    command.env_remove("COFFRE_REPO").env_remove("COFFRE_PASSWORD_FILE").env("COFFRE_CONFIG", desk.at("coffre.toml"));
    command.output().expect("runs").into()
}

/// Makes retention due again, as if none had ever been done.
fn without_records(desk: &Desk) {
    for record in std::fs::read_dir(desk.at("repository/evidence")).expect("there").flatten() {
        std::fs::remove_file(record.path()).expect("removed");
    }
}

#[test]
fn what_nobody_watches_leaves_out_a_series_that_loses_most_of_its_days() {
    let desk = Desk::with_repository();
    let back_up = |job: &str, source: &str, seconds: i64| {
        let (time, source) = (at(BEGIN + seconds).to_string(), desk.at(source).display().to_string());
        let run = desk.run(&["backup", &source, "--job", job, "--time", &time]);
        assert_eq!(run.code, 0, "{run:?}");
    };
    (0..6).for_each(|day| back_up("nightly", "source", day * DAY));
    (0..5).for_each(|hour| back_up("hourly", "source/sub", 5 * DAY + hour * 3600));
    let jobs = || {
        let snapshots = desk.json(&["snapshots"]);
        ["nightly", "hourly"].map(|job| snapshots.iter().filter(|snapshot| snapshot["job"] == job).count())
    };
    let run = run_due(&desk, "keep-daily = 2");
    assert_eq!((run.code, jobs()), (3, [6, 1]), "{run:?}");
    assert!(told(&run).contains("forget: 4 snapshots forgotten, 7 kept"), "{run:?}");
    let says = "4 of 6 snapshots would be forgotten, and the days that have one would fall from 6 to 2; all stay until";
    assert!(run.err.contains("host host1, job nightly: ") && told(&run).contains(says), "{run:?}");
    let again = run_due(&desk, "keep-daily = 2");
    assert_eq!((again.code, again.out.as_str()), (0, ""), "it was done, and is due tomorrow: {again:?}");
    // By rules that say so, whatever goes.
    without_records(&desk);
    let run = run_due(&desk, "keep-daily = 2\nyes = true");
    assert_eq!((run.code, jobs()), (0, [2, 1]), "{run:?}");
}

#[test]
fn a_host_that_only_backs_up_is_refused() {
    let desk = Desk::with_repository();
    desk.backup();
    let run = desk.run(&["key", "add", "--writer", "web", "--host", "host1", "--to", "web.secret"]);
    assert_eq!(run.code, 0, "{run:?}");
    for words in [
        &["forget", "--keep-last", "1"][..],
        &["hold", "add", "latest"],
        &["hold", "list"],
        &["forget", "--undo", "last"],
    ] {
        let mut command = desk.command(words);
        command.env("COFFRE_PASSWORD_FILE", desk.at("web.secret"));
        let run: Run = command.output().expect("runs").into();
        assert_eq!(run.code, 12, "{words:?}: {run:?}");
    }
}

#[test]
fn the_table_fits_eighty_columns() {
    let desk = days(3);
    let mut command = desk.command(&["forget", "--keep-last", "1", "--keep-within-daily", "1d", "--dry-run"]);
    let run: Run = command.env("COLUMNS", "80").output().expect("runs").into();
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("host host1: ") && run.out.contains("forget"), "{run:?}");
    // Names of sources are as long as they are.
    let rows = run.out.lines().filter(|line| !line.starts_with("host"));
    assert!(rows.clone().count() > 4 && rows.clone().all(|line| line.chars().count() <= 80), "{run:?}");
}

/// Whatever the clock of whoever forgot said.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_takes_time_from_when_it_was_made_at_least() {
    let (bench, all) = with_snapshots(2).await;
    let deleting = deleting(&bench).await;
    // A clock that stands in the year 2000.
    let wrong = told_by(at(946_684_800));
    let planned = plan(&deleting, &WantedForgotten::Named(name(&all[0]), false), NOW, &Collected::default()).await;
    apply(&deleting, &planned.expect("planned"), &wrong).await.expect("forgotten");
    let made = all[0].started.seconds;
    let found = deleting.expired(at(made + DAY), GRACE).await.expect("known");
    assert_eq!((found.snapshots.len(), found.waiting), (0, vec![(all[0].id, at(made + 3 * DAY))]));
    let found = deleting.expired(at(made + 3 * DAY), Duration::ZERO).await.expect("known");
    assert_eq!(found.snapshots.len(), 1);
}
