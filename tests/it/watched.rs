//! `coffre run`, watched from outside: by the service manager, by whoever reads its metrics, and by those who are told when it fails.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::configuration::{alone, configured, run, write};
use crate::support::daemon::skip;
use crate::support::desk::{Desk, Run};

/// Adds to the configuration of a desk.
fn configure(desk: &Desk, more: &str) {
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    write(&file, &format!("{right}{more}"));
}

#[test]
fn the_service_manager_hears_how_a_run_goes_and_programs_do_not_hear_of_it() {
    let desk = configured();
    let seen = desk.at("seen");
    configure(
        &desk,
        &format!(
            "[jobs.nightly.hooks]\nbefore = [\"sh\", \"-c\", 'env > {0}.new; mv {0}.new {0}; while [ ! -e {0}.go ]; do sleep 0.05; done']\n",
            seen.display()
        ),
    );
    let path = desk.at("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let mut child = alone(&desk, &["run"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "100000")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    let hear = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).expect("told");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    assert_eq!(hear(), "READY=1");
    let mut told = Vec::new();
    // The hook waits until the run was alive for a while.
    while !(told.iter().filter(|text| *text == "WATCHDOG=1").count() > 2
        && told.contains(&"STATUS=0 of 1 jobs done; nightly".to_owned()))
    {
        told.push(hear());
    }
    while !seen.exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::write(desk.at("seen.go"), "").expect("written");
    while hear() != "STOPPING=1" {}
    assert!(child.wait().expect("ends").success());
    let environment = fs::read_to_string(&seen).expect("seen");
    assert!(environment.contains("COFFRE_HOOK=before") && !environment.contains("NOTIFY_SOCKET"), "{environment}");
    assert!(!environment.contains("WATCHDOG"), "{environment}");
    // Nobody who listens is no reason to fail.
    let deaf: Run = alone(&desk, &["run"]).env("NOTIFY_SOCKET", "/nowhere/at/all").output().expect("runs").into();
    assert_eq!(deaf.code, 0, "{deaf:?}");
}

#[test]
fn jobs_run_side_by_side_and_a_signal_ends_all_of_them() {
    let desk = configured();
    // Each waits until the other has begun: one after the other they would wait for ever.
    let job = |name: &str, other: &str| {
        let (mine, theirs) = (desk.at(name).display().to_string(), desk.at(other).display().to_string());
        let script = format!("touch {mine}; while [ ! -e {theirs} ]; do sleep 0.05; done; echo done");
        format!(
            "[jobs.{name}]\nrepository = \"archive\"\n[jobs.{name}.commands]\n\"s.txt\" = [\"sh\", \"-c\", \"{script}\"]\n"
        )
    };
    configure(&desk, &format!("{}{}[run]\njobs = 2\n", job("one", "two"), job("two", "one")));
    let both = run(&desk, &["run", "one", "two"]);
    assert_eq!(both.code, 0, "{both:?}");
    assert_eq!(both.out.lines().filter(|line| line.contains("snapshot")).count(), 2, "{both:?}");

    // One that fails leaves the other alone; lines say whose they are.
    configure(&desk, "[jobs.failing]\nrepository = \"archive\"\n[jobs.failing.commands]\n\"x.sql\" = [\"false\"]\n");
    let some = run(&desk, &["run", "failing", "nightly"]);
    assert!(some.code == 5 && some.out.contains("nightly          snapshot"), "{some:?}");

    // Two that wait for ever.
    fs::remove_file(desk.at("one")).expect("there");
    fs::remove_file(desk.at("two")).expect("there");
    let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    write(&desk.at("coffre.toml"), &text.replace("-e ", "-e /nowhere"));
    let child = alone(&desk, &["run", "one", "two"]).stderr(std::process::Stdio::piped()).spawn().expect("runs");
    while !(desk.at("one").exists() && desk.at("two").exists()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(child.id().try_into().expect("a number")).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    let ended: Run = child.wait_with_output().expect("ends").into();
    assert_eq!(ended.code, 130, "{ended:?}");
}

#[test]
fn a_run_stands_back_behind_others() {
    let desk = configured();
    configure(
        &desk,
        "[run]\nnice = 7\nionice = \"idle\"\njitter = \"1ms\"\n\
         [jobs.nightly.hooks]\nbefore = [\"sh\", \"-c\", 'cut -d\" \" -f19 /proc/self/stat > nice; ionice > io || echo idle > io']\n",
    );
    let mut command = alone(&desk, &["run"]);
    let stood: Run = command.current_dir(desk.at("")).output().expect("runs").into();
    assert_eq!(stood.code, 0, "{stood:?}");
    assert!(stood.err.contains("beginning in 0.0 s"), "{stood:?}");
    let nice: i32 = fs::read_to_string(desk.at("nice")).expect("told").trim().parse().expect("a number");
    assert!(nice >= 7, "{nice}");
    assert!(fs::read_to_string(desk.at("io")).expect("told").starts_with("idle"));
    for (wrong, place) in [("nice = 20", "nice"), ("ionice = \"never\"", "ionice"), ("jitter = \"soon\"", "jitter")] {
        let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
        let line = text.lines().find(|line| line.starts_with(place)).expect("there").to_owned();
        write(&desk.at("coffre.toml"), &text.replace(&line, wrong));
        let refused = run(&desk, &["run"]);
        assert!(refused.code == 2 && refused.err.contains("coffre.toml:"), "{wrong}: {refused:?}");
        write(&desk.at("coffre.toml"), &text);
    }
}

/// Returns the metrics of a file by name and labels, and makes sure that each is explained once and before its values.
fn metrics(path: &Path) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(path).expect("there");
    let mut metrics = BTreeMap::new();
    let mut explained = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.strip_suffix(" gauge").expect("all are gauges");
            assert!(!explained.contains(&name.to_owned()), "{name} twice: {text}");
            explained.push(name.to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            assert_eq!(explained.last().map(String::as_str), Some(name), "{text}");
            assert!(metrics.insert(series.to_owned(), value.parse().expect("a number")).is_none(), "{series} twice");
        }
    }
    promtool(&["check", "metrics"], &text);
    metrics
}

