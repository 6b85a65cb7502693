//! Nights: what a night leaves for the next of the same content, in a file of the cache.
//!
//! It tells nothing that its host could not tell anyway, but of rows that are gone by now: so it is sealed under a key of the host, block by
//! block, and for the user alone. What is not as it was written opens as nothing, which costs bytes: a block its pieces, the
//! end of the file the whole night.
//!
//! ```text
//! mark 8 | salt 16 | commitment 32 | sealed blocks … | sealed end | length of the sealed end 4
//! sealed end: remains | lengths of the sealed blocks | packs found damaged
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::crypto::random;
use crate::crypto::seal::{COMMITMENT_LEN, CommittedKey, TAG_LEN};
use crate::crypto::secret::Secret;
use crate::format::wire::Cursor;
use crate::format::write_varint;
use crate::model::id::{ChunkKey, DomainEpoch, PackId};
use crate::model::series::Series;
use crate::repository::cache::temporary::Temporary;
use crate::repository::session::Session;
use crate::windows::block::{BLOCK_PIECES, NightBlock};
use crate::windows::remains::Remains;
use crate::windows::tomorrow::BlockSink;
use crate::windows::yesterday::Blocks;

const MARK: &[u8; 8] = b"coffreN\x04";
const HEAD_LEN: usize = 8 + 16 + COMMITMENT_LEN;
/// The number under which the end is sealed; blocks count from 0.
const END: u32 = u32::MAX;
/// The longest end and the longest block believed, in bytes.
const SEALED_MAX: u64 = 64 << 20;
/// What nobody went on from for so long is removed: the content has another name by now, or is not backed up any more.
const KEPT_FOR: Duration = Duration::from_secs(60 * DAY);
/// The same where there is no room for more.
const KEPT_WITHOUT_ROOM: Duration = Duration::from_secs(14 * DAY);
/// What waits for its snapshot for so long was left by a run that was killed.
const WAITS_FOR: Duration = Duration::from_secs(3 * DAY);
const DAY: u64 = 24 * 3600;
/// How the extension begins of what waits for its snapshot; a random number follows.
const WAITING: &str = "next";
/// A night takes no more room where less than a tenth of the file system is free, and less than this, in bytes.
const FREE_LEAST: u64 = 1 << 30;
/// Blocks written between two looks at that.
const LOOK_EVERY: usize = 64;

/// Where the nights of one content are kept.
pub struct NightPlace {
    path: PathBuf,
    key: Secret,
    /// What is sealed along: the domain and epoch whose pieces these are, and the content.
    about: Vec<u8>,
    /// Packs in which recipes of this host may be wrong, as far as that was told.
    damaged: BTreeSet<PackId>,
}

impl Session {
    /// Returns where the nights of the content called `name` are kept; `None` when there is no cache. Of `damaged` packs in which this
    /// host's recipes may lie, each makes what was left before it was found unusable, once.
    pub(super) fn nights_of(&self, name: &str, damaged: &BTreeSet<PackId>) -> Option<NightPlace> {
        let directory = self.repository().cache().nights()?;
        let DomainEpoch { domain, epoch } = self.at();
        let about = [&domain.0[..], &epoch.to_le_bytes(), name.as_bytes()].concat();
        let path = directory.join(name).with_extension("night");
        Some(NightPlace { path, key: self.repository().keys().nights_key(), about, damaged: damaged.clone() })
    }
}

