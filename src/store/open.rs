//! Opening a location: the one place that knows which decorators a store gets, and in which order.

use std::sync::Arc;

use crate::cancel::Cancel;
use crate::progress::Monitor;
use crate::store::layer::limit::{LimitOptions, LimitStore};
use crate::store::layer::retry::{RetryOptions, RetryStore};
use crate::store::local::LocalStore;
use crate::store::location::Location;
use crate::store::memory::MemoryStore;
use crate::store::s3::{S3Options, S3Store};
use crate::store::{Store, StoreError};

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenMode {
    /// Reading only: nothing is changed, not even left-over temporary files.
    Read,
    /// Reading and writing.
    #[default]
    Write,
    /// Reading and writing, and a directory that is missing is made. (Buckets are made by their owner.)
    Create,
}

/// How a store is opened.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct OpenOptions {
    /// What for.
    pub mode: OpenMode,
    /// Requests at once, at most; a provider's own limit is kept besides.
    pub connections: usize,
    /// Bytes a second that may be sent; at most one second's worth is saved up while nothing is.
    pub upload_bytes_per_second: Option<u64>,
    /// The same for what is fetched.
    pub download_bytes_per_second: Option<u64>,
    /// How often and how long to try again.
    pub retry: RetryOptions,
    /// How a bucket is reached.
    pub s3: S3Options,
    /// Ends every wait in the store when ending is asked for.
    pub cancel: Cancel,
}

impl Default for OpenOptions {
    /// Writing, with 16 requests at once: enough to fill a gigabit with packs at the latency of a neighbouring country.
    fn default() -> Self {
        Self {
            mode: OpenMode::default(),
            connections: 16,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
            retry: RetryOptions::default(),
            s3: S3Options::default(),
            cancel: Cancel::default(),
        }
    }
}

/// Opens the store at `location`. Nothing is sent yet: a bucket that is missing shows at the first request.
///
/// From the outside in: [`RetryStore`], then [`LimitStore`], then the store itself. So every attempt keeps to the
/// limits, the limits see each answer that asks to slow down, and an operation that waits to try again holds no place.
///
/// # Errors
/// `NoSuchPlace` when a directory is missing, `NoCredentials` when there are none, `NoCertificates` for a CA file that is none.
pub fn open(
    location: &Location,
    options: &OpenOptions,
    monitor: Arc<dyn Monitor>,
) -> Result<Arc<dyn Store>, StoreError> {
    let mut limits = LimitOptions {
        connections: options.connections,
        requests_per_second: None,
        upload_bytes_per_second: options.upload_bytes_per_second,
        download_bytes_per_second: options.download_bytes_per_second,
    };
    let store: Arc<dyn Store> = match location {
        Location::Directory(path) => Arc::new(LocalStore::open(path, options.mode)?),
        Location::Memory(name) => Arc::new(MemoryStore::named(name)),
        Location::S3(s3) => {
            limits.connections = limits.connections.min(s3.provider.connections_max);
            limits.requests_per_second = s3.provider.requests_per_second;
            Arc::new(S3Store::open(s3, &options.s3)?)
        }
    };
    let limited = Arc::new(LimitStore::new(store, limits));
    Ok(Arc::new(RetryStore::new(limited, options.retry, monitor, options.cancel.clone())))
}
