//! What there is in the model: packs, leases, lists and snapshots in one or two places, and the rules that may be left out.

/// A set of packs, of writers or of snapshots, a bit each.
pub type Set = u8;

/// Packs that hold the chunk when everything begins.
pub const K: Set = 1;
pub const L: Set = 2;
/// What the two writers store, and what the two cleaners rewrite into.
const STORED: [Set; 2] = [4, 8];
const REWRITTEN: [Set; 2] = [16, 32];
/// A pack of rubbish, of which an index segment says that it holds the chunk.
pub const RUBBISH: Set = 64;
/// Stands for the index segment that a merge makes; it names the pack K.
pub const MERGED: Set = 128;
/// A snapshot that is there from the beginning. Those of the writers have the bits of their leases.
pub const OLD: Set = 1;
const WRITERS: [Set; 2] = [2, 4];

/// What a rule of `docs/format.md`, sections 13 to 15, demands; each can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Whatever a listing of leases shows that is made after the list is durable is waited for, whatever times it states.
    Observed,
    /// Leases are listed before snapshots.
    LeasesFirst,
    /// A snapshot is new when its name was not in the first listing.
    NewByName,
    /// Writers read lists before they list packs.
    ListsFirst,
    /// A session that is not waited for any longer is named in a list before snapshots are listed.
    GivenUpNamed,
    /// A writer looks once more, behind its snapshot, whether it was given up.
    LookBack,
    /// A snapshot that neither honoured a list that led to deletions, nor is accounted for, is walked before it is believed.
    Accounted,
    /// What a list accounts for counts against another one only when one of the two follows the other.
    Ordered,
    /// A cleaner accounts for a snapshot only when it honours every list in force or has a copy that none dooms.
    WalkFirst,
    /// What a writer states as honoured ends where a list is missing in the chain.
    Chain,
    /// Each chunk that is needed has a copy in a pack that no list dooms.
    Copies,
    /// Only packs that were read count as copies.
    ReadCopies,
    /// A pack that no segment names is opened, and a segment that went is looked for again.
    Orphans,
    /// Snapshots are those that any replica has.
    EveryReplica,
    /// A snapshot that is accounted for and not there stops everything.
    MissingStops,
    /// Leases and lists are put to every replica.
    Everywhere,
    /// A lease goes only once the snapshot is durable everywhere, and stays when that is not known.
    LeaseLast,
    /// What was removed is known from a list that names it as gone.
    Gone,
    /// A list is acted upon for a shorter time than it is honoured.
    InTime,
    /// Whether it is time is looked at behind the last list.
    InTimeLast,
    /// A writer checks right before its snapshot that its packs are there.
    LastCheck,
    /// A writer relies only on places named by those that it trusts.
    Trust,
    /// A reader that misses a pack loads the index again before it says that the chunk is lost.
    LoadAgain,
    /// It does so as long as the index names a place that it has not tried.
    LoadOften,
}

impl Rule {
    pub const ALL: [Rule; 24] = [
        Rule::Observed,
        Rule::LeasesFirst,
        Rule::NewByName,
        Rule::ListsFirst,
        Rule::GivenUpNamed,
        Rule::LookBack,
        Rule::Accounted,
        Rule::Ordered,
        Rule::WalkFirst,
        Rule::Chain,
        Rule::Copies,
        Rule::ReadCopies,
        Rule::Orphans,
        Rule::EveryReplica,
        Rule::MissingStops,
        Rule::Everywhere,
        Rule::LeaseLast,
        Rule::Gone,
        Rule::InTime,
        Rule::InTimeLast,
        Rule::LastCheck,
        Rule::Trust,
        Rule::LoadAgain,
        Rule::LoadOften,
    ];
}

/// The rules that are kept.
#[derive(Debug, Clone, Copy)]
pub struct Rules(u32);

impl Rules {
    pub const fn all_but(left_out: &[Rule]) -> Self {
        let (mut rules, mut i) = (u32::MAX, 0);
        while i < left_out.len() {
            rules &= !(1 << left_out[i] as u32);
            i += 1;
        }
        Self(rules)
    }

    pub fn keep(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u32 != 0
    }
}

/// What can happen besides pauses, crashes, and the interleaving of every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// One place whose listings are true.
    True,
    /// One place; its listings may lack any lease, snapshot or list, because they are old or because it lies.
    Old,
    /// Two places, both required; the listings of the second may lack anything.
    TwoOneLies,
}

/// Who is there, and in what place.
#[derive(Debug, Clone, Copy)]
pub struct World {
    pub rules: Rules,
    pub store: Store,
    /// The put of a snapshot may be told as failed and come later; the renewal of a lease may come behind its end.
    pub has_late_requests: bool,
    /// Lists grow old while somebody is paused.
    pub lists_age: bool,
    /// Cleaners forget the old snapshot.
    pub forgets: bool,
    /// Cleaners rewrite packs.
    pub rewrites: bool,
    /// The first cleaner merges index segments meanwhile.
    pub merges: bool,
}

