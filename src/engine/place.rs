//! Places: where a database is, or is to be.

use std::path::{Path, PathBuf};

use crate::database::DatabaseError;
use crate::database::url::{DatabaseUrl, UrlKind};

/// Where an engine has its databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// On servers, at URLs like these.
    Urls(&'static UrlKind),
    /// In files, one each.
    Files,
}

/// A server, perhaps with a database on it, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On a server.
    Url(DatabaseUrl),
    /// In a file.
    File(PathBuf),
}

impl Place {
    /// Returns the URL.
    pub fn url(&self) -> Option<&DatabaseUrl> {
        match self {
            Place::Url(url) => Some(url),
            Place::File(_) => None,
        }
    }

    /// Returns the URL for an engine that must have one.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] when it is a file.
    pub fn server(&self) -> Result<&DatabaseUrl, DatabaseError> {
        match self {
            Place::Url(url) => Ok(url),
            Place::File(file) => Err(wrong(file.display().to_string(), "this is a file, and a server is needed")),
        }
    }

    /// Returns the file for an engine that must have one.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] when it is a server.
    pub fn file(&self) -> Result<&Path, DatabaseError> {
        match self {
            Place::File(file) => Ok(file),
            Place::Url(url) => Err(wrong(url.to_string(), "this is a server, and a file is needed")),
        }
    }
}

fn wrong(server: String, why: &str) -> DatabaseError {
    DatabaseError::Refused { server, why: why.to_owned() }
}