/// Has Prometheus' own tool check something.
fn promtool(arguments: &[&str], text: &str) {
    let mut checking = Command::new("promtool");
    checking.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut checking) = checking.spawn() else { return skip("promtool, of Debian's package prometheus,") };
    checking.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let checked: Run = checking.wait_with_output().expect("ends").into();
    assert_eq!(checked.code, 0, "{checked:?}\n{text}");
}

#[test]
fn metrics_are_written_however_a_run_ends() {
    let desk = configured();
    let file = desk.at("coffre.prom");
    let right = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    let with = |more: &str| write(&desk.at("coffre.toml"), &format!("{more}{right}"));
    let run_table = format!("[run]\nmetrics-file = \"{}\"\n", file.display());
    with(&run_table);
    assert_eq!(run(&desk, &["run"]).code, 0);
    let first = metrics(&file);
    let value = |metrics: &BTreeMap<String, f64>, name: &str| metrics.get(name).copied();
    let success = "coffre_job_last_success_timestamp_seconds{job=\"nightly\"}";
    assert_eq!(value(&first, "coffre_run_last_exit_code"), Some(0.0));
    assert_eq!(value(&first, "coffre_job_last_exit_code{job=\"nightly\"}"), Some(0.0));
    assert_eq!(value(&first, "coffre_job_last_files{job=\"nightly\"}"), Some(2.0), "{first:?}");
    assert!(value(&first, success).is_some_and(|time| time > 1.7e9));
    assert!(first["coffre_run_last_end_timestamp_seconds"] >= first["coffre_run_last_start_timestamp_seconds"]);
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o644, "others read it");

    // Each way to fail, before the start and behind it; the last success stays what it was.
    let mut table = Vec::<(String, Vec<&str>, f64)>::new();
    table.push((run_table.clone(), vec!["run", "nightli"], 2.0));
    table.push((run_table.clone(), vec!["run", "--no-such-option"], 2.0));
    table.push((run_table.clone(), vec!["run", "--jobs", "many"], 2.0));
    table.push((format!("{run_table}[options]\nmemory = \"1MiB\"\n"), vec!["run"], 2.0));
    table.push((format!("{run_table}[options]\nmemmory = \"1GiB\"\n"), vec!["run"], 2.0));
    table.push((format!("{run_table}[options]\nmemory = \n"), vec!["run"], 2.0));
    table.push((run_table.clone(), vec!["run", "--repo", "/nowhere/at/all"], 10.0));
    let typed = file.display().to_string();
    table.push(("[options\n".into(), vec!["run", "--metrics-file", &typed], 2.0));
    for (more, arguments, code) in table {
        with(&more);
        fs::write(&file, fs::read_to_string(&file).expect("there").replace("exit_code 0", "exit_code 99"))
            .expect("written");
        let failed = run(&desk, &arguments);
        assert_eq!(f64::from(failed.code), code, "{failed:?}");
        let now = metrics(&file);
        assert_eq!(value(&now, "coffre_run_last_exit_code"), Some(code), "{more} {arguments:?}: {now:?}");
        assert_eq!(value(&now, success), value(&first, success), "{more} {arguments:?}");
        assert_eq!(
            value(&now, "coffre_run_last_success_timestamp_seconds"),
            value(&first, "coffre_run_last_success_timestamp_seconds")
        );
    }
    // What is no run says nothing, however wrong it is.
    let before = fs::read_to_string(&file).expect("there");
    with(&format!("{run_table}[options]\nmemmory = \"1GiB\"\n"));
    assert_eq!(run(&desk, &["snapshots"]).code, 2);
    assert_eq!(run(&desk, &["run", "--help"]).code, 0);
    assert_eq!(fs::read_to_string(&file).expect("there"), before);
    // A file that cannot be written is told, and takes nothing from the run.
    with("[run]\nmetrics-file = \"/nowhere/at/all.prom\"\n");
    let untold = run(&desk, &["run", "-q"]);
    assert!(untold.code == 0 && untold.err.contains("/nowhere/at/all.prom"), "{untold:?}");
}

