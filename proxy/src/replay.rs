//! A request body that can be sent more than once.
//!
//! A request can be tried again only if its body can, and a body is a stream that the caller sends
//! once. So what the first attempt reads is kept on its way past, up to a limit, and a later
//! attempt reads that again and goes on where the stream is. Nothing waits for it: the first
//! attempt streams as if nobody listened. The failure that this prevents is the other way to do it,
//! to read the whole body before the first attempt, which delays every request for the few that
//! are retried and breaks those whose caller waits for an answer in between. Linkerd's
//! `ReplayBody` behaves so.
//!
//! # Who reads the stream
//! Only the newest attempt. Starting one takes the stream from the one before, which is about to be
//! dropped when a retry starts, but perhaps is not yet: its connection still holds its body. An
//! older attempt can go on with what was kept; where that ends and the stream does not, it fails
//! with [`ReplayError::Superseded`]. A hedge, unlike a retry, wants both attempts to live, so it may
//! start only when [`Replay::is_complete`]; then all is kept and nobody reads the stream.
//!
//! # What is kept
//! References to the chunks, not copies; they end when the [`Replay`] is dropped, which says that
//! there will be no further attempt. A body that says it is longer than the limit is not kept at
//! all; one that turns out to be is let go at that moment. Either passes through to the attempt
//! that reads it, and [`Replay::state`] says so. An empty body, which is what nearly every GET has,
//! allocates nothing and locks nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use crate::policy::retry::BodyState;

/// Chunks that are kept at most. The limit in bytes does not bound them, as a chunk may have one;
/// a thousand of them take 32 KiB to list, and a body in more pieces is a stream that nobody
/// waits for the end of.
const MAX_CHUNKS: usize = 1024;

/// A request's body, for as long as there may be another attempt.
///
/// Belongs to the attempt loop; each attempt gets a [`ReplayBody`]. Drop it when no attempt will
/// follow.
#[derive(Debug)]
pub struct Replay<B>(Option<Arc<Shared<B>>>);

/// The body of one attempt.
#[derive(Debug)]
pub struct ReplayBody<B>(Reader<B>);

#[derive(Debug)]
enum Reader<B> {
    Empty,
    Shared {
        shared: Arc<Shared<B>>,
        /// Which attempt it is, counted from 1.
        attempt: u64,
        /// Chunks of the kept ones that it has given out.
        chunks: usize,
        /// How many bytes that was.
        bytes: u64,
        /// Whether it gave out trailers, or an error: nothing follows either.
        is_over: bool,
    },
}

#[derive(Debug)]
struct Shared<B> {
    limit: usize,
    /// Held for a poll and never across an await; two attempts at once are rare.
    state: Mutex<State<B>>,
}

#[derive(Debug)]
struct State<B> {
    stream: Stream<B>,
    kept: Kept,
    /// The newest attempt's number.
    newest: u64,
    /// Who waits for the stream.
    waiting: Option<Waker>,
}

/// The caller's stream.
#[derive(Debug)]
enum Stream<B> {
    Open(B),
    Ended { trailers: Option<HeaderMap> },
    Broken,
}

/// What was read of the stream.
#[derive(Debug)]
enum Kept {
    All {
        chunks: Vec<Bytes>,
        bytes: u64,
        /// False once there will be no further attempt.
        is_wanted: bool,
    },
    /// Some of it was let go: whoever was reading then, `attempt`, reads on, and nobody else can.
    Lost { attempt: u64 },
}

/// Why an attempt's body ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// The caller's stream failed, now.
    #[error("the request body failed")]
    Stream(#[source] E),
    /// The caller's stream failed while an earlier attempt read it.
    #[error("the request body failed during an earlier attempt")]
    Broken,
    /// What an earlier attempt read was not kept.
    #[error("the request body is longer than the {limit} bytes that are kept for retries")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A newer attempt reads the stream.
    #[error("a newer attempt reads the request body")]
    Superseded,
}

type Polled<E> = Poll<Option<Result<Frame<Bytes>, ReplayError<E>>>>;

impl<B: Body<Data = Bytes> + Unpin> Replay<B> {
    /// Keeps up to `limit` bytes of `body`.
    pub fn new(body: B, limit: usize) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        let kept = Kept::All { chunks: Vec::new(), bytes: 0, is_wanted: true };
        let state = State { stream: Stream::Open(body), kept, newest: 0, waiting: None };
        Self(Some(Arc::new(Shared { limit, state: Mutex::new(state) })))
    }

    /// The body for another attempt. Takes the stream from the attempt before.
    pub fn attempt(&self) -> ReplayBody<B> {
        let Some(shared) = &self.0 else { return ReplayBody(Reader::Empty) };
        let (attempt, waiting) = {
            let mut state = shared.lock();
            state.newest += 1;
            (state.newest, state.waiting.take())
        };
        if let Some(waker) = waiting {
            // So that it sees that it was superseded, and lets go of its connection.
            waker.wake();
        }
        let shared = shared.clone();
        ReplayBody(Reader::Shared { shared, attempt, chunks: 0, bytes: 0, is_over: false })
    }

    /// Whether another attempt would have the whole body.
    pub fn state(&self) -> BodyState {
        let Some(shared) = &self.0 else { return BodyState::Replayable };
        let state = shared.lock();
        match (&state.stream, &state.kept) {
            (Stream::Broken, _) => BodyState::Broken,
            (_, Kept::Lost { .. }) => BodyState::TooLarge { limit: shared.limit },
            (_, Kept::All { .. }) => BodyState::Replayable,
        }
    }

    /// Whether the body was read to its end and all of it is kept, so that attempts can go on side
    /// by side.
    pub fn is_complete(&self) -> bool {
        let Some(shared) = &self.0 else { return true };
        let state = shared.lock();
        matches!((&state.stream, &state.kept), (Stream::Ended { .. }, Kept::All { .. }))
    }
}

impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        if let Kept::All { is_wanted, .. } = &mut shared.lock().kept {
            // Let go with the next chunk, when nobody can still be reading what is kept.
            *is_wanted = false;
        }
    }
}

impl<B> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        // A panic in the stream is a defect; the state is still the best there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body<Data = Bytes> + Unpin> State<B> {
    /// The next frame of the stream, for the newest attempt.
    fn poll_stream(&mut self, limit: usize, cx: &mut Context<'_>) -> Polled<B::Error> {
        let Stream::Open(body) = &mut self.stream else { return Poll::Ready(None) };
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Pending => {
                match &mut self.waiting {
                    Some(waiting) => waiting.clone_from(cx.waker()),
                    None => self.waiting = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.stream = Stream::Ended { trailers: None };
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.stream = Stream::Broken;
                Poll::Ready(Some(Err(ReplayError::Stream(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let to_come = body.size_hint().lower();
                let has_ended = body.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    self.kept.keep(data, to_come, limit, self.newest);
                    if has_ended {
                        self.stream = Stream::Ended { trailers: None };
                    }
                } else {
                    self.stream = Stream::Ended { trailers: frame.trailers_ref().cloned() };
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Kept {
    /// Keeps a chunk that `attempt` has read, if all of the body can be kept, of which at least
    /// `to_come` bytes follow.
    fn keep(&mut self, chunk: &Bytes, to_come: u64, limit: usize, attempt: u64) {
        let Kept::All { chunks, bytes, is_wanted } = self else { return };
        let whole = (*bytes).saturating_add(chunk.len() as u64).saturating_add(to_come);
        if !*is_wanted || whole > limit as u64 || chunks.len() == MAX_CHUNKS {
            *self = Kept::Lost { attempt };
            return;
        }
        *bytes += chunk.len() as u64;
        chunks.push(chunk.clone());
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<B::Error> {
        let Reader::Shared { shared, attempt, chunks, bytes, is_over } = &mut self.get_mut().0
        else {
            return Poll::Ready(None);
        };
        if *is_over {
            return Poll::Ready(None);
        }
        let mut guard = shared.lock();
        let state = &mut *guard;
        let failed = match (&state.stream, &state.kept) {
            // Not even what is kept: an attempt that cannot be finished is not worth beginning.
            (Stream::Broken, _) => Some(ReplayError::Broken),
            (_, Kept::Lost { attempt: reads }) if reads != attempt => {
                Some(ReplayError::TooLarge { limit: shared.limit })
            }
            _ => None,
        };
        if let Some(error) = failed {
            *is_over = true;
            return Poll::Ready(Some(Err(error)));
        }
        if let Kept::All { chunks: kept, .. } = &state.kept
            && let Some(chunk) = kept.get(*chunks)
        {
            *chunks += 1;
            *bytes += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if let Stream::Ended { trailers } = &state.stream {
            *is_over = true;
            return Poll::Ready(trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if *attempt != state.newest {
            *is_over = true;
            return Poll::Ready(Some(Err(ReplayError::Superseded)));
        }
        let polled = state.poll_stream(shared.limit, cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) => {
                    *chunks += 1;
                    *bytes += data.len() as u64;
                }
                None => *is_over = true,
            },
            Poll::Ready(_) => *is_over = true,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let Reader::Shared { shared, attempt, chunks, is_over, .. } = &self.0 else {
            return true;
        };
        if *is_over {
            return true;
        }
        let state = shared.lock();
        let has_read_all = match &state.kept {
            Kept::All { chunks: kept, .. } => *chunks == kept.len(),
            // Who reads on has read all; who cannot has an error to come.
            Kept::Lost { attempt: reads } => reads == attempt,
        };
        has_read_all && matches!(state.stream, Stream::Ended { trailers: None })
    }

    fn size_hint(&self) -> SizeHint {
        let Reader::Shared { shared, bytes, is_over, .. } = &self.0 else {
            return SizeHint::with_exact(0);
        };
        if *is_over {
            return SizeHint::with_exact(0);
        }
        let state = shared.lock();
        let to_replay = match &state.kept {
            Kept::All { bytes: kept, .. } => SizeHint::with_exact(kept - bytes),
            Kept::Lost { .. } => SizeHint::with_exact(0),
        };
        match &state.stream {
            Stream::Open(body) => to_replay + body.size_hint(),
            Stream::Ended { .. } => to_replay,
            // An error, after which nobody counts.
            Stream::Broken => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
