//! What goes wrong between a store and its provider: each fault ends in success or in the right error, in bounded time,
//! and never in an object that is not what was sent.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffre::model::key::ObjectKey;
use coffre::progress::{Collected, Counter};
use coffre::store::layer::retry::RetryOptions;
use coffre::store::location::Location;
use coffre::store::s3::credentials::S3Credentials;
use coffre::store::s3::{S3Options, Timeouts};
use coffre::store::transfer::Transfer;
use coffre::store::{OpenOptions, Store, StoreErrorKind};

use crate::support::proxy::{Proxy, Wire, answer, s3_error};
use crate::support::s3_server::{BUCKET, OWNER, S3Server};

/// A store behind a proxy, with waits short enough for tests.
struct Bench {
    store: Arc<dyn Store>,
    proxy: Proxy,
    monitor: Arc<Collected>,
    location: Location,
    options: OpenOptions,
    _server: S3Server,
}

const BODY: &[u8] = &[7; 100_000];

fn key() -> ObjectKey {
    ObjectKey::from_listed("packs/00/a")
}

impl Bench {
    async fn start() -> Self {
        Self::with_silence(RetryOptions::default().silence).await
    }

    /// Tells of a store that gives no sign of life for that long.
    async fn with_silence(silence: Duration) -> Self {
        let server = S3Server::start().await;
        let proxy = Proxy::start(server.address).await;
        let monitor = Arc::new(Collected::default());
        let location: Location = format!("s3+http://{}/{BUCKET}/p", proxy.address).parse().expect("a location");
        let credentials = S3Credentials {
            access_key_id: OWNER.0.to_owned(),
            secret_access_key: OWNER.1.to_owned().into(),
            session_token: None,
        };
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            answer: Duration::from_millis(700),
            stall: Duration::from_millis(700),
            bytes_per_second_min: 1 << 20,
        };
        let retry = RetryOptions {
            first_delay: Duration::from_millis(5),
            delay_max: Duration::from_millis(20),
            give_up_after: Duration::from_secs(5),
            silence,
            ..RetryOptions::default()
        };
        let options = OpenOptions {
            retry,
            s3: S3Options { credentials: Some(credentials), timeouts, ..S3Options::default() },
            ..OpenOptions::default()
        };
        let store = coffre::store::open(&location, &options, monitor.clone()).expect("opened");
        Self { store, proxy, monitor, location, options, _server: server }
    }

    async fn put(&self) {
        self.store.put(&key(), Bytes::from_static(BODY)).await.expect("stored");
        assert_eq!(self.store.get(&key()).await.expect("read"), BODY);
        assert_eq!(self.store.list("").await.expect("listed").len(), 1);
    }

    fn retries(&self) -> u64 {
        self.monitor.counters.get(Counter::Retries)
    }

    fn count(&self, method: &str) -> usize {
        self.proxy.log().iter().filter(|logged| *logged == method).count()
    }
}

/// What Hetzner's load balancer answers.
fn html_429(headers: &[&str]) -> Wire {
    let mut all = vec!["Content-Type: text/html"];
    all.extend(headers);
    answer("429 Too Many Requests", &all, "<html><body><h1>429 Too Many Requests</h1></body></html>")
}

#[tokio::test]
async fn a_page_of_429_is_throttling_and_its_retry_after_is_kept() {
    let bench = Bench::start().await;
    bench.proxy.plan("PUT", html_429(&["Retry-After: 1"]));
    bench.proxy.plan("PUT", html_429(&[]));
    let started = Instant::now();
    bench.put().await;
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!((bench.retries(), bench.count("PUT")), (2, 3));
    assert_eq!(bench.count("HEAD"), 0, "what was refused needs no looking for");
}

