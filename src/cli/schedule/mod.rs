//! `coffre schedule`: `coffre run` at its time, by systemd or cron.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Context, Fallible};
use crate::cli::flags::duration;
use crate::cli::output;
use crate::cli::settings::Settings;
use crate::store::location::Location;

mod install;
mod quoting;
mod units;

use install::Manager;
use units::{RunTime, Schedule};

/// How long a run waits for another one, where the configuration does not say so.
const WAIT: &str = "6h";

/// Where `sendmail` of Postfix, Exim and others puts mail, and Exim its log.
const MAIL: [&str; 2] = ["/var/spool", "/var/log/exim4"];

/// Flags of `schedule`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre schedule
  sudo coffre schedule --install --at 02:15
  sudo coffre schedule --install --at 'Sun 04:00' archive
  coffre schedule --cron --at 3 | sudo tee /etc/cron.d/coffre

Without --install the units are printed and nothing is changed. Each set of jobs has units of its own: coffre-run for all, coffre-run-NAME for \
one. They are written where systemd looks for those of the machine, or with --user of the user, and the timer is started. Repositories in \
directories, the file of metrics and the file of the passphrase are taken from the configuration as it is now: run it again when they change.")]
pub struct Args {
    /// Jobs [default: all of the configuration]
    #[arg(value_name = "JOB")]
    names: Vec<String>,
    /// When: an hour, a time such as 02:15, or what OnCalendar= of systemd takes
    #[arg(long, value_name = "TIME", default_value = "02:15", value_parser = RunTime::parse)]
    at: RunTime,
    /// Begin at some moment within this time, so that many hosts do not begin at once
    #[arg(long, value_name = "DURATION", default_value = "15min", value_parser = duration)]
    jitter: Duration,
    /// Write the units and start the timer
    #[arg(long, conflicts_with_all = ["uninstall", "cron"])]
    install: bool,
    /// Stop the timer and remove the units
    #[arg(long, conflicts_with = "cron")]
    uninstall: bool,
    /// For the user's service manager, or crontab
    #[arg(long)]
    user: bool,
    /// Print a line for a crontab instead
    #[arg(long)]
    cron: bool,
    /// Say what would be written, removed and run
    #[arg(long, short = 'n')]
    dry_run: bool,
}

impl Args {
    /// Tells whether it needs no configuration.
    pub fn only_removes(&self) -> bool {
        self.uninstall
    }

    /// Tells whether what it prints is all that it does.
    pub fn only_shows(&self) -> bool {
        self.dry_run || !(self.install || self.uninstall)
    }
}

/// Prints, installs or removes units.
pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let name = units::name_of(&args.names);
    if args.uninstall {
        return Manager::of(args.user, &global.environment)?.uninstall(&name, args.dry_run, global.quiet);
    }
    let schedule = schedule(global, &args)?;
    if args.cron {
        return output::print(&schedule.crontab()?);
    }
    let manager = Manager::of(args.user, &global.environment)?;
    let files = [(format!("{name}.service"), schedule.service()?), (format!("{name}.timer"), schedule.timer())];
    if args.install {
        return manager.install(&name, &files, args.dry_run, global.quiet);
    }
    let page: Vec<String> =
        files.iter().map(|(name, text)| format!("# {}\n{text}", manager.path(name).display())).collect();
    output::print(&page.join("\n"))
}

/// Makes the schedule of what is asked for and what the configuration says.
fn schedule(global: &Settings, args: &Args) -> Fallible<Schedule> {
    let config = &global.configured.config;
    let named = crate::cli::run::jobs(global, &args.names)?;
    let mut written = Vec::new();
    for settings in crate::cli::run::settings_of_all(global, &args.names)? {
        if let Ok(Location::Directory(path)) = settings.location() {
            written.push(path);
        }
    }
    let said = |key: &str| config.said(key).into_iter().map(PathBuf::from);
    written.extend(said("metrics-file").filter_map(|path| path.parent().map(PathBuf::from)));
    written.extend(["cache-dir", "spool-dir"].into_iter().flat_map(said));
    let is_mailed = |job: Option<&str>| !config.watchers(job).mail_to.is_empty();
    if is_mailed(None) || named.iter().any(|job| is_mailed(Some(job))) {
        written.extend(MAIL.map(PathBuf::from));
    }
    written.sort();
    written.dedup();
    let passwords: Vec<PathBuf> = said("password-file").collect();
    // Where one repository takes another, or one that comes from elsewhere, a variable for all would be wrong.
    let is_for_all =
        passwords.len() == 1 && config.repository_names().count() <= 1 && config.said("password-command").is_empty();
    let program = std::env::current_exe().context("looking for this program")?;
    Ok(Schedule {
        program,
        config: global.config_file.clone().map(|path| std::path::absolute(&path).unwrap_or(path)),
        options: options(global),
        jobs: args.names.clone(),
        at: args.at.clone(),
        jitter: seconds(args.jitter)?,
        wait: config.said("wait").is_empty().then_some(WAIT),
        is_users: args.user,
        written,
        password_file: passwords.into_iter().next().filter(|_| is_for_all),
        knows_repositories: config.repository_names().next().is_some(),
    })
}

/// Returns the options of every command that were typed: they are for the runs.
fn options(global: &Settings) -> Vec<OsString> {
    let is_own = |option: &OsString| option.as_bytes().starts_with(b"--config=") || option == "--quiet";
    global.configured.typed.iter().filter(|option| !is_own(option)).cloned().collect()
}

/// Writes a time as both systemd and `--jitter` take it.
fn seconds(time: Duration) -> Fallible<String> {
    match time.as_secs() {
        0 if !time.is_zero() => Err(usage("--jitter takes whole seconds here")),
        0 => Ok("0".into()),
        seconds if seconds.is_multiple_of(60) => Ok(format!("{}min", seconds / 60)),
        seconds => Ok(format!("{seconds}s")),
    }
}
