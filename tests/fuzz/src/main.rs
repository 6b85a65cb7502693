//! Runs one target of [`targets`] under libFuzzer: that which is called like the program.
//!
//! ```sh
//! cargo install cargo-fuzz
//! COFFRE_WRITE_SEEDS=1 cargo test --test it decoders         # to begin with real objects: tests/fuzz/seeds
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz -s none node tests/fuzz/corpus/node tests/fuzz/seeds
//! ```
//!
//! Besides what libFuzzer looks for, no input may make a decoder ask for more memory than its target allows.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;

mod targets;

/// Bytes of memory for each byte of input: one item of a byte may become a few words.
const MEMORY_A_BYTE: usize = 128;

/// Counts what is allocated.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(taken, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let target = targets::find(env!("CARGO_BIN_NAME"));
    let before = TAKEN.load(Relaxed);
    PEAK.store(before, Relaxed);
    (target.run)(bytes);
    let took = PEAK.load(Relaxed) - before.min(PEAK.load(Relaxed));
    assert!(took <= target.memory + MEMORY_A_BYTE * bytes.len(), "{took} bytes of memory for {} of input", bytes.len());
});