#[tokio::test]
async fn every_operation_survives_throttling_and_server_errors() {
    let bench = Bench::start().await;
    bench.put().await;
    for method in ["GET", "HEAD", "DELETE", "PUT"] {
        bench.proxy.plan(method, s3_error("503 Service Unavailable", "SlowDown"));
        bench.proxy.plan(method, html_429(&[]));
        bench.proxy.plan(method, answer("502 Bad Gateway", &["Content-Type: text/html"], "<html></html>"));
        bench.proxy.plan(method, answer("500 Internal Server Error", &[], ""));
        bench.proxy.plan(method, Wire::Reset);
    }
    bench.store.head(&key()).await.expect("there");
    bench.store.list("").await.expect("listed");
    bench.store.delete(&key()).await.expect("deleted");
    bench.put().await;
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_found_and_not_sent_again() {
    let bench = Bench::start().await;
    bench.proxy.plan("PUT", Wire::LoseAnswer);
    bench.put().await;
    assert_eq!((bench.count("PUT"), bench.count("HEAD"), bench.retries()), (1, 1, 0));
}

#[tokio::test]
async fn a_put_that_never_arrived_is_looked_for_and_sent_again() {
    for fault in [Wire::Reset, s3_error("500 Internal Server Error", "InternalError")] {
        let bench = Bench::start().await;
        bench.proxy.plan("PUT", fault);
        bench.put().await;
        assert_eq!((bench.count("PUT"), bench.count("HEAD"), bench.retries()), (2, 1, 1));
    }
}

#[tokio::test]
async fn an_older_lease_of_equal_size_is_not_taken_for_the_new_one() {
    let bench = Bench::start().await;
    let lease = ObjectKey::from_listed("sessions/a");
    bench.store.put(&lease, "expires at 10".into()).await.expect("stored");
    bench.proxy.plan("PUT", Wire::Reset);
    bench.store.put(&lease, "expires at 20".into()).await.expect("stored");
    assert_eq!(bench.store.get(&lease).await.expect("read"), "expires at 20");
}

#[tokio::test]
async fn a_put_that_is_never_answered_is_given_up_in_time() {
    let bench = Bench::start().await;
    bench.proxy.plan("PUT", Wire::Stall);
    let started = Instant::now();
    bench.put().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((bench.count("PUT"), bench.count("HEAD")), (2, 1));
}

#[tokio::test]
async fn success_with_an_error_inside_is_no_success() {
    let bench = Bench::start().await;
    bench.proxy.plan("PUT", s3_error("200 OK", "InternalError"));
    bench.put().await;
    assert_eq!((bench.count("PUT"), bench.count("HEAD"), bench.retries()), (2, 1, 1));
    bench.proxy.plan("GET", s3_error("200 OK", "InternalError"));
    assert_eq!(bench.store.get(&key()).await.expect("read"), BODY);
    bench.proxy.plan("GET", s3_error("200 OK", "InternalError"));
    assert_eq!(bench.store.list("").await.expect("listed").len(), 1);
    bench.proxy.plan("GET", s3_error("200 OK", "InternalError"));
    assert_eq!(bench.store.get_range(&key(), 5..10).await.expect("read"), BODY[5..10]);
    assert_eq!(bench.retries(), 4);
}

#[tokio::test]
async fn a_body_cut_short_is_asked_for_again() {
    let bench = Bench::start().await;
    bench.put().await;
    for cut in [0, 1, 99_999] {
        bench.proxy.plan("GET", Wire::CutBody(cut));
        assert_eq!(bench.store.get(&key()).await.expect("read"), BODY);
    }
    bench.proxy.plan("GET", Wire::CutBody(10));
    assert_eq!(bench.store.get_range(&key(), 50..90_000).await.expect("read"), BODY[50..90_000]);
    assert_eq!(bench.retries(), 4);
}

#[tokio::test]
async fn a_body_that_always_breaks_off_is_the_way_and_not_the_object() {
    let bench = Bench::start().await;
    bench.put().await;
    let faults = 400;
    for _ in 0..faults {
        bench.proxy.plan("GET", Wire::CutBody(1000));
    }
    let error = bench.store.get(&key()).await.expect_err("always short");
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.message.starts_with("the answer broke off after 1000 of 100000 bytes; gave up after"), "{error}");
    bench.proxy.forget_plan();
}

