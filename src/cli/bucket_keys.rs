//! Where the keys to a bucket come from: a profile or a command that was asked for, else where they usually are.
//!
//! An option comes before the variable of the command, that before the configuration; two options, or two keys of the configuration, are
//! refused: one of them would be wrong, and nobody would see which was taken. What was asked for comes before `AWS_ACCESS_KEY_ID`, which may be
//! set for somebody else.

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cli::environment::Environment;
use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::given_options::GivenOptions;
use crate::cli::secret_command::printed_by;
use crate::store::StoreError;
use crate::store::location::S3Location;
use crate::store::s3::credentials::{self, S3Credentials};

/// Names the command in errors.
const COMMAND: &str = "the command for the keys to the bucket";
/// What is wanted of it.
const WANTED: &str = "it prints the lines aws_access_key_id = … and aws_secret_access_key = …, or an object with AccessKeyId and SecretAccessKey";

/// Flags that say where the keys to a bucket are.
#[derive(Debug, clap::Args)]
pub struct BucketKeyArgs {
    /// Profile of the shared credentials file that has the keys to the bucket
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// Shell command that prints the keys to the bucket: aws_access_key_id = … and aws_secret_access_key = … on two lines, or what AWS
    /// calls a credential_process
    #[arg(long, global = true, env = "COFFRE_S3_KEYS_COMMAND", value_name = "COMMAND")]
    s3_keys_command: Option<String>,
    /// Where profile and command were said, in this order.
    #[arg(skip)]
    said: [Option<ValueSource>; 2],
}

impl BucketKeyArgs {
    /// Notes which of the two were typed, which come from variables, and which from the configuration.
    pub fn note_sources(&mut self, matches: &ArgMatches) {
        self.said = ["profile", "s3_keys_command"].map(|id| matches.value_source(id));
    }
}

/// One place where they can be.
#[derive(Clone, PartialEq, Eq)]
enum BucketKeySource {
    Profile(String),
    Command(String),
}

/// Everything that was given, before one of it is chosen. No secret was read yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BucketKeysGiven(GivenOptions<BucketKeySource>);

impl BucketKeysGiven {
    /// Gathers what flags say.
    pub fn of(args: BucketKeyArgs) -> Self {
        let profile = args.profile.map(BucketKeySource::Profile);
        let command = args.s3_keys_command.filter(|text| !text.is_empty()).map(BucketKeySource::Command);
        let [profile_from, command_from] = args.said;
        Self(GivenOptions::of([
            (profile, ["--profile", "AWS_PROFILE"], profile_from),
            (command, ["--s3-keys-command", "COFFRE_S3_KEYS_COMMAND"], command_from),
        ]))
    }

    /// Returns the keys; a file is read, or the command run, now.
    ///
    /// # Errors
    /// One for the user, which tells what to set.
    pub fn get(&self, location: &S3Location, environment: &Environment) -> Fallible<S3Credentials> {
        match self.0.choose().map_err(usage)? {
            Some(BucketKeySource::Command(command)) => {
                let printed = printed_by(command, COMMAND)?;
                printed_keys(&printed).ok_or_else(|| usage(format!("{COMMAND} printed none")).hinting(WANTED))
            }
            Some(BucketKeySource::Profile(profile)) => Ok(found(Some(profile), location, environment)?),
            None => Ok(found(None, location, environment)?),
        }
    }

    /// Returns the keys if a file, a variable or a credential has them: runs nothing.
    pub fn at_hand(&self, location: &S3Location, environment: &Environment) -> Option<S3Credentials> {
        match self.0.choose().ok()? {
            Some(BucketKeySource::Command(_)) => None,
            Some(BucketKeySource::Profile(profile)) => found(Some(profile), location, environment).ok(),
            None => found(None, location, environment).ok(),
        }
    }
}

fn found(profile: Option<&str>, location: &S3Location, environment: &Environment) -> Result<S3Credentials, StoreError> {
    credentials::find(profile, location, |name: &str| environment.var(name), || environment.home())
}

/// What programs print that AWS' configuration names as `credential_process`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrintedKeys {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

/// Reads what a command printed.
fn printed_keys(text: &str) -> Option<S3Credentials> {
    if !text.trim_start().starts_with('{') {
        return S3Credentials::of_lines(text);
    }
    let keys: PrintedKeys = serde_json::from_str(text).ok()?;
    if keys.access_key_id.is_empty() || keys.secret_access_key.is_empty() {
        return None;
    }
    let mut credentials = S3Credentials::new(keys.access_key_id, keys.secret_access_key);
    credentials.session_token = keys.session_token.filter(|token| !token.is_empty()).map(Zeroizing::new);
    Some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_beats_the_variable_and_two_of_a_kind_are_refused() {
        let profile = |name: &'static str| (name, BucketKeySource::Profile("archive".into()));
        let command = |name: &'static str| (name, BucketKeySource::Command("pass show hunter2".into()));
        type Named = Vec<(&'static str, BucketKeySource)>;
        let given = |[options, variables, configured]: [Named; 3]| {
            BucketKeysGiven(GivenOptions { options, variables, configured })
        };
        let chosen = |all: [Named; 3]| given(all).0.choose().map(|it| it.cloned());
        assert!(chosen(Default::default()).is_ok_and(|it| it.is_none()));
        let typed = chosen([vec![profile("--profile")], vec![command("COFFRE_S3_KEYS_COMMAND")], Vec::new()]);
        assert!(matches!(typed, Ok(Some(BucketKeySource::Profile(_)))));
        let variable = chosen([Vec::new(), vec![command("COFFRE_S3_KEYS_COMMAND")], vec![profile("profile")]]);
        assert!(matches!(variable, Ok(Some(BucketKeySource::Command(_)))));
        let both = chosen([Vec::new(), Vec::new(), vec![profile("profile"), command("s3-keys-command")]]);
        let why = "profile and s3-keys-command are both given; keep the one that is meant";
        assert_eq!(both.err().as_deref(), Some(why));
        let shown = format!("{:?}", given([vec![command("--s3-keys-command")], Vec::new(), Vec::new()]));
        assert!(shown.contains("--s3-keys-command") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn keys_are_printed_as_lines_or_as_an_object() {
        let lines = "aws_access_key_id = AK\naws_secret_access_key = s\n";
        for text in [
            lines,
            &format!("[default]\n{lines}"),
            "{\"Version\": 1, \"AccessKeyId\": \"AK\", \"SecretAccessKey\": \"s\", \"Expiration\": \"2026-11-24T02:15:00Z\"}\n",
        ] {
            assert!(printed_keys(text) == Some(S3Credentials::new("AK", "s")), "{text}");
        }
        let temporary = printed_keys("{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\"}");
        assert_eq!(temporary.expect("keys").session_token.as_deref().map(String::as_str), Some("t"));
        let empty = printed_keys("{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"s\",\"SessionToken\":\"\"}");
        assert!(empty == Some(S3Credentials::new("AK", "s")));
        let without = "{\"AccessKeyId\":\"AK\",\"SecretAccessKey\":\"\"}";
        for text in ["", "AK\ns\n", "{\"AccessKeyId\":\"AK\"}", without, "aws_access_key_id = AK\n"] {
            assert!(printed_keys(text).is_none(), "{text}");
        }
    }
}
