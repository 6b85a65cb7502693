//! `coffre` keeps encrypted, deduplicated backups of file trees and streams in S3 buckets or a directory, restores them
//! on a bare machine, and proves that they restore.
//!
//! The way of the data, and where it is in the code:
//!
//! ```text
//!            source ──▶ chunker ──▶ repository::writer ──▶ repository::packer ──▶ repository::uploader ──▶ store
//! ops::backup  files     cut         id, claim, frame        seal into packs        packs, then index       put
//!              streams               (crypto, compress)      (format::pack)         then the snapshot
//!
//!            sink   ◀── repository::reader ◀───────────────── repository::index ◀──────────────────────── store
//! ops::restore place     open, decompress, check id            locate                                       get range
//! ```
//!
//! A program uses it as the command line does: [`open`](open()) a location, [`init`](init()) a repository there or [`Repository::open`] it,
//! then call an operation. What an operation needs and tells is named here at the root; everything else is private.
//!
//! ```
//! use std::{fs, io::Cursor, sync::Arc};
//!
//! use coffre::{BackupOptions, Cancel, Collected, Ended, Given, Location, OpenMode, OpenOptions, Outcome, Passphrase};
//! use coffre::{ReadData, Repository, RestoreOptions, SnapshotFilter, VerifyOptions, WalkOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let place = tempfile::tempdir()?;
//! let shop = place.path().canonicalize()?.join("shop");
//! fs::create_dir(&shop)?;
//! fs::write(shop.join("prices"), "bread 3.20\n")?;
//!
//! // A repository in a directory; a bucket is "s3://ENDPOINT/BUCKET/PREFIX".
//! let location: Location = place.path().join("backups").to_str().expect("plain").parse()?;
//! let mut opening = OpenOptions::default();
//! opening.mode = OpenMode::Create;
//! let monitor = Arc::new(Collected::default());
//! let store = coffre::open(&location, &opening, monitor.clone())?;
//! let passphrase = Passphrase::new("correct horse battery staple".into());
//! let cache = place.path().join("cache");
//! let made = coffre::init(store.clone(), passphrase.clone(), &Default::default(), Default::default(), &cache).await?;
//! drop(made.repository); // Its recovery identity opens it, too, and is shown only now.
//!
//! // One run: a directory, and bytes that this program has or can make.
//! let repository = Arc::new(Repository::open(store, &passphrase, &cache).await?);
//! let mut files = WalkOptions::default();
//! files.roots.push(shop.clone());
//! let mut options = BackupOptions::default();
//! options.files = Some(files);
//! options.sources.push(Arc::new(Given::reader("orders.csv", Cursor::new("bread;2\n"))));
//! let report = coffre::backup(repository.clone(), options, monitor.clone(), Cancel::default()).await?;
//! assert_eq!(report.outcome(), Outcome::Clean);
//!
//! // Both come back, byte for byte.
//! let snapshot = repository.find_snapshot("latest", &SnapshotFilter::default()).await?;
//! assert_eq!(Some(&snapshot), report.snapshot.as_ref());
//! let restored = place.path().join("restored");
//! let options = RestoreOptions::new(snapshot, &restored);
//! let report = coffre::restore(repository.clone(), options, monitor.clone(), Cancel::default()).await?;
//! assert_eq!(report.outcome(), Outcome::Clean);
//! let prices = restored.join(shop.strip_prefix("/")?).join("prices");
//! assert_eq!(fs::read_to_string(prices)?, "bread 3.20\n");
//! assert_eq!(fs::read_to_string(restored.join("orders.csv"))?, "bread;2\n");
//!
//! // And whatever is stored is what it was.
//! let mut options = VerifyOptions::default();
//! options.read_data = ReadData::All;
//! let report = coffre::verify(repository, options, monitor, Cancel::default()).await?;
//! assert_eq!(report.outcome(), Outcome::Clean);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! [`Given`] stores standard input, commands and readers; [`Source`] is for sources of one's own, [`Store`] for places
//! (the feature `store-contract` has the rules that each must keep, as tests), [`databases`] for databases. `examples/quickstart.rs` shows the main job from end to end.
//!
//! [`design`] has the words, the invariants and the memory formula; [`specification`] is `docs/format.md`,
//! which specifies every stored byte.

