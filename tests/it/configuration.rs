//! The configuration: names for repositories and jobs, what comes before what, and mistakes told with their place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::desk::{Desk, Run};

/// A desk whose configuration names its repository and one job.
pub(crate) fn configured() -> Desk {
    let desk = Desk::with_passphrase();
    let at = |name: &str| desk.at(name).display().to_string();
    fs::write(desk.at("source/left-out.tmp"), "nothing").expect("written");
    let text = format!(
        "[repositories.archive]\nlocation = \"{}\"\npassword-file = \"{}\"\n\
         [jobs.nightly]\nrepository = \"archive\"\npaths = [\"{}\"]\nexclude = \"*.tmp\"\ntag = [\"a\", \"b\"]\n\
         [jobs.nightly.commands]\n\"said.txt\" = [\"echo\", \"two words\"]\n",
        at("repository"),
        at("password"),
        at("source"),
    );
    write(&desk.at("coffre.toml"), &text);
    desk
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("in a directory")).expect("made");
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("set");
}

/// A command that knows nothing but the configuration.
pub(crate) fn alone(desk: &Desk, arguments: &[&str]) -> Command {
    let mut command = desk.command(arguments);
    command.env_remove("COFFRE_REPO").env_remove("COFFRE_PASSWORD_FILE").env("COFFRE_CONFIG", desk.at("coffre.toml"));
    command
}

pub(crate) fn run(desk: &Desk, arguments: &[&str]) -> Run {
    alone(desk, arguments).output().expect("runs").into()
}

#[test]
fn repositories_and_jobs_have_names() {
    let desk = configured();
    let backup = run(&desk, &["backup", "--job", "nightly"]);
    assert_eq!(backup.code, 0, "{backup:?}");
    let listed = run(&desk, &["--json", "snapshots", "--repo", "archive", "--job", "nightly"]);
    assert!(listed.out.contains("\"tags\":[\"a\",\"b\"]"), "{listed:?}");
    let entries = run(&desk, &["ls", "-R", "latest"]).out;
    assert!(entries.contains("said.txt") && !entries.contains("left-out.tmp"), "{entries}");
    assert_eq!(run(&desk, &["dump", "latest:said.txt"]).out, "two words\n");
    // What is typed takes the place of what is written.
    let typed = run(
        &desk,
        &["backup", "--job", "nightly", "--exclude", "nothing", "--command", "other.txt", "--", "echo", "x"],
    );
    assert_eq!(typed.code, 0, "{typed:?}");
    let entries = run(&desk, &["ls", "-R", "latest"]).out;
    assert!(
        entries.contains("left-out.tmp") && entries.contains("other.txt") && !entries.contains("said.txt"),
        "{entries}"
    );
}

#[test]
fn an_option_comes_before_a_variable_and_a_variable_before_the_files() {
    let desk = configured();
    let code = |run: Run| run.code;
    assert_eq!(code(run(&desk, &["snapshots"])), 0);
    let elsewhere = desk.at("elsewhere");
    let by_variable = || {
        let mut command = alone(&desk, &["snapshots"]);
        command.env("COFFRE_REPO", &elsewhere);
        command
    };
    assert_eq!(code(by_variable().output().expect("runs").into()), 10, "there is no repository");
    assert_eq!(code(by_variable().args(["--repo", "archive"]).output().expect("runs").into()), 0);
    let wrong = desk.at("wrong");
    fs::write(&wrong, "another passphrase\n").expect("written");
    let mut other = alone(&desk, &["snapshots"]);
    assert_eq!(code(other.env("COFFRE_PASSWORD_FILE", &wrong).output().expect("runs").into()), 12);
}

