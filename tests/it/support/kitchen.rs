//! Snapshots whose content is stored as recipes, as a writer of nightly dumps will leave them, and as a hostile one may.

use std::path::Path;
use std::sync::Arc;

use coffre::format::recipe::{Part, Recipe};
use coffre::model::entry::{ChunkRef, Entry, EntryKind, FileContent, Metadata, StreamDetail};
use coffre::model::id::{ChunkId, ChunkKey};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::{Snapshot, SnapshotCounts};
use coffre::model::time::Timestamp;
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::repository::frame::Frame;
use coffre::repository::tree::{ListBuilder, TreeBuilder};
use coffre::repository::writer::{RecipeStored, Writer, WriterOptions};
use coffre::store::Store;

use crate::support::{begin, open, random_bytes};

/// Bytes that a recipe takes from a chunk: the chunk's plaintext, offset and length.
pub type Cut = (Arc<Vec<u8>>, usize, usize);

/// A window and how it is stored.
pub struct Window {
    pub bytes: Arc<Vec<u8>>,
    pub how: How,
}

pub enum How {
    Plain,
    /// By a recipe whose writer makes sure of all that it names, and of what that names through all depths.
    Recipe {
        depth: u8,
        cuts: Vec<Cut>,
        through: Vec<Arc<Vec<u8>>>,
    },
    /// By a recipe of whatever parts, put into a frame unasked.
    Forged(Recipe),
    /// Not at all: it is there already.
    There,
}

impl Window {
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes: Arc::new(bytes), how: How::Plain }
    }

    /// What is cut from chunks, in order.
    pub fn cut(depth: u8, cuts: &[Cut], through: &[Arc<Vec<u8>>]) -> Self {
        let bytes = cuts.iter().flat_map(|(chunk, offset, length)| chunk[*offset..offset + length].to_vec()).collect();
        Self { bytes: Arc::new(bytes), how: How::Recipe { depth, cuts: cuts.to_vec(), through: through.to_vec() } }
    }
}

/// When a night is that nobody dates.
const NIGHT: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The stream of every night.
pub const STREAM: &str = "db/shop.sql";

/// Bytes of a test's own that look like rows.
pub fn rows(seed: u64, len: usize) -> Arc<Vec<u8>> {
    let noise = random_bytes(seed, len / 4 + 1);
    let mut text: Vec<u8> = noise.iter().flat_map(|byte| format!("{byte:03}\n").into_bytes()).collect();
    text.truncate(len);
    Arc::new(text)
}

/// Three nights of a dump of three windows, and what each night's dump was.
pub struct Nights {
    pub snapshots: Vec<Snapshot>,
    pub dumps: Vec<Vec<u8>>,
    /// The windows of the first night, and the new rows of the others.
    pub base: Vec<Arc<Vec<u8>>>,
    pub new: Vec<Arc<Vec<u8>>>,
}

impl Nights {
    /// The first night is stored plain, the second names it, the third names windows of the second and newer rows.
    pub async fn written(store: Arc<dyn Store>, cache: &Path) -> Self {
        Self::written_by(&open(store, cache).await.expect("opened")).await
    }

    /// The same by whoever has opened the repository.
    pub async fn written_by(repository: &Arc<Repository>) -> Self {
        let base: Vec<_> = (0..3).map(|i| rows(i, 300_000 + 10_000 * i as usize)).collect();
        let new = vec![rows(10, 5_000), rows(11, 7_000)];
        let cut = |chunk: &Arc<Vec<u8>>, offset, length| -> Cut { (chunk.clone(), offset, length) };
        let firsts: Vec<Window> = base.iter().map(|base| Window::plain(base.to_vec())).collect();
        // Rows replaced, some moved, and a window as it was.
        let replaced = [cut(&base[0], 0, 100_000), cut(&new[0], 0, 4_000), cut(&base[0], 101_000, 199_000)];
        let moved =
            [cut(&base[1], 200_000, 110_000), cut(&new[0], 4_000, 1_000), cut(&base[0], 5, 9), cut(&base[1], 0, 3)];
        let second = vec![
            Window::cut(1, &replaced, &[]),
            Window::cut(1, &moved, &[]),
            Window { bytes: base[2].clone(), how: How::There },
        ];
        let of_second: Vec<_> = second.iter().map(|window| window.bytes.clone()).collect();
        let through = [base[0].clone(), base[1].clone(), new[0].clone()];
        let of_windows =
            [cut(&of_second[0], 50_000, 200_000), cut(&new[1], 0, 3_500), cut(&of_second[1], 109_998, 1_005)];
        let of_both = [cut(&base[2], 1, 319_000), cut(&of_second[0], 99_990, 4_020), cut(&new[1], 3_500, 3_500)];
        let third = vec![
            Window::cut(2, &of_windows, &through),
            Window { bytes: of_second[1].clone(), how: How::There },
            Window::cut(2, &of_both, &through),
        ];
        let (mut snapshots, mut dumps) = (Vec::new(), Vec::new());
        for (rows, windows) in [(vec![], firsts), (vec![new[0].clone()], second), (vec![new[1].clone()], third)] {
            dumps.push(windows.iter().flat_map(|window| window.bytes.to_vec()).collect());
            snapshots.push(night_of(repository, NIGHT, &rows, vec![(STREAM, windows)]).await);
        }
        Self { snapshots, dumps, base, new }
    }
}

