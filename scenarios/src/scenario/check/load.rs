//! What contradicts something else in what the client does.

use loadgen::plan::{MAX_RATE, PlanError};
use proxy::config::InputError;
use toml::Spanned;

use super::Checker;
use crate::scenario::Requests;

/// A run keeps a record of each request, of about a hundred bytes with the backend's.
const MOST_REQUESTS: u64 = 10_000_000;

impl Checker<'_> {
    /// Whether the client sends requests of this sort.
    pub(super) fn sends(&self, requests: &Requests) -> bool {
        let service = self.file.services[0].name.get_ref();
        // What cannot be sent at all is said of the load.
        self.file.load.mix(service, 0).is_ok_and(|mix| mix.targets().any(|t| requests.has(t)))
    }

    pub(super) fn load(&self) -> Result<(), InputError> {
        let load = &self.file.load;
        let given = [load.rate.is_some(), load.stages.is_some(), load.users.is_some()];
        let Some((name, span)) = load.amount() else {
            let message = "say how much is asked: `rate` a second, `stages` or `users`";
            return Err(InputError::field(self.path, "load.rate", message));
        };
        let at = Spanned::new(span, ());
        let wrong = |message: &str| self.wrong(format!("load.{name}"), &at, message.to_owned());
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Err(wrong("give `rate`, `stages` or `users`, one of them"));
        }
        match (&load.arrivals, &load.users) {
            (Some(arrivals), Some(_)) => {
                let message = "who waits for an answer asks when it is there; leave it out";
                return Err(self.wrong("load.arrivals".into(), arrivals, message.to_owned()));
            }
            (None, None) => {
                let message = "say with `arrivals` how they are spread, such as \"poisson\"";
                return Err(self.wrong("load.arrivals".into(), &at, message.to_owned()));
            }
            _ => {}
        }
        if let Some(users) = &load.users
            && *users.get_ref() < load.clients.get()
        {
            let message = format!("each of the {} clients needs one at least", load.clients);
            return Err(self.wrong("load.users".into(), users, message));
        }
        self.amount(&format!("load.{name}"), &at, None)?;
        for rate in self.variants.iter().filter_map(|variant| variant.rate.as_ref()) {
            if load.rate.is_none() {
                let message = "only a `load.rate` can be varied; give that instead";
                return Err(wrong(message));
            }
            let at = Spanned::new(rate.span(), ());
            self.amount("matrix.load.rate", &at, Some(*rate.get_ref()))?;
        }
        self.warm_up()?;
        let service = self.file.services[0].name.get_ref();
        load.mix(service, 0).map(drop).map_err(|cannot| {
            let reason = cannot.reason.get_ref().clone();
            self.wrong(cannot.field, &cannot.reason, reason)
        })
    }

    /// Whether a run with so many requests can be planned and kept: as many as the field named says,
    /// or at this rate.
    fn amount(&self, field: &str, at: &Spanned<()>, rate: Option<f64>) -> Result<(), InputError> {
        let load = &self.file.load;
        let end = *self.file.duration.get_ref();
        let wrong = |message: String| self.wrong(field.to_owned(), at, message);
        if rate.or(load.rate.as_ref().map(|rate| *rate.get_ref())).is_some_and(|r| r > MAX_RATE) {
            return Err(wrong(format!("at most {MAX_RATE} requests per second can be planned")));
        }
        if let Some(stages) = &load.stages
            && let Some(late) = stages.get_ref().iter().find(|stage| stage.at > end)
        {
            let late = humantime::format_duration(late.at);
            return Err(wrong(format!("the run is over before {late}")));
        }
        let plan = load.plan(rate, end, 0).map_err(|error| match error {
            PlanError::Stages => {
                let first = "the first stage must be at \"0s\", and none before the one above it";
                wrong(first.to_owned())
            }
            PlanError::Rate(_) => wrong(error.to_string()),
            _ => self.wrong("duration".into(), &self.file.duration, error.to_string()),
        })?;
        // Whoever waits for an answer waits for four links at least.
        let most = match &load.users {
            None => plan.len(),
            Some(users) => {
                let round = self.file.network.latency * 4;
                let rounds = end.as_nanos() / round.as_nanos().max(1);
                u64::try_from(rounds).unwrap_or(u64::MAX).saturating_mul(*users.get_ref() as u64)
            }
        };
        if most > MOST_REQUESTS {
            let message = "this plans more than ten million requests, which one run has no memory \
                           for; lower the rate or the duration";
            return Err(wrong(message.to_owned()));
        }
        Ok(())
    }

    fn warm_up(&self) -> Result<(), InputError> {
        let end = *self.file.duration.get_ref();
        match &self.file.load.warm_up {
            Some(warm_up) if *warm_up.get_ref() >= end => {
                let end = humantime::format_duration(end);
                let message = format!("nothing is left to look at; write less than {end}");
                Err(self.wrong("load.warm_up".into(), warm_up, message))
            }
            _ => Ok(()),
        }
    }
}