#[test]
fn a_variable_that_says_another_repository_than_a_job_is_refused() {
    let desk = configured();
    let (here, elsewhere) = (desk.at("repository").display().to_string(), desk.at("elsewhere").display().to_string());
    let with = |variable: &str, arguments: &[&str]| -> Run {
        alone(&desk, arguments).env("COFFRE_REPO", variable).output().expect("runs").into()
    };
    let said = format!("5:1: job nightly backs up into archive ({here}), and COFFRE_REPO says {elsewhere}");
    for arguments in [&["run"][..], &["run", "nightly"], &["backup", "--job", "nightly"], &["schedule"]] {
        let refused = with(&elsewhere, arguments);
        assert!(refused.code == 2 && refused.err.contains(&said), "{arguments:?}: {refused:?}");
    }
    let checked = with(&elsewhere, &["config", "check"]);
    let told = checked.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(checked.code == 2 && told.contains("works repository archive"), "{checked:?}");
    assert!(told.contains("FAILED job nightly: ") && told.contains("and COFFRE_REPO says"), "{checked:?}");
    assert!(!desk.at("elsewhere").exists());
    // The same one, however it is written, has the options of the configuration; an option says another one.
    for same in ["archive", here.as_str(), format!("{here}/.").as_str()] {
        assert_eq!(with(same, &["run"]).code, 0, "{same}");
    }
    assert_eq!(with(&elsewhere, &["run", "--repo", "archive"]).code, 0);
    assert_eq!(
        with(&elsewhere, &["snapshots", "--job", "nightly"]).code,
        10,
        "what backs up no job goes where it says"
    );
}

#[test]
fn a_job_says_the_repository_to_every_verb() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let near = desk.at("near").display().to_string();
    let more = format!(
        "[repositories.near]\nlocation = \"{near}\"\n[jobs.hourly]\nrepository = \"near\"\npaths = [\"/etc\"]\n"
    );
    write(&file, &format!("{right}{more}"));
    assert_eq!(run(&desk, &["backup", "--job", "nightly"]).code, 0);
    assert_eq!(run(&desk, &["dump", "latest:said.txt", "--job", "nightly"]).out, "two words\n");
    assert_eq!(run(&desk, &["snapshots", "--job", "hourly"]).code, 10, "nobody made that one");
    assert_eq!(run(&desk, &["snapshots", "--job", "hourly", "--repo", "archive"]).code, 0);
    for arguments in [&["snapshots"][..], &["snapshots", "--job", "of another host"]] {
        let unknown = run(&desk, arguments);
        assert!(unknown.code == 2 && unknown.err.contains("which repository"), "{unknown:?}");
    }
    let both = run(&desk, &["snapshots", "--job", "hourly", "--job", "nightly"]);
    assert!(both.code == 2 && both.err.contains("which repository"), "{both:?}");
}

#[test]
fn passwords_in_a_configuration_are_refused_and_not_shown() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let line = right.lines().count() + 2;
    for (more, message, hint) in [
        ("[jobs.db]\npostgres = \"postgresql://u:hunter2@db/x\"\n", "postgres: a URL with a password", "PGPASSFILE"),
        ("[jobs.db]\nmysql = [\"mysql://u:hunter2@db/x\"]\n", "mysql: a URL with a password", "?option-file=FILE"),
        ("[repositories.s]\nlocation = \"s3://k:hunter2@h.example/b\"\n", "a location must not hold", ""),
    ] {
        write(&file, &format!("{right}{more}"));
        for arguments in [&["snapshots"][..], &["config", "check", "--offline"]] {
            let refused = run(&desk, arguments);
            assert_eq!(refused.code, 2, "{refused:?}");
            assert!(refused.err.contains(&format!("{}:{line}:1: {message}", file.display())), "{refused:?}");
            assert!(refused.err.contains(hint) && !(refused.out + &refused.err).contains("hunter2"), "{more}");
        }
    }
    write(&file, &format!("{right}[jobs.nightly.hooks]\nafter = [\"curl\", \"https://u:hunter2@example.org/\"]\n"));
    let shown = run(&desk, &["config", "check", "--offline"]);
    assert!(shown.code == 0 && shown.out.contains("curl https://u:***@example.org/"), "{shown:?}");
}

