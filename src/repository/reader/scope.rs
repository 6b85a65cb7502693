//! What of a tree is wanted, and which of its nodes may hold some of that.
//!
//! Inner nodes tell the first path below each child, so a node is read only when what is wanted may stand in it.

use crate::model::path::EntryPath;

/// What of a tree is wanted.
#[derive(Debug)]
pub(super) enum Scope {
    /// All of it.
    Everything,
    /// The entry at a path and all below it.
    Within(EntryPath),
    /// What stands directly in a directory and the entry of that directory itself; without one, what is at the top.
    Directly(Option<EntryPath>),
    /// The entry at a path alone.
    Alone(EntryPath),
}

impl Scope {
    /// Tells whether the entry at `path` is wanted.
    pub(super) fn wants(&self, path: &EntryPath) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Within(within) => path.is_within(within),
            Scope::Directly(None) => path.parent().is_none(),
            Scope::Directly(Some(directory)) => path == directory || path.parent().as_ref() == Some(directory),
            Scope::Alone(alone) => path == alone,
        }
    }

    /// Tells whether a child that begins at `first`, before the child that begins at `end`, may hold what is wanted.
    pub(super) fn may_hold(&self, first: &EntryPath, end: Option<&EntryPath>) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Within(within) => may_hold_within(within, first, end),
            Scope::Directly(directory) => {
                directory.as_ref().is_none_or(|directory| may_hold_within(directory, first, end))
                    && !is_all_deeper(directory.as_ref(), first, end)
            }
            Scope::Alone(path) => first <= path && end.is_none_or(|end| path < end),
        }
    }
}

fn may_hold_within(within: &EntryPath, first: &EntryPath, end: Option<&EntryPath>) -> bool {
    let begins_after = first > within && !first.is_within(within);
    let ends_before = end.is_some_and(|end| end <= within);
    !begins_after && !ends_before
}

/// Tells whether all paths from `first` up to `end` lie below one entry of `directory`, so that none is directly in it.
fn is_all_deeper(directory: Option<&EntryPath>, first: &EntryPath, end: Option<&EntryPath>) -> bool {
    let Some(end) = end else { return false };
    // The ancestor of `first` that is directly in the directory, if there is one.
    let mut below = first.parent();
    while let Some(ancestor) = below {
        let above = ancestor.parent();
        if above.as_ref() == directory {
            return end.is_within(&ancestor);
        }
        below = above;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_below_one_entry_of_a_directory_hold_nothing_of_it() {
        let path = |text: &str| EntryPath::new(text).expect("safe");
        let cases = [
            (None, "a/b/c", Some("a/b/d"), true),
            (None, "a/b/c", Some("a/z"), true),
            // Something may stand between what is below `a` and `b`: `a.b` does.
            (None, "a/b/c", Some("b"), false),
            (None, "a/b/c", None, false),
            // The node begins with an entry at the top.
            (None, "a", Some("a/b"), false),
            (Some("a"), "a/b/c", Some("a/b/d"), true),
            (Some("a"), "a/b", Some("a/b/d"), false),
            (Some("a"), "a/b/c/d/e", Some("a/b/x"), true),
            (Some("a"), "a/b/c", Some("a/c"), false),
            (Some("a/b"), "a", Some("a/b/c"), false),
            (Some("a/b"), "a/b/c/d", Some("a/c"), false),
        ];
        for (directory, first, end, deeper) in cases {
            let found = is_all_deeper(directory.map(path).as_ref(), &path(first), end.map(path).as_ref());
            assert_eq!(found, deeper, "{directory:?} {first} {end:?}");
        }
    }

    #[test]
    fn every_node_that_holds_something_wanted_is_read_and_for_one_path_one_node() {
        let path = |text: &str| EntryPath::new(text).expect("safe");
        let texts =
            ["a", "a/b", "a/b/c", "a/b/c/d", "a/b/e", "a/f", "a.b", "b", "b/a", "b/a/a", "b/a/b", "c", "c-d", "d/e/f"];
        let mut paths: Vec<EntryPath> = texts.into_iter().map(path).collect();
        paths.sort();
        let mut scopes: Vec<Scope> = vec![Scope::Everything, Scope::Directly(None)];
        let missing = ["a/a", "a/b/d", "b/b", "e"].map(path);
        for path in paths.iter().chain(&missing) {
            let path = || path.clone();
            scopes.extend([Scope::Within(path()), Scope::Directly(Some(path())), Scope::Alone(path())]);
        }
        for scope in &scopes {
            for start in 0..paths.len() {
                for end in start + 1..=paths.len() {
                    let is_wanted = paths[start..end].iter().any(|path| scope.wants(path));
                    let is_read = scope.may_hold(&paths[start], paths.get(end));
                    assert!(is_read || !is_wanted, "{scope:?}: {} up to {:?}", paths[start], paths.get(end));
                }
            }
            for size in 1..5 {
                let nodes = (0..paths.len()).step_by(size);
                let read = nodes.filter(|&start| scope.may_hold(&paths[start], paths.get(start + size))).count();
                assert!(!matches!(scope, Scope::Alone(_)) || read == 1, "{scope:?} reads {read} nodes of {size}");
            }
        }
    }
}
