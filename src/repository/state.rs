//! What this machine remembers of a repository and must not lose with the cache: the counters that a roll-back would lower, for
//! each sequence the newest snapshot that it made or saw, the newest record of retention, and the newest record of a run that it put.
//!
//! It lies in `<state>/<repository>` with access for the user alone; each file is one line, kept twice, so that no flipped bit
//! loses it. What it says only ever rises. Where it cannot be read nothing was ever seen; where it cannot be written it is for the
//! caller to tell. It holds names of hosts, jobs and sources, and no secret.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::model::anomaly::AnomalyKind;
use crate::model::author::Author;
use crate::model::cleanup::CleanupId;
use crate::model::forgetting::RetentionId;
use crate::model::id::{RepositoryId, hex, parse_hex, unhex};
use crate::model::key::ObjectKind;
use crate::model::run::RunId;
use crate::model::series::{Sequence, Series};
use crate::model::snapshot::{Anomaly, Position, Snapshot, SnapshotId};
use crate::repository::cache::digits;
use crate::repository::cache::record;
use crate::repository::cache::temporary::remove_left_behind;
use crate::repository::places::LocalPlaces;

/// Ends the names of files about sequences.
const SEQUENCE: &str = "sequence";
/// The file that a clean-up of this machine locks.
const CLEANING: &str = "cleanup.lock";
/// The file about the record of a run that was put last.
const RUN: &str = "newest.run";
/// Stands for what is empty.
const EMPTY: &str = "-";

/// Lists of cleaning up that this machine remembers until it is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftLists {
    /// Those that doom packs which are not being deleted yet.
    Dooming,
    /// Those that name removed snapshots whose objects may still be there.
    Removing,
    /// Those that name removed snapshots and with which it is done: nobody takes them back any more.
    Removed,
}

impl LeftLists {
    fn file(self) -> &'static str {
        match self {
            LeftLists::Dooming => "cleanups.left",
            LeftLists::Removing => "removals.left",
            LeftLists::Removed => "removals.done",
        }
    }
}

/// The newest snapshot of a sequence that this machine made or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The sequence.
    pub sequence: Sequence,
    /// The snapshot.
    pub id: SnapshotId,
    /// Its number.
    pub number: u64,
    /// SHA-256 of its object.
    pub digest: [u8; 32],
    /// Its labels.
    pub tags: Vec<String>,
    /// Whether everything that was asked for is in it.
    pub is_complete: bool,
    /// What is odd about it, and nobody has accepted.
    pub anomalies: Vec<Anomaly>,
}

impl Newest {
    /// Takes what is remembered of a snapshot that was stored or opened; `None` for one that is not sealed.
    pub fn of(snapshot: &Snapshot) -> Option<Self> {
        Some(Self {
            sequence: Sequence::of(snapshot),
            id: snapshot.id,
            number: snapshot.position.number,
            digest: snapshot.digest?,
            tags: snapshot.tags.clone(),
            is_complete: snapshot.is_complete(),
            anomalies: snapshot.anomalies.clone(),
        })
    }

    /// Returns where the next one stands.
    pub fn next(&self) -> Position {
        Position { number: self.number + 1, before: Some(self.digest) }
    }

    /// Tells whether it takes the place of another one of its sequence. A sequence that was begun anew has low numbers and later dates.
    fn replaces(&self, other: &Self) -> bool {
        self.number >= other.number || self.id.time() > other.id.time()
    }

    fn to_line(&self) -> String {
        let Series { host, job, sources } = &self.sequence.series;
        let anomalies: Vec<String> = self.anomalies.iter().flat_map(anomaly_texts).collect();
        let text = |bytes: &[u8]| if bytes.is_empty() { EMPTY.to_owned() } else { hex(bytes) };
        let list = |items: &mut dyn Iterator<Item = &[u8]>| {
            let items: Vec<String> = items.map(text).collect();
            if items.is_empty() { EMPTY.to_owned() + EMPTY } else { items.join(",") }
        };
        [
            self.number.to_string(),
            self.id.object_name(),
            hex(&self.digest),
            if self.is_complete { "complete" } else { "incomplete" }.to_owned(),
            hex(&self.sequence.author.to_bytes()),
            text(host.as_bytes()),
            text(job.as_bytes()),
            list(&mut sources.iter().map(Vec::as_slice)),
            list(&mut self.tags.iter().map(String::as_bytes)),
            list(&mut anomalies.iter().map(String::as_bytes)),
        ]
        .join(" ")
    }

