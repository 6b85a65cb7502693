//! Points in time with nanoseconds, and the clock that operations are given.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 24 * 3600;

/// A point in time as file systems keep it: seconds since 1970-01-01 UTC (may be negative) and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below one billion.
    pub nanos: u32,
}

impl Timestamp {
    /// Makes a timestamp of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// The beginning of the year in which this program was written: a clock that says less is wrong.
    pub const PLAUSIBLE: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Tells whether this lies ahead of `now` by more than clocks of well-kept hosts differ: ten minutes.
    pub fn is_ahead_of(self, now: Timestamp) -> bool {
        self.since(now) > Duration::from_secs(600)
    }

    /// Returns the duration from `earlier` to `self`, or zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        let nanos = self.total_nanos() - earlier.total_nanos();
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }

    fn total_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// Returns date and time in a zone; what no calendar has is the nearest that it has.
    pub fn in_zone(self, zone: &jiff::tz::TimeZone) -> jiff::ZonedDateTime {
        let nearest = if self.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        self.zoned().unwrap_or(nearest).to_zoned_datetime(zone.clone())
    }

    fn zoned(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::new(self.seconds, i32::try_from(self.nanos).ok()?).ok()
    }

    /// Returns the basic ISO 8601 form in UTC with seconds (`20261124T021500Z`), as object names carry it.
    pub fn compact_utc(self) -> String {
        match self.zoned() {
            Some(at) => at.strftime("%Y%m%dT%H%M%SZ").to_string(),
            None => "00000000T000000Z".to_owned(),
        }
    }

    /// Reads what [`Timestamp::compact_utc`] wrote.
    pub fn parse_compact_utc(text: &str) -> Option<Self> {
        let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
        let at = parsed.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self::from_seconds(at.timestamp().as_second()))
    }

    /// Reads a point in time that says its zone (`2026-11-24T02:15:00Z`), or date and time, or a date, in the local time zone.
    pub fn parse_local(text: &str) -> Option<Self> {
        let instant = |at: jiff::Timestamp| Self {
            seconds: at.as_second() - i64::from(at.subsec_nanosecond() < 0),
            nanos: u32::try_from(at.subsec_nanosecond().rem_euclid(1_000_000_000)).unwrap_or(0),
        };
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Some(instant(at));
        }
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(instant(civil.to_zoned_datetime(jiff::tz::TimeZone::system()).ok()?.timestamp()))
    }

    /// Returns date and time to the minute in the local time zone (`2026-11-24 02:15`), for narrow tables.
    pub fn local_minute(self) -> String {
        match self.zoned() {
            Some(at) => at.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
            None => format!("@{}", self.seconds),
        }
    }

    /// Returns how far local time was from UTC at this point: `UTC`, `UTC+1`, `UTC-3:30`.
    pub fn local_zone(self) -> String {
        let offset = self.zoned().map_or(0, |at| jiff::tz::TimeZone::system().to_offset(at).seconds());
        zone_name(offset)
    }

    /// Returns date, time and zone (`2026-11-24 02:15:00 UTC+1`), for sentences.
    pub fn local_zoned(self) -> String {
        format!("{} {}", self.local(), self.local_zone())
    }

    /// Returns date and time to the second in the local time zone (`2026-11-24 02:15:00`), for tables.
    pub fn local(self) -> String {
        match self.zoned() {
            Some(at) => at.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            None => format!("@{}", self.seconds),
        }
    }
}

fn zone_name(seconds: i32) -> String {
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let sign = if seconds < 0 { '-' } else { '+' };
    match (hours, minutes) {
        (0, 0) => "UTC".to_owned(),
        (hours, 0) => format!("UTC{sign}{hours}"),
        (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Self { seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
            }
            Err(before) => {
                let before = before.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { seconds, nanos: 0 },
                    nanos => Self { seconds: seconds - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC, as `--json` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zoned() {
            Some(at) => write!(f, "{at}"),
            None => write!(f, "@{}.{:09}", self.seconds, self.nanos),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// Tells the time to an operation; tests give a fixed one, or one that they move.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Always the same time.
    Fixed(Timestamp),
    /// What is written there, in seconds since 1970.
    Told(&'static AtomicI64),
}

impl Clock {
    /// Returns the present time.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => SystemTime::now().into(),
            Clock::Fixed(at) => *at,
            Clock::Told(at) => Timestamp { seconds: at.load(Ordering::Relaxed), nanos: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_named_by_their_distance_from_utc() {
        for (seconds, name) in [(0, "UTC"), (3600, "UTC+1"), (-12_600, "UTC-3:30"), (20_700, "UTC+5:45")] {
            assert_eq!(zone_name(seconds), name);
        }
    }

    #[test]
    fn the_compact_form_round_trips() {
        let at = Timestamp::from_seconds(1_795_485_300);
        assert_eq!(Timestamp::parse_compact_utc(&at.compact_utc()), Some(at));
        assert_eq!(Timestamp::from_seconds(0).compact_utc(), "19700101T000000Z");
        assert_eq!(Timestamp::parse_compact_utc("2026"), None);
    }

    #[test]
    fn dates_are_read_with_their_zone_or_in_the_local_one() {
        let at = Timestamp::from_seconds(1_795_485_300);
        assert_eq!(Timestamp::parse_local(&at.to_string()), Some(at));
        assert_eq!(Timestamp::parse_local(&at.local()), Some(at));
        assert_eq!(
            Timestamp::parse_local("1969-12-31T23:59:59.5Z"),
            Some(Timestamp { seconds: -1, nanos: 500_000_000 })
        );
        assert!(Timestamp::parse_local("2026-11-24").is_some());
        assert_eq!(Timestamp::parse_local("yesterday"), None);
    }

    #[test]
    fn times_before_the_epoch_keep_positive_nanoseconds() {
        let time = UNIX_EPOCH - Duration::from_millis(250);
        assert_eq!(Timestamp::from(time), Timestamp { seconds: -1, nanos: 750_000_000 });
    }
}