#[test]
fn files_with_secrets_that_others_can_read_are_refused() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let secret = desk.at("secret");
    let at = secret.display().to_string();
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    for (key, text) in [
        ("password-file", right.replace(&desk.at("password").display().to_string(), &at)),
        ("identity-file", format!("{right}[options]\nidentity-file = \"{at}\"\n")),
        ("ping-url-file", format!("{right}[watch]\nping-url-file = \"{at}\"\n")),
        ("webhook-url-file", format!("{right}[jobs.nightly.watch]\nwebhook-url-file = \"{at}\"\n")),
        ("mysql", format!("{right}[jobs.db]\nmysql = \"mysql://u@h/x?option-file={at}\"\n")),
    ] {
        write(&file, &text);
        fs::write(&secret, if key == "mysql" { "[client]\npassword=s3cret\n" } else { "https://example.org/s3cret\n" })
            .expect("written");
        let looked = || run(&desk, &["config", "check", "--offline"]);
        // Who reads what the system owns as one of its group is meant to.
        let is_own = !rustix::process::geteuid().is_root();
        for open in [0o644, 0o604].into_iter().chain(is_own.then_some(0o640)) {
            mode(&secret, open);
            let refused = looked();
            let told = format!(":1: {key}: {at} holds a secret, and others than its owner can read it");
            assert!(refused.code == 2 && refused.err.contains(&told), "{key} {open:o}: {refused:?}");
            assert!(refused.err.contains(&format!("chmod o-r {at}")), "{refused:?}");
        }
        if key == "password-file" {
            // Nobody is kept from restoring by that; here it is no passphrase at all.
            assert!(!run(&desk, &["snapshots"]).err.contains("holds a secret"), "{key}");
        }
        let mut handed = alone(&desk, &["config", "check", "--offline"]);
        let handed: Run = handed.env("CREDENTIALS_DIRECTORY", desk.directory.path()).output().expect("runs").into();
        assert_eq!(handed.code, 0, "a credential of systemd: {handed:?}");
        mode(&secret, 0o600);
        assert_eq!(looked().code, 0, "{key}");
    }
    // What is typed or in a variable is whoever's who says it.
    write(&file, &right.replace("password-file", "#password-file"));
    mode(&desk.at("password"), 0o644);
    let mut typed = alone(&desk, &["snapshots"]);
    let typed: Run = typed.env("COFFRE_PASSWORD_FILE", desk.at("password")).output().expect("runs").into();
    assert_eq!(typed.code, 0, "{typed:?}");
}

