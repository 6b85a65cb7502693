//! Three small worlds beside the large one, each with every order of steps of those who are in it: removing what was forgotten, telling
//! lists again, and packs that no segment names. Any of them may be paused for good behind each step. Left out, each rule has its
//! schedule; one that another one backs up, together with that.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

/// A step that is possible: what is done, and what is then.
type Step<S> = (&'static str, S);

/// Returns the step that changes `state` so.
fn step<S: Copy>(state: &S, what: &'static str, change: &dyn Fn(&mut S)) -> Step<S> {
    let mut then = *state;
    change(&mut then);
    (what, then)
}

/// Looks at every state that can be reached; returns how many there are, or the shortest way to one that must never be.
fn search<S: Copy + Eq + Hash + Debug>(
    start: S,
    steps: impl Fn(&S) -> Vec<Step<S>>,
    is_fault: impl Fn(&S) -> bool,
) -> Result<usize, Vec<&'static str>> {
    let mut came_from: HashMap<S, Option<(&'static str, S)>> = HashMap::from([(start, None)]);
    let mut next = VecDeque::from([start]);
    while let Some(state) = next.pop_front() {
        if is_fault(&state) {
            let (mut way, mut at) = (Vec::new(), state);
            while let Some((what, before)) = came_from[&at] {
                way.push(what);
                at = before;
            }
            way.reverse();
            return Err(way);
        }
        for (what, then) in steps(&state) {
            came_from.entry(then).or_insert_with(|| {
                next.push_back(then);
                Some((what, state))
            });
        }
    }
    Ok(came_from.len())
}

/// Searches with all rules, and with each of `cases` left out: all must be safe, each case must lose something, and of several that are
/// left out together each is enough.
fn assert_each_is_needed<R: Copy + PartialEq + Debug>(
    search: impl Fn(&[R]) -> Result<usize, Vec<&'static str>>,
    cases: &[&[R]],
) {
    let states = search(&[]).unwrap_or_else(|way| panic!("with all rules: {}", way.join("\n")));
    println!("{states} states");
    for left_out in cases {
        let way = search(left_out).expect_err("a rule without a counterexample");
        println!("\nwithout {left_out:?}:\n  {}", way.join("\n  "));
        for kept in left_out.iter().filter(|_| left_out.len() > 1) {
            let others: Vec<R> = left_out.iter().copied().filter(|rule| rule != kept).collect();
            search(&others).unwrap_or_else(|way| panic!("{kept:?} is not enough: {}", way.join("\n")));
        }
    }
}

mod removing {
    //! C1 removes S, which is forgotten; U brings it back; C2 tells lists again.

    use super::{Step, assert_each_is_needed, search, step};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Rule {
        /// Records are read once more when the list is durable.
        AskAgain,
        /// Whoever brings a snapshot back reads lists behind its record.
        ListsAfter,
        /// Only who put a list of removed snapshots takes it back, removes them, or tells it again, until it is settled.
        OnlyOwn,
        /// A list that was taken back stays named when it is told again that it was.
        NamesStay,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    struct State {
        is_brought_back: bool,
        /// The list of C1 that names S is there.
        has_list: bool,
        /// It was taken back by another one.
        is_taken_back: bool,
        /// The list of C2 names S.
        is_told_again: bool,
        is_object_gone: bool,
        /// U said that S is back.
        said: bool,
        cleaner: u8,
        user: u8,
        other: u8,
        /// What U read of lists before its record, where it does not read them afterwards.
        read_gone: bool,
        /// An away replica showed the list of C1 again.
        is_shown_again: bool,
        /// The list that takes that of C1 back was told again without its name.
        is_forgotten_taken_back: bool,
    }

    impl State {
        fn is_removed(&self) -> bool {
            let counts = self.has_list && (!self.is_taken_back || self.is_forgotten_taken_back && self.is_shown_again);
            counts || self.is_told_again
        }
    }

    const END: u8 = 9;

    fn steps(left_out: &[Rule], state: &State) -> Vec<Step<State>> {
        let keep = |rule| !left_out.contains(&rule);
        let mut steps = Vec::new();
        let mut go = |what, change: &dyn Fn(&mut State)| steps.push(step(state, what, change));
        match state.cleaner {
            0 if !state.is_brought_back => go("C1: reads that S is forgotten", &|s| s.cleaner = 1),
            1 => go("C1: puts a list that names S", &|s| {
                (s.has_list, s.cleaner) = (true, if keep(Rule::AskAgain) { 2 } else { 4 });
            }),
            2 if state.is_brought_back => go("C1: reads that S was brought back", &|s| s.cleaner = 3),
            2 => go("C1: reads that S is still forgotten", &|s| s.cleaner = 4),
            3 => go("C1: takes its list back", &|s| (s.is_taken_back, s.cleaner) = (true, END)),
            4 => go("C1: removes S", &|s| (s.is_object_gone, s.cleaner) = (true, END)),
            _ => {}
        }
        match state.user {
            0 if keep(Rule::ListsAfter) => {
                go("U: puts a record that brings S back", &|s| (s.is_brought_back, s.user) = (true, 2))
            }
            0 => go("U: reads lists", &|s| (s.read_gone, s.user) = (s.is_removed(), 1)),
            1 if state.read_gone => go("U: says that S is gone", &|s| s.user = END),
            1 => go("U: puts a record that brings S back, and says that it is", &|s| {
                (s.is_brought_back, s.said, s.user) = (true, true, END);
            }),
            2 if state.is_removed() => go("U: reads lists, says that S is gone, tries later", &|s| s.user = 3),
            2 => go("U: reads lists, says that S is back", &|s| (s.said, s.user) = (true, END)),
            3 if !state.is_removed() => {
                go("U: reads lists again, says that S is back", &|s| (s.said, s.user) = (true, END))
            }
            _ => {}
        }
        let is_settled = state.cleaner == END;
        match state.other {
            0 if state.has_list && !state.is_taken_back && (is_settled || !keep(Rule::OnlyOwn)) => {
                go("C2: reads the list of C1", &|s| s.other = 1);
            }
            0 if state.is_taken_back && !keep(Rule::NamesStay) => {
                go("C2: tells again that nothing is removed, without naming the list of C1", &|s| {
                    (s.is_forgotten_taken_back, s.other) = (true, END);
                });
            }
            1 => go("C2: tells the list of C1 again", &|s| (s.is_told_again, s.other) = (true, END)),
            _ => {}
        }
        if state.is_taken_back && !state.is_shown_again {
            go("(a replica that was away shows the list of C1)", &|s| s.is_shown_again = true);
        }
        steps
    }

    #[test]
    fn what_was_brought_back_is_not_removed() {
        let find = |left_out: &[Rule]| {
            let is_fault = |state: &State| {
                let is_undecided = matches!(state.cleaner, 2 | 3) && !state.is_told_again;
                state.said && (state.is_object_gone || state.is_removed() && !is_undecided)
            };
            search(State::default(), |state| steps(left_out, state), is_fault)
        };
        let cases: [&[Rule]; 4] = [&[Rule::AskAgain], &[Rule::ListsAfter], &[Rule::OnlyOwn], &[Rule::NamesStay]];
        assert_each_is_needed(find, &cases);
    }
}

mod telling_again {
    //! A list accounts for S, whose session C1 gives up once more; C2 tells that list again, and removes it; R reads lists.

    use super::{Step, assert_each_is_needed, search, step};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Rule {
        /// The last list accounts for all snapshots of the sessions that it gives up.
        AllOfGivenUp,
        /// Who finds that a list is listed and not there lists again.
        ListAgain,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    struct State {
        cleaner: u8,
        other: u8,
        reader: u8,
        /// C1 had read the list of C2, or C2 that of C1.
        is_one_behind: bool,
        has_last: bool,
        has_again: bool,
        /// The first list is not there any more.
        is_removed: bool,
        /// R has listed that of C2.
        is_listed: bool,
    }

    const END: u8 = 9;
    /// R read neither of them.
    const IGNORANT: u8 = 10;

    fn steps(left_out: &[Rule], state: &State) -> Vec<Step<State>> {
        let mut steps = Vec::new();
        let mut go = |what, change: &dyn Fn(&mut State)| steps.push(step(state, what, change));
        match state.cleaner {
            0 => go("C1: reads lists, finds S, gives its session up", &|s| {
                (s.is_one_behind, s.cleaner) = (s.is_one_behind || s.has_again, 1);
            }),
            1 => go("C1: puts its last list", &|s| (s.has_last, s.cleaner) = (true, END)),
            _ => {}
        }
        match state.other {
            0 => go("C2: reads lists, walks S", &|s| {
                (s.is_one_behind, s.other) = (s.is_one_behind || s.has_last, 1);
            }),
            1 => go("C2: puts a list that tells the first one again", &|s| (s.has_again, s.other) = (true, 2)),
            2 => go("C2: removes the first list", &|s| (s.is_removed, s.other) = (true, END)),
            _ => {}
        }
        match state.reader {
            0 => go("R: lists lists", &|s| (s.is_listed, s.reader) = (s.has_again, 1)),
            1 if !state.is_removed || state.is_listed => go("R: reads what it listed", &|s| s.reader = END),
            1 if left_out.contains(&Rule::ListAgain) => go("R: does not find what it listed", &|s| s.reader = IGNORANT),
            1 => go("R: does not find what it listed, and lists again", &|s| s.is_listed = s.has_again),
            _ => {}
        }
        steps
    }

    #[test]
    fn what_was_accounted_for_stays() {
        let find = |left_out: &[Rule]| {
            // The first list counts until it is told again; what tells it again counts if one of the two had been read by the other.
            let is_accounted =
                |state: &State| !left_out.contains(&Rule::AllOfGivenUp) || !state.has_again || state.is_one_behind;
            let is_fault = |state: &State| state.has_last && !is_accounted(state) || state.reader == IGNORANT;
            search(State::default(), |state| steps(left_out, state), is_fault)
        };
        assert_each_is_needed(find, &[&[Rule::AllOfGivenUp], &[Rule::ListAgain]]);
    }
}

mod orphans {
    //! C2 rewrites K, which an old snapshot needs, into N; C1 looks for packs that no segment names.

    use super::{Step, assert_each_is_needed, search, step};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Rule {
        /// Leases are listed behind packs: whose pack is listed has a lease, or has named it.
        Leases,
        /// Segments are listed once more behind the leases.
        SegmentsAgain,
        /// At the last look, what lies in packs that are gone is looked after as well.
        LastLook,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    struct State {
        has_k: bool,
        has_n: bool,
        /// A segment names N.
        is_named: bool,
        has_lease: bool,
        /// C1 dooms N, C2 dooms K.
        dooms: [bool; 2],
        one: u8,
        other: u8,
        /// What C1 knows: that N is named, that it is there, that its session runs.
        knows: [bool; 3],
    }

    const START: State = State {
        has_k: true,
        has_n: false,
        is_named: false,
        has_lease: false,
        dooms: [false; 2],
        one: 0,
        other: 0,
        knows: [false; 3],
    };
    const END: u8 = 9;

    fn steps(left_out: &[Rule], state: &State) -> Vec<Step<State>> {
        let keep = |rule| !left_out.contains(&rule);
        let mut steps = Vec::new();
        let mut go = |what, change: &dyn Fn(&mut State)| steps.push(step(state, what, change));
        match state.one {
            // Where K is gone it is missed, and everything is looked at again.
            0 if state.has_k => go("C1: lists segments", &|s| (s.knows[0], s.one) = (s.is_named, 1)),
            1 if state.has_k => go("C1: lists packs", &|s| (s.knows[1], s.one) = (s.has_n, 2)),
            2 => go("C1: lists leases", &|s| (s.knows[2], s.one) = (s.has_lease && keep(Rule::Leases), 3)),
            3 if keep(Rule::SegmentsAgain) => {
                go("C1: lists segments again", &|s| (s.knows[0], s.one) = (s.knows[0] || s.is_named, 4))
            }
            3 => go("C1: goes by the segments that it listed", &|s| s.one = 4),
            4 if state.knows == [false, true, false] => {
                go("C1: takes N for an orphan, dooms it", &|s| (s.dooms[0], s.one) = (true, 5));
            }
            5 => {
                // A copy is one in a pack that is there and that nobody dooms.
                let is_safe = if state.has_k { !state.dooms[1] } else { !keep(Rule::LastLook) };
                let is_needed = if state.is_named || state.has_k { !is_safe } else { false };
                if is_needed {
                    go("C1: looks again, and takes its list back", &|s| (s.dooms[0], s.one) = (false, END));
                } else {
                    go("C1: looks again, and goes on", &|s| s.one = 6);
                }
            }
            6 => go("C1: deletes N", &|s| (s.has_n, s.one) = (false, END)),
            _ => {}
        }
        match state.other {
            0 => go("C2: puts its lease", &|s| (s.has_lease, s.other) = (true, 1)),
            1 => go("C2: rewrites K into N", &|s| (s.has_n, s.other) = (true, 2)),
            2 => go("C2: names N", &|s| (s.is_named, s.other) = (true, 3)),
            3 => go("C2: ends its lease", &|s| (s.has_lease, s.other) = (false, 4)),
            4 if !state.dooms[0] => go("C2: dooms K", &|s| (s.dooms[1], s.other) = (true, 5)),
            5 if state.dooms[0] || !state.has_n => {
                go("C2: looks again, and takes its list back", &|s| (s.dooms[1], s.other) = (false, END));
            }
            5 => go("C2: looks again, and goes on", &|s| s.other = 6),
            6 => go("C2: deletes K", &|s| (s.has_k, s.other) = (false, END)),
            _ => {}
        }
        steps
    }

    #[test]
    fn what_was_just_written_is_not_taken_for_an_orphan_and_lost() {
        let find = |left_out: &[Rule]| {
            let is_lost = |state: &State| !state.has_k && !state.has_n;
            search(START, |state| steps(left_out, state), is_lost)
        };
        assert_each_is_needed(find, &[&[Rule::SegmentsAgain, Rule::LastLook], &[Rule::Leases, Rule::LastLook]]);
    }
}
