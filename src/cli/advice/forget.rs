//! Forgetting: what is held, what is the last of its kind, what came too late.

use crate::cli::advice::Advice;
use crate::ops::forget::ForgetError;
use crate::repository::access::AccessError;
use crate::repository::retention::RetentionError;

impl Advice for ForgetError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            ForgetError::Access(error) => return of_access(error),
            ForgetError::Snapshots(error) => return error.hint(),
            ForgetError::Retention(error) => return error.hint(),
            ForgetError::Afterwards(error) => return error.hint(),
            ForgetError::NoRules => "add one such as --keep-daily 7",
            ForgetError::Held { id, .. } => return Some(format!("`coffre hold remove {}` releases it", id.short())),
            ForgetError::NotHeld(_) => "`coffre hold list` shows what is held",
            ForgetError::LastGood { .. } => "if it is to go all the same, add --allow-empty",
            ForgetError::Already(id) => {
                return Some(format!("`coffre forget --undo {}` brings it back", id.short()));
            }
            ForgetError::NotForgotten(_) | ForgetError::NothingForgotten => {
                "`coffre snapshots --forgotten` shows what can be brought back"
            }
            ForgetError::Removed(_) => return None,
            ForgetError::Over => "name a time ahead of now with --until",
        };
        Some(hint.into())
    }
}

impl Advice for RetentionError {
    fn hint(&self) -> Option<String> {
        match self {
            RetentionError::Access(error) => of_access(error),
            RetentionError::Store(_, error) => error.hint(),
            RetentionError::TooMany(_) => Some("choose fewer at once with --host, --job or --path".into()),
        }
    }
}

fn of_access(error: &AccessError) -> Option<String> {
    match error {
        AccessError::WriterOnly => {
            Some("which snapshots stay is decided with a passphrase that can read everything".into())
        }
        _ => None,
    }
}
