//! Printing an error: what failed, why, link by link, and one hint what to try.

use std::io::{self, IsTerminal};

use clap::builder::Styles;
use clap::builder::styling::Style;

use crate::cli::exit::{Exit, is_denied, store_error};
use crate::cli::output;
use crate::database::DatabaseError;
use crate::ops::LookError;
use crate::ops::backup::BackupError;
use crate::ops::dump::DumpError;
use crate::ops::restore::RestoreError;
use crate::ops::restore_database::RestoreDatabaseError;
use crate::repository::OpenError;
use crate::repository::index::IndexError;
use crate::repository::snapshots::SnapshotError;
use crate::source::SourceError;
use crate::source::files::WalkError;
use crate::store::StoreErrorKind;
use crate::target::files::TargetError;

/// Prints an error to standard error; with `json`, as an object on standard output instead.
pub fn print(error: &anyhow::Error, exit: Exit, json: bool) {
    let mut told = vec![error.to_string()];
    let links: Vec<_> = error.chain().collect();
    for (above, cause) in links.iter().zip(links.iter().skip(1)) {
        let text = cause.to_string();
        // Many errors have their cause in their own words already.
        let is_said = told.iter().any(|earlier| earlier.contains(&text));
        let refused = |kind| matches!(kind, StoreErrorKind::Denied | StoreErrorKind::Full);
        let is_number = cause.is::<io::Error>() && store_error(*above).is_some_and(|error| refused(error.kind));
        if !is_said && !is_number {
            told.push(text);
        }
    }
    print_parts(&told, hint(error).as_deref(), exit, json);
}

/// Prints what went wrong, link by link, and what to try.
pub fn print_parts(told: &[String], hint: Option<&str>, exit: Exit, json: bool) {
    let (message, causes) = told.split_first().expect("an error says something");
    if json {
        return output::json(&serde_json::json!({
            "event": "error",
            "message": message,
            "causes": causes,
            "hint": hint,
            "exit_code": exit as u8,
        }));
    }
    let styles = Styles::default();
    output::say(&format!("{} {message}", coloured(styles.get_error(), "error:")));
    for cause in causes {
        output::say(&format!("  caused by: {cause}"));
    }
    if let Some(hint) = hint {
        output::say(&format!("{} {hint}", coloured(styles.get_valid(), "hint:")));
    }
}

/// Returns text in the colours that clap gives its own errors, where standard error takes any.
fn coloured(style: &Style, text: &str) -> String {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    match std::io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb {
        true => format!("{style}{text}{style:#}"),
        false => text.to_owned(),
    }
}

