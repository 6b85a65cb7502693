//! Verify: everything that must be there is there, and, when asked, every byte of it is what it was.
//!
//! Three steps, each with what the ones before found: objects (listed, opened, sizes compared with the index), data (packs
//! opened and every chunk id checked, what recipes make among them, when asked), trees (every node read, every referenced
//! chunk located, with all that its recipe names). What is damaged
//! is named together with the snapshots and files that it hits.

use std::sync::Arc;
use std::time::Duration;

use crate::model::id::{ChunkId, PackId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::SnapshotId;
use crate::model::time::{Clock, Timestamp};
use crate::ops::verify::foreign::ForeignNames;
use crate::ops::{Cancel, LookError};
use crate::process::own::PROGRAM;
use crate::progress::Monitor;
use crate::repository::index::Index;
use crate::repository::ledger::ReadingRecord;
use crate::repository::reader::{ReadError, Reader};
use crate::repository::{Repository, StoreError};

mod coverage;
mod damage;
mod data;
mod findings;
mod foreign;
mod found;
mod healing;
mod objects;
mod slots;
mod tampering;
mod trees;
mod vouching;

pub use coverage::Coverage;
pub use damage::{Damage, FindingSubject};
pub use healing::Healing;
pub use vouching::Vouched;

use data::DataCheck;
use found::FoundDamage;
use healing::HealingPlan;

/// How much of the data is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None: objects, index and trees only.
    No,
    /// All of it.
    All,
    /// This part of the packs, in percent; the next run goes on where this one ends.
    Percent(f64),
    /// Packs of about this many bytes; the next run goes on where this one ends.
    Bytes(u64),
    /// The `nth` of `of` shares, counted from 1; which packs belong to a share depends on their ids alone.
    Share {
        /// The share, from 1.
        nth: u16,
        /// How many there are.
        of: u16,
    },
}

/// How to verify.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct VerifyOptions {
    /// How much of the data is read.
    pub read_data: ReadData,
    /// Memory to stay within, in bytes.
    pub memory_bytes: u64,
    /// Host that the record of this run names.
    pub host: String,
    /// Tells the time.
    pub clock: Clock,
    /// Whether writers are told what was found, so that backups store again what is damaged.
    pub heal: bool,
}

impl Default for VerifyOptions {
    /// Nothing is read, 256 MiB, no host; writers are told.
    fn default() -> Self {
        let (read_data, host, clock) = (ReadData::No, String::new(), Clock::System);
        Self { read_data, memory_bytes: 256 << 20, host, clock, heal: true }
    }
}

/// Something damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is wrong with.
    pub object: FindingSubject,
    /// What is wrong with it.
    pub damage: Damage,
    /// The snapshots that it hits, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Chunks that are stored as recipes and need it to be put together, at most fifty.
    pub windows: Vec<ChunkId>,
    /// Paths that cannot be restored whole, at most fifty.
    pub paths: Vec<String>,
    /// How many paths there are in all, over all snapshots.
    pub path_count: u64,
    /// What is lost of these paths in these snapshots, at most fifty runs of bytes.
    pub lost: Vec<LostRun>,
    /// How many bytes are lost, over all snapshots: those that several lack count in each.
    pub lost_bytes: u64,
}

/// Bytes of a file or stream that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRun {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path, with a slash before it.
    pub path: String,
    /// Where they begin in it.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

/// What a verification looked at and found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Snapshots opened.
    pub snapshots: u64,
    /// Index segments opened.
    pub segments: u64,
    /// Packs compared with the index.
    pub packs: u64,
    /// Chunks that the index locates.
    pub chunks: u64,
    /// Entries seen, each tree node counted once.
    pub entries: u64,
    /// Packs whose data was read.
    pub packs_read: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Whether the reading of parts has now reached everything since it last began.
    pub cycle_completed: bool,
    /// What was read by this run and those before.
    pub coverage: Coverage,
    /// When the run ended.
    pub finished: Timestamp,
    /// Damage; what is healed is not among it.
    pub findings: Vec<Finding>,
    /// Whether there is more damage than findings, or a finding names less than it hits, because it would not fit into memory.
    pub findings_left_out: bool,
    /// What becomes of damaged packs.
    pub healing: Healing,
    /// What became of packs that writers alone name.
    pub vouched: Vouched,
    /// What is odd and harms nothing: objects that are not ours, packs that nothing refers to.
    pub notes: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

impl Ended for VerifyReport {
    fn outcome(&self) -> Outcome {
        if self.findings.is_empty() && !self.findings_left_out { Outcome::Clean } else { Outcome::Damaged }
    }
}

