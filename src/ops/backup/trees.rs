//! What each root holds, and how much it used to hold: one that is suddenly empty may be a volume that is not mounted.
//!
//! Counts of earlier runs are kept in a local file, like the sizes of streams. Where it is missing, the parent's tree, which
//! is read anyway, gives those of one run. How files stand beside the parent's is counted as they pass.

use std::collections::BTreeSet;

use crate::model::entry::{Entry, EntryKind};
use crate::model::path::{compare_paths, display_bytes};
use crate::model::series::Series;
use crate::model::snapshot::Anomaly;
use crate::ops::backup::anomalies::{TreeChange, TreeFigures, judge_tree, noticed_of};
use crate::ops::backup::beside::Beside;
use crate::ops::backup::kinship::is_within;
use crate::ops::backup::options::AnomalyLimits;
use crate::ops::backup::remembered::{Remembered, Subjects};
use crate::repository::Repository;
use crate::repository::tree::LeafBuilder;

/// What is in a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RootTree {
    /// The root's path without the leading slash, empty for the whole file system.
    path: Vec<u8>,
    pub(super) held: TreeFigures,
    /// Files of these that look random.
    random: u64,
    /// How they stand beside the parent's.
    compared: Compared,
}

/// How the files of a root stand beside the parent's at the same paths, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Compared {
    /// Where the parent had a file.
    kept: u64,
    /// Where the parent had a file that looked random.
    kept_random: u64,
    /// Where the parent had one with another content.
    changed: u64,
    /// Where the parent had one that did not look random, and this one does.
    turned_random: u64,
    /// New ones that look random.
    new_random: u64,
    /// New ones of which all content was stored before.
    moved: u64,
}

impl Compared {
    fn count(&mut self, beside: &Beside, looks_random: bool) {
        match beside.before {
            Some(before) => {
                self.kept += 1;
                self.kept_random += u64::from(before);
                self.changed += u64::from(beside.has_changed);
                self.turned_random += u64::from(looks_random && !before);
            }
            None => {
                self.new_random += u64::from(looks_random);
                self.moved += u64::from(beside.is_known);
            }
        }
    }
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
        let tree = |path| RootTree { path, held: <_>::default(), random: 0, compared: <_>::default() };
        let trees = paths.into_iter().map(tree).collect();
        Self { trees, digest: has_digest.then(blake3::Hasher::new), open: Vec::new(), next: 0 }
    }

    /// Counts an entry, and how it stands beside the parent's where it is one of this run.
    pub(super) fn count(&mut self, entry: &Entry, beside: Option<&Beside>) {
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
            let looks_random = entry.metadata.looks_random;
            for &root in &self.open {
                let tree = &mut self.trees[root];
                tree.held.files += 1;
                tree.held.bytes += entry.size();
                tree.random += u64::from(looks_random);
                if let Some(beside) = beside {
                    tree.compared.count(beside, looks_random);
                }
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

    /// Returns what became of the parent's files; nothing where it had none.
    fn change(&self, parent: &RootTree) -> Option<TreeChange> {
        let Compared { kept, kept_random, changed, turned_random, new_random, moved } = self.compared;
        let gone = parent.held.files.saturating_sub(kept);
        let gone_plain = (parent.held.files - parent.random).saturating_sub(kept - kept_random);
        let (gone, random) = (gone.saturating_sub(moved), turned_random + new_random.min(gone_plain));
        (parent.held.files > 0).then_some(TreeChange { before: parent.held.files, changed, gone, random })
    }
}

/// What roots held in earlier runs that nobody has to look at any more.
pub(super) struct TreeHistory(Remembered<(u64, u64)>);

impl TreeHistory {
    /// Loads what is known of earlier runs of the same series.
    pub(super) fn load(repository: &Repository, series: &Series) -> Self {
        Self(Remembered::load(repository, series, "held"))
    }

    /// Tells whether anything is known of a root, by its name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.last(name).is_some()
    }

    /// Compares what the roots hold with what they used to hold, by the median of earlier runs or, where none is known, by
    /// the parent, unless that `is_flagged`, which is a measure from then on; and with the parent's files.
    ///
    /// What could not be read is told by itself: a root in `unread` without a file is not taken for one that is not mounted.
    pub(super) fn judge(
        &mut self,
        trees: &[RootTree],
        parent: &[RootTree],
        unread: &ShownRoots,
        is_flagged: bool,
        limits: &AnomalyLimits,
    ) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for tree in trees {
            let name = tree.name();
            let parents = parent.iter().find(|other| other.path == tree.path);
            let figures = |&(files, bytes): &(u64, u64)| TreeFigures { files, bytes };
            if let Some(parents) = parents.filter(|it| it.held.files > 0 && !is_flagged && !self.knows(&name)) {
                self.0.push(name.clone(), (parents.held.files, parents.held.bytes));
            }
            let earlier: Vec<_> = self.0.last(&name).unwrap_or_default().iter().map(figures).collect();
            let change = parents.and_then(|parents| tree.change(parents));
            let noticed = judge_tree(tree.held, &earlier, change, unread.contains(&name), limits);
            found.extend(noticed_of(&name, noticed));
        }
        found
    }

    /// Remembers these counts for the next run, but for roots that are `flagged`; those that were `accepted` in place of earlier ones.
    /// Failing to only costs it the comparison.
    pub(super) fn keep(self, trees: &[RootTree], flagged: &Subjects, accepted: &Subjects) {
        let figures = trees.iter().map(|tree| (tree.name(), (tree.held.files, tree.held.bytes)));
        self.0.keep(figures, flagged, accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{ChunkList, FileContent, Metadata};
    use crate::model::path::EntryPath;

    fn tree(path: &str, files: u64, bytes: u64) -> RootTree {
        RootTree { path: path.into(), held: TreeFigures { files, bytes }, random: 0, compared: Compared::default() }
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
        entries.iter().for_each(|path| counter.count(&entry(path), None));
        let expected = [("srv/a", 2), ("srv/a/in", 1), ("srv/a.b", 1), ("srv/none", 0), ("z/file", 1)];
        assert_eq!(counter.finish().trees, expected.map(|(path, files)| tree(path, files, files * 10)));

        let mut whole = TreeCounter::new(&[b"/".to_vec()], false);
        ["a", "b/", "b/c"].iter().for_each(|path| whole.count(&entry(path), None));
        assert_eq!(whole.finish().trees, [tree("", 2, 20)]);
    }

    #[test]
    fn what_could_not_be_read_is_of_the_roots_that_it_lies_in() {
        let roots = ["/srv", "/srv/a", "/srv/ab", "/"].map(|root| root.as_bytes().to_vec());
        let named = |subject: &str| roots_named(&roots, subject).collect::<Vec<_>>();
        assert_eq!(named("/srv/a/x"), ["/srv", "/srv/a", "/"]);
        assert_eq!(named("/srv/ab"), ["/srv", "/srv/ab", "/"]);
        assert_eq!(named("a path of 5000 bytes"), Vec::<String>::new());
    }
}
