//! Cleaning up beside running backups, model-checked: every order in which writers, cleaners and a reader can take their steps,
//! with a pause or a crash of any of them behind every step, is looked at.
//!
//! One chunk matters. Writers back it up and can open nothing that is stored; cleaners doom and delete packs that hold it;
//! a reader restores it. Clocks may say anything. There is one store whose listings are true, or one whose listings may lack
//! anything, or two of which one lies. The rules are those of `docs/format.md`, sections 13 to 15. With all of them nothing is lost;
//! each one that is left out has a schedule here that loses something (with those left out as well that would catch it).
//!
//! `cargo test --test it cleanup_model -- --nocapture` prints the schedules.

mod cleaner;
mod reader;
mod search;
mod small;
mod world;
mod writer;

use search::{Found, search};
use world::{Fault, K, L, OLD, RUBBISH, Rule, Rules, State, Store, World};

/// A world with all rules, and the state that it begins in.
type Scenario = (World, fn(&World) -> State);

const PLAIN: World = World {
    rules: Rules::all_but(&[]),
    store: Store::True,
    has_late_requests: false,
    lists_age: false,
    forgets: false,
    rewrites: false,
    merges: false,
};

/// No snapshot needs the chunk, which lies in the pack K; one writer is about to, and two cleaners find it dead.
const CLEANERS: Scenario = (World { has_late_requests: true, ..PLAIN }, |world| State::new(world, K, 0, 1, 2));
/// The same with two writers and one cleaner.
const WRITERS: Scenario = (World { has_late_requests: true, ..PLAIN }, |world| State::new(world, K, 0, 2, 1));
/// An old snapshot needs the chunk, which lies in K and in L.
const COPIES: Scenario = (PLAIN, |world| State::new(world, K | L, OLD, 1, 2));
/// Lists grow old while somebody is paused.
const AGE: Scenario = (World { lists_age: true, ..PLAIN }, |world| State::new(world, K, 0, 2, 1));
/// The same, with copies.
const AGE_OF_COPIES: Scenario = (World { lists_age: true, ..PLAIN }, |world| State::new(world, K | L, OLD, 0, 2));
/// Listings may lack anything.
const OLD_LISTINGS: Scenario =
    (World { store: Store::Old, has_late_requests: true, ..PLAIN }, |world| State::new(world, K, 0, 1, 2));
/// Two replicas of which one lies.
const REPLICAS: Scenario = (World { store: Store::TwoOneLies, ..PLAIN }, |world| State::new(world, K, 0, 1, 2));
/// One cleaner merges index segments, another one looks for what nothing needs.
const MERGING: Scenario = (World { merges: true, ..PLAIN }, |world| {
    let mut state = State::new(world, K, OLD, 0, 2);
    (state.cleaners[0].at, state.cleaners[1].at) = (cleaner::MERGE, cleaner::LIST_INDEX);
    state
});
/// An index segment says of a pack of rubbish that it holds the chunk, which an old snapshot needs.
const CLAIMS: Scenario = (PLAIN, |world| State::new(world, K | RUBBISH, OLD, 1, 1));
/// The same to writers, who alone need the chunk.
const CLAIMS_TO_WRITERS: Scenario = (PLAIN, |world| State::new(world, RUBBISH, 0, 2, 1));
/// The old snapshot is forgotten, and somebody puts it back.
const FORGOTTEN: Scenario =
    (World { forgets: true, has_late_requests: true, ..PLAIN }, |world| State::new(world, K, OLD, 1, 1));
/// Two cleaners rewrite the pack, one after the other, while the old snapshot is being restored.
const REWRITTEN: Scenario = (World { rewrites: true, ..PLAIN }, |world| {
    let mut state = State::new(world, K, OLD, 0, 2);
    state.reader.at = reader::LOAD;
    state
});

/// A cleaner rewrites the pack that the old snapshot needs, and then dooms either, while a writer relies on whichever is there.
const REWRITTEN_BESIDE: Scenario =
    (World { rewrites: true, has_late_requests: true, ..PLAIN }, |world| State::new(world, K, OLD, 1, 1));

const SCENARIOS: [Scenario; 13] = [
    CLEANERS,
    WRITERS,
    COPIES,
    AGE,
    AGE_OF_COPIES,
    OLD_LISTINGS,
    REPLICAS,
    MERGING,
    CLAIMS,
    CLAIMS_TO_WRITERS,
    FORGOTTEN,
    REWRITTEN,
    REWRITTEN_BESIDE,
];

