//! What stands against putting a SQLite database into a file.

use std::io::Read;
use std::path::Path;

use crate::database::DatabaseError;
use crate::database::spool::beside;
use crate::engine::plan::{Asked, DatabasePlan, Judgement};
use crate::engine::sqlite::copy::library_version;

/// Looks at the file. It is what the database will be called.
///
/// # Errors
/// When the place is no file.
pub fn judge(asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
    let file = asked.place.file()?;
    for database in databases {
        database.name = file.display().to_string();
        database.exists = file.exists();
    }
    Ok(Judgement {
        server_version: library_version().to_owned(),
        data_directory: std::path::absolute(file).ok().and_then(|file| file.parent().map(Into::into)),
        obstacles: obstacle(file).into_iter().collect(),
        notes: Vec::new(),
    })
}

/// Tells why a SQLite database could not be put there: what would be taken for a part of it, or what is no database.
fn obstacle(file: &Path) -> Option<String> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    if !file.exists() {
        if file.is_symlink() {
            return Some(format!("{} is a symbolic link to what is not there", file.display()));
        }
        return beside(file).next().map(|path| {
            format!(
                "{} is there: SQLite would take it for a part of the restored database; move it away",
                path.display()
            )
        });
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head));
    match read {
        Ok(_) if head.is_empty() || head == MAGIC => None,
        Ok(_) => Some(format!("{} is not a SQLite database; move it away", file.display())),
        Err(error) => Some(format!("{} cannot be read: {error}", file.display())),
    }
}
