//! Restoring a SQLite database: into a file beside the wanted one, checked there, and then given its name.
//!
//! A database that is to be replaced may be in use: its pages are exchanged by SQLite's backup API, inside a transaction that
//! its users see as a whole or not at all. Files that belong to it (`-wal`, `-shm`) are SQLite's own business then.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::blocking::blocking;
use crate::database::DatabaseError;
use crate::database::spool::{SpoolFile, beside};
use crate::engine::compare::DumpedRows;
use crate::engine::restore::{Cause, RestoredDatabase, Restoring, Unrestored};
use crate::engine::sqlite::check::check;
use crate::engine::sqlite::copy::copy;
use crate::engine::sqlite::dump::unchecked_note;
use crate::engine::sqlite::{facts, rows};
use crate::progress::Problem;

/// Restores one database into the file.
///
/// # Errors
/// [`Unrestored`].
pub async fn restore(restoring: &Restoring<'_>) -> Result<RestoredDatabase, Unrestored> {
    let plan = restoring.database;
    let step = || format!("restoring {}", plan.name);
    let left = || match plan.exists {
        true => format!("{} is untouched", plan.name),
        false => format!("there is no {}, nothing was left behind", plan.name),
    };
    let failed = |source| Unrestored { step: step(), left: left(), cause: Cause::Server(source) };
    let (file, stream) = (restoring.place.file().map_err(failed)?, plan.main());
    let directory = std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_path_buf));
    let directory = directory.unwrap_or_else(|| restoring.wishes.spool.clone());
    // Beside the wanted file, so that renaming is enough.
    let spool = SpoolFile::create(&directory, stream.bytes).map_err(failed)?;
    restoring.spool(&stream.path, spool.path()).await.map_err(|error| error.left(step(), left()))?;
    let (target, exists, cancel) = (file.to_owned(), plan.exists, restoring.cancel.clone());
    let (mode, owner) = (plan.fact(facts::FILE_MODE), plan.fact(facts::FILE_OWNER));
    let dumped = DumpedRows::of(plan, rows::SCHEME).filter(|_| restoring.wishes.compare);
    restoring.phase("checking");
    let placed = blocking(move || {
        let unchecked = check(spool.path())?;
        let compared = dumped.map(|dumped| rows::compare(spool.path(), dumped));
        if exists {
            copy(spool.path(), &target, &cancel).map_err(|error| match error {
                DatabaseError::Sqlite { what, source, .. } => DatabaseError::Sqlite { file: target, what, source },
                other => other,
            })?;
            return Ok((unchecked, compared, None));
        }
        if let Some(beside) = beside(&target).next() {
            let source = std::io::Error::other("it belongs to another database of this name");
            return Err(DatabaseError::Spool { path: beside, source });
        }
        let lost = give(spool.path(), mode.as_deref(), owner.as_deref());
        spool.become_file(&target)?;
        Ok((unchecked, compared, lost))
    });
    let (unchecked, compared, lost) = placed.await.map_err(failed)?;
    if !unchecked.is_empty() {
        let note = unchecked_note(&unchecked.join("; "));
        restoring.monitor.note(Problem::advice(plan.name.clone(), note));
    }
    if let Some(message) = lost {
        restoring.problem(message);
    }
    Ok(RestoredDatabase { name: plan.name.clone(), bytes: stream.bytes, compared, ..RestoredDatabase::default() })
}

/// Gives a file the permissions and the owner that the database had, and tells what could not be given.
fn give(file: &Path, mode: Option<&str>, owner: Option<&str>) -> Option<String> {
    let owner = owner?;
    let (user, group) = owner.split_once(':')?;
    let user_id = uzers::get_user_by_name(user).map(|user| user.uid()).or_else(|| user.parse().ok());
    let group_id = uzers::get_group_by_name(group).map(|group| group.gid()).or_else(|| group.parse().ok());
    let given = match (user_id, group_id) {
        (Some(user), Some(group)) => chown(file, Some(user), Some(group)).map_err(|error| error.to_string()),
        _ => Err("there are no such user and group here".to_owned()),
    };
    // With its rights, but for somebody else, it would be open to others than it was.
    match (given, mode.and_then(|mode| u32::from_str_radix(mode, 8).ok())) {
        (Err(why), _) => Some(format!("belonged to {owner}, and could not be given to them: {why}")),
        (Ok(()), Some(mode)) => {
            let set = std::fs::set_permissions(file, Permissions::from_mode(mode));
            set.err().map(|error| format!("its permissions could not be set to {mode:o}: {error}"))
        }
        (Ok(()), None) => None,
    }
}