#[test]
fn metrics_tell_of_a_run_that_was_ended() {
    let desk = configured();
    let (file, begun, failed) = (desk.at("coffre.prom"), desk.at("begun"), desk.at("failed"));
    let ((pinged, pings), (hooked, hooks)) = (server(200), server(200));
    configure(
        &desk,
        &format!(
            "[run]\nmetrics-file = \"{}\"\n[jobs.nightly.hooks]\nbefore = [\"sh\", \"-c\", \"trap '' TERM; touch {}; sleep 60\"]\n\
             on-failure = [\"sh\", \"-c\", 'echo $COFFRE_JOB $COFFRE_OUTCOME $COFFRE_EXIT_CODE: $COFFRE_ERROR > {}']\n\
             [jobs.nightly.watch]\nping-url = \"{pinged}/job\"\n[watch]\nwebhook-url = \"{hooked}/run\"\n",
            file.display(),
            begun.display(),
            failed.display()
        ),
    );
    keep_private(&desk);
    let mut ends = BTreeMap::new();
    for (signals, signal) in [(2, rustix::process::Signal::TERM), (1, rustix::process::Signal::KILL)] {
        let _ = fs::remove_file(&begun);
        let mut child = alone(&desk, &["run"]).stderr(std::process::Stdio::piped()).spawn().expect("runs");
        while !begun.exists() {
            assert!(child.try_wait().expect("asked").is_none(), "it ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (asked, _) = pings.recv_timeout(Duration::from_secs(60)).expect("told");
        assert!(asked.starts_with("POST /job/start?rid="), "{asked}");
        let now = metrics(&file);
        assert!(
            now["coffre_run_last_start_timestamp_seconds"]
                > now.get("coffre_run_last_end_timestamp_seconds").copied().unwrap_or(0.0)
        );
        let pid = rustix::process::Pid::from_raw(child.id().try_into().expect("a number")).expect("not zero");
        for at in 0..signals {
            rustix::process::kill_process(pid, signal).expect("sent");
            if at == 0 && signals > 1 {
                let mut line = String::new();
                BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("told");
                assert!(line.contains("once more to end at once"), "{line}");
            }
        }
        child.wait().expect("ends");
        let now = metrics(&file);
        // Who is killed tells nobody.
        let told: Vec<String> = pings.try_iter().map(|(asked, _)| asked).collect();
        let (of_run, of_hook) = (hooks.try_iter().collect::<Vec<_>>(), fs::read_to_string(&failed).unwrap_or_default());
        let _ = fs::remove_file(&failed);
        if signals > 1 {
            assert!(told.len() == 1 && told[0].starts_with("POST /job/130?rid="), "{told:?}");
            let [(_, body)] = of_run.as_slice() else { panic!("{of_run:?}") };
            assert!(body.contains("\"outcome\":\"interrupted\"") && body.contains("a second signal"), "{body}");
            assert_eq!(of_hook, "nightly interrupted 130: a second signal ended it at once\n");
            assert_eq!(now["coffre_job_last_exit_code{job=\"nightly\"}"], 130.0);
        } else {
            assert!(told.is_empty() && of_run.is_empty() && of_hook.is_empty(), "{told:?} {of_run:?} {of_hook}");
        }
        let start = now["coffre_run_last_start_timestamp_seconds"];
        let end = now.get("coffre_run_last_end_timestamp_seconds").copied();
        ends.insert(signals, (end.is_some_and(|end| end >= start), now.get("coffre_run_last_exit_code").copied()));
    }
    assert_eq!(ends[&2], (true, Some(130.0)), "a second signal");
    assert_eq!(ends[&1], (false, Some(130.0)), "who is killed says nothing, and the start says that it was begun");
}

/// What was stored is stored, whatever becomes of what follows it.
#[test]
fn a_job_that_is_over_keeps_its_end_when_its_hooks_are_cut_off() {
    let desk = configured();
    let (file, begun) = (desk.at("coffre.prom"), desk.at("begun"));
    configure(
        &desk,
        &format!(
            "[run]\nmetrics-file = \"{}\"\n[jobs.nightly.hooks]\nafter = [\"sh\", \"-c\", \"trap '' INT; touch {}; sleep 60\"]\n",
            file.display(),
            begun.display()
        ),
    );
    let mut child = alone(&desk, &["run"]).stderr(Stdio::piped()).spawn().expect("runs");
    while !begun.exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(child.id().try_into().expect("a number")).expect("not zero");
    let interrupt = || rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    interrupt();
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut line).expect("told");
    assert!(line.contains("once more to end at once"), "{line}");
    interrupt();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let now = metrics(&file);
    let of_job = |name: &str| now[&format!("coffre_job_last_{name}{{job=\"nightly\"}}")];
    assert_eq!((of_job("exit_code"), now["coffre_run_last_exit_code"]), (0.0, 130.0));
    assert!(of_job("end_timestamp_seconds") >= of_job("start_timestamp_seconds"));
}

/// Every metric that an alert asks for is one that is written, and the rules are checked by `promtool`.
#[test]
fn the_example_of_alerts_names_metrics_that_there_are() {
    let desk = configured();
    let file = desk.at("coffre.prom");
    let due = "[repositories.archive.prune]\nevery = \"7d\"\n[repositories.archive.verify]\nevery = \"1d\"\n";
    configure(&desk, &format!("[run]\nmetrics-file = \"{}\"\n{due}", file.display()));
    assert_eq!(run(&desk, &["run"]).code, 0);
    let work = |now: &BTreeMap<String, f64>, name: &str, work: &str| {
        now[&format!("coffre_work_{name}{{repository=\"archive\",work=\"{work}\"}}")]
    };
    let now = metrics(&file);
    for kind in ["prune", "verify"] {
        let done = work(&now, "last_done_timestamp_seconds", kind);
        assert!(done > 1.7e9 && work(&now, "due_timestamp_seconds", kind) > done, "{now:?}");
        assert_eq!(work(&now, "last_exit_code", kind), 0.0);
    }
    // A run that does none of it knows when it was done.
    fs::remove_file(&file).expect("there");
    assert_eq!(run(&desk, &["run"]).code, 0);
    let again = work(&metrics(&file), "last_done_timestamp_seconds", "prune");
    assert!(again > 1.7e9 && again <= work(&now, "last_done_timestamp_seconds", "prune"), "{again} {now:?}");
    assert!(!metrics(&file).keys().any(|name| name.contains("work_last_exit_code")));
    fs::remove_dir_all(desk.at("repository/evidence")).expect("there");
    assert_eq!(run(&desk, &["run"]).code, 0);
    let written: Vec<String> =
        metrics(&file).keys().map(|series| series.split('{').next().expect("a name").to_owned()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = root.join("examples/alerts.yml");
    let names = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("coffre_")).map(str::to_owned).collect()
    };
    let asked = names(&fs::read_to_string(&alerts).expect("there"));
    assert!(asked.len() > 4);
    for name in asked {
        assert!(written.contains(&name), "{name} is asked for and never written");
    }
    let page = names(&fs::read_to_string(root.join("docs/monitoring.md")).expect("there"));
    for name in &written {
        assert!(page.contains(name), "docs/monitoring.md does not explain {name}");
    }
    assert!(page.iter().all(|name| written.contains(name)), "docs/monitoring.md explains what there is not: {page:?}");
    promtool(&["check", "rules", alerts.to_str().expect("plain")], "");
}