impl World {
    pub fn keep(&self, rule: Rule) -> bool {
        self.rules.keep(rule)
    }

    pub fn replicas(&self) -> usize {
        if self.store == Store::TwoOneLies { 2 } else { 1 }
    }

    /// Puts `set` to every replica, in as many states as there are.
    fn all(&self, set: Set) -> [Set; 2] {
        if self.replicas() == 2 { [set; 2] } else { [set, 0] }
    }

    pub fn everywhere(&self, at: [Set; 2]) -> Set {
        if self.replicas() == 2 { at[0] & at[1] } else { at[0] }
    }

    /// Returns what listings may show; `of_every` takes together what all replicas list.
    pub fn listings(&self, at: [Set; 2], of_every: bool, see: &mut dyn FnMut(Set)) {
        match self.store {
            Store::True => see(at[0]),
            Store::Old => subsets(at[0], see),
            Store::TwoOneLies if of_every => subsets(at[1] & !at[0], &mut |second| see(at[0] | second)),
            Store::TwoOneLies => {
                see(at[0]);
                subsets(at[1], see);
            }
        }
    }
}

fn subsets(of: Set, see: &mut dyn FnMut(Set)) {
    let mut set = of;
    loop {
        see(set);
        if set == 0 {
            return;
        }
        set = (set - 1) & of;
    }
}

/// What a step is about, for people.
#[derive(Debug, Clone, Copy)]
pub enum With {
    Nothing,
    Packs(Set),
    Sessions(Set),
}

impl std::fmt::Display for With {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (set, names) = match *self {
            With::Nothing => return Ok(()),
            With::Packs(set) => (set, ["K", "L", "V1", "V2", "N1", "N2", "rubbish", "a merged segment"]),
            With::Sessions(set) => (set, ["the old one", "W1", "W2", "", "", "", "", ""]),
        };
        if set == 0 {
            return f.write_str(" none");
        }
        (0..8).filter(|bit| set & 1 << bit != 0).try_for_each(|bit| write!(f, " {}", names[bit]))
    }
}

/// Every bit of a set by itself.
pub fn each(set: Set) -> impl Iterator<Item = Set> {
    (0..8).map(|bit| 1 << bit).filter(move |one| set & one != 0)
}

/// Where a writer is; the numbers are those of `writer.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Writer {
    pub at: u8,
    /// What it read about packs: those doomed, or those listed.
    pub read: Set,
    /// The pack that it relies on.
    pub pack: Set,
    /// The number up to which it honours lists; its snapshot states it.
    pub honoured: u8,
    /// It said that it made a snapshot.
    pub said: bool,
    /// A renewal of its lease came late.
    pub renewed: bool,
}

/// Where a cleaner is, and its lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cleaner {
    pub at: u8,
    /// The pack that is to go.
    pub target: Set,
    /// Index segments that it listed.
    pub index: Set,
    /// Snapshots of its first listing.
    pub before: Set,
    /// Snapshots of its second listing.
    pub seen: Set,
    /// Sessions that it waits for.
    pub waiting: Set,
    /// The number of its first list; zero when there is none.
    pub first: u8,
    /// Packs of its first list, as long as that is in force.
    pub doomed: Set,
    pub given_up: Set,
    /// Packs of its last list, which are being deleted.
    pub deleting: Set,
    /// Snapshots that its last list accounts for, once it is there.
    pub accounts: Set,
    /// Cleaners whose last lists it had read before it listed snapshots.
    pub follows: u8,
    /// Its packs are gone, and later lists do not repeat them.
    pub is_settled: bool,
    /// 0: its first list may be acted upon, 1: not any more, 2: nor is it honoured.
    pub age: u8,
    /// The replicas that have its lists, a bit each.
    pub place: u8,
}

impl Cleaner {
    /// The packs that its lists doom for whoever reads them now.
    pub fn dooms(&self) -> Set {
        let first = if self.age < 2 { self.doomed } else { 0 };
        first | if self.is_settled { 0 } else { self.deleting }
    }

    fn is_in_force(&self) -> bool {
        self.dooms() != 0
    }
}

/// A reader that restores the old snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Reader {
    pub at: u8,
    pub index: Set,
    pub tried: Set,
    pub has_loaded_again: bool,
}

/// Everything, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    /// In each replica.
    pub packs: [Set; 2],
    pub leases: [Set; 2],
    pub snapshots: [Set; 2],
    /// Index segments, by the pack that they name.
    pub segments: Set,
    /// Snapshots that lists from before everything account for.
    pub accounted: Set,
    /// Snapshots that some list names as gone.
    pub gone: Set,
    /// Snapshots whose put is still on its way.
    pub late: Set,
    /// The number of the newest list.
    pub newest: u8,
    pub writers: [Writer; 2],
    pub cleaners: [Cleaner; 2],
    pub reader: Reader,
}

/// A process that has come to its end.
pub const END: u8 = 99;