/// Returns the advice that helps most with an error.
fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(open) = error.chain().find_map(|cause| cause.downcast_ref::<OpenError>()) {
        match open {
            OpenError::Missing { location } => {
                return Some(format!("check the location, or make a repository with `coffre --repo {location} init`"));
            }
            OpenError::Exists { .. } => {
                return Some("use it as it is, or choose another directory or prefix".into());
            }
            OpenError::WrongKey { .. } => {
                return Some(
                    "the recovery identity on the printed recovery kit works in place of the passphrase".into(),
                );
            }
            OpenError::MistypedRecovery => {
                return Some(
                    "compare it with the paper group by group; 0 and O, 1 and I and L count as the same".into(),
                );
            }
            OpenError::RolledBack { .. } => {
                return Some(
                    "somebody may have put back an old copy of the store; ask its provider before writing to it".into(),
                );
            }
            _ => {}
        }
    }
    for cause in error.chain() {
        if let Some(BackupError::Vanished { .. }) = cause.downcast_ref() {
            return Some("run it again: what was stored is found, and what was deleted is stored anew".into());
        }
        if let Some(BackupError::Stream { source, .. }) = cause.downcast_ref() {
            return Some(match source {
                SourceError::Database(error) => return Some(database_hint(error)),
                SourceError::RowsMissing { .. } => {
                    "run it again when nobody changes tables or triggers; nothing of this run is in a snapshot".into()
                }
                SourceError::CutOff { .. } => {
                    "look at its error output; --no-dump-check stores a stream that only looks like a dump".into()
                }
                SourceError::Failed { stderr, .. } if client_hint(stderr).is_some() => return client_hint(stderr),
                SourceError::Spawn { .. } => "is the program installed, and in PATH for this user?".into(),
                SourceError::Empty { .. } => "an empty dump is never stored; does the command work by itself?".into(),
                _ => "run the command by itself to see why; earlier snapshots are untouched".into(),
            });
        }
        if let Some(hint) = cause.downcast_ref().and_then(restore_hint) {
            return Some(hint);
        }
        if let Some(error) = cause.downcast_ref::<DatabaseError>() {
            return Some(database_hint(error));
        }
        if let Some(BackupError::Walk(WalkError::Root { .. })) = cause.downcast_ref() {
            return Some("is it spelled right, and mounted? Nothing was stored".into());
        }
        if let Some(RestoreError::Target(error)) = cause.downcast_ref() {
            return target_hint(error);
        }
        if let Some(RestoreError::NothingMatches { .. } | RestoreError::NoSuchPath { .. }) = cause.downcast_ref() {
            return Some("`coffre find PATTERN` and `coffre ls -R SNAPSHOT` tell what there is".into());
        }
        if let Some(DumpError::Look(LookError::NoSuchPath { .. })) = cause.downcast_ref() {
            let hint = "`coffre ls -R SNAPSHOT` lists what there is, and --job NAME chooses among jobs; nothing was written: a file that \
                the shell has made for the output is empty";
            return Some(hint.into());
        }
        match cause.downcast_ref::<SnapshotError>() {
            Some(SnapshotError::Unknown(_) | SnapshotError::NoneFits) => {
                return Some("`coffre snapshots` lists what there is".into());
            }
            Some(SnapshotError::Ambiguous { .. }) => return Some("write more digits of the id".into()),
            Some(SnapshotError::Damaged { .. }) => {
                return Some("choose another snapshot; `coffre verify --read-data` tells what else is hit".into());
            }
            _ => {}
        }
        if let Some(IndexError::Cache { .. }) = cause.downcast_ref() {
            return Some("make room, or name other directories with --cache-dir and TMPDIR".into());
        }
    }
    let store = error.chain().find_map(store_error)?;
    let is_directory = error.chain().any(|cause| cause.is::<io::Error>());
    match store.kind {
        StoreErrorKind::Denied if is_directory => {
            Some("may this user read and write the repository's directory, and is it mounted for writing?".into())
        }
        StoreErrorKind::Denied if is_denied(error) => Some(
            "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) and what they may do here"
                .into(),
        ),
        StoreErrorKind::NoSuchPlace => Some("check the spelling; buckets are made at the provider, not by coffre".into()),
        StoreErrorKind::Full => Some("make room, or raise the quota; what is stored is safe and will be used".into()),
        StoreErrorKind::UnknownHost => Some("is the endpoint spelled right? `s3://ENDPOINT/BUCKET/PREFIX`".into()),
        StoreErrorKind::Untrusted => {
            Some("name the authority's certificate with --ca-file FILE, or in COFFRE_CA_FILE".into())
        }
        StoreErrorKind::Unavailable | StoreErrorKind::TimedOut => {
            Some("check the network and the endpoint; the same command goes on where this one ended".into())
        }
        StoreErrorKind::Throttled => Some("try fewer --connections, or --limit-upload".into()),
        _ => None,
    }
}

/// What helps where a restore has no directory to go to.
fn target_hint(error: &TargetError) -> Option<String> {
    let is_file = matches!(error.source.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory);
    let hint = "a file has that name; --target names a directory, and one file alone comes by `coffre dump SNAPSHOT:PATH > FILE`";
    is_file.then(|| hint.into())
}

fn restore_hint(error: &RestoreDatabaseError) -> Option<String> {
    let hint = match error {
        RestoreDatabaseError::Several { .. } => {
            "choose with --database OLD[=NEW], as often as wanted, or --all-databases"
        }
        RestoreDatabaseError::NoGlobals { needed, .. } if needed.is_empty() => {
            "make the roles or users that its databases need by hand, or restore without owners, by --no-owner"
        }
        RestoreDatabaseError::NoGlobals { needed, .. } => {
            let make: Vec<String> = needed.iter().map(|statement| format!("{statement};")).collect();
            return Some(format!(
                "make those that its databases need: {} Or restore without owners, by --no-owner",
                make.join(" ")
            ));
        }
        RestoreDatabaseError::NothingFits { .. } => {
            "`latest` is the newest of all jobs: choose another by --job NAME, or write its id (`coffre snapshots` lists them, `coffre \
             ls -R SNAPSHOT` what is in one); a dump made by --command goes through `coffre dump … | client`"
        }
        RestoreDatabaseError::Refused { .. } => {
            "--database OLD=NEW gives another name, --in-place replaces; --plan shows everything and changes nothing"
        }
        RestoreDatabaseError::Client { stderr, .. } => return client_hint(stderr),
        RestoreDatabaseError::Server { source, .. } | RestoreDatabaseError::Database(source) => {
            return Some(database_hint(source));
        }
        RestoreDatabaseError::Unreadable { source, .. } if source.is_damage() => {
            "choose another snapshot; `coffre verify --read-data` tells what else is hit"
        }
        _ => return None,
    };
    Some(hint.into())
}

