//! The program as people and cron meet it: what it prints, where, and how it ends.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pipes::without_reader;
use crate::support::desk::{Desk, PASSWORD, Run};

#[test]
fn the_main_job_works_from_init_to_verify() {
    let desk = Desk::with_passphrase();
    let source = desk.at("source");
    let run = desk.run(&["backup", "source", "--tag", "nightly", "--job", "files"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    for part in ["contents   2 files, 117 KiB\n", "added ", "duration ", "snapshot   "] {
        assert!(run.out.contains(part), "{run:?}");
    }
    let list = desk.run(&["snapshots", "--tag", "nightly", "--job", "files", "--host", "host1"]);
    assert_eq!(list.code, 0);
    assert!(list.out.starts_with("ID        TIME"), "{list:?}");
    assert!(
        list.out.contains(source.to_str().expect("plain")) && list.out.ends_with("1 snapshot; times in UTC\n"),
        "{list:?}"
    );

    let spot = format!("latest:{}", source.display());
    assert_eq!(
        desk.run(&["ls", &spot]).out,
        ["a.txt", "link", "sub/"].map(|n| format!("{}/{n}\n", source.display())).concat()
    );
    let long = desk.run(&["ls", "-l", &spot]).out;
    assert!(long.contains("link -> a.txt") && long.contains("      11 B "), "{long}");
    assert_eq!(desk.run(&["dump", &format!("{spot}/a.txt")]).out, "first file\n");

    let restored = desk.run(&["restore", &spot, "--target", "out"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert_eq!(crate::support::tree::describe(&desk.at("out")), crate::support::tree::describe(&source));
    let verified = desk.run(&["verify", "--read-data"]);
    assert_eq!(verified.code, 0);
    assert!(verified.out.ends_with("result    clean\n"), "{verified:?}");

    fs::write(desk.at("source/a.txt"), "changed\n").expect("written");
    fs::remove_file(desk.at("source/link")).expect("removed");
    fs::write(desk.at("source/new"), "new\n").expect("written");
    let source_text = source.to_str().expect("plain");
    let second = desk.json(&["backup", source_text, "--job", "files"]).pop().expect("a summary");
    assert_eq!((second["files"].as_u64(), second["unchanged_files"].as_u64()), (Some(3), Some(1)));
    let first = desk.json(&["snapshots"])[0]["id"].as_str().expect("an id").to_owned();
    let diff = desk.run(&["diff", &first, "latest"]);
    let lines: Vec<&str> = diff.out.lines().collect();
    let path = |name: &str| format!("{}/{name}", source.display());
    assert_eq!(
        lines[..3],
        [format!("M {}", path("a.txt")), format!("- {}", path("link")), format!("+ {}", path("new"))]
    );
    let (start, end) = ("1 added, 1 removed, 1 changed, ", "; 12 B came, 11 B went");
    assert!(lines[3].starts_with(start) && lines[3].ends_with(end), "{}", lines[3]);
    let found = desk.run(&["find", "b.txt"]);
    assert_eq!(found.out.matches("/sub/b.txt\n").count(), 2, "{found:?}");
    let stats = desk.json(&["stats"]);
    assert_eq!(
        (stats[0]["snapshots"].as_u64(), stats[0]["objects"]["snapshots"]["objects"].as_u64()),
        (Some(2), Some(2))
    );
}

#[test]
fn streams_and_files_are_one_snapshot_and_come_back() {
    let desk = Desk::with_passphrase();
    let run = desk.run(&[
        "backup",
        "source",
        "--command",
        "db/one.sql",
        "--",
        "echo",
        "select 1;",
        "--command",
        "two",
        "--",
        "sh",
        "-c",
        "seq 1 100000",
    ]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("contents   2 files and 2 streams"), "{run:?}");
    assert_eq!(desk.run(&["dump", "latest:db/one.sql"]).out, "select 1;\n");
    assert_eq!(desk.run(&["dump", "latest:two"]).out, (1..=100_000).map(|n| format!("{n}\n")).collect::<String>());
    assert_eq!(desk.run(&["ls", "latest:db"]).out, "/db/one.sql\n");

    // A directory comes as a tar archive that tar unpacks.
    let dumped = desk.command(&["dump", &format!("latest:{}", desk.at("source").display())]).output().expect("runs");
    fs::create_dir(desk.at("unpacked")).expect("made");
    let mut tar =
        Command::new("tar").args(["-x", "-C"]).arg(desk.at("unpacked")).stdin(Stdio::piped()).spawn().expect("tar");
    tar.stdin.take().expect("piped").write_all(&dumped.stdout).expect("written");
    assert!(tar.wait().expect("ends").success());
    assert_eq!(
        crate::support::tree::describe(&desk.at("unpacked")),
        crate::support::tree::describe(&desk.at("source"))
    );

    // Standard input, alone: no path is needed to dump it.
    let mut child =
        desk.command(&["backup", "--stdin", "--stdin-name", "x.sql"]).stdin(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(b"from standard input").expect("written");
    assert!(child.wait().expect("ends").success());
    assert_eq!(desk.run(&["dump", "latest"]).out, "from standard input");
}

#[test]
fn a_dump_command_that_fails_leaves_no_snapshot() {
    let desk = Desk::with_passphrase();
    for (command, said) in [
        (&["sh", "-c", "echo data; echo 'table is gone' >&2; exit 3"][..], "table is gone"),
        (&["sh", "-c", "echo data; kill -9 $$"], "signal 9"),
        (&["true"], "gave no data"),
        (&["no-such-program"], "could not be started"),
    ] {
        let run = desk.run(&[&["backup", "source", "--command", "x", "--"], command].concat());
        assert_eq!(run.code, 5, "{run:?}");
        assert!(run.err.starts_with("error: stream x failed, so no snapshot was made\n"), "{run:?}");
        assert!(run.err.contains(said) && run.err.contains("\nhint: "), "{run:?}");
    }
    let empty = desk.command(&["backup", "--stdin", "--stdin-name", "x"]).output().expect("runs");
    assert_eq!(empty.status.code(), Some(5));
    assert!(desk.json(&["snapshots"]).is_empty());
    assert_eq!(desk.run(&["verify"]).code, 0);
}

#[test]
fn every_mistake_has_its_code_and_a_hint() {
    let desk = Desk::with_passphrase();
    desk.backup();
    let cases: [(&[&str], i32, &str); 14] = [
        (&["--repo", "nowhere", "snapshots"], 10, "error: there is no repository at nowhere\nhint: "),
        (&["init", "--show-identity"], 1, "error: there is a repository at "),
        (&["restore", "latest"], 2, "--target DIR, or a database with --into-postgres URL"),
        (&["restore", "ffff", "--target", "x"], 1, "error: there is no snapshot \"ffff\"\nhint: `coffre snapshots`"),
        (&["restore", "latest:/absent", "--target", "x"], 1, "has no /absent\n"),
        (&["restore", "latest", "--target", "x", "--delete"], 2, "add --yes"),
        (&["ls", "latest:../etc"], 2, "error: "),
        (&["backup"], 2, "Give paths, --stdin, --command or a database"),
        (&["backup", "absent"], 1, "absent cannot be backed up"),
        (&["backup", "--command", "x"], 2, "after all other options"),
        (&["--repo", "gopher://x", "snapshots"], 2, "not a kind of location"),
        (&["--repo", "s3://key:secret@host/bucket", "snapshots"], 2, "must not hold a user name"),
        (&["--memory", "1MiB", "backup", "source"], 2, "too little"),
        (&["verify", "--read-data=200%"], 2, "is no part of the data"),
    ];
    for (arguments, code, said) in cases {
        let run = desk.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        assert!(run.err.contains(said), "{arguments:?}: {run:?}");
        assert_eq!(run.out, "", "{arguments:?}");
    }
    let wrong = desk.command(&["snapshots"]).env("COFFRE_PASSWORD_FILE", "/dev/null").output().expect("runs");
    assert_eq!(wrong.status.code(), Some(2), "an empty passphrase is a mistake");
    fs::write(desk.at("wrong"), "guess").expect("written");
    let wrong: Run =
        desk.command(&["snapshots"]).env("COFFRE_PASSWORD_FILE", desk.at("wrong")).output().expect("runs").into();
    assert_eq!(wrong.code, 12);
    assert!(wrong.err.starts_with("error: none of the 2 key slots opens"), "{wrong:?}");
    let none: Run = desk.command(&["snapshots"]).env_remove("COFFRE_PASSWORD_FILE").output().expect("runs").into();
    assert_eq!(none.code, 2);
    assert!(none.err.contains("COFFRE_PASSWORD_FILE"), "{none:?}");
    let as_json = desk.run(&["--json", "restore", "ffff", "--target", "x"]);
    let event: Value = serde_json::from_str(&as_json.out).expect("one object");
    assert_eq!((event["event"].as_str(), event["exit_code"].as_u64()), (Some("error"), Some(1)));
}

#[test]
fn under_cron_success_is_silent_and_trouble_is_not() {
    let desk = Desk::with_passphrase();
    let quiet = desk.run(&["-q", "backup", "source"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""));
    let quiet = desk.run(&["-q", "verify", "--read-data"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""));
    let quiet = desk.run(&["-q", "restore", "latest", "--target", "out"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""));
}

#[test]
fn what_cannot_be_read_is_counted_and_named() {
    let desk = Desk::with_passphrase();
    fs::write(desk.at("source/secret"), "x").expect("written");
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(desk.at("source/secret"), permissions(0o000)).expect("set");
    fs::set_permissions(desk.directory.path(), permissions(0o777)).expect("set");
    // The repository must be the other user's, whom the keys do not care about.
    let mut command = desk.command(&["-q", "backup", "source"]);
    if rustix::process::geteuid().is_root() {
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(desk.directory.path()).status();
        assert!(given.expect("runs").success());
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        std::os::unix::process::CommandExt::gid(&mut command, 65534);
    }
    let run: Run = command.output().expect("runs").into();
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("source/secret: ") && run.err.contains("ermission denied"), "{run:?}");
}

#[test]
fn damage_is_found_named_and_exits_with_4() {
    let desk = Desk::with_passphrase();
    desk.backup();
    let mut packs: Vec<PathBuf> = Vec::new();
    for shard in fs::read_dir(desk.at("repository/packs")).expect("there") {
        packs
            .extend(fs::read_dir(shard.expect("there").path()).expect("there").map(|pack| pack.expect("there").path()));
    }
    for pack in &packs {
        let mut bytes = fs::read(pack).expect("readable");
        bytes[40] ^= 1;
        let _ = fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o600));
        fs::write(pack, bytes).expect("written");
    }
    assert!(packs.len() >= 2);
    let run = desk.run(&["verify", "--read-data"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.out.contains("DAMAGED  packs/") && run.out.contains("result    DAMAGED"), "{run:?}");
    let run = desk.run(&["restore", "latest", "--target", "out"]);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn a_run_that_is_interrupted_ends_cleanly_and_soon() {
    let desk = Desk::with_passphrase();
    // No other run of the tests on this machine sleeps as long.
    let sleep = format!("sleep 600.{}", std::process::id());
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let marker = desk.at("alive");
        let script = format!("echo begun; touch {}; {sleep}", marker.display());
        let mut command = desk.command(&["backup", "--command", "slow", "--", "sh", "-c", &script]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        wait_until(|| marker.exists());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).expect("sent");
        let asked = Instant::now();
        let run: Run = child.wait_with_output().expect("ends").into();
        assert!(asked.elapsed() < Duration::from_secs(20));
        assert_eq!(run.code, 130, "{run:?}");
        assert!(run.err.contains("interrupted"), "{run:?}");
        fs::remove_file(marker).expect("there");
    }
    assert!(desk.json(&["snapshots"]).is_empty());
    assert_eq!(desk.run(&["verify", "--read-data"]).code, 0);
    let sleepers = Command::new("pgrep").args(["-f", &sleep]).output().expect("runs");
    let text = String::from_utf8_lossy(&sleepers.stdout).into_owned();
    assert!(text.trim().is_empty(), "no orphan is left: {text}");
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_recovery_kit_alone_restores() {
    let desk = Desk::with_passphrase();
    desk.backup();
    let kit = fs::read_to_string(desk.at("kit")).expect("written");
    assert_eq!(
        fs::metadata(desk.at("kit")).map(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 0o777).ok(),
        Some(0o600)
    );
    assert!(kit.lines().all(|line| line.chars().count() <= 90), "it fits on paper");
    let identity = kit.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("an identity");
    let location = kit.lines().find_map(|line| line.trim().strip_prefix("Location")).expect("a location").trim();
    // Typed in lower case, with blanks for dashes, on another machine.
    fs::write(
        desk.at("typed"),
        identity.to_lowercase().replace('-', " ").replace("coffre recovery ", "coffre-recovery-"),
    )
    .expect("written");
    let restore = [
        "--repo",
        location,
        "--password-file",
        "typed",
        "--cache-dir",
        "other-cache",
        "restore",
        "latest",
        "--target",
        "out",
    ];
    let run = desk.run(&restore);
    assert_eq!(run.code, 0, "{run:?}");
    let wrong = identity.replace("RECOVERY-0", "RECOVERY-1").replace("RECOVERY-", "RECOVERY-0");
    fs::write(desk.at("typed"), &wrong[..wrong.len() - 1]).expect("written");
    let run = desk.run(&restore);
    assert_eq!(run.code, 12, "{run:?}");
}

#[test]
fn passphrases_come_from_files_commands_the_environment_and_credentials() {
    let desk = Desk::with_passphrase();
    let run = |set: &dyn Fn(&mut Command)| {
        let mut command = desk.command(&["snapshots"]);
        command.env_remove("COFFRE_PASSWORD_FILE");
        set(&mut command);
        Run::from(command.output().expect("runs")).code
    };
    assert_eq!(
        run(&|c| {
            let _ = c.env("COFFRE_PASSWORD", PASSWORD);
        }),
        0
    );
    assert_eq!(
        run(&|c| {
            let _ = c.env("COFFRE_PASSWORD_COMMAND", "cat password");
        }),
        0
    );
    assert_eq!(
        run(&|c| {
            let _ = c.env("COFFRE_PASSWORD_COMMAND", "false");
        }),
        2
    );
    fs::create_dir(desk.at("credentials")).expect("made");
    fs::write(desk.at("credentials/coffre-password"), PASSWORD).expect("written");
    assert_eq!(
        run(&|c| {
            let _ = c.env("CREDENTIALS_DIRECTORY", desk.at("credentials"));
        }),
        0
    );
}

#[test]
fn secrets_show_nowhere() {
    let desk = Desk::with_passphrase();
    let kit = fs::read_to_string(desk.at("kit")).expect("written");
    let identity =
        kit.lines().map(str::trim).find(|line| line.starts_with("COFFRE-RECOVERY-")).expect("there").to_owned();
    let mut command = desk.command(&[
        "-v",
        "backup",
        "source",
        "--command",
        "x",
        "--",
        "sh",
        "-c",
        "cat /proc/$PPID/cmdline; tr '\\0' '\\n' < /proc/self/environ; ps ax -o args",
    ]);
    let verbose: Run = command.output().expect("runs").into();
    assert_eq!(verbose.code, 0, "{verbose:?}");
    let seen_by_command = desk.run(&["dump", "latest:x"]);
    let damaged = desk.run(&["--json", "-v", "restore", "ffff", "--target", "x"]);
    for text in [&verbose.out, &verbose.err, &seen_by_command.out, &damaged.out, &damaged.err] {
        assert!(!text.contains(PASSWORD) && !text.contains(&identity), "{text}");
    }
    // Nothing that is stored or cached holds them either.
    for (name, bytes) in crate::support::files_in(desk.directory.path()) {
        let holds = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(name == "password" || name == "kit" || !(holds(PASSWORD) || holds(&identity)), "{name}");
    }
}

#[test]
fn a_reader_that_goes_away_is_told_by_the_exit_code_alone() {
    let desk = Desk::with_passphrase();
    desk.backup();
    let path = format!("latest:{}", desk.at("source/sub/b.txt").display());
    let run: Run = desk.command(&["dump", &path]).stdout(without_reader()).output().expect("runs").into();
    assert_eq!((run.code, run.err.as_str()), (141, ""));
}

/// The same through S3, as a production host would: with the key that may not delete.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_key_backs_up_to_s3() {
    use crate::support::s3_server::{LIMITED, OWNER, S3Server};
    let server = S3Server::start().await;
    let desk = Desk::with_passphrase();
    let location = server.location("host1");
    let archive = format!("[repositories.archive]\nlocation = \"{location}\"\n");
    let job = format!("[jobs.nightly]\npaths = \"{}\"\n", desk.at("source").display());
    crate::configuration::write(&desk.at("host.toml"), &format!("{archive}{job}"));
    crate::configuration::write(&desk.at("keeper.toml"), &format!("{archive}prune = {{ every = \"7d\" }}\n"));
    let keys = desk.at("keys").display().to_string();
    crate::configuration::write(&desk.at("commanding.toml"), &format!("{archive}s3-keys-command = \"cat {keys}\"\n"));
    let lines = format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", LIMITED.0, LIMITED.1);
    fs::write(&keys, lines).expect("written");
    let run = move |key: (&str, &str), arguments: &[&str]| -> Run {
        let mut command = desk.command(arguments);
        command.env("COFFRE_REPO", &location).env("AWS_ACCESS_KEY_ID", key.0).env("AWS_SECRET_ACCESS_KEY", key.1);
        command.output().expect("runs").into()
    };
    tokio::task::spawn_blocking(move || {
        let made = run(OWNER, &["init", "--show-identity"]);
        assert!(made.code == 0 && made.out.contains("recovery identity: COFFRE-RECOVERY-"), "{made:?}");
        let backed_up = run(LIMITED, &["backup", "source"]);
        assert_eq!((backed_up.code, backed_up.err.as_str()), (0, ""), "{backed_up:?}");
        assert_eq!(run(OWNER, &["restore", "latest", "--target", "out"]).code, 0);
        assert_eq!(run(OWNER, &["verify", "--read-data"]).code, 0);
        let checked = run(LIMITED, &["config", "check", "--config", "host.toml"]);
        assert!(checked.code == 0 && checked.out.contains("it stores, and may not delete"), "{checked:?}");
        let refused = run(LIMITED, &["config", "check", "--config", "keeper.toml"]);
        assert!(refused.code == 1 && refused.out.contains("nothing can be deleted: delete sessions/"), "{refused:?}");
        let allowed = run(OWNER, &["config", "check", "--config", "keeper.toml"]);
        assert!(allowed.code == 0 && allowed.out.contains("it stores and deletes"), "{allowed:?}");
        // Keys that a command prints come before variables, which may be set for somebody else.
        let wrong = ("WRONG", "wrong");
        for (arguments, code, message) in [
            (&["snapshots", "--s3-keys-command", "cat keys"][..], 0, ""),
            (&["snapshots", "--repo", "archive", "--config", "commanding.toml"], 0, ""),
            (
                &["snapshots", "--s3-keys-command", "exit 3"],
                2,
                "the command for the keys to the bucket failed with exit status: 3",
            ),
            (
                &["snapshots", "--s3-keys-command", "echo none"],
                2,
                "the command for the keys to the bucket printed none",
            ),
            (&["snapshots", "--s3-keys-command", "cat keys", "--profile", "x"], 2, "are both given"),
        ] {
            let by_command = run(wrong, arguments);
            assert!(by_command.code == code && by_command.err.contains(message), "{arguments:?}: {by_command:?}");
        }
        let denied = run(wrong, &["snapshots"]);
        assert!(denied.code == 1 && denied.err.contains("\nhint: check the credentials"), "{denied:?}");
        assert!(Path::new(env!("CARGO_BIN_EXE_coffre")).exists());
    })
    .await
    .expect("no panic");
}
