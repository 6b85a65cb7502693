//! Metrics of runs, of jobs and of the work that repositories need, in a file that Prometheus' node exporter reads (its textfile collector).
//!
//! The file is written anew in one step: when a run begins, behind each job, and at the end, however that comes: by an error before the
//! start, a wrong configuration, a second signal, a panic. Who is killed leaves a run that began and did not end, which shows as well. What a
//! run does not know, such as when a job last succeeded, it takes over from the file that is there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::exit::Exit;
use crate::model::due::Every;
use crate::model::run::{RunKind, RunRecord};
use crate::model::time::{Clock, Timestamp};

/// The metrics, with what is told of each. All of them are gauges: what was counted in one run, or when it was.
const FAMILIES: [(&str, &str); 19] = [
    (BUILD, "The program that wrote this file, always 1."),
    (RUN_START, "When the last run began, in seconds since 1970."),
    (
        RUN_END,
        "When the last run ended, in seconds since 1970; earlier than its start while it runs, or where it was killed.",
    ),
    (RUN_SUCCESS, "When a run last ended with exit code 0, in seconds since 1970."),
    (RUN_EXIT, "The exit code of the last run that ended."),
    (JOB_START, "When the job last began, in seconds since 1970."),
    (JOB_END, "When the job last ended, in seconds since 1970."),
    (JOB_SUCCESS, "When the job last ended with exit code 0, in seconds since 1970."),
    (JOB_EXIT, "The exit code of the job when it last ended."),
    (JOB_DURATION, "How long the last backup of the job took that stored a snapshot."),
    (JOB_SIZE, "Content of the job's last snapshot."),
    (JOB_NEW, "Content of the job's last snapshot that was not stored yet."),
    (JOB_STORED, "What the job's last backup added to the store."),
    (JOB_FILES, "Files in the job's last snapshot."),
    (JOB_ANOMALIES, "What the job's last snapshot is flagged for as odd, in number; 0 where nothing is."),
    (WORK_DONE, "When work on a repository was last done, by any machine, in seconds since 1970."),
    (WORK_DUE, "From when on work on a repository is due, in seconds since 1970."),
    (WORK_EVERY, "How often work on a repository is to be done."),
    (WORK_EXIT, "The exit code of work on a repository when this machine last did it."),
];
const BUILD: &str = "coffre_build_info";
const RUN_START: &str = "coffre_run_last_start_timestamp_seconds";
const RUN_END: &str = "coffre_run_last_end_timestamp_seconds";
const RUN_SUCCESS: &str = "coffre_run_last_success_timestamp_seconds";
const RUN_EXIT: &str = "coffre_run_last_exit_code";
const JOB_START: &str = "coffre_job_last_start_timestamp_seconds";
const JOB_END: &str = "coffre_job_last_end_timestamp_seconds";
const JOB_SUCCESS: &str = "coffre_job_last_success_timestamp_seconds";
const JOB_EXIT: &str = "coffre_job_last_exit_code";
const JOB_DURATION: &str = "coffre_job_last_duration_seconds";
const JOB_SIZE: &str = "coffre_job_last_size_bytes";
const JOB_NEW: &str = "coffre_job_last_new_bytes";
const JOB_STORED: &str = "coffre_job_last_stored_bytes";
const JOB_FILES: &str = "coffre_job_last_files";
const JOB_ANOMALIES: &str = "coffre_job_last_anomalies";
const WORK_DONE: &str = "coffre_work_last_done_timestamp_seconds";
const WORK_DUE: &str = "coffre_work_due_timestamp_seconds";
const WORK_EVERY: &str = "coffre_work_every_seconds";
const WORK_EXIT: &str = "coffre_work_last_exit_code";

/// The most that is taken over from an earlier file.
const BYTES_MAX: u64 = 4 << 20;
/// How often, and how long each time, another writer of the same file is waited for.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What a job's backup stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoredFigures {
    /// How long it took.
    pub seconds: f64,
    /// Content of the snapshot.
    pub bytes: u64,
    /// What of it was new.
    pub new_bytes: u64,
    /// What was added to the store.
    pub stored_bytes: u64,
    /// Files.
    pub files: u64,
    /// What the snapshot is flagged for, in number.
    pub anomalies: u64,
}

/// What a value is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SampleOf {
    /// The run, or the program.
    Run,
    /// A job.
    Job(String),
    /// Work on a repository: its name, and that of the command.
    Work(String, String),
}