    fn from_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, id, digest, complete, author, host, job, sources, tags, anomalies] = words[..] else {
            return None;
        };
        let bytes = |word: &str| if word == EMPTY { Some(Vec::new()) } else { unhex(word) };
        let text = |word: &str| String::from_utf8(bytes(word)?).ok();
        let list = |word: &str| match word.strip_prefix(EMPTY) == Some(EMPTY) {
            true => Some(Vec::new()),
            false => word.split(',').map(bytes).collect::<Option<Vec<_>>>(),
        };
        let series = Series { host: text(host)?, job: text(job)?, sources: list(sources)? };
        let texts = |word: &str| -> Option<Vec<String>> {
            list(word)?.into_iter().map(|text| String::from_utf8(text).ok()).collect()
        };
        let (tags, anomalies) = (texts(tags)?, texts(anomalies)?);
        Some(Self {
            sequence: Sequence { author: Author::from_bytes(parse_hex(author)?), series },
            id: SnapshotId::from_object_name(id)?,
            number: number.parse().ok()?,
            digest: parse_hex(digest)?,
            tags,
            is_complete: complete == "complete",
            anomalies: anomalies.as_chunks::<4>().0.iter().map(read_anomaly).collect::<Option<_>>()?,
        })
    }
}

/// Returns the four texts that stand for an anomaly: what, of what, why, and since when or nothing.
fn anomaly_texts(anomaly: &Anomaly) -> [String; 4] {
    let Anomaly { kind, subject, why, since } = anomaly;
    let since = since.map(|since| since.object_name()).unwrap_or_default();
    [kind.name().to_owned(), subject.clone(), why.clone(), since]
}

fn read_anomaly(texts: &[String; 4]) -> Option<Anomaly> {
    let [kind, subject, why, since] = texts.clone();
    let since = match &*since {
        "" => None,
        since => Some(SnapshotId::from_object_name(since)?),
    };
    Some(Anomaly { kind: AnomalyKind::of_name(&kind), subject, why, since })
}

/// The newest record of retention that this machine made or saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownRetention {
    /// Its name.
    pub id: RetentionId,
    /// SHA-256 of its object.
    pub digest: [u8; 32],
}

impl KnownRetention {
    fn to_line(self) -> String {
        format!("{} {}", self.id.object_name(), hex(&self.digest))
    }

    fn from_line(line: &str) -> Option<Self> {
        let (id, digest) = line.split_once(' ')?;
        Some(Self { id: RetentionId::from_object_name(id)?, digest: parse_hex(digest)? })
    }
}

/// The state directory of one repository.
#[derive(Debug, Clone)]
pub struct LocalState {
    directory: Option<PathBuf>,
}

impl LocalState {
    /// Names the directory, which may not be there yet, and removes what killed runs left in it.
    pub(super) fn open(repository: RepositoryId, places: &LocalPlaces) -> Self {
        let directory = places.state.as_ref().map(|root| root.join(repository.to_string()));
        if let Some(directory) = &directory {
            remove_left_behind(directory);
        }
        Self { directory }
    }

