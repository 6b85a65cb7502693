//! A store in a bucket at an S3 provider.

pub mod provider;
