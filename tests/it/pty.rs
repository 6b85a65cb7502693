//! What a person at a terminal meets: questions that are seen, answered or left, and colours.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::desk::{Desk, PASSWORD};
use crate::support::terminal::Terminal;

/// The program at a terminal, without a passphrase in its environment.
fn at_a_terminal(desk: &Desk, arguments: &[&str]) -> Terminal {
    let mut command = desk.command(arguments);
    command.env_remove("COFFRE_PASSWORD_FILE");
    Terminal::start(command, 80)
}

fn with_a_passphrase(desk: &Desk, arguments: &[&str]) -> Terminal {
    Terminal::start(desk.command(arguments), 80)
}

/// A repository with a snapshot of a SQLite database, and the database changed since.
fn desk_with_a_database() -> Desk {
    let desk = Desk::with_passphrase();
    let fill = |text: &str| {
        let database = rusqlite::Connection::open(desk.at("app.db")).expect("opened");
        database
            .execute_batch(&format!("CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES ('{text}');"))
            .expect("run");
    };
    fill("first");
    assert_eq!(desk.run(&["backup", "--sqlite", "app.db"]).code, 0);
    fill("second");
    desk
}

fn rows(desk: &Desk) -> i64 {
    let database = rusqlite::Connection::open(desk.at("app.db")).expect("opened");
    database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("counted")
}

#[test]
fn both_questions_of_init_are_seen_and_nothing_is_drawn_over_them() {
    let desk = Desk::new();
    let mut terminal = at_a_terminal(&desk, &["init", "--recovery-kit", "kit"]);
    terminal.wait_for("new passphrase: ");
    assert!(!terminal.echoes(), "a passphrase is not shown");
    assert_eq!(terminal.idle(), "", "nothing moves while somebody is asked");
    terminal.enter("correct horse");
    terminal.wait_for("the same again: ");
    assert_eq!(terminal.idle(), "");
    terminal.enter("correct horse");
    terminal.wait_for("made at ");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains("correct horse"), "{seen}");
    assert!(desk.at("kit").exists());
}

#[test]
fn two_passphrases_that_differ_make_no_repository() {
    let desk = Desk::new();
    let mut terminal = at_a_terminal(&desk, &["init", "--recovery-kit", "kit"]);
    terminal.wait_for("new passphrase: ");
    terminal.enter("one");
    terminal.wait_for("the same again: ");
    terminal.enter("two");
    let (code, seen) = terminal.end();
    assert!(code == 2 && seen.contains("the two passphrases differ"), "{code}: {seen}");
    assert!(!desk.at("repository/config").exists());
}

#[test]
fn a_question_is_left_at_once_by_ctrl_c_and_the_terminal_is_as_before() {
    let desk = Desk::with_passphrase();
    for arguments in [&["snapshots"][..], &["backup", "source"], &["verify"], &["restore", "latest", "--target", "x"]] {
        let mut terminal = at_a_terminal(&desk, arguments);
        terminal.wait_for("passphrase or recovery identity: ");
        assert!(!terminal.echoes());
        terminal.interrupt();
        terminal.wait_for("interrupted at a question");
        let (code, seen) = terminal.end();
        assert_eq!(code, 130, "{arguments:?}: {seen}");
        assert!(terminal.echoes(), "{arguments:?}: what is typed shows again");
        assert!(!seen.contains("ending cleanly"), "{arguments:?}: {seen}");
    }
}

#[test]
fn after_an_answer_ctrl_c_ends_the_program_as_ever() {
    let desk = Desk::new();
    // A store that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let location = format!("s3+http://{}/bucket/prefix", silent.local_addr().expect("bound"));
    let mut command = desk.command(&["--repo", &location, "snapshots"]);
    command.env_remove("COFFRE_PASSWORD_FILE").env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y");
    let mut terminal = Terminal::start(command, 80);
    terminal.wait_for("passphrase or recovery identity: ");
    terminal.enter("anything");
    let _connection = silent.accept().expect("it asks the store");
    terminal.interrupt();
    let (code, seen) = terminal.end();
    assert_eq!(code, 130, "{seen}");
}

