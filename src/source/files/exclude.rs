//! What a walk leaves out: patterns, files with patterns, tagged directories, large files.
//!
//! Patterns follow `gitignore` with one difference that suits backups: a pattern with a slash inside matches at any
//! depth, and only a leading slash ties it to the top of the file system. The last matching pattern decides; `!` takes
//! back. Nothing inside an excluded directory can be taken back, as the walk does not enter it: what is excluded by its name
//! is not even looked at, so that a dead mount there harms nobody.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use crate::fs::beneath::open_beneath;
use crate::progress::Problem;
use crate::source::files::options::{WalkError, WalkOptions};

/// Name of the file that marks a cache directory (<https://bford.info/cachedir/>).
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// What that file starts with.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Decides what is left out.
#[derive(Debug)]
pub(super) struct Excludes {
    patterns: Gitignore,
    any_case: Gitignore,
    /// Patterns that can never match, and why.
    pub vain: Vec<Problem>,
    caches: bool,
    tags: Vec<Vec<u8>>,
    larger_than: Option<u64>,
}

impl Excludes {
    /// Reads the patterns and pattern files of `options`.
    pub fn new(options: &WalkOptions) -> Result<Self, WalkError> {
        let mut vain = Vec::new();
        let patterns = patterns(&options.excludes, &options.exclude_files, false, &mut vain)?;
        let any_case = self::patterns(&options.iexcludes, &options.iexclude_files, true, &mut vain)?;
        Ok(Self {
            patterns,
            any_case,
            vain,
            caches: options.exclude_caches,
            tags: options.exclude_if_present.iter().map(|name| name.as_bytes().to_vec()).collect(),
            larger_than: options.exclude_larger_than,
        })
    }

    /// Tells whether there are patterns at all.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty() || !self.any_case.is_empty()
    }

    /// Tells whether the entry at `path` (without leading slash) is left out by its name.
    pub fn leaves_out(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        [&self.patterns, &self.any_case]
            .iter()
            .any(|patterns| !patterns.is_empty() && patterns.matched(path, is_directory).is_ignore())
    }

    /// Tells whether a regular file of `size` bytes is left out because of that.
    pub fn is_too_large(&self, size: u64) -> bool {
        self.larger_than.is_some_and(|limit| size > limit)
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
pub(crate) fn argument(pattern: &str) -> String {
    if pattern.starts_with('#') { format!("\\{pattern}") } else { pattern.to_owned() }
}

fn patterns(
    given: &[String],
    files: &[PathBuf],
    any_case: bool,
    vain: &mut Vec<Problem>,
) -> Result<Gitignore, WalkError> {
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    let pattern = String::new();
    let unusable = |error: ignore::Error| WalkError::Pattern { pattern, message: why_unusable(&error) };
    if let Err(error) = builder.case_insensitive(any_case) {
        return Err(unusable(error));
    }
    for pattern in given {
        add(&mut builder, None, &argument(pattern), vain)?;
    }
    for path in files {
        let text = fs::read_to_string(path).map_err(|source| WalkError::ExcludeFile { path: path.clone(), source })?;
        for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            add(&mut builder, Some((path, at)), line, vain)?;
        }
    }
    builder.build().map_err(unusable)
}

/// Says what is wrong with a pattern, without the form that it has by then.
pub(crate) fn why_unusable(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        ignore::Error::WithPath { err, .. } | ignore::Error::WithLineNumber { err, .. } => why_unusable(err),
        other => other.to_string(),
    }
}

/// Says where a pattern stands that is a line of a file.
pub(crate) fn line_of(file: &Path, at: usize) -> String {
    format!("line {} of {}", at + 1, file.display())
}

/// Says why a pattern can never match, if that is so: paths are compared from the top of the file system on.
fn why_vain(line: &str) -> Option<&'static str> {
    let body = line.strip_prefix('!').unwrap_or(line);
    if line.starts_with('#') {
        return None;
    }
    if body.starts_with("~/") || body == "~" {
        return Some("~ stands for no home directory here; write the whole path");
    }
    let mut names = body.trim_end().trim_end_matches('/').split('/');
    let is_dots = |name: &str| name == "." || name == "..";
    names.any(is_dots).then_some("no path has `.` or `..` in it; write the name alone, or the whole path from / on")
}

fn add(
    builder: &mut GitignoreBuilder,
    file: Option<(&PathBuf, usize)>,
    line: &str,
    vain: &mut Vec<Problem>,
) -> Result<(), WalkError> {
    if let Some(why) = why_vain(line) {
        let message = format!("can never match: {why}");
        vain.push(Problem::advice(format!("exclude pattern {line}"), message));
    }
    let added = builder.add_line(file.map(|(file, _)| file.clone()), &at_any_depth(line)).map(|_| ());
    added.map_err(|error| {
        let place = file.map(|(file, at)| format!(" ({})", line_of(file, at))).unwrap_or_default();
        WalkError::Pattern { pattern: line.to_owned(), message: why_unusable(&error) + &place }
    })
}

/// Lets a pattern with a slash inside match at any depth unless it starts with one.
pub(crate) fn at_any_depth(line: &str) -> String {
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
            assert_eq!(excludes.leaves_out(path.as_bytes(), is_directory), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        let options = WalkOptions { excludes: vec!["*.tmp".into()], ..WalkOptions::default() };
        let excludes = Excludes::new(&options).expect("good pattern");
        assert!(excludes.leaves_out(b"a/\xff\xfe.tmp", false));
        assert!(!excludes.leaves_out(b"a/\xff\xfe.dat", false));
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
        assert!(!excludes.is_too_large(10));
        assert!(excludes.is_too_large(11));
    }

    #[test]
    fn patterns_that_ignore_case_are_a_list_of_their_own() {
        let options = WalkOptions {
            excludes: vec!["*.log".into()],
            iexcludes: vec!["*.TMP".into(), "!keep.tmp".into()],
            ..WalkOptions::default()
        };
        let excludes = Excludes::new(&options).expect("good patterns");
        let cases =
            [("a.tmp", true), ("A.TMP", true), ("Keep.Tmp", false), ("a.log", true), ("a.LOG", false), ("x.ö", false)];
        for (path, expected) in cases {
            assert_eq!(excludes.leaves_out(path.as_bytes(), false), expected, "{path}");
        }
    }

    #[test]
    fn patterns_that_can_never_match_are_told() {
        let cases = [
            ("./x", true),
            ("~/x", true),
            ("~", true),
            ("!./x", true),
            ("../x", true),
            ("a/./b", true),
            ("/srv/../x", true),
            ("# ./x", false),
            ("x~", false),
            ("~x", false),
            (".x", false),
            ("..x/y", false),
            ("/a/.b/", false),
            ("*.o", false),
            ("", false),
        ];
        for (pattern, expected) in cases {
            assert_eq!(why_vain(pattern).is_some(), expected, "{pattern}");
        }
        let options = WalkOptions { excludes: vec!["./x".into(), "y".into()], ..WalkOptions::default() };
        let vain = Excludes::new(&options).expect("good patterns").vain;
        assert_eq!(vain.len(), 1);
        assert!(vain[0].to_string().starts_with("exclude pattern ./x: can never match: "), "{vain:?}");
    }
}
