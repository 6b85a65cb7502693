//! What `--json` prints: every object there is, each a struct.
//!
//! Fields are only ever added; none is renamed, removed or given another type. `docs/json.md` says what they mean, and
//! `tests/data/json/fields.txt` keeps what was once promised: a test compares all three. An object is a line; `event`, which names its
//! kind, comes first, and the other fields stand in alphabetical order. What is `None` is `null`, but for fields that only some have.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// A file or entry that something is wrong with, or a note about it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "problem")]
pub struct Problem<'a> {
    pub kind: &'static str,
    pub message: &'a str,
    pub subject: &'a str,
}

/// What is worth knowing and makes nothing wrong. Notes of the command line itself have no subject.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "note")]
pub struct Note<'a> {
    pub message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
}

/// What everybody should hear.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "warning")]
pub struct Warning<'a> {
    pub message: &'a str,
    pub subject: &'a str,
}

/// `config check`: a value of the configuration.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "configured")]
pub struct Configured<'a> {
    pub key: &'a str,
    pub value: &'a str,
    pub written: &'a str,
}

/// `config check`: how trying a repository or a job ended.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "tried")]
pub struct ConfigTried<'a> {
    pub hint: Option<&'a str>,
    pub is_right: bool,
    pub message: &'a str,
    pub what: &'a str,
}

/// What a webhook gets: a job or a run that did not go well.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "failed")]
pub struct Failed<'a> {
    pub exit_code: u8,
    pub host: &'a str,
    pub job: Option<&'a str>,
    pub log: Vec<String>,
    pub outcome: &'static str,
    pub run: &'a str,
    pub summary: &'a str,
    pub text: String,
}

/// `run`: it begins. Every other object of it has `run` as well, and `job` where it belongs to one.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "run")]
pub struct RunBegun<'a> {
    pub jobs: &'a [String],
    pub run: &'a str,
}

/// `run`: how a job ended.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "job")]
pub struct JobDone<'a> {
    pub exit_code: u8,
    pub job: &'a str,
    pub outcome: &'static str,
}

/// `run`: how work that was due ended; without a name, asking what is due.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "work")]
pub struct WorkDone<'a> {
    pub exit_code: u8,
    pub outcome: &'static str,
    pub repository: &'a str,
    pub work: Option<&'a str>,
}

/// Why a command could not do what was asked.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "error")]
pub struct Error<'a> {
    pub causes: &'a [String],
    pub exit_code: u8,
    pub hint: Option<&'a str>,
    pub message: &'a str,
    pub outcome: &'static str,
}

/// What is done now, once a second.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "progress")]
pub struct Progress<'a> {
    pub bytes: u64,
    pub bytes_per_second: u64,
    pub entries: u64,
    pub fetched_bytes: u64,
    pub new_bytes: u64,
    pub packs: u64,
    pub phase: &'a str,
    pub problems: u64,
    pub read_bytes: u64,
    pub retries: u64,
    pub sealed_bytes: u64,
    pub seconds: f64,
    pub seconds_left: Option<u64>,
    pub stored_bytes: u64,
    pub total_bytes: Option<u64>,
    pub total_entries: Option<u64>,
    pub total_packs: Option<u64>,
    pub waiting_for_store: Option<&'a str>,
    pub waiting_seconds: Option<u64>,
}

/// `init`: the new repository.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Made<'a> {
    pub fingerprint: String,
    pub location: String,
    pub recovery_identity: Option<&'a str>,
    pub recovery_kit: Option<String>,
    pub repository: String,
}

/// `kit`: the page.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct KitPage {
    pub fingerprint: String,
    pub has_identity: bool,
    pub location: String,
    pub page: Option<String>,
    pub recovery_kit: Option<String>,
    pub repository: String,
}

/// `kit --check`: the identity opens the repository.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct KitChecked {
    pub fingerprint: String,
    pub location: String,
    pub newest: Option<String>,
    pub opens: bool,
    pub repository: String,
}

/// `key list`: a key slot.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "slot")]
pub struct KeySlot<'a> {
    pub id: String,
    pub label: &'a str,
    pub made: Option<String>,
    pub opened_now: bool,
    pub opens_with: Option<&'a str>,
    pub role: Option<&'a str>,
    pub state: &'a str,
}