#[test]
fn files_are_put_together_key_by_key() {
    let desk = configured();
    let home = desk.at("home");
    fs::create_dir_all(home.join("coffre")).expect("made");
    fs::rename(desk.at("coffre.toml"), home.join("coffre/coffre.toml")).expect("moved");
    write(&home.join("coffre/conf.d/10.toml"), "[jobs.nightly]\ntag = \"c\"\n[options]\nmemory = \"200MiB\"\n");
    write(&home.join("coffre/conf.d/20.toml"), "[jobs.nightly]\ntag = \"d\"\n");
    write(&home.join("coffre/conf.d/notes.txt"), "no configuration");
    let users = |arguments: &[&str]| -> Run {
        let mut command = alone(&desk, arguments);
        command.env_remove("COFFRE_CONFIG").env("XDG_CONFIG_HOME", &home).output().expect("runs").into()
    };
    let shown = users(&["--json", "config", "check", "--offline"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let tag = shown.out.lines().find(|line| line.contains("jobs.nightly.tag")).expect("shown");
    assert!(tag.contains("\"value\":\"d\"") && tag.contains("20.toml:2:1"), "{tag}");
    assert!(shown.out.contains("options.memory"), "{}", shown.out);
    assert_eq!(users(&["backup", "--job", "nightly"]).code, 0);
    assert!(users(&["--json", "snapshots"]).out.contains("\"tags\":[\"d\"]"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let place = |line: usize, column: usize| format!("{}:{line}:{column}: ", file.display());
    for (more, line, message, hint) in [
        ("\n[options]\nmemmory = \"1GiB\"\n", 2, "there is no key \"memmory\" here", "\"memory\" is like it"),
        ("\n[options]\nmemory = \"lots\"\n", 2, "invalid value 'lots' for '--memory", ""),
        ("\n[jobs.x]\nrepository = \"archiv\"\n", 2, "there is no repository \"archiv\"", "\"archive\" is like it"),
        ("\n[jobs.x]\npaths = \"here\"\n", 2, "paths: \"here\" does not begin with a slash", ""),
        ("\n[jobs.x]\none-file-system = 1\n", 2, "one-file-system takes true or false", ""),
    ] {
        write(&file, &format!("{right}{more}"));
        let run = run(&desk, &["snapshots"]);
        let wanted = format!("{}{message}", place(right.lines().count() + line + 1, 1));
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(&wanted) && run.err.contains(hint), "{wanted}\n{}", run.err);
    }
    write(&file, &right);
    let near = run(&desk, &["backup", "--job", "nightli"]);
    assert_eq!(near.code, 2);
    assert!(near.err.contains("no job \"nightli\", but \"nightly\""), "{}", near.err);
    let near = run(&desk, &["snapshots", "--repo", "arhive"]);
    assert_eq!(near.code, 10);
    assert!(near.err.contains("the configuration has a repository \"archive\""), "{}", near.err);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("set");
    let open = run(&desk, &["snapshots"]);
    assert!(open.code == 2 && open.err.contains("can be written by others"), "{open:?}");
    let gone: Run =
        alone(&desk, &["snapshots"]).env("COFFRE_CONFIG", desk.at("none.toml")).output().expect("runs").into();
    assert!(gone.code != 0 && gone.err.contains("none.toml"), "{gone:?}");
}

#[test]
fn what_needs_no_configuration_does_not_mind_a_wrong_one() {
    let desk = configured();
    write(&desk.at("coffre.toml"), "[options\n");
    for arguments in
        [&["help", "locations"][..], &["completions", "bash"], &["config", "example"], &["config", "schema"]]
    {
        assert_eq!(run(&desk, arguments).code, 0, "{arguments:?}");
    }
    assert_eq!(run(&desk, &["snapshots"]).code, 2);
}

#[test]
fn the_example_and_the_schema_are_printed_as_files() {
    let desk = Desk::new();
    let printed = run(&desk, &["config", "example"]);
    let file = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/coffre.toml")).expect("there");
    assert_eq!((printed.code, printed.out), (0, file));
    let printed = run(&desk, &["config", "schema"]);
    serde_json::from_str::<serde_json::Value>(&printed.out).expect("JSON");
}

#[test]
fn checking_shows_each_value_and_tries_each_name() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let checked = run(&desk, &["config", "check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    for wanted in [
        "repositories.archive.location",
        "coffre.toml:2:1",
        "works     repository archive: this key reads and backs up; 0 snapshots",
        "works     job nightly: 1 path and 1 stream",
    ] {
        assert!(checked.out.contains(wanted), "{wanted}: {}", checked.out);
    }
    let right = fs::read_to_string(&file).expect("there");
    let gone =
        format!("{right}[repositories.gone]\nlocation = \"/nowhere/at/all\"\n[jobs.empty]\npaths = \"/nowhere\"\n");
    write(&file, &gone.replace("[jobs.empty]\n", "[jobs.empty]\nrepository = \"gone\"\n"));
    let checked = run(&desk, &["config", "check"]);
    assert_eq!(checked.code, 10, "{checked:?}");
    for wanted in ["FAILED    repository gone: ", "FAILED    job empty: /nowhere", "works     job nightly"] {
        assert!(checked.out.contains(wanted), "{wanted}: {}", checked.out);
    }
    let quiet = run(&desk, &["-q", "config", "check"]);
    assert!(quiet.out.contains("FAILED") && !quiet.out.contains("works"), "{}", quiet.out);
    // Those who are told of runs.
    let url = desk.at("url");
    write(&file, &format!("{right}[watch]\nping-url-file = \"{}\"\n", url.display()));
    let gone = run(&desk, &["config", "check"]);
    assert!(gone.code == 2 && gone.out.contains("FAILED    watch: "), "{gone:?}");
    fs::write(&url, "https://example.org/s3cret\n").expect("written");
    fs::set_permissions(&url, fs::Permissions::from_mode(0o600)).expect("set");
    let there = run(&desk, &["config", "check"]);
    assert!(
        there.code == 0 && there.out.contains("works     watch: 1 URL") && !there.out.contains("s3cret"),
        "{there:?}"
    );
}

#[test]
fn checking_tries_whether_something_can_be_stored() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let sessions = desk.at("repository/sessions");
    let told = |checked: &Run| checked.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let checked = run(&desk, &["config", "check"]);
    assert!(checked.code == 0 && told(&checked).contains("0 snapshots; it stores and deletes"), "{checked:?}");
    assert_eq!(fs::read_dir(&sessions).expect("made").count(), 0, "nothing is left behind");

    // The key of another host, for the job and for one that has a key of its own.
    let added = desk.run(&["key", "add", "--writer", "web", "--host", "web1", "--to", "web.secret"]);
    assert_eq!(added.code, 0, "{added:?}");
    let secret = desk.at("web.secret").display().to_string();
    let own = right.replace("[jobs.nightly]\n", &format!("[jobs.nightly]\npassword-file = \"{secret}\"\n"));
    write(&file, &own);
    let of = |host: &str| -> Run {
        alone(&desk, &["config", "check"]).env("COFFRE_HOST", host).output().expect("runs").into()
    };
    let another = of("host1");
    let wanted = "FAILED job nightly: the key of this host is for backups of web1, not of \"host1\"";
    assert!(another.code != 0 && told(&another).contains(wanted), "{another:?}");
    let same = of("web1");
    let wanted = "works job nightly: 1 path and 1 stream; it stores and deletes";
    assert!(same.code == 0 && told(&same).contains(wanted), "{same:?}");

    fs::remove_dir(&sessions).expect("empty");
    fs::write(&sessions, "no directory").expect("written");
    write(&file, &right);
    let refused = run(&desk, &["config", "check"]);
    let wanted = "FAILED repository archive: nothing can be stored: put sessions/";
    assert!(refused.code != 0 && told(&refused).contains(wanted), "{refused:?}");
    // Where nothing is stored, nothing is tried.
    write(&file, right.split("[jobs.nightly]").next().expect("before it"));
    let read = run(&desk, &["config", "check"]);
    assert!(read.code == 0 && read.out.contains("this key reads and backs up; 0 snapshots\n"), "{read:?}");
}

#[test]
fn hooks_and_commands_are_shown_with_their_own_places() {
    let desk = configured();
    let hooks = "[jobs.nightly.hooks]\nbefore = [\"true\"]\ntime-limit = \"5min\"\n";
    write(&desk.at("conf.d/10.toml"), hooks);
    let shown = run(&desk, &["--json", "config", "check", "--offline"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for (key, value, place) in [
        ("commands.said.txt", "echo two words", "coffre.toml:10:1"),
        ("hooks.before", "true", "10.toml:2:1"),
        ("hooks.time-limit", "5 min", "10.toml:3:1"),
    ] {
        let key = format!("\"key\":\"jobs.nightly.{key}\"");
        let line = shown.out.lines().find(|line| line.contains(&key)).expect("shown");
        assert!(line.contains(&format!("\"value\":\"{value}\"")) && line.contains(place), "{line}");
    }
}

#[test]
fn jobs_run_one_after_the_other_and_one_that_fails_stops_none() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let all = run(&desk, &["run"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert!(all.out.starts_with("nightly          snapshot ") && all.out.lines().count() == 1, "{}", all.out);
    assert_eq!(run(&desk, &["-q", "run"]).out, "");

    let more = "[jobs.failing]\nrepository = \"archive\"\n[jobs.failing.commands]\n\"x.sql\" = [\"false\"]\n";
    write(&file, &format!("{right}{more}"));
    let all = run(&desk, &["run", "-q"]);
    assert_eq!(all.code, 5, "{all:?}");
    assert!(all.out.contains("failing          FAILED") && all.err.contains("x.sql"), "{all:?}");
    let told = run(&desk, &["--json", "run"]);
    let of_jobs: Vec<&str> = told.out.lines().filter(|line| line.contains("\"event\":\"job\"")).collect();
    let wanted = [
        "{\"event\":\"job\",\"exit_code\":5,\"job\":\"failing\",\"outcome\":\"failed dump\",",
        "{\"event\":\"job\",\"exit_code\":0,\"job\":\"nightly\",\"outcome\":\"clean\",",
    ];
    assert!(of_jobs.len() == 2 && of_jobs.iter().zip(wanted).all(|(line, start)| line.starts_with(start)), "{told:?}");
    assert_eq!(run(&desk, &["run", "nightly"]).code, 0, "only the one that is named");
    let snapshots = run(&desk, &["--json", "snapshots", "--job", "nightly"]).out;
    assert_eq!(snapshots.lines().filter(|line| line.contains("\"event\":\"snapshot\"")).count(), 5, "{snapshots}");

    let unknown = run(&desk, &["run", "nightli"]);
    assert!(unknown.code == 2 && unknown.err.contains("\"nightly\" is like it"), "{unknown:?}");
    // What is typed is for every job.
    let elsewhere: Run = alone(&desk, &["run", "--repo", "/nowhere/at/all"]).output().expect("runs").into();
    assert_eq!(elsewhere.code, 10, "{elsewhere:?}");
}

#[test]
fn one_run_at_a_time_backs_up_into_a_repository() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let (begun, go_on) = (desk.at("begun"), desk.at("go-on"));
    let script =
        format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done; echo done", begun.display(), go_on.display());
    let slow = format!(
        "[jobs.slow]\nrepository = \"archive\"\n[jobs.slow.commands]\n\"s.txt\" = [\"sh\", \"-c\", \"{script}\"]\n"
    );
    write(&file, &format!("{right}{slow}"));
    let mut first = alone(&desk, &["run", "slow"]).spawn().expect("runs");
    while !begun.exists() {
        assert!(first.try_wait().expect("asked").is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let log = desk.at("hooks");
    let hook = format!("[\"sh\", \"-c\", 'echo $COFFRE_HOOK >> {}']", log.display());
    let hooks = format!("before = {hook}\nafter = {hook}\non-failure = {hook}\n");
    write(&file, &format!("{right}{slow}[jobs.nightly.hooks]\n{hooks}"));
    let second = run(&desk, &["run", "nightly"]);
    assert!(second.code == 11 && second.err.contains("--wait"), "{second:?}");
    // What prepares the host and tidies up after it is for the run that is at it.
    assert_eq!(fs::read_to_string(&log).expect("written"), "on-failure\n");
    write(&file, &format!("{right}{slow}"));
    let waiting = alone(&desk, &["run", "nightly", "--wait", "10min"]).stdout(std::process::Stdio::piped()).spawn();
    let waiting = waiting.expect("runs");
    fs::write(&go_on, "").expect("written");
    assert!(first.wait().expect("waited").success());
    assert!(waiting.wait_with_output().expect("waited").status.success());
}

#[test]
fn a_job_that_a_dump_stopped_is_tried_again_for_as_long_as_was_asked() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let marker = desk.at("second-time");
    let script = format!("[ -e {0} ] && echo done || {{ touch {0}; exit 1; }}", marker.display());
    let job = format!(
        "[jobs.late]\nrepository = \"archive\"\n[jobs.late.commands]\n\"s.txt\" = [\"sh\", \"-c\", \"{script}\"]\n"
    );
    write(&file, &format!("{right}{job}"));
    assert_eq!(run(&desk, &["run", "late"]).code, 5);
    fs::remove_file(&marker).expect("there");
    let again = run(&desk, &["run", "late", "--retry-for", "10min"]);
    assert!(again.code == 0 && again.err.contains("tried again in 1 s"), "{again:?}");
    // What time does not mend is not tried again.
    let wrong = "[jobs.wrong]\nrepository = \"archive\"\npassword-file = \"/nowhere\"\npaths = \"/nowhere\"\n";
    write(&file, &format!("{right}{wrong}"));
    let wrong = run(&desk, &["run", "wrong", "--retry-for", "10min"]);
    assert!(wrong.code != 0 && !wrong.err.contains("tried again"), "{wrong:?}");
}

#[test]
fn hooks_run_around_a_job_and_know_how_it_ended() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let log = desk.at("log");
    let note = format!(
        "[\"sh\", \"-c\", 'echo \"$COFFRE_HOOK $COFFRE_JOB $COFFRE_OUTCOME ${{COFFRE_SNAPSHOT:+made}} $COFFRE_ERROR\" >> {}; echo shown']",
        log.display()
    );
    let all = format!("before = {note}\nafter = {note}\non-success = {note}\non-failure = {note}\n");
    let seen = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    write(&file, &format!("{right}[jobs.nightly.hooks]\n{all}"));
    let well = run(&desk, &["run"]);
    assert!(well.code == 0 && !well.out.contains("shown") && well.err.contains("shown"), "{well:?}");
    assert_eq!(seen(), ["before nightly", "after nightly clean made", "on-success nightly clean made"]);

    let failing = right.replace("\"echo\", \"two words\"", "\"false\"");
    write(&file, &format!("{failing}[jobs.nightly.hooks]\n{all}"));
    assert_eq!(run(&desk, &["run"]).code, 5);
    let told = seen();
    assert_eq!(told[0], "before nightly");
    assert!(told[1].starts_with("after nightly failed dump stream said.txt failed"), "{told:?}");
    assert!(told[2].starts_with("on-failure nightly failed dump"), "{told:?}");

    // One before that fails stops the job, and nothing but the hook for failures runs.
    let before = all.replacen(&note, "[\"sh\", \"-c\", \"exit 7\"]", 1);
    write(&file, &format!("{right}[jobs.nightly.hooks]\n{before}"));
    let stopped = run(&desk, &["run"]);
    assert!(
        stopped.code == 1 && stopped.err.contains("the hook before of job nightly ended with status 7"),
        "{stopped:?}"
    );
    let told = seen();
    assert!(told.len() == 1 && told[0].starts_with("on-failure nightly failed the hook before"), "{told:?}");

    // One after that fails or takes too long is told, and the snapshot is there.
    let count = || run(&desk, &["--json", "snapshots"]).out.matches("\"event\":\"snapshot\"").count();
    for (hook, message) in [
        ("after = [\"false\"]", "the hook after of job nightly ended with status 1"),
        (
            "on-success = [\"sleep\", \"600\"]\ntime-limit = \"1s\"",
            "the hook on-success of job nightly was ended after 1 seconds",
        ),
        ("after = [\"/nowhere/program\"]", "the hook after of job nightly could not be run"),
    ] {
        let before = count();
        write(&file, &format!("{right}[jobs.nightly.hooks]\n{hook}\n"));
        let run = run(&desk, &["run"]);
        assert!(run.code == 3 && run.err.contains(message), "{message}: {run:?}");
        assert_eq!(count(), before + 1);
    }
}
