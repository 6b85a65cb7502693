//! The environment of the process, which is read here alone.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::database::clients::Clients;
use crate::engine::Engine;

/// The environment. What is set and empty counts as not set.
#[derive(Debug, Clone)]
pub struct Environment {
    /// What is set, for tests; else the process is asked, so that secrets in it are not kept twice.
    pub(super) variables: Option<HashMap<&'static str, OsString>>,
    /// The user's home directory, of the password file where a system service has no HOME.
    pub(super) home: Option<PathBuf>,
    /// This process may do everything.
    pub(super) is_root: bool,
}

impl Environment {
    /// Takes that of this process.
    pub fn of_process() -> Self {
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        Self { variables: None, home, is_root: rustix::process::geteuid().is_root() }
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

    /// Returns a directory of the system's services, where this process is the system's own, there is such a directory that nobody else may
    /// write to, and it is in use or the one `at_home` is not.
    pub fn of_services(&self, path: &str, at_home: &str) -> Option<PathBuf> {
        let is_safe = |metadata: &Metadata| metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o022 == 0;
        let is_used = |path: &Path| path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        let is_ours = self.is_root && std::fs::symlink_metadata(path).is_ok_and(|metadata| is_safe(&metadata));
        let at_home = self.home().map(|home| home.join(at_home));
        (is_ours && (is_used(Path::new(path)) || !at_home.is_some_and(|path| is_used(&path)))).then(|| path.into())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn root_takes_the_directory_of_services_that_is_in_use_or_before_it_has_one_of_its_own() {
        let (services, home) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let of = |is_root: bool| {
            let environment = Environment { variables: None, home: Some(home.path().to_owned()), is_root };
            environment.of_services(services.path().to_str().expect("plain"), "own").is_some()
        };
        // It must be the system's, too.
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!((of(true), of(false)), (is_root, false));
        std::fs::create_dir(home.path().join("own")).expect("made");
        assert_eq!(of(true), is_root, "nothing is in it");
        std::fs::write(home.path().join("own/known"), "").expect("written");
        assert!(!of(true), "whoever began at home goes on there");
        std::fs::write(services.path().join("known"), "").expect("written");
        assert_eq!(of(true), is_root);
        std::fs::set_permissions(services.path(), std::fs::Permissions::from_mode(0o777)).expect("set");
        assert!(!of(true), "anybody may write there");
    }
}