/// Why verifying could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The repository may not be read, or the index or the snapshots not be had.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The store failed.
    #[error("the repository could not be read")]
    Store(#[from] StoreError),
    /// A part of the data is out of reach.
    #[error("not everything could be read, which says nothing about the rest")]
    Read(#[from] ReadError),
    /// Ending was asked for.
    #[error("interrupted")]
    Cancelled,
}

impl Ended for VerifyError {
    fn outcome(&self) -> Outcome {
        match self {
            VerifyError::Look(error) => error.outcome(),
            VerifyError::Store(error) => error.outcome(),
            VerifyError::Read(error) => error.outcome(),
            VerifyError::Cancelled => Outcome::Interrupted,
        }
    }
}

/// Verifies a repository: the replica that is asked first, without help from the others. [`Repository::alone`] gives another.
/// Writers are told of damaged packs in every replica that is written to, unless `options` leave that out; where that is not
/// possible the report says so.
///
/// # Errors
/// [`VerifyError`] when it could not be done; damage is no error but in the report.
pub async fn verify(
    repository: Arc<Repository>,
    options: VerifyOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<VerifyReport, VerifyError> {
    let begun = std::time::Instant::now();
    repository.reading().map_err(LookError::Access)?;
    let written_to = repository.clone();
    let alone = repository.alone(repository.first_replica()).expect("the first replica has its own name");
    let repository = Arc::new(alone);
    let mut report = VerifyReport::default();
    let mut damage = FoundDamage::within(options.memory_bytes);
    let mut foreign = ForeignNames::default();

    monitor.phase("checking objects");
    slots::check(&repository, &mut report, &mut damage, &mut foreign).await?;
    // Before the index: what these need is in segments by then. Reading data can take hours, and backups run beside it.
    let listed_snapshots = repository.objects().snapshots().await?;
    let sums = objects::check(&repository, &mut report, &mut damage, &mut foreign).await?;
    let mut index = Index::load(&repository, &*monitor).await.map_err(LookError::Index)?;
    monitor.phase("comparing the index");
    // All segments were just opened, so what the cache made of them need not be taken on trust.
    index.compare(&repository, &sums, &*monitor).await.map_err(LookError::Index)?;
    let listed = objects::listed_packs(&mut index, &repository, options.clock.now(), &*monitor, &mut damage).await?;
    let reading = repository.reading().map_err(LookError::Access)?;
    let reader = Arc::new(Reader::new(reading, Arc::new(index), options.memory_bytes, monitor.clone()));
    objects::compare_packs(&reader, &listed, &mut report, &mut damage, &mut foreign).await?;

    let run = DataCheck {
        reader: &reader,
        written_to: &written_to,
        options: &options,
        sizes: &listed.sizes,
        monitor: &monitor,
        cancel: &cancel,
    };
    let read = noted_data(&run, &mut report, &mut damage).await?;
    objects::name_liars(&reader, &mut damage).await?;
    monitor.phase("checking trees");
    foreign.add_all(&listed_snapshots.foreign);
    let cleanups = trees::check(&reader, listed_snapshots.ids, &monitor, &cancel, &mut report, &mut damage).await?;
    report.notes.extend(foreign.notes());
    let plan = HealingPlan::of(reader.index(), &cleanups.found_damaged(), &read, &mut damage);
    tampering::tell(&repository, &cleanups, &mut report, &mut damage);
    report.healing = plan.carry_out(&written_to, options.heal, options.clock.now(), &*monitor).await;

    report.findings_left_out = damage.findings.is_cut();
    report.findings = damage.findings.into_all();
    report.finished = options.clock.now();
    report.duration = begun.elapsed();
    Ok(report)
}

/// Reads the data that is due, if any is, and notes in the repository what was read and found right, which it returns.
async fn noted_data(
    run: &DataCheck<'_>,
    report: &mut VerifyReport,
    damage: &mut FoundDamage,
) -> Result<Vec<PackId>, VerifyError> {
    let DataCheck { reader, options, monitor, .. } = *run;
    let repository = reader.repository();
    monitor.phase("looking for earlier verifications");
    let mut ledger = repository.ledger().await?;
    report
        .notes
        .extend(ledger.damaged().iter().map(|key| format!("{key} cannot be opened; what it alone knew is forgotten")));
    let (mut read, mut not_noted) = (Vec::new(), None);
    if options.read_data != ReadData::No {
        let (host, cursor) = (options.host.clone(), ledger.cursor());
        let mut reading = ReadingRecord { host, program: PROGRAM, cursor, ..ReadingRecord::default() };
        let outcome = data::check(run, report, damage, &mut reading).await;
        // Whatever ended it, what was read was read.
        reading.finished = options.clock.now();
        monitor.phase("noting what was read");
        let packs: Vec<PackId> = reader.index().packs().iter().map(|pack| pack.id).collect();
        let noted = match reading.packs.is_empty() {
            true => Ok(()),
            false => repository.note_reading(&mut ledger, &reading, &packs).await,
        };
        outcome?;
        read = reading.packs;
        not_noted = noted.err().map(|error| error.to_string());
    }
    let usable = reader.index().packs().into_iter().map(|pack| pack.id).filter(|pack| !damage.packs.contains(pack));
    report.coverage = Coverage { not_noted, ..Coverage::of(&usable.collect::<Vec<_>>(), &ledger) };
    Ok(read)
}