impl Session {
    /// Removes what nobody went on from for long, and what killed runs left. Failing only costs room.
    pub fn forget_old_nights(&self) {
        let Some(directory) = self.repository().cache().nights() else { return };
        let Ok(nights) = fs::read_dir(&directory) else { return };
        let has_room = File::open(&directory).is_ok_and(|directory| has_room(&directory));
        let kept_for = if has_room { KEPT_FOR } else { KEPT_WITHOUT_ROOM };
        for night in nights.flatten() {
            let (path, age) = (night.path(), night.metadata().and_then(|it| it.modified()).map(|it| it.elapsed()));
            let is_waiting = path.extension().is_some_and(|it| it.to_string_lossy().starts_with(WAITING));
            let most = if is_waiting { WAITS_FOR } else { kept_for };
            if matches!(age, Ok(Ok(age)) if age > most) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Tells whether there is room for more on the file system of a file, as far as it tells.
fn has_room(file: &File) -> bool {
    let Ok(room) = rustix::fs::fstatvfs(file) else { return true };
    let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
    bytes(room.f_bavail) >= FREE_LEAST.min(bytes(room.f_blocks / 10))
}

/// Returns the name under which nights of a host's content are kept.
pub fn night_name(host: &str, job: &str, content: &[u8]) -> String {
    let sources = vec![b"night".to_vec(), content.to_vec()];
    Series { host: host.to_owned(), job: job.to_owned(), sources }.file_name()
}

impl NightPlace {
    /// Opens what the last night left. `None` where it left nothing, or nothing that can be used; `is_there` tells these apart.
    pub fn open(&self) -> Option<(NightBlocks, Remains)> {
        let file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut head = [0; HEAD_LEN];
        file.read_exact_at(&mut head, 0).ok()?;
        let (mark, rest) = head.split_first_chunk::<8>()?;
        let (salt, commitment) = rest.split_first_chunk::<16>()?;
        let key = CommittedKey::derive(&self.key, salt, "night");
        if mark != MARK || key.check(commitment).is_err() {
            return None;
        }
        let mut end_len = [0; 4];
        file.read_exact_at(&mut end_len, length.checked_sub(4)?).ok()?;
        let end_len = u64::from(u32::from_le_bytes(end_len));
        let end_at = (length - 4).checked_sub(end_len).filter(|_| end_len <= SEALED_MAX)?;
        let mut end = vec![0; end_len as usize];
        file.read_exact_at(&mut end, end_at).ok()?;
        let (remains, rest) = Remains::decode(key.open(END, &self.about, &mut end).ok()?).ok()?;
        let mut cursor = Cursor::new("lengths of blocks", rest);
        let count = cursor.length().ok()?;
        cursor.expect_items(count, 1).ok()?;
        let (mut ends, mut at) = (Vec::with_capacity(count), HEAD_LEN as u64);
        for _ in 0..count {
            at += cursor.varint().ok().filter(|length| *length <= SEALED_MAX)?;
            ends.push(at);
        }
        let count = cursor.length().ok()?;
        cursor.expect_items(count, PackId::LEN).ok()?;
        let known = (0..count).map(|_| cursor.array().ok().map(PackId)).collect::<Option<BTreeSet<PackId>>>()?;
        // A recipe that was found wrong may have been made from what lies here, and would be made so again.
        if !self.damaged.is_subset(&known) {
            return None;
        }
        let is_whole = at == end_at && remains.pieces.div_ceil(BLOCK_PIECES as u64) == ends.len() as u64;
        let about = self.about.clone();
        is_whole.then(|| (NightBlocks { file, key: Arc::new(key), about, ends }, remains))
    }

    /// Tells whether some night left something, usable or not.
    pub fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Says that the content is as the last night left it, so that this is not taken for old.
    pub fn note_unchanged(&self) {
        let _ = File::open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Begins what tonight leaves; `None` when there is no room for it.
    pub fn begin(self) -> Option<NightSink> {
        let temporary = Temporary::create(&self.path).ok().filter(|temporary| has_room(temporary.file()))?;
        let salt = random::<16>();
        let key = CommittedKey::derive(&self.key, &salt, "night");
        let mut file = BufWriter::with_capacity(1 << 18, temporary.file().try_clone().ok()?);
        file.write_all(&[&MARK[..], &salt, key.commitment()].concat()).ok()?;
        Some(NightSink { place: self, temporary, file: Some(file), key: Arc::new(key), lengths: Vec::new() })
    }
}

/// The blocks of a night, read and opened one by one.
pub struct NightBlocks {
    file: File,
    key: Arc<CommittedKey>,
    about: Vec<u8>,
    /// Where each ends in the file.
    ends: Vec<u64>,
}

impl Blocks for NightBlocks {
    fn block(&mut self, number: u64) -> Option<NightBlock> {
        let nth = usize::try_from(number).ok()?;
        let end = *self.ends.get(nth)?;
        let start = nth.checked_sub(1).map_or(HEAD_LEN as u64, |before| self.ends[before]);
        let mut sealed = vec![0; usize::try_from(end - start).ok()?];
        self.file.read_exact_at(&mut sealed, start).ok()?;
        let opened = self.key.open(u32::try_from(number).ok()?, &self.about, &mut sealed).ok()?;
        let block = NightBlock::decode(opened).ok()?;
        (block.is_full() || nth + 1 == self.ends.len()).then_some(block)
    }
}

/// A night's file in the making. What cannot be written, or has no room, is noticed at the end.
pub struct NightSink {
    place: NightPlace,
    temporary: Temporary,
    /// `None` once something could not be written, or there is no room.
    file: Option<BufWriter<File>>,
    key: Arc<CommittedKey>,
    lengths: Vec<u32>,
}

impl NightSink {
    fn write(&mut self, number: u32, mut plain: Vec<u8>) {
        let Some(file) = &mut self.file else { return };
        let tag = self.key.seal(number, &self.place.about, &mut plain);
        if file.write_all(&plain).and_then(|()| file.write_all(&tag)).is_err() {
            self.file = None;
        }
        self.lengths.push((plain.len() + TAG_LEN) as u32);
    }

    /// Completes the file and closes it: a run may store very many contents, and have few files open. It takes its place when it is
    /// [kept](FinishedNight::keep); `None` when it could not be written. It `is_all` when each window of the content is in it.
    pub fn finish(mut self, remains: &Remains, is_all: bool) -> Option<FinishedNight> {
        self.file.as_ref()?;
        let mut end = remains.encode();
        write_varint(self.lengths.len() as u64, &mut end);
        self.lengths.iter().for_each(|length| write_varint(u64::from(*length), &mut end));
        write_varint(self.place.damaged.len() as u64, &mut end);
        self.place.damaged.iter().for_each(|pack| end.extend_from_slice(&pack.0));
        let ends: Vec<u64> = self
            .lengths
            .iter()
            .scan(HEAD_LEN as u64, |at, length| {
                *at += u64::from(*length);
                Some(*at)
            })
            .collect();
        self.write(END, end);
        let length = *self.lengths.last().expect("just written");
        let Self { place: NightPlace { path, about, .. }, temporary, file, key, .. } = self;
        let mut file = file?;
        file.write_all(&length.to_le_bytes()).and_then(|()| file.flush()).ok()?;
        // Runs of one job may store the same content at the same time.
        let waiting = path.with_extension(format!("{WAITING}{:016x}", u64::from_le_bytes(random())));
        temporary.persist(&waiting).ok()?;
        Some(FinishedNight(Arc::new(WrittenNight { file: ClosedNight { waiting, path }, key, about, ends, is_all })))
    }
}

impl BlockSink for NightSink {
    fn put(&mut self, block: &NightBlock) {
        let is_time_to_look = self.lengths.len().is_multiple_of(LOOK_EVERY);
        match u32::try_from(self.lengths.len()) {
            Ok(number) if number < END && (!is_time_to_look || has_room(self.temporary.file())) => {
                self.write(number, block.encode());
            }
            _ => self.file = None,
        }
    }
}

/// What tonight leaves, complete, and not in its place yet: that is for when the snapshot is durable. Clones are the same, and the last
/// one to be dropped removes it.
#[derive(Clone)]
pub struct FinishedNight(Arc<WrittenNight>);

struct WrittenNight {
    file: ClosedNight,
    key: Arc<CommittedKey>,
    about: Vec<u8>,
    /// Where each block ends in the file.
    ends: Vec<u64>,
    is_all: bool,
}

impl WrittenNight {
    /// Opens what was left. `None` where it cannot be opened, or was kept.
    fn blocks(&self) -> Option<NightBlocks> {
        let file = File::open(&self.file.waiting).ok()?;
        Some(NightBlocks { file, key: self.key.clone(), about: self.about.clone(), ends: self.ends.clone() })
    }
}

impl std::fmt::Debug for FinishedNight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FinishedNight")
    }
}

impl FinishedNight {
    /// Puts it in its place, now that what it tells of is stored. Failing only costs the next night bytes.
    pub fn keep(&self) {
        self.0.file.keep();
    }

    /// Gives what it left, and keeps nothing; `None` where there are clones of it.
    pub fn into_blocks(self) -> Option<NightBlocks> {
        Arc::into_inner(self.0)?.blocks()
    }

    /// Gives the file alone, without what reading it takes: a run may read very many large files. `None` where there are clones of it.
    pub fn closed(self) -> Option<ClosedNight> {
        Some(Arc::into_inner(self.0)?.file)
    }

    /// Tells whether `has` is true of every chunk that tonight's recipes of this content name, through all depths, and all these are known; it
    /// is told of each whether it must be stored plain.
    pub fn names_only(&self, has: impl Fn(&ChunkKey, bool) -> bool) -> bool {
        let Some(mut blocks) = self.0.blocks().filter(|_| self.0.is_all) else { return false };
        (0..blocks.ends.len() as u64).all(|number| {
            blocks.block(number).is_some_and(|block| block.all_keys().all(|(key, is_plain)| has(&key, is_plain)))
        })
    }
}

/// What tonight leaves, complete and closed, and not in its place yet. Dropping it removes it.
#[derive(Debug)]
pub struct ClosedNight {
    waiting: PathBuf,
    path: PathBuf,
}

impl ClosedNight {
    /// Puts it in its place, as [`FinishedNight::keep`] does.
    pub fn keep(&self) {
        let _ = fs::rename(&self.waiting, &self.path);
    }
}

impl Drop for ClosedNight {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.waiting);
    }
}
