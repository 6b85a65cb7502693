//! What programs that coffre runs find in their environment: none of its secrets, and no password of another database.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::desk::{Desk, PASSWORD, Run};

const SECRETS: [(&str, &str); 5] = [
    ("COFFRE_PASSWORD", PASSWORD),
    ("COFFRE_S3_SECRET", "secret of the store"),
    ("AWS_ACCESS_KEY_ID", "AKEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret of s3"),
    ("AWS_SESSION_TOKEN", "secret session"),
];

/// Runs the program with all secrets in its environment, and more.
fn run(desk: &Desk, more: &[(&str, &str)], arguments: &[&str]) -> Run {
    let mut command = desk.command(arguments);
    command.env_remove("COFFRE_PASSWORD_FILE").envs(SECRETS).envs(more.iter().copied());
    command.output().expect("runs").into()
}

fn holds_no_secret(seen: &str) {
    for (name, value) in SECRETS {
        assert!(!seen.contains(name) && !seen.contains(value), "{name}: {seen}");
    }
}

#[test]
fn a_command_stores_none_of_our_secrets() {
    let desk = Desk::with_passphrase();
    let own = [("PGPASSWORD", "for the command"), ("SHOP_KEY", "its own"), ("AWS_PROFILE", "shop")];
    let backup = run(&desk, &own, &["backup", "--command", "env.txt", "--", "env"]);
    assert_eq!(backup.code, 0, "{backup:?}");
    let seen = desk.run(&["dump", "latest:env.txt"]).out;
    holds_no_secret(&seen);
    for expected in ["PATH=", "PGPASSWORD=for the command", "SHOP_KEY=its own", "AWS_PROFILE=shop", "COFFRE_REPO="] {
        assert!(seen.contains(expected), "{expected}: {seen}");
    }
    // A variable with the URL of a database is for coffre alone.
    let url = [("SHOP_URL", "postgresql://joe:geheim@127.0.0.1:1/shop")];
    let all = ["backup", "--keep-partial", "--postgres", "env:SHOP_URL", "--command", "env.txt", "--", "env"];
    let backup = run(&desk, &url, &all);
    assert_eq!(backup.code, 5, "{backup:?}");
    let stored = desk.json(&["snapshots"]).into_iter().filter(|event| event["event"] == "snapshot").collect::<Vec<_>>();
    let newest = stored.iter().find(|snapshot| snapshot["complete"] == false).expect("a partial one");
    let seen = desk.run(&["dump", &format!("{}:env.txt", newest["id"].as_str().expect("an id"))]).out;
    assert!(seen.contains("PATH=") && !seen.contains("geheim") && !seen.contains("SHOP_URL"), "{seen}");
}

#[test]
fn the_clients_of_a_database_get_the_password_of_that_one_only() {
    let desk = Desk::with_passphrase();
    let programs = desk.at("programs");
    fs::create_dir(&programs).expect("made");
    for name in ["psql", "mariadb"] {
        // It can be asked about itself, and not connect.
        let script = format!(
            "#!/bin/sh\nenv >> '{}/{name}.seen'\ncase \"$*\" in --help|*--print-defaults*) exit 0;; esac\nexit 1\n",
            desk.directory.path().display()
        );
        fs::write(programs.join(name), script).expect("written");
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let bin = programs.to_str().expect("plain");
    let variables = [
        ("COFFRE_POSTGRES_BIN", bin),
        ("COFFRE_MYSQL_BIN", bin),
        ("PGPASSWORD", "of postgres"),
        ("MYSQL_PWD", "of mysql"),
        ("OTHER_URL", "mysql://joe:geheim@127.0.0.1:1/other"),
    ];
    for (flag, url, program, own, foreign) in [
        ("--postgres", "postgresql://joe@127.0.0.1:1/shop", "psql", "PGPASSWORD=of postgres", "of mysql"),
        ("--mysql", "mysql://joe@127.0.0.1:1/shop", "mariadb", "MYSQL_PWD=of mysql", "of postgres"),
    ] {
        let backup = run(&desk, &variables, &["backup", flag, url, "--mysql", "env:OTHER_URL"]);
        assert_eq!(backup.code, 5, "{backup:?}");
        let seen = fs::read_to_string(desk.at(&format!("{program}.seen"))).expect("it was run");
        holds_no_secret(&seen);
        assert!(seen.contains(own) && !seen.contains(foreign) && !seen.contains("OTHER_URL"), "{seen}");
    }
}

#[test]
fn the_command_that_prints_the_passphrase_gets_no_keys_of_the_store() {
    let desk = Desk::with_passphrase();
    let mut command = desk.command(&["snapshots", "--password-command", "env > seen; cat password"]);
    command
        .env_remove("COFFRE_PASSWORD_FILE")
        .envs(SECRETS.iter().copied().filter(|(name, _)| *name != "COFFRE_PASSWORD"));
    let run: Run = command.output().expect("runs").into();
    assert_eq!(run.code, 0, "{run:?}");
    let seen = fs::read_to_string(desk.at("seen")).expect("it was run");
    assert!(seen.contains("PATH="), "{seen}");
    holds_no_secret(&seen);
}