fn database_hint(error: &DatabaseError) -> String {
    match error {
        DatabaseError::Spawn { .. } => {
            "install the client programs (postgresql-client, mariadb-client), or name their directory in COFFRE_POSTGRES_BIN or \
             COFFRE_MYSQL_BIN"
        }
        DatabaseError::ClientOlder { .. } => {
            "install the client programs of that version, or name their directory in COFFRE_POSTGRES_BIN"
        }
        DatabaseError::Failed { stderr, .. } => {
            return client_hint(stderr).unwrap_or_else(|| "run the client by itself to see why".into());
        }
        DatabaseError::Unseen { right, what: "databases", .. } => {
            return format!("as an administrator: GRANT {right} TO this user; or name its databases one by one");
        }
        DatabaseError::Unseen { right, .. } => return format!("as an administrator: GRANT {right} TO this user"),
        DatabaseError::OptionFiles { .. } => {
            "put what is needed to connect into a file of its own and name it by ?option-file=FILE; no other is read then"
        }
        DatabaseError::Session { setting, .. } => {
            let name = setting.split(' ').next().unwrap_or_default();
            return format!(
                "as an administrator: SET GLOBAL {name} = DEFAULT, and look for it in init_connect; what that says is not run for \
                 users with CONNECTION ADMIN (MySQL: CONNECTION_ADMIN)"
            );
        }
        DatabaseError::ForeignProgram { .. } => {
            "install MySQL's own client programs (mysqldump and mysql, package mysql-client), or name their directory in \
             COFFRE_MYSQL_BIN"
        }
        DatabaseError::NoDatabase { .. } => "add one to the URL, or --all-databases",
        DatabaseError::Missing { .. } => "compare its name with those that the server lists",
        DatabaseError::Refused { why, .. } if why.contains("passwords of roles") => {
            "add --no-role-passwords, or GRANT pg_read_all_data TO this user; without them roles must be given new passwords after \
             a restore"
        }
        DatabaseError::Spool { .. } => "name a directory with room by --spool-dir or COFFRE_SPOOL_DIR",
        DatabaseError::Sqlite { what: "opened", .. } => "is it there, is it a database, and may this user read it and its directory?",
        DatabaseError::SqliteDamaged { .. } => "repair it (`sqlite3 FILE .recover`), or restore it; earlier snapshots are untouched",
        _ => "run the client by itself to see why",
    }
    .into()
}

/// What helps against what database clients say most.
pub fn client_hint(said: &[String]) -> Option<String> {
    const RIGHTS: &str = "the user lacks a right. PostgreSQL: pg_read_all_data, CONNECT, and what README says about large objects \
        and row security; MariaDB: SELECT, SHOW VIEW, TRIGGER, EVENT. To restore: the right to create databases";
    const KNOWN: [(&[&str], &str); 10] = [
        (
            &[
                "Lost connection to server during query when dumping",
                "Lost connection to MySQL server during query when dumping",
            ],
            "the server ended the connection: it was stopped, or it waited longer than net_write_timeout (60 s unless set) for a \
             store that is slow; as an administrator: SET GLOBAL net_write_timeout = 86400",
        ),
        // Before the one about passwords: `Access denied for user 'joe'@'%' to database 'shop'`.
        (&["' to database '", "Access denied; you need", "insufficient privileges"], RIGHTS),
        (
            &["password authentication failed", "no password supplied", "Access denied for user"],
            "check user and password: PGPASSFILE, ?option-file=FILE, a systemd credential, or the URL in env:NAME",
        ),
        (
            &["Connection refused", "could not translate host name", "timeout expired", "Can't connect to"],
            "is the server running, and reachable at this host and port?",
        ),
        (&["permission denied", "command denied to user", "must be owner", "row-level security"], RIGHTS),
        (&["server version mismatch"], "install the client programs of the server's version"),
        (&["No space left on device"], "make room on the server; --plan compares what is needed and what is free"),
        (
            &["canceling statement due to lock timeout", "lock-wait-timeout", "Lock wait timeout exceeded"],
            "somebody holds a lock; try again, or at another time",
        ),
        (&["already exists"], "the target is not empty; without --database OLD=NEW a new database is made"),
        (&["role \""], "restore roles first, by --globals, or leave owners away, by --no-owner"),
    ];
    let fits = |texts: &[&str]| texts.iter().any(|text| said.iter().any(|line| line.contains(text)));
    KNOWN.iter().find(|(texts, _)| fits(texts)).map(|(_, hint)| (*hint).to_owned())
}