    /// Returns the directory; `None` when there is nowhere to remember anything.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Returns the highest counter of configurations or keyrings that a replica showed, zero when it showed none.
    pub(super) fn highest_counter(&self, kind: ObjectKind, replica: &str) -> u64 {
        let text = self.directory().and_then(|directory| record::read_text(&counter_file(directory, kind, replica)));
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Remembers a counter. Failing to is no error here: that nothing can be remembered is told of which repository it is.
    pub(super) fn remember_counter(&self, kind: ObjectKind, replica: &str, counter: u64) {
        if counter > self.highest_counter(kind, replica) {
            let _ = self.locked(|directory| {
                if counter <= self.highest_counter(kind, replica) {
                    return Ok(());
                }
                record::write_text_durably(&counter_file(directory, kind, replica), &counter.to_string())
            });
        }
    }

    /// Returns the newest snapshot of a sequence that this machine knows of.
    pub fn newest(&self, sequence: &Sequence) -> Option<Newest> {
        let newest = read_newest(&sequence_file(self.directory()?, sequence))?;
        (newest.sequence == *sequence).then_some(newest)
    }

    /// Returns those of all sequences, in their order.
    pub fn all_newest(&self) -> Vec<Newest> {
        let entries = self.directory().and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_ours = |path: &PathBuf| path.extension().is_some_and(|extension| extension == SEQUENCE);
        let mut all: Vec<Newest> = paths.filter(is_ours).filter_map(|path| read_newest(&path)).collect();
        all.sort_by(|one, other| one.sequence.cmp(&other.sequence));
        all
    }

    /// Remembers the newest snapshot of its sequence, unless a newer one is known; durable on return.
    ///
    /// # Errors
    /// When it cannot be written, or there is no directory.
    pub fn remember(&self, newest: &Newest) -> io::Result<()> {
        if self.newest(&newest.sequence).as_ref() == Some(newest) {
            return Ok(());
        }
        self.locked(|directory| match self.newest(&newest.sequence) {
            Some(known) if !newest.replaces(&known) => Ok(()),
            _ => record::write_text_durably(&sequence_file(directory, &newest.sequence), &newest.to_line()),
        })
    }

    /// Returns the newest record of retention that this machine knows of.
    pub fn known_retention(&self) -> Option<KnownRetention> {
        KnownRetention::from_line(&record::read_text(&retention_file(self.directory()?))?)
    }

    /// Remembers a record of retention, unless a newer one is known; durable on return.
    ///
    /// # Errors
    /// When it cannot be written, or there is no directory.
    pub fn remember_retention(&self, newest: &KnownRetention) -> io::Result<()> {
        let is_known = || self.known_retention().is_some_and(|known| known.id >= newest.id);
        if is_known() {
            return Ok(());
        }
        self.locked(|directory| match is_known() {
            true => Ok(()),
            false => record::write_text_durably(&retention_file(directory), &newest.to_line()),
        })
    }

    /// Returns the record of a run that this machine put last, with the SHA-256 of its object.
    pub fn known_run(&self) -> Option<(RunId, [u8; 32])> {
        let line = record::read_text(&self.directory()?.join(RUN))?;
        let (id, digest) = line.split_once(' ')?;
        Some((RunId::from_object_name(id)?, parse_hex(digest)?))
    }

    /// Remembers the record of a run that this machine put; durable on return.
    ///
    /// # Errors
    /// When it cannot be written, or there is no directory.
    pub fn remember_run(&self, id: RunId, digest: [u8; 32]) -> io::Result<()> {
        let line = format!("{} {}", id.object_name(), hex(&digest));
        self.locked(|directory| record::write_text_durably(&directory.join(RUN), &line))
    }

    /// Returns the lists of cleaning up that clean-ups of this machine left behind, to be gone on with.
    pub fn left(&self, lists: LeftLists) -> Vec<CleanupId> {
        let text = self.directory().and_then(|directory| record::read_text(&directory.join(lists.file())));
        text.iter().flat_map(|text| text.split(' ')).filter_map(CleanupId::from_object_name).collect()
    }

    /// Remembers the lists that are left behind if this machine's clean-up ends now.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn note_left(&self, lists: LeftLists, ids: &[CleanupId]) -> io::Result<()> {
        let names: Vec<String> = ids.iter().map(CleanupId::to_string).collect();
        self.locked(|directory| record::write_text_durably(&directory.join(lists.file()), &names.join(" ")))
    }

