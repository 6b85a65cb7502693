//! Files with secrets that a configuration names: not everybody can read them.

use std::path::{Path, PathBuf};

use crate::cli::config::Configuration;
use crate::cli::config::file::{WrittenAt, others_read};
use crate::cli::config::keys::Value;
use crate::cli::environment::Environment;
use crate::cli::failure::Fallible;
use crate::cli::run::watchers::SecretAt;
use crate::engine::Engines;

/// Keys that name files with secrets.
const FILES: [&str; 2] = ["password-file", "identity-file"];
/// Parameters of database URLs that do, the first for other settings as well.
const FILE_PARAMETERS: [&str; 2] = [OPTION_FILE, "passfile"];
const OPTION_FILE: &str = "option-file";

/// Makes sure that others can read no file with a secret that a configuration names. What systemd hands to a service is kept by systemd.
///
/// # Errors
/// One for the user, with the place that names the file.
pub fn check_secret_files(config: &Configuration, environment: &Environment) -> Fallible<()> {
    let of_repositories = config.repositories.values().flat_map(|repository| &repository.values);
    let of_jobs = config.jobs.values().flat_map(|job| &job.values);
    let of_values = config.options.iter().chain(of_repositories).chain(of_jobs).flat_map(files_of);
    let watchers = config.jobs.values().map(|job| &job.watchers).chain([&config.watchers]);
    let of_urls = watchers.flat_map(|watchers| &watchers.urls).filter_map(|url| match &url.at {
        SecretAt::File(path) => Some((url.key.as_str(), path.clone(), &url.written)),
        SecretAt::Here(_) => None,
    });
    let handed = environment.path("CREDENTIALS_DIRECTORY");
    for (key, path, written) in of_values.chain(of_urls) {
        let is_handed = handed.as_ref().is_some_and(|directory| path.starts_with(directory));
        if !is_handed && others_read(&path) {
            let path = path.display();
            let failure = written.wrong(format!("{key}: {path} holds a secret, and others than its owner can read it"));
            return Err(failure.hinting(format!("chmod o-r {path}, and g-r where it is yours alone")));
        }
    }
    Ok(())
}

/// Returns the files with secrets that a value names, with its key and its place.
fn files_of(value: &Value) -> Vec<(&str, PathBuf, &WrittenAt)> {
    let paths: Vec<PathBuf> = match FILES.contains(&value.key.as_str()) {
        true => value.texts.iter().map(PathBuf::from).collect(),
        false => value.texts.iter().flat_map(|text| files_of_url(text)).collect(),
    };
    paths.into_iter().map(|path| (value.key.as_str(), path, &value.written)).collect()
}

/// Returns the files with secrets that the URL of a database names.
fn files_of_url(text: &str) -> Vec<PathBuf> {
    let engines = Engines::default();
    let Ok((_, url)) = engines.parse_url(text) else { return Vec::new() };
    let named = url.parameters().filter(|(name, _)| FILE_PARAMETERS.contains(name));
    let files = named.map(|(name, file)| (name, PathBuf::from(file)));
    files.filter(|(name, file)| *name != OPTION_FILE || has_password(file)).map(|(_, file)| file).collect()
}

/// Tells whether an option file has a password, or what is in it is not known.
fn has_password(file: &Path) -> bool {
    let Ok(text) = std::fs::read(file) else { return true };
    String::from_utf8_lossy(&text).lines().any(|line| line.trim_start().starts_with("password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_files_with_secrets() {
        assert_eq!(files_of_url("mysql://u@h/x?option-file=%2Fetc%2Fmy.cnf&ssl-ca=/a"), [PathBuf::from("/etc/my.cnf")]);
        assert_eq!(files_of_url("postgresql://h/x?passfile=/etc/p"), [PathBuf::from("/etc/p")]);
        assert!(files_of_url("/srv").is_empty());
    }
}
