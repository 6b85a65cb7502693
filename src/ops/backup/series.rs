//! Series: which snapshots are earlier ones of the same backup, and under which names its local files are kept.
//!
//! Streams are compared with earlier ones of exactly the same sources. Files are looked for more widely, because a parent only
//! says what need not be read: a database that joins a job, or a path more, must not cost a night of reading.

use crate::model::snapshot::Snapshot;
use crate::ops::backup::options::{BackupOptions, GroupBy};

/// How near a snapshot's files are to those of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinship {
    /// The same paths, or paths do not matter.
    Same,
    /// Some paths are the same, or inside others.
    Overlapping,
}

/// Tells whether a snapshot is an earlier one of the same backup: of the same host, job and sources.
pub(super) fn is_of_series(snapshot: &Snapshot, options: &BackupOptions, sources: &[Vec<u8>]) -> bool {
    snapshot.host == options.host && snapshot.job == options.job && snapshot.sources == sources
}

/// Tells whether the files of a snapshot can be a parent of a run over `roots`, which are absolute and sorted.
pub(super) fn kinship(snapshot: &Snapshot, options: &BackupOptions, roots: &[Vec<u8>]) -> Option<Kinship> {
    let by = options.group_by;
    if (by.host && snapshot.host != options.host) || (by.job && snapshot.job != options.job) {
        return None;
    }
    let theirs: Vec<&Vec<u8>> = snapshot.sources.iter().filter(|source| source.starts_with(b"/")).collect();
    if theirs.is_empty() {
        return None;
    }
    if !by.paths || theirs.iter().copied().eq(roots) {
        return Some(Kinship::Same);
    }
    let overlaps = |root: &Vec<u8>| theirs.iter().any(|other| is_within(root, other) || is_within(other, root));
    roots.iter().any(overlaps).then_some(Kinship::Overlapping)
}

/// Tells whether a path is that of a root or below it, whether or not they are written with their leading slash.
pub(super) fn is_within(path: &[u8], root: &[u8]) -> bool {
    let [path, root] = [path, root].map(|path| path.strip_prefix(b"/").unwrap_or(path));
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Names the local files about the streams and roots of a run: the same host, job and sources find the same.
pub(super) fn cache_name(options: &BackupOptions, sources: &[Vec<u8>]) -> String {
    hash(&[options.host.as_bytes(), options.job.as_bytes()], sources)
}

/// Names the file of the last tree of a run over `roots`: what a parent must have in common finds the same.
pub(super) fn tree_name(options: &BackupOptions, roots: &[Vec<u8>]) -> String {
    let GroupBy { host, job, paths } = options.group_by;
    // A byte that no host or job has stands for any.
    let field =
        |matters: bool, text: &'static str, value: &str| if matters { value.to_owned() } else { text.to_owned() };
    let (host, job) = (field(host, "\0", &options.host), field(job, "\0", &options.job));
    hash(&[host.as_bytes(), job.as_bytes(), b"tree"], if paths { roots } else { &[] })
}

fn hash(fields: &[&[u8]], sources: &[Vec<u8>]) -> String {
    let mut hasher = blake3::Hasher::new();
    for field in fields.iter().copied().chain(sources.iter().map(Vec::as_slice)) {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_within_itself_and_what_contains_it() {
        for (path, root, expected) in [
            ("/srv/a", "/srv", true),
            ("/srv", "/srv", true),
            ("/srv", "/srv/a", false),
            ("/srv2", "/srv", false),
            ("/srv", "/", true),
            ("/", "/srv", false),
            ("/", "/", true),
        ] {
            assert_eq!(is_within(path.as_bytes(), root.as_bytes()), expected, "{path} {root}");
        }
    }
}