#[tokio::test]
async fn an_object_that_is_short_twice_is_short() {
    let bench = Bench::start().await;
    bench.store.put(&key(), Bytes::from_static(b"0123456789")).await.expect("stored");
    let error = bench.store.get_range(&key(), 5..20).await.expect_err("there are ten bytes");
    assert_eq!((error.kind, bench.retries()), (StoreErrorKind::Truncated, 1));
    let error = bench.store.get_range(&key(), 15..20).await.expect_err("there are ten bytes");
    assert_eq!((error.kind, bench.retries()), (StoreErrorKind::Truncated, 2));
}

#[tokio::test]
async fn an_answer_of_another_length_or_range_is_not_believed() {
    let bench = Bench::start().await;
    bench.put().await;
    let partial = |range: &str, body: &str| {
        answer("206 Partial Content", &["ETag: \"x\"", &format!("Content-Range: bytes {range}")], body)
    };
    bench.proxy.plan("GET", partial("10-19/100000", "short"));
    bench.proxy.plan("GET", partial("10-29/100000", "longer than was asked"));
    bench.proxy.plan("GET", partial("20-29/100000", "0123456789"));
    bench.proxy.plan("GET", answer("200 OK", &["ETag: \"x\""], "0123456789"));
    assert_eq!(bench.store.get_range(&key(), 10..20).await.expect("read"), BODY[10..20]);
    assert_eq!(bench.retries(), 4);
}

#[tokio::test]
async fn a_body_that_trickles_is_waited_for_and_one_that_stalls_is_not() {
    let bench = Bench::start().await;
    bench.put().await;
    bench.proxy.plan("GET", Wire::Slow(2_000, Duration::from_millis(30)));
    assert_eq!(bench.store.get(&key()).await.expect("slow"), BODY);
    assert_eq!(bench.retries(), 0, "it took longer than any time-out, and moved");
    bench.proxy.plan("GET", Wire::Slow(90_000, Duration::from_secs(3600)));
    assert_eq!(bench.store.get(&key()).await.expect("read"), BODY);
    assert_eq!(bench.retries(), 1);
}

/// A line that takes an object in small pieces for longer than any time-out.
#[tokio::test]
async fn a_slow_line_stores_what_it_is_given() {
    let bench = Bench::start().await;
    let body = Bytes::from(vec![5; 12 << 20]);
    bench.proxy.plan("PUT", Wire::SlowSending(600_000, Duration::from_millis(100)));
    bench.store.put(&key(), body.clone()).await.expect("stored");
    assert_eq!((bench.count("PUT"), bench.retries()), (1, 0), "at the first try, in two seconds");
    assert_eq!(bench.store.get(&key()).await.expect("there"), body);
}

/// A transfer, and the steps that it was told of.
fn told_transfer() -> (Transfer, Arc<Mutex<Vec<u64>>>) {
    let steps = Arc::<Mutex<Vec<u64>>>::default();
    let told = steps.clone();
    (Transfer::new(move |bytes| told.lock().expect("no panic while held").push(bytes)), steps)
}

fn sum(steps: &Mutex<Vec<u64>>) -> (u64, bool) {
    let steps = steps.lock().expect("no panic while held");
    (steps.iter().sum(), steps.len() > 1)
}

#[tokio::test]
async fn bodies_are_told_while_they_move_and_what_is_sent_again_counts_once() {
    let bench = Bench::start().await;
    let body = Bytes::from(vec![5; 1 << 20]);
    for wire in [Wire::Reset, Wire::LoseAnswer, s3_error("503 Service Unavailable", "SlowDown")] {
        bench.proxy.plan("PUT", wire);
        let (transfer, steps) = told_transfer();
        bench.store.put_telling(&key(), body.clone(), &transfer).await.expect("stored");
        assert_eq!(sum(&steps), (1 << 20, true));
    }
    bench.proxy.plan("GET", Wire::CutBody(700_000));
    let (transfer, steps) = told_transfer();
    assert_eq!(bench.store.get_telling(&key(), &transfer).await.expect("there"), body);
    assert_eq!(sum(&steps), (1 << 20, true));
}

