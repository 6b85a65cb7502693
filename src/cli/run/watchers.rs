//! Those who are told how runs and jobs go: a service that expects to be pinged, a webhook, and people by mail.
//!
//! What they are told is a few lines: how it ended, and the last of what was told of it. None of them ends a run, changes how it ended, or
//! keeps it waiting for longer than a few tries of some seconds take. Their URLs are secrets, and shown by their hosts alone.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::cli::config::WrittenAt;
use crate::cli::environment::Environment;
use crate::cli::events;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::model::outcome::Outcome;
use crate::process::{CommandOptions, Piped, Process};
use crate::web::{self, SecretUrl, WebProxy};

/// How long one try may take, and the pauses between tries.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// What is told of a log at most: its last lines.
const LINES_MAX: usize = 40;
const LINE_CHARACTERS_MAX: usize = 300;
/// Where `sendmail` is, if it is not on the path.
const SENDMAIL: [&str; 2] = ["/usr/sbin", "/usr/lib"];

/// What somebody with a URL hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hears {
    /// Each beginning and each end, as healthchecks.io and its like expect it.
    Pings,
    /// What did not go well, as an object.
    Failures,
}

impl Hears {
    /// Says what the URL is for.
    pub fn meaning(self) -> &'static str {
        match self {
            Hears::Pings => {
                "URL that is told of each beginning (/start), of success, and of failure (/EXIT_CODE), with the last lines"
            }
            Hears::Failures => "URL that gets a JSON object when it did not go well",
        }
    }
}

/// Where a URL is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretAt {
    /// In the configuration.
    Here(SecretUrl),
    /// In the first line of a file.
    File(PathBuf),
}

impl SecretAt {
    /// Returns the URL.
    ///
    /// # Errors
    /// Why there is none, without what the file says.
    pub fn url(&self) -> Result<SecretUrl, String> {
        match self {
            SecretAt::Here(url) => Ok(url.clone()),
            SecretAt::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let line = text.lines().next().unwrap_or_default();
                SecretUrl::parse(line).map_err(|why| format!("{} holds no URL that can be used: {why}", path.display()))
            }
        }
    }

    /// Shows where it is, and of the URL no more than its host.
    pub fn shown(&self) -> String {
        match self {
            SecretAt::Here(url) => url.to_string(),
            SecretAt::File(path) => path.display().to_string(),
        }
    }
}

/// Somebody with a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchUrl {
    /// What they hear.
    pub hears: Hears,
    /// The URL.
    pub at: SecretAt,
    /// The key that says so.
    pub key: String,
    /// And where.
    pub written: WrittenAt,
}

/// Who is told of a job, or of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watchers {
    /// Those with a URL, at most one of each kind.
    pub urls: Vec<WatchUrl>,
    /// Those with an address.
    pub mail_to: Vec<String>,
    /// Where they are named.
    pub mail_written: Option<WrittenAt>,
}

impl Watchers {
    /// Takes what another file says in place of what is known.
    pub fn replace(&mut self, other: Watchers) {
        for url in other.urls {
            self.urls.retain(|known| known.hears != url.hears);
            self.urls.push(url);
        }
        if other.mail_written.is_some() {
            (self.mail_to, self.mail_written) = (other.mail_to, other.mail_written);
        }
    }

    /// Tells whether somebody is told at all.
    pub fn is_anybody(&self) -> bool {
        !self.urls.is_empty() || !self.mail_to.is_empty()
    }

    /// Returns keys with what they say, without secrets, and where.
    pub fn rows(&self) -> impl Iterator<Item = (String, String, WrittenAt)> {
        let urls = self.urls.iter().map(|url| (url.key.clone(), url.at.shown(), url.written.clone()));
        let mail = self.mail_written.iter().map(|written| ("mail-to".into(), self.mail_to.join(", "), written.clone()));
        urls.chain(mail)
    }
}

/// How a job, or a run, ended, for those who were not there.
#[derive(Debug, Clone)]
pub struct EndWord {
    /// The id of the run.
    pub run: String,
    /// The job, where it is of one.
    pub job: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// In a line.
    pub summary: String,
    /// What was told of it.
    pub log: Vec<String>,
}

