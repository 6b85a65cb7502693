//! The client programs of MariaDB and MySQL: which is there, what it can do, and what option files may tell it.

use std::ffi::OsString;

use crate::engine::mysql::session;
use crate::engine::withholding_passwords;
use crate::process::CommandOptions;

/// Names the directory of the client programs, where they are not found by themselves.
pub const PROGRAMS_VARIABLE: &str = "COFFRE_MYSQL_BIN";

/// What option files may say to the clients: how to connect, and what changes neither a dump nor what the client makes of
/// its input. (A line such as `where=…` or `force` would.)
const HARMLESS_OPTIONS: [&str; 40] = [
    "host",
    "port",
    "socket",
    "user",
    "password",
    "protocol",
    "bind-address",
    "connect-timeout",
    "compress",
    "compression-algorithms",
    "ssl",
    "skip-ssl",
    "disable-ssl",
    "skip-ssl-verify-server-cert",
    "tls-version",
    "tls-ciphersuites",
    "default-auth",
    "plugin-dir",
    "enable-cleartext-plugin",
    "get-server-public-key",
    "server-public-key-path",
    "secure-auth",
    "character-sets-dir",
    "default-character-set",
    "max-allowed-packet",
    "net-buffer-length",
    // Of the dump programs, what is asked of them anyway.
    "single-transaction",
    "quick",
    "quote-names",
    "opt",
    "routines",
    "triggers",
    "events",
    "hex-blob",
    "skip-lock-tables",
    "column-statistics",
    "set-gtid-purged",
    // Of the client, what is for people at a terminal.
    "prompt",
    "auto-rehash",
    "no-auto-rehash",
];
/// Options of this kind are as harmless.
const HARMLESS_PREFIX: &str = "ssl-";

/// Returns the options among those that `--print-defaults` printed that change what a client does, without their values.
pub fn harmful_options(printed: &str) -> Vec<String> {
    let is_harmless = |name: &str| HARMLESS_OPTIONS.contains(&name) || name.starts_with(HARMLESS_PREFIX);
    let arguments = printed.split_once('\n').map_or("", |(_, arguments)| arguments);
    // A value may have spaces.
    let options = arguments.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    options
        .map(|option| option.split('=').next().unwrap_or_default().replace('_', "-"))
        .filter(|name| !is_harmless(name.strip_prefix("loose-").unwrap_or(name)))
        .collect()
}

/// Describes a program that is asked about itself, and connects to nothing.
pub fn alone(program: impl Into<OsString>, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> CommandOptions {
    withholding_passwords(CommandOptions::new(program, arguments), None)
}

/// A dump program, and what it can do.
#[derive(Debug, Clone)]
pub struct DumpProgram {
    /// The program.
    pub program: OsString,
    /// Its version.
    pub version: String,
    /// What it says of its options.
    pub(super) help: String,
}

impl DumpProgram {
    /// Tells whether it knows an option, written without a value.
    pub fn knows(&self, option: &str) -> bool {
        self.help.contains(option)
    }

    /// Tells MariaDB's from MySQL's.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// Returns the options of every dump, so that each writes rows in the same way: consistent without locks, row by row, free of encodings
    /// that could be lost, and the same for the same data. Some of them only some programs know. (Masking policies are the server's,
    /// and would be dropped and made anew with each database.)
    pub(super) fn options(&self) -> Vec<String> {
        const OF_ALL: [&str; 8] = [
            "--single-transaction",
            "--quick",
            "--hex-blob",
            "--skip-dump-date",
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            // A table locked while it is filled cannot use a sequence for its defaults, and nobody else is in a new database.
            "--skip-add-locks",
            // Tablespaces need a right that backup users rarely have, and no database needs them.
            "--no-tablespaces",
        ];
        const OF_SOME: [(&str, &str); 3] =
            [("--set-gtid-purged", "=OFF"), ("--column-statistics", "=0"), ("--masking-policies", "=0")];
        let known = OF_SOME.iter().filter(|(name, _)| self.knows(name));
        let known = known.map(|(name, value)| format!("{name}{value}"));
        OF_ALL.map(str::to_owned).into_iter().chain(known).chain(self.session_option()).collect()
    }

    /// Returns the option by which it sets what is relied on in its session, if it knows one.
    fn session_option(&self) -> Option<String> {
        self.sets_its_session().then(|| session::init_command(""))
    }

    pub(super) fn sets_its_session(&self) -> bool {
        self.knows("--init-command")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_files_may_only_say_how_to_connect() {
        let printed = |arguments: &str| format!("mariadb-dump would have been started with …:\n{arguments} \n");
        let harmless =
            "--user=joe --password=x y --ssl_ca=/etc/ca.pem --loose-ssl-verify-server-cert --max_allowed_packet=16M";
        assert_eq!(harmful_options(&printed(harmless)), Vec::<String>::new());
        let harmful = "--user=joe --where=x > 1 --loose_ignore-table=a.b --force --skip-triggers --tab=/tmp";
        let names = ["where", "loose-ignore-table", "force", "skip-triggers", "tab"];
        assert_eq!(harmful_options(&printed(harmful)), names);
    }
}
