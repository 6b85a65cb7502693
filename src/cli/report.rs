//! Printing an error: what failed, why, link by link, and one hint what to try.

use crate::cli::exit::{Exit, is_denied, store_error};
use crate::cli::output;
use crate::ops::backup::BackupError;
use crate::repository::OpenError;
use crate::repository::index::IndexError;
use crate::repository::snapshots::SnapshotError;
use crate::source::SourceError;
use crate::store::StoreErrorKind;

/// Prints an error to standard error; with `json`, as an object on standard output too.
pub fn print(error: &anyhow::Error, exit: Exit, json: bool) {
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    let hint = hint(error);
    if json {
        output::json(&serde_json::json!({
            "event": "error",
            "message": error.to_string(),
            "causes": causes,
            "hint": hint,
            "exit_code": exit as u8,
        }));
        return;
    }
    eprintln!("error: {error}");
    for cause in causes {
        eprintln!("  caused by: {cause}");
    }
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}

/// Returns the advice that helps most with an error.
fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(open) = error.chain().find_map(|cause| cause.downcast_ref::<OpenError>()) {
        match open {
            OpenError::Missing { location } => {
                return Some(format!("check the location, or make a repository with `coffre --repo {location} init`"));
            }
            OpenError::Exists { .. } => {
                return Some("use it as it is, or choose another directory or prefix".into());
            }
            OpenError::WrongKey { .. } => {
                return Some(
                    "the recovery identity on the printed recovery kit works in place of the passphrase".into(),
                );
            }
            OpenError::MistypedRecovery => {
                return Some(
                    "compare it with the paper group by group; 0 and O, 1 and I and L count as the same".into(),
                );
            }
            OpenError::RolledBack { .. } => {
                return Some(
                    "somebody may have put back an old copy of the store; ask its provider before writing to it".into(),
                );
            }
            OpenError::Cache { .. } => {
                return Some("name another directory with --cache-dir or COFFRE_CACHE_DIR".into());
            }
            _ => {}
        }
    }
    for cause in error.chain() {
        if let Some(BackupError::Vanished { .. }) = cause.downcast_ref() {
            return Some("run it again: what was stored is found, and what was deleted is stored anew".into());
        }
        if let Some(BackupError::Stream { source, .. }) = cause.downcast_ref() {
            return Some(match source {
                SourceError::Spawn { .. } => "is the program installed, and in PATH for this user?".into(),
                SourceError::Empty { .. } => "an empty dump is never stored; does the command work by itself?".into(),
                _ => "run the command by itself to see why; earlier snapshots are untouched".into(),
            });
        }
        match cause.downcast_ref::<SnapshotError>() {
            Some(SnapshotError::Unknown(_) | SnapshotError::NoneFits) => {
                return Some("`coffre snapshots` lists what there is".into());
            }
            Some(SnapshotError::Ambiguous { .. }) => return Some("write more digits of the id".into()),
            Some(SnapshotError::Damaged { .. }) => {
                return Some("choose another snapshot; `coffre verify --read-data` tells what else is hit".into());
            }
            _ => {}
        }
        if let Some(IndexError::Cache { .. }) = cause.downcast_ref() {
            return Some("name another directory with --cache-dir or COFFRE_CACHE_DIR".into());
        }
    }
    let store = error.chain().find_map(store_error)?;
    match store.kind {
        StoreErrorKind::Denied if is_denied(error) => Some(
            "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) and what they may do here"
                .into(),
        ),
        StoreErrorKind::NoSuchPlace => Some("check the spelling; buckets are made at the provider, not by coffre".into()),
        StoreErrorKind::Full => Some("make room, or raise the quota; what is stored is safe and will be used".into()),
        StoreErrorKind::Unavailable => {
            Some("check the network and the endpoint; the same command goes on where this one ended".into())
        }
        StoreErrorKind::Throttled => Some("try fewer --connections, or --limit-upload".into()),
        _ => None,
    }
}
