//! Restoring a SQLite database: into a file beside the wanted one, checked there, and then given its name.
//!
//! A database that is to be replaced may be in use: its pages are exchanged by SQLite's backup API, inside a transaction that
//! its users see as a whole or not at all. Files that belong to it (`-wal`, `-shm`) are SQLite's own business then.

use std::path::Path;

use crate::database::spool::SpoolFile;
use crate::database::sqlite::{check, copy};
use crate::ops::restore_database::feed::Feeder;
use crate::ops::restore_database::plan::DatabasePlan;
use crate::ops::restore_database::{RestoreDatabaseError, RestoreDatabaseOptions, RestoredDatabase};

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
    feeder.monitor.phase(&format!("checking {}", plan.name));
    let placed = tokio::task::spawn_blocking(move || {
        check(spool.path())?;
        if exists {
            copy(spool.path(), &target, &|| cancel.is_cancelled())?;
        } else {
            spool.become_file(&target)?;
        }
        Ok(())
    });
    placed.await.expect("placing does not panic").map_err(failed)?;
    Ok(RestoredDatabase { name: plan.name.clone(), bytes: stream.bytes, ..RestoredDatabase::default() })
}
