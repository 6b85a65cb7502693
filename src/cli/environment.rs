//! The environment of the process, which is read here alone.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::database::clients::Clients;
use crate::engine::Engine;

/// The environment. What is set and empty counts as not set.
#[derive(Debug, Clone)]
pub struct Environment {
    /// What is set, for tests; else the process is asked, so that secrets in it are not kept twice.
    pub(super) variables: Option<HashMap<&'static str, OsString>>,
    /// The user's home directory, of the password file where a system service has no HOME.
    pub(super) home: Option<PathBuf>,
}

impl Environment {
    /// Takes that of this process.
    pub fn of_process() -> Self {
        Self { variables: None, home: std::env::home_dir().filter(|home| home.is_absolute()) }
    }

    /// Returns the value of a variable.
    pub fn var_os(&self, name: &str) -> Option<OsString> {
        let value = match &self.variables {
            None => std::env::var_os(name),
            Some(set) => set.get(name).cloned(),
        };
        value.filter(|value| !value.is_empty())
    }

    /// Returns the value of a variable that is text.
    pub fn var(&self, name: &str) -> Option<String> {
        self.var_os(name)?.into_string().ok()
    }

    /// Returns the path that a variable holds.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.var_os(name).map(PathBuf::from)
    }

    /// Returns the home directory of the user.
    pub fn home(&self) -> Option<PathBuf> {
        self.home.clone()
    }

    /// Returns the file of a systemd credential, if there is one of this name.
    pub fn credential(&self, name: &str) -> Option<PathBuf> {
        let directory = self.path("CREDENTIALS_DIRECTORY")?;
        Some(directory.join(name)).filter(|path| path.exists())
    }

    /// Returns where the client programs of an engine are, and what they are told already.
    pub fn clients(&self, engine: &dyn Engine) -> Clients {
        let words = engine.words().server.as_ref();
        Clients {
            directory: words.and_then(|words| self.path(words.programs)),
            path: self.var_os("PATH").iter().flat_map(std::env::split_paths).collect(),
            have_time_limit: words.and_then(|words| self.var_os(words.time_limit?)).is_some(),
        }
    }

    /// Returns the first of two spellings that is set.
    pub fn either(&self, upper: &str, lower: &str) -> Option<String> {
        self.var(upper).or_else(|| self.var(lower))
    }
}