impl EndWord {
    /// Returns what is told of the log: its last lines, none of them endless.
    fn last_lines(&self) -> Vec<String> {
        let last = &self.log[self.log.len().saturating_sub(LINES_MAX)..];
        last.iter().map(|line| output::one_line(line).chars().take(LINE_CHARACTERS_MAX).collect()).collect()
    }

    fn text(&self) -> String {
        let summary = output::one_line(&self.summary).into_owned();
        [summary].into_iter().chain(self.last_lines()).collect::<Vec<_>>().join("\n") + "\n"
    }
}

/// Tells them.
pub struct Courier {
    host: String,
    proxy: Option<WebProxy>,
    path: Vec<PathBuf>,
    limit: Duration,
    pauses: Vec<Duration>,
}

impl Courier {
    /// Makes one for a host.
    pub fn of(host: String, environment: &Environment) -> Arc<Self> {
        let url =
            environment.either("HTTPS_PROXY", "https_proxy").or_else(|| environment.either("ALL_PROXY", "all_proxy"));
        let except = environment.either("NO_PROXY", "no_proxy").unwrap_or_default();
        let path = environment.var_os("PATH").iter().flat_map(std::env::split_paths).collect::<Vec<_>>();
        let path = path.into_iter().chain(SENDMAIL.map(PathBuf::from)).collect();
        let proxy = url.map(|url| WebProxy { url, except });
        Arc::new(Self { host, proxy, path, limit: LIMIT, pauses: PAUSES.into() })
    }

    /// Tells that something begins. Returns what could not be told.
    pub async fn begins(&self, watchers: &Watchers, run: &str) -> Vec<String> {
        let urls = watchers.urls.iter().filter(|url| url.hears == Hears::Pings);
        let told =
            urls.map(|it| self.post(it.hears, &it.at, |url| url.below(Some("start"), ("rid", run)), String::new()));
        join_all(told).await.into_iter().filter_map(Result::err).collect()
    }

    /// Tells how it ended. Returns what could not be told.
    pub async fn ended(&self, watchers: &Watchers, word: &EndWord) -> Vec<String> {
        let is_well = word.outcome == Outcome::Clean;
        let exit = (Exit::from(word.outcome) as u8).to_string();
        let urls = watchers.urls.iter().filter(|url| url.hears == Hears::Pings || !is_well);
        let told = urls.map(|WatchUrl { hears, at, .. }| {
            let segment = (!is_well).then_some(exit.as_str());
            let body = if *hears == Hears::Pings { word.text() } else { self.object(word) };
            self.post(
                *hears,
                at,
                move |url| match hears {
                    Hears::Pings => url.below(segment, ("rid", &word.run)),
                    Hears::Failures => url.clone(),
                },
                body,
            )
        });
        let (told, mailed) = tokio::join!(join_all(told), async {
            if is_well || watchers.mail_to.is_empty() { Ok(()) } else { self.mail(&watchers.mail_to, word).await }
        });
        told.into_iter().chain([mailed]).filter_map(Result::err).collect()
    }

    fn object(&self, word: &EndWord) -> String {
        output::object(&events::Failed {
            exit_code: Exit::from(word.outcome) as u8,
            host: &self.host,
            job: word.job.as_deref(),
            log: word.last_lines(),
            outcome: word.outcome.name(),
            run: &word.run,
            summary: &word.summary,
            text: format!("coffre on {}: {}", self.host, word.text()),
        })
    }