/// `key list`: a host, or a group of them, with a key of its own.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "writer")]
pub struct KnownWriter<'a> {
    pub group: Option<u64>,
    pub hosts: &'a [String],
    pub id: String,
    pub name: &'a str,
    pub revoked: bool,
}

/// `key list`: what it is of.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Keys {
    pub fingerprint: String,
    pub repository: String,
    pub slots: usize,
    pub writers: usize,
}

/// `key add`, `key passwd`, `key remove`, `key revoke-writer`: what was done.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct KeyChanged<'a> {
    pub counting: Option<usize>,
    pub did: &'a str,
    pub file: Option<String>,
    pub fingerprint: String,
    pub foreign: Option<usize>,
    pub object_left: bool,
    pub repository: String,
    pub secret: Option<&'a str>,
    pub slot: Option<String>,
    pub writer: Option<String>,
}

/// `backup -vv`: what became of an entry.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "entry")]
pub struct BackedUpEntry {
    pub change: &'static str,
    pub path: String,
}

/// A stream that failed, and why.
#[derive(Debug, Serialize)]
pub struct MissingStream<'a> {
    pub stream: &'a str,
    pub why: Cow<'a, str>,
}

/// What looks odd. `stream` is `subject` under its first name.
#[derive(Debug, Serialize)]
pub struct Suspicious<'a> {
    pub stream: &'a str,
    pub subject: &'a str,
    pub why: &'a str,
}

/// Something odd for which a snapshot is flagged. `since` is the snapshot that was flagged for it first, if that was an earlier one.
#[derive(Debug, Serialize)]
pub struct Anomaly<'a> {
    pub kind: &'a str,
    pub since: Option<String>,
    pub subject: &'a str,
    pub why: &'a str,
}

/// `backup`: what it did.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct BackedUp<'a> {
    pub anomalies: Vec<Anomaly<'a>>,
    pub bytes: u64,
    pub changed_while_read: u64,
    pub directories: u64,
    pub dry_run: bool,
    pub files: u64,
    pub left_out: Vec<String>,
    pub missing: Vec<MissingStream<'a>>,
    pub new_bytes: u64,
    pub number: Option<u64>,
    pub others: u64,
    pub outcome: &'static str,
    pub parent: Option<String>,
    pub previous: Option<String>,
    pub problems: u64,
    pub read_bytes: u64,
    pub seconds: f64,
    pub skipped: bool,
    pub snapshot: Option<String>,
    pub sources: Option<Vec<String>>,
    pub stored_bytes: u64,
    pub streams: u64,
    pub suspicious: Vec<Suspicious<'a>>,
    pub tree_bytes: u64,
    pub unchanged_files: u64,
    pub unreadable: u64,
}

/// `snapshots`: one of them.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "snapshot")]
pub struct Snapshot<'a> {
    pub ahead: bool,
    pub anomalies: Vec<Anomaly<'a>>,
    pub bytes: u64,
    pub complete: bool,
    pub directories: u64,
    pub files: u64,
    pub finished: String,
    pub foreign: Option<String>,
    pub forgotten: Option<String>,
    pub forgotten_reason: Option<&'a str>,
    pub held: bool,
    pub held_reason: Option<&'a str>,
    pub held_until: Option<String>,
    pub host: &'a str,
    pub id: String,
    pub job: &'a str,
    pub missing: Vec<MissingStream<'a>>,
    pub new_bytes: u64,
    pub number: u64,
    pub others: u64,
    pub parent: Option<String>,
    pub program: &'a str,
    pub removable_from: Option<String>,
    pub sources: Vec<String>,
    pub started: String,
    pub stored_bytes: u64,
    pub streams: u64,
    pub tags: &'a [String],
    pub unreadable: u64,
    pub user: &'a str,
}

/// `forget`: what becomes of a snapshot.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "decision")]
pub struct Decided<'a> {
    pub forget: bool,
    pub host: &'a str,
    pub id: String,
    pub job: &'a str,
    pub misdated: bool,
    pub started: String,
    pub why: String,
}

