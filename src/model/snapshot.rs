//! Snapshots: what one completed run stored, from where, when, and the root of its tree.

use std::fmt;

use crate::model::anomaly::AnomalyKind;
use crate::model::author::Author;
use crate::model::hold::{Forgotten, Hold};
use crate::model::id::{ChunkId, DomainEpoch, SessionId, parse_hex, write_hex};
use crate::model::path::EntryPath;
use crate::model::time::Timestamp;

/// Names a snapshot: the second of its start and eight random bytes.
///
/// Object names carry both, so a listing is in order of time, to the second. Of one second chance decides the order, unless the later
/// run knew of the earlier snapshot. People see and type the random part only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// Start of the run, in whole seconds.
    seconds: i64,
    /// The part that makes the name unique.
    random: [u8; 8],
}

impl SnapshotId {
    /// Makes the id of a run that started `at`.
    pub fn new(at: Timestamp, random: [u8; 8]) -> Self {
        Self { seconds: at.seconds, random }
    }

    /// Makes the id of a run that started `at` and knows `others`: behind those of the same second, while there is room for chance.
    pub fn behind(others: &[SnapshotId], at: Timestamp, random: [u8; 8]) -> Self {
        /// Values that must be left to choose from, so that two runs at once do not choose the same.
        const ROOM: u64 = 1 << 48;
        let latest = others.iter().filter(|id| id.seconds == at.seconds).max();
        let room = latest.map_or(0, |latest| u64::MAX - u64::from_be_bytes(latest.random));
        if room < ROOM {
            return Self::new(at, random);
        }
        Self::new(at, (u64::MAX - u64::from_be_bytes(random) % room).to_be_bytes())
    }

    /// Returns the start of the run to the second, as the name tells it.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_seconds(self.seconds)
    }

    /// Returns the name below `snapshots/`: `20261124T021500Z-3f9c21d0a1b2c3d4`.
    pub fn object_name(&self) -> String {
        format!("{}-{self}", self.time().compact_utc())
    }

    /// Reads a name below `snapshots/`.
    pub fn from_object_name(name: &str) -> Option<Self> {
        let (time, random) = name.split_once('-')?;
        Some(Self { seconds: Timestamp::parse_compact_utc(time)?.seconds, random: parse_hex(random)? })
    }

    /// Returns the first eight hexadecimal digits, as tables show them.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }

    /// Returns 16 bytes that stand for this id in key derivation: seconds (big-endian) and the random part.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&self.random);
        bytes
    }

    /// Reads what [`SnapshotId::to_bytes`] made.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (seconds, random) = bytes.split_first_chunk().expect("16 bytes");
        Self { seconds: i64::from_be_bytes(*seconds), random: random.try_into().expect("8 bytes") }
    }
}

impl fmt::Display for SnapshotId {
    /// Writes the random part, which is what people type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.random, f)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({})", self.object_name())
    }
}

/// The manifest of one completed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// The session that wrote it.
    pub session: SessionId,
    /// Who wrote it.
    pub author: Author,
    /// Why it does not count, if it does not: what its author may do is not for itself to say.
    pub foreign: Option<Foreign>,
    /// That it was forgotten, if it was: it is left out of lists, and can be brought back until a clean-up removes it.
    pub forgotten: Option<Forgotten>,
    /// That it is held, if it is or was until some time.
    pub held: Option<Hold>,
    /// The domain its chunks are in, and the epoch of its keys.
    pub at: DomainEpoch,
    /// When the run started.
    pub started: Timestamp,
    /// When everything but this manifest was stored.
    pub finished: Timestamp,
    /// Host the data came from.
    pub host: String,
    /// Name of the user that ran the backup.
    pub user: String,
    /// The job it belongs to, empty when none was named.
    pub job: String,
    /// Labels.
    pub tags: Vec<String>,
    /// What was asked for: absolute paths, or stream names.
    pub sources: Vec<Vec<u8>>,
    /// Version of the program that wrote it.
    pub program: String,
    /// The snapshot it was compared with to find unchanged files.
    pub parent: Option<SnapshotId>,
    /// The tree.
    pub root: TreeRoot,
    /// Counts of the run.
    pub counts: SnapshotCounts,
    /// Streams that were asked for and failed, in a run that was told to keep the others.
    pub missing: Vec<MissingStream>,
    /// What its run found odd about it, and nobody has accepted.
    pub anomalies: Vec<Anomaly>,
    /// Where it stands in its sequence.
    pub position: Position,
    /// The number of the highest list of cleaning up that its run honoured at its last check.
    pub honoured: Option<u64>,
    /// Other epochs of its domain under whose keys something lies that it needs.
    pub other_epochs: Vec<u32>,
    /// SHA-256 of its object; none before it is sealed.
    pub digest: Option<[u8; 32]>,
}

/// Where a snapshot stands in its sequence: what one author made of one series, run after run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Its number, from 0.
    pub number: u64,
    /// SHA-256 of the object of the one before it; none of the first.
    pub before: Option<[u8; 32]>,
}

impl Position {
    /// Returns the one with the higher number; of two with the same, this one.
    pub fn later_of(self, other: Self) -> Self {
        if other.number > self.number { other } else { self }
    }
}

/// Why a snapshot does not count: it is never the latest, a parent, kept or needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Its author was thrown out.
    Revoked,
    /// Its author may not write to its domain and epoch.
    OtherDomain,
    /// Its author may not state its host.
    OtherHost,
    /// A clean-up found another object under its name.
    Exchanged,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::Revoked => "by a writer whose key was revoked",
            Foreign::OtherDomain => "by a writer that may not write to its domain",
            Foreign::OtherHost => "by a writer that may not back up this host",
            Foreign::Exchanged => "not the one that was there under its name before",
        })
    }
}

