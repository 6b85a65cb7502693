//! Which entries of a snapshot are restored: patterns as a backup takes them, against paths in the snapshot.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::source::files::{argument, at_any_depth, line_of, why_unusable};

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is not a pattern: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl Ended for PatternError {
    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// A choice of entries.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include: Vec<Gitignore>,
    exclude: Vec<Gitignore>,
}

impl Selection {
    /// Takes what matches a pattern of `include` (everything when there is none) and no pattern of `exclude`.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Self::default().including(include, &[], false)?.excluding(exclude, &[], false)
    }

    /// Takes what matches a pattern of `include`, capital letters being the same as small ones.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn of_any_case(include: &[String]) -> Result<Self, PatternError> {
        Self::default().including(include, &[], true)
    }

    /// Takes also what matches one of `patterns`, or a line of one of `files`, upper and lower case being one if wanted.
    ///
    /// # Errors
    /// The first pattern that is not one, or file that cannot be read.
    pub fn including(mut self, patterns: &[String], files: &[PathBuf], any_case: bool) -> Result<Self, PatternError> {
        self.include.extend(compile(patterns, files, any_case)?);
        Ok(self)
    }

    /// Leaves out also what matches one of `patterns`, or a line of one of `files`.
    ///
    /// # Errors
    /// As [`Selection::including`].
    pub fn excluding(mut self, patterns: &[String], files: &[PathBuf], any_case: bool) -> Result<Self, PatternError> {
        self.exclude.extend(compile(patterns, files, any_case)?);
        Ok(self)
    }

    /// Tells whether only what matches a pattern is taken.
    pub fn has_includes(&self) -> bool {
        !self.include.is_empty()
    }

    /// Tells whether everything is taken.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Tells whether an entry is taken. What is in a matching directory matches.
    pub fn takes(&self, path: &EntryPath, is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        self.decides(|patterns| patterns.matched_path_or_any_parents(path, is_directory).is_ignore())
    }

    /// Tells whether an entry itself is taken, whatever is above it.
    pub fn names(&self, path: &EntryPath, is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        self.decides(|patterns| patterns.matched(path, is_directory).is_ignore())
    }

    fn decides(&self, matches: impl Fn(&Gitignore) -> bool) -> bool {
        (self.include.is_empty() || self.include.iter().any(&matches)) && !self.exclude.iter().any(&matches)
    }
}

fn compile(patterns: &[String], files: &[PathBuf], any_case: bool) -> Result<Option<Gitignore>, PatternError> {
    if patterns.is_empty() && files.is_empty() {
        return Ok(None);
    }
    let wrong = |pattern: &str, why: String| PatternError { pattern: pattern.to_owned(), why };
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    builder.case_insensitive(any_case).map_err(|error| wrong("", error.to_string()))?;
    if let Some(empty) = patterns.iter().find(|pattern| pattern.trim().is_empty()) {
        return Err(wrong(empty, "nothing has an empty name".into()));
    }
    let mut lines: Vec<(String, Option<String>)> = patterns.iter().map(|pattern| (argument(pattern), None)).collect();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| {
            wrong(&path.display().to_string(), format!("the file of patterns cannot be read: {error}"))
        })?;
        let of_file = text.trim_start_matches('\u{feff}').lines().enumerate();
        lines.extend(of_file.map(|(at, line)| (line.to_owned(), Some(line_of(path, at)))));
    }
    for (line, place) in &lines {
        let place = place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        builder.add_line(None, &at_any_depth(line)).map_err(|error| wrong(line, why_unusable(&error) + &place))?;
    }
    builder.build().map(Some).map_err(|error| wrong("", why_unusable(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_as_in_gitignore() {
        let choose = |include: &[&str], exclude: &[&str], path: &str| {
            let owned = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
            let selection = Selection::new(&owned(include), &owned(exclude)).expect("patterns");
            selection.takes(&EntryPath::new(path).expect("safe"), false)
        };
        assert!(choose(&[], &[], "srv/a"));
        assert!(choose(&["*.sql"], &[], "srv/db/x.sql"));
        assert!(!choose(&["*.sql"], &[], "srv/db/x.txt"));
        assert!(choose(&["/srv/db/"], &[], "srv/db/x.txt"));
        assert!(!choose(&["/srv"], &["*.log"], "srv/x.log"));
        assert!(!choose(&[], &["cache/"], "srv/cache/x"));
        assert!(choose(&["db/x.txt"], &[], "srv/db/x.txt"), "a slash inside ties to nothing, as in a backup");
        assert!(choose(&["#x#"], &[], "srv/#x#"));
        assert!(!choose(&["*.SQL"], &[], "srv/db/x.sql"));
    }
    #[test]
    fn patterns_come_from_files_and_without_regard_to_case() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let file = scratch.path().join("patterns");
        std::fs::write(&file, "\u{feff}# a comment\r\n*.sql\r\n\n/etc\n").expect("written");
        let takes = |selection: &Selection, path: &str| selection.takes(&EntryPath::new(path).expect("safe"), false);
        let chosen = Selection::default().including(&[], std::slice::from_ref(&file), false).expect("patterns");
        assert!(takes(&chosen, "srv/a.sql") && takes(&chosen, "etc/fstab") && !takes(&chosen, "srv/etc/fstab"));
        assert!(!takes(&chosen, "srv/A.SQL"));
        let any_case = chosen.including(&["*.Md".into()], &[], true).expect("patterns");
        assert!(takes(&any_case, "a.sql") && takes(&any_case, "README.MD") && !takes(&any_case, "A.SQL"));
        let left_out = any_case.excluding(&["readme*".into()], &[], true).expect("patterns");
        assert!(!takes(&left_out, "README.MD") && takes(&left_out, "other.md"));
        assert!(Selection::default().excluding(&[], &[scratch.path().join("none")], false).is_err());
    }
}
