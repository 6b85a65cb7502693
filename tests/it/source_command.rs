//! Commands as sources: what is believed, what is refused, and that nothing is left running.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use coffre::process::CommandOptions;
use coffre::source::command::CommandSource;
use coffre::source::{SourceError, StreamSource};

fn shell(script: &str) -> Box<CommandSource> {
    Box::new(CommandSource::spawn(&options(script)).expect("sh starts"))
}

fn options(script: &str) -> CommandOptions {
    CommandOptions { grace: Duration::from_millis(300), ..CommandOptions::new("sh", ["-c", script]) }
}

fn read(source: &mut CommandSource) -> String {
    let mut text = String::new();
    source.read_to_string(&mut text).expect("readable");
    text
}

/// Tells whether the process whose number `text` is still runs (a zombie does not).
fn runs(text: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", text.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn eventually(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn output_of_a_command_that_succeeds_is_believed() {
    let mut source = shell("echo out; echo err >&2; PASSWORD=x true");
    assert_eq!(read(&mut source), "out\n");
    let detail = source.finish().expect("a complete stream");
    assert_eq!(detail.command[0], b"sh");
    assert_eq!(detail.command[2], b"echo out; echo err >&2; PASSWORD=*** true");
}

#[test]
fn a_failing_command_is_refused_with_what_it_said_last() {
    let mut source = shell("echo data; for i in $(seq 1 30); do echo line $i >&2; done; exit 3");
    read(&mut source);
    let error = source.finish().expect_err("status 3");
    let SourceError::Failed { status: 3, stderr, .. } = &error else { panic!("{error}") };
    assert_eq!((stderr.len(), stderr[0].as_str(), stderr[19].as_str()), (20, "line 11", "line 30"));
    assert!(error.to_string().starts_with("sh failed with status 3; it said:\n    line 11\n"), "{error}");
}

#[test]
fn a_command_without_output_is_refused() {
    let mut source = shell("true");
    assert_eq!(read(&mut source), "");
    assert!(matches!(source.finish(), Err(SourceError::Empty { .. })));
}

#[test]
fn a_killed_command_is_refused() {
    let mut source = shell("echo data; kill -9 $$");
    read(&mut source);
    assert!(matches!(source.finish(), Err(SourceError::Killed { signal: 9, .. })));
}

#[test]
fn a_missing_program_is_named() {
    let error = CommandSource::spawn(&CommandOptions::new("no-such-program", ["x"])).expect_err("not installed");
    assert_eq!(error.to_string(), "no-such-program could not be started");
}

#[test]
fn a_stream_that_was_not_read_to_its_end_is_refused() {
    let mut source = shell("yes");
    source.read_exact(&mut [0; 10]).expect("some bytes");
    assert!(matches!(source.finish(), Err(SourceError::Unfinished { .. })));
}

#[test]
fn dropping_ends_the_whole_group_even_when_it_ignores_being_asked() {
    let mut source = shell("trap '' TERM; (trap '' TERM; echo $BASHPID; sh -c 'echo $$; exec sleep 100') & sleep 100");
    let mut text = [0; 2];
    source.read_exact(&mut text).expect("a number");
    thread::sleep(Duration::from_millis(200));
    let mut more = [0; 64];
    let count = source.read(&mut more).expect("more");
    let all = [&text[..], &more[..count]].concat();
    let number = String::from_utf8(all).expect("digits").lines().last().expect("a line").to_owned();
    assert!(runs(&number), "{number}");
    drop(source);
    assert!(eventually(|| !runs(&number)));
}

#[test]
fn a_command_that_ends_when_asked_may_clean_up() {
    let scratch = tempfile::tempdir().expect("a directory");
    let mark = scratch.path().join("cleaned");
    let script = format!("trap 'touch {}; exit 0' TERM; echo ready; while :; do sleep 0.05; done", mark.display());
    let mut source = shell(&script);
    source.read_exact(&mut [0; 6]).expect("ready");
    source.abort();
    assert!(mark.exists());
}

#[test]
fn another_thread_can_end_a_command_whose_reader_waits() {
    let mut source = shell("echo x; exec sleep 100");
    let stopper = source.stopper();
    let stopping = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        stopper.terminate();
    });
    assert_eq!(read(&mut source), "x\n");
    assert!(matches!(source.finish(), Err(SourceError::Killed { signal: 15, .. })));
    stopping.join().expect("no panic");
}

#[test]
fn what_a_command_leaves_in_the_background_does_not_hold_us_up() {
    let begun = Instant::now();
    let mut source = shell("echo data; sleep 20 >/dev/null & echo $! >&2");
    read(&mut source);
    source.finish().expect("complete");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_command_survives_the_thread_that_started_it() {
    let mut source = thread::spawn(|| shell("sleep 0.3; echo data")).join().expect("no panic");
    assert_eq!(read(&mut source), "data\n");
    source.finish().expect("complete");
}