// What cannot be written to a terminal or a pipe that has gone is dropped; these would panic.
// Such a link stands as a name in the documentation, and whoever reads the code can follow it.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

pub use cancel::Cancel;
pub use format::config::ChunkerProfile;
pub use model::anomaly::AnomalyKind;
pub use model::entry::{Entry, EntryKind, FileContent, Metadata, StreamDetail};
pub use model::id::RepositoryId;
pub use model::key::{ObjectKey, ObjectKind};
pub use model::outcome::{Ended, Outcome};
pub use model::path::EntryPath;
pub use model::snapshot::{Anomaly, MissingStream, Position, Snapshot, SnapshotCounts, SnapshotId};
pub use model::time::{Clock, Timestamp};
pub use ops::backup::{
    AnomalyLimits, BackupError, BackupOptions, BackupReport, Comparison, FailedStream, GroupBy, ParentChoice,
    StreamOptions, backup,
};
pub use ops::diff::{Change, DiffReport, diff};
pub use ops::dump::{DumpError, DumpReport, dump};
pub use ops::find::find;
pub use ops::init::{InitReport, init};
pub use ops::ls::ls;
pub use ops::prune::{
    MaxUnused, PackToRewrite, PruneError, PruneOptions, PrunePlan, PruneReport, PruneUnfinished, Stays, prune,
};
pub use ops::reach::{SessionTimes, SnapshotReach, reach};
pub use ops::restore::{
    NotWhole, Overwrite, PatternError, RestoreError, RestoreOptions, RestoreReport, Selection, count_extras,
    remove_extras, restore,
};
pub use ops::salvage::{GapFill, SalvageGap, SalvageReport, salvage};
pub use ops::snapshots::{SnapshotsReport, named_or_all, snapshots};
pub use ops::stats::{KindStats, StatsReport, stats};
pub use ops::verify::{
    Coverage, Finding, FindingSubject, LostRun, ReadData, VerifyError, VerifyOptions, VerifyReport, verify,
};
pub use ops::{LookError, open_reader};
pub use progress::{Collected, Counter, EntryEvent, Monitor, Problem, ProblemKind, Problems, Totals, Waiting};
pub use repository::choose::SnapshotFilter;
pub use repository::known::{Expected, KnownRepositories, Pin};
pub use repository::places::LocalPlaces;
pub use repository::reader::Reader;
pub use repository::reader::reach::Reach;
pub use repository::reader::walk::LostPart;
pub use repository::replicas::{Replica, Replicas};
pub use repository::running::RunningSession;
pub use repository::slots::{Identities, IdentityError, IdentityFile, Opener, Passphrase, ProtectedIdentity};
pub use repository::snapshots::SnapshotError;
pub use repository::{Fingerprint, InitOptions, OpenError, Opened, Repository};
pub use sink::choice::AttributeChoice;
pub use sink::target::TargetOptions;
pub use source::files::{Mark, WalkOptions};
pub use source::given::Given;
pub use source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};
pub use store::layer::retry::RetryOptions;
pub use store::location::{Location, S3Location};
pub use store::memory::MemoryStore;
pub use store::s3::credentials::S3Credentials;
pub use store::s3::{S3Options, Timeouts};
pub use store::signs::{Request, Seen, Signs};
pub use store::tampering::{Tampered, Tampering};
pub use store::transfer::Transfer;
pub use store::{ObjectInfo, OpenMode, OpenOptions, Store, StoreError, StoreErrorKind, open};

