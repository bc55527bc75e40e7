//! Fields of scenarios that check themselves while they are read, for `deserialize_with`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use loadgen::plan::Arrivals;
use proxy::config::{fields, suggest};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use sim::backend::{INDEX_HEADER, MOST_WORKERS, PLACE_HEADER};
use toml::Spanned;

use super::service::Answer;

/// The most instances of a service that one simulation is asked to hold.
const MOST_INSTANCES: usize = 1000;

/// Far more than any rate times any timeout of the catalogue needs, and as many as a client can
/// have ports for.
pub(super) fn default_max_in_flight() -> NonZeroUsize {
    NonZeroUsize::new(20_000).unwrap_or(NonZeroUsize::MIN)
}

pub(super) fn service_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<String>, D::Error> {
    let name = Spanned::<String>::deserialize(deserializer)?;
    let right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let text = name.get_ref();
    if text.is_empty() || text.len() > 40 || text.starts_with('-') || !text.chars().all(right) {
        let hint = "write up to 40 lower-case letters, digits and hyphens, such as \"web\"";
        return Err(D::Error::custom(format!("`{text}` is not a name; {hint}")));
    }
    Ok(name)
}

/// A name that needs no quotes in a shell.
pub(super) fn variant_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<String>, D::Error> {
    let name = Spanned::<String>::deserialize(deserializer)?;
    let right = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let text = name.get_ref();
    if text.is_empty() || text.len() > 40 || text.starts_with('-') || !text.chars().all(right) {
        let hint = "write up to 40 letters, digits, `_`, `-` and `.`, such as \"no-retries\"";
        return Err(D::Error::custom(format!("`{text}` is not a name; {hint}")));
    }
    Ok(name)
}

pub(super) fn instances<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = usize::deserialize(deserializer)?;
    if !(1..=MOST_INSTANCES).contains(&count) {
        return Err(D::Error::custom(format!("{count} is not from 1 to {MOST_INSTANCES}")));
    }
    Ok(count)
}

pub(super) fn optional_instances<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    instances(deserializer).map(Some)
}

pub(super) fn workers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    let count = usize::deserialize(deserializer)?;
    if !(1..=MOST_WORKERS).contains(&count) {
        return Err(D::Error::custom(format!("{count} is not from 1 to {MOST_WORKERS}")));
    }
    Ok(Some(count))
}

pub(super) fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(0.0..=1.0).contains(&value) {
        let message = format!("{value} is not a probability; write a number from 0 to 1");
        return Err(D::Error::custom(message));
    }
    Ok(value)
}

/// A part of several that is not none of them.
pub(super) fn optional_fraction<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(value > 0.0 && value <= 1.0) {
        let message = format!("{value} is not a fraction; write a number above 0 and up to 1");
        return Err(D::Error::custom(message));
    }
    Ok(Some(value))
}

/// A part of a whole that is not nothing.
pub(super) fn fraction<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    optional_fraction(deserializer).map(|fraction| fraction.unwrap_or(1.0))
}

/// How fast something is, against its usual speed.
pub(super) fn speed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(0.0..=100.0).contains(&value) {
        let message = format!("{value} is not a speed; write a number from 0 to 100, such as 0.5");
        return Err(D::Error::custom(message));
    }
    Ok(value)
}

pub(super) fn optional_method<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Method>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong =
        || D::Error::custom(format!("`{text}` is not a method; write GET, POST or the like"));
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| wrong())?;
    if method == Method::CONNECT || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(wrong());
    }
    Ok(Some(method))
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathAndQuery, D::Error> {
    let text = String::deserialize(deserializer)?;
    let path = text.starts_with('/').then(|| PathAndQuery::try_from(text.as_str()).ok()).flatten();
    path.ok_or_else(|| {
        D::Error::custom(format!("`{text}` is not a path; write one such as \"/a\""))
    })
}

/// Fields of a call. What frames it or says which request it is for is not for a file to say.
pub(super) fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
    let written = BTreeMap::<String, String>::deserialize(deserializer)?;
    let fields = written.iter().map(|(name, value)| {
        let wrong = || D::Error::custom(format!("`{name}: {value}` is not a header field"));
        let own =
            [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, TE, EXPECT, UPGRADE];
        let field = name.parse::<HeaderName>().map_err(|_| wrong())?;
        if own.contains(&field) || [INDEX_HEADER, PLACE_HEADER].contains(&field.as_str()) {
            let message = format!("`{name}` is written by the caller itself; leave it out");
            return Err(D::Error::custom(message));
        }
        Ok((field, value.parse().map_err(|_| wrong())?))
    });
    fields.collect()
}

pub(super) fn optional_path_beginning<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    path(deserializer).map(|path| Some(path.as_str().to_owned()))
}

/// `"identity"` or a size.
pub(super) fn answer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Answer, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "identity" {
        return Ok(Answer::Identity);
    }
    parse_byte_count(&text).map(Answer::Bytes).ok_or_else(|| {
        let hint =
            "write a number and B, KiB or MiB, up to 64MiB, such as \"1KiB\", or \"identity\"";
        D::Error::custom(format!("`{text}` is not an answer; {hint}"))
    })
}

/// How many times as long something takes.
pub(super) fn slowdown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if !(1.0..=1000.0).contains(&value) {
        let message = format!("{value} is not a factor; write a number from 1 to 1000");
        return Err(D::Error::custom(message));
    }
    Ok(value)
}

