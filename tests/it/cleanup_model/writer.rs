//! A writer: it needs the chunk, takes it for stored where a pack has it that may be relied on, and stores it otherwise.
//!
//! It can open no pack and no snapshot: lists, index and listings are all it goes by, so a host that can only write does
//! the same as one that can read.

use super::search::Steps;
use super::world::{END, RUBBISH, Rule, Set, State, With, World, each, stored_by, writer_bit};

const LEASE: u8 = 0;
const START: u8 = 1;
const STARTED: u8 = 2;
const CHECK: u8 = 3;
const CHECKED: u8 = 4;
const PUT: u8 = 5;
const LOOK: u8 = 6;
const LEAVE: u8 = 7;

const NAMES: [&str; 2] = ["W1", "W2"];

/// Takes a step: what is done, with which pack, and what it changes.
type Go<'a> = &'a mut dyn FnMut(&'static str, Set, &dyn Fn(&mut State));

/// What lists say to who reads those of the cleaners in `of`.
struct Lists {
    doomed: Set,
    deleting: Set,
    given_up: Set,
    /// The number up to which none is missing.
    whole: u8,
}

impl Lists {
    fn of(world: &World, state: &State, of: Set) -> Self {
        let mut lists = Self { doomed: 0, deleting: 0, given_up: 0, whole: state.newest };
        for (i, cleaner) in state.cleaners.iter().enumerate() {
            if of & 1 << i != 0 {
                lists.doomed |= cleaner.dooms();
                lists.deleting |= if cleaner.is_settled { 0 } else { cleaner.deleting };
                lists.given_up |= cleaner.given_up;
            } else if cleaner.first != 0 && (world.keep(Rule::Chain) || of == 0) {
                lists.whole = lists.whole.min(cleaner.first - 1);
            }
        }
        lists
    }

    /// The number up to which one that relies on `pack` honours those of them that were read.
    fn honoured_by(&self, state: &State, pack: Set, of: Set) -> u8 {
        let read = state.cleaners.iter().enumerate().filter(|(i, _)| of & 1 << i != 0);
        let named = read.filter(|(_, cleaner)| (cleaner.doomed | cleaner.deleting) & pack != 0);
        named.fold(self.whole, |honoured, (_, cleaner)| honoured.min(cleaner.first - 1))
    }
}

pub fn steps(world: &World, state: &State, i: usize, steps: &mut Steps<'_>) {
    let (writer, me) = (state.writers[i], writer_bit(i));
    let mut go = |what: &'static str, with: Set, change: &dyn Fn(&mut State)| {
        let mut next = *state;
        change(&mut next);
        let with = if with == 0 { With::Nothing } else { With::Packs(with) };
        steps.add(NAMES[i], what, with, next);
    };
    let at = |state: &mut State, at: u8| state.writers[i].at = at;
    let fail = |state: &mut State| {
        state.writers[i].at = END;
        state.remove_lease(me);
    };
    // All lists that are somewhere, and what may be seen of them.
    let mut lists_seen = Vec::new();
    let having = |replica: u8| -> Set {
        let lists = state.cleaners.iter().enumerate();
        lists.filter(|(_, it)| it.first != 0 && it.place & 1 << replica != 0).fold(0, |of, (i, _)| of | 1 << i)
    };
    if matches!(writer.at, START..=CHECKED | LOOK) {
        world.listings([having(0), having(1)], true, &mut |of| lists_seen.push(of));
    }
    let there = world.everywhere(state.packs) & state.segments & if world.keep(Rule::Trust) { !RUBBISH } else { 0xff };
    let choose = |usable: Set, honoured: u8, go: Go<'_>| {
        let then = if world.keep(Rule::LastCheck) { CHECK } else { PUT };
        for pack in each(usable) {
            go("relies on", pack, &|next| {
                next.writers[i].pack = pack;
                next.writers[i].honoured = honoured;
                at(next, then);
            });
        }
        if usable == 0 {
            go("stores the chunk again in", stored_by(i), &|next| {
                next.put_everywhere(world, stored_by(i));
                next.writers[i].pack = stored_by(i);
                next.writers[i].honoured = honoured;
                at(next, then);
            });
        }
    };
    let judge = |of: Set, then: u8, go: Go<'_>| {
        let lists = Lists::of(world, state, of);
        let what = match (lists.given_up & me != 0, lists.deleting & writer.pack != 0) {
            (true, _) => return go("finds itself given up, makes no snapshot", 0, &fail),
            (_, true) => return go("reads that its pack is being deleted, begins anew:", writer.pack, &fail),
            _ => "checks the lists",
        };
        let honoured = lists.honoured_by(state, writer.pack, of);
        go(what, 0, &|next| {
            next.writers[i].honoured = honoured;
            at(next, then);
        });
    };
    match writer.at {
        LEASE => {
            for replica in 0..world.replicas() {
                if state.leases[replica] & me == 0 {
                    go("puts its lease", 0, &|next| {
                        next.leases[replica] |= me;
                        let is_done = world.everywhere(next.leases) & me != 0 || !world.keep(Rule::Everywhere);
                        at(next, if is_done { START } else { LEASE });
                    });
                }
            }
        }
        START if world.keep(Rule::ListsFirst) => {
            for of in lists_seen {
                let lists = Lists::of(world, state, of);
                go("reads the lists", 0, &|next| {
                    next.writers[i].read = lists.doomed;
                    next.writers[i].honoured = lists.whole;
                    at(next, STARTED);
                });
            }
        }
        START => go("lists the packs", 0, &|next| {
            next.writers[i].read = there;
            at(next, STARTED);
        }),
        STARTED if world.keep(Rule::ListsFirst) => choose(there & !writer.read, writer.honoured, &mut go),
        STARTED => {
            for of in lists_seen {
                let lists = Lists::of(world, state, of);
                choose(writer.read & !lists.doomed, lists.whole, &mut go);
            }
        }
        CHECK | CHECKED if (writer.at == CHECK) == world.keep(Rule::ListsFirst) => {
            for of in lists_seen {
                judge(of, writer.at + 1, &mut go);
            }
        }
        CHECK | CHECKED if there & writer.pack == 0 => go("misses its pack, begins anew:", writer.pack, &fail),
        CHECK | CHECKED => go("checks that its pack is there:", writer.pack, &|next| at(next, writer.at + 1)),
        PUT => {
            for replica in 0..world.replicas() {
                if state.snapshots[replica] & me == 0 {
                    go("puts its snapshot", 0, &|next| {
                        next.snapshots[replica] |= me;
                        let is_done = world.everywhere(next.snapshots) & me != 0;
                        at(next, if is_done { LOOK } else { PUT });
                    });
                }
            }
            let is_begun = (state.snapshots[0] | state.snapshots[1]) & me != 0;
            if is_begun && !world.keep(Rule::LeaseLast) && (state.leases[0] | state.leases[1]) & me != 0 {
                go("removes its lease, though not every replica has the snapshot", 0, &|next| next.remove_lease(me));
            }
            if world.has_late_requests {
                go("is told that putting its snapshot failed, while it is on its way", 0, &|next| {
                    next.late |= me;
                    at(next, END);
                    if !world.keep(Rule::LeaseLast) {
                        next.remove_lease(me);
                    }
                });
            }
        }
        LOOK => {
            let looks = if world.keep(Rule::LookBack) { lists_seen } else { vec![0] };
            for of in looks {
                let is_given_up = Lists::of(world, state, of).given_up & me != 0;
                let what = if is_given_up { "finds itself given up, and says so" } else { "says that it is done" };
                go(what, 0, &|next| {
                    next.writers[i].said = !is_given_up;
                    at(next, LEAVE);
                });
            }
        }
        LEAVE => go("removes its lease", 0, &fail),
        _ => {}
    }
    if state.late & me != 0 {
        go("(its snapshot arrives)", 0, &|next| {
            next.late &= !me;
            (0..world.replicas()).for_each(|replica| next.snapshots[replica] |= me);
        });
    }
    let has_left = writer.at == END && writer.pack != 0 && (state.leases[0] | state.leases[1]) & me == 0;
    if world.has_late_requests && has_left && !writer.renewed {
        go("(a renewal of its lease arrives)", 0, &|next| {
            (0..world.replicas()).for_each(|replica| next.leases[replica] |= me);
            next.writers[i].renewed = true;
        });
    }
}
