//! Waits in the store as people meet them: what is said, what ends them, and the way through a proxy.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coffre::cancel::Cancel;
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::layer::record::RecordStore;
use coffre::store::layer::retry::{RetryOptions, RetryStore};
use coffre::store::{Store, StoreErrorKind};

use crate::support::desk::{Desk, Run};
use crate::support::proxy::{Proxy, Wire};
use crate::support::s3_server::{BUCKET, OWNER, S3Server};
use crate::support::{Bench, open};

/// A desk whose repository is in a bucket behind a proxy.
struct Remote {
    desk: Desk,
    proxy: Proxy,
    _server: S3Server,
}

impl Remote {
    async fn start() -> Self {
        let server = S3Server::start().await;
        let proxy = Proxy::start(server.address).await;
        let remote = Self { desk: Desk::new(), proxy, _server: server };
        std::fs::create_dir(remote.desk.at("source")).expect("made");
        std::fs::write(remote.desk.at("source/file"), "some text\n".repeat(5_000)).expect("written");
        for arguments in [&["init", "--recovery-kit", "kit"][..], &["backup", "source"]] {
            let run = remote.run(arguments).await;
            assert_eq!(run.code, 0, "{run:?}");
        }
        remote
    }

    fn location(&self) -> String {
        format!("s3+http://{}/{BUCKET}/p", self.proxy.address)
    }

    fn command(&self, location: &str, arguments: &[&str]) -> Command {
        let mut command = self.desk.command(arguments);
        command.env("COFFRE_REPO", location);
        command.env("AWS_ACCESS_KEY_ID", OWNER.0).env("AWS_SECRET_ACCESS_KEY", OWNER.1);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        ended(self.command(&self.location(), arguments)).await
    }

