//! The roots of a walk: made absolute, merged, and laid out as a small tree with their ancestors.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, statat};

use crate::source::files::walk::WalkError;

/// One place on the way to a root, or a root.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct RootNode {
    /// Set where a root is; whether a symbolic link there is followed.
    pub root: Option<Root>,
    /// What lies below and leads to further roots.
    pub children: BTreeMap<Vec<u8>, Arc<RootNode>>,
}

/// How a root is to be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// The user wrote a trailing slash: a symbolic link stands for the directory it leads to.
    pub follow: bool,
}

/// Makes the tree of all roots, checking that each exists.
///
/// Roots inside other roots stay in the tree: they matter where the outer walk would stop (an excluded directory,
/// another file system).
pub(super) fn plan(roots: &[PathBuf]) -> Result<Arc<RootNode>, WalkError> {
    if roots.is_empty() {
        return Err(WalkError::NoRoots);
    }
    let mut top = RootNode::default();
    for given in roots {
        let current = || std::env::current_dir().map_err(|source| WalkError::Root { path: given.clone(), source });
        let start = if given.is_absolute() { PathBuf::from("/") } else { current()? };
        let (names, follow) = normalise(&start, given);
        let mut absolute: Vec<u8> = names.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect();
        absolute.extend_from_slice(if follow || names.is_empty() { b"/" } else { b"" });
        statat(CWD, absolute, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| WalkError::Root { path: given.clone(), source: io::Error::from(error) })?;
        insert(&mut top, &names, follow);
    }
    Ok(Arc::new(top))
}

/// Resolves `.` and `..` by name and tells whether `given` ends in a slash.
fn normalise(start: &Path, given: &Path) -> (Vec<Vec<u8>>, bool) {
    let joined = start.join(given);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in joined.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    let bytes = given.as_os_str().as_bytes();
    (names, bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".")
}

fn insert(node: &mut RootNode, names: &[Vec<u8>], follow: bool) {
    match names.split_first() {
        None => {
            let follow = follow || node.root.is_some_and(|root| root.follow);
            node.root = Some(Root { follow });
        }
        Some((first, rest)) => {
            insert(Arc::make_mut(node.children.entry(first.clone()).or_default()), rest, follow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(given: &str) -> (String, bool) {
        let (names, follow) = normalise(Path::new("/home/here"), Path::new(given));
        (names.iter().map(|name| format!("/{}", String::from_utf8_lossy(name))).collect(), follow)
    }

    #[test]
    fn roots_become_absolute_by_name() {
        for (given, path, follow) in [
            ("/srv/data", "/srv/data", false),
            ("/srv//data/", "/srv/data", true),
            ("data", "/home/here/data", false),
            ("./data/.", "/home/here/data", true),
            ("../x/./y", "/home/x/y", false),
            ("/../..", "", false),
            (".", "/home/here", true),
            ("/", "", true),
        ] {
            assert_eq!(normal(given), (path.to_owned(), follow), "{given}");
        }
    }

    #[test]
    fn overlapping_roots_make_one_tree() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(scratch.path().join("a")).expect("created");
        let (outer, inner) = (scratch.path().to_path_buf(), scratch.path().join("a"));
        let once = plan(&[outer.clone(), inner.clone()]).expect("both exist");
        let twice = plan(&[inner.clone(), outer.clone(), inner, outer]).expect("both exist");
        assert_eq!(once, twice);
        assert!(matches!(plan(&[]), Err(WalkError::NoRoots)));
        assert!(matches!(plan(&[scratch.path().join("none")]), Err(WalkError::Root { .. })));
    }
}