    /// Sends something to a URL, a few times if it must be.
    async fn post(
        &self,
        hears: Hears,
        at: &SecretAt,
        wanted: impl Fn(&SecretUrl) -> SecretUrl,
        body: String,
    ) -> Result<(), String> {
        let url = wanted(&at.url()?);
        let kind = match hears {
            Hears::Pings => "text/plain; charset=utf-8",
            Hears::Failures => "application/json",
        };
        let mut pauses = self.pauses.iter();
        loop {
            let sent = tokio::time::timeout(self.limit, web::post(&url, kind, body.clone(), self.proxy.as_ref())).await;
            let (why, may_be_over) = match sent {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => (error.to_string(), error.may_be_over()),
                Err(_) => (format!("it did not answer within {} s", self.limit.as_secs()), true),
            };
            match pauses.next().filter(|_| may_be_over) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(format!("{url} could not be told: {why}")),
            }
        }
    }

    /// Hands a mail to `sendmail`.
    async fn mail(&self, to: &[String], word: &EndWord) -> Result<(), String> {
        let Some(program) = self.sendmail() else {
            return Err("nobody could be told by mail: there is no sendmail".into());
        };
        let text = self.mail_text(to, word);
        let ending = Cancel::default();
        let handing = {
            let ending = ending.clone();
            blocking(move || hand_over(program.as_os_str(), &text, &ending))
        };
        tokio::pin!(handing);
        let ended = tokio::select! {
            ended = &mut handing => ended,
            () = tokio::time::sleep(self.limit) => {
                ending.cancel();
                handing.await
            }
        };
        match ended {
            Ok(Some(0)) => Ok(()),
            Ok(Some(status)) => Err(format!("nobody could be told by mail: sendmail ended with status {status}")),
            Ok(None) => {
                Err(format!("nobody could be told by mail: sendmail was not done within {} s", self.limit.as_secs()))
            }
            Err(error) => Err(format!("nobody could be told by mail: {error}")),
        }
    }

    fn sendmail(&self) -> Option<PathBuf> {
        self.path.iter().map(|directory| directory.join("sendmail")).find(|program| Path::is_file(program))
    }

    fn mail_text(&self, to: &[String], word: &EndWord) -> String {
        let about = word.job.as_ref().map_or_else(|| "run".to_owned(), |job| format!("job {job}"));
        let subject = format!("coffre on {}: {about}: {}", self.host, word.outcome.name());
        format!(
            "To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
             Content-Transfer-Encoding: 8bit\n\n{}\nrun {}\n",
            to.join(", "),
            header(&subject),
            word.text(),
            word.run
        )
    }
}

/// What is told of one run, beside what it does: nobody waits for it before the end of the run.
pub struct Deliveries {
    courier: Arc<Courier>,
    run: String,
    under_way: Mutex<Vec<JoinHandle<Vec<String>>>>,
    /// How many of these are not done.
    undelivered: watch::Sender<usize>,
    /// Those whose end was not told yet, by their jobs.
    open: Mutex<Vec<(Option<String>, Weak<EndToTell>)>>,
    /// Asked for when the run is cut off.
    cut_off: Cancel,
}

/// Takes the one word of how something ended.
#[derive(Debug)]
struct EndToTell(Mutex<Option<oneshot::Sender<EndWord>>>);

impl EndToTell {
    /// Tells it, unless that was done.
    fn tell(&self, word: impl FnOnce() -> EndWord) {
        let sender = self.0.lock().expect("no panic while held").take();
        if let Some(sender) = sender {
            let _ = sender.send(word());
        }
    }
}

/// Something that was told to begin, and whose end is to be told. Where it is dropped, nothing is.
#[must_use]
#[derive(Debug)]
pub struct ToldBeginning(Option<Arc<EndToTell>>);

impl ToldBeginning {
    /// Tells how it ended, unless it was cut off before.
    pub fn ends(self, word: impl FnOnce() -> EndWord) {
        if let Some(end) = self.0 {
            end.tell(word);
        }
    }
}

impl Deliveries {
    /// Makes those of a run.
    pub fn of(run: String, host: String, environment: &Environment) -> Self {
        Self::by(Courier::of(host, environment), run)
    }

    fn by(courier: Arc<Courier>, run: String) -> Self {
        let (under_way, open, cut_off) = (Mutex::default(), Mutex::default(), Cancel::default());
        Self { courier, run, under_way, undelivered: watch::Sender::new(0), open, cut_off }
    }

