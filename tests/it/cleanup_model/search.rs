//! Every state that can be reached, the nearest first, until one is found that must never be.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::world::{Fault, OLD, State, With, World};
use super::{cleaner, reader, writer};

/// Takes the steps that are possible from a state.
pub struct Steps<'a>(&'a mut dyn FnMut(&'static str, &'static str, With, State));

impl Steps<'_> {
    /// One step: who does what, with which packs or sessions, and what is then.
    pub fn add(&mut self, who: &'static str, what: &'static str, with: With, then: State) {
        (self.0)(who, what, with, then);
    }
}

fn steps(world: &World, state: &State, take: &mut dyn FnMut(&'static str, &'static str, With, State)) {
    let mut steps = Steps(take);
    for i in 0..2 {
        writer::steps(world, state, i, &mut steps);
        cleaner::steps(world, state, i, &mut steps);
    }
    reader::steps(world, state, &mut steps);
    if state.late & OLD != 0 {
        let mut then = *state;
        then.late &= !OLD;
        (0..world.replicas()).for_each(|replica| then.snapshots[replica] |= OLD);
        steps.add("(the provider", "puts the old snapshot back)", With::Nothing, then);
    }
}

/// What a search found.
pub struct Found {
    /// How many states there are, or were seen before the fault.
    pub states: usize,
    pub fault: Option<Fault>,
    /// The shortest way to it.
    pub schedule: Vec<String>,
}

/// Bytes come one by one from small fields: each is mixed in.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(7) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

/// Looks at every state that can be reached from `start`, breadth first.
pub fn search(world: &World, start: State) -> Found {
    let mut seen: HashMap<State, (), BuildHasherDefault<Mix>> = HashMap::default();
    let mut states: Vec<(State, u32)> = vec![(start, 0)];
    seen.insert(start, ());
    let mut at = 0;
    while at < states.len() {
        let (state, _) = states[at];
        if let Some(fault) = state.fault(world) {
            return Found { states: states.len(), fault: Some(fault), schedule: schedule(world, &states, at) };
        }
        steps(world, &state, &mut |_, _, _, then| {
            if seen.insert(then, ()).is_none() {
                states.push((then, at as u32));
            }
        });
        at += 1;
    }
    Found { states: states.len(), fault: None, schedule: Vec::new() }
}

fn schedule(world: &World, states: &[(State, u32)], mut at: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while at != 0 {
        let (state, before) = states[at];
        let mut line = None;
        steps(world, &states[before as usize].0, &mut |who, what, with, then| {
            if then == state && line.is_none() {
                line = Some(format!("{who}: {what}{with}"));
            }
        });
        lines.extend(line);
        at = before as usize;
    }
    lines.reverse();
    lines
}