/// `forget`: what was done.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Forgot {
    pub done: bool,
    pub forgotten: u64,
    pub kept: u64,
    pub removable_from: Option<String>,
}

/// `forget --undo`: what is back.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct BroughtBack {
    pub brought_back: Vec<String>,
}

/// `forget --accept-missing-records`: what is done without.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct GivenUp {
    pub given_up: Vec<String>,
}

/// `hold list`: a snapshot that is held, or was.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "hold")]
pub struct Held<'a> {
    pub host: &'a str,
    pub id: String,
    pub in_force: bool,
    pub job: &'a str,
    pub reason: &'a str,
    pub since: String,
    pub started: String,
    pub until: Option<String>,
}

/// `hold add`, `hold remove`: what is held or released now.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct HoldsChanged {
    pub held: bool,
    pub snapshots: Vec<String>,
}

/// `ls` and `find`: an entry. The first two are of streams, `snapshot` of `find`, `target` of links.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "entry")]
pub struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<BTreeMap<String, Value>>,
    pub gid: u32,
    pub group: Option<String>,
    pub kind: &'static str,
    pub mode: String,
    pub mtime: String,
    pub path: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub uid: u32,
    pub user: Option<String>,
}

/// `diff`: an entry that differs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "change")]
pub struct Change {
    pub change: &'static str,
    pub kind: &'static str,
    pub new_size: Option<u64>,
    pub old_size: Option<u64>,
    pub path: String,
}

/// `diff`: how much differs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Compared {
    pub added: u64,
    pub added_bytes: u64,
    pub changed: u64,
    pub earlier: String,
    pub later: String,
    pub metadata: u64,
    pub removed: u64,
    pub removed_bytes: u64,
}

/// Objects of a kind: how many and how much.
#[derive(Debug, Serialize)]
pub struct Objects {
    pub bytes: u64,
    pub objects: u64,
}

/// `dump --target`: what was written.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Dumped<'a> {
    pub bytes: u64,
    pub entries: u64,
    pub gaps: u64,
    pub left_out_bytes: u64,
    pub lost_bytes: u64,
    pub seconds: f64,
    pub skipped: u64,
    pub target: &'a str,
}

/// `dump --salvage`: bytes that are lost.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "gap")]
pub struct Gap<'a> {
    pub after: Option<&'a str>,
    pub before: Option<&'a str>,
    pub length: u64,
    pub lines: Option<u64>,
    pub offset: u64,
    pub path: &'a str,
    pub table: Option<&'a str>,
    pub why: &'a str,
    pub written_at: u64,
}

/// `stats SNAPSHOT`: what the chosen snapshots hold.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct ChosenStats {
    pub added_bytes: u64,
    pub directories: u64,
    pub entries: u64,
    pub files: u64,
    pub others: u64,
    pub repository: String,
    pub restored_bytes: u64,
    pub snapshots: usize,
    pub streams: u64,
}

/// `stats --reach`: what restoring a snapshot takes.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "reach")]
pub struct SnapshotReached {
    pub added_bytes: u64,
    pub chunks: u64,
    pub decoded_bytes: u64,
    pub depth: u8,
    pub fetched_bytes: u64,
    pub frames: u64,
    pub id: String,
    pub lost_bytes: u64,
    pub older_bytes: u64,
    pub older_sessions: u64,
    pub oldest: Option<String>,
    pub parts: u64,
    pub recipes: u64,
    pub restored_bytes: u64,
    pub started: String,
    pub unreadable: u64,
}

/// `stats`: how much there is.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Stats<'a> {
    pub chunks: u64,
    pub entries: u64,
    pub objects: BTreeMap<&'static str, Objects>,
    pub repository: String,
    pub restored_bytes: u64,
    pub snapshots: u64,
    pub stored_bytes: u64,
    pub unique_bytes: u64,
    pub unreadable_snapshots: &'a [String],
}

