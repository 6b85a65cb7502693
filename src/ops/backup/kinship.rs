//! Kinship: in which snapshots a run looks for its parent, and under which name it keeps its tree for the next one.
//!
//! Figures are compared with those of exactly the same [`Series`]. A parent is looked for more widely, because it only says
//! what need not be read: a database that joins a job, or a path more, must not cost a night of reading.

use crate::model::series::Series;
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

/// Names the file of the last tree of a run over `roots`: what a parent must have in common finds the same.
pub(super) fn tree_name(options: &BackupOptions, roots: &[Vec<u8>]) -> String {
    let GroupBy { host, job, paths } = options.group_by;
    // A byte that no host or job has stands for any.
    let field =
        |matters: bool, text: &'static str, value: &str| if matters { value.to_owned() } else { text.to_owned() };
    let (host, job) = (field(host, "\0", &options.host), field(job, "\0", &options.job));
    let roots = if paths { roots } else { &[] };
    let sources = std::iter::once(b"tree".to_vec()).chain(roots.iter().cloned()).collect();
    Series { host, job, sources }.file_name()
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