    /// Tells that a job or, without one, the run begins, and that it ended once that is known.
    pub fn begins(&self, job: Option<&str>, watchers: Watchers) -> ToldBeginning {
        if !watchers.is_anybody() {
            return ToldBeginning(None);
        }
        let (sender, receiver) = oneshot::channel();
        let (courier, run) = (self.courier.clone(), self.run.clone());
        let (undelivered, cut_off) = (self.undelivered.clone(), self.cut_off.clone());
        undelivered.send_modify(|count| *count += 1);
        let task = tokio::spawn(async move {
            // Where the run is cut off its end is told, whether or not they have heard of its beginning.
            let mut untold = cut_off.or(courier.begins(&watchers, &run)).await.unwrap_or_default();
            if let Ok(word) = receiver.await {
                untold.extend(courier.ended(&watchers, &word).await);
            }
            undelivered.send_modify(|count| *count -= 1);
            untold
        });
        self.under_way.lock().expect("no panic while held").push(task);
        let end = Arc::new(EndToTell(Mutex::new(Some(sender))));
        let mut open = self.open.lock().expect("no panic while held");
        open.retain(|(_, end)| end.strong_count() > 0);
        open.push((job.map(str::to_owned), Arc::downgrade(&end)));
        ToldBeginning(Some(end))
    }

    /// Tells of everything that did not end yet that it is cut off, by the words for the run and for each job.
    pub fn cut_off(&self, word: impl Fn(Option<&str>) -> EndWord) {
        self.cut_off.cancel();
        let open = std::mem::take(&mut *self.open.lock().expect("no panic while held"));
        for (job, end) in open {
            if let Some(end) = end.upgrade() {
                end.tell(|| word(job.as_deref()));
            }
        }
    }

    /// Waits until everything was told that can be, whoever else waits for that.
    pub async fn all_delivered(&self) {
        let delivered = self.undelivered.subscribe().wait_for(|count| *count == 0).await.map(|_| ());
        delivered.expect("the sender is in self");
    }

    /// Waits until everything is told that can be, and returns what cannot.
    pub async fn all_told(&self) -> Vec<String> {
        let tasks = std::mem::take(&mut *self.under_way.lock().expect("no panic while held"));
        let mut untold: Vec<String> = join_all(tasks).await.into_iter().flat_map(Result::unwrap_or_default).collect();
        // Whoever did not hear of the beginning heard nothing of the end either: that is said once.
        untold.sort();
        untold.dedup();
        untold
    }
}

/// Returns text for a line of a mail's head: as it is, or where it is not plain as encoded words (RFC 2047).
fn header(text: &str) -> String {
    if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for c in text.chars().take(200) {
        let mut coded = String::new();
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            match byte.is_ascii_alphanumeric() {
                true => coded.push(char::from(byte)),
                false => coded.push_str(&format!("={byte:02X}")),
            }
        }
        // A word has at most 75 characters, and no character is in two of them.
        if words.last().is_some_and(|word| word.len() + coded.len() > 60) {
            words.push(String::new());
        }
        words.last_mut().expect("there is one").push_str(&coded);
    }
    words.iter().map(|word| format!("=?utf-8?Q?{word}?=")).collect::<Vec<_>>().join("\n ")
}