#[test]
fn a_passphrase_typed_at_the_terminal_opens_the_repository() {
    let desk = Desk::with_passphrase();
    let mut terminal = at_a_terminal(&desk, &["snapshots"]);
    terminal.wait_for("passphrase or recovery identity: ");
    terminal.enter(PASSWORD);
    let (code, seen) = terminal.end();
    assert!(code == 0 && seen.contains("no snapshots") && !seen.contains(PASSWORD), "{code}: {seen}");
}

#[test]
fn before_a_database_is_replaced_its_name_is_asked_for_visibly() {
    let desk = desk_with_a_database();
    let restore = ["restore", "latest", "--into-sqlite", "app.db", "--in-place"];

    let mut terminal = with_a_passphrase(&desk, &restore);
    terminal.wait_for("type its name to go on: ");
    assert_eq!(terminal.idle(), "", "the last guard before a database is replaced stays on the screen");
    terminal.interrupt();
    let (code, seen) = terminal.end();
    assert!(code == 130 && seen.contains("nothing was changed"), "{code}: {seen}");
    assert_eq!(rows(&desk), 2);

    let mut terminal = with_a_passphrase(&desk, &restore);
    terminal.wait_for("type its name to go on: ");
    terminal.enter("yes");
    let (code, seen) = terminal.end();
    assert!(code == 2 && seen.contains("nothing was changed"), "{code}: {seen}");
    assert_eq!(rows(&desk), 2);

    let mut terminal = with_a_passphrase(&desk, &restore);
    terminal.wait_for("this replaces the database ");
    terminal.wait_for("type its name to go on: ");
    let question = String::from_utf8_lossy(terminal.seen()).into_owned();
    let name = question.rsplit("this replaces the database ").next().and_then(|rest| rest.split([' ', ';']).next());
    terminal.enter(name.expect("the question names it"));
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert_eq!(rows(&desk), 1);
}

#[test]
fn before_anything_is_removed_the_question_is_seen_and_no_is_no() {
    let desk = Desk::with_passphrase();
    desk.backup();
    let spot = format!("latest:{}", desk.at("source").display());
    assert_eq!(desk.run(&["restore", &spot, "--target", "out"]).code, 0);
    let restore = ["restore", &spot, "--target", "out", "--delete"];
    fs::write(desk.at("out/extra"), "x").expect("written");

    let mut terminal = with_a_passphrase(&desk, &restore);
    terminal.wait_for("not in the snapshot: ");
    terminal.wait_for("[y/N] ");
    assert_eq!(terminal.idle(), "");
    terminal.interrupt();
    let (code, seen) = terminal.end();
    assert!(code == 130 && seen.contains("nothing was removed"), "{code}: {seen}");
    assert!(desk.at("out/extra").exists());

    let mut terminal = with_a_passphrase(&desk, &restore);
    terminal.wait_for("[y/N] ");
    terminal.enter("n");
    let (code, seen) = terminal.end();
    assert!(code == 0 && seen.contains("nothing was removed"), "{code}: {seen}");
    assert!(desk.at("out/extra").exists());

    let mut terminal = with_a_passphrase(&desk, &restore);
    terminal.wait_for("[y/N] ");
    terminal.enter("y");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    assert!(!desk.at("out/extra").exists());
}

/// What looks into snapshots over a slow line says what it does, beside what it finds; a program that reads what it finds is not
/// disturbed.
#[test]
fn what_looks_into_snapshots_shows_what_it_does() {
    let desk = Desk::with_passphrase();
    // Names that do not compress, of which a tree is larger than what a limit lets through at once.
    for number in 0..2500u32 {
        let name = coffre::model::id::hex(&crate::support::random_bytes(u64::from(number), 24));
        fs::write(desk.at("source").join(name), "").expect("written");
    }
    desk.backup();
    let slowly = ["--limit-download", "16KiB"];
    let verbs: [(&[&str], &str); 3] = [
        (&["ls", "-R", "latest"], "listing entries"),
        (&["find", "*"], "searching"),
        (&["find", "no such name"], "searching"),
    ];
    for (verb, phase) in verbs {
        let arguments = [&slowly[..], verb].concat();
        let mut terminal = with_a_passphrase(&desk, &arguments);
        terminal.wait_for(phase);
        let (code, seen) = terminal.end();
        assert_eq!(code, i32::from(verb[1].contains("no such")), "{seen}");
        let (code, seen) = with_a_passphrase(&desk, &[&["-q"], &arguments[..]].concat()).end();
        assert!(code <= 1 && !seen.contains(phase), "{seen}");
        let run = desk.run(&arguments);
        assert!(!run.out.contains(phase) && !run.err.contains(phase), "{run:?}");
    }
    let direct = desk.command(&[&slowly[..], &["ls", "-R", "latest"]].concat());
    let mut piped = Command::new("sh");
    piped.args(["-c", "\"$@\" | cat", "sh"]).arg(direct.get_program()).args(direct.get_args());
    piped.current_dir(desk.directory.path()).env_clear();
    piped.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, seen) = Terminal::start(piped, 80).end();
    let first = seen.find(&format!("{}/", desk.at("source").display())).expect("listed");
    assert!(code == 0 && seen.contains("listing entries") && !seen[first..].contains("listing entries"), "{seen}");
}

