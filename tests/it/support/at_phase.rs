//! A monitor that does something when a run comes to a phase.

use std::sync::{Arc, Mutex};

use coffre::model::key::ObjectKey;
use coffre::progress::{Collected, Counter, Monitor, Problem, Totals};
use coffre::store::Store;
use coffre::store::memory::MemoryStore;

/// Hears all that is told, and acts whenever a phase begins.
pub struct AtPhase<F> {
    phase: &'static str,
    pub heard: Collected,
    act: F,
}

impl<F: Fn() + Send + Sync> AtPhase<F> {
    pub fn new(phase: &'static str, act: F) -> Self {
        Self { phase, heard: Collected::default(), act }
    }
}

impl<F: Fn() + Send + Sync> Monitor for AtPhase<F> {
    fn add(&self, counter: Counter, amount: u64) {
        self.heard.add(counter, amount);
    }

    fn phase(&self, what: &str) {
        if what == self.phase {
            (self.act)();
        }
    }

    fn totals(&self, totals: Totals) {
        self.heard.totals(totals);
    }

    fn problem(&self, problem: Problem) {
        self.heard.problem(problem);
    }
}

/// Deletes packs, the last of `batches` first, whenever a run has stored its own and looks whether others vanished.
pub fn vandal(memory: &MemoryStore, batches: Vec<Vec<ObjectKey>>) -> Arc<AtPhase<impl Fn() + Send + Sync + use<>>> {
    let (memory, batches) = (memory.clone(), Mutex::new(batches));
    Arc::new(AtPhase::new("checking that nothing vanished", move || {
        for pack in batches.lock().expect("no panic while held").pop().unwrap_or_default() {
            futures::executor::block_on(memory.delete(&pack)).expect("deleted");
        }
    }))
}
