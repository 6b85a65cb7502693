//! A reader: it restores the old snapshot while packs are rewritten.

use super::search::Steps;
use super::world::{Rule, State, With, World, each};

pub const LOAD: u8 = 0;
const FETCH: u8 = 1;
/// It said that the chunk is lost.
pub const DAMAGED: u8 = 50;

pub fn steps(world: &World, state: &State, steps: &mut Steps<'_>) {
    let reader = state.reader;
    let mut next = *state;
    match reader.at {
        LOAD => {
            (next.reader.at, next.reader.index) = (FETCH, state.segments);
            steps.add("R", "loads the index:", With::Packs(state.segments), next);
        }
        FETCH => {
            let Some(place) = each(reader.index & !reader.tried).next() else {
                let has_news = state.segments & !reader.tried != 0;
                let may_load = world.keep(Rule::LoadOften) || !reader.has_loaded_again;
                if world.keep(Rule::LoadAgain) && may_load && has_news {
                    next.reader.has_loaded_again = true;
                    next.reader.index = state.segments;
                    return steps.add("R", "loads the index again:", With::Packs(state.segments), next);
                }
                next.reader.at = DAMAGED;
                return steps.add("R", "says that the chunk is lost", With::Nothing, next);
            };
            next.reader.tried |= place;
            if state.packs[0] & place != 0 {
                next.reader.at = super::world::END;
                steps.add("R", "reads", With::Packs(place), next);
            } else {
                steps.add("R", "does not find", With::Packs(place), next);
            }
        }
        _ => {}
    }
}
