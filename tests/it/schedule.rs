//! `coffre schedule`: units that systemd understands and that are hardened, lines that cron understands, and what is installed and removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::configuration::{alone, configured, write};
use crate::support::daemon::skip;
use crate::support::desk::{Desk, Run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffre");

/// A job whose name, with everything that systemd, cron or a shell takes for something else, is `AWKWARD`.
const AWKWARD: &str = "50% of $HOME 'it' \"x\\y\"; a`b";

/// Runs `schedule` as a user whose configuration is that of the desk.
fn schedule(desk: &Desk, arguments: &[&str]) -> Run {
    let home = desk.at("config");
    fs::create_dir_all(home.join("coffre")).expect("made");
    fs::copy(desk.at("coffre.toml"), home.join("coffre/coffre.toml")).expect("copied");
    let mut command = alone(desk, &[&["schedule"], arguments].concat());
    command.env_remove("COFFRE_CONFIG").env("XDG_CONFIG_HOME", &home).env("PATH", path(desk));
    command.output().expect("runs").into()
}

/// Programs beside which a `systemctl` stands that only writes down what it is asked for.
fn path(desk: &Desk) -> std::ffi::OsString {
    let directory = desk.at("bin");
    fs::create_dir_all(&directory).expect("made");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\n", desk.at("asked").display());
    fs::write(directory.join("systemctl"), script).expect("written");
    fs::set_permissions(directory.join("systemctl"), fs::Permissions::from_mode(0o755)).expect("set");
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([directory].into_iter().chain(std::env::split_paths(&others))).expect("joined")
}

/// Writes the units that were printed into a directory, and returns their paths.
fn written(desk: &Desk, page: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("# /etc/systemd/system/") {
            paths.push(desk.at(name));
            fs::write(desk.at(name), "").expect("written");
        } else {
            let path = paths.last().expect("a name comes first");
            fs::write(path, fs::read_to_string(path).expect("there") + line + "\n").expect("written");
        }
    }
    paths
}

/// What the package installs is what the command makes where the configuration says nothing that a unit must know.
#[test]
fn the_units_of_the_package_are_made_by_the_command() {
    let desk = configured();
    write(
        &desk.at("coffre.toml"),
        "[repositories.archive]\nlocation = \"s3://hetzner-fsn1/shop/main\"\n[jobs.nightly]\npaths = \"/etc\"\n",
    );
    let made = schedule(&desk, &[]);
    assert_eq!(made.code, 0, "{made:?}");
    for path in written(&desk, &made.out) {
        let text = fs::read_to_string(&path).expect("there").replace(PROGRAM, "/usr/bin/coffre");
        let text = text.trim_end().to_owned() + "\n";
        let name = path.file_name().expect("named").to_owned();
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd").join(&name);
        if std::env::var_os("COFFRE_SCREENS").is_some_and(|value| value == "write") {
            fs::write(&kept, &text).expect("written");
        }
        assert_eq!(fs::read_to_string(&kept).expect("there"), text, "{name:?}");
    }
}

#[test]
fn systemd_understands_what_is_made_and_finds_it_hardened() {
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if analyze(&["--version"]).is_err() {
        return skip("systemd-analyze");
    }
    let desk = configured();
    let awkward = AWKWARD.replace('\\', "\\\\").replace('"', "\\\"");
    let more = format!(
        "[repositories.\"near\"]\nlocation = \"{}\"\n[jobs.\"{awkward}\"]\nrepository = \"near\"\npaths = \"/etc\"\n",
        desk.at("a 5% \\\\ place").display()
    );
    let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    write(&desk.at("coffre.toml"), &format!("{text}{more}"));
    let sets: [&[&str]; 4] =
        [&[], &[AWKWARD], &[AWKWARD, "nightly", "--at", "Sun 04:00", "--jitter", "0s"], &["nightly", "--at", "3"]];
    for arguments in sets {
        let made = schedule(&desk, arguments);
        assert_eq!(made.code, 0, "{made:?}");
        let units = written(&desk, &made.out);
        assert_eq!(units.len(), 2);
        // The unit for failures comes with the package.
        let failure = "coffre-failure@.service";
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd");
        fs::copy(examples.join(failure), desk.at(failure)).expect("copied");
        let names: Vec<&str> = units.iter().map(|path| path.to_str().expect("plain")).collect();
        let verified: Run = analyze(&[&["verify", "--man=no"], names.as_slice()].concat()).expect("runs").into();
        assert_eq!((verified.code, verified.err.as_str()), (0, ""), "{made:?}");
        let service: &str = names.iter().find(|name| name.ends_with(".service")).expect("one");
        // From 0, as safe as can be, to 100: a root service that reads everything and starts programs does not get far below.
        let judged: Run = analyze(&["security", "--offline=true", "--threshold=50", service]).expect("runs").into();
        assert_eq!(judged.code, 0, "{judged:?}");
        if !made.out.contains(&format!("ReadWritePaths=/var/tmp -{}", desk.at("repository").display())) {
            assert!(made.out.contains("a 5%% \\\\ place\""), "{}", made.out);
        }
    }
}