impl Snapshot {
    /// Returns one that says nothing but what its object's name, header and author block say, and whose times and tree are empty.
    pub fn blank(id: SnapshotId, session: SessionId, at: DomainEpoch, author: Author) -> Self {
        Self {
            id,
            session,
            author,
            foreign: None,
            forgotten: None,
            held: None,
            at,
            started: Timestamp::default(),
            finished: Timestamp::default(),
            host: String::new(),
            user: String::new(),
            job: String::new(),
            tags: Vec::new(),
            sources: Vec::new(),
            program: String::new(),
            parent: None,
            root: TreeRoot { id: ChunkId([0; 32]), depth: 0 },
            counts: SnapshotCounts::default(),
            missing: Vec::new(),
            anomalies: Vec::new(),
            position: Position::default(),
            honoured: None,
            other_epochs: Vec::new(),
            digest: None,
        }
    }

    /// Tells whether everything that was asked for is in it. One that is not complete never counts as the latest, nor as
    /// the one that a retention policy keeps.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Tells whether it was flagged when it was made. It is restored like any other, may be the latest, and pushes out none.
    pub fn is_suspicious(&self) -> bool {
        !self.anomalies.is_empty()
    }

    /// Tells whether an entry lies at or below something that was asked for. The directories on the way there are in the
    /// tree too, but what lies beside is not.
    pub fn backed_up(&self, path: &EntryPath) -> bool {
        self.sources.iter().any(|source| {
            let mut names: Vec<&[u8]> = Vec::new();
            for name in source.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
                match name {
                    b".." => drop(names.pop()),
                    name => names.push(name),
                }
            }
            let mut components = path.components();
            names.iter().all(|name| components.next() == Some(*name))
        })
    }
}

/// A stream that is not in a snapshot although it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingStream {
    /// The path it would have had, or the database when that was not known.
    pub name: String,
    /// Why it failed.
    pub why: String,
}

/// Something odd about a root or a stream, for which a snapshot is flagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// What.
    pub kind: AnomalyKind,
    /// The root, or the stream's path.
    pub subject: String,
    /// What was noticed, with numbers.
    pub why: String,
    /// The earlier snapshot that was flagged for it first, if it was noticed before.
    pub since: Option<SnapshotId>,
}

impl Anomaly {
    /// Says what was noticed, and when it was first where that was before.
    pub fn told(&self) -> String {
        match self.since {
            None => self.why.clone(),
            Some(since) => {
                format!("{} (since {}, snapshot {})", self.why, since.time().local_minute(), since.short())
            }
        }
    }
}

/// The top of a snapshot's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The top node.
    pub id: ChunkId,
    /// Levels of nodes: 1 when the top node holds the entries.
    pub depth: u8,
}

/// What a run counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotCounts {
    /// Regular files in the tree.
    pub files: u64,
    /// Directories in the tree.
    pub directories: u64,
    /// Streams in the tree.
    pub streams: u64,
    /// Symlinks and special files in the tree.
    pub others: u64,
    /// Bytes of content in the tree.
    pub bytes: u64,
    /// Bytes of content that no earlier run had stored.
    pub new_bytes: u64,
    /// Bytes that this run added to the repository.
    pub stored_bytes: u64,
    /// Source entries that could not be read and are missing or kept incomplete.
    pub unreadable: u64,
}

impl SnapshotCounts {
    /// Returns the number of entries in the tree.
    pub fn entries(&self) -> u64 {
        // Whoever wrote a snapshot may have written any numbers.
        [self.directories, self.streams, self.others].into_iter().fold(self.files, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_sort_by_time_and_read_back() {
        let early = SnapshotId::new(Timestamp::from_seconds(1_795_485_300), [0xff; 8]);
        let late = SnapshotId::new(Timestamp::from_seconds(1_795_485_301), [0x00; 8]);
        assert!(early.object_name() < late.object_name());
        assert_eq!(SnapshotId::from_object_name(&early.object_name()), Some(early));
        assert_eq!(SnapshotId::from_object_name("latest"), None);
        assert_eq!(early.to_string(), "ffffffffffffffff");
    }

    #[test]
    fn of_one_second_those_come_later_that_knew_of_the_others() {
        let (at, next) = (Timestamp::from_seconds(1_795_485_300), Timestamp::from_seconds(1_795_485_301));
        let random = |seed: u64| (seed ^ 0x9e37_79b9).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let mut ids = vec![SnapshotId::new(at, random(0)), SnapshotId::new(next, [0xff; 8])];
        for seed in 1..6 {
            ids.push(SnapshotId::behind(&ids, at, random(seed)));
        }
        assert!(ids[2..].is_sorted_by(|a, b| a < b) && ids[0] < ids[2] && ids[6] < ids[1], "{ids:?}");
        // The ends of what may be chosen, and no room.
        let of = |latest: u64, random: u64| {
            let latest = SnapshotId::new(at, latest.to_be_bytes());
            u64::from_be_bytes(SnapshotId::behind(&[latest], at, random.to_be_bytes()).random)
        };
        assert_eq!((of(1 << 63, 0), of(1 << 63, (1 << 63) - 2)), (u64::MAX, (1 << 63) + 1));
        assert_eq!((of(u64::MAX - (1 << 48), 1 << 48), of(u64::MAX - (1 << 48) + 1, 7)), (u64::MAX, 7));
    }
}
