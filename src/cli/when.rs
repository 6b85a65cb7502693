//! Points in time as people type them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::model::time::Timestamp;

/// Reads `2026-11-24`, which is its beginning, `2026-11-24 02:15`, with seconds or without, both in the local zone, or a
/// time with its zone (`2026-11-24T02:15:00Z`).
///
/// # Errors
/// A sentence for the user.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    in_zone(text.trim(), TimeZone::system()).ok_or_else(|| "write for example 2026-11-24 or '2026-11-24 02:15'".into())
}

fn in_zone(text: &str, zone: TimeZone) -> Option<Timestamp> {
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let civil =
                text.parse::<DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(DateTime::from)).ok()?;
            civil.to_zoned_datetime(zone).ok()?.timestamp()
        }
    };
    let nanos = at.as_nanosecond();
    let second = nanos.div_euclid(1_000_000_000);
    let rest = nanos.rem_euclid(1_000_000_000);
    Some(Timestamp { seconds: i64::try_from(second).ok()?, nanos: u32::try_from(rest).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_a_zone_or_in_the_local_one() {
        let zone = || TimeZone::fixed(jiff::tz::offset(1));
        for (text, utc) in [
            ("2026-11-24", "2026-11-23T23:00:00Z"),
            ("2026-11-24 02:15", "2026-11-24T01:15:00Z"),
            ("2026-11-24T02:15:30", "2026-11-24T01:15:30Z"),
            ("2026-11-24T02:15:00Z", "2026-11-24T02:15:00Z"),
            ("2026-11-24T02:15:00.5+02:00", "2026-11-24T00:15:00.5Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
        ] {
            assert_eq!(in_zone(text, zone()).map(|at| at.to_string()).as_deref(), Some(utc), "{text}");
        }
        for wrong in ["", "yesterday", "24.11.2026", "2026-13-01", "2026-11-24 25:00"] {
            assert_eq!(in_zone(wrong, zone()), None, "{wrong}");
        }
    }
}