/// A status that says that something failed.
pub(super) fn error_status<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(deserializer)?;
    match StatusCode::from_u16(number) {
        Ok(status) if (400..=599).contains(&number) => Ok(status),
        _ => Err(D::Error::custom(format!("{number} is no error; write 400 to 599, such as 503"))),
    }
}

pub(super) fn rate<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Spanned<f64>>, D::Error> {
    let rate = Spanned::<f64>::deserialize(deserializer)?;
    let value = *rate.get_ref();
    if !(value.is_finite() && value > 0.0) {
        let message = format!("{value} is not a rate; write requests per second, above 0");
        return Err(D::Error::custom(message));
    }
    Ok(Some(rate))
}

/// The most clients that one simulation is asked to hold.
const MOST_CLIENTS: usize = 100;

pub(super) fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// Clients, each with a sidecar of its own.
pub(super) fn clients<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<NonZeroUsize, D::Error> {
    let clients = usize::deserialize(deserializer)?;
    NonZeroUsize::new(clients)
        .filter(|clients| clients.get() <= MOST_CLIENTS)
        .ok_or_else(|| D::Error::custom(format!("{clients} is not from 1 to {MOST_CLIENTS}")))
}

/// Callers of a closed loop, as many as a client can have ports for.
pub(super) fn users<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Spanned<usize>>, D::Error> {
    let users = Spanned::<usize>::deserialize(deserializer)?;
    let most = default_max_in_flight().get();
    if !(1..=most).contains(users.get_ref()) {
        return Err(D::Error::custom(format!("{} is not from 1 to {most}", users.get_ref())));
    }
    Ok(Some(users))
}

pub(super) fn arrivals<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Spanned<Arrivals>>, D::Error> {
    let text = Spanned::<String>::deserialize(deserializer)?;
    let arrivals = match text.get_ref().as_str() {
        "constant" => Arrivals::Constant,
        "poisson" => Arrivals::Poisson,
        "uniform" => Arrivals::Uniform,
        other => match other.strip_prefix("burst:").and_then(|size| size.parse().ok()) {
            Some(size) => Arrivals::Burst(size),
            None => {
                let known = ["constant", "poisson", "uniform", "burst:10"];
                let hint = suggest(other, &known);
                let message = format!("no arrival process is called `{other}`; {hint}");
                return Err(D::Error::custom(message));
            }
        },
    };
    Ok(Some(Spanned::new(text.span(), arrivals)))
}

/// A number of bytes with its unit, such as `"1KiB"`.
pub(super) fn byte_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_byte_count(&text).ok_or_else(|| {
        let hint = "write a number and B, KiB or MiB, up to 64MiB, such as \"1KiB\"";
        D::Error::custom(format!("`{text}` is not a size; {hint}"))
    })
}

fn parse_byte_count(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return None,
    };
    let bytes = number.parse::<usize>().ok()?.checked_mul(factor)?;
    (bytes <= loadgen::target::MAX_BODY).then_some(bytes)
}

/// A duration and where it stands.
pub(super) fn spanned_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<Duration>, D::Error> {
    let text = Spanned::<fields::DurationText>::deserialize(deserializer)?;
    Ok(Spanned::new(text.span(), text.get_ref().0))
}

pub(super) fn optional_spanned_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Spanned<Duration>>, D::Error> {
    spanned_duration(deserializer).map(Some)
}

/// A duration above zero, and where it stands.
pub(super) fn optional_positive_spanned_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Spanned<Duration>>, D::Error> {
    let duration = spanned_duration(deserializer)?;
    if duration.get_ref().is_zero() {
        return Err(D::Error::custom("must be longer than 0, such as \"250ms\""));
    }
    Ok(Some(duration))
}

pub(super) fn spanned_milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<Duration>, D::Error> {
    let duration = spanned_duration(deserializer)?;
    check_milliseconds(*duration.get_ref()).map_err(D::Error::custom)?;
    Ok(duration)
}

pub(super) fn whole_milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let latency = fields::duration(deserializer)?;
    check_milliseconds(latency).map_err(D::Error::custom)?;
    Ok(latency)
}

/// A duration that may have a sign, up to a day.
pub(super) fn signed_milliseconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (sign, size) = match text.strip_prefix('-') {
        Some(size) => (-1, size),
        None => (1, text.as_str()),
    };
    let size = fields::parse_duration(size).map_err(D::Error::custom)?;
    match i64::try_from(size.as_millis()) {
        Ok(millis) if size <= A_DAY => Ok(sign * millis),
        _ => Err(D::Error::custom(format!("`{text}` is more than a day"))),
    }
}

const A_DAY: Duration = Duration::from_secs(86_400);

fn check_milliseconds(duration: Duration) -> Result<(), &'static str> {
    if duration.is_zero() || !duration.as_nanos().is_multiple_of(1_000_000) {
        return Err("the simulator steps in milliseconds; write whole ones, at least \"1ms\"");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_a_bound() {
        assert_eq!(parse_byte_count("0B"), Some(0));
        assert_eq!(parse_byte_count("1KiB"), Some(1024));
        assert_eq!(parse_byte_count("64 MiB"), Some(64 * 1024 * 1024));
        for wrong in ["", "1", "KiB", "65MiB", "-1B", "1kb", "99999999999999999999MiB"] {
            assert_eq!(parse_byte_count(wrong), None, "{wrong}");
        }
    }
}
