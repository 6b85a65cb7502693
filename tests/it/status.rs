//! `coffre run` does what is due, and `coffre status` tells how everything stands.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::desk::{Desk, Run};

/// What a repository's tables say in these tests.
const DUE: &str = "[repositories.archive.forget]\nevery = \"1d\"\nkeep-last = 2\n\
                   [repositories.archive.prune]\nevery = \"7d\"\n\
                   [repositories.archive.verify]\nevery = \"1d\"\nread-data = \"100%\"\n";

/// A desk with a configuration: a repository, what `more` says, and one job.
fn configured(more: &str) -> Desk {
    let desk = Desk::with_repository();
    configure(&desk, "password", more);
    desk
}

fn configure(desk: &Desk, password: &str, more: &str) {
    let at = |name: &str| desk.at(name).display().to_string();
    let text = format!(
        "[repositories.archive]\nlocation = \"{}\"\npassword-file = \"{}\"\n\
         [jobs.nightly]\npaths = [\"{}\"]\nmax-age = \"26h\"\n{more}",
        at("repository"),
        at(password),
        at("source"),
    );
    fs::write(desk.at("coffre.toml"), text).expect("written");
    fs::set_permissions(desk.at("coffre.toml"), fs::Permissions::from_mode(0o644)).expect("set");
}

fn run(desk: &Desk, arguments: &[&str]) -> Run {
    let mut command = desk.command(arguments);
    command.env_remove("COFFRE_REPO").env_remove("COFFRE_PASSWORD_FILE").env("COFFRE_CONFIG", desk.at("coffre.toml"));
    command.output().expect("runs").into()
}

/// What `status` tells programs: its events of a kind, and how it ended.
fn told(desk: &Desk, kind: &str) -> (Vec<Value>, i32) {
    let told = run(desk, &["--json", "status"]);
    let events = told.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    (events.filter(|event| event["event"] == kind).collect(), told.code)
}

fn amiss(desk: &Desk, kind: &str) -> Vec<(String, Value)> {
    let name = |event: &Value| event[if kind == "work" { "work" } else { "job" }].as_str().expect("text").to_owned();
    told(desk, kind).0.into_iter().map(|event| (name(&event), event["amiss"].clone())).collect()
}

fn records(desk: &Desk) -> usize {
    fs::read_dir(desk.at("repository/evidence")).map_or(0, Iterator::count)
}

