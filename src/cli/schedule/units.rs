//! The text of units, timers and lines of crontabs: functions from what is wanted to what is written.
//!
//! `examples/systemd/coffre-run.service` and its timer, which the package installs, are made here as well; a test keeps them so.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::schedule::quoting;

/// Begins each file that is made here: only such files are written over or removed.
pub const MARK: &str = "# Made by `coffre schedule`";

/// When runs begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTime {
    /// As `OnCalendar=` takes it.
    pub calendar: String,
    /// As a crontab has it, where it can say so.
    pub cron: Option<String>,
}

/// What is to be run, and when.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The program.
    pub program: PathBuf,
    /// The configuration, where another one than the usual is read.
    pub config: Option<PathBuf>,
    /// Options of every command that each run is given.
    pub options: Vec<OsString>,
    /// The jobs; all of the configuration, where there are none.
    pub jobs: Vec<String>,
    /// When.
    pub at: RunTime,
    /// Within what time a run begins, as it was written.
    pub jitter: String,
    /// How long another run is waited for, where the configuration does not say so.
    pub wait: Option<&'static str>,
    /// Whether the units are for the user's service manager.
    pub is_users: bool,
    /// What is written beside cache, state and spool files: repositories in directories, files of metrics.
    pub written: Vec<PathBuf>,
    /// The file that holds the passphrase, where it is the same for all repositories.
    pub password_file: Option<PathBuf>,
    /// The configuration names repositories.
    pub knows_repositories: bool,
}

/// The name of the credential that has the passphrase.
const PASSWORD: &str = "coffre-password";
/// Secrets that are credentials, where there are such.
const CREDENTIALS: [&str; 3] = ["coffre-s3", "coffre-postgres-password", "coffre-mysql-password"];

impl RunTime {
    /// Reads an hour (`2`), a time of the day (`02:15`), or whatever else `OnCalendar=` takes, such as `Sun 04:00` or `hourly`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_control) {
            return Err("write an hour, a time such as 02:15, or what OnCalendar= of systemd takes".into());
        }
        let number = |text: &str, below: u8| {
            let is_number = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u8>().ok().filter(|&number| is_number && number < below)
        };
        let (hour, minute) = text.split_once(':').unwrap_or((text, "0"));
        if let (Some(hour), Some(minute)) = (number(hour, 24), number(minute, 60)) {
            return Ok(Self {
                calendar: format!("{hour:02}:{minute:02}"),
                cron: Some(format!("{minute} {hour} * * *")),
            });
        }
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
            return Err("there is no such time of the day".into());
        }
        let known =
            [("hourly", "0 * * * *"), ("daily", "0 0 * * *"), ("weekly", "0 0 * * 1"), ("monthly", "0 0 1 * *")];
        let cron = known.iter().find(|(name, _)| *name == text).map(|(_, cron)| (*cron).to_owned());
        Ok(Self { calendar: text.to_owned(), cron })
    }
}

/// Returns what the files of jobs are called, without what follows the dot.
pub fn name_of(jobs: &[String]) -> String {
    let jobs: Vec<String> = jobs.iter().map(|job| quoting::unit_name(job)).collect();
    if jobs.is_empty() { "coffre-run".into() } else { format!("coffre-run-{}", jobs.join("--")) }
}

impl Schedule {
    /// Returns what it is about, in some words.
    fn about(&self) -> String {
        match self.jobs.as_slice() {
            [] => "all jobs".into(),
            jobs => output::one_line(&jobs.join(", ")).into_owned(),
        }
    }

    /// Returns the words of the command.
    fn words(&self, with_jitter: bool) -> Vec<OsString> {
        // Who wants to hear more cannot want silence as well.
        let is_told = |option: &OsString| {
            option.to_str().is_some_and(|text| text.starts_with("--verbose") || text.starts_with("--progress"))
        };
        let mut words = Vec::new();
        if !self.options.iter().any(is_told) {
            words.push(OsString::from("--quiet"));
        }
        if let Some(config) = &self.config {
            words.extend([OsString::from("--config"), config.into()]);
        }
        words.extend(self.options.iter().cloned());
        words.push("run".into());
        if let Some(wait) = self.wait {
            words.extend(["--wait", wait].map(OsString::from));
        }
        if with_jitter && self.jitter != "0" {
            words.extend(["--jitter", &self.jitter].map(OsString::from));
        }
        if self.jobs.iter().any(|job| job.starts_with('-')) {
            words.push("--".into());
        }
        words.extend(self.jobs.iter().map(OsString::from));
        words
    }

    /// Returns the service.
    ///
    /// # Errors
    /// One for the user, when a path cannot stand in a unit.
    pub fn service(&self) -> Fallible<String> {
        let mut lines =
            vec![format!("{MARK}, which writes it anew; what this machine wants otherwise goes into a drop-in,")];
        lines.push("# by `systemctl edit`. What is run is in the configuration (`coffre config check` tries it), variables in coffre.env beside it.".into());
        if !self.is_users {
            lines.push(SECRETS.into());
        }
        lines.extend(self.unit_section());
        lines.extend(self.service_section()?);
        Ok(lines.join("\n") + "\n")
    }

