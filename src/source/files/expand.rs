//! Patterns of paths, as a shell writes them: `/srv/*/data`, `/home/[a-m]*`. A list of paths to back up may hold them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::source::files::exclude::why_unusable;
use crate::source::files::options::WalkError;

/// Returns the paths that `pattern` matches, sorted; `pattern` itself where it has nothing to match, or matches nothing, so that
/// its being missing is told.
///
/// `*`, `?` and `[…]` match within one name; a backslash takes a character as it is. A directory that cannot be read has no
/// matches.
///
/// # Errors
/// [`WalkError::Pattern`] for one that has no meaning.
pub fn expand(pattern: &Path) -> Result<Vec<PathBuf>, WalkError> {
    let bytes = pattern.as_os_str().as_bytes();
    let mut found = vec![PathBuf::from(if bytes.starts_with(b"/") { "/" } else { "" })];
    for name in bytes.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        if !name.iter().any(|byte| b"*?[\\".contains(byte)) {
            found.iter_mut().for_each(|path| path.push(OsStr::from_bytes(name)));
            continue;
        }
        let matcher = matcher(name, pattern)?;
        found = found.iter().flat_map(|directory| matches(directory, &matcher)).collect();
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    if found.is_empty() {
        return Ok(vec![pattern.to_path_buf()]);
    }
    found.sort();
    if bytes.ends_with(b"/") {
        // The slash means that links are followed.
        found.iter_mut().for_each(|path| path.push(""));
    }
    Ok(found)
}

fn matcher(name: &[u8], pattern: &Path) -> Result<Gitignore, WalkError> {
    let unusable = |message: String| WalkError::Pattern { pattern: pattern.display().to_string(), message };
    let name = std::str::from_utf8(name).map_err(|_| unusable("a name with wildcards must be UTF-8".into()))?;
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    builder.add_line(None, &format!("/{name}")).map_err(|error| unusable(why_unusable(&error)))?;
    builder.build().map_err(|error| unusable(why_unusable(&error)))
}

fn matches(directory: &Path, matcher: &Gitignore) -> Vec<PathBuf> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let names = fs::read_dir(here).into_iter().flatten().filter_map(Result::ok).map(|item| item.file_name());
    names.filter(|name| matcher.matched(Path::new(name), false).is_ignore()).map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_one_name() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        for name in ["a/data/x", "b/data/y", "b/other/z", ".h/data/w", "odd*/data/v"] {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("made");
            fs::write(path, "").expect("written");
        }
        let expanded = |pattern: &str| {
            let found = expand(&scratch.path().join(pattern)).expect("a good pattern");
            let text = |path: &PathBuf| path.as_os_str().as_bytes()[scratch.path().as_os_str().len() + 1..].to_vec();
            found.iter().map(|path| String::from_utf8(text(path)).expect("plain")).collect::<Vec<_>>()
        };
        assert_eq!(expanded("*/data"), [".h/data", "a/data", "b/data", "odd*/data"]);
        assert_eq!(expanded("[ab]/*/?"), ["a/data/x", "b/data/y", "b/other/z"]);
        assert_eq!(expanded("[ab]/data/"), ["a/data/", "b/data/"]);
        assert_eq!(expanded("odd\\*/data"), ["odd*/data"]);
        assert_eq!(expanded("b/other"), ["b/other"]);
        assert_eq!(expanded("c*/none"), ["c*/none"], "what matches nothing is told as missing");
        assert_eq!(expanded("none"), ["none"]);
        assert!(matches!(expand(Path::new("/srv/a[")), Err(WalkError::Pattern { .. })));
    }
}
