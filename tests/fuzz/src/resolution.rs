//! Recipes that name each other in any way, stored in a repository and read again.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::format::recipe::{Part, Recipe};
use coffre::model::id::ChunkId;
use coffre::model::time::{Clock, Timestamp};
use coffre::progress::Collected;
use coffre::repository::frame::Frame;
use coffre::repository::index::Index;
use coffre::repository::index::checked::CheckedIndex;
use coffre::repository::reader::Reader;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::{InitOptions, MAIN_DOMAIN, Repository};
use coffre::store::Store;
use coffre::store::memory::MemoryStore;
use tokio::runtime::Runtime;

/// Lengths of the chunks that are stored plain.
const PLAIN: [usize; 3] = [1, 300, 5000];
/// Bytes of input that tell of one part: which chunk, offset, length.
const PART_LEN: usize = 5;
/// Recipes of one input, and parts of one recipe.
const MOST: usize = 12;

/// An empty repository, and what runs what waits.
struct World {
    runtime: Runtime,
    empty: MemoryStore,
    cache: tempfile::TempDir,
}

fn passphrase() -> Passphrase {
    Passphrase::new("x".into())
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("made");
    let cache = tempfile::tempdir_in("/dev/shm").expect("made");
    let empty = MemoryStore::default();
    let init = async {
        let locks = [(SlotLock::Recovery(passphrase()), "")];
        let now = Timestamp::from_seconds(1_800_000_000);
        Repository::init(Arc::new(empty.clone()), &locks, &InitOptions::default(), now, cache.path()).await
    };
    runtime.block_on(init).expect("an empty store takes a repository");
    World { runtime, empty, cache }
});

/// A chunk: its id, its content if it can be had, and how deep its recipe is.
type Chunk = (ChunkId, Option<Vec<u8>>, u8);

/// What bytes tell to store.
fn made(writer: &Writer, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for length in PLAIN {
        let plain: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        let mut frame = Frame::default();
        frame.push(&writer.id(&plain), &plain);
        frames.push(frame);
        chunks.push((writer.id(&plain), Some(plain), 0));
    }
    let mut recipes = Frame::default();
    while let Some((&head, rest)) = bytes.split_first().filter(|_| chunks.len() < PLAIN.len() + MOST) {
        let (depth, count) = (1 + head % 5, 1 + usize::from(head / 5) % MOST);
        let parts_len = (count * PART_LEN).min(rest.len() / PART_LEN * PART_LEN);
        let (parts, rest) = rest.split_at(parts_len);
        bytes = rest;
        let mut content = Some(Vec::new());
        let mut named: Vec<Part> = Vec::new();
        for part in parts.chunks_exact(PART_LEN) {
            let two = |at| u32::from(u16::from_le_bytes([part[at], part[at + 1]]));
            let (which, offset, length) = (usize::from(part[0]), two(1), two(3));
            // One behind all that are there: nowhere. Another bit: itself, as far as it can be named.
            let chunk = chunks.get(which % (chunks.len() + 1));
            let key = chunk.map_or([0xee; 16], |(id, ..)| id.key().0);
            named.push((coffre::model::id::ChunkKey(key), offset, length));
            let of = chunk.filter(|(.., below)| *below < depth).and_then(|(_, bytes, _)| bytes.as_ref());
            let of = of.and_then(|bytes| bytes.get(offset as usize..offset as usize + length as usize));
            content = content.zip(of).map(|(mut content, part)| {
                content.extend_from_slice(part);
                content
            });
        }
        let Ok(recipe) = Recipe::new(depth, &named) else { continue };
        let content = content.filter(|content| content.len() == recipe.length() as usize);
        let id = match &content {
            Some(content) => writer.id(content),
            // It lies, or names what cannot be had. Some stand in the place of others.
            None if head & 0x80 != 0 => chunks[usize::from(head) % chunks.len()].0,
            None => writer.id(&recipe.encode()),
        };
        recipes.push_recipe(&id, &recipe);
        chunks.push((id, content, depth));
    }
    frames.push(recipes);
    chunks
}

pub fn run(bytes: &[u8]) {
    let world = &*WORLD;
    let store: Arc<dyn Store> = Arc::new(world.empty.fork());
    let (repository, writer) = world.runtime.block_on(async {
        let repository = Repository::open(store, &passphrase(), world.cache.path()).await.map(Arc::new).expect("opens");
        let session = repository.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
        let index = CheckedIndex::load(&session, 0, Clock::System.now(), &Collected::default()).await.expect("loaded");
        let (pack_target_bytes, packs_in_flight, level) = (1 << 20, 1, 1);
        let (dry_run, extra_check) = (false, false);
        let options = WriterOptions { pack_target_bytes, packs_in_flight, level, dry_run, extra_check };
        (repository, Writer::start(Arc::new(index), options, Arc::new(Collected::default())))
    });
    let mut frames = Vec::new();
    let chunks = made(&writer, bytes, &mut frames);
    for frame in &mut frames {
        writer.store_frame(frame, &mut writer.compressor()).expect("stored");
    }
    writer.flush().expect("stored");
    // Of what is stored twice, one that can be had counts.
    let mut wanted: HashMap<ChunkId, Option<Vec<u8>>> = HashMap::new();
    for (id, content, _) in chunks {
        assert!(content.as_ref().is_none_or(|content| writer.id(content) == id));
        let known = wanted.entry(id).or_default();
        *known = known.take().or(content);
    }
    world.runtime.block_on(async {
        writer.finish().await.expect("stored");
        let monitor = Arc::new(Collected::default());
        let index = Arc::new(Index::load(&repository, &*monitor).await.expect("loaded"));
        let reader = Arc::new(Reader::new(repository.reading().expect("may"), index, 128 << 20, monitor));
        for (id, content) in wanted {
            let read = reader.chunk(&id).await;
            match content {
                Some(content) => assert!(read.expect("it can be had") == content),
                None => assert!(read.is_err(), "a recipe that lies, or names what cannot be had, gives nothing"),
            }
        }
    });
}