    fn unit_section(&self) -> Vec<String> {
        let mut lines = vec![
            "[Unit]".to_owned(),
            format!("Description=Backups: {}", self.about().replace('%', "%%")),
            "Documentation=man:coffre-run(1)".to_owned(),
        ];
        if !self.is_users {
            lines.push("Wants=network-online.target".into());
            lines.push("After=network-online.target postgresql.service mariadb.service".into());
            lines.push("OnFailure=coffre-failure@%n.service".into());
        }
        lines
    }

    fn service_section(&self) -> Fallible<Vec<String>> {
        let words: Vec<String> = self.words(false).iter().map(|word| quoting::argument(word)).collect();
        let mut lines = vec![String::new(), "[Service]".into()];
        let mut add = |text: &str| lines.extend(text.trim_end().lines().map(str::to_owned));
        add(
            "# It says that it has begun, how far it is, and that it is alive; `systemctl start --wait` waits for its end.\nType=notify\nWatchdogSec=10min",
        );
        let home = if self.is_users { "%E/coffre" } else { "/etc/coffre" };
        add(&format!("EnvironmentFile=-{home}/coffre.env"));
        if self.knows_repositories {
            add("# The configuration says where jobs go.\nUnsetEnvironment=COFFRE_REPO");
        }
        add(&self.credentials()?);
        add("CacheDirectory=coffre\nCacheDirectoryMode=0700");
        add(
            "# Which repository is where: another one that is put there is refused.\nStateDirectory=coffre\nStateDirectoryMode=0700",
        );
        add(&format!("ExecStart={} {}", quoting::program(self.program.as_os_str()), words.join(" ")));
        add(
            "# Exit code 3 (done, but something was amiss and named) is a failure, too: somebody should look.\nTimeoutStopSec=60",
        );
        add("Nice=10\nIOSchedulingClass=idle\nUMask=0077");
        if !self.is_users {
            add(
                "# It writes nothing but its cache, its state, spool files, and what is named here.\nProtectSystem=strict",
            );
            add(&format!("ReadWritePaths={}", self.written_paths()?));
            add(HARDENED);
        }
        add(HARDENED_EVERYWHERE);
        if !self.is_users {
            add(LEFT_OUT);
        }
        Ok(lines)
    }

    /// Returns the credentials: systemd reads the files, and looks for those without one in its store, where one that is missing is no error.
    fn credentials(&self) -> Fallible<String> {
        let mut lines = Vec::new();
        match &self.password_file {
            Some(file) => {
                let file = quoting::verbatim(file.as_os_str())
                    .ok_or_else(|| usage(format!("{} cannot stand in a unit", file.display())))?;
                lines.push(format!("LoadCredential={PASSWORD}:{file}"));
                lines.push(format!("Environment=COFFRE_PASSWORD_FILE=%d/{PASSWORD}"));
            }
            None if self.is_users => {}
            None => lines.push(format!("LoadCredential={PASSWORD}")),
        }
        if !self.is_users {
            lines.extend(CREDENTIALS.map(|name| format!("LoadCredential={name}")));
        }
        Ok(lines.join("\n"))
    }

    fn written_paths(&self) -> Fallible<String> {
        let mut paths = vec!["/var/tmp".to_owned()];
        for path in &self.written {
            let told = quoting::path(path.as_os_str());
            paths.push(told.ok_or_else(|| usage(format!("{} cannot stand in a unit", path.display())))?);
        }
        Ok(paths.join(" "))
    }

    /// Returns the timer.
    pub fn timer(&self) -> String {
        let (about, at, jitter) = (self.about().replace('%', "%%"), &self.at.calendar, &self.jitter);
        format!(
            "{MARK}.\n[Unit]\nDescription=Backups: {about}\n\n[Timer]\nOnCalendar={at}\nRandomizedDelaySec={jitter}\nPersistent=yes\n\n\
             [Install]\nWantedBy=timers.target\n"
        )
    }

    /// Returns the lines of a crontab.
    ///
    /// # Errors
    /// One for the user, when it cannot be said there.
    pub fn crontab(&self) -> Fallible<String> {
        let at = self.at.cron.as_ref().ok_or_else(|| {
            let failure = usage(format!("{:?} cannot be said in a crontab", self.at.calendar));
            failure.hinting("--at takes an hour, a time such as 02:15, hourly, daily, weekly or monthly there")
        })?;
        let words = [self.program.clone().into_os_string()].into_iter().chain(self.words(true));
        let words: Option<Vec<String>> = words.map(|word| quoting::in_crontab(&word)).collect();
        let words =
            words.ok_or_else(|| usage("a name with a line end, or that is no text, cannot stand in a crontab"))?;
        let (words, about) = (words.join(" "), self.about());
        // The user's own has no column for whose it is.
        Ok(match self.is_users {
            true => format!("# Backups: {about}\n{at}  {words}\n"),
            false => {
                format!(
                    "# Backups: {about}\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n{at}  root  {words}\n"
                )
            }
        })
    }
}

