//! What a walk leaves out: patterns, files with patterns, tagged directories, large files.
//!
//! Patterns follow `gitignore` with one difference that suits backups: a pattern with a slash inside matches at any
//! depth, and only a leading slash ties it to the top of the file system. The last matching pattern decides; `!` takes
//! back. Nothing inside an excluded directory can be taken back, as the walk does not enter it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use crate::fs::beneath::open_beneath;
use crate::source::files::walk::{WalkError, WalkOptions};

/// Name of the file that marks a cache directory (<https://bford.info/cachedir/>).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// What that file starts with.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Decides what is left out.
#[derive(Debug)]
pub(super) struct Excludes {
    patterns: Gitignore,
    caches: bool,
    tags: Vec<Vec<u8>>,
    larger_than: Option<u64>,
}

impl Excludes {
    /// Reads the patterns and pattern files of `options`.
    pub fn new(options: &WalkOptions) -> Result<Self, WalkError> {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for pattern in &options.excludes {
            add(&mut builder, None, &argument(pattern))?;
        }
        for path in &options.exclude_files {
            let text =
                fs::read_to_string(path).map_err(|source| WalkError::ExcludeFile { path: path.clone(), source })?;
            for line in text.trim_start_matches('\u{feff}').lines() {
                add(&mut builder, Some(path), line)?;
            }
        }
        let patterns = builder
            .build()
            .map_err(|error| WalkError::Pattern { pattern: String::new(), message: error.to_string() })?;
        Ok(Self {
            patterns,
            caches: options.exclude_caches,
            tags: options.exclude_if_present.iter().map(|name| name.as_bytes().to_vec()).collect(),
            larger_than: options.exclude_larger_than,
        })
    }

    /// Tells whether the entry at `path` (without leading slash) is left out; `file_size` is given for regular files.
    pub fn leaves_out(&self, path: &[u8], is_directory: bool, file_size: Option<u64>) -> bool {
        let too_large = self.larger_than.zip(file_size).is_some_and(|(limit, size)| size > limit);
        too_large
            || (!self.patterns.is_empty()
                && self.patterns.matched(Path::new(OsStr::from_bytes(path)), is_directory).is_ignore())
    }

    /// Returns the tags that stand in `directory` and make the walk skip everything else in it.
    pub fn tags_in<'a>(&'a self, directory: BorrowedFd<'_>, mut has: impl FnMut(&[u8]) -> bool) -> Vec<&'a [u8]> {
        let mut found: Vec<&[u8]> = self.tags.iter().map(Vec::as_slice).filter(|tag| has(tag)).collect();
        if self.caches && has(CACHE_TAG) && is_cache_tag(directory) && !found.contains(&CACHE_TAG) {
            found.push(CACHE_TAG);
        }
        found
    }
}

fn is_cache_tag(directory: BorrowedFd<'_>) -> bool {
    let Ok(tag) = open_beneath(directory, CACHE_TAG, OFlags::RDONLY | OFlags::NONBLOCK) else { return false };
    let mut start = [0; CACHE_SIGNATURE.len()];
    fs::File::from(tag).read_exact(&mut start).is_ok() && start == CACHE_SIGNATURE
}

/// A pattern from the command line has no comments: its first `#` is meant.
fn argument(pattern: &str) -> String {
    if pattern.starts_with('#') { format!("\\{pattern}") } else { pattern.to_owned() }
}

fn add(builder: &mut GitignoreBuilder, file: Option<&PathBuf>, line: &str) -> Result<(), WalkError> {
    let unusable = |message: String| WalkError::Pattern { pattern: line.to_owned(), message };
    builder.add_line(file.cloned(), &at_any_depth(line)).map_err(|error| unusable(error.to_string()))?;
    Ok(())
}

/// Lets a pattern with a slash inside match at any depth unless it starts with one.
fn at_any_depth(line: &str) -> String {
    let (sign, body) = match line.strip_prefix('!') {
        Some(body) => ("!", body),
        None => ("", line),
    };
    let trimmed = body.trim_end();
    let has_inner_slash = trimmed.strip_suffix('/').unwrap_or(trimmed).contains('/');
    if line.starts_with('#') || body.starts_with('/') || body.starts_with("**/") || !has_inner_slash {
        return line.to_owned();
    }
    format!("{sign}**/{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_decide_as_documented() {
        let cases: [(&[&str], &str, bool, bool); 24] = [
            (&["*.o"], "home/a/x.o", false, true),
            (&["*.o"], "home/a/x.c", false, false),
            (&["node_modules"], "srv/app/node_modules", true, true),
            (&["node_modules"], "srv/app/node_modules_old", true, false),
            (&["cache/"], "srv/cache", true, true),
            (&["cache/"], "srv/cache", false, false),
            (&["/var/cache"], "var/cache", true, true),
            (&["/var/cache"], "srv/var/cache", true, false),
            (&["var/cache"], "srv/var/cache", true, true),
            (&["var/cache"], "var/cache", true, true),
            (&["/home/*/tmp"], "home/alice/tmp", true, true),
            (&["/home/*/tmp"], "home/alice/deep/tmp", true, false),
            (&["/home/**/tmp"], "home/alice/deep/tmp", true, true),
            (&["/data/**"], "data", true, false),
            (&["/data/**"], "data/x", false, true),
            (&["*.log", "!keep.log"], "var/log/keep.log", false, false),
            (&["*.log", "!keep.log"], "var/log/other.log", false, true),
            (&["!keep.log", "*.log"], "var/log/keep.log", false, true),
            (&["[ab].txt"], "b.txt", false, true),
            (&["file?"], "file1", false, true),
            (&["file?"], "file", false, false),
            (&["#backup#"], "x/#backup#", false, true),
            (&["Tmp"], "tmp", true, false),
            (&[], "anything", false, false),
        ];
        for (patterns, path, is_directory, expected) in cases {
            let options =
                WalkOptions { excludes: patterns.iter().map(ToString::to_string).collect(), ..WalkOptions::default() };
            let excludes = Excludes::new(&options).expect("good patterns");
            assert_eq!(excludes.leaves_out(path.as_bytes(), is_directory, None), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        let options = WalkOptions { excludes: vec!["*.tmp".into()], ..WalkOptions::default() };
        let excludes = Excludes::new(&options).expect("good pattern");
        assert!(excludes.leaves_out(b"a/\xff\xfe.tmp", false, None));
        assert!(!excludes.leaves_out(b"a/\xff\xfe.dat", false, None));
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let options = WalkOptions { excludes: vec!["a[".into()], ..WalkOptions::default() };
        let error = Excludes::new(&options).expect_err("an open bracket");
        assert!(error.to_string().contains("a["), "{error}");
    }

    #[test]
    fn large_files_are_left_out_by_size() {
        let options = WalkOptions { exclude_larger_than: Some(10), ..WalkOptions::default() };
        let excludes = Excludes::new(&options).expect("no patterns");
        assert!(!excludes.leaves_out(b"a", false, Some(10)));
        assert!(excludes.leaves_out(b"a", false, Some(11)));
        assert!(!excludes.leaves_out(b"a", true, None));
    }
}
