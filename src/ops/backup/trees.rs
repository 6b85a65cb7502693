//! What each root holds, and how much it used to hold: one that is suddenly empty may be a volume that is not mounted.
//!
//! Counts of earlier runs are kept in a local file, like the sizes of streams. Where it is missing, the parent's tree, which
//! is read anyway, gives those of one run.

use std::collections::BTreeSet;

use crate::model::entry::{Entry, EntryKind};
use crate::model::path::{compare_paths, display_bytes};
use crate::model::series::Series;
use crate::model::units::ByteSize;
use crate::ops::backup::kinship::is_within;
use crate::ops::backup::remembered::{Remembered, median};
use crate::progress::Problem;
use crate::repository::Repository;
use crate::repository::tree::LeafBuilder;

/// What is in a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RootTree {
    /// The root's path without the leading slash, empty for the whole file system.
    path: Vec<u8>,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What is in all roots.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) trees: Vec<RootTree>,
    /// Equal for trees whose entries are equal; `None` when it was not asked for.
    pub(super) digest: Option<blake3::Hash>,
}

/// Counts entries that come in path order for the roots that contain them.
#[derive(Debug)]
pub(super) struct TreeCounter {
    trees: Vec<RootTree>,
    /// A hash over all entries at or below roots, if it is wanted: what only leads to them belongs to others.
    digest: Option<blake3::Hasher>,
    /// Roots that contain the last entry, outermost first.
    open: Vec<usize>,
    next: usize,
}

impl TreeCounter {
    /// Starts counting for roots, given by absolute paths, and hashing if `has_digest`.
    pub(super) fn new(roots: &[Vec<u8>], has_digest: bool) -> Self {
        let path = |root: &Vec<u8>| root.strip_prefix(b"/").unwrap_or(root).to_vec();
        let mut paths: Vec<Vec<u8>> = roots.iter().map(path).collect();
        paths.sort_by(|a, b| compare_paths(a, b));
        let trees = paths.into_iter().map(|path| RootTree { path, files: 0, bytes: 0 }).collect();
        Self { trees, digest: has_digest.then(blake3::Hasher::new), open: Vec::new(), next: 0 }
    }

    /// Counts an entry.
    pub(super) fn count(&mut self, entry: &Entry) {
        let path = entry.path.as_bytes();
        while self.open.last().is_some_and(|&root| !is_within(path, &self.trees[root].path)) {
            self.open.pop();
        }
        while let Some(next) = self.trees.get(self.next)
            && compare_paths(&next.path, path).is_le()
        {
            if is_within(path, &next.path) {
                self.open.push(self.next);
            }
            self.next += 1;
        }
        if let Some(digest) = self.digest.as_mut().filter(|_| !self.open.is_empty()) {
            let mut leaf = LeafBuilder::default();
            leaf.push(entry);
            digest.update(&leaf.finish().0);
        }
        if matches!(entry.kind, EntryKind::File(_)) {
            for &root in &self.open {
                self.trees[root].files += 1;
                self.trees[root].bytes += entry.size();
            }
        }
    }

    /// Returns what was counted for each root.
    pub(super) fn finish(self) -> Held {
        Held { trees: self.trees, digest: self.digest.map(|digest| digest.finalize()) }
    }
}

/// Some of the roots, by their absolute paths as they are shown.
pub(super) type ShownRoots = BTreeSet<String>;