/// A server that says what it is asked, and answers with a status.
fn server(status: u16) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("came"));
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) < 3 {
                    break;
                }
                lines.push(line.trim_end().to_owned());
            }
            let length =
                lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).expect("as long as it was said");
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // Whoever was answered has been heard.
            let asked = lines.first().cloned().unwrap_or_default();
            if sender.send((asked, String::from_utf8(body).expect("text"))).is_err() {
                return;
            }
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    (url, receiver)
}

/// Makes the configuration one that nobody else reads.
fn keep_private(desk: &Desk) {
    fs::set_permissions(desk.at("coffre.toml"), fs::Permissions::from_mode(0o600)).expect("set");
}

#[test]
fn whoever_watches_hears_of_beginning_success_and_failure() {
    let desk = configured();
    let ((pinged, pings), (hooked, hooks), (whole, of_run)) = (server(200), server(200), server(200));
    let mails = desk.at("mails");
    let bin = desk.at("bin");
    fs::create_dir(&bin).expect("made");
    fs::write(bin.join("sendmail"), format!("#!/bin/sh\necho \"$@\" >> {0}\ncat >> {0}\n", mails.display()))
        .expect("written");
    fs::set_permissions(bin.join("sendmail"), fs::Permissions::from_mode(0o755)).expect("set");
    fs::write(desk.at("hook-url"), format!("{hooked}/s3cret-hook\n")).expect("written");
    fs::set_permissions(desk.at("hook-url"), fs::Permissions::from_mode(0o600)).expect("set");
    configure(
        &desk,
        &format!(
            "[watch]\nping-url = \"{whole}/s3cret-run\"\n[jobs.nightly.watch]\nping-url = \"{pinged}/s3cret-job?a=b\"\n\
             webhook-url-file = \"{}\"\nmail-to = [\"ops@example.org\", \"root\"]\n",
            desk.at("hook-url").display()
        ),
    );
    keep_private(&desk);
    let path =
        std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").expect("set"))));
    let path = path.expect("joined");
    let go = |arguments: &[&str]| -> Run { alone(&desk, arguments).env("PATH", &path).output().expect("runs").into() };
    let well = go(&["--json", "run"]);
    assert_eq!(well.code, 0, "{well:?}");
    let begun: serde_json::Value = serde_json::from_str(well.out.lines().next().expect("a line")).expect("an object");
    let id = begun["run"].as_str().expect("an id").to_owned();
    let told: Vec<(String, String)> = pings.try_iter().collect();
    assert_eq!(told[0], (format!("POST /s3cret-job/start?a=b&rid={id} HTTP/1.1"), String::new()));
    assert_eq!(told[1].0, format!("POST /s3cret-job?a=b&rid={id} HTTP/1.1"));
    assert!(told[1].1.starts_with("nightly          snapshot ") && told.len() == 2, "{told:?}");
    let told: Vec<(String, String)> = of_run.try_iter().collect();
    assert!(told.len() == 2 && told[1].1.starts_with("1 of 1 jobs done: clean\nnightly "), "{told:?}");
    assert!(hooks.try_recv().is_err() && !mails.exists(), "those hear of failures alone");

    let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    fs::write(
        desk.at("coffre.toml"),
        text.replace("\"echo\", \"two words\"", "\"sh\", \"-c\", \"echo too bad >&2; exit 9\""),
    )
    .expect("written");
    let failed = go(&["run"]);
    assert_eq!(failed.code, 5, "{failed:?}");
    let told: Vec<(String, String)> = pings.try_iter().collect();
    assert!(told[1].0.starts_with("POST /s3cret-job/5?a=b&rid="), "{told:?}");
    assert!(told[1].1.contains("FAILED") && told[1].1.contains("too bad"), "{told:?}");
    let (asked, body) = hooks.try_recv().expect("told");
    assert_eq!(asked, "POST /s3cret-hook HTTP/1.1");
    let object: serde_json::Value = serde_json::from_str(&body).expect("an object");
    assert_eq!(
        (&object["job"], &object["exit_code"]),
        (&serde_json::json!("nightly"), &serde_json::json!(5)),
        "{body}"
    );
    assert!(
        object["outcome"] == "failed dump" && object["text"].as_str().is_some_and(|text| text.contains("too bad")),
        "{body}"
    );
    let mail = fs::read_to_string(&mails).expect("sent");
    assert!(
        mail.starts_with("-t -oi\nTo: ops@example.org, root\nSubject: coffre on ")
            && mail.contains("job nightly: failed dump\n"),
        "{mail}"
    );
    assert!(mail.contains("\n\nnightly ") && mail.contains("too bad"), "{mail}");
    let told: Vec<(String, String)> = of_run.try_iter().collect();
    assert!(told[1].0.starts_with("POST /s3cret-run/5?rid=") && told[1].1.contains("too bad"), "{told:?}");
}

