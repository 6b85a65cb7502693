//! Sources of a caller's own: a reader, and a whole source with members, beside files or alone.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coffre::model::entry::{EntryKind, StreamDetail};
use coffre::model::facts::Fact;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::backup::{BackupError, BackupOptions};
use coffre::ops::dump::dump;
use coffre::ops::{Cancel, open_reader};
use coffre::progress::Collected;
use coffre::source::given::Given;
use coffre::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};

use crate::support::{Bench, Failure, open, options, random_bytes, read_back, run_backup};

/// The newest snapshot.
async fn newest(bench: &Bench) -> Snapshot {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let (_, snapshot) = repository.snapshots().await.expect("listed").pop().expect("one");
    snapshot.expect("whole")
}

/// Restores one stream of the newest snapshot, as a program would.
async fn restored(bench: &Bench, path: &str) -> Vec<u8> {
    let snapshot = newest(bench).await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let monitor = Arc::new(Collected::default());
    let reader = open_reader(repository, 256 << 20, monitor.clone()).await.expect("a reader");
    let file = tempfile::NamedTempFile::new().expect("made");
    let (path, output) = (EntryPath::new(path).expect("safe"), file.reopen().expect("opened"));
    dump(reader, &snapshot, Some(path), Box::new(output), monitor, Cancel::default()).await.expect("dumped");
    std::fs::read(file.path()).expect("readable")
}

fn only(source: impl Source + 'static) -> BackupOptions {
    let mut options = BackupOptions::default();
    options.sources = vec![Arc::new(source)];
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_a_caller_reads_come_back() {
    let bench = Bench::new().await;
    let bytes = random_bytes(7, 3_000_000);
    let mut both = options(bench.source.path());
    both.sources = vec![
        Arc::new(Given::reader("export/once.bin", Cursor::new(bytes.clone()))),
        Arc::new(Given::opener("export/often.txt", || Ok(Cursor::new("some text").chain(Cursor::new(", and more"))))),
    ];
    let report = run_backup(bench.store(), bench.cache.path(), both).await.expect("backed up");
    let snapshot = report.snapshot.expect("made");
    assert_eq!(snapshot.counts.streams, 2);
    assert!(snapshot.sources.contains(&b"export/once.bin".to_vec()));
    assert!(restored(&bench, "export/once.bin").await == bytes);
    assert_eq!(restored(&bench, "export/often.txt").await, b"some text, and more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_breaks_or_is_empty_makes_no_snapshot() {
    struct Breaking(Cursor<Vec<u8>>);
    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("the cable was pulled")),
                count => Ok(count),
            }
        }
    }
    let bench = Bench::new().await;
    let breaking = Given::reader("a", Breaking(Cursor::new(random_bytes(1, 100_000))));
    let gone = Given::opener("a", || Err::<std::io::Empty, _>(std::io::Error::other("nobody is there")));
    for source in [breaking, gone, Given::reader("a", std::io::empty())] {
        let error = run_backup(bench.store(), bench.cache.path(), only(source)).await.expect_err("refused");
        assert!(matches!(error, Failure::Backup(BackupError::Stream { .. })), "{error:?}");
    }
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    assert_eq!(repository.snapshot_ids().await.expect("listed"), []);
}

/// A fact that only this source keeps.
const LENGTH: Fact<u64> = Fact::new("queue_length");

/// A queue of messages: a member for each topic, of as many streams as it has parts.
#[derive(Debug)]
struct Queue {
    topics: Vec<(&'static str, Vec<&'static str>)>,
    opened: Arc<AtomicUsize>,
}

struct Part {
    text: &'static str,
    opened: Arc<AtomicUsize>,
}

impl Source for Queue {
    fn name(&self) -> Vec<u8> {
        b"queue://mail".to_vec()
    }

    fn plan(&self, _: &Planning) -> Result<Vec<Member>, SourceError> {
        let member = |(topic, parts): &(&str, Vec<&'static str>)| {
            let stream = |(at, text): (usize, &&'static str)| PlannedStream {
                name: format!("queue/{topic}/{at}").into_bytes(),
                opener: Arc::new(Part { text, opened: self.opened.clone() }),
            };
            let streams = match parts.is_empty() {
                true => Err(SourceError::Empty { name: (*topic).to_owned(), stderr: Vec::new() }),
                false => Ok(parts.iter().enumerate().map(stream).collect()),
            };
            Member { label: (*topic).to_owned(), streams, notes: Vec::new() }
        };
        Ok(self.topics.iter().map(member).collect())
    }
}

impl OpenStream for Part {
    fn open(&self, _: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Text(Cursor::new(self.text))))
    }
}

struct Text(Cursor<&'static str>);

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl StreamSource for Text {
    fn wait_readable(&self, _: &Cancel, _: Option<Duration>) -> std::io::Result<bool> {
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        let mut detail = StreamDetail::default();
        detail.facts.set(LENGTH, 3);
        Ok(detail)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_a_program_has_members_like_a_database() {
    let bench = Bench::new().await;
    let opened = Arc::new(AtomicUsize::new(0));
    let queue = |topics: &[(&'static str, &[&'static str])]| {
        let topics = topics.iter().map(|(topic, parts)| (*topic, parts.to_vec())).collect();
        only(Queue { topics, opened: opened.clone() })
    };
    let whole = queue(&[("orders", &["one", "two"]), ("mails", &["three"])]);
    let report = run_backup(bench.store(), bench.cache.path(), whole).await.expect("backed up");
    let snapshot = report.snapshot.expect("made");
    assert_eq!((snapshot.sources, opened.load(Ordering::Relaxed)), (vec![b"queue://mail".to_vec()], 3));
    assert_eq!(restored(&bench, "queue/orders/1").await, b"two");
    let entries = read_back(bench.store(), bench.cache.path(), &newest(&bench).await).await;
    let kept = entries.expect("readable").into_iter().find_map(|(entry, _)| match entry.kind {
        EntryKind::Stream(_, detail) => detail.facts.get(LENGTH),
        _ => None,
    });
    assert_eq!(kept, Some(3));

    // A member that has nothing ends the run, or is left out when that is asked for.
    let partly = || queue(&[("orders", &["one"]), ("mails", &[])]);
    let error = run_backup(bench.store(), bench.cache.path(), partly()).await.expect_err("refused");
    assert!(matches!(error, Failure::Backup(BackupError::Stream { ref name, .. }) if name == "mails"), "{error:?}");
    let mut kept = partly();
    kept.stream_options.keep_partial = true;
    let report = run_backup(bench.store(), bench.cache.path(), kept).await.expect("backed up");
    assert_eq!(report.missing.len(), 1);
    assert_eq!(restored(&bench, "queue/orders/0").await, b"one");
}