/// Where secrets are, said in the unit.
const SECRETS: &str = "\
# Secrets that the configuration does not name as files are credentials, each the first line of a file in /etc/credstore that only root
# reads (systemd 252 and later; one that is missing is no error, and needed only where it is asked for): coffre-password, the passphrase;
# coffre-s3, aws_access_key_id = ... and aws_secret_access_key = ... on two lines, or below [PROFILE] for each profile;
# coffre-postgres-password and coffre-mysql-password, of the users in the URLs of databases.";

/// What a backup and programs that it starts never need.
const HARDENED: &str = "\
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectClock=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_SYS_PACCT CAP_SYS_PTRACE CAP_NET_ADMIN
CapabilityBoundingSet=~CAP_NET_RAW CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_LEASE CAP_BPF CAP_PERFMON
CapabilityBoundingSet=~CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_LINUX_IMMUTABLE CAP_SYS_RAWIO CAP_NET_BROADCAST CAP_SETPCAP
CapabilityBoundingSet=~CAP_NET_BIND_SERVICE CAP_IPC_LOCK CAP_CHECKPOINT_RESTORE
RestrictNamespaces=cgroup ipc mnt net pid uts
SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM";

const HARDENED_EVERYWHERE: &str = "\
NoNewPrivileges=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native";

const LEFT_OUT: &str = "\
# What would hide files from a backup, or keep hooks and commands from what they need, is left out on purpose: PrivateTmp,
# PrivateDevices, ProtectKernelModules, MemoryDenyWriteExecute, most of RestrictNamespaces, User.";

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(jobs: &[&str]) -> Schedule {
        Schedule {
            program: "/usr/bin/coffre".into(),
            config: None,
            options: Vec::new(),
            jobs: jobs.iter().map(|&job| job.to_owned()).collect(),
            at: RunTime::parse("02:15").expect("a time"),
            jitter: "15min".into(),
            wait: Some("6h"),
            is_users: false,
            written: Vec::new(),
            password_file: None,
            knows_repositories: false,
        }
    }

    #[test]
    fn a_time_is_an_hour_or_whatever_a_calendar_takes() {
        for (text, calendar, cron) in [
            ("2", "02:00", Some("0 2 * * *")),
            ("02:15", "02:15", Some("15 2 * * *")),
            ("23:5", "23:05", Some("5 23 * * *")),
            ("hourly", "hourly", Some("0 * * * *")),
            ("Sun *-*-* 04:00", "Sun *-*-* 04:00", None),
        ] {
            let time = RunTime::parse(text).expect("a time");
            assert_eq!((time.calendar.as_str(), time.cron.as_deref()), (calendar, cron), "{text}");
        }
        for wrong in ["", "24", "2:60", "daily\nExecStart=x", "025"] {
            assert!(RunTime::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_of_units_differ_where_jobs_do() {
        let name = |jobs: &[&str]| name_of(&jobs.iter().map(|&job| job.to_owned()).collect::<Vec<_>>());
        assert_eq!(name(&[]), "coffre-run");
        assert_eq!(name(&["nightly"]), "coffre-run-nightly");
        assert_eq!(name(&["a", "b"]), "coffre-run-a--b");
        assert_eq!(name(&["a--b"]), "coffre-run-a-\\x2db");
        assert_eq!(name(&["a:b"]), "coffre-run-a\\x3ab");
    }

    #[test]
    fn what_is_awkward_means_what_it_says() {
        let mut it = schedule(&["50% $HOME", "-x"]);
        it.config = Some("/etc/my coffre.toml".into());
        it.written = vec!["/srv/a b%".into()];
        it.password_file = Some("/etc/pass word%".into());
        let service = it.service().expect("made");
        for line in [
            "Description=Backups: 50%% $HOME, -x",
            "ExecStart=/usr/bin/coffre --quiet --config \"/etc/my coffre.toml\" run --wait 6h -- \"50%% $$HOME\" -x",
            "ReadWritePaths=/var/tmp \"-/srv/a b%%\"",
            "LoadCredential=coffre-password:/etc/pass word%%",
            "Environment=COFFRE_PASSWORD_FILE=%d/coffre-password",
        ] {
            assert!(service.lines().any(|known| known == line), "{line}: {service}");
        }
        let crontab = it.crontab().expect("made");
        let line = crontab.lines().last().expect("a line");
        assert_eq!(
            line,
            "15 2 * * *  root  /usr/bin/coffre --quiet --config '/etc/my coffre.toml' run --wait 6h --jitter 15min -- '50\\% $HOME' -x"
        );
        it.written = vec!["/a\nExecStartPre=/bin/sh".into()];
        assert!(it.service().is_err());
        it.jobs = vec!["a\nb".into()];
        assert!(it.crontab().is_err());
    }
}
