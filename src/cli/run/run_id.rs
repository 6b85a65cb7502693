//! What a run takes from chance: its id, and when it begins.

use std::time::Duration;

/// Returns a new id, in the form of a UUID of version 4: services that are told of a run take no other.
pub fn new() -> String {
    let mut bytes = [0; 16];
    // Without chance two runs have the same name, and nothing is wrong with either.
    let _ = getrandom::fill(&mut bytes);
    of_bytes(bytes)
}

fn of_bytes(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Returns some time below `limit`.
pub fn within(limit: Duration) -> Duration {
    fraction(limit, getrandom::u32().unwrap_or_default())
}

fn fraction(limit: Duration, chance: u32) -> Duration {
    limit.mul_f64(f64::from(chance) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_chance() {
        assert_eq!(of_bytes([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(of_bytes([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_ne!(new(), new());
    }

    #[test]
    fn a_run_begins_within_the_time_that_it_was_given() {
        let limit = Duration::from_secs(900);
        assert_eq!(fraction(limit, 0), Duration::ZERO);
        assert!(fraction(limit, u32::MAX) < limit);
        assert_eq!(fraction(limit, 1 << 31), Duration::from_secs(450));
        assert_eq!(within(Duration::ZERO), Duration::ZERO);
    }
}
