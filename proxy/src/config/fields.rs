//! Fields that check themselves while they are read, for `#[serde(deserialize_with)]`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// A duration as it is read.
///
/// # Errors
/// The serializer's.
pub fn write_duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    write_text(&humantime::format_duration(*value), serializer)
}

/// The same where there may be none.
///
/// # Errors
/// The serializer's.
pub fn write_optional_duration<S: Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => write_duration(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// What is read as a text and is none.
///
/// # Errors
/// The serializer's.
pub fn write_text<T: fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A duration with its unit, such as `"250ms"`.
///
/// # Errors
/// When it is not one.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    DurationText::deserialize(deserializer).map(|text| text.0)
}

/// A duration that is written with its unit, such as `"250ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"250ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DurationText, E> {
                parse_duration(text).map(DurationText).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<DurationText, E> {
                let (number, hint) = (number.unsigned_abs(), "a duration is written with its unit");
                Err(E::custom(format!("{hint}, such as \"{number}ms\" or \"{number}s\"")))
            }
        }

        deserializer.deserialize_any(DurationVisitor)
    }
}

/// A duration above zero.
///
/// # Errors
/// When it is not one.
pub fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration(deserializer)?;
    if duration.is_zero() {
        return Err(D::Error::custom("must be longer than 0, such as \"250ms\""));
    }
    Ok(duration)
}

/// A duration above zero, where the field may be left out.
///
/// # Errors
/// When it is there and is not one.
pub fn optional_positive_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    positive_duration(deserializer).map(Some)
}

/// A share, from 0 to 1.
///
/// # Errors
/// When it is not one.
pub fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(0.0..=1.0).contains(&value) {
        let hint = "must be a share from 0 to 1, such as 0.5";
        return Err(D::Error::custom(format!("`{value}` {hint}")));
    }
    Ok(value)
}

/// An IP address and a port.
///
/// # Errors
/// When it is not one.
pub fn socket_addr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let hint = "write an IP address and a port, such as 127.0.0.1:15001";
        D::Error::custom(format!("`{text}` is not an address to listen on; {hint}"))
    })
}

/// A path prefix that begins with `/`, without a `/` at its end.
///
/// # Errors
/// When it does not begin so.
pub fn path_prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !text.starts_with('/') {
        return Err(D::Error::custom(format!("`{text}` must begin with `/`, such as \"/api\"")));
    }
    let trimmed = text.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

/// The name of a header field.
///
/// # Errors
/// When it holds what a name may not.
pub fn header_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<http::HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!("`{text}` is not a header's name; write one such as \"x-user\""))
    })
}

/// A list with something in it.
///
/// # Errors
/// When it is empty.
pub fn non_empty<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::<T>::deserialize(deserializer)?;
    if items.is_empty() {
        return Err(D::Error::custom("the list is empty; at least one is needed"));
    }
    Ok(items)
}

/// A share above 0, up to 1.
///
/// # Errors
/// When it is not one.
pub fn positive_ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = ratio(deserializer)?;
    if value == 0.0 {
        return Err(D::Error::custom("must be a share above 0, such as 0.5"));
    }
    Ok(value)
}

/// A percentage above 0, up to 100.
///
/// # Errors
/// When it is not one.
pub fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(value > 0.0 && value <= 100.0) {
        let hint = "must be a percentage above 0 and up to 100, such as 50";
        return Err(D::Error::custom(format!("`{value}` {hint}")));
    }
    Ok(value)
}

/// A finite number of at least 1.
///
/// # Errors
/// When it is not one.
pub fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(value.is_finite() && value >= 1.0) {
        return Err(D::Error::custom(format!("`{value}` must be a number from 1, such as 1.5")));
    }
    Ok(value)
}

/// A finite number above 0.
///
/// # Errors
/// When it is not one.
pub fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(value.is_finite() && value > 0.0) {
        return Err(D::Error::custom(format!("`{value}` must be a number above 0, such as 1.5")));
    }
    Ok(value)
}

/// A whole number above zero.
///
/// # Errors
/// When it is not one.
pub fn positive_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("must be at least 1")),
        count => Ok(count),
    }
}

/// A number above zero; `inf` is one.
///
/// # Errors
/// When it is not one.
pub fn positive_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number > 0.0 {
        return Ok(number);
    }
    Err(D::Error::custom(format!("{number} must be above 0, such as 0.25")))
}

/// A factor by which something may be exceeded: 1 to 10.
///
/// # Errors
/// When it is not one.
pub fn tolerance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let factor = f64::deserialize(deserializer)?;
    if (1.0..=10.0).contains(&factor) {
        Ok(factor)
    } else {
        Err(D::Error::custom(format!("{factor} is not a tolerance; write 1 to 10, such as 1.25")))
    }
}

/// The longest duration that is taken. More cannot be meant, and clocks overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a duration with its unit.
///
/// # Errors
/// Says what one looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| {
        format!(
            "`{text}` is not a duration; write a number and a unit, such as \"250ms\" or \"1m\""
        )
    })?;
    if duration > LONGEST {
        return Err(format!("`{text}` is too long; at most a year, such as \"1h\""));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_upper_bound() {
        assert_eq!(parse_duration("1m 500ms"), Ok(Duration::from_millis(60_500)));
        assert_eq!(parse_duration("366days"), Ok(LONGEST));
        assert!(parse_duration("366days 1ms").is_err_and(|error| error.contains("too long")));
        assert!(parse_duration("1000").is_err_and(|error| error.contains("unit")));
        assert!(parse_duration("-1s").is_err());
    }
}
