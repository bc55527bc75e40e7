//! Fields that check themselves while they are read, for `#[serde(deserialize_with)]`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A duration with its unit, such as `"250ms"`.
///
/// # Errors
/// When it is not one.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
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
