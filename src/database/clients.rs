//! Client programs of databases: where they are looked for, settled by whoever names a server. Nothing here asks the environment.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where client programs are, and what they were told already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The directory that all of them are in, if one was chosen.
    pub directory: Option<PathBuf>,
    /// The directories in which they are looked for otherwise, in this order.
    pub path: Vec<PathBuf>,
    /// Whether the environment that they get says how long they wait for a server.
    pub have_time_limit: bool,
}

impl Default for Clients {
    /// Looks where systems have their programs.
    fn default() -> Self {
        let path = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec();
        Self { directory: None, path, have_time_limit: false }
    }
}

impl Clients {
    /// Finds a program: in the directory that was chosen, in the first of `places` that has it, or by its name alone.
    pub fn find(&self, program: &str, places: &[PathBuf]) -> OsString {
        let found = || places.iter().map(|directory| directory.join(program)).find(|path| path.is_file());
        match &self.directory {
            // What was asked for is used, or missed by name.
            Some(directory) => directory.join(program).into_os_string(),
            None => found().map_or_else(|| program.into(), Into::into),
        }
    }

    /// Finds the first of several programs that is there; if none is, names the first.
    pub fn first_of(&self, names: &[&str]) -> OsString {
        let directories = self.directory.as_ref().map_or(self.path.as_slice(), std::slice::from_ref);
        let is_there = |name: &&&str| directories.iter().any(|directory| directory.join(name).is_file());
        self.find(names.iter().find(is_there).unwrap_or(&names[0]), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are_said_to_be() {
        let (here, there) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        std::fs::write(here.path().join("mysql"), "").expect("written");
        std::fs::write(there.path().join("mariadb"), "").expect("written");
        let (here, there) = (here.path().to_path_buf(), there.path().to_path_buf());
        let path = Clients { path: vec![here.clone()], ..Clients::default() };
        assert_eq!(path.first_of(&["mariadb", "mysql"]), "mysql", "by its name, as it is on the path");
        assert_eq!(path.first_of(&["absent", "missing"]), "absent");
        let chosen = Clients { directory: Some(there.clone()), ..path.clone() };
        assert_eq!(chosen.first_of(&["mysql", "mariadb"]), there.join("mariadb").into_os_string());
        // One that was chosen is missed by name.
        assert_eq!(chosen.find("psql", std::slice::from_ref(&here)), there.join("psql").into_os_string());
        assert_eq!(path.find("mysql", &[there, here.clone()]), here.join("mysql").into_os_string());
        assert_eq!(path.find("psql", &[here]), "psql");
    }
}
