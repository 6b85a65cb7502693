//! Tables of the cache that are as they were written, and were written wrong: no verb believes them over the store.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::format::index::PackEntry;
use coffre::format::pack::PackKind;
use coffre::model::author::Author;
use coffre::model::key::ObjectKind;
use coffre::ops::open_reader;
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::repository::index::open_segment;
use coffre::repository::index::table::write_table;
use coffre::store::layer::Operation;
use coffre::store::layer::record::RecordStore;
use coffre::store::local::LocalStore;
use coffre::store::{OpenMode, Store};

use crate::support::desk::{Desk, Run};
use crate::support::{Bench, files_in, open, random_bytes};

/// What is wrong with a table: its packs as they should not be.
type Wrong = fn(&mut Vec<PackEntry>);

fn data(packs: &mut [PackEntry]) -> impl Iterator<Item = &mut PackEntry> {
    packs.iter_mut().filter(|pack| pack.kind == PackKind::Data)
}

/// Each with whether reading must notice it; verifying must notice all.
const WRONG: [(&str, bool, Wrong); 8] = [
    ("nothing in it", true, Vec::clear),
    ("entries missing", true, |packs| {
        for frame in packs.iter_mut().flat_map(|pack| &mut pack.directory.frames) {
            frame.chunks.pop();
        }
    }),
    ("entries in another pack", true, |packs| {
        let mut directories: Vec<_> = data(packs).map(|pack| pack.directory.clone()).collect();
        directories.rotate_left(1);
        data(packs).zip(directories).for_each(|(pack, directory)| pack.directory = directory);
    }),
    ("entries in another frame", true, |packs| {
        for pack in data(packs) {
            let mut chunks: Vec<_> = pack.directory.frames.iter().map(|frame| frame.chunks.clone()).collect();
            chunks.rotate_left(1);
            pack.directory.frames.iter_mut().zip(chunks).for_each(|(frame, chunks)| frame.chunks = chunks);
        }
    }),
    ("entries at another offset", true, |packs| {
        packs.iter_mut().flat_map(|pack| &mut pack.directory.frames).for_each(|frame| frame.chunks.reverse());
    }),
    ("frames at another offset", true, |packs| {
        packs.iter_mut().for_each(|pack| pack.directory.frames[0].sealed_len += 16);
    }),
    ("another key of the packs", true, |packs| packs.iter_mut().for_each(|pack| pack.commitment[0] ^= 1)),
    ("another length of the packs", false, |packs| packs.iter_mut().for_each(|pack| pack.size += 1)),
];

/// A desk with two snapshots whose data lies in packs of several frames.
struct Wronged {
    desk: Desk,
    store: Arc<dyn Store>,
    repository: Repository,
}

impl Wronged {
    async fn new() -> Self {
        let desk = Desk::with_repository();
        for seed in 0..2 {
            // More than any one frame takes, however few threads read it and wherever chunks end.
            for i in 0..6 {
                let bytes = random_bytes(10 * seed + i, 900_000);
                std::fs::write(desk.at(&format!("source/{seed}-{i}")), bytes).expect("written");
            }
            desk.backup();
        }
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&desk.at("repository"), OpenMode::Write).expect("there"));
        let passphrase = Passphrase::new(std::fs::read_to_string(desk.at("password")).expect("there"));
        let other_cache = desk.at("other-cache");
        let repository = Repository::open(store.clone(), &passphrase, &other_cache).await.expect("opens");
        Self { desk, store, repository }
    }

    /// Puts one table that says something else of all segments in place of those in the cache.
    async fn harm(&self, wrong: Wrong) {
        let (mut segments, mut packs) = (Vec::new(), Vec::new());
        for object in self.store.list(ObjectKind::Index.prefix()).await.expect("listed") {
            let id = object.key.segment_id().expect("ours");
            let bytes = self.store.get(&object.key).await.expect("there");
            packs.extend(open_segment(&self.repository, id, &bytes).expect("whole").packs().to_vec());
            segments.push(id);
        }
        assert!(data(&mut packs).count() > 1 && data(&mut packs).all(|pack| pack.directory.frames.len() > 1));
        wrong(&mut packs);
        let directory = self.desk.at(".cache/coffre").join(self.repository.id().to_string()).join("index");
        std::fs::remove_dir_all(&directory).expect("there");
        std::fs::create_dir(&directory).expect("made");
        let file = File::options().read(true).write(true).create_new(true).open(directory.join("wrong.table"));
        write_table(&file.expect("made"), &segments, Author::Reader, &packs).expect("written");
    }

    async fn run(&self, wrong: Wrong, arguments: &[&str]) -> Run {
        self.harm(wrong).await;
        self.desk.run(&[&["-v"], arguments].concat())
    }

    fn restored(&self, arguments: &[&str]) -> (Run, BTreeMap<String, Vec<u8>>) {
        let _ = std::fs::remove_dir_all(self.desk.at("out"));
        let run = self.desk.run(&[&["-v", "restore", "--target", "out"], arguments].concat());
        (run, files_in(&self.desk.at("out")))
    }
}