impl SampleOf {
    /// Reads the labels of a series.
    fn of_labels(labels: &str) -> Option<Self> {
        let mut named = BTreeMap::new();
        let mut rest = labels;
        while !rest.is_empty() {
            let (name, value) = rest.split_once("=\"")?;
            let mut escaped = false;
            let end = value.find(|c| {
                let is_end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                is_end
            })?;
            named.insert(name, unescaped(&value[..end]));
            rest = &value[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        match (named.remove("job"), named.remove("repository"), named.remove("work")) {
            (Some(job), None, None) => Some(SampleOf::Job(job)),
            (None, Some(repository), Some(work)) => Some(SampleOf::Work(repository, work)),
            _ => None,
        }
    }

    /// Returns the labels as they are written.
    fn labels(&self) -> String {
        match self {
            SampleOf::Run => String::new(),
            SampleOf::Job(job) => format!("{{job=\"{}\"}}", escaped(job)),
            SampleOf::Work(repository, work) => {
                format!("{{repository=\"{}\",work=\"{}\"}}", escaped(repository), escaped(work))
            }
        }
    }

    /// Returns how the names of metrics begin that are of this.
    fn prefix(&self) -> &'static str {
        match self {
            SampleOf::Run => "coffre_run_",
            SampleOf::Job(_) => "coffre_job_",
            SampleOf::Work(..) => "coffre_work_",
        }
    }
}

/// Values by their metrics and what they are of.
type Samples = BTreeMap<(&'static str, SampleOf), f64>;

/// The names that the configuration knows: what is told of others is left out.
#[derive(Debug, Clone, Default)]
pub struct KnownNames {
    /// Of jobs.
    pub jobs: Vec<String>,
    /// Of repositories, each with the work that is done on it every so often.
    pub work: Vec<(String, RunKind)>,
}

impl KnownNames {
    fn has(&self, of: &SampleOf) -> bool {
        match of {
            SampleOf::Run => true,
            SampleOf::Job(job) => self.jobs.contains(job),
            SampleOf::Work(repository, work) => {
                self.work.iter().any(|(name, kind)| name == repository && kind.name() == work)
            }
        }
    }
}

/// The metrics of one run, if there is a file for them.
#[derive(Debug)]
pub struct RunMetrics {
    path: Option<PathBuf>,
    state: Mutex<MetricsState>,
}

#[derive(Debug, Default)]
struct MetricsState {
    has_ended: bool,
    /// What this run knows.
    samples: Samples,
    /// The names of the configuration, where it is known.
    known: Option<KnownNames>,
    /// Why the file could not be written.
    failed: Option<io::Error>,
}

impl RunMetrics {
    /// Says that a run has begun; `known` is what the configuration knows, where it could be read.
    pub fn begin(path: Option<PathBuf>, known: Option<KnownNames>) -> Self {
        let state = MetricsState { known, ..MetricsState::default() };
        let metrics = Self { path, state: Mutex::new(state) };
        metrics.put(&SampleOf::Run, &[(RUN_START, now())]);
        metrics
    }

    /// Says that a job has begun.
    pub fn job_begins(&self, job: &str) {
        self.put(&SampleOf::Job(job.to_owned()), &[(JOB_START, now())]);
    }

    /// Says how a job ended, and what it stored.
    pub fn job_ended(&self, job: &str, exit: Exit, stored: Option<StoredFigures>) {
        let mut samples = vec![(JOB_END, now()), (JOB_EXIT, f64::from(exit as u8))];
        if exit == Exit::Done {
            samples.push((JOB_SUCCESS, now()));
        }
        if let Some(stored) = stored {
            samples.push((JOB_DURATION, stored.seconds));
            let counts = [
                (JOB_SIZE, stored.bytes),
                (JOB_NEW, stored.new_bytes),
                (JOB_STORED, stored.stored_bytes),
                (JOB_FILES, stored.files),
                (JOB_ANOMALIES, stored.anomalies),
            ];
            samples.extend(counts.map(|(name, count)| (name, count as f64)));
        }
        self.put(&SampleOf::Job(job.to_owned()), &samples);
    }

    /// Says when work on a repository was last done, if it was, and how often it is to be.
    pub fn work_is_known(&self, repository: &str, kind: &RunKind, every: Every, last: Option<&RunRecord>) {
        let seconds = |time: Timestamp| time.seconds as f64;
        let now = Clock::System.now();
        let due = last.map_or(now, |last| every.due_at(last.started));
        let mut samples = vec![(WORK_EVERY, every.0.as_secs_f64()), (WORK_DUE, seconds(due))];
        samples.extend(last.map(|last| (WORK_DONE, seconds(last.finished))));
        self.put(&SampleOf::Work(repository.to_owned(), kind.name().to_owned()), &samples);
    }

    /// Says how work on a repository ended that this machine did.
    pub fn work_ended(&self, repository: &str, kind: &RunKind, exit: Exit) {
        let of = SampleOf::Work(repository.to_owned(), kind.name().to_owned());
        self.put(&of, &[(WORK_EXIT, f64::from(exit as u8))]);
    }

    /// Says how the run ended; what is said afterwards does not count.
    pub fn ended(&self, exit: Exit) {
        let mut samples = vec![(RUN_END, now()), (RUN_EXIT, f64::from(exit as u8))];
        if exit == Exit::Done {
            samples.push((RUN_SUCCESS, now()));
        }
        self.put(&SampleOf::Run, &samples);
        self.state().has_ended = true;
    }

    /// Takes why the file could not be written, if it could not.
    pub fn take_failure(&self) -> Option<(PathBuf, io::Error)> {
        Some((self.path.clone()?, self.state().failed.take()?))
    }

    fn put(&self, of: &SampleOf, samples: &[(&'static str, f64)]) {
        let Some(path) = &self.path else { return };
        let mut state = self.state();
        if state.has_ended {
            return;
        }
        for (name, value) in samples {
            state.samples.insert((name, of.clone()), *value);
        }
        if let Err(error) = update(path, &state.samples, state.known.as_ref()) {
            state.failed = Some(error);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, MetricsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunMetrics {
    /// A run that goes away without a word, by a panic, failed.
    fn drop(&mut self) {
        self.ended(Exit::Failed);
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1000.0
}

/// Puts samples into the file in place of earlier ones.
fn update(path: &Path, samples: &Samples, known: Option<&KnownNames>) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Two runs of different jobs may write at once.
    let lock = File::open(directory)?;
    for _ in 0..TRIES {
        if !matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let mut all = earlier(path);
    all.retain(|(_, of), _| known.is_none_or(|known| known.has(of)));
    all.extend(samples.iter().map(|(key, value)| (key.clone(), *value)));
    all.insert((BUILD, SampleOf::Run), 1.0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The collector reads what ends with .prom.
    let new = directory.join(format!(".{name}.{}", std::process::id()));
    // It runs as somebody else, and nothing here is a secret.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    let written = rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o644))
        .map_err(io::Error::from)
        .and_then(|()| file.write_all(text(&all).as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Reads the samples of a file as they were written; what is none is passed over.
fn earlier(path: &Path) -> Samples {
    let is_small = path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= BYTES_MAX);
    let text = if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<((&'static str, SampleOf), f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').map_or((series, None), |(name, labels)| (name, Some(labels)));
    let (known, _) = FAMILIES.iter().find(|(known, _)| *known == name)?;
    let of = match labels {
        None => SampleOf::Run,
        Some(labels) => SampleOf::of_labels(labels.strip_suffix('}')?)?,
    };
    known.starts_with(of.prefix()).then_some(((*known, of), value.parse().ok()?))
}

/// Returns the file.
fn text(samples: &Samples) -> String {
    let mut text = String::new();
    for (name, help) in FAMILIES {
        let of_family = samples.iter().filter(|((family, _), _)| *family == name);
        for (at, ((_, of), value)) in of_family.enumerate() {
            if at == 0 {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            }
            let labels = match name == BUILD {
                true => format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")),
                false => of.labels(),
            };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn unescaped(label: &str) -> String {
    let mut text = String::new();
    let mut chars = label.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some(other)) => text.push(other),
            (c, _) => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::Outcome;

    fn samples(text: &str) -> BTreeMap<String, f64> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').expect("a value"))
            .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
            .collect()
    }

    #[test]
    fn what_a_run_does_not_know_is_taken_over() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("coffre.prom");
        let work = ["archive", "near \",\\"].map(|name| (name.to_owned(), RunKind::Prune)).into();
        let known =
            || Some(KnownNames { jobs: ["a", "b \"q\" \\ \n"].map(str::to_owned).into(), work: Vec::clone(&work) });
        let read = || samples(&fs::read_to_string(&path).expect("there"));
        let stored = StoredFigures { seconds: 1.5, bytes: 10, new_bytes: 5, stored_bytes: 3, files: 2, anomalies: 4 };
        let run = RunMetrics::begin(Some(path.clone()), known());
        run.job_begins("a");
        run.job_ended("a", Exit::Done, Some(stored));
        run.job_ended("b \"q\" \\ \n", Exit::Done, None);
        let every = Every(Duration::from_secs(7 * 24 * 3600));
        let at = |seconds| Timestamp::from_seconds(seconds);
        let done = RunRecord::new(RunKind::Prune, (at(1_000_000), at(1_000_060)), "x".into(), Outcome::Clean);
        run.work_is_known("archive", &RunKind::Prune, every, Some(&done));
        run.work_is_known("near \",\\", &RunKind::Prune, every, None);
        run.work_ended("archive", &RunKind::Prune, Exit::Done);
        let (start, end) = (read()[RUN_START], read().get(RUN_END).copied());
        assert!(start > 1.7e9 && end.is_none(), "it runs");
        run.ended(Exit::Done);
        drop(run);
        let first = read();
        assert_eq!(first["coffre_run_last_exit_code"], 0.0);
        assert_eq!(first["coffre_job_last_size_bytes{job=\"a\"}"], 10.0);
        assert_eq!(first["coffre_job_last_anomalies{job=\"a\"}"], 4.0);
        let work = |of: &str| first[&format!("coffre_work_{of}{{repository=\"archive\",work=\"prune\"}}")];
        assert_eq!(work("last_done_timestamp_seconds"), 1_000_060.0);
        assert_eq!(work("due_timestamp_seconds"), 1_000_000.0 + 7.0 * 86_400.0 - 3.0 * 3600.0);
        assert_eq!((work("every_seconds"), work("last_exit_code")), (7.0 * 86_400.0, 0.0));
        let never = |name: &str| format!("coffre_work_{name}{{repository=\"near \\\",\\\\\",work=\"prune\"}}");
        assert!(
            first[&never("due_timestamp_seconds")] > 1.7e9
                && !first.contains_key(&never("last_done_timestamp_seconds"))
        );
        let success = first["coffre_job_last_success_timestamp_seconds{job=\"a\"}"];
        assert!(first.contains_key("coffre_job_last_exit_code{job=\"b \\\"q\\\" \\\\ \\n\"}"), "{first:?}");

        // One that fails keeps the last success; one that is dropped without a word failed.
        let run = RunMetrics::begin(Some(path.clone()), known());
        run.job_ended("a", Exit::Unreachable, None);
        drop(run);
        let second = read();
        assert_eq!(second["coffre_job_last_success_timestamp_seconds{job=\"a\"}"], success);
        assert_eq!(second["coffre_job_last_exit_code{job=\"a\"}"], 7.0);
        assert_eq!(second["coffre_run_last_exit_code"], 1.0);
        assert_eq!(second[RUN_SUCCESS], first[RUN_SUCCESS]);
        assert!(second.contains_key("coffre_job_last_exit_code{job=\"b \\\"q\\\" \\\\ \\n\"}"), "another job stays");

        // A job that is not configured any more goes; where the configuration is not known none does.
        drop(RunMetrics::begin(Some(path.clone()), None));
        assert!(read().keys().any(|name| name.contains("{job=\"b")));
        assert_eq!(read()[&never("every_seconds")], 7.0 * 86_400.0, "another run's work stays");
        let fewer = KnownNames { jobs: vec!["a".into()], work: vec![("archive".into(), RunKind::Prune)] };
        drop(RunMetrics::begin(Some(path.clone()), Some(fewer)));
        assert!(!read().keys().any(|name| name.contains("{job=\"b") || name.contains("near")));
        assert!(read().keys().any(|name| name.contains("archive")));
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_is_no_file_of_metrics_is_written_over_and_one_that_cannot_be_written_told() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("coffre.prom");
        fs::write(&path, "nonsense\ncoffre_job_last_exit_code 5\nother_metric{job=\"a\"} 1\n\u{0}{ 1\n")
            .expect("written");
        drop(RunMetrics::begin(Some(path.clone()), None));
        let text = fs::read_to_string(&path).expect("there");
        assert!(!text.contains("nonsense") && !text.contains("other_metric") && !text.contains("code 5"), "{text}");
        let nowhere = RunMetrics::begin(Some(directory.path().join("none/coffre.prom")), None);
        assert!(nowhere.take_failure().is_some());
        RunMetrics::begin(None, None).ended(Exit::Done);
    }

    /// The rules of Prometheus' own check: names of what they are and their unit, help for each, no double series.
    #[test]
    fn each_metric_has_its_unit_in_its_name_and_an_explanation() {
        for (name, help) in FAMILIES {
            let has_unit = [
                "_timestamp_seconds",
                "_duration_seconds",
                "_bytes",
                "_code",
                "_files",
                "_info",
                "_anomalies",
                "_every_seconds",
            ];
            assert!(has_unit.iter().any(|unit| name.ends_with(unit)), "{name}");
            assert!(name.starts_with("coffre_") && help.ends_with('.') && !help.contains('\n'), "{name}");
        }
    }
}
