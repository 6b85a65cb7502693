//! Which entries of a snapshot are restored: patterns as in `.gitignore`, against paths in the snapshot.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::model::path::EntryPath;

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is not a pattern: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

/// A choice of entries.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
}

impl Selection {
    /// Takes what matches a pattern of `include` (everything when there is none) and no pattern of `exclude`.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Ok(Self { include: compile(include, false)?, exclude: compile(exclude, false)? })
    }

    /// Takes what matches a pattern of `include`, capital letters being the same as small ones.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn of_any_case(include: &[String]) -> Result<Self, PatternError> {
        Ok(Self { include: compile(include, true)?, exclude: None })
    }

    /// Tells whether only what matches a pattern is taken.
    pub fn has_includes(&self) -> bool {
        self.include.is_some()
    }

    /// Tells whether everything is taken.
    pub fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Tells whether an entry is taken. What is in a matching directory matches.
    pub fn takes(&self, path: &EntryPath, is_directory: bool) -> bool {
        let matches = |patterns: &Gitignore| {
            let path = Path::new(OsStr::from_bytes(path.as_bytes()));
            patterns.matched_path_or_any_parents(path, is_directory).is_ignore()
        };
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }
}

impl Selection {
    /// Tells whether an entry itself is taken, whatever is above it.
    pub fn names(&self, path: &EntryPath, is_directory: bool) -> bool {
        let matches = |patterns: &Gitignore| {
            patterns.matched(Path::new(OsStr::from_bytes(path.as_bytes())), is_directory).is_ignore()
        };
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }
}

fn compile(patterns: &[String], ignores_case: bool) -> Result<Option<Gitignore>, PatternError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    let wrong = |why: ignore::Error| PatternError { pattern: patterns.join(" "), why: why.to_string() };
    builder.case_insensitive(ignores_case).map_err(wrong)?;
    for pattern in patterns {
        let wrong = |why: ignore::Error| PatternError { pattern: pattern.clone(), why: why.to_string() };
        builder.add_line(None, pattern).map_err(wrong)?;
    }
    let wrong = |why: ignore::Error| PatternError { pattern: patterns.join(" "), why: why.to_string() };
    builder.build().map(Some).map_err(wrong)
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
    }
}