fn is_told(run: &Run) -> bool {
    run.err.contains("was made anew from the store")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_written_wrong_is_made_anew_before_the_store_is_blamed() {
    for (case, is_read, wrong) in WRONG {
        let wronged = Wronged::new().await;
        let desk = &wronged.desk;
        let source = desk.at("source").display().to_string();
        let (place, files) = (format!("latest:{source}"), files_in(&desk.at("source")));
        wronged.harm(wrong).await;
        let (run, restored) = wronged.restored(&[&place]);
        assert_eq!((run.code, is_told(&run)), (0, is_read), "{case}: {run:?}");
        assert!(restored == files, "{case}");
        // What was made anew is in the cache.
        if is_read {
            let (run, _) = wronged.restored(&[&place]);
            assert_eq!((run.code, is_told(&run)), (0, false), "{case}: {run:?}");
        }

        let run = wronged.run(wrong, &["dump", &format!("{place}/sub/b.txt")]).await;
        assert_eq!((run.code, is_told(&run)), (0, is_read), "{case}: {run:?}");
        assert_eq!(run.out.as_bytes(), files["sub/b.txt"], "{case}");

        for verify in [&["verify"][..], &["verify", "--read-data"]] {
            let run = wronged.run(wrong, verify).await;
            assert_eq!((run.code, is_told(&run)), (0, true), "{case}: {run:?}");
            assert!(run.out.contains("result    clean") && !run.out.contains("in no index segment"), "{case}: {run:?}");
        }

        let run = wronged.run(wrong, &["backup", &source]).await;
        assert_eq!(run.code, 0, "{case}: {run:?}");
        std::fs::remove_dir_all(desk.at(".cache")).expect("there");
        let (run, restored) = wronged.restored(&[&place]);
        assert!(run.code == 0 && restored == files, "{case}: {run:?}");
        let run = desk.run(&["verify", "--read-data"]);
        assert_eq!(run.code, 0, "{case}: {run:?}");
    }
}

/// A table says that a chunk is in a pack that is there, while the one that has it is gone: nothing is taken over for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_table_does_not_hide_from_a_backup_that_a_pack_is_gone() {
    let wronged = Wronged::new().await;
    let (desk, store) = (&wronged.desk, &wronged.store);
    let packs = store.list(ObjectKind::Pack.prefix()).await.expect("listed");
    let largest = packs.iter().max_by_key(|pack| pack.size).expect("some");
    store.delete(&largest.key).await.expect("deleted");
    let source = desk.at("source").display().to_string();
    let (_, _, in_another_pack) = WRONG[2];
    let run = wronged.run(in_another_pack, &["backup", &source]).await;
    assert!(run.code == 0 && is_told(&run), "{run:?}");
    std::fs::remove_dir_all(desk.at(".cache")).expect("there");
    let (run, restored) = wronged.restored(&[&format!("latest:{source}")]);
    assert!(run.code == 0 && restored == files_in(Path::new(&source)), "{run:?}");
}

/// However much is lost, the index is fetched once more, and not at all by a run that made its tables itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_fetched_once_more_where_data_is_lost() {
    let bench = Bench::new().await;
    let (snapshot, _) = bench.snapshot().await;
    for key in bench.data_packs().await {
        bench.store().delete(&key).await.expect("deleted");
    }
    let segments = bench.store().list(ObjectKind::Index.prefix()).await.expect("listed").len();
    let record = RecordStore::new(bench.store());
    let empty = tempfile::tempdir().expect("made");
    for cache in [bench.cache.path(), empty.path(), empty.path()] {
        let repository = open(Arc::new(record.clone()), cache).await.expect("opens");
        let reader = open_reader(repository, 256 << 20, Arc::new(Collected::default())).await.expect("loaded");
        let (mut walk, mut lost) = (reader.walk(snapshot.root, None), 0);
        while let Some(entry) = walk.next().await {
            let entry = entry.expect("trees are whole");
            let Some(content) = entry.content() else { continue };
            let mut chunks = reader.chunks(&content.chunks, content.stored_length());
            while let Some(chunk) = chunks.next().await {
                reader.chunk(&chunk.expect("lists are whole").id).await.expect_err("all data is lost");
                lost += 1;
            }
        }
        assert!(lost > 40, "{lost} chunks");
        let calls = record.take();
        let fetched =
            calls.iter().filter(|call| call.operation == Operation::Get && call.subject.starts_with("index/"));
        assert_eq!(fetched.count(), segments);
    }
}
