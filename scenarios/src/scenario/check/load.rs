//! What contradicts something else in what the client does.

use loadgen::plan::{MAX_RATE, Plan};
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
        self.rate("load.rate", &load.rate)?;
        for rate in self.variants.iter().filter_map(|variant| variant.rate.as_ref()) {
            self.rate("matrix.load.rate", rate)?;
        }
        let service = self.file.services[0].name.get_ref();
        load.mix(service, 0).map(drop).map_err(|cannot| {
            let reason = cannot.reason.get_ref().clone();
            self.wrong(cannot.field, &cannot.reason, reason)
        })
    }

    /// Whether a run at this rate can be planned and kept.
    fn rate(&self, field: &str, rate: &Spanned<f64>) -> Result<(), InputError> {
        let wrong = |message: String| self.wrong(field.to_owned(), rate, message);
        if *rate.get_ref() > MAX_RATE {
            return Err(wrong(format!("at most {MAX_RATE} requests per second can be planned")));
        }
        let duration = self.file.duration.get_ref();
        let plan = Plan::new(self.file.load.arrivals, *rate.get_ref(), *duration, 0);
        let plan = plan.map_err(|error| {
            self.wrong("duration".into(), &self.file.duration, error.to_string())
        })?;
        if plan.len() > MOST_REQUESTS {
            let message = "this plans more than ten million requests, which one run has no memory \
                           for; lower the rate or the duration";
            return Err(wrong(message.to_owned()));
        }
        Ok(())
    }
}