/// `status`: how a job stands, or what was backed up without one.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "series")]
pub struct SeriesState<'a> {
    pub age_seconds: Option<u64>,
    pub amiss: Vec<&'static str>,
    pub anomalies: Vec<Anomaly<'a>>,
    pub bytes: Option<u64>,
    pub failed: Option<String>,
    pub failed_outcome: Option<&'static str>,
    pub failed_why: Option<&'a str>,
    pub finished: Option<String>,
    pub host: &'a str,
    pub job: &'a str,
    pub max_age_seconds: Option<u64>,
    pub month_bytes: u64,
    pub new_bytes: Option<u64>,
    pub snapshot: Option<String>,
    pub snapshots: u64,
    pub sources: Vec<String>,
    pub started: Option<String>,
    pub stored_bytes: Option<u64>,
    pub unchanged: Option<String>,
    pub unreadable: Option<u64>,
    pub week_bytes: u64,
}

/// `status`: how what is done to a repository now and then stands.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "work")]
pub struct WorkState<'a> {
    pub amiss: Option<&'static str>,
    pub counts: Option<&'a BTreeMap<String, u64>>,
    pub due: Option<String>,
    pub every_seconds: Option<u64>,
    pub failed: Option<String>,
    pub failed_outcome: Option<&'a str>,
    pub failed_why: Option<&'a str>,
    pub finished: Option<String>,
    pub host: Option<&'a str>,
    pub outcome: Option<&'a str>,
    pub started: Option<String>,
    pub work: &'a str,
}

/// `status`: how the repository is.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct RepositoryStatus {
    pub bytes: Option<u64>,
    pub oldest_read: Option<String>,
    pub outcome: &'static str,
    pub packs: Option<u64>,
    pub packs_never_read: Option<u64>,
    pub problems: u64,
    pub reads_nothing: bool,
    pub repository: String,
    pub snapshots: u64,
    pub time: String,
    pub verified_bytes: Option<u64>,
    pub verified_days: Option<u32>,
    pub well: bool,
}

/// `prune`: what nothing needs, and what became of it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Pruned {
    pub damaged_packs: Vec<String>,
    pub dead_bytes: u64,
    pub dead_packs: u64,
    pub deleted_bytes: u64,
    pub deleted_packs: u64,
    pub doubtful: Vec<String>,
    pub dry_run: bool,
    pub freed_bytes: u64,
    pub given_up: Vec<String>,
    pub left_packs: u64,
    pub merged_segments: u64,
    pub outcome: &'static str,
    pub partly_needed_packs: u64,
    pub removed_old: u64,
    pub removed_snapshots: u64,
    pub repository: String,
    pub rewrite_bytes: u64,
    pub rewrite_packs: u64,
    pub rewrite_used_bytes: u64,
    pub rewritten_bytes: u64,
    pub rewritten_packs: u64,
    pub seconds: f64,
    pub snapshots: u64,
    pub stays_bytes: u64,
    pub stays_packs: u64,
    pub stored_bytes: u64,
    pub stored_packs: u64,
    pub unfinished: Option<String>,
    pub unused_bytes: u64,
    pub waiting_for: Vec<String>,
}

/// `verify`: something damaged.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "finding")]
pub struct Finding<'a> {
    pub lost: Vec<Lost<'a>>,
    pub lost_bytes: u64,
    pub object: String,
    pub path_count: u64,
    pub paths: &'a [String],
    pub problem: String,
    pub snapshots: Vec<String>,
    pub windows: Vec<String>,
}

/// Bytes of a file or stream that are lost.
#[derive(Debug, Serialize)]
pub struct Lost<'a> {
    pub length: u64,
    pub offset: u64,
    pub path: &'a str,
    pub snapshot: String,
}

/// `verify`: what was looked at, where and by what.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Verified<'a> {
    pub bytes_read: u64,
    pub chunks: u64,
    pub clean: bool,
    pub coverage_not_noted: Option<&'a str>,
    pub cycle_completed: bool,
    pub damage_not_told: Option<&'a str>,
    pub entries: u64,
    pub findings: u64,
    pub findings_left_out: bool,
    pub host: &'a str,
    pub index_segments: u64,
    pub location: &'a str,
    pub not_vouched_for: Option<&'a str>,
    pub notes: &'a [String],
    pub oldest_read: Option<String>,
    pub outcome: &'static str,
    pub packs: u64,
    pub packs_healed: u64,
    pub packs_never_read: u64,
    pub packs_read: u64,
    pub packs_told_damaged: u64,
    pub packs_vouched_for: u64,
    pub program: &'static str,
    pub repository: &'a str,
    pub seconds: f64,
    pub snapshots: u64,
    pub time: String,
}