/// Who names chunks: their ids depend on the domain's secret.
pub async fn ids(store: Arc<dyn Store>, cache: &Path) -> impl Fn(&[u8]) -> ChunkId {
    let repository = open(store, cache).await.expect("opened");
    let index = begin(&repository).await;
    let writer = Writer::start(index, settings(), Arc::new(Collected::default()));
    move |plain: &[u8]| writer.id(plain)
}

fn settings() -> WriterOptions {
    WriterOptions { pack_target_bytes: 8 << 20, packs_in_flight: 1, level: 3, dry_run: false, extra_check: true }
}

/// Stores `rows`, one frame for each, and a snapshot with one stream of `windows` for each name, as one run does.
pub async fn night(
    store: Arc<dyn Store>,
    cache: &Path,
    rows: &[Arc<Vec<u8>>],
    streams: Vec<(&str, Vec<Window>)>,
) -> Snapshot {
    night_at(store, cache, NIGHT, rows, streams).await
}

/// The same in the night of a time.
pub async fn night_at(
    store: Arc<dyn Store>,
    cache: &Path,
    started: Timestamp,
    rows: &[Arc<Vec<u8>>],
    streams: Vec<(&str, Vec<Window>)>,
) -> Snapshot {
    night_of(&open(store, cache).await.expect("opened"), started, rows, streams).await
}

async fn night_of(
    repository: &Arc<Repository>,
    started: Timestamp,
    rows: &[Arc<Vec<u8>>],
    streams: Vec<(&str, Vec<Window>)>,
) -> Snapshot {
    let index = begin(repository).await;
    let (id, at, author) = (index.session().id(), index.session().at(), index.session().author());
    let writer = Writer::start(index, settings(), Arc::new(Collected::default()));
    let rows = rows.to_vec();
    let streams: Vec<_> = streams.into_iter().map(|(name, windows)| (name.to_owned(), windows)).collect();
    let (writer, root, counts) = tokio::task::spawn_blocking(move || {
        let (root, counts) = write(&writer, &rows, &streams);
        writer.flush().expect("stored");
        (writer, root, counts)
    })
    .await
    .expect("no panic");
    let committer = writer.finish().await.expect("stored");
    let mut snapshot = Snapshot {
        started,
        finished: started,
        host: "host".into(),
        user: "user".into(),
        job: "nightly".into(),
        sources: vec![b"db".to_vec()],
        program: "a test".into(),
        root,
        counts,
        ..Snapshot::blank(committer.new_snapshot_id(started, &[]), id, at, author)
    };
    committer.commit(&mut snapshot).await.expect("committed");
    snapshot
}

fn write(
    writer: &Writer,
    rows: &[Arc<Vec<u8>>],
    streams: &[(String, Vec<Window>)],
) -> (coffre::model::snapshot::TreeRoot, SnapshotCounts) {
    let (mut frame, mut compressor) = (Frame::default(), writer.compressor());
    let mut store = |plain: &[u8]| {
        let id = writer.id(plain);
        if writer.claim(&id) {
            frame.push(&id, plain);
            writer.store_frame(&mut frame, &mut compressor).expect("stored");
        }
    };
    rows.iter().for_each(|rows| store(rows));
    let mut tree = TreeBuilder::new(writer);
    let mut counts = SnapshotCounts::default();
    for (name, windows) in streams {
        let (mut list, mut size) = (ListBuilder::default(), 0);
        for Window { bytes, how } in windows {
            let id = writer.id(bytes);
            match how {
                How::Plain => store(bytes),
                How::Recipe { depth, cuts, through } => {
                    let part = |(chunk, offset, length): &Cut| -> Part {
                        (writer.id(chunk).key(), *offset as u32, *length as u32)
                    };
                    let parts: Vec<Part> = cuts.iter().map(part).collect();
                    let through: Vec<ChunkKey> = through.iter().map(|chunk| writer.id(chunk).key()).collect();
                    let recipe = Recipe::new(*depth, &parts).expect("a recipe");
                    let stored = writer.store_recipe(&id, &recipe, &through).expect("goes on");
                    assert!(stored != RecipeStored::Not, "what it names is there");
                }
                How::Forged(recipe) => {
                    let (mut frame, mut compressor) = (Frame::default(), writer.compressor());
                    frame.push_recipe(&id, recipe);
                    writer.store_frame(&mut frame, &mut compressor).expect("stored");
                }
                How::There => {}
            }
            list.push(ChunkRef { id, length: bytes.len() as u32 }, writer).expect("stored");
            size += bytes.len() as u64;
        }
        let chunks = list.finish(writer).expect("stored");
        let content = FileContent { size, chunks, holes: Vec::new() };
        let path = EntryPath::new(name.as_bytes()).expect("safe");
        let kind = EntryKind::Stream(content, StreamDetail::default());
        tree.push(&Entry { path, kind, metadata: Metadata { mode: 0o600, ..Metadata::default() } }).expect("stored");
        counts.streams += 1;
        counts.bytes += size;
    }
    (tree.finish().expect("stored"), counts)
}
