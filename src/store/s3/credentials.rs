//! Where the keys to a bucket come from.
//!
//! In this order: values given for this replica, `AWS_ACCESS_KEY_ID` and its companions, a profile of the shared
//! credentials file. Nothing else: no instance metadata, no programs to run, no endpoint taken from the environment, so
//! that a backup behaves the same on every host and cannot be sent elsewhere by a variable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::store::{StoreError, StoreErrorKind};

/// The keys that sign requests. Their `Debug` shows the access key's id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Names the key; not a secret.
    pub access_key_id: String,
    /// The secret that signs.
    pub secret_access_key: Zeroizing<String>,
    /// Accompanies temporary keys.
    pub session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Credentials({})", self.access_key_id)
    }
}

/// Finds credentials in the environment of the process, or in the profile of that name, or in the default one.
///
/// A profile that was asked for by name comes before keys in the environment.
///
/// # Errors
/// [`StoreErrorKind::Denied`] with a message that tells what to set.
pub fn find(profile: Option<&str>, subject: impl fmt::Display) -> Result<S3Credentials, StoreError> {
    find_in(profile, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .map_err(|message| StoreError::new("open", subject, StoreErrorKind::Denied, message))
}

/// As [`find`], with the environment as an argument.
fn find_in(profile: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<S3Credentials, String> {
    if profile.is_none() {
        match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret)) => {
                return Ok(S3Credentials {
                    access_key_id,
                    secret_access_key: secret.into(),
                    session_token: env("AWS_SESSION_TOKEN").map(Zeroizing::from),
                });
            }
            (Some(_), None) => return Err("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not".into()),
            (None, Some(_)) => return Err("AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not".into()),
            (None, None) => {}
        }
    }
    let named = profile.map(str::to_owned).or_else(|| env("AWS_PROFILE"));
    let path = match env("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env("HOME").unwrap_or_default()).join(".aws/credentials"),
    };
    let none = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile";
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(_) if named.is_none() => return Err(none.into()),
        Err(error) => return Err(format!("the credentials file {} could not be read: {error}", path.display())),
    };
    let name = named.as_deref().unwrap_or("default");
    let section = match read_profile(&text, name) {
        Some(section) => section,
        None if named.is_none() => return Err(none.into()),
        None => return Err(format!("there is no profile {name} in {}", path.display())),
    };
    let value = |key: &str| section.get(key).map(|value| (*value).to_owned());
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret)) => Ok(S3Credentials {
            access_key_id,
            secret_access_key: secret.into(),
            session_token: value("aws_session_token").map(Zeroizing::from),
        }),
        _ => Err(format!("the profile {name} in {} lacks aws_access_key_id or aws_secret_access_key", path.display())),
    }
}

/// Returns the settings of one profile of a shared credentials file, or `None` where it has no such section.
///
/// The format is small: sections in brackets, `name = value` lines, comments from `#` or `;` at the start of a line.
/// Values are taken literally, since a secret may hold any character.
fn read_profile<'t>(text: &'t str, name: &str) -> Option<BTreeMap<&'t str, &'t str>> {
    let mut found: Option<BTreeMap<&str, &str>> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let section = header.split(']').next().unwrap_or_default().trim();
            inside = section == name || section.strip_prefix("profile ").is_some_and(|rest| rest.trim() == name);
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value)), Some(section)) = (inside, line.split_once('='), found.as_mut()) {
            section.insert(key.trim(), value.trim());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# comment
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key=a/b+c=d # e

[ archive ]
aws_access_key_id=AKARCHIVE
aws_secret_access_key = s
aws_session_token = t
[half]
aws_access_key_id=x
";

    fn found(profile: Option<&str>, variables: &[(&str, &str)]) -> Result<S3Credentials, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join(".aws")).expect("made");
        std::fs::write(directory.path().join(".aws/credentials"), FILE).expect("written");
        let home = directory.path().to_str().expect("a plain name").to_owned();
        find_in(profile, |name| match name {
            "HOME" => Some(home.clone()),
            _ => variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        })
        .map_err(|message| message.replace(&home, "~"))
    }

    #[test]
    fn keys_come_from_the_environment_then_from_a_profile() {
        let environment = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_PROFILE", "archive")];
        let id = |result: Result<S3Credentials, String>| result.expect("found").access_key_id;
        assert_eq!(id(found(None, &environment)), "AKENV");
        assert_eq!(id(found(Some("archive"), &environment)), "AKARCHIVE");
        assert_eq!(id(found(None, &environment[2..])), "AKARCHIVE");
        let default = found(None, &[]).expect("found");
        assert_eq!((default.access_key_id.as_str(), default.secret_access_key.as_str()), ("AKDEFAULT", "a/b+c=d # e"));
        assert_eq!(found(Some("archive"), &[]).expect("found").session_token.as_deref().map(String::as_str), Some("t"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (profile, variables, message) in [
            (None, vec![("AWS_ACCESS_KEY_ID", "x")], "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"),
            (None, vec![("AWS_SECRET_ACCESS_KEY", "x")], "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not"),
            (Some("none"), vec![], "there is no profile none in ~/.aws/credentials"),
            (
                Some("half"),
                vec![],
                "the profile half in ~/.aws/credentials lacks aws_access_key_id or aws_secret_access_key",
            ),
            (
                None,
                vec![("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")],
                "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile",
            ),
        ] {
            assert_eq!(found(profile, &variables).expect_err(message), message);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", found(None, &[]).expect("found")), "S3Credentials(AKDEFAULT)");
    }
}
