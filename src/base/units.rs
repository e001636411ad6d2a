//! Values with their unit: `250ms`, `1m30s`, `32KiB`, `20%`.
//!
//! Every parser reads what its printer writes, and also other spellings of the same value.

use std::fmt;
use std::time::Duration;

/// Units of time with their length in milliseconds, longest first.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size with their length in bytes, longest first within each kind.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// The number of [`SIZE_UNITS`] that are powers of two. Only these and `B` are printed.
const BINARY_UNITS: usize = 4;

/// Why a text is not a value with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// The text is empty.
    Empty,
    /// Something else stands where a digit is expected.
    NotANumber,
    /// A number with nothing behind it.
    NoUnit,
    /// This is not a unit of that kind.
    UnknownUnit(String),
    /// Units must go from the longest to the shortest, each at most once: `1m30s`.
    Order,
    /// The value does not fit into 64 bits.
    TooLarge,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::NotANumber => f.write_str("does not start with a whole number"),
            Self::NoUnit => f.write_str("has no unit"),
            Self::UnknownUnit(unit) => write!(f, "has the unknown unit \"{unit}\""),
            Self::Order => f.write_str("has its units in the wrong order"),
            Self::TooLarge => f.write_str("is too large"),
        }
    }
}

impl std::error::Error for UnitError {}

/// Splits `text` into its leading number, the unit behind it, and the rest.
fn number_and_unit(text: &str) -> Result<(u64, &str, &str), UnitError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NotANumber);
    }
    let number = number.parse().map_err(|_| UnitError::TooLarge)?;
    let end = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    if unit.is_empty() {
        Err(UnitError::NoUnit)
    } else {
        Ok((number, unit, rest))
    }
}

/// Reads a duration: `250ms`, `10s`, `5m`, `1h`, or several from the longest to the shortest,
/// `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    let mut rest = text;
    let mut milliseconds = 0_u64;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, unit, behind) = number_and_unit(rest)?;
        let Some(&(_, length)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(UnitError::UnknownUnit(unit.to_owned()));
        };
        if length >= smallest {
            return Err(UnitError::Order);
        }
        smallest = length;
        milliseconds = number
            .checked_mul(length)
            .and_then(|part| milliseconds.checked_add(part))
            .ok_or(UnitError::TooLarge)?;
        rest = behind;
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Writes a duration as [`parse_duration`] reads it. Parts below a millisecond are left out.
pub fn format_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in TIME_UNITS {
        if left >= length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    text
}

/// Reads a size in bytes: `100B`, `32KiB`, `64MiB`, `1GiB`, or in powers of ten `10KB`, `5MB`,
/// `1GB`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    let (number, unit, rest) = number_and_unit(text)?;
    if !rest.is_empty() {
        return Err(UnitError::UnknownUnit(format!("{unit}{rest}")));
    }
    let Some(&(_, length)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(UnitError::UnknownUnit(unit.to_owned()));
    };
    number.checked_mul(length).ok_or(UnitError::TooLarge)
}

/// Writes a size as [`parse_size`] reads it, in the largest power-of-two unit that divides it.
pub fn format_size(bytes: u64) -> String {
    for (unit, length) in &SIZE_UNITS[..BINARY_UNITS] {
        if bytes >= *length && bytes.is_multiple_of(*length) {
            return format!("{}{unit}", bytes / length);
        }
    }
    format!("{bytes}B")
}

/// The most digits behind the point of a percentage.
const PERCENT_DIGITS: usize = 3;

/// Reads a fraction: `20%` is 0.2, `12.5%` is 0.125.
pub fn parse_percent(text: &str) -> Result<f64, UnitError> {
    if text.is_empty() {
        return Err(UnitError::Empty);
    }
    // A point stands where a whole number has its unit.
    let (whole, unit, rest) = number_and_unit(text)?;
    let digits = match (unit, rest.strip_suffix('%')) {
        ("%", _) if rest.is_empty() => "",
        (".", Some(digits))
            if digits.len() <= PERCENT_DIGITS
                && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            digits
        }
        _ => return Err(UnitError::UnknownUnit(format!("{unit}{rest}"))),
    };
    let whole = u32::try_from(whole).map_err(|_| UnitError::TooLarge)?;
    // Both stay whole numbers, so only the division rounds.
    let (mut parts, mut of) = (f64::from(whole), 100.0);
    for digit in digits.bytes() {
        parts = parts * 10.0 + f64::from(digit - b'0');
        of *= 10.0;
    }
    Ok(parts / of)
}

/// Writes a fraction as [`parse_percent`] reads it, rounded to thousandths of a percent.
pub fn format_percent(part: f64) -> String {
    format!("{}%", (part * 100_000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn bad_durations() {
        for (text, error) in [
            ("", UnitError::Empty),
            ("s", UnitError::NotANumber),
            ("-1s", UnitError::NotANumber),
            ("10", UnitError::NoUnit),
            ("1m30", UnitError::NoUnit),
            ("10 s", UnitError::UnknownUnit(" s".into())),
            ("10S", UnitError::UnknownUnit("S".into())),
            ("1.5s", UnitError::UnknownUnit(".".into())),
            ("30s1m", UnitError::Order),
            ("1s1s", UnitError::Order),
            ("99999999999999999999s", UnitError::TooLarge),
            ("18446744073709551615h", UnitError::TooLarge),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("100B", 100),
            ("32KiB", 32 << 10),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("10KB"), Ok(10_000));
        assert_eq!(parse_size("2MB"), Ok(2_000_000));
        assert_eq!(format_size(10_000), "10000B");
        for (text, error) in [
            ("", UnitError::Empty),
            ("32", UnitError::NoUnit),
            ("32K", UnitError::UnknownUnit("K".into())),
            ("32kib", UnitError::UnknownUnit("kib".into())),
            ("1MiB1B", UnitError::UnknownUnit("MiB1B".into())),
            ("99999999999GiB", UnitError::TooLarge),
        ] {
            assert_eq!(parse_size(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn percents() {
        assert_eq!(parse_percent("20%"), Ok(0.2));
        assert_eq!(format_percent(0.2), "20%");
        assert_eq!(parse_percent("20"), Err(UnitError::NoUnit));
        assert_eq!(
            parse_percent("20%%"),
            Err(UnitError::UnknownUnit("%%".into()))
        );
        assert_eq!(parse_percent("12.5%"), Ok(0.125));
        assert_eq!(format_percent(0.125), "12.5%");
        assert_eq!(parse_percent("0.050%"), Ok(0.0005));
        for bad in [".%", ".5", ".5%5", ".1234%", ".5.5%", "..5%", "%.5"] {
            assert_eq!(
                parse_percent(&format!("12{bad}")),
                Err(UnitError::UnknownUnit(bad.into())),
                "{bad}"
            );
        }
        assert_eq!(parse_percent(".5%"), Err(UnitError::NotANumber));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(
            milliseconds in 0_u64..1 << 50,
            bytes in any::<u64>(),
            percent in 0_u32..1_000_000,
        ) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            let part = f64::from(percent) / 100_000.0;
            prop_assert_eq!(parse_percent(&format_percent(part)), Ok(part));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,20}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_percent(&text));
        }
    }
}
