//! A series: the snapshots that belong together, because each is a later run of the same backup; and a sequence, which are those
//! of a series that one author made and numbered.
//!
//! What is compared with earlier runs, shown as the newest of each, or kept in a local file for the next run goes by this one
//! type, so that no two places have another idea of what an earlier run is.

use std::fmt;

use crate::model::author::Author;
use crate::model::path::display_bytes;
use crate::model::snapshot::Snapshot;

/// What the snapshots of a series have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// Host the data came from.
    pub host: String,
    /// The job, empty when none was named.
    pub job: String,
    /// What was asked for: absolute paths and stream names, sorted.
    pub sources: Vec<Vec<u8>>,
}

impl Series {
    /// Returns the series of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { host: snapshot.host.clone(), job: snapshot.job.clone(), sources: snapshot.sources.clone() }
    }

    /// Returns the wider series of all that have this host and job, whatever their sources.
    pub fn of_any_sources(mut self) -> Self {
        self.sources.clear();
        self
    }

    /// Tells whether a snapshot belongs to it.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        self.host == snapshot.host && self.job == snapshot.job && self.sources == snapshot.sources
    }

    /// Names a local file about it: 32 hexadecimal digits, the same in every run of the series and in no other.
    pub fn file_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let fields = [self.host.as_bytes(), self.job.as_bytes()];
        for field in fields.into_iter().chain(self.sources.iter().map(Vec::as_slice)) {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The snapshots of a series by one author: what is numbered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence {
    /// Who makes them. All readers are one author.
    pub author: Author,
    /// The series.
    pub series: Series,
}

impl Sequence {
    /// Returns the sequence of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { author: snapshot.author, series: Series::of(snapshot) }
    }

    /// Tells whether a snapshot belongs to it.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        self.author == snapshot.author && self.series.has(snapshot)
    }

    /// Names a local file about it, like [`Series::file_name`].
    pub fn file_name(&self) -> String {
        let name = [&self.author.to_bytes()[..], self.series.file_name().as_bytes()].concat();
        blake3::hash(&name).to_hex()[..32].to_owned()
    }
}

/// As people read it: `host db1, job nightly: /srv, shop.sql`.
impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Series { host, job, sources } = &self.series;
        write!(f, "host {host}")?;
        if !job.is_empty() {
            write!(f, ", job {job}")?;
        }
        if self.author != Author::Reader {
            write!(f, ", by {}", self.author)?;
        }
        for (nth, source) in sources.iter().enumerate() {
            write!(f, "{}{}", if nth == 0 { ": " } else { ", " }, display_bytes(source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::id::{DomainEpoch, DomainId, SessionId, WriterId};
    use crate::model::snapshot::SnapshotId;
    use crate::model::time::Timestamp;

    fn snapshot(host: &str, job: &str, sources: &[&str]) -> Snapshot {
        let started = Timestamp::from_seconds(1_795_485_300);
        let at = DomainEpoch { domain: DomainId([3; 16]), epoch: 1 };
        Snapshot {
            started,
            finished: started,
            host: host.into(),
            user: "root".into(),
            job: job.into(),
            tags: vec!["not part of it".into()],
            sources: sources.iter().map(|source| source.as_bytes().to_vec()).collect(),
            ..Snapshot::blank(SnapshotId::new(started, [1; 8]), SessionId([2; 16]), at, Author::Reader)
        }
    }

    #[test]
    fn host_job_and_sources_make_a_series_and_nothing_else_does() {
        let first = snapshot("db1", "nightly", &["/srv", "shop.sql"]);
        let mut later = Snapshot { id: SnapshotId::new(first.started, [9; 8]), ..first.clone() };
        (later.user, later.tags, later.parent) = ("backup".into(), Vec::new(), Some(first.id));
        let series = Series::of(&first);
        assert!(series.has(&first) && series.has(&later));
        assert_eq!(series, Series::of(&later));
        let others = [
            snapshot("db2", "nightly", &["/srv", "shop.sql"]),
            snapshot("db1", "", &["/srv", "shop.sql"]),
            snapshot("db1", "nightly", &["/srv"]),
            snapshot("db1", "nightly", &["/srv", "shop.sq", "l"]),
        ];
        for other in &others {
            assert!(!series.has(other) && series != Series::of(other), "{other:?}");
        }
        assert_eq!(Series::of(&others[2]).of_any_sources(), series.of_any_sources());
    }

    #[test]
    fn every_series_has_a_file_name_of_its_own() {
        let all = [
            snapshot("a", "b", &["c", "d"]),
            snapshot("ab", "", &["c", "d"]),
            snapshot("", "ab", &["c", "d"]),
            snapshot("a", "b", &["cd"]),
            snapshot("a", "b", &["d", "c"]),
            snapshot("a", "b", &[]),
        ];
        let names: BTreeSet<String> = all.iter().map(|snapshot| Series::of(snapshot).file_name()).collect();
        assert_eq!(names.len(), all.len());
        // Files that earlier programs left are found under it.
        let known = Series { host: "a".into(), job: "b".into(), sources: vec![b"c".to_vec()] };
        assert_eq!(known.file_name(), "df5ce928621ab398ef6484761a24aa3d");
    }

    #[test]
    fn a_sequence_is_a_series_by_one_author_and_is_told_in_words() {
        let ours = snapshot("db1", "nightly", &["/srv", "shop.sql"]);
        let theirs = Snapshot { author: Author::Writer(WriterId([7; 8])), ..ours.clone() };
        let [one, other] = [&ours, &theirs].map(Sequence::of);
        assert!(one.has(&ours) && !one.has(&theirs) && one != other && one.file_name() != other.file_name());
        assert_eq!(one.to_string(), "host db1, job nightly: /srv, shop.sql");
        let bare = Sequence::of(&snapshot("db1", "", &[]));
        assert_eq!(bare.to_string(), "host db1");
        assert_eq!(other.to_string(), "host db1, job nightly, by writer 0707070707070707: /srv, shop.sql");
    }
}
