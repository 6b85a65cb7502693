//! The recovery kit: a page to print, with all that a restore on a bare machine needs.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

use crate::cli::exit::usage;
use crate::crypto::secret::Passphrase;
use crate::format::FORMAT_VERSION;
use crate::model::time::Timestamp;
use crate::repository::Repository;
use crate::store::location::Location;

/// Makes the new, empty file that only its owner may read: before there is anything to lose.
///
/// # Errors
/// One for the user when there is a file, or it cannot be made.
pub fn reserve(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| usage(format!("the recovery kit cannot be written to {}: {error}", path.display())))
}

/// Writes the page into its file.
pub fn fill(mut file: File, path: &Path, page: &str) -> anyhow::Result<()> {
    let written = file.write_all(page.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("writing the recovery kit to {}", path.display()))
}

/// Returns the page.
pub fn render(repository: &Repository, location: &Location, identity: &Passphrase, now: Timestamp) -> String {
    let place = match location {
        Location::Directory(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
        other => other.to_string(),
    };
    let credentials = match location {
        Location::S3(_) => {
            "\
   The bucket's access keys, from its provider's console (they are not on this page):

     export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...

"
        }
        _ => "",
    };
    format!(
        "\
COFFRE RECOVERY KIT
===================

Print this page, keep it where a fire or a thief does not find it together with the
servers, and delete the file. Whoever has it and can reach the store can read every
backup. Nobody can make it again.

  Repository   {id}
  Location     {place}
  Made         {now}
  Format       version {FORMAT_VERSION}; coffre {program} or newer reads it

  RECOVERY IDENTITY

     {identity}

  (0 and O, 1 and I and L count as the same; capitals do not matter.)


TO RESTORE on a machine that has nothing
----------------------------------------

1. Install coffre {program} or newer.

2. Say where the backups are:

     export COFFRE_REPO='{place}'

{credentials}3. See what there is. coffre asks for the passphrase: type the recovery identity.

     coffre snapshots

4. Restore the newest snapshot, or one that the list shows by its id:

     coffre restore latest --target /srv/restored
     coffre restore latest:/etc --target /srv/restored-etc
     coffre dump latest:NAME.sql > NAME.sql

   It can be interrupted and run again; it goes on where it was. At the end it says
   whether anything could not be restored, and what.

If there is no coffre any more: every byte is specified in docs/format.md of its sources,
and examples/reader.py there, written from that page alone, restores from a copy of the
repository in a directory.
",
        id = repository.id(),
        program = env!("CARGO_PKG_VERSION"),
        identity = identity.expose(),
    )
}
