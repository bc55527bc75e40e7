//! Hedging: the same request a second time, because the first takes long.
//!
//! "The Tail at Scale" (Dean and Barroso, 2013): sent after the 95th percentile of latencies, a
//! hedge costs 5 % more load and cuts the tail to that of two endpoints failing at once. It is
//! safe only for what may be repeated, comes out of the same budget as retries, and whoever loses
//! is cancelled at once.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::{Call, Journal, Outcome};
use crate::policy::balance::EndpointId;
use crate::policy::hedge::Waiting;
use crate::telemetry::event::AttemptKind;

/// Each with when it was sent.
type Running<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = (Instant, Outcome)> + Send + 'a>>>;

impl Call<'_> {
    /// Waits for `first`, and sends hedges beside it every `delay` as long as the policy and the
    /// budget allow. The first good response wins; without any, the last failure is the outcome.
    pub(super) async fn race(
        &mut self,
        first: impl Future<Output = Outcome> + Send,
        delay: Duration,
        tried: &mut Vec<EndpointId>,
        journal: &mut Journal,
    ) -> Outcome {
        let mut running: Running<'_> = FuturesUnordered::new();
        tried.extend(journal.endpoint.as_ref().map(|endpoint| endpoint.id));
        let mut sent = vec![Instant::now()];
        running.push(since(sent[0], first));
        let mut hedges = Some(0);
        let mut next = sent[0] + delay;
        loop {
            tokio::select! {
                biased;
                Some((at, outcome)) = running.next() => {
                    sent.retain(|other| *other != at);
                    let good = outcome.as_ref().is_ok_and(|r| !r.status().is_server_error());
                    if good {
                        // Those that a hedge has overtaken are cut. They are remembered, or only
                        // fast answers would be, and more and more would be hedged.
                        for overtaken in sent.into_iter().filter(|other| *other < at) {
                            self.cluster.overtaken(overtaken);
                        }
                        return outcome;
                    }
                    if running.is_empty() {
                        return outcome;
                    }
                    if let Ok(response) = outcome {
                        response.into_body().discard();
                    }
                }
                () = sleep_until(next), if hedges.is_some() => {
                    next += delay;
                    hedges = self.hedge_again(hedges.unwrap_or(0));
                    if hedges.is_some()
                        && let now = Instant::now()
                        && let Some(placement) = self.place(AttemptKind::Hedge, tried, journal, now)
                    {
                        tried.push(placement.id());
                        let hedge =
                            self.send(placement, AttemptKind::Hedge, false, journal.attempts);
                        sent.push(now);
                        running.push(since(now, hedge));
                    }
                }
            }
        }
    }

    /// How many hedges there are with one more; `None` when there may be none.
    fn hedge_again(&self, hedges: u32) -> Option<u32> {
        let waiting = Waiting {
            request: self.facts(),
            body_is_complete: self.body.is_complete(),
            hedges,
            remaining: self.deadline.left(Instant::now()),
            expected_try: None,
        };
        self.cluster.reserve_hedge(self.hedge?, waiting).then_some(hedges + 1)
    }
}

fn since<'a>(
    sent: Instant,
    attempt: impl Future<Output = Outcome> + Send + 'a,
) -> Pin<Box<dyn Future<Output = (Instant, Outcome)> + Send + 'a>> {
    Box::pin(async move { (sent, attempt.await) })
}
