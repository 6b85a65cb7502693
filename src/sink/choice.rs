//! Which extended attributes a restore has to do with: the others are neither set nor taken away.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Why a pattern of attributes cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is not a pattern of attributes: {why}")]
pub struct ChoiceError {
    pattern: String,
    why: String,
}

/// A choice of attributes by their whole names, such as `user.*` or `system.posix_acl_*`; everything unless told.
#[derive(Debug, Clone, Default)]
pub struct AttributeChoice {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
}

impl AttributeChoice {
    /// Takes what matches a pattern of `include` (everything when there is none) and none of `exclude`. `*`, `?` and
    /// `[…]` stand for characters of the name.
    ///
    /// # Errors
    /// The first pattern that is not one.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, ChoiceError> {
        Ok(Self { include: compile(include)?, exclude: compile(exclude)? })
    }

    /// Tells whether an attribute is restored.
    pub fn takes(&self, name: &[u8]) -> bool {
        let name = whole(name);
        let matches = |patterns: &Gitignore| patterns.matched(Path::new(OsStr::from_bytes(&name)), false).is_ignore();
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }
}

/// A slash parts no name of an attribute, but it would part a pattern.
fn whole(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if byte == b'/' { 0x1f } else { byte }).collect()
}

fn compile(patterns: &[String]) -> Result<Option<Gitignore>, ChoiceError> {
    let wrong = |pattern: &str, why: String| ChoiceError { pattern: pattern.to_owned(), why };
    if patterns.iter().any(|pattern| pattern.trim().is_empty()) {
        return Err(wrong("", "no attribute has an empty name".into()));
    }
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    for pattern in patterns {
        let line = format!("/{}", pattern.replace('/', "\u{1f}"));
        builder.add_line(None, &line).map_err(|error| match error {
            ignore::Error::Glob { err, .. } => wrong(pattern, err),
            other => wrong(pattern, other.to_string()),
        })?;
    }
    let built = builder.build().map_err(|error| wrong(&patterns.join(" "), error.to_string()))?;
    Ok((!patterns.is_empty()).then_some(built))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let takes = |include: &[&str], exclude: &[&str], name: &str| {
            let owned = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
            AttributeChoice::new(&owned(include), &owned(exclude)).expect("patterns").takes(name.as_bytes())
        };
        assert!(takes(&[], &[], "user.x"));
        assert!(takes(&["user.*"], &[], "user.x") && takes(&["user.*"], &[], "user.a/b"));
        assert!(!takes(&["user.*"], &[], "trusted.user.x") && !takes(&["user"], &[], "user.x"));
        assert!(!takes(&[], &["system.posix_acl_*"], "system.posix_acl_access"));
        assert!(takes(&[], &["user.?"], "user.xy") && !takes(&[], &["user.[a-c]"], "user.b"));
        assert!(!takes(&["user.*"], &["user.x"], "user.x") && !takes(&[], &["*"], "user.a/b"));
        assert!(takes(&["#x", "!y"], &[], "#x") && takes(&["!y"], &[], "!y"), "no character begins a comment");
        assert!(AttributeChoice::new(&["user.[".into()], &[]).is_err());
    }
}
