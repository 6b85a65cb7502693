//! `coffre run`, watched from outside: by the service manager, by whoever reads its metrics, and by those who are told when it fails.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::configuration::{alone, configured, run, write};
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
