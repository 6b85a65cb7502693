//! Units where systemd looks for them, and `systemctl`.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cancel::Cancel;
use crate::cli::environment::Environment;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Context, Failure, Fallible};
use crate::cli::output;
use crate::cli::schedule::units::MARK;
use crate::model::outcome::Outcome;
use crate::process::{CommandOptions, Piped, Process};

/// Where the machine's own units are.
const SYSTEM: &str = "/etc/systemd/system";

/// The service manager of the machine, or of the user.
#[derive(Debug)]
pub struct Manager {
    directory: PathBuf,
    is_users: bool,
}

impl Manager {
    /// Returns the one that is meant.
    ///
    /// # Errors
    /// One for the user, when nobody knows where their units are.
    pub fn of(is_users: bool, environment: &Environment) -> Fallible<Self> {
        if !is_users {
            return Ok(Self { directory: SYSTEM.into(), is_users });
        }
        let home = environment.path("XDG_CONFIG_HOME").or_else(|| Some(environment.home()?.join(".config")));
        let home = home.ok_or_else(|| usage("there is no home directory for units: set HOME"))?;
        Ok(Self { directory: home.join("systemd/user"), is_users })
    }

    /// Returns where a unit is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes units and starts the timer.
    ///
    /// # Errors
    /// One for the user; what is somebody else's is left alone.
    pub fn install(&self, name: &str, files: &[(String, String)], dry_run: bool, quiet: bool) -> Fallible<Exit> {
        let timer = format!("{name}.timer");
        for (file, _) in files {
            self.is_ours(&self.path(file))?;
        }
        for (file, text) in files {
            let path = self.path(file);
            tell(quiet && !dry_run, if dry_run { "would write" } else { "wrote" }, &path.display().to_string());
            if !dry_run {
                write(&path, text).context(format!("writing {}", path.display()))?;
            }
        }
        self.control(&["daemon-reload"], dry_run)?;
        self.control(&["enable", &timer], dry_run)?;
        // One that runs already goes by its new times.
        self.control(&["restart", &timer], dry_run)?;
        tell(quiet || dry_run, "started", &timer);
        Ok(Exit::Done)
    }

    /// Stops the timer and removes units.
    ///
    /// # Errors
    /// One for the user; what is somebody else's is left alone.
    pub fn uninstall(&self, name: &str, dry_run: bool, quiet: bool) -> Fallible<Exit> {
        let paths = ["timer", "service"].map(|kind| self.path(&format!("{name}.{kind}")));
        let there: Vec<&PathBuf> = paths.iter().filter(|path| path.symlink_metadata().is_ok()).collect();
        if there.is_empty() {
            let failure = Failure::new(Outcome::Missing, format!("there is no {} to remove", paths[0].display()));
            return Err(failure.hinting("name the jobs that it was installed with, and --user if it was"));
        }
        for path in &there {
            self.is_ours(path)?;
        }
        self.control(&["disable", "--now", &format!("{name}.timer")], dry_run)?;
        for path in there {
            if !dry_run {
                fs::remove_file(path).context(format!("removing {}", path.display()))?;
            }
            tell(quiet && !dry_run, if dry_run { "would remove" } else { "removed" }, &path.display().to_string());
        }
        self.control(&["daemon-reload"], dry_run)?;
        Ok(Exit::Done)
    }

    /// Refuses a file that was not made by this command.
    fn is_ours(&self, path: &Path) -> Fallible<()> {
        match fs::read_to_string(path) {
            Ok(text) if text.starts_with(MARK) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Ok(_) => Err(Failure::new(Outcome::Refused, format!("{} was not made by coffre", path.display()))
                .hinting("move it away first")),
            Err(error) => Err(error).context(format!("reading {}", path.display())),
        }
    }

    fn control(&self, arguments: &[&str], dry_run: bool) -> Fallible<()> {
        let users: &[&str] = if self.is_users { &["--user"] } else { &[] };
        let words: Vec<OsString> = users.iter().chain(arguments).map(OsString::from).collect();
        let line = [&["systemctl"], users, arguments].concat().join(" ");
        if dry_run {
            output::line(&format!("would run    {line}"));
            return Ok(());
        }
        let mut options = CommandOptions::new("systemctl", &words);
        options.joins_output = true;
        options.pass_stderr = true;
        let ended = Process::spawn(&options, Piped { input: false, output: false }).and_then(|(mut process, _)| {
            process.ends_unless(&Cancel::default());
            Ok(process.wait()?.0.status())
        });
        match ended.context(format!("running {line}"))? {
            0 => Ok(()),
            status => Err(Failure::new(Outcome::Failed, format!("{line} ended with status {status}"))),
        }
    }
}

/// Writes a file that everybody may read, in one step.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

fn tell(is_quiet: bool, what: &str, subject: &str) {
    if !is_quiet {
        output::line(&format!("{what:<12} {subject}"));
    }
}