#[test]
fn whoever_watches_runs_hears_of_one_that_could_not_begin() {
    let desk = configured();
    let (url, asked) = server(200);
    configure(&desk, &format!("[watch]\nwebhook-url = \"{url}/s3cret\"\n"));
    let right = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    let put = |text: &str| {
        fs::write(desk.at("coffre.toml"), text).expect("written");
        keep_private(&desk);
    };
    put(&right);
    let mut cases = vec![(right.clone(), vec!["run", "--no-such-option"], 2, "no-such-option")];
    cases.push((right.clone(), vec!["run", "nightli"], 2, "there is no job \"nightli\""));
    cases.push((format!("{right}[options]\nmemmory = \"1GiB\"\n"), vec!["run"], 2, "there is no key \"memmory\""));
    cases.push((format!("{right}[options]\nmemory = \n"), vec!["run"], 2, "coffre.toml:"));
    cases.push((format!("{right}[options]\nmemory = \"1MiB\"\n"), vec!["run"], 2, "128MiB"));
    cases.push((right.clone(), vec!["run", "--repo", "/nowhere/at/all"], 10, "no repository"));
    for (text, arguments, code, why) in cases {
        put(&text);
        let failed = run(&desk, &arguments);
        assert_eq!(failed.code, code, "{failed:?}");
        let (asked, body) = asked.recv_timeout(Duration::from_secs(60)).expect("told");
        assert!(
            asked.starts_with("POST /s3cret ") && body.contains(why.replace('"', "\\\"").as_str()),
            "{why}: {body}"
        );
        let object: serde_json::Value = serde_json::from_str(&body).expect("an object");
        assert_eq!(
            (&object["exit_code"], &object["job"]),
            (&serde_json::json!(code), &serde_json::Value::Null),
            "{body}"
        );
    }
    // Another run is at it.
    put(&format!(
        "{right}[jobs.nightly.hooks]\nbefore = [\"sh\", \"-c\", \"touch begun; while [ ! -e go ]; do sleep 0.05; done\"]\n"
    ));
    let mut child = alone(&desk, &["run"]).current_dir(desk.at("")).spawn().expect("runs");
    while !desk.at("begun").exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    put(&right);
    let busy = run(&desk, &["run"]);
    fs::write(desk.at("go"), "").expect("written");
    assert!(child.wait().expect("ends").success());
    assert_eq!(busy.code, 11, "{busy:?}");
    let (_, body) = asked.recv_timeout(Duration::from_secs(60)).expect("told");
    assert!(body.contains("\"exit_code\":11"), "{body}");
    // What is no run says nothing.
    put(&format!("{right}[options]\nmemmory = \"1GiB\"\n"));
    assert_eq!(run(&desk, &["snapshots"]).code, 2);
    assert!(asked.try_recv().is_err());
}

