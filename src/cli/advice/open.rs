//! Opening a repository: no repository, no key, no room for its index.

use crate::cli::advice::Advice;
use crate::repository::OpenError;
use crate::repository::index::IndexError;
use crate::repository::writers::KeyringError;

impl Advice for OpenError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            OpenError::Missing { location } => {
                return Some(format!("check the location, or make a repository with `coffre --repo {location} init`"));
            }
            OpenError::Exists { .. } => "use it as it is, or choose another directory or prefix",
            OpenError::WrongKey { .. } => {
                "the recovery identity on the printed recovery kit works in place of the passphrase"
            }
            OpenError::WrongIdentity { .. } => {
                "`coffre key add --recipient` makes a slot for it; the passphrase and the recovery identity open the repository as well"
            }
            OpenError::Unknown { .. } => {
                "give --fingerprint, as the recovery kit or `coffre key list` elsewhere has it: anybody can make a key slot for a public key"
            }
            OpenError::MistypedRecovery => {
                "compare it with the paper group by group; 0 and O, 1 and I and L count as the same"
            }
            OpenError::Another { found, was_given: false, .. } => {
                return Some(format!(
                    "it may have been made anew, another may have been put there, or somebody wants your backups: compare {found} with \
                     the recovery kit, and only if that has it add --fingerprint {found} once"
                ));
            }
            OpenError::Another { .. } => {
                "compare both with the recovery kit: it may have been made anew, another may have been put there, or somebody wants your \
                 backups"
            }
            OpenError::Disagreeing { .. } => {
                "somebody put a key slot there: say which one is yours with --fingerprint, as the recovery kit has it"
            }
            OpenError::RolledBack { .. } => {
                "somebody may have put back an old copy of the store; ask its provider before writing to it"
            }
            OpenError::Damaged { .. } | OpenError::Crypto(_) => return None,
            OpenError::Store { source, .. } => return source.hint(),
        };
        Some(hint.into())
    }
}

impl Advice for KeyringError {
    fn hint(&self) -> Option<String> {
        match self {
            KeyringError::Newest(error) => error.hint(),
            KeyringError::Store(error) => error.hint(),
            KeyringError::Snapshots(error) => error.hint(),
            KeyringError::NoSlot(_) | KeyringError::NoWriter(_) => Some("`coffre key list` shows them".into()),
            KeyringError::LastSlot(_) => {
                Some("`coffre key add` adds a passphrase, `coffre key passwd` changes this one".into())
            }
            KeyringError::Access(_) => Some("keys are changed with a passphrase that can read everything".into()),
            KeyringError::NoDomain(_)
            | KeyringError::Seal(_)
            | KeyringError::Session(_)
            | KeyringError::Invalid(_)
            | KeyringError::Contended => None,
        }
    }
}

impl Advice for IndexError {
    fn hint(&self) -> Option<String> {
        match self {
            IndexError::Store(error) => error.hint(),
            IndexError::Damaged { .. } => None,
            IndexError::Cache { .. } => Some("make room, or name other directories with --cache-dir and TMPDIR".into()),
        }
    }
}
