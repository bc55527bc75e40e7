//! What sidecars say of single requests: which endpoint, when, why again, why not.
//!
//! A sidecar's events carry no request, because nothing in it needs that. Here the task that answers
//! a request knows its index, and whatever is said in that task is about it. What is said after the
//! head of the answer is not kept: from then on the client and the backends know better.

use std::sync::{Arc, PoisonError};

use proxy::telemetry::event::{AttemptEnd, Event, Named as _};
use proxy::telemetry::{EndpointRef, Tap};

use super::Shared;
use crate::clock::Clock;
use crate::world::{Said, Saying};

tokio::task_local! {
    /// The index of the request that a task is about.
    static INDEX: u64;
}

/// Runs what answers the request with this index; what is said meanwhile is about it.
pub(super) async fn about<T>(index: Option<u64>, answer: impl Future<Output = T>) -> T {
    match index {
        None => answer.await,
        Some(index) => INDEX.scope(index, answer).await,
    }
}

/// Listens to the sidecar with this place in the list of all; `backend_at` says which backend has a
/// place in it.
pub(super) fn listen(
    sayings: Shared<Saying>,
    sidecar: usize,
    backend_at: impl Fn(EndpointRef) -> Option<usize> + Send + Sync + 'static,
    clock: Clock,
) -> Tap {
    Arc::new(move |_, event: &Event| {
        let Some(said) = said(event, &backend_at) else { return };
        let Ok(index) = INDEX.try_with(|index| *index) else { return };
        let saying = Saying { index, sidecar, at: clock.elapsed(), said };
        sayings.lock().unwrap_or_else(PoisonError::into_inner).push(saying);
    })
}

fn said(event: &Event, backend_at: &impl Fn(EndpointRef) -> Option<usize>) -> Option<Said> {
    let place = |at: &EndpointRef| backend_at(*at);
    Some(match event {
        Event::AttemptStarted { at, kind } => {
            Said::Placed { backend: place(at)?, kind: kind.name() }
        }
        Event::AttemptAnswered { at, status, .. } => {
            Said::Answered { backend: place(at)?, status: *status }
        }
        // The answer was said already.
        Event::AttemptEnded {
            end: AttemptEnd::Completed(_) | AttemptEnd::Discarded(_), ..
        } => {
            return None;
        }
        Event::AttemptEnded { at, end } => Said::Ended { backend: place(at)?, how: end.name() },
        Event::RetryGivenUp { why, .. } => Said::GaveUp { why: why.name() },
        _ => return None,
    })
}
