//! A cleaner: it dooms one pack, waits, looks again, and deletes the pack or withdraws.

use super::search::Steps;
use super::world::{Cleaner, END, K, MERGED, OLD, RUBBISH, Rule, Set, State, With, World, each, rewritten_by};

const START: u8 = 0;
const DOOM: u8 = 1;
const LEASES: u8 = 2;
const SNAPSHOTS_TOO_EARLY: u8 = 3;
const WAIT: u8 = 4;
const SNAPSHOTS: u8 = 5;
const LAST_LIST: u8 = 6;
const IN_TIME: u8 = 7;
const DELETE: u8 = 8;
const FINISH: u8 = 9;
/// Lists the index, and then fetches what it listed.
pub const LIST_INDEX: u8 = 20;
const FETCH_INDEX: u8 = 21;
/// Merges index segments.
pub const MERGE: u8 = 30;
const REMOVE_MERGED: u8 = 31;

const NAMES: [&str; 2] = ["C1", "C2"];

/// What of a listing of snapshots is needed.
struct Needed {
    live: Set,
    /// One of them lacks its chunk: nothing may be deleted.
    is_damaged: bool,
}

fn needed(world: &World, state: &State, listed: Set) -> Needed {
    let live = each(listed).filter(|snapshot| state.exists(world, *snapshot)).fold(0, |all, one| all | one);
    let has_chunk = (state.packs[0] | state.packs[1]) & !RUBBISH != 0;
    Needed { live, is_damaged: live != 0 && !has_chunk }
}

/// Whether a snapshot is missing that a list accounts for and none names as gone.
fn misses(world: &World, state: &State, listed: Set) -> bool {
    world.keep(Rule::MissingStops) && state.accounted() & !state.gone & !listed != 0
}

