//! The shell of a link: moves the bytes of its connections when the model says.
//!
//! A task of its own stands between the two ends of a connection, as two kernels do. So what was
//! sent goes on its way when the sender has left, and a sender is not slowed down before there is
//! more under way than fits.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy::rng::{StreamRng, stream};
use proxy::seam::{BoxedIo, Io};
use proxy::task;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split,
};
use tokio::time::sleep_until;

use super::{Direction, Flow, GivenUp, Part, SEGMENT_BYTES, Schedule};
use crate::clock::Clock;

/// Bytes that are taken from a sender at once: an initial window of ten segments (RFC 6928).
const FLIGHT_BYTES: usize = 10 * SEGMENT_BYTES;
/// Bytes under way in one direction of a connection; then its sender waits. More than a link of
/// 100 MB/s holds in a round trip of 2 ms.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes that an end takes before the link does.
const BUFFER_BYTES: usize = 64 * 1024;

/// A link between one caller and one instance, with a stream of random numbers of its own.
pub struct Link {
    schedule: Schedule,
    clock: Clock,
    rng: Mutex<StreamRng>,
}

impl Link {
    /// The link called `name` in a run with this seed.
    pub fn new(schedule: Schedule, clock: Clock, (seed, name): (u64, &str)) -> Self {
        let rng = Mutex::new(stream(seed, &format!("link/{name}")));
        Self { schedule, clock, rng }
    }

    /// Opens a connection over the link; `connect` opens one on the network behind it.
    ///
    /// # Errors
    /// That of `connect`, or a timeout, after two minutes, when nothing gets through.
    pub async fn connect<F, S>(self: Arc<Self>, connect: impl FnOnce() -> F) -> io::Result<BoxedIo>
    where
        F: Future<Output = io::Result<S>>,
        S: Io,
    {
        let now = self.clock.elapsed();
        let shake = self.with_rng(|rng| self.schedule.connect(now, rng));
        let shake = match shake {
            Ok(shake) => shake,
            Err(GivenUp { at }) => {
                self.until(at).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        self.until(shake.syn).await;
        let connected = connect().await;
        self.until(self.clock.elapsed() + shake.answer).await;
        let far = connected?;
        let (near, end) = duplex(BUFFER_BYTES);
        task::spawn("link", async move { self.carry(end, far).await });
        Ok(Box::new(near))
    }

    /// Moves bytes between the caller's end and the instance's until both directions are done, or
    /// the connection is given up.
    pub async fn carry<S: Io>(&self, near: DuplexStream, far: S) {
        let (from_near, to_near) = split(near);
        let (from_far, to_far) = split(far);
        let there = self.pump(Direction::There, from_near, to_far);
        let back = self.pump(Direction::Back, from_far, to_near);
        if let Err(GivenUp { at }) = tokio::try_join!(there, back) {
            tracing::debug!(?at, "a connection was given up");
        }
    }

    /// Moves bytes in one direction, to the end of the stream, or until nobody takes them.
    async fn pump<R, W>(&self, direction: Direction, mut from: R, mut to: W) -> Result<(), GivenUp>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut flow = Flow::new(direction);
        let mut under_way = UnderWay::default();
        let mut buffer = vec![0; FLIGHT_BYTES];
        let mut end = None;
        while end.is_none() || !under_way.parts.is_empty() {
            let next = under_way.parts.front().map(|(at, _)| *at);
            tokio::select! {
                biased;
                () = self.until(next.unwrap_or_default()), if next.is_some() => {
                    if deliver(&mut to, under_way.take()).await.is_err() {
                        return Ok(());
                    }
                }
                read = from.read(&mut buffer), if end.is_none() && under_way.bytes < WINDOW_BYTES => {
                    // A connection that was reset is at its end too.
                    let bytes = &buffer[..read.unwrap_or(0)];
                    let now = self.clock.elapsed();
                    let sent =
                        self.with_rng(|rng| flow.send(bytes.len(), now, &self.schedule, rng));
                    end = bytes.is_empty().then_some(Ok(()));
                    match sent {
                        Ok(parts) => under_way.add(bytes, &parts),
                        Err(given_up) => end = Some(Err(given_up)),
                    }
                }
            }
        }
        match end {
            Some(Err(GivenUp { at })) => {
                self.until(at).await;
                Err(GivenUp { at })
            }
            _ => Ok(()),
        }
    }

    async fn until(&self, at: Duration) {
        if self.clock.elapsed() < at {
            sleep_until(self.clock.instant(at)).await;
        }
    }

    fn with_rng<T>(&self, draw: impl FnOnce(&mut StreamRng) -> T) -> T {
        // Whatever a draw leaves behind is a generator.
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// No bytes are the end of the stream.
async fn deliver<W: AsyncWrite + Unpin>(to: &mut W, bytes: Vec<u8>) -> io::Result<()> {
    if bytes.is_empty() {
        return to.shutdown().await;
    }
    to.write_all(&bytes).await?;
    to.flush().await
}

/// What was sent and has not arrived.
#[derive(Default)]
struct UnderWay {
    parts: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
}

impl UnderWay {
    fn add(&mut self, mut bytes: &[u8], parts: &[Part]) {
        self.bytes += bytes.len();
        for part in parts {
            let (now, later) = bytes.split_at(part.bytes);
            self.parts.push_back((part.at, now.to_vec()));
            bytes = later;
        }
    }

    /// The next part.
    fn take(&mut self) -> Vec<u8> {
        let (_, bytes) = self.parts.pop_front().unwrap_or_default();
        self.bytes -= bytes.len();
        bytes
    }
}

#[cfg(test)]
mod tests;
