//! How much time a client allows: the value of `grpc-timeout`, or of a field that the operator
//! chooses.

use std::time::Duration;

/// The most digits, with or without a unit, that the gRPC specification allows (gRPC over HTTP/2,
/// "Timeout").
const DIGITS: usize = 8;

/// Parses the time: up to eight digits and a unit: `H`ours, `M`inutes, `S`econds, `m`illi-, `u` for
/// micro-, `n`anoseconds. Without a unit they are milliseconds. Returns `None` for anything else,
/// such as a sign or a fraction. (The head's parser has trimmed the white space.)
///
/// Zero, which gRPC does not allow, means that no time is left. The longest time is 99 999 999
/// hours, which can be added to any moment of a clock.
pub fn parse_deadline(value: &[u8]) -> Option<Duration> {
    let digits = value
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(1..=DIGITS).contains(&digits) {
        return None;
    }
    let (digits, unit) = value.split_at(digits);
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b"H" => Duration::from_secs(number * 3600),
        b"M" => Duration::from_secs(number * 60),
        b"S" => Duration::from_secs(number),
        b"m" | b"" => Duration::from_millis(number),
        b"u" => Duration::from_micros(number),
        b"n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (value, expected) in [
            ("0", Duration::ZERO),
            ("0S", Duration::ZERO),
            ("1", Duration::from_millis(1)),
            ("1500", Duration::from_millis(1500)),
            ("1500m", Duration::from_millis(1500)),
            ("007S", Duration::from_secs(7)),
            ("2M", Duration::from_secs(120)),
            ("2H", Duration::from_secs(7200)),
            ("250u", Duration::from_micros(250)),
            ("250n", Duration::from_nanos(250)),
            ("99999999", Duration::from_millis(99_999_999)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("99999999H", Duration::from_secs(359_999_996_400)),
        ] {
            assert_eq!(parse_deadline(value.as_bytes()), Some(expected), "{value}");
        }
    }

    #[test]
    fn anything_else_says_nothing() {
        for value in [
            "",
            "S",
            "m",
            "100000000",
            "000000001",
            "123456789S",
            "18446744073709551616",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "0x10",
            " 1",
            "1 ",
            "1 S",
            "1s",
            "1h",
            "1ms",
            "1SS",
            "S1",
            "1,2",
            "1;2",
            "1\0",
            "\u{661}",
        ] {
            assert_eq!(parse_deadline(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(parse_deadline(b"1\xff"), None);
    }

    #[test]
    fn the_longest_can_be_added_to_the_present() {
        let longest = parse_deadline(b"99999999H").unwrap();
        assert!(std::time::Instant::now().checked_add(longest).is_some());
    }
}
