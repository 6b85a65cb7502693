//! What programs are not told that this one runs: its secrets, and what is between it and its service manager.
//!
//! A dump command may print its environment, log it, or hand it on; none needs the repository's passphrase, the keys of the
//! store, or the password of another database. What is set for one program on purpose
//! ([`CommandOptions::environment`](crate::process::CommandOptions)) reaches that one.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The keys of the store. The id is no secret, but useless and confusing without the rest.
const OF_THE_STORE: [&str; 4] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"];
/// How systemd hears of this process, and no other: a program that found these would speak in our name.
const OF_THE_MANAGER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
/// Begins the names of our own variables.
const OURS: &str = "COFFRE_";
/// Words in the names of those among them that hold a secret.
const SECRET_WORDS: [&str; 5] = ["PASSWORD", "PASSPHRASE", "SECRET", "TOKEN", "KEY"];
/// Ends the names of those that only tell where a secret is kept.
const WHERE: &str = "_FILE";

/// Variables that hold the URL of a database, password and all: the environment is one, and so is this list.
static URLS: Mutex<Vec<OsString>> = Mutex::new(Vec::new());

/// Says that a variable holds the URL of a database, which is for us alone.
pub fn withhold(variable: &str) {
    URLS.lock().unwrap_or_else(PoisonError::into_inner).push(variable.into());
}

/// Takes our secrets, and the way to our service manager, out of what a program will find in its environment.
pub fn withhold_secrets(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_withheld(name)) {
        command.env_remove(name);
    }
    for name in URLS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        command.env_remove(name);
    }
}

fn is_withheld(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let is_ours = name.starts_with(OURS) && !name.ends_with(WHERE);
    let is_of_others = OF_THE_STORE.contains(&name) || OF_THE_MANAGER.contains(&name);
    is_of_others || is_ours && SECRET_WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "COFFRE_PASSWORD",
            "COFFRE_PASSWORD_COMMAND",
            "COFFRE_S3_SECRET",
            "COFFRE_S3_KEYS_COMMAND",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "NOTIFY_SOCKET",
        ] {
            assert!(is_withheld(OsStr::new(name)), "{name}");
        }
        for name in ["COFFRE_PASSWORD_FILE", "COFFRE_REPO", "AWS_PROFILE", "PGPASSWORD", "PATH", "SHOP_KEY"] {
            assert!(!is_withheld(OsStr::new(name)), "{name}");
        }
    }
}
