//! Restoring a SQLite database: into a file beside the wanted one, checked there, and then given its name.
//!
//! A database that is to be replaced may be in use: its pages are exchanged by SQLite's backup API, inside a transaction that
//! its users see as a whole or not at all. Files that belong to it (`-wal`, `-shm`) are SQLite's own business then.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::database::spool::SpoolFile;
use crate::database::sqlite::{beside, check, copy};
use crate::database::{DatabaseError, fact};
use crate::ops::restore_database::feed::Feeder;
use crate::ops::restore_database::plan::DatabasePlan;
use crate::ops::restore_database::{RestoreDatabaseError, RestoreDatabaseOptions, RestoredDatabase};
use crate::progress::Problem;

/// Restores one database into `file`.
pub(super) async fn restore(
    feeder: &Feeder,
    options: &RestoreDatabaseOptions,
    file: &Path,
    plan: &DatabasePlan,
) -> Result<RestoredDatabase, RestoreDatabaseError> {
    let step = || format!("restoring {}", plan.name);
    let left = || match plan.exists {
        true => format!("{} is untouched", plan.name),
        false => format!("there is no {}, nothing was left behind", plan.name),
    };
    let stream = plan.streams.first().expect("a plan has a main stream");
    let directory = std::path::absolute(file).ok().and_then(|file| file.parent().map(Path::to_path_buf));
    let directory = directory.unwrap_or_else(|| options.spool.clone());
    let failed = |source| RestoreDatabaseError::Server { step: step(), left: left(), source };
    // Beside the wanted file, so that renaming is enough.
    let spool = SpoolFile::create(&directory, stream.bytes).map_err(failed)?;
    feeder.spool(&stream.path, spool.path()).await.map_err(|error| error.left(step(), left()))?;
    let (target, exists, cancel) = (file.to_owned(), plan.exists, feeder.cancel.clone());
    let (mode, owner) = (plan.fact(fact::FILE_MODE).map(str::to_owned), plan.fact(fact::FILE_OWNER).map(str::to_owned));
    feeder.monitor.phase(&format!("checking {}", plan.name));
    let placed = tokio::task::spawn_blocking(move || {
        check(spool.path())?;
        if exists {
            copy(spool.path(), &target, &|| cancel.is_cancelled()).map_err(|error| match error {
                DatabaseError::Sqlite { what, source, .. } => DatabaseError::Sqlite { file: target, what, source },
                other => other,
            })?;
            return Ok(None);
        }
        if let Some(beside) = beside(&target).next() {
            let source = std::io::Error::other("it belongs to another database of this name");
            return Err(DatabaseError::Spool { path: beside, source });
        }
        let lost = give(spool.path(), mode.as_deref(), owner.as_deref());
        spool.become_file(&target)?;
        Ok(lost)
    });
    if let Some(message) = placed.await.expect("placing does not panic").map_err(failed)? {
        feeder.monitor.problem(Problem::missing(plan.name.clone(), message));
    }
    Ok(RestoredDatabase { name: plan.name.clone(), bytes: stream.bytes, ..RestoredDatabase::default() })
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