impl State {
    /// Begins with packs, segments and snapshots in every replica, so many writers and cleaners, and no reader.
    pub fn new(world: &World, packs: Set, snapshots: Set, writers: usize, cleaners: usize) -> Self {
        let mut state = State {
            packs: world.all(packs),
            snapshots: world.all(snapshots),
            segments: packs,
            accounted: snapshots,
            ..State::default()
        };
        state.writers.iter_mut().skip(writers).for_each(|writer| writer.at = END);
        state.cleaners.iter_mut().skip(cleaners).for_each(|cleaner| cleaner.at = END);
        state.reader.at = END;
        state
    }

    pub fn put_everywhere(&mut self, world: &World, pack: Set) {
        self.packs.iter_mut().zip(world.all(pack)).for_each(|(packs, pack)| *packs |= pack);
        self.segments |= pack;
    }

    pub fn remove_lease(&mut self, sessions: Set) {
        self.leases.iter_mut().for_each(|leases| *leases &= !sessions);
    }

    /// What all lists in force doom, but for those of one cleaner.
    pub fn doomed_by_others(&self, but: usize) -> Set {
        let others = self.cleaners.iter().enumerate().filter(|(i, _)| *i != but);
        others.fold(0, |doomed, (_, cleaner)| doomed | cleaner.dooms())
    }

    /// The number up to which a snapshot honours lists.
    pub fn honoured(&self, snapshot: Set) -> u8 {
        let by_writer = WRITERS.iter().position(|bit| *bit == snapshot);
        by_writer.map_or(0, |writer| self.writers[writer].honoured)
    }

    /// Whether a snapshot honours every list in force but those of one cleaner.
    pub fn honours_others(&self, snapshot: Set, but: usize) -> bool {
        let others = self.cleaners.iter().enumerate().filter(|(i, cleaner)| *i != but && cleaner.is_in_force());
        others.into_iter().all(|(_, cleaner)| self.honoured(snapshot) >= cleaner.first)
    }

    /// Snapshots that any list accounts for.
    pub fn accounted(&self) -> Set {
        self.cleaners.iter().fold(self.accounted, |all, cleaner| all | cleaner.accounts)
    }

    /// Whether a snapshot is accounted for as far as the deletions of one cleaner go.
    fn is_accounted_against(&self, world: &World, snapshot: Set, deleter: usize) -> bool {
        let follows = |one: usize, other: usize| self.cleaners[one].follows & 1 << other != 0;
        let counts =
            |i: usize| i == deleter || !world.keep(Rule::Ordered) || follows(i, deleter) || follows(deleter, i);
        self.accounted & snapshot != 0 || (0..2).any(|i| self.cleaners[i].accounts & snapshot != 0 && counts(i))
    }

    /// Whether there is such a snapshot at all, by the lists.
    pub fn exists(&self, world: &World, snapshot: Set) -> bool {
        let gives_up = |i: &usize| self.cleaners[*i].deleting != 0 && self.cleaners[*i].given_up & snapshot != 0;
        let is_void = (0..2).filter(gives_up).any(|i| !self.is_accounted_against(world, snapshot, i));
        let is_gone = world.keep(Rule::Gone) && self.gone & snapshot != 0;
        !is_void && !is_gone
    }

    /// Whether a reader takes the snapshot for whole without having walked through it.
    pub fn is_believed(&self, world: &World, snapshot: Set) -> bool {
        let is_safe_from = |i: usize| {
            let cleaner = &self.cleaners[i];
            cleaner.deleting == 0
                || self.honoured(snapshot) >= cleaner.first
                || self.is_accounted_against(world, snapshot, i)
        };
        self.exists(world, snapshot) && (!world.keep(Rule::Accounted) || (0..2).all(is_safe_from))
    }

    /// Says what must never be, if this is such a state.
    pub fn fault(&self, world: &World) -> Option<Fault> {
        for at in 0..world.replicas() {
            let has_chunk = self.packs[at] & !RUBBISH != 0;
            if !has_chunk && each(self.snapshots[at]).any(|snapshot| self.is_believed(world, snapshot)) {
                return Some(Fault::Lost);
            }
        }
        for (writer, bit) in self.writers.iter().zip(WRITERS) {
            // A provider that hides everything can keep from a run what it must know; then walking tells.
            if writer.said && world.store != Store::Old {
                let has_chunk = self.packs.iter().take(world.replicas()).all(|packs| packs & !RUBBISH != 0);
                if !has_chunk || !self.exists(world, bit) {
                    return Some(Fault::Vain);
                }
            }
        }
        let is_there = self.packs[0] & self.segments & !RUBBISH != 0;
        (self.reader.at == super::reader::DAMAGED && is_there).then_some(Fault::FalseAlarm)
    }
}

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A snapshot that everybody believes lacks its chunk.
    Lost,
    /// A run said that it made a snapshot, and there is none, or its chunk is gone.
    Vain,
    /// A reader says that something is damaged, and nothing is.
    FalseAlarm,
}

pub fn writer_bit(writer: usize) -> Set {
    WRITERS[writer]
}

pub fn stored_by(writer: usize) -> Set {
    STORED[writer]
}

pub fn rewritten_by(cleaner: usize) -> Set {
    REWRITTEN[cleaner]
}