    /// Keeps other clean-ups of this machine away for as long as the file is open; `None` when there is one.
    ///
    /// # Errors
    /// When there is nowhere to lock anything.
    pub fn clean_up_alone(&self) -> io::Result<Option<File>> {
        let file = self
            .locked(|directory| File::options().create(true).append(true).mode(0o600).open(directory.join(CLEANING)))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Does something while no other run does; where the file system knows no locks, the later one wins.
    fn locked<T>(&self, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        let directory = self.directory().ok_or_else(|| io::Error::other("there is no directory for it"))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = File::open(directory)?;
        let _ = lock.lock();
        act(directory)
    }
}

fn read_newest(path: &Path) -> Option<Newest> {
    Newest::from_line(&record::read_text(path)?)
}

fn counter_file(directory: &Path, kind: ObjectKind, replica: &str) -> PathBuf {
    directory.join(format!("{}-{}.counter", kind.prefix().trim_end_matches('/'), digits(replica)))
}

fn retention_file(directory: &Path) -> PathBuf {
    directory.join("newest.retention")
}

fn sequence_file(directory: &Path, sequence: &Sequence) -> PathBuf {
    directory.join(sequence.file_name()).with_extension(SEQUENCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::WriterId;
    use crate::model::time::Timestamp;

    fn newest(number: u64, second: i64) -> Newest {
        let sources = vec![b"/srv/a b".to_vec(), vec![0xff, b'\n'], Vec::new()];
        let series = Series { host: "db 1\u{fc}".into(), job: String::new(), sources };
        Newest {
            sequence: Sequence { author: Author::Writer(WriterId([7; 8])), series },
            id: SnapshotId::new(Timestamp::from_seconds(second), [3; 8]),
            number,
            digest: [number as u8; 32],
            tags: vec!["a,b".into(), String::new()],
            is_complete: number.is_multiple_of(2),
            anomalies: (0..number)
                .map(|at| Anomaly {
                    kind: AnomalyKind::Random,
                    subject: "/srv/ü \n".into(),
                    why: String::new(),
                    since: (at > 0).then(|| SnapshotId::new(Timestamp::from_seconds(second), [at as u8; 8])),
                })
                .collect(),
        }
    }

    fn state(root: &Path) -> LocalState {
        LocalState::open(RepositoryId([1; 16]), &LocalPlaces::from(root))
    }

    #[test]
    fn what_is_remembered_comes_back_whatever_is_in_it() {
        let directory = tempfile::tempdir().expect("made");
        let mut bare = newest(2, 9);
        (bare.sequence.series.sources, bare.tags, bare.sequence.author) = (Vec::new(), Vec::new(), Author::Reader);
        let mut odd = newest(3, 9);
        (odd.sequence.series.sources, odd.tags) = (vec![Vec::new()], vec![String::new()]);
        for newest in [newest(1, 9), bare, odd] {
            assert_eq!(Newest::from_line(&newest.to_line()).as_ref(), Some(&newest));
            state(directory.path()).remember(&newest).expect("written");
            assert_eq!(state(directory.path()).newest(&newest.sequence), Some(newest));
        }
        assert_eq!(state(directory.path()).all_newest().len(), 3);
        for line in ["", "1 2 3", "x 20261124T021500Z-3f9c21d0a1b2c3d4 00 complete 00 - - -- -- --"] {
            assert_eq!(Newest::from_line(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_known_of_a_sequence_does_not_go_back() {
        let directory = tempfile::tempdir().expect("made");
        let state = state(directory.path());
        let after = |next: &Newest| {
            state.remember(next).expect("written");
            let known = state.newest(&next.sequence).expect("known");
            (known.number, known.id.time().seconds)
        };
        assert_eq!(after(&newest(4, 100)), (4, 100));
        // One that a slow run made at the same time, and one that was begun before and ends after it.
        assert_eq!(after(&newest(4, 90)), (4, 90));
        assert_eq!(after(&newest(3, 80)), (4, 90));
        // Data that is older than its run, and a sequence that was begun anew.
        assert_eq!(after(&newest(5, 10)), (5, 10));
        assert_eq!(after(&newest(0, 200)), (0, 200));
    }

    #[test]
    fn counters_are_those_of_each_replica_and_rise() {
        let directory = tempfile::tempdir().expect("made");
        let state = state(directory.path());
        state.remember_counter(ObjectKind::Keyring, "nas", 7);
        state.remember_counter(ObjectKind::Keyring, "nas", 6);
        state.remember_counter(ObjectKind::Keyring, "s3://bucket/prefix", 5);
        let seen = |replica| state.highest_counter(ObjectKind::Keyring, replica);
        assert_eq!((seen("nas"), seen("s3://bucket/prefix"), seen("elsewhere")), (7, 5, 0));
        assert_eq!(state.highest_counter(ObjectKind::Config, "nas"), 0);
    }

    #[test]
    fn the_newest_record_of_retention_is_remembered() {
        let directory = tempfile::tempdir().expect("made");
        let state = state(directory.path());
        let known = |second| {
            let id = RetentionId::new(Timestamp::from_seconds(second), [1; 8]);
            KnownRetention { id, digest: [second as u8; 32] }
        };
        assert_eq!(state.known_retention(), None);
        for (second, newest) in [(5, 5), (4, 5), (6, 6)] {
            state.remember_retention(&known(second)).expect("written");
            assert_eq!(state.known_retention(), Some(known(newest)));
        }
    }

    #[test]
    fn the_record_of_a_run_that_was_put_last_is_remembered() {
        let directory = tempfile::tempdir().expect("made");
        let state = state(directory.path());
        assert_eq!(state.known_run(), None);
        for second in [5, 4] {
            let id = RunId::new(Timestamp::from_seconds(second), [1; 8]);
            state.remember_run(id, [second as u8; 32]).expect("written");
            assert_eq!(state.known_run(), Some((id, [second as u8; 32])));
        }
    }

    #[test]
    fn where_nothing_can_be_remembered_nothing_is_known() {
        for places in [LocalPlaces::without_cache("/tmp"), LocalPlaces::from("/dev/null/nowhere")] {
            let state = LocalState::open(RepositoryId([1; 16]), &places);
            state.remember_counter(ObjectKind::Config, "nas", 3);
            assert_eq!(state.highest_counter(ObjectKind::Config, "nas"), 0);
            state.remember(&newest(1, 1)).expect_err("nowhere");
            assert_eq!((state.newest(&newest(1, 1).sequence), state.all_newest()), (None, Vec::new()));
        }
    }
}