#[test]
fn errors_have_the_colours_of_every_other_error_unless_none_are_wanted() {
    let desk = Desk::with_passphrase();
    let ours = ["ls", "ffff"];
    let claps = ["ls", "--wat"];
    for arguments in [ours, claps] {
        let (code, seen) = with_a_passphrase(&desk, &arguments).end();
        assert!(
            code != 0 && seen.contains("\x1b[1m\x1b[91merror:\x1b[0m") || seen.contains("\x1b[1m\x1b[31merror:\x1b[0m"),
            "{seen:?}"
        );
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let mut command = Command::new("env");
            let plain = desk.command(&arguments);
            command
                .arg(format!("{name}={value}"))
                .arg(plain.get_program())
                .args(plain.get_args())
                .current_dir(desk.directory.path());
            command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let (_, seen) = Terminal::start(command, 80).end();
            let line = seen.lines().find(|line| line.contains("error:")).expect("an error");
            assert!(!line.contains("\x1b[1m") && !line.contains("\x1b[9"), "{name}: {seen:?}");
        }
    }
}

#[test]
fn a_second_hang_up_is_no_second_wish() {
    let desk = Desk::with_passphrase();
    // The command does not hear SIGTERM, so ending it takes a while, in which the second one comes.
    let script = "trap '' TERM; echo begun; echo $$ > child; while :; do sleep 1; done";
    let mut command = desk.command(&["backup", "--command", "slow", "--", "sh", "-c", script]);
    crate::support::terminal::hears_hang_ups(&mut command);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    let child =
        crate::pipes::eventually(|| fs::read_to_string(desk.at("child")).ok().filter(|text| text.ends_with('\n')));
    let program = rustix::process::Pid::from_child(&running);
    let hang_up = || rustix::process::kill_process(program, rustix::process::Signal::HUP).expect("sent");
    hang_up();
    let mut told = BufReader::new(running.stderr.take().expect("piped")).lines();
    assert!(told.by_ref().any(|line| line.expect("read").contains("ending cleanly")));
    hang_up();
    assert_eq!(running.wait().expect("ends").code(), Some(130));
    assert!(!std::path::Path::new(&format!("/proc/{}", child.trim())).join("exe").exists(), "the command has ended");
}

#[test]
fn a_terminal_that_goes_away_ends_a_run_and_what_it_started() {
    let desk = Desk::with_passphrase();
    let script = "echo begun; echo $$ > child; exec sleep 600";
    let terminal = with_a_passphrase(&desk, &["backup", "--command", "slow", "--", "sh", "-c", script]);
    let child =
        crate::pipes::eventually(|| fs::read_to_string(desk.at("child")).ok().filter(|text| text.ends_with('\n')));
    assert_eq!(terminal.hang_up(), 130);
    assert!(!std::path::Path::new(&format!("/proc/{}", child.trim())).join("exe").exists(), "the command has ended");
    assert!(desk.json(&["snapshots"]).is_empty());
}

#[test]
fn under_nohup_a_hangup_ends_nothing() {
    let desk = Desk::with_passphrase();
    let script = "echo begun; touch begun; while [ ! -e go ]; do sleep 0.05; done";
    let plain = desk.command(&["backup", "--command", "slow", "--", "sh", "-c", script]);
    let mut command = Command::new("env");
    command
        .arg("--ignore-signal=HUP")
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(desk.directory.path());
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.spawn().expect("runs");
    crate::pipes::eventually(|| desk.at("begun").exists().then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::HUP)
        .expect("sent");
    fs::write(desk.at("go"), "").expect("written");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