fn explore((world, start): Scenario, left_out: &[Rule]) -> Found {
    let world = World { rules: Rules::all_but(left_out), ..world };
    search(&world, start(&world))
}

fn assert_safe(found: &Found) {
    assert_eq!(found.fault, None, "after {} states:\n{}", found.states, found.schedule.join("\n"));
}

#[test]
fn with_all_rules_nothing_is_lost_in_any_order_of_steps() {
    let mut states = 0;
    for scenario in SCENARIOS {
        let found = explore(scenario, &[]);
        assert_safe(&found);
        states += found.states;
    }
    println!("{states} states");
    assert!(states > 400_000, "{states} states: the model has become smaller");
}

/// Two writers and two cleaners, in a scope that takes seconds and a GiB of memory.
#[test]
fn with_all_rules_nothing_is_lost_among_two_writers_and_two_cleaners() {
    let found = explore((PLAIN, |world| State::new(world, K, 0, 2, 2)), &[]);
    println!("{} states", found.states);
    assert_safe(&found);
    assert!(found.states > 5_000_000, "{} states: the model has become smaller", found.states);
}

/// Each rule, what is left out with it because it would catch the same, where, and what happens then.
const COUNTEREXAMPLES: [(Rule, &[Rule], Scenario, Fault); 26] = [
    (Rule::Observed, &[], CLEANERS, Fault::Vain),
    (Rule::Observed, &[Rule::Accounted], CLEANERS, Fault::Lost),
    (Rule::LeasesFirst, &[], WRITERS, Fault::Vain),
    (Rule::NewByName, &[], WRITERS, Fault::Lost),
    (Rule::ListsFirst, &[Rule::LastCheck], CLEANERS, Fault::Lost),
    (Rule::GivenUpNamed, &[], WRITERS, Fault::Vain),
    (Rule::LookBack, &[], WRITERS, Fault::Vain),
    (Rule::Accounted, &[], OLD_LISTINGS, Fault::Lost),
    (Rule::Ordered, &[], OLD_LISTINGS, Fault::Lost),
    (Rule::WalkFirst, &[], OLD_LISTINGS, Fault::Lost),
    (Rule::Chain, &[], OLD_LISTINGS, Fault::Lost),
    (Rule::Copies, &[], COPIES, Fault::Lost),
    (Rule::Copies, &[], REWRITTEN, Fault::Lost),
    (Rule::ReadCopies, &[], CLAIMS, Fault::Lost),
    (Rule::Orphans, &[], MERGING, Fault::Lost),
    (Rule::EveryReplica, &[], REPLICAS, Fault::Vain),
    (Rule::MissingStops, &[], REPLICAS, Fault::Lost),
    (Rule::Everywhere, &[], REPLICAS, Fault::Vain),
    (Rule::LeaseLast, &[], REPLICAS, Fault::Vain),
    (Rule::Gone, &[], FORGOTTEN, Fault::Lost),
    (Rule::InTime, &[], AGE_OF_COPIES, Fault::Lost),
    (Rule::InTimeLast, &[], AGE_OF_COPIES, Fault::Lost),
    (Rule::LastCheck, &[Rule::LookBack], WRITERS, Fault::Vain),
    (Rule::Trust, &[], CLAIMS_TO_WRITERS, Fault::Lost),
    (Rule::LoadAgain, &[], REWRITTEN, Fault::FalseAlarm),
    (Rule::LoadOften, &[], REWRITTEN, Fault::FalseAlarm),
];

#[test]
fn every_rule_left_out_loses_something() {
    for (rule, with, scenario, fault) in COUNTEREXAMPLES {
        let left_out = [&[rule], with].concat();
        let found = explore(scenario, &left_out);
        println!("\nwithout {left_out:?}, after {} states:\n  {}", found.states, found.schedule.join("\n  "));
        assert_eq!(found.fault, Some(fault), "{left_out:?}");
    }
    let is_tried = |rule: &Rule| COUNTEREXAMPLES.iter().any(|(tried, ..)| tried == rule);
    assert_eq!(Rule::ALL.iter().find(|rule| !is_tried(rule)), None, "a rule without a counterexample");
}

/// What would catch the same when a rule is left out is not there in vain: each is enough by itself.
#[test]
fn what_backs_a_rule_up_is_enough_without_it() {
    for (rule, with, scenario, _) in COUNTEREXAMPLES {
        if matches!(rule, Rule::ListsFirst | Rule::LastCheck) {
            assert_safe(&explore(scenario, &[rule]));
            assert!(!with.is_empty());
        }
    }
}