pub fn steps(world: &World, state: &State, i: usize, steps: &mut Steps<'_>) {
    let cleaner = state.cleaners[i];
    let mut go = |what: &'static str, with: With, change: &dyn Fn(&mut State, &mut Cleaner)| {
        let (mut next, mut me) = (*state, cleaner);
        change(&mut next, &mut me);
        next.cleaners[i] = me;
        steps.add(NAMES[i], what, with, next);
    };
    let others_doom = state.doomed_by_others(i);
    let there = world.everywhere(state.packs);
    let is_copy = if world.keep(Rule::ReadCopies) { !RUBBISH } else { 0xff };
    match cleaner.at {
        MERGE => go("puts a merged segment", With::Nothing, &|next, me| {
            next.segments |= MERGED;
            me.at = REMOVE_MERGED;
        }),
        REMOVE_MERGED => go("removes the segment that it was made from", With::Nothing, &|next, me| {
            next.segments &= !K;
            me.at = END;
        }),
        LIST_INDEX => go("lists the index", With::Nothing, &|next, me| {
            me.index = next.segments;
            me.at = FETCH_INDEX;
        }),
        FETCH_INDEX if cleaner.index & !state.segments != 0 && world.keep(Rule::Orphans) => {
            go("does not find a segment, lists again", With::Nothing, &|_, me| me.at = LIST_INDEX);
        }
        FETCH_INDEX => go("reads the segments that are there", With::Nothing, &|next, me| {
            me.index &= next.segments;
            me.at = START;
        }),
        START => {
            let every = world.keep(Rule::EveryReplica);
            world.listings(state.snapshots, every, &mut |listed| {
                let needed = needed(world, state, listed);
                if misses(world, state, listed) || needed.is_damaged {
                    return;
                }
                if world.forgets && needed.live == OLD {
                    go("names the old snapshot as gone, and removes it", With::Nothing, &|next, _| {
                        next.gone |= OLD;
                        next.late |= if world.has_late_requests { OLD } else { 0 };
                        next.snapshots.iter_mut().for_each(|snapshots| *snapshots &= !OLD);
                    });
                }
                // K is named by its segment or by the merged one.
                let index = if world.merges { cleaner.index } else { state.segments };
                let named = if index & MERGED != 0 { index | K } else { index };
                let anywhere = (state.packs[0] | state.packs[1]) & !others_doom;
                let copies =
                    there & !others_doom & is_copy & (named | if world.keep(Rule::Orphans) { 0xff } else { 0 });
                let targets = match needed.live {
                    0 => anywhere,
                    _ if copies.count_ones() > 1 => copies,
                    _ if world.keep(Rule::Orphans) => 0,
                    _ => there & !named & !others_doom,
                };
                for target in each(targets) {
                    go("finds nothing that needs", With::Packs(target), &|_, me| {
                        (me.at, me.target, me.before) = (DOOM, target, needed.live);
                    });
                }
                if world.rewrites && needed.live != 0 && copies.count_ones() == 1 && copies & rewritten_by(i) == 0 {
                    go("writes the chunk anew into", With::Packs(rewritten_by(i)), &|next, _| {
                        next.put_everywhere(world, rewritten_by(i));
                    });
                }
            });
        }
        DOOM => {
            let places: &[u8] = if world.replicas() == 1 || world.keep(Rule::Everywhere) { &[3] } else { &[1, 2] };
            for place in places {
                go("puts a list that dooms", With::Packs(cleaner.target), &|next, me| {
                    next.newest += 1;
                    (me.first, me.doomed, me.place) = (next.newest, me.target, *place);
                    me.at = if world.keep(Rule::LeasesFirst) { LEASES } else { SNAPSHOTS_TOO_EARLY };
                });
            }
        }
        SNAPSHOTS_TOO_EARLY => world.listings(state.snapshots, true, &mut |listed| {
            go("lists the snapshots:", With::Sessions(listed), &|_, me| (me.at, me.seen) = (LEASES, listed));
        }),
        LEASES => {
            world.listings(state.leases, true, &mut |listed| {
                go("lists the leases:", With::Sessions(listed), &|_, me| (me.at, me.waiting) = (WAIT, listed));
            });
            if !world.keep(Rule::Observed) {
                go("lists the leases, which state later times", With::Nothing, &|_, me| {
                    (me.at, me.waiting) = (WAIT, 0)
                });
            }
        }
        WAIT => {
            let left = cleaner.waiting & (state.leases[0] | state.leases[1]);
            if left == 0 {
                go("sees that these sessions have ended", With::Nothing, &|_, me| (me.at, me.waiting) = (SNAPSHOTS, 0));
            } else {
                go("gives up", With::Sessions(left), &|_, me| {
                    (me.at, me.waiting) = (SNAPSHOTS, 0);
                    me.given_up = if world.keep(Rule::GivenUpNamed) { left } else { 0 };
                });
            }
        }
        SNAPSHOTS => {
            let mut look = |listed: Set| {
                if misses(world, state, listed) {
                    return;
                }
                let in_time_too_early = !world.keep(Rule::InTimeLast) && cleaner.age > 0;
                for overlooked in [0, listed & !cleaner.before] {
                    if overlooked != 0 && world.keep(Rule::NewByName) {
                        continue;
                    }
                    let needed = needed(world, state, listed & !overlooked);
                    if needed.is_damaged || in_time_too_early {
                        continue;
                    }
                    // Who took the pack for an orphan does not know that the chunk is in it.
                    let is_taken_for_lost = world.merges && !world.keep(Rule::Orphans);
                    let has_copy = there & !others_doom & !cleaner.target & is_copy != 0 || is_taken_for_lost;
                    let is_known = needed.live & !cleaner.before == 0;
                    let goes_on = needed.live == 0 || if world.keep(Rule::Copies) { has_copy } else { is_known };
                    let may_account =
                        |one: &Set| !world.keep(Rule::WalkFirst) || goes_on || state.honours_others(*one, i);
                    let accounted = each(needed.live).filter(may_account).fold(0, |all, one| all | one) | overlooked;
                    let what = match (goes_on, overlooked) {
                        (true, 0) => "lists the snapshots, goes on with",
                        (true, _) => "lists the snapshots, of which one is dated before, goes on with",
                        (false, _) => "lists the snapshots, withdraws",
                    };
                    let other = &state.cleaners[1 - i];
                    let follows = u8::from(other.deleting != 0 || other.accounts != 0) << (1 - i);
                    go(what, With::Packs(cleaner.target), &|_, me| {
                        me.follows = follows;
                        if goes_on {
                            (me.at, me.seen) = (LAST_LIST, accounted);
                        } else {
                            (me.at, me.doomed, me.accounts) = (END, 0, accounted);
                        }
                    });
                }
            };
            if world.keep(Rule::LeasesFirst) {
                world.listings(state.snapshots, world.keep(Rule::EveryReplica), &mut look);
            } else {
                look(cleaner.seen);
            }
        }
        LAST_LIST => go("puts its last list, with", With::Packs(cleaner.target), &|_, me| {
            (me.at, me.deleting, me.accounts) = (IN_TIME, me.target, me.seen);
        }),
        IN_TIME if cleaner.age > 0 && world.keep(Rule::InTime) && world.keep(Rule::InTimeLast) => {
            go("is too late, leaves it", With::Nothing, &|_, me| me.at = END);
        }
        IN_TIME => go("is in time", With::Nothing, &|_, me| me.at = DELETE),
        DELETE => {
            for replica in 0..world.replicas() {
                if state.packs[replica] & cleaner.target != 0 {
                    go("deletes", With::Packs(cleaner.target), &|next, me| {
                        next.packs[replica] &= !me.target;
                        let is_done = (next.packs[0] | next.packs[1]) & me.target == 0;
                        me.at = if is_done { FINISH } else { DELETE };
                    });
                }
            }
            if (state.packs[0] | state.packs[1]) & cleaner.target == 0 {
                go("finds it deleted", With::Packs(cleaner.target), &|_, me| me.at = FINISH);
            }
        }
        FINISH => go("ends; later lists do not repeat", With::Packs(cleaner.target), &|next, me| {
            next.segments &= !(me.target | if me.target == K { MERGED } else { 0 });
            next.remove_lease(me.given_up);
            (me.at, me.doomed, me.is_settled) = (END, 0, true);
        }),
        _ => {}
    }
    if world.lists_age && cleaner.first != 0 && cleaner.doomed != 0 && cleaner.age < 2 {
        let what = ["(its list is too old to act upon)", "(its list is too old to be honoured)"];
        go(what[usize::from(cleaner.age)], With::Nothing, &|_, me| me.age += 1);
    }
}
