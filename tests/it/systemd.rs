//! The units of `examples/systemd`, run with exactly the environment that systemd gives a service without `User=`: no HOME,
//! the root as working directory, secrets in a directory of credentials.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::daemon::skip;
use crate::support::desk::{Desk, PASSWORD, Run};
use crate::support::postgres;
use crate::support::s3_server::{OWNER, S3Server};

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd")
}

/// Returns the values of each setting in a unit's `[Service]` section, in order.
fn service(unit: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(units().join(unit)).expect("an example");
    let lines = text.lines().skip_while(|line| *line != "[Service]").skip(1).take_while(|line| !line.starts_with('['));
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').expect("a setting");
        settings.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    settings
}

/// Runs what a unit starts, as systemd would: files of `/etc/coffre` are those of the desk, credentials those in its credstore.
fn start(desk: &Desk, unit: &str, instance: &str) -> Run {
    let settings = service(unit);
    assert!(!settings.contains_key("User"), "systemd would set HOME");
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for file in settings.get("EnvironmentFile").into_iter().flatten() {
        let name = file.trim_start_matches('-').replace("%i", instance).replace("/etc/coffre", "etc");
        for line in fs::read_to_string(desk.at(&name)).expect("there").lines() {
            if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    let credentials = desk.at("run-credentials");
    let _ = fs::remove_dir_all(&credentials);
    fs::create_dir(&credentials).expect("made");
    for credential in settings.get("LoadCredential").into_iter().flatten() {
        assert!(!credential.contains(':'), "found in credstore, where one that is missing is no error");
        let stored = desk.at("credstore").join(credential);
        if stored.exists() {
            fs::copy(stored, credentials.join(credential)).expect("copied");
        }
    }
    let line = settings["ExecStart"][0].replace("%%", "\0").replace("%i", instance);
    assert!(!line.contains('%'), "no other specifier: {line}");
    let words = line.replace('\0', "%");
    let words = words.split(' ').flat_map(|word| match word.strip_prefix('$') {
        Some(variable) => variables[variable].split_whitespace().map(str::to_owned).collect(),
        None => vec![word.to_owned()],
    });
    let words: Vec<String> = words.collect();
    assert_eq!(words[0], "/usr/bin/coffre");
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffre"));
    command.args(&words[1..]).env_clear().current_dir("/").stdin(Stdio::null());
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin").env("LANG", "C.UTF-8");
    command
        .env("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
        .env("JOURNAL_STREAM", "8:1")
        .env("SYSTEMD_EXEC_PID", "1");
    command.env("CREDENTIALS_DIRECTORY", &credentials).env("CACHE_DIRECTORY", desk.at("var-cache"));
    assert_eq!(settings["StateDirectory"], ["coffre"]);
    command.env("STATE_DIRECTORY", desk.at("var-lib")).envs(&variables);
    command.output().expect("runs").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_units_back_up_and_verify_in_the_environment_of_systemd() {
    let server = S3Server::start().await;
    let location = server.location("nightly");
    tokio::task::spawn_blocking(move || {
        let desk = Desk::with_passphrase();
        for directory in ["etc", "credstore", "var-cache"] {
            fs::create_dir(desk.at(directory)).expect("made");
        }
        let write = |name: &str, text: &str| fs::write(desk.at(name), text).expect("written");
        write("etc/coffre.env", &format!("# where\nCOFFRE_REPO={location}\n"));
        write("credstore/coffre-password", &format!("{PASSWORD}\n"));
        write(
            "credstore/coffre-s3",
            &format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", OWNER.0, OWNER.1),
        );
        let mut sources = format!("{} --exclude *.tmp", desk.at("source").display());
        write("source/left.tmp", "out");
        let database = postgres::shared();
        if let Some(database) = database {
            database.sql("postgres", "CREATE DATABASE unit");
            write("credstore/coffre-postgres-password", database.password());
            sources.push_str(&format!(" --postgres {}", database.url("unit")));
        }
        write("etc/nightly.env", &format!("COFFRE_BACKUP={sources}\n"));
        let as_root = |arguments: &[&str]| -> Run {
            let mut command = desk.command(arguments);
            command
                .env("COFFRE_REPO", &location)
                .env("AWS_ACCESS_KEY_ID", OWNER.0)
                .env("AWS_SECRET_ACCESS_KEY", OWNER.1);
            command.output().expect("runs").into()
        };
        assert_eq!(as_root(&["init", "--recovery-kit", "second-kit"]).code, 0);

        let run = start(&desk, "coffre-backup@.service", "nightly");
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""), "{run:?}");
        let run = start(&desk, "coffre-verify.service", "");
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""), "{run:?}");
        let known = fs::read_to_string(desk.at("var-lib/known_repositories")).expect("remembered where systemd says");
        assert!(known.lines().any(|line| line.ends_with(&format!(" {location}"))), "{known}");
        assert!(fs::read_dir(desk.at("var-cache")).expect("there").count() > 0, "the cache is where systemd says");
        let listed = as_root(&["--json", "-q", "snapshots", "--job", "nightly"]).out;
        assert_eq!(listed.lines().count(), 1, "{listed}");
        let paths = as_root(&["ls", "-R", "latest"]).out;
        assert!(paths.contains("source/a.txt") && !paths.contains("left.tmp"), "{paths}");
        assert_eq!(paths.contains("postgres/unit.dump"), database.is_some(), "{paths}");

        // The same by the configuration, with more than one job.
        let source = desk.at("source").display().to_string();
        write(
            "etc/coffre.toml",
            &format!("[jobs.one]\npaths = \"{source}\"\n[jobs.two]\npaths = \"{source}/a.txt\"\n"),
        );
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(desk.at("etc/coffre.toml"), mode).expect("set");
        let config = desk.at("etc/coffre.toml").display().to_string();
        write("etc/coffre.env", &format!("COFFRE_REPO={location}\nCOFFRE_CONFIG={config}\n"));
        let run = start(&desk, "coffre-run.service", "");
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""), "{run:?}");
        for job in ["one", "two"] {
            assert_eq!(as_root(&["--json", "-q", "snapshots", "--job", job]).out.lines().count(), 1, "{job}");
        }

        // Without its credential it says what is missing, and asks nobody.
        fs::remove_file(desk.at("credstore/coffre-password")).expect("there");
        let run = start(&desk, "coffre-verify.service", "");
        assert!(run.code == 2 && run.err.contains("no passphrase"), "{run:?}");
    })
    .await
    .expect("no panic");
}

#[test]
fn systemd_understands_the_units() {
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if analyze(&["--version"]).is_err() {
        return skip("systemd-analyze");
    }
    let desk = Desk::new();
    let mut names = Vec::new();
    for unit in fs::read_dir(units()).expect("there").map(|unit| unit.expect("there").path()) {
        let name = unit.file_name().expect("a name").to_str().expect("plain").to_owned();
        let text = fs::read_to_string(&unit).expect("text").replace("/usr/bin/coffre", env!("CARGO_BIN_EXE_coffre"));
        fs::write(desk.at(&name), text).expect("written");
        if name.ends_with(".service") || name.ends_with(".timer") {
            names.push(desk.at(&name.replace("@.", "@nightly.")).to_str().expect("plain").to_owned());
        }
    }
    assert_eq!(names.len(), 7);
    let paths: Vec<&str> = names.iter().map(String::as_str).collect();
    let run: Run = analyze(&[&["verify", "--man=no"], paths.as_slice()].concat()).expect("runs").into();
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
}
