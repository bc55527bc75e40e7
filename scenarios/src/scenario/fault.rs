//! What goes wrong, with whom, and when: once, or again and again.

use std::time::Duration;

use http::StatusCode;
use proxy::config::fields::{optional_positive_duration, positive_duration};
use serde::{Deserialize, Deserializer};
use sim::backend::Errors;
use sim::{FaultKind, ServiceTime};
use toml::Spanned;

use super::{Window, fields};

/// How often one fault may come back: ten minutes of one a second.
pub(super) const MOST_REPETITIONS: usize = 600;

/// Something that goes wrong.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The instance it happens to, such as `web-0`, or all of `web-*`.
    pub target: Option<Spanned<String>>,
    /// Several of them, instead.
    #[serde(default)]
    pub targets: Vec<Spanned<String>>,
    /// Only the first of them, this part rounded up.
    #[serde(default, deserialize_with = "fields::optional_fraction")]
    pub fraction: Option<f64>,
    /// When, from the start of the run.
    #[serde(deserialize_with = "fields::spanned_duration")]
    pub at: Spanned<Duration>,
    /// When it is over; never if absent.
    #[serde(default, deserialize_with = "fields::optional_spanned_duration")]
    pub until: Option<Spanned<Duration>>,
    /// It comes back this long after each time it began.
    #[serde(default, deserialize_with = "fields::optional_spanned_duration")]
    pub every: Option<Spanned<Duration>>,
    /// And lasts this long each time.
    #[serde(default, rename = "for", deserialize_with = "optional_positive_duration")]
    pub lasts: Option<Duration>,
    /// What happens.
    pub what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// Work takes this long instead.
    Slow(ServiceTime),
    /// Nothing moves: no request starts, none is answered.
    Hang,
    /// Work ends in a 500 with this probability.
    ErrorRate(#[serde(deserialize_with = "fields::probability")] f64),
    /// Work ends in an error of some kind.
    Errors(ErrorKind),
    /// New connections are refused; the ones that are open go on.
    Refuse,
    /// The process dies, and starts again at the end.
    Crash,
}

/// Errors in more detail.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorKind {
    /// With this probability.
    #[serde(default = "always", deserialize_with = "fields::probability")]
    pub rate: f64,
    /// Answered with this.
    #[serde(default = "internal_error", deserialize_with = "fields::error_status")]
    pub status: StatusCode,
    /// After this, instead of the time that the work would have taken.
    #[serde(default, deserialize_with = "constant_time")]
    pub time: Option<ServiceTime>,
}

fn always() -> f64 {
    1.0
}

fn internal_error() -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn constant_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<ServiceTime>, D::Error> {
    positive_duration(deserializer).map(|time| Some(ServiceTime::Constant(time)))
}

impl Fault {
    /// Its targets as they are written.
    pub fn written(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.target.iter().chain(&self.targets)
    }

    /// The places of its targets in a list of instances, in order and each once.
    pub fn places(&self, instances: &[String]) -> Vec<usize> {
        let hit = |name: &String| self.written().any(|target| matches(target.get_ref(), name));
        let mut places: Vec<_> =
            (0..instances.len()).filter(|&place| hit(&instances[place])).collect();
        if let Some(fraction) = self.fraction {
            // At most as many as there are, so it fits.
            places.truncate((places.len() as f64 * fraction).ceil() as usize);
        }
        places
    }

    /// When it is there, in order; `end` is that of the run. One that does not end by itself lasts
    /// to the end and beyond, and says `None`.
    pub fn times(&self, end: Duration) -> Vec<(Duration, Option<Duration>)> {
        let at = *self.at.get_ref();
        let until = self.until.as_ref().map(|until| *until.get_ref());
        let (Some(every), Some(lasts)) = (&self.every, self.lasts) else {
            return vec![(at, until)];
        };
        let last = until.unwrap_or(end).min(end);
        let begins = (0..MOST_REPETITIONS as u32).map(|n| at + *every.get_ref() * n);
        begins
            .take_while(|begin| *begin < last)
            .map(|begin| (begin, Some((begin + lasts).min(last))))
            .collect()
    }

    /// As [`Fault::times`], cut off at the end of the run.
    pub fn windows(&self, end: Duration) -> impl Iterator<Item = Window> {
        self.times(end).into_iter().map(move |(at, until)| at..until.unwrap_or(end))
    }

    /// The simulator's name for it.
    pub fn kind(&self) -> FaultKind {
        match self.what {
            What::Slow(time) => FaultKind::Slow(time),
            What::Hang => FaultKind::Hang,
            What::ErrorRate(rate) => FaultKind::Errors(Errors::at_rate(rate)),
            What::Errors(ErrorKind { rate, status, time }) => {
                FaultKind::Errors(Errors { rate, status, time })
            }
            What::Refuse => FaultKind::Refuse,
            What::Crash => FaultKind::Crash,
        }
    }
}

/// True when `target`, a name or the beginning of one with `*` behind it, names this instance.
pub fn matches(target: &str, instance: &str) -> bool {
    match target.strip_suffix('*') {
        Some(beginning) => instance.starts_with(beginning),
        None => target == instance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        toml::from_str(text).unwrap()
    }

    fn names() -> Vec<String> {
        (0..5).map(|n| format!("web-{n}")).chain(["db-0".to_owned()]).collect()
    }

    #[test]
    fn targets_are_names_patterns_and_parts() {
        let of = |targets: &str| {
            fault(&format!("{targets}\nat = \"1s\"\nwhat = \"hang\"")).places(&names())
        };
        assert_eq!(of("target = \"web-3\""), [3]);
        assert_eq!(of("targets = [\"db-0\", \"web-1\", \"web-1\"]"), [1, 5]);
        assert_eq!(of("target = \"web-*\""), [0, 1, 2, 3, 4]);
        assert_eq!(of("target = \"web-*\"\nfraction = 0.5"), [0, 1, 2]);
        assert_eq!(of("target = \"*\"\nfraction = 0.01"), [0]);
        assert!(of("target = \"cache-*\"").is_empty());
    }

    #[test]
    fn a_repeated_fault_ends_with_its_time_or_the_run() {
        let text =
            "target = \"web-0\"\nat = \"1s\"\nevery = \"5s\"\nfor = \"2s\"\nwhat = \"crash\"";
        let s = Duration::from_secs;
        let all = fault(text).times(s(12));
        assert_eq!(all, [(s(1), Some(s(3))), (s(6), Some(s(8))), (s(11), Some(s(12)))]);
        let until = fault(&format!("{text}\nuntil = \"7s\"")).times(s(12));
        assert_eq!(until, [(s(1), Some(s(3))), (s(6), Some(s(7)))]);
    }
}
