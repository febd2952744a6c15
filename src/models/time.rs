//! [`Timestamp`]: a point in time with the two spellings that the protocol uses.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The year 0 begins.
const EARLIEST: i64 = -62_167_219_200_000;
/// The year 9999 ends.
const LATEST: i64 = 253_402_300_799_999;

/// The milliseconds of a day.
const DAY: i64 = 86_400_000;

/// A UTC instant with millisecond precision, written `2026-01-02T03:04:05.678Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `milliseconds` after the Unix epoch; the first or the last that can be written
    /// in four digits of a year where it is out of range.
    pub fn from_unix_millis(milliseconds: i64) -> Self {
        Self(milliseconds.clamp(EARLIEST, LATEST))
    }

    fn on_calendar(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339, in any offset.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self::from_unix_millis(parsed.timestamp_millis()))
    }

    /// The day in UTC.
    pub fn day(self) -> Day {
        Day(self.unix_millis().div_euclid(DAY))
    }

    /// How long this day still lasts in UTC.
    pub fn rest_of_day(self) -> std::time::Duration {
        let rest = DAY - self.unix_millis().rem_euclid(DAY);
        std::time::Duration::from_millis(rest.unsigned_abs())
    }

    #[must_use]
    /// The instant later (or earlier, if negative) by `milliseconds`.
    pub fn plus_millis(self, milliseconds: i64) -> Self {
        Self::from_unix_millis(self.unix_millis().saturating_add(milliseconds))
    }

    /// This instant and `span`.
    #[must_use]
    pub fn plus(self, span: std::time::Duration) -> Self {
        self.plus_millis(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
    }

    /// Milliseconds from `earlier` to this instant; 0 if it is not earlier.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.unix_millis().saturating_sub(earlier.unix_millis())).unwrap_or(0)
    }
}

/// A day in UTC, written `2026-01-02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day so many days before this one.
    #[must_use]
    pub fn minus(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days.into()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = Timestamp::from_unix_millis(self.0.saturating_mul(DAY));
        write!(f, "{}", midnight.on_calendar().format("%Y-%m-%d"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self
                .on_calendar()
                .to_rfc3339_opts(SecondsFormat::Millis, true),
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_rfc3339(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an RFC 3339 time")))
    }
}

/// Writes `time` as an HTTP date (RFC 9110, section 5.6.7), which has seconds only.
pub fn http_date(time: Timestamp) -> String {
    time.on_calendar()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

/// Reads an HTTP date in any of its three forms.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let time = httpdate::parse_http_date(text).ok()?;
    let since_epoch = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    let milliseconds = i64::try_from(since_epoch.as_millis()).ok()?;
    Some(Timestamp::from_unix_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_round_trip() {
        let time = Timestamp::parse_rfc3339("2026-01-02T04:04:05.678+01:00").unwrap();
        assert_eq!(time.to_string(), "2026-01-02T03:04:05.678Z");
        assert_eq!(http_date(time), "Fri, 02 Jan 2026 03:04:05 GMT");
        assert_eq!(
            parse_http_date(&http_date(time)),
            Some(time.plus_millis(-678))
        );
    }

    #[test]
    fn days_are_those_of_utc() {
        let late = Timestamp::parse_rfc3339("2026-03-01T00:30:00+01:00").unwrap();
        assert_eq!(late.day().to_string(), "2026-02-28");
        assert_eq!(late.day().minus(59).to_string(), "2025-12-31");
        assert!(late.day() < late.plus_millis(1_800_000).day());
        assert_eq!(
            Timestamp::from_unix_millis(-1).day().to_string(),
            "1969-12-31"
        );
        assert_eq!(late.rest_of_day().as_secs(), 1800);
        assert_eq!(late.plus_millis(1_800_000).rest_of_day().as_secs(), 86_400);
        assert_eq!(Timestamp::from_unix_millis(-1).rest_of_day().as_millis(), 1);
    }

    #[test]
    fn out_of_range_is_as_far_as_it_goes() {
        let last = Timestamp::from_unix_millis(i64::MAX);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(last.plus(std::time::Duration::MAX), last);
        assert_eq!(Timestamp::parse_rfc3339(&last.to_string()), Some(last));
        let first = Timestamp::from_unix_millis(i64::MIN);
        assert_eq!(first.to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::parse_rfc3339(&first.to_string()), Some(first));
    }
}