#[tokio::test]
async fn a_directory_tells_what_it_has_written_and_read() {
    let directory = tempfile::tempdir().expect("made");
    let location = Location::Directory(directory.path().to_path_buf());
    let monitor = Arc::new(Collected::default());
    let store = coffre::store::open(&location, &OpenOptions::default(), monitor).expect("opened");
    let body = Bytes::from(vec![5; 10 << 20]);
    let ((writing, written), (reading, read)) = (told_transfer(), told_transfer());
    store.put_telling(&key(), body.clone(), &writing).await.expect("stored");
    assert_eq!(store.get_telling(&key(), &reading).await.expect("there"), body);
    assert_eq!((sum(&written), sum(&read)), ((10 << 20, true), (10 << 20, true)));
}

/// Nobody can be faster than a limit, however fast the machine is.
#[tokio::test]
async fn a_limit_is_kept_within_bodies_and_every_part_is_told() {
    const BYTES: u64 = 1 << 20;
    let directory = tempfile::tempdir().expect("made");
    let bench = Bench::start().await;
    let limited = |location: &Location, options: OpenOptions| {
        let (upload_bytes_per_second, download_bytes_per_second) = (Some(BYTES / 2), Some(BYTES / 2));
        let options = OpenOptions { upload_bytes_per_second, download_bytes_per_second, ..options };
        coffre::store::open(location, &options, Arc::new(Collected::default())).expect("opened")
    };
    let local = Location::Directory(directory.path().to_path_buf());
    let s3 = S3Options { timeouts: Timeouts::default(), ..bench.options.s3.clone() };
    let bucket = OpenOptions { s3, ..OpenOptions::default() };
    let stores = [limited(&local, OpenOptions::default()), limited(&bench.location, bucket)];
    let moved = stores.map(async |store| {
        let body = Bytes::from(vec![5; BYTES as usize]);
        let ((writing, written), (reading, read), (ranging, range)) =
            (told_transfer(), told_transfer(), told_transfer());
        let begun = Instant::now();
        store.put_telling(&key(), body.clone(), &writing).await.expect("stored");
        assert!(begun.elapsed() >= Duration::from_millis(900), "half of it was saved up: {:?}", begun.elapsed());
        assert_eq!(store.get_telling(&key(), &reading).await.expect("there"), body);
        let got = store.get_range_telling(&key(), 1..BYTES, &ranging).await.expect("there");
        assert_eq!(got, body.slice(1..));
        assert!(begun.elapsed() >= Duration::from_millis(3900), "{:?}", begun.elapsed());
        for (steps, bytes) in [(written, BYTES), (read, BYTES), (range, BYTES - 1)] {
            let steps = steps.lock().expect("no panic while held");
            assert_eq!(steps.iter().sum::<u64>(), bytes);
            assert!(steps.iter().all(|step| *step <= BYTES / 8), "{steps:?}");
        }
    });
    futures::future::join_all(moved).await;
}

/// In the middle of a transfer as well: what was taken is not answered, what is asked for ends in the middle.
#[tokio::test]
async fn a_store_that_falls_silent_is_told_and_so_is_that_it_is_over() {
    let told = [Some("nothing moves".to_owned()), None];
    for (method, wire) in [("PUT", Wire::Stall), ("GET", Wire::Slow(90_000, Duration::from_secs(3600)))] {
        let bench = Bench::with_silence(Duration::from_millis(100)).await;
        bench.put().await;
        bench.proxy.plan(method, wire);
        // A machine with much to do may have been silent for as long before.
        let before = bench.monitor.waits().len();
        match method {
            "PUT" => bench.store.put(&key(), Bytes::from_static(BODY)).await.expect("stored"),
            _ => assert_eq!(bench.store.get(&key()).await.expect("there"), BODY),
        }
        assert_eq!(bench.monitor.waits()[before..][..2], told, "{method}");
    }
}

