//! A store in a bucket, or anywhere else, opened as a run would open it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coffre::progress::Collected;
use coffre::store::layer::retry::RetryOptions;
use coffre::store::location::Location;
use coffre::store::s3::S3Options;
use coffre::store::s3::credentials::S3Credentials;
use coffre::store::{OpenMode, OpenOptions, Store};

/// Opens a location with fixed credentials.
pub fn open(location: &str, key: (&str, &str), ca_file: Option<PathBuf>) -> Arc<dyn Store> {
    let credentials = S3Credentials {
        access_key_id: key.0.to_owned(),
        secret_access_key: key.1.to_owned().into(),
        session_token: None,
    };
    // No server here needs ten minutes; a test that fails should say so sooner.
    let retry = RetryOptions { give_up_after: Duration::from_secs(20), ..RetryOptions::default() };
    let options = OpenOptions {
        mode: OpenMode::Create,
        retry,
        s3: S3Options { credentials: Some(credentials), ca_file, ..S3Options::default() },
        ..OpenOptions::default()
    };
    let location: Location = location.parse().expect("a location");
    coffre::store::open(&location, &options, Arc::new(Collected::default())).expect("opened")
}

/// Returns a prefix that no other test uses: the servers outlive a test.
pub fn fresh() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("randomness");
    format!("contract/{:016x}", u64::from_ne_bytes(random))
}