    /// Waits until a request arrives that was not there before.
    async fn next_request(&self, before: usize) {
        while self.proxy.log().len() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn ended(mut command: Command) -> Run {
    tokio::task::spawn_blocking(move || command.output().expect("runs").into()).await.expect("no panic")
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
}

/// Each verb that ends cleanly is told to while nothing is answered, before the first answer and in the middle. If it did
/// not hear, it would wait for ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_heard_while_the_store_does_not_answer() {
    for (part, wire) in [("", Wire::Stall), ("", Wire::Reset), ("/packs/", Wire::Stall), ("/packs/", Wire::Reset)] {
        let remote = Remote::start().await;
        remote.proxy.always("", part, wire.clone());
        let file = format!("latest:{}/file", remote.desk.at("source").display());
        for arguments in [
            &["backup", "source", "--force"][..],
            &["restore", "latest", "--target", "target"],
            &["dump", &file],
            &["verify", "--read-data"],
        ] {
            std::fs::write(remote.desk.at("source/file"), format!("{arguments:?}{part}")).expect("written");
            let before = remote.proxy.log().len();
            let mut command = remote.command(&remote.location(), arguments);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
            remote.next_request(before).await;
            // Wherever it is by now, it does not get past the fault.
            tokio::time::sleep(Duration::from_millis(500)).await;
            terminate(&child);
            let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("no panic");
            let run = Run::from(output.expect("waited for"));
            assert_eq!(run.code, 130, "{arguments:?} {part} {wire:?}: {run:?}");
            assert!(run.err.contains("error: interrupted"), "{arguments:?} {part} {wire:?}: {run:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_waited_for_is_said_and_the_deadline_is_the_one_asked_for() {
    let remote = Remote::start().await;
    remote.proxy.always("", "", Wire::Reset);
    for arguments in [&["snapshots"][..], &["backup", "source"], &["verify"]] {
        let run = remote.run(&[&["--give-up-after", "2s"], arguments].concat()).await;
        assert_eq!(run.code, 7, "{run:?}");
        assert!(run.err.starts_with("waiting for the store: the connection to the store failed: "), "{run:?}");
        assert_eq!(run.err.matches("waiting for the store").count(), 1, "not at every try: {run:?}");
        assert!(run.err.contains("cannot be reached\n") && run.err.contains("; gave up after "), "{run:?}");
    }
    let run = remote.run(&["--give-up-after", "soon", "snapshots"]).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("write for example 30s, 10min or 2h"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_used_but_for_hosts_that_need_none() {
    let remote = Remote::start().await;
    // Only the proxy knows where that is.
    let hidden = format!("s3+http://store.invalid/{BUCKET}/p");
    let proxy = format!("http://{}", remote.proxy.address);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let mut command = remote.command(&hidden, &["snapshots"]);
        command.env(variable, &proxy);
        let run = ended(command).await;
        assert!(run.code == 0 && run.out.ends_with("\n1 snapshot; times in UTC\n"), "{variable}: {run:?}");
    }
    let mut command = remote.command(&hidden, &["--give-up-after", "0s", "snapshots"]);
    command.env("HTTP_PROXY", &proxy).env("NO_PROXY", ".invalid");
    let run = ended(command).await;
    assert_eq!(run.code, 7, "{run:?}");
}

/// Time is paused, so the minutes are not real ones.
#[tokio::test(start_paused = true)]
async fn the_lease_of_a_run_is_no_reason_to_wait_at_its_end() {
    let bench = Bench::new().await;
    let faulty = FaultStore::new(bench.store());
    let (options, monitor) = (RetryOptions::default(), Arc::new(Collected::default()));
    let retry = RetryStore::new(Arc::new(faulty.clone()), options, monitor, Cancel::default());
    let cache = tempfile::tempdir().expect("made");
    let repository = open(Arc::new(retry), cache.path()).await.expect("opens");
    let session =
        repository.writing().expect("may be written").begin_session(coffre::repository::MAIN_DOMAIN).expect("started");
    let lease = coffre::format::lease::Lease::default();
    let clock = Clock::Fixed(Timestamp::from_seconds(1_800_000_000));
    let held = coffre::repository::lease::HeldLease::take(session, lease, clock).await;
    faulty.plan(Fault::on(Operation::Delete).always().fail_before(StoreErrorKind::Unavailable));
    let ending = tokio::time::Instant::now();
    held.expect("taken").release().await;
    assert!(ending.elapsed() <= Duration::from_secs(10), "{:?}", ending.elapsed());
}

/// A part of the data is out of reach: the next run begins with it, since nothing counts as read.
#[tokio::test(flavor = "multi_thread")]
async fn what_verifying_could_not_read_is_what_it_reads_next() {
    let bench = Bench::new().await;
    bench.snapshot().await;
    let read = async |store: Arc<dyn Store>| {
        let repository = open(store, bench.cache.path()).await.expect("opens");
        let options =
            VerifyOptions { read_data: ReadData::Bytes(1), memory_bytes: 256 << 20, ..VerifyOptions::default() };
        verify(repository, options, Arc::new(Collected::default()), coffre::ops::Cancel::default()).await
    };
    let packs = |record: &RecordStore| -> Vec<String> {
        let calls = record.take();
        let gets =
            calls.into_iter().filter(|call| call.operation == Operation::Get && call.subject.starts_with("packs/"));
        gets.map(|call| call.subject).collect()
    };
    let record = RecordStore::new(bench.store());
    let faulty = FaultStore::new(Arc::new(record.clone()));
    for kind in [StoreErrorKind::Denied, StoreErrorKind::Unavailable] {
        faulty.plan(Fault::on(Operation::Get).matching("packs/").fail_before(kind));
        read(Arc::new(faulty.clone())).await.expect_err("out of reach");
        faulty.forget_plan();
    }
    record.take();
    let report = read(Arc::new(faulty.clone())).await.expect("read");
    assert_eq!((report.packs_read, report.findings.len()), (1, 0));
    let [first] = &packs(&record)[..] else { panic!("one pack is read") };
    let smallest = bench.store().list("packs/").await.expect("listed").remove(0).key;
    assert_eq!(*first, smallest.to_string(), "the first one, which could not be read before");
}