/// Databases: what knows how to dump and restore them, and the operation that restores.
pub mod databases {
    pub use crate::database::DatabaseError;
    pub use crate::database::chosen::{NamePatternError, NamePatterns};
    pub use crate::database::clients::Clients;
    pub use crate::database::tables::TableExclusions;
    pub use crate::database::url::{DatabaseUrl, UrlError, UrlKind};
    pub use crate::engine::compare::{DifferingTable, DumpedRows, FoundTable, RowsComparison};
    pub use crate::engine::dump::{DumpRequest, Flag, FlagKind, FlagValues};
    pub use crate::engine::feed::{FeedError, Heard, Said};
    pub use crate::engine::parts::{DumpAspect, DumpParts};
    pub use crate::engine::place::{Place, Places};
    pub use crate::engine::plan::{Asked, Judgement, StreamKind};
    pub use crate::engine::restore::{Cause, Restoring, Stored, StoredError, Unrestored, Wishes};
    pub use crate::engine::tally::{
        CountedTable, CountedTables, ROWS_BY_TABLE, ROWS_DIGESTED, ROWS_NOT_COUNTED, RowTally, RowsDigest,
    };
    pub use crate::engine::{Engine, Engines, ServerWords, Words};
    pub use crate::model::facts::{Fact, FactValue, StreamFacts, fact};
    pub use crate::ops::restore_database::{
        Choice, DatabasePlan, DatabaseTarget, Plan, Replaced, RestoreDatabaseError, RestoreDatabaseOptions,
        RestoreDatabaseReport, RestoredDatabase, StreamToRestore, apply, plan,
    };
    pub use crate::process::CommandOptions;
}

/// What a store of one's own must do, as rules to hold it against; with the feature `store-contract`.
#[cfg(any(feature = "internals", feature = "store-contract"))]
pub mod store_contract {
    pub use crate::store::contract::{RULES, check};
}

/// Which snapshots stay: rules and their reasons, forgetting and bringing back, holds. Nothing is deleted by it.
pub mod retention {
    pub use crate::model::hold::{Forgotten, Hold};
    pub use crate::model::retention::{
        Fate, KeepReason, Lookback, LookbackError, Period, Policy, RetentionDecision, Rule, Standing, decide,
    };
    pub use crate::model::series::{Sequence, Series};
    pub use crate::ops::forget::{
        ForgetError, ForgetPlan, PlannedSequence, Policies, WantedForgotten, apply, give_up, hold, plan, release, undo,
    };
    pub use crate::repository::access::Deleting;
    pub use crate::repository::retention::ToldBy;
}

/// Being watched: what ran, whether backups and the work on a repository are as new as they should be, and what is due.
pub mod watching {
    pub use crate::model::due::Every;
    pub use crate::model::run::{RunId, RunKind, RunRecord, count};
    pub use crate::ops::status::{
        ExpectedJob, FailedRun, Growth, LastBackup, SeriesAmiss, SeriesStatus, Status, StatusOptions, VerifiedShare,
        WorkAmiss, WorkStatus, last_done, status,
    };
    pub use crate::repository::access::{Reading, Writing};
    pub use crate::repository::runs::{NoteRunError, RunLog};
}

/// Errors that are the cause of others.
pub mod errors {
    pub use crate::model::id::ParseIdError;
    pub use crate::model::path::PathError;
    pub use crate::repository::index::IndexError;
    pub use crate::repository::reader::ReadError;
    pub use crate::repository::reader::content::ContentError;
    pub use crate::repository::replicas::NoneRequired;
    pub use crate::repository::rewriting::RewriteError;
    pub use crate::repository::uploader::UploadError;
    pub use crate::repository::{CryptoError, FormatError};
    pub use crate::sink::choice::ChoiceError;
    pub use crate::sink::error::TargetError;
    pub use crate::source::files::WalkError;
    pub use crate::store::location::ParseLocationError;
}

#[cfg(feature = "internals")]
pub use inside::*;
#[cfg(not(feature = "internals"))]
use inside::*;

/// What the crate is made of. Nobody outside sees it, but for what is named above; the feature `internals` opens it to the
/// crate's own tests and benchmarks, and promises nothing.
#[path = "."]
mod inside {
    pub mod blocking;
    pub mod cancel;
    pub mod chunker;
    pub mod compress;
    pub mod crypto;
    pub mod database;
    pub mod engine;
    pub mod format;
    pub mod fs;
    #[cfg(test)]
    mod limits;
    pub mod model;
    pub mod ops;
    pub mod process;
    pub mod progress;
    pub mod repository;
    pub mod sink;
    pub mod source;
    pub mod store;
    #[cfg(test)]
    mod vectors;
    pub mod web;
    pub mod windows;
}

/// The command line, for `main.rs`. It prints, and only its behaviour is stable.
#[doc(hidden)]
pub mod cli;

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("../docs/format.md")]
pub mod specification {}
