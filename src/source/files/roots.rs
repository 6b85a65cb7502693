//! The roots of a walk: made absolute, merged, and laid out as a small tree with their ancestors.
//!
//! A root that is not there, or that is a symbolic link which is not followed, is told: either may be a volume that is not
//! mounted, or a directory that moved.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, statat};

use crate::model::path::display_bytes;
use crate::progress::Problem;
use crate::source::files::options::WalkError;

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

/// All roots, and what is to be said about them.
#[derive(Debug)]
pub(super) struct Roots {
    pub top: Arc<RootNode>,
    /// Roots that are not there, or out of reach.
    pub missing: Vec<Problem>,
    /// Roots of which only the symbolic link is kept.
    pub links: Vec<Problem>,
}

/// Makes the tree of all roots that exist.
///
/// Roots inside other roots stay in the tree: they matter where the outer walk would stop (an excluded directory,
/// another file system).
///
/// # Errors
/// [`WalkError::Root`], naming the first, when none of them exists.
pub(super) fn plan(roots: &[PathBuf]) -> Result<Roots, WalkError> {
    let (mut top, mut found, mut links) = (RootNode::default(), Vec::new(), Vec::new());
    let mut missing: Vec<(&PathBuf, io::Error)> = Vec::new();
    for given in roots {
        let start = if given.is_absolute() { Ok(PathBuf::from("/")) } else { std::env::current_dir() };
        let looked_at = start.and_then(|start| {
            let (names, follow) = normalise(&start, given);
            let mut absolute = path_of(&names);
            if follow && !names.is_empty() {
                absolute.push(b'/');
            }
            let stat = statat(CWD, absolute, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((names, follow, FileType::from_raw_mode(stat.st_mode)))
        });
        match looked_at {
            Ok((names, follow, file_type)) => {
                insert(&mut top, &names, follow);
                if file_type == FileType::Symlink {
                    links.push(path_of(&names));
                }
                found.push(path_of(&names));
            }
            Err(error) => missing.push((given, error)),
        }
    }
    if found.is_empty() {
        return Err(match missing.into_iter().next() {
            Some((path, source)) => WalkError::Root { path: path.clone(), source },
            None => WalkError::NoRoots,
        });
    }
    let missing = missing
        .into_iter()
        .map(|(path, error)| Problem::missing(path.display().to_string(), format!("cannot be backed up: {error}")));
    Ok(Roots {
        missing: missing.collect(),
        links: links.iter().filter_map(|link| about(link, &found)).collect(),
        top: Arc::new(top),
    })
}

/// Returns the absolute paths that `roots` mean, as snapshots list them, sorted.
pub fn root_names(roots: &[PathBuf]) -> Vec<Vec<u8>> {
    let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut names: Vec<Vec<u8>> = roots.iter().map(|root| path_of(&normalise(&current, root).0)).collect();
    names.sort();
    names.dedup();
    names
}

/// Says what a link as a root leaves out; nothing when what it leads to is below another root.
fn about(link: &[u8], roots: &[Vec<u8>]) -> Option<Problem> {
    let path = Path::new(OsStr::from_bytes(link));
    let shown = display_bytes(link).to_string();
    let target = std::fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
    let message = match std::fs::canonicalize(path) {
        Ok(real) => {
            let leads_into = |root: &Vec<u8>| root != link && real.starts_with(OsStr::from_bytes(root));
            if roots.iter().any(leads_into) {
                return None;
            }
            let follow = if real.is_dir() { format!("write {shown}/") } else { format!("write {}", real.display()) };
            format!("is a symbolic link to {target}: only the link is stored; {follow} to store what it leads to")
        }
        Err(_) => format!("is a symbolic link to {target}, which cannot be reached: only the link is stored"),
    };
    Some(Problem::suspicious(shown, message))
}

fn path_of(names: &[Vec<u8>]) -> Vec<u8> {
    match names {
        [] => b"/".to_vec(),
        names => names.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect(),
    }
}

/// Resolves `.` and `..` and tells whether `given` means a directory whatever its last name is: a slash at its end, a dot.
///
/// `..` behind a symbolic link goes up from where the link leads, as it does for the system; elsewhere names decide, so that
/// links on the way keep the names that the user gave.
fn normalise(start: &Path, given: &Path) -> (Vec<Vec<u8>>, bool) {
    let joined = start.join(given);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in joined.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                let here = path_of(&names);
                let here = Path::new(OsStr::from_bytes(&here));
                if here.is_symlink()
                    && let Ok(real) = std::fs::canonicalize(here)
                {
                    names = real.iter().skip(1).map(|name| name.as_bytes().to_vec()).collect();
                }
                names.pop();
            }
            name => names.push(name.to_vec()),
        }
    }
    let last = given.as_os_str().as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    (names, matches!(last, b"" | b"." | b".."))
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
            ("/../..", "", true),
            (".", "/home/here", true),
            ("..", "/home", true),
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
        assert_eq!(once.top, twice.top);
        assert!(matches!(plan(&[]), Err(WalkError::NoRoots)));
        assert!(matches!(plan(&[scratch.path().join("none")]), Err(WalkError::Root { .. })));
    }

    #[test]
    fn going_up_from_a_link_goes_up_from_where_it_leads() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| scratch.path().join(name);
        std::fs::create_dir_all(at("real/deep")).expect("created");
        std::os::unix::fs::symlink("real/deep", at("link")).expect("linked");
        let name = |given: &str| root_names(&[at(given)]).remove(0);
        let real = std::fs::canonicalize(scratch.path()).expect("there");
        let expected = |name: &str| real.join(name).as_os_str().as_bytes().to_vec();
        assert_eq!(name("link/.."), expected("real"));
        assert_eq!(name("link/../x"), expected("real/x"));
        assert_eq!(name("link/x/.."), at("link").as_os_str().as_bytes());
        assert_eq!(name("real/deep/../../y"), at("y").as_os_str().as_bytes());
        assert!(
            normalise(Path::new("/"), &at("link/x/..")).1,
            "what `..` ends in is a directory, even if it is a link"
        );
    }

    #[test]
    fn a_root_that_is_a_link_is_told_with_what_it_leaves_out() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| scratch.path().join(name);
        std::fs::create_dir(at("real")).expect("created");
        std::fs::write(at("real/file"), "").expect("written");
        for (target, name) in [("real", "link"), ("real/file", "to_file"), ("none", "dangling")] {
            std::os::unix::fs::symlink(target, at(name)).expect("linked");
        }
        let told = |names: &[&str]| {
            let roots: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
            let links = plan(&roots).expect("some exist").links;
            links.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>()
        };
        let link = at("link");
        let real = std::fs::canonicalize(at("real/file")).expect("there");
        assert_eq!(
            told(&["link", "to_file", "dangling", "real/file"]),
            [
                format!(
                    "is a symbolic link to real: only the link is stored; write {}/ to store what it leads to",
                    link.display()
                ),
                "is a symbolic link to none, which cannot be reached: only the link is stored".to_owned(),
            ]
        );
        let write = format!("write {} to store what it leads to", real.display());
        assert!(told(&["to_file"])[0].ends_with(&write), "{:?}", told(&["to_file"]));
        assert!(told(&["link", "real"]).is_empty(), "what it leads to is in the backup");
        let slash = PathBuf::from(format!("{}/", link.display()));
        assert!(plan(&[slash]).expect("there").links.is_empty(), "it is followed");
    }

    #[test]
    fn a_root_that_is_missing_is_a_problem_beside_one_that_is_there() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let roots = plan(&[scratch.path().join("none"), scratch.path().to_path_buf()]).expect("one exists");
        assert_eq!(roots.missing.len(), 1);
        assert!(roots.missing[0].message.starts_with("cannot be backed up: No such file"), "{:?}", roots.missing);
    }
}
