//! Requests over connections of a lane's own, one after the other.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower::Service;

use super::desk::Ending;
use super::lane::{Shared, Trip};
use super::tally::Counted;
use crate::exchange::{Alarm, Answer, Attempt, Broken, Connection};
use crate::expect::Inspector;
use crate::observer::{Event, Failure, Observer};

/// One lane's connections, at most one to each address: a lane that alternates between hosts
/// keeps them all warm.
pub(super) struct Connections<IO> {
    /// In boxes: taking one out and putting it back moves a pointer.
    open: Vec<Option<Box<Open<IO>>>>,
}

struct Open<IO> {
    connection: Connection<IO>,
    /// Requests that it carried.
    carried: u32,
    _counted: Counted,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connections<IO> {
    pub(super) fn new(addresses: usize) -> Self {
        Self { open: (0..addresses).map(|_| None).collect() }
    }

    pub(super) fn has(&self, address: usize) -> bool {
        self.open[address].is_some()
    }

    pub(super) fn has_any(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    /// Forgets connections that ended while they were idle.
    pub(super) async fn drop_stale(&mut self) {
        for place in &mut self.open {
            if let Some(open) = place
                && open.connection.is_stale().await
            {
                *place = None;
            }
        }
    }

    /// Sees one request to its end, and keeps its connection only if that can carry another.
    pub(super) async fn carry<C, O>(
        &mut self,
        shared: &Shared<'_, '_, C, O>,
        trip: &Trip,
        bytes: &[u8],
        inspector: &mut Inspector,
        mut alarm: Pin<&mut Alarm>,
    ) -> Ending
    where
        C: Service<String, Response = IO, Error = io::Error> + Clone,
        O: Observer + ?Sized,
    {
        let Shared { desk, options, .. } = shared;
        let encoded = &shared.encoded[trip.target];
        loop {
            let kept = self.open[trip.address].take();
            let reused = kept.is_some();
            let mut open = match kept {
                Some(open) => open,
                None => match shared.dial(trip.address, trip.limit, alarm.as_mut()).await {
                    Ok(io) => Box::new(Open {
                        connection: Connection::new(io),
                        carried: 0,
                        _counted: Counted::new(&shared.connections),
                    }),
                    Err(ending) => return ending,
                },
            };
            desk.borrow_mut().sent(trip.slot, (!reused).then(Instant::now));
            let attempt = Attempt::new(bytes, inspector);
            let exchange =
                open.connection.exchange(attempt, encoded.is_head, trip.limit, alarm.as_mut());
            match exchange.await {
                Ok(Answer { status, reusable, heard }) => {
                    open.carried += 1;
                    let worn =
                        options.requests_per_connection.is_some_and(|n| open.carried >= n.get());
                    if reusable && !encoded.closes && !worn {
                        self.open[trip.address] = Some(open);
                    }
                    return Ending::Answered { status, satisfied: inspector.is_satisfied(), heard };
                }
                Err(Broken::TimedOut) => return Ending::TimedOut,
                // The server closed an idle connection as the request was on its way. Only what
                // may be done twice is sent twice (RFC 9110, section 9.2.2); the new connection
                // is not reused, so there is no third time.
                Err(Broken::Failed { silent: true, .. }) if reused && encoded.is_idempotent => {
                    inspector.reset();
                    desk.borrow_mut().note(Event::Retried);
                }
                Err(Broken::Failed { failure, .. }) => {
                    desk.borrow_mut().note(Event::Failed(&failure));
                    return match failure {
                        Failure::Malformed(_) => Ending::Malformed(open.connection.status()),
                        _ => Ending::Closed(open.connection.status()),
                    };
                }
            }
        }
    }
}