#[test]
fn units_of_a_keeper_may_write_to_the_repositories_that_it_keeps() {
    let desk = configured();
    let kept = "/srv/kept";
    let text = format!(
        "[repositories.archive]\nlocation = \"{kept}\"\n[repositories.archive.forget]\nevery = \"1d\"\nkeep-daily = 7\n"
    );
    write(&desk.at("coffre.toml"), &text);
    let made = schedule(&desk, &[]);
    assert!(made.code == 0 && made.out.contains(&format!("ReadWritePaths=/var/tmp -{kept}\n")), "{made:?}");
    // It says where each job goes, whatever the file of variables has from before.
    assert!(made.out.contains("UnsetEnvironment=COFFRE_REPO\n"), "{made:?}");
}

#[test]
fn a_crontab_runs_the_jobs_that_were_meant() {
    let desk = configured();
    let awkward = AWKWARD.replace('\\', "\\\\").replace('"', "\\\"");
    let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    write(&desk.at("coffre.toml"), &text.replace("[jobs.nightly", &format!("[jobs.\"{awkward}\"")));
    let made = schedule(&desk, &["--cron", "--user", "--jitter", "0s", "--at", "4", AWKWARD]);
    assert_eq!(made.code, 0, "{made:?}");
    let line = made.out.lines().last().expect("a line");
    let command = line.strip_prefix("0 4 * * *  ").expect("its time");
    assert_eq!(command.matches('%').count(), command.matches("\\%").count(), "cron ends the command at others");
    // What cron hands on to its shell.
    let run = Command::new("sh")
        .args(["-c", &command.replace("\\%", "%").replace("--quiet", "")])
        .env("XDG_CONFIG_HOME", desk.at("config"))
        .env("COFFRE_CACHE_DIR", desk.at("cache"))
        .env("COFFRE_STATE_DIR", desk.at("state"))
        .env_remove("COFFRE_CONFIG")
        .output();
    let run: Run = run.expect("runs").into();
    assert!(run.code == 0 && run.out.contains("snapshot"), "{run:?}");
    let machine = schedule(&desk, &["--cron"]);
    assert!(machine.out.contains("\nPATH=") && machine.out.contains("15 2 * * *  root  "), "{machine:?}");
    let never = schedule(&desk, &["--cron", "--at", "Sun 04:00"]);
    assert!(never.code == 2 && never.err.contains("cannot be said in a crontab"), "{never:?}");
}

#[test]
fn units_are_installed_and_removed_and_those_of_others_left_alone() {
    let desk = configured();
    let unit = |name: &str| desk.at("config/systemd/user").join(name);
    let asked = || fs::read_to_string(desk.at("asked")).unwrap_or_default();
    let dry = schedule(&desk, &["--user", "--install", "--dry-run"]);
    assert_eq!((dry.code, unit("coffre-run.timer").exists(), asked().as_str()), (0, false, ""), "{dry:?}");
    assert!(dry.out.contains("would write") && dry.out.contains("systemctl --user enable coffre-run.timer"), "{dry:?}");

    for _ in 0..2 {
        let _ = fs::remove_file(desk.at("asked"));
        let done = schedule(&desk, &["--user", "--install", "--at", "5"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(asked(), "--user daemon-reload\n--user enable coffre-run.timer\n--user restart coffre-run.timer\n");
    }
    let service = fs::read_to_string(unit("coffre-run.service")).expect("there");
    assert!(service.contains(&format!("ExecStart={PROGRAM} --quiet run --wait 6h\n")), "{service}");
    assert!(service.contains(&format!("LoadCredential=coffre-password:{}\n", desk.at("password").display())));
    assert!(fs::read_to_string(unit("coffre-run.timer")).expect("there").contains("OnCalendar=05:00\n"));
    assert_eq!(schedule(&desk, &["--user", "--install", "nightly"]).code, 0);
    assert!(unit("coffre-run-nightly.timer").exists(), "jobs of their own have units of their own");

    let removed = schedule(&desk, &["--user", "--uninstall"]);
    assert!(removed.code == 0 && asked().contains("--user disable --now coffre-run.timer\n"), "{removed:?}");
    assert!(!unit("coffre-run.timer").exists() && !unit("coffre-run.service").exists());
    assert!(unit("coffre-run-nightly.timer").exists());
    assert_eq!(schedule(&desk, &["--user", "--uninstall"]).code, 1, "there is none any more");

    fs::write(unit("coffre-run.service"), "[Service]\n").expect("written");
    for how in ["--install", "--uninstall"] {
        let refused = schedule(&desk, &["--user", how]);
        assert!(refused.code == 1 && refused.err.contains("was not made by coffre"), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(unit("coffre-run.service")).expect("there"), "[Service]\n");
    assert_eq!(schedule(&desk, &["--user", "nightli"]).code, 2, "such a job is not known");
}
