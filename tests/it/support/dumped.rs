//! What a dump writes, kept to be looked at.

use std::io::Write;
use std::sync::{Arc, Mutex};

use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::dump::{DumpError, dump};
use coffre::ops::{Cancel, open_reader};
use coffre::progress::Collected;
use coffre::repository::reader::Reader;
use coffre::store::Store;

use crate::support::open;

/// Something to write to that can be looked at afterwards.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// Takes what was written.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("no panic while held"))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic while held").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Dumps what is at `path`, or the whole snapshot.
pub async fn dumped(reader: Arc<Reader>, snapshot: &Snapshot, path: Option<EntryPath>) -> Result<Vec<u8>, DumpError> {
    let output = Output::default();
    let monitor = Arc::new(Collected::default());
    dump(reader, snapshot, path, Box::new(output.clone()), monitor, Cancel::default()).await?;
    Ok(output.take())
}

/// Does the same with an empty cache.
pub async fn dumped_afresh(
    store: Arc<dyn Store>,
    snapshot: &Snapshot,
    path: Option<EntryPath>,
) -> Result<Vec<u8>, DumpError> {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let repository = open(store, cache.path()).await.expect("opens");
    let reader = open_reader(repository, 256 << 20, Arc::new(Collected::default())).await.expect("the index is there");
    dumped(reader, snapshot, path).await
}