#[test]
fn what_is_due_is_done_behind_the_jobs_once_and_the_repository_knows_it() {
    let desk = configured(DUE);
    let before = run(&desk, &["status"]);
    assert!(before.code == 3 && before.out.contains("NEVER  nightly  never"), "{before:?}");
    let first = run(&desk, &["run"]);
    assert_eq!(first.code, 0, "{first:?}");
    let lines: Vec<&str> = first.out.lines().collect();
    let starts = [
        "nightly          snapshot ",
        "archive          forget: ",
        "archive          prune: ",
        "archive          verify: ",
    ];
    assert!(lines.len() == 4 && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{first:?}");
    assert_eq!(records(&desk), 3, "and none of the backup, whose snapshot says the same");

    // On another machine, too: nothing is kept beside the repository.
    for directory in [".cache", ".local"] {
        let _ = fs::remove_dir_all(desk.at(directory));
    }
    let second = run(&desk, &["run"]);
    assert_eq!((second.code, second.out.lines().count(), records(&desk)), (0, 1, 3), "{second:?}");
    let well = run(&desk, &["status"]);
    assert!(well.code == 0 && well.out.contains("status    well"), "{well:?}");
    assert!(well.out.lines().all(|line| line.len() <= 80), "{}", well.out);
    assert_eq!(run(&desk, &["-q", "status"]).out, "");

    // What somebody typed counts, and what only looks does not.
    for path in fs::read_dir(desk.at("repository/evidence")).expect("there").flatten() {
        fs::remove_file(path.path()).expect("removed");
    }
    for line in [
        &["verify", "--repo", "archive"][..],
        &["forget", "--repo", "archive"],
        &["prune", "--repo", "archive", "--dry-run"],
    ] {
        assert_eq!(run(&desk, line).code, 0, "{line:?}");
    }
    let third = run(&desk, &["run"]);
    assert_eq!(third.out.lines().skip(1).map(|line| &line[17..23]).collect::<Vec<_>>(), ["prune:"], "{third:?}");
}

#[test]
fn what_fails_is_told_until_it_is_well_again_and_stops_nothing() {
    let desk = configured(DUE);
    assert_eq!(run(&desk, &["run"]).code, 0);
    let state = |wanted: &[&str]| {
        let state = amiss(&desk, "series");
        assert_eq!(state, [("nightly".to_owned(), serde_json::json!(wanted))], "{state:?}");
    };
    state(&[]);
    // A job that does not begin, and one whose stream fails.
    configure(&desk, "password", &format!("[jobs.nightly.hooks]\nbefore = [\"false\"]\n{DUE}"));
    assert_eq!(run(&desk, &["run"]).code, 1);
    state(&["failed"]);
    let told_of = told(&desk, "series").0;
    assert!(told_of[0]["failed_why"].as_str().is_some_and(|why| why.contains("the hook before")), "{told_of:?}");
    configure(&desk, "password", &format!("[jobs.nightly.commands]\n\"x.sql\" = [\"false\"]\n{DUE}"));
    assert_eq!(run(&desk, &["run"]).code, 5);
    let (series, code) = told(&desk, "series");
    assert_eq!((code, &series[0]["failed_outcome"]), (3, &Value::from("failed dump")), "{series:?}");
    let shown = run(&desk, &["status"]);
    assert!(
        shown.out.contains("FAILED  host1  nightly") && shown.out.contains("false failed with status 1"),
        "{shown:?}"
    );
    configure(&desk, "password", DUE);
    assert_eq!(run(&desk, &["run"]).code, 0);
    state(&[]);

    // Rules that name what is not there are refused, which ends neither what comes behind them nor the next job.
    let strict = DUE.replace("keep-last = 2", "keep-last = 2\nkeep-id = [\"00000000\"]");
    for path in fs::read_dir(desk.at("repository/evidence")).expect("there").flatten() {
        fs::remove_file(path.path()).expect("removed");
    }
    configure(&desk, "password", &strict);
    let refused = run(&desk, &["run"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.out.contains("archive          forget: FAILED") && refused.out.contains("verify: "), "{refused:?}");
    let state: Vec<_> = amiss(&desk, "work").into_iter().filter(|(_, amiss)| !amiss.is_null()).collect();
    assert_eq!(state, [("forget".to_owned(), Value::from("failed"))]);
}

#[test]
fn a_run_that_finds_nothing_changed_keeps_its_job_young() {
    let desk = configured("skip-if-unchanged = true\n");
    assert_eq!((run(&desk, &["run"]).code, records(&desk)), (0, 0));
    assert_eq!((run(&desk, &["run"]).code, records(&desk)), (0, 1), "there is no snapshot to say so");
    let (series, code) = told(&desk, "series");
    assert!(code == 0 && series[0]["unchanged"].is_string(), "{series:?}");
}

#[test]
fn a_host_that_reads_nothing_leaves_the_work_and_tells_what_it_knows() {
    let desk = configured(DUE);
    let added = desk.run(&["key", "add", "--writer", "web", "--host", "host1", "--to", "web.secret"]);
    assert_eq!(added.code, 0, "{added:?}");
    configure(&desk, "web.secret", DUE);
    let nightly = run(&desk, &["run"]);
    assert_eq!((nightly.code, nightly.out.lines().count()), (0, 1), "{nightly:?}");
    let checked = run(&desk, &["config", "check"]);
    assert!(checked.out.contains("cannot do what is configured"), "{checked:?}");
    let (series, code) = told(&desk, "series");
    assert!(code == 0 && series[0]["started"].is_string() && series[0]["bytes"].is_null(), "{series:?}");
    let shown = run(&desk, &["status"]);
    assert!(shown.out.contains("this key reads nothing") && shown.out.contains("host1  nightly"), "{shown:?}");
    // What failed here is told where somebody can read it.
    configure(&desk, "web.secret", &format!("[jobs.nightly.commands]\n\"x.sql\" = [\"false\"]\n{DUE}"));
    let failed = desk
        .command(&["run"])
        .env("COFFRE_CONFIG", desk.at("coffre.toml"))
        .env_remove("COFFRE_REPO")
        .env_remove("COFFRE_PASSWORD_FILE")
        .output()
        .expect("runs");
    assert_eq!(Run::from(failed).code, 5);
    configure(&desk, "password", "");
    assert_eq!(amiss(&desk, "series"), [("nightly".to_owned(), serde_json::json!(["failed"]))]);
}

#[test]
fn what_is_old_or_gone_ends_with_a_code_for_monitoring() {
    let desk = configured("");
    let source = desk.at("source").display().to_string();
    let line = ["backup", "--job", "nightly", "--time", "2026-01-05 02:00:00", &source];
    assert_eq!(run(&desk, &line[..5]).code, 0);
    let (series, code) = told(&desk, "series");
    assert_eq!((code, &series[0]["amiss"]), (3, &serde_json::json!(["too old"])), "{series:?}");
    let shown = run(&desk, &["-q", "status"]);
    assert!(shown.code == 3 && shown.out.contains("TOO OLD"), "amiss is told with -q as well: {shown:?}");
    assert_eq!(run(&desk, &["status", "--job", "other"]).code, 0, "only what was asked for");
    assert_eq!(run(&desk, &["status", "--max-age", "soon"]).code, 2);
    // A snapshot that is gone without a clean-up is more than old.
    assert_eq!(run(&desk, &["run"]).code, 0);
    let newest = fs::read_dir(desk.at("repository/snapshots")).expect("there").flatten().map(|it| it.path()).max();
    fs::remove_file(newest.expect("one")).expect("removed");
    let gone = run(&desk, &["status"]);
    assert!(gone.code == 4 && gone.err.contains("no clean-up removed it"), "{gone:?}");
}

#[test]
fn tables_of_commands_are_checked_like_everything_else() {
    let desk = configured("");
    for (more, wanted) in [
        ("[repositories.archive.forget]\nevery = \"1d\"\n", "no rule beside it says what is to be kept"),
        ("[repositories.archive.forget]\nevery = \"now\"\n", "every: write for example 26h, 1d or 30d"),
        ("[repositories.archive.forget]\nundo = true\n", "there is no key \"undo\" here"),
        ("[repositories.archive.forgit]\nevery = \"1d\"\n", "there is no key \"forgit\" here"),
        ("[repositories.archive.status]\nevery = \"1d\"\n", "there is no key \"every\" here"),
        ("[repositories.archive]\nverify = true\n", "verify takes a table"),
        ("[jobs.other]\nmax-age = \"old\"\n", "max-age: write for example"),
    ] {
        let text =
            format!("[repositories.archive]\nlocation = \"/x\"\n{}", more.replace("[repositories.archive]\n", ""));
        fs::write(desk.at("coffre.toml"), text).expect("written");
        let wrong = run(&desk, &["config", "check", "--offline"]);
        assert!(
            wrong.code == 2 && wrong.err.contains(wanted) && wrong.err.contains("coffre.toml:"),
            "{more}: {wrong:?}"
        );
    }
    // Of a value that cannot be meant the place is told where it is used, and `config check` uses it.
    configure(&desk, "password", "[repositories.archive.verify]\nevery = \"1d\"\nheal = 1\n");
    assert_eq!(run(&desk, &["run"]).code, 2);
    configure(&desk, "password", "[repositories.archive.prune]\nevery = \"1d\"\nwait = \"soon\"\n");
    let wrong = run(&desk, &["config", "check"]);
    assert!(wrong.code == 2 && wrong.out.contains("coffre.toml:9:1"), "{wrong:?}");
    // Rules of the table are there for who types the command, unless that says itself what goes.
    configure(&desk, "password", DUE);
    assert_eq!(run(&desk, &["run", "nightly"]).code, 0);
    assert_eq!(run(&desk, &["forget", "--dry-run"]).code, 0);
    let named = run(&desk, &["forget", "latest", "--allow-empty"]);
    assert_eq!(named.code, 0, "{named:?}");
}

#[test]
fn a_job_keeps_what_it_says_itself_and_others_what_their_repository_says() {
    let hourly = |desk: &Desk| {
        format!(
            "[jobs.hourly]\npaths = [\"{}\"]\n[jobs.hourly.forget]\nkeep-last = 3\n",
            desk.at("source/sub").display()
        )
    };
    let desk = configured(DUE);
    configure(&desk, "password", &format!("{}{DUE}", hourly(&desk)));
    for _ in 0..3 {
        for job in ["nightly", "hourly"] {
            assert_eq!(run(&desk, &["backup", "--job", job]).code, 0);
        }
    }
    let kept = |more: &[&str]| {
        let told = run(&desk, &[&["--json", "forget", "--repo", "archive", "--dry-run"], more].concat());
        assert_eq!(told.code, 0, "{told:?}");
        let events = told.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
        let kept = events.filter(|event| event["event"] == "decision" && event["forget"] == false);
        let jobs: Vec<String> = kept.map(|event| event["job"].as_str().expect("text").to_owned()).collect();
        ["nightly", "hourly"].map(|job| jobs.iter().filter(|it| *it == job).count())
    };
    assert_eq!(kept(&[]), [2, 3]);
    assert_eq!(kept(&["--keep-last", "1"]), [1, 1], "what is typed is for all");
    assert_eq!(kept(&["--job", "hourly"]), [0, 3]);
    assert_eq!(run(&desk, &["run", "nightly"]).code, 0);
    assert_eq!(kept(&[]), [2, 3], "and what `run` forgot is gone");
    let shown = run(&desk, &["config", "check"]);
    assert!(shown.code == 0 && shown.out.contains("jobs.hourly.forget.keep-last"), "{shown:?}");
    configure(&desk, "password", &format!("{}{DUE}", hourly(&desk).replace("= 3", "= \"x\"")));
    for line in [&["config", "check"][..], &["forget", "--repo", "archive", "--dry-run"]] {
        let wrong = run(&desk, line);
        assert!(wrong.code == 2 && format!("{}{}", wrong.out, wrong.err).contains("coffre.toml:"), "{wrong:?}");
    }
}
