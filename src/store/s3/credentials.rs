//! Where the keys to a bucket come from.
//!
//! In this order: values given for this replica, `AWS_ACCESS_KEY_ID` and its companions, the systemd credential
//! `coffre-s3`, a profile of the shared credentials file. Nothing else: no instance metadata, no programs that a file of others
//! names, no endpoint taken from the environment, so that a backup behaves the same on every host and cannot be sent elsewhere by a
//! variable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::store::{StoreError, StoreErrorKind};

/// Name of the systemd credential (`LoadCredential=coffre-s3:…`): the lines of a profile, with or without a section.
const CREDENTIAL: &str = "coffre-s3";

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

impl S3Credentials {
    /// Takes a key's id and its secret, of a key that is not temporary.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        let secret_access_key = Zeroizing::new(secret_access_key.into());
        Self { access_key_id: access_key_id.into(), secret_access_key, session_token: None }
    }

    /// Reads the lines of a profile: those below `[default]`, or where there is no such section those that stand in none.
    pub fn of_lines(text: &str) -> Option<Self> {
        keys_of(&lines_of(text, None))
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Credentials({})", self.access_key_id)
    }
}

/// Finds credentials by the variables that `env` tells, or in the profile of that name, or in the default one, below `home`.
///
/// A profile that was asked for by name comes before keys in variables. Files are read now.
///
/// # Errors
/// [`StoreErrorKind::NoCredentials`] with a message that tells what to set.
pub fn find(
    profile: Option<&str>,
    subject: impl fmt::Display,
    env: impl Fn(&str) -> Option<String>,
    home: impl Fn() -> Option<PathBuf>,
) -> Result<S3Credentials, StoreError> {
    find_in(profile, env, home)
        .map_err(|message| StoreError::new("open", subject, StoreErrorKind::NoCredentials, message))
}

fn find_in(
    profile: Option<&str>,
    env: impl Fn(&str) -> Option<String>,
    home: impl Fn() -> Option<PathBuf>,
) -> Result<S3Credentials, String> {
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
    let credential = env("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(CREDENTIAL));
    if let Some(path) = credential.filter(|path| path.exists()) {
        return read_credential(&path, named.as_deref());
    }
    let none = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile";
    let shared = env("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let is_asked_for = named.is_some() || shared.is_some();
    let Some(path) = shared.or_else(|| Some(home()?.join(".aws/credentials"))) else {
        return Err(format!(
            "{none} (this user has no home directory: AWS_SHARED_CREDENTIALS_FILE tells where the file is)"
        ));
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if !is_asked_for && error.kind() == std::io::ErrorKind::NotFound => return Err(none.into()),
        Err(error) => return Err(format!("the credentials file {} could not be read: {error}", path.display())),
    };
    let name = named.as_deref().unwrap_or("default");
    let section = match read_profile(&text, name) {
        Some(section) => section,
        None if named.is_none() => return Err(none.into()),
        None => return Err(format!("there is no profile {name} in {}", path.display())),
    };
    keys_of(&section).ok_or_else(|| {
        format!("the profile {name} in {} lacks aws_access_key_id or aws_secret_access_key", path.display())
    })
}

/// Reads the systemd credential: the profile that was named, or the default one, or lines that stand in no section.
fn read_credential(path: &Path, named: Option<&str>) -> Result<S3Credentials, String> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| format!("the credential {} could not be read: {error}", path.display()))?;
    keys_of(&lines_of(&text, named)).ok_or_else(|| {
        format!("the credential {} lacks the lines aws_access_key_id = … and aws_secret_access_key = …", path.display())
    })
}

/// Returns the settings of the profile that was named, or of the default one, or those that stand in no section.
fn lines_of<'t>(text: &'t str, named: Option<&str>) -> BTreeMap<&'t str, &'t str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let outside = || settings(text.lines().take_while(|line| !line.trim_start().starts_with('[')));
    read_profile(text, named.unwrap_or("default")).unwrap_or_else(outside)
}

/// Takes the keys from the settings of a section, if both are there.
fn keys_of(section: &BTreeMap<&str, &str>) -> Option<S3Credentials> {
    let value = |key: &str| section.get(key).map(|value| (*value).to_owned());
    Some(S3Credentials {
        access_key_id: value("aws_access_key_id")?,
        secret_access_key: value("aws_secret_access_key")?.into(),
        session_token: value("aws_session_token").map(Zeroizing::from),
    })
}

/// Returns the settings of one profile of a shared credentials file, or `None` where it has no such section.
///
/// The format is small: sections in brackets, `name = value` lines, comments from `#` or `;` at the start of a line.
/// Values are taken literally, since a secret may hold any character.
fn read_profile<'t>(text: &'t str, name: &str) -> Option<BTreeMap<&'t str, &'t str>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found: Option<BTreeMap<&str, &str>> = None;
    let mut inside = false;
    for line in text.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            let section = header.split(']').next().unwrap_or_default().trim();
            inside = section == name || section.strip_prefix("profile ").is_some_and(|rest| rest.trim() == name);
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some(section)) = (inside, found.as_mut()) {
            section.extend(settings([line]));
        }
    }
    found
}

/// Returns the settings in lines of one section.
fn settings<'t>(lines: impl IntoIterator<Item = &'t str>) -> BTreeMap<&'t str, &'t str> {
    let lines = lines.into_iter().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim())).collect()
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
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        find_in(profile, env, || Some(home.clone().into())).map_err(|message| message.replace(&home, "~"))
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
                vec![("AWS_SHARED_CREDENTIALS_FILE", "/proc/absent")],
                "the credentials file /proc/absent could not be read: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(found(profile, &variables).expect_err(message), message);
        }
        assert_eq!(
            find_in(None, |_| None, || Some("/proc/absent".into())).expect_err("nothing is there"),
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile"
        );
    }

    #[test]
    fn a_systemd_credential_comes_before_the_file_at_home() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let variable = [("CREDENTIALS_DIRECTORY", directory.path().to_str().expect("a plain name"))];
        // Without one of this name the directory means nothing.
        assert_eq!(found(None, &variable).expect("found").access_key_id, "AKDEFAULT");
        let credential = directory.path().join("coffre-s3");
        for text in [
            "aws_access_key_id = AKUNIT\naws_secret_access_key = s\n",
            "\u{feff}aws_access_key_id = AKUNIT\naws_secret_access_key = s",
            "\u{feff}[default]\r\naws_access_key_id=AKUNIT\r\naws_secret_access_key=s\r\n",
        ] {
            std::fs::write(&credential, text).expect("written");
            let keys = found(None, &variable).expect("found");
            assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.as_str()), ("AKUNIT", "s"), "{text}");
        }
        let environment = [variable[0], ("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(found(None, &environment).expect("found").access_key_id, "AKENV");
        std::fs::write(&credential, FILE).expect("written");
        assert_eq!(found(Some("archive"), &variable).expect("found").access_key_id, "AKARCHIVE");
        std::fs::write(&credential, "AKUNIT\n").expect("written");
        assert!(found(None, &variable).expect_err("no lines").contains("coffre-s3 lacks the lines"));
    }

    #[test]
    fn a_user_without_a_home_is_told_and_the_working_directory_is_never_searched() {
        let said = find_in(None, |_| None, || None).expect_err("nothing is there");
        assert!(said.contains("no home directory: AWS_SHARED_CREDENTIALS_FILE"), "{said}");
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", found(None, &[]).expect("found")), "S3Credentials(AKDEFAULT)");
    }
}