#[tokio::test]
async fn clocks_that_differ_once_are_tried_again_and_then_told() {
    let bench = Bench::start().await;
    bench.proxy.plan("PUT", s3_error("403 Forbidden", "RequestTimeTooSkewed"));
    bench.put().await;
    assert_eq!(bench.retries(), 1);
    for _ in 0..2 {
        bench.proxy.plan("GET", s3_error("403 Forbidden", "RequestTimeTooSkewed"));
    }
    let error = bench.store.get(&key()).await.expect_err("they do");
    assert_eq!(error.kind, StoreErrorKind::Skewed);
    assert!(error.message.contains("the clock of this machine differs"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_mended_fails_at_once_and_says_why() {
    let bench = Bench::start().await;
    for (wire, kind, message) in [
        (
            s3_error("403 Forbidden", "AccessDenied"),
            StoreErrorKind::Denied,
            "access denied: planned (HTTP 403 AccessDenied)",
        ),
        (s3_error("403 Forbidden", "QuotaExceeded"), StoreErrorKind::Full, "a quota is used up"),
        (
            s3_error("301 Moved Permanently", "PermanentRedirect"),
            StoreErrorKind::Other,
            "the bucket is in another region",
        ),
        (
            s3_error("400 Bad Request", "AuthorizationHeaderMalformed"),
            StoreErrorKind::Other,
            "the bucket is in another region",
        ),
        (s3_error("404 Not Found", "NoSuchBucket"), StoreErrorKind::NoSuchPlace, "the bucket does not exist"),
        (
            answer("403 Forbidden", &["Content-Type: text/html"], "<html>no</html>"),
            StoreErrorKind::Denied,
            "access denied",
        ),
        (s3_error("400 Bad Request", "InvalidArgument"), StoreErrorKind::Other, "the store refused: planned (HTTP 400"),
    ] {
        bench.proxy.plan("PUT", wire);
        let error = bench.store.put(&key(), Bytes::from_static(BODY)).await.expect_err(message);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().starts_with(&format!("put packs/00/a: {message}")), "{error}");
    }
    assert_eq!((bench.retries(), bench.count("HEAD")), (0, 0));
}

#[tokio::test]
async fn a_list_that_goes_in_circles_ends() {
    let page = |kind: &str, object: &str, next: &str| {
        answer(
            "200 OK",
            &["Content-Type: application/xml"],
            &format!(
                "<{kind}><Name>{BUCKET}</Name><IsTruncated>true</IsTruncated>{next}\
                 <{object}><Key>p/a</Key><Size>1</Size></{object}></{kind}>"
            ),
        )
    };
    for (kind, object, next) in [
        ("ListVersionsResult", "Version", "<NextKeyMarker>t</NextKeyMarker>"),
        ("ListBucketResult", "Contents", "<NextContinuationToken>t</NextContinuationToken>"),
    ] {
        let bench = Bench::start().await;
        if kind == "ListBucketResult" {
            // The server knows no versions, so that names are listed from then on.
            bench.store.list("").await.expect("listed");
        }
        for next in ["", next, next] {
            bench.proxy.plan("GET", page(kind, object, next));
        }
        assert_eq!(bench.store.list("").await.expect("listed in the end"), []);
        assert_eq!(bench.retries(), 2, "{kind}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_reported_soon_with_the_cause() {
    let bench = Bench::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let location: Location = format!("s3+http://127.0.0.1:{port}/{BUCKET}/p").parse().expect("a location");
    let credentials = S3Credentials {
        access_key_id: OWNER.0.to_owned(),
        secret_access_key: OWNER.1.to_owned().into(),
        session_token: None,
    };
    let retry = RetryOptions { give_up_after: Duration::from_secs(1), ..RetryOptions::default() };
    let options = OpenOptions {
        retry,
        s3: S3Options { credentials: Some(credentials), ..S3Options::default() },
        ..OpenOptions::default()
    };
    let store = coffre::store::open(&location, &options, bench.monitor.clone()).expect("opened");
    let started = Instant::now();
    let error = store.list("snapshots/").await.expect_err("nobody listens");
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.message.starts_with("the connection to the store failed; gave up after"), "{error}");
    assert!(error.source.expect("a cause").to_string().contains("refused"));
    assert!(started.elapsed() < Duration::from_secs(3));
}