/// `restore --delete`: what the snapshot does not have.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "extra")]
pub struct Extra {
    pub dry_run: bool,
    pub path: String,
}

/// `restore`: what it did.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Restored {
    pub blocked: u64,
    pub damaged: Vec<String>,
    pub dry_run: bool,
    pub extras: u64,
    pub failed_files: u64,
    pub left: u64,
    pub linked_files: u64,
    pub no_room_files: u64,
    pub others: u64,
    pub outcome: &'static str,
    pub owners_missed: u64,
    pub problems: u64,
    pub removed: u64,
    pub seconds: f64,
    pub unchanged_files: u64,
    pub written_bytes: u64,
    pub written_files: u64,
}

/// A database that would be restored.
#[derive(Debug, Serialize)]
pub struct PlannedDatabase<'a> {
    pub bytes: u64,
    pub connections: u64,
    pub dumped_from: Option<&'a str>,
    pub exists: bool,
    pub name: &'a str,
    pub source: &'a str,
    pub streams: u64,
    pub untouched: bool,
}

/// `restore --into-… --plan`: what would be done.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "plan")]
pub struct DatabasePlan<'a> {
    pub databases: Vec<PlannedDatabase<'a>>,
    pub free_bytes: Option<u64>,
    pub needed_bytes: u64,
    pub notes: &'a [String],
    pub obstacles: &'a [String],
    pub server_version: &'a str,
}

/// A database that was restored.
#[derive(Debug, Serialize)]
pub struct RestoredDatabase<'a> {
    pub bytes: u64,
    pub changes: &'a [String],
    pub compared: Option<ComparedRows<'a>>,
    pub drop_replaced: Option<&'a str>,
    pub failed_statements: u64,
    pub left_out: &'a [String],
    pub name: &'a str,
    pub not_carried: &'a [String],
    pub replaced: Option<&'a str>,
    pub uses_original: &'a [String],
}

/// Whether the rows of a database that was restored are those of the dump.
#[derive(Debug, Serialize)]
pub struct ComparedRows<'a> {
    pub differing: Vec<DifferingTable>,
    pub digested_tables: u64,
    pub not_compared: &'a [String],
    pub same_rows: u64,
    pub same_tables: u64,
}

/// A table whose rows are others.
#[derive(Debug, Serialize)]
pub struct DifferingTable {
    pub dumped_rows: u64,
    pub name: String,
    pub restored_rows: Option<u64>,
}

/// A database that was not.
#[derive(Debug, Serialize)]
pub struct FailedDatabase<'a> {
    pub name: &'a str,
    pub why: String,
}

/// `restore --into-…`: what became of each database.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct DatabasesRestored<'a> {
    pub databases: Vec<RestoredDatabase<'a>>,
    pub failed: Vec<FailedDatabase<'a>>,
    pub not_begun: &'a [String],
    pub outcome: &'static str,
    pub seconds: f64,
}

/// `restore --to-directory`: which dumps are files now.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct DumpsWritten<'a> {
    pub bytes: u64,
    pub directory: &'a str,
    pub failed: Vec<FailedFile<'a>>,
    pub files: Vec<WrittenFile<'a>>,
    pub not_begun: &'a [String],
    pub outcome: &'static str,
    pub readme: Option<&'static str>,
    pub seconds: f64,
}

/// `restore --to-directory`: a dump that is a file now.
#[derive(Debug, Serialize)]
pub struct WrittenFile<'a> {
    pub bytes: u64,
    pub database: Option<&'a str>,
    pub engine: &'static str,
    pub file: &'a str,
    pub stream: String,
}

/// `restore --to-directory`: one that is not there.
#[derive(Debug, Serialize)]
pub struct FailedFile<'a> {
    pub file: &'a str,
    pub why: String,
}