/// Returns the roots that contain what a problem is about, by their absolute paths as they are shown.
pub(super) fn roots_named<'a>(roots: &'a [Vec<u8>], subject: &'a str) -> impl Iterator<Item = String> + 'a {
    let shown = roots.iter().map(|root| display_bytes(root).to_string());
    shown.filter(move |root| {
        let rest = subject.strip_prefix(root.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

impl RootTree {
    fn name(&self) -> String {
        format!("/{}", display_bytes(&self.path))
    }
}

/// Files and bytes of earlier runs, by root.
pub(super) struct TreeHistory(Remembered<(u64, u64)>);

impl TreeHistory {
    /// Loads what is known of earlier runs of the same series.
    pub(super) fn load(repository: &Repository, series: &Series) -> Self {
        Self(Remembered::load(repository, series, "held"))
    }

    /// Compares what the roots hold with what they used to hold, by the median of earlier runs or, where none is known, by
    /// the parent; returns what is to be looked at.
    ///
    /// What could not be read is told by itself: a root in `unread` without a file is not taken for one that is not mounted.
    pub(super) fn judge(
        &self,
        trees: &[RootTree],
        parent: &[RootTree],
        unread: &ShownRoots,
        shrink_limit: f64,
    ) -> Vec<Problem> {
        let judge = |tree: &RootTree| {
            let name = tree.name();
            let of_parent = || parent.iter().find(|other| other.path == tree.path).map(|it| vec![(it.files, it.bytes)]);
            let earlier = self.0.last(&name).map(<[_]>::to_vec).or_else(of_parent)?;
            let message = shrunk(tree, &earlier, unread.contains(&name), shrink_limit)?;
            Some(Problem::suspicious(name, message))
        };
        trees.iter().filter_map(judge).collect()
    }

    /// Remembers these counts for the next run. Failing to only costs it the comparison.
    pub(super) fn keep(mut self, trees: &[RootTree]) {
        for tree in trees {
            self.0.push(tree.name(), (tree.files, tree.bytes));
        }
        self.0.keep();
    }
}

/// Says how a tree has shrunk below `limit` of what it was, by the number of its files or by their bytes.
fn shrunk(tree: &RootTree, earlier: &[(u64, u64)], is_unread: bool, limit: f64) -> Option<String> {
    let files = median(&earlier.iter().map(|held| held.0).collect::<Vec<_>>());
    let bytes = median(&earlier.iter().map(|held| held.1).collect::<Vec<_>>());
    let runs = match earlier.len() {
        1 => "in the last run".to_owned(),
        runs => format!("in the median of the last {runs} runs"),
    };
    let part = |now: u64, before: u64| now as f64 / before.max(1) as f64;
    let is_less = |now, before| before > 0 && part(now, before) < limit;
    if tree.files == 0 && is_less(tree.files, files) {
        let size = ByteSize(bytes);
        return Some(match is_unread {
            true => format!("holds no file that could be read, and held {files} ({size}) {runs}"),
            false => format!("holds no file, and held {files} ({size}) {runs}; is it mounted, and the right place?"),
        });
    }
    let text = |what: &str, now: u64, before: u64| {
        let percent = part(now, before) * 100.0;
        format!("holds only {percent:.0} % of the {what} that it used to hold: {now}, {before} {runs}")
    };
    if is_less(tree.files, files) {
        return Some(text("files", tree.files, files));
    }
    is_less(tree.bytes, bytes).then(|| text("bytes", tree.bytes, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{ChunkList, FileContent, Metadata};
    use crate::model::path::EntryPath;

    fn tree(path: &str, files: u64, bytes: u64) -> RootTree {
        RootTree { path: path.into(), files, bytes }
    }

    #[test]
    fn entries_count_for_every_root_that_contains_them() {
        let entry = |path: &str| {
            let content = FileContent { size: 10, chunks: ChunkList::Inline(Vec::new()), holes: Vec::new() };
            let kind = if path.ends_with('/') { EntryKind::Directory } else { EntryKind::File(content) };
            let path = EntryPath::new(path.trim_end_matches('/')).expect("safe");
            Entry { path, kind, metadata: Metadata::default() }
        };
        let roots = ["/srv/a", "/srv/a/in", "/srv/none", "/srv/a.b", "/z/file"].map(|root| root.as_bytes().to_vec());
        let mut counter = TreeCounter::new(&roots, false);
        let entries =
            ["srv/", "srv/a/", "srv/a/in/", "srv/a/in/x", "srv/a/y", "srv/a.b/", "srv/a.b/z", "srv/zz", "z/", "z/file"];
        entries.iter().for_each(|path| counter.count(&entry(path)));
        let expected = [("srv/a", 2), ("srv/a/in", 1), ("srv/a.b", 1), ("srv/none", 0), ("z/file", 1)];
        assert_eq!(counter.finish().trees, expected.map(|(path, files)| tree(path, files, files * 10)));

        let mut whole = TreeCounter::new(&[b"/".to_vec()], false);
        ["a", "b/", "b/c"].iter().for_each(|path| whole.count(&entry(path)));
        assert_eq!(whole.finish().trees, [tree("", 2, 20)]);
    }

    #[test]
    fn a_tree_is_flagged_when_it_holds_much_less_than_it_used_to() {
        type Case = (&'static [(u64, u64)], (u64, u64), Option<&'static str>);
        let cases: [Case; 9] = [
            (&[], (0, 0), None),
            (&[(0, 0)], (0, 0), None),
            (&[(25, 2048)], (0, 0), Some("holds no file, and held 25 (2.00 KiB) in the last run; is it mounted")),
            (
                &[(25, 1000); 3],
                (12, 1000),
                Some("holds only 48 % of the files that it used to hold: 12, 25 in the median of"),
            ),
            (&[(25, 1000); 3], (13, 500), None),
            (
                &[(25, 1000); 3],
                (25, 499),
                Some("holds only 50 % of the bytes that it used to hold: 499, 1000 in the median of"),
            ),
            (&[(25, 0); 3], (25, 0), None),
            // One night without the volume does not make the next one right.
            (&[(25, 9), (25, 9), (0, 0), (25, 9)], (0, 0), Some("holds no file")),
            (&[(1, 10)], (50, 5000), None),
        ];
        for (earlier, (files, bytes), expected) in cases {
            let told = shrunk(&tree("srv", files, bytes), earlier, false, 0.5);
            assert_eq!(told.is_some(), expected.is_some(), "{earlier:?} {files} {bytes}: {told:?}");
            assert!(told.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{earlier:?} {files} {bytes}");
        }
        assert_eq!(shrunk(&tree("srv", 0, 0), &[(25, 1000)], false, 0.0), None, "a limit of 0 flags none");
    }

    #[test]
    fn what_could_not_be_read_is_not_taken_for_what_is_not_mounted() {
        let told = shrunk(&tree("srv", 0, 0), &[(25, 2048)], true, 0.5).expect("told");
        assert_eq!(told, "holds no file that could be read, and held 25 (2.00 KiB) in the last run");
        let roots = ["/srv", "/srv/a", "/srv/ab", "/"].map(|root| root.as_bytes().to_vec());
        let named = |subject: &str| roots_named(&roots, subject).collect::<Vec<_>>();
        assert_eq!(named("/srv/a/x"), ["/srv", "/srv/a", "/"]);
        assert_eq!(named("/srv/ab"), ["/srv", "/srv/ab", "/"]);
        assert_eq!(named("a path of 5000 bytes"), Vec::<String>::new());
    }
}
