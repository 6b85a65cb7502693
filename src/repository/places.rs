//! Where this machine keeps what it has of repositories. Who opens one says where that is: nothing is asked of the environment.

use std::path::{Path, PathBuf};

/// The directories for caches and states of all repositories, each of which has one of its own in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPlaces {
    /// For what can be fetched again: [`cache`](crate::repository::cache).
    pub cache: PathBuf,
    /// For tables for the time of a run when there cannot be a cache.
    pub scratch: PathBuf,
    /// For what must not be lost with the cache: [`state`](crate::repository::state). Without one nothing is remembered.
    pub state: Option<PathBuf>,
}

/// The root of a cache that nobody wants.
pub(super) const NOWHERE: &str = "/dev/null/coffre";

impl LocalPlaces {
    /// Keeps no cache and no state: every run fetches the index again, a store that was rolled back is not noticed, and the series
    /// of a host that cannot read begin anew with every run.
    pub fn without_cache(scratch: impl Into<PathBuf>) -> Self {
        // Nothing can be below what is no directory.
        Self { cache: NOWHERE.into(), scratch: scratch.into(), state: None }
    }
}

/// One directory for both, with the state in `state` below it: who clears it as a cache forgets what must not go back. What lies
/// only for the time of a run is in `/tmp`, without a name.
impl<P: AsRef<Path> + ?Sized> From<&P> for LocalPlaces {
    fn from(root: &P) -> Self {
        let cache = root.as_ref().to_path_buf();
        Self { state: Some(cache.join("state")), cache, scratch: "/tmp".into() }
    }
}

impl From<&LocalPlaces> for LocalPlaces {
    fn from(places: &LocalPlaces) -> Self {
        places.clone()
    }
}