#[test]
fn nobody_who_watches_can_fail_a_run_and_their_urls_are_never_shown() {
    let desk = configured();
    let ((refusing, _asked), (gone, listening)) = (server(404), server(200));
    drop(listening);
    let closed = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound");
    let table = format!(
        "[watch]\nping-url = \"http://{closed}/s3cret-a\"\n[jobs.nightly.watch]\nping-url = \"{refusing}/s3cret-b\"\n\
         webhook-url-file = \"/nowhere/at/all\"\n"
    );
    configure(&desk, &table);
    let _ = gone;
    let open = run(&desk, &["run"]);
    assert!(open.code == 2 && open.err.contains("others than its owner can read this file"), "{open:?}");
    keep_private(&desk);
    let done = run(&desk, &["-q", "run"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.err.contains(&format!("watch: http://{closed}/… could not be told: it cannot be reached: ")),
        "{done:?}"
    );
    assert!(
        done.err.contains(&format!("watch: {refusing}/… could not be told: it answered with HTTP 404")),
        "{done:?}"
    );
    let shown = run(&desk, &["config", "check", "--offline"]);
    assert!(shown.out.contains("jobs.nightly.watch.ping-url") && shown.out.contains("127.0.0.1"), "{shown:?}");
    for text in [&done.out, &done.err, &shown.out, &shown.err, &open.err] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    for (wrong, message) in [
        ("ping-url = \"http://example.org/s3cret\"", "without TLS only this machine is told"),
        ("ping-url = \"https://joe:s3cret@example.org/\"", "a user or a password before the host"),
        ("ping-ulr = \"x\"", "\"ping-url\" is like it"),
        ("mail-to = \"a b\"", "is no plain address"),
        ("ping-url-file = \"here\"", "does not begin with a slash"),
    ] {
        let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
        let cut = text.split("[watch]").next().expect("text");
        fs::write(desk.at("coffre.toml"), format!("{cut}[watch]\n{wrong}\n")).expect("written");
        let refused = run(&desk, &["run"]);
        assert!(
            refused.code == 2 && refused.err.contains(message) && !refused.err.contains("s3cret"),
            "{wrong}: {refused:?}"
        );
    }
}
