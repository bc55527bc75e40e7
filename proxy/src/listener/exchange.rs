//! What the parts around hyper know about the request on a connection.
//!
//! hyper shows neither what it waits for nor whose turn it is. The reader in front of it knows
//! where in a request the input stands, the service behind it knows how far the response is; what
//! both know together decides which timeout runs, whether the next request may pass, and who still
//! can say why a request is refused. There is one request at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::framing::Violation;
use crate::error::Flag;

/// Why the listener answers a request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("bad request: {0}")]
    Malformed(Violation),
    #[error("the request's head was not complete within {}", humantime::format_duration(*.0))]
    HeaderTimeout(Duration),
    #[error("nothing came of the request's body for {}", humantime::format_duration(*.0))]
    BodyTimeout(Duration),
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Malformed(violation) => violation.status(),
            Refusal::HeaderTimeout(_) | Refusal::BodyTimeout(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// One that stalls has a flag of its own, as in Envoy: it is still there.
    pub(super) fn flag(self) -> Flag {
        match self {
            Refusal::Malformed(_) => Flag::DPE,
            Refusal::HeaderTimeout(_) | Refusal::BodyTimeout(_) => Flag::SI,
        }
    }
}

/// What a connection waits for its caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Begin a request.
    Request,
    /// Finish the head that it has begun.
    Head,
    /// Send more of the body that somebody wants to read.
    Body,
}

/// Where the input stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    #[default]
    Between,
    Head,
    Body,
}

/// How far the response to the request that passed last is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Response {
    /// Over, or nothing was asked yet.
    #[default]
    None,
    Pending,
    Begun,
    /// It says why the request is refused, and the connection ends with it.
    Refusal,
}

#[derive(Debug, Default)]
struct State {
    input: Input,
    response: Response,
    refusal: Option<Refusal>,
    /// It came too late to be told.
    is_lost: bool,
    /// The input gave less than was asked for.
    is_starved: bool,
    /// Input is held back until the response is over.
    is_withheld: bool,
    /// Requests, and pieces of body, that came so far: a wait is over when this changes.
    progress: u64,
}

/// One connection's books, for everybody who works on it. All of them run in its one task, so the
/// lock is never waited for.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange(Arc<Mutex<State>>);

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What the reader says and asks.

    /// A request's head passed on to the parser.
    pub(super) fn request_passed(&self) {
        let mut state = self.state();
        state.response = Response::Pending;
        state.progress += 1;
    }

    /// Some input passed on; the rest stands there.
    pub(super) fn input_passed(&self, input: Input) {
        let mut state = self.state();
        state.input = input;
        state.is_starved = false;
        state.progress += 1;
    }

    /// There is no more input now.
    pub(super) fn starved(&self, input: Input, is_withheld: bool) {
        let mut state = self.state();
        state.input = input;
        state.is_starved = true;
        state.is_withheld = is_withheld;
    }

    /// True when the next request may pass: answers come in order, and while one is awaited the
    /// parser must be able to see that the caller left.
    pub(super) fn is_answered(&self) -> bool {
        self.state().response == Response::None
    }

    /// Refuses the request that is read, and with it the rest of the connection.
    pub(super) fn refuse(&self, refusal: Refusal) {
        let mut state = self.state();
        if state.refusal.is_none() {
            state.refusal = Some(refusal);
            state.is_lost = match state.response {
                Response::Begun => true,
                Response::None => state.input == Input::Body,
                Response::Pending | Response::Refusal => false,
            };
        }
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.state().refusal
    }

    // What the service says.

    /// The response's head is there.
    pub(super) fn response_begun(&self) {
        self.state().response = Response::Begun;
    }

    /// The response is the refusal.
    pub(super) fn refusal_begun(&self) {
        self.state().response = Response::Refusal;
    }

    /// The response was handed over in full, or given up.
    pub(super) fn response_over(&self) {
        let mut state = self.state();
        if state.response != Response::Refusal {
            state.response = Response::None;
            state.progress += 1;
        }
    }

    // What the connection's task asks, once everything that could run has run.

    /// What the caller is waited for to do, and a number that tells two such waits apart.
    pub(super) fn waits_for(&self) -> Option<(Wait, u64)> {
        let state = self.state();
        let wait = match (state.input, state.response) {
            _ if state.refusal.is_some() => return None,
            (Input::Body, _) if state.is_starved => Wait::Body,
            (Input::Between, Response::None) => Wait::Request,
            (Input::Head, Response::None) => Wait::Head,
            _ => return None,
        };
        Some((wait, state.progress))
    }

    /// True when a head has begun and may still become a request.
    pub(super) fn is_in_head(&self) -> bool {
        let state = self.state();
        state.input == Input::Head && state.response == Response::None && state.refusal.is_none()
    }

    /// True, once, when input was held back and need not be any more.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state();
        let release = state.is_withheld && state.response == Response::None;
        state.is_withheld &= !release;
        release
    }

    /// True when a request was refused whose response had begun or was over: nobody can be told
    /// any more, and the fragment must not be taken for a whole.
    pub(super) fn must_be_cut(&self) -> bool {
        self.state().is_lost
    }
}