/// Runs `sendmail` with a mail, and returns its status, or `None` if it took too long.
fn hand_over(program: &OsStr, text: &str, ending: &Cancel) -> std::io::Result<Option<i32>> {
    let mut options = CommandOptions::new(program, ["-t", "-oi"].map(OsString::from));
    options.pass_stderr = true;
    let (mut process, pipes) = Process::spawn(&options, Piped { input: true, output: false })?;
    // A pipe takes more than a mail has, so nobody waits here; one that does not read is seen by its status.
    if let Some(mut input) = pipes.input {
        let _ = input.write_all(text.as_bytes());
    }
    if !process.ends_unless(ending) {
        process.end();
        return Ok(None);
    }
    Ok(Some(process.wait()?.0.status()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn courier() -> Courier {
        let pauses = vec![Duration::from_millis(1); 2];
        Courier { host: "web1".into(), proxy: None, path: Vec::new(), limit: Duration::from_millis(300), pauses }
    }

    /// Answers with one status after the other, and not at all where it is 0. Returns its URL.
    fn server(statuses: &'static [u16]) -> (SecretUrl, std::sync::mpsc::Receiver<u16>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}/s3cret", listener.local_addr().expect("bound"));
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for (stream, &status) in listener.incoming().zip(statuses) {
                let mut reader = BufReader::new(stream.expect("came"));
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|length| length > 2) {}
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                // Whoever was answered counts at once.
                let _ = sender.send(status);
                match status {
                    0 => silent.push(reader),
                    _ => drop(reader.get_mut().write_all(answer.as_bytes())),
                }
            }
        });
        (SecretUrl::parse(&url).expect("a URL"), receiver)
    }

    #[tokio::test]
    async fn a_run_that_is_cut_off_is_told_of_although_nobody_answered_when_it_began() {
        let (url, heard) = server(&[0, 200]);
        let mut courier = courier();
        courier.limit = Duration::from_mins(1);
        let deliveries = Deliveries::by(Arc::new(courier), "r".into());
        let written = WrittenAt::nowhere();
        let urls = vec![WatchUrl { hears: Hears::Pings, at: SecretAt::Here(url), key: "k".into(), written }];
        let told = deliveries.begins(Some("nightly"), Watchers { urls, ..Watchers::default() });
        while heard.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let word = |job: Option<&str>, outcome| EndWord {
            run: "r".into(),
            job: job.map(str::to_owned),
            outcome,
            summary: String::new(),
            log: Vec::new(),
        };
        let cut_off = Mutex::new(Vec::new());
        deliveries.cut_off(|job| {
            cut_off.lock().expect("no panic").push(job.map(str::to_owned));
            word(job, Outcome::Interrupted)
        });
        told.ends(|| unreachable!("its end was told"));
        deliveries.all_delivered().await;
        assert_eq!(cut_off.into_inner().expect("no panic"), [Some("nightly".to_owned())]);
        assert_eq!((heard.try_recv(), deliveries.all_told().await), (Ok(200), Vec::new()));
    }

    async fn post(statuses: &'static [u16]) -> (Result<(), String>, usize) {
        let (url, answered) = server(statuses);
        let at = SecretAt::Here(url);
        let told = courier().post(Hears::Pings, &at, Clone::clone, String::new()).await;
        (told, answered.try_iter().count())
    }

    #[tokio::test]
    async fn what_may_be_over_is_tried_three_times_and_what_is_refused_once() {
        assert_eq!(post(&[503, 0, 200]).await, (Ok(()), 3));
        let (refused, tries) = post(&[404, 200]).await;
        assert!(
            tries == 1 && refused.as_ref().is_err_and(|why| why.ends_with("it answered with HTTP 404")),
            "{refused:?}"
        );
        let (silent, tries) = post(&[0, 0, 0, 200]).await;
        let why = silent.expect_err("nobody answered");
        assert!(tries == 3 && why.contains("did not answer") && !why.contains("s3cret"), "{why}");
    }

    #[test]
    fn a_log_is_its_last_lines_and_a_mail_has_no_line_that_somebody_else_wrote() {
        let word = EndWord {
            run: "r".into(),
            job: Some("n\u{e4}chtlich\nBcc: all@example.org".into()),
            outcome: Outcome::Failed,
            summary: "a\nb".into(),
            log: (0..100).map(|at| format!("{at}{}", "x".repeat(1_000))).collect(),
        };
        let lines = word.last_lines();
        assert!(lines.len() == LINES_MAX && lines[0].starts_with("60x") && lines[0].len() == LINE_CHARACTERS_MAX);
        let mail = courier().mail_text(&["ops@example.org".into()], &word);
        let head = mail.split("\n\n").next().expect("a head");
        assert!(head.contains("\nSubject: =?utf-8?Q?") && !head.contains("\nBcc:"), "{head}");
        assert!(head.lines().all(|line| line.len() < 100), "{head}");
        assert_eq!(header("plain: it is"), "plain: it is");
        assert_eq!(header("\u{e4} b"), "=?utf-8?Q?=C3=A4=20b?=");
    }

    #[test]
    fn a_later_file_says_who_is_told_in_place_of_an_earlier_one() {
        let written = WrittenAt::nowhere();
        let url = |path: &str, hears| WatchUrl {
            hears,
            at: SecretAt::File(path.into()),
            key: "k".into(),
            written: written.clone(),
        };
        let mut known =
            Watchers { urls: vec![url("/a", Hears::Pings), url("/b", Hears::Failures)], ..Watchers::default() };
        known.replace(Watchers { urls: vec![url("/c", Hears::Pings)], ..Watchers::default() });
        let shown: Vec<String> = known.urls.iter().map(|url| url.at.shown()).collect();
        assert_eq!(shown, ["/b", "/c"]);
        assert!(known.is_anybody() && !Watchers::default().is_anybody());
    }
}
