//! Who of those that wait is served next, and who is refused.
//!
//! Arrivals at twice the capacity leave half of the work undone whatever the queue does; what it
//! decides is *which* half, and how long everybody waits for the news. First in, first out with a
//! full queue is the worst choice: each request is served after a whole queue's wait, when its
//! caller has given up, so that all of the work is done and none of it is of use; and the queue
//! stays full long after the burst that filled it.
//!
//! So, after Maurer, "Fail at Scale" (ACM Queue 13:8, 2015), and CoDel (Nichols and Jacobson, ACM
//! Queue 10:5, 2012), which it adapts to servers:
//! - **First in, first out while the wait is short**: that is fair, and its tail is the shortest.
//! - **Newest first once the oldest has waited [`ShedOptions::newest_first_after`]**: a queue that
//!   stands is no burst. The newest has all of its time left, and a served request's wait is
//!   short again at once. The order returns to normal when those that waited longer are gone.
//! - **The oldest is refused when the queue is full**: its caller is the likeliest to have given
//!   up, and under newest-first it was to be served last.
//! - **Nobody is served past [`ShedOptions::timeout`]**, which bounds the wait of all that are.
//!
//! Maurer shortens the time limit to 5 ms instead when the queue stands. With few connections the
//! next to come free is often further away than that, and would find nobody waiting: newest-first
//! gets the short wait without the idle connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Knobs of [`ShedQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedOptions {
    /// How many may wait; one more displaces the oldest. 1024, as Envoy's circuit breaker.
    pub max_waiting: usize,
    /// How long one may wait. 1 s, after which a connection attempt is given up too: who got
    /// neither in that time finds the endpoint saturated or away, and a caller who is told so can
    /// still try elsewhere within its own 15 s. Linkerd's failfast is 1 s inbound, 3 s outbound.
    pub timeout: Duration,
    /// The age of the oldest from which on the newest is served first. 100 ms, which CoDel and
    /// Maurer take for the longest that a burst lasts.
    pub newest_first_after: Duration,
}

impl Default for ShedOptions {
    fn default() -> Self {
        Self {
            max_waiting: 1024,
            timeout: Duration::from_secs(1),
            newest_first_after: Duration::from_millis(100),
        }
    }
}

/// A place in a [`ShedQueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What became of a request to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<T> {
    /// It waits.
    Waits(Ticket),
    /// It waits; this one, the oldest, was refused for it.
    Displaced(Ticket, T),
    /// Nobody may wait here at all.
    Refused(T),
}

/// Who is met when there is something to serve.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// This one is served.
    Serve(T),
    /// This one waited too long and is refused; ask again.
    Refuse(T),
}

/// Those that wait, in order of arrival.
///
/// A tree and not a ring, because whoever gives up waiting leaves at once, from the middle:
/// otherwise the queue would be full of the dead. Every operation is O(log n).
#[derive(Debug)]
pub struct ShedQueue<T> {
    options: ShedOptions,
    waiting: BTreeMap<Ticket, Waiting<T>>,
    issued: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Instant,
    item: T,
}

impl<T> ShedQueue<T> {
    /// An empty queue.
    pub fn new(options: ShedOptions) -> Self {
        Self { options, waiting: BTreeMap::new(), issued: 0 }
    }

    /// Begins to wait. `now` is not before the `now` of any earlier call.
    pub fn enter(&mut self, item: T, now: Instant) -> Entry<T> {
        if self.options.max_waiting == 0 {
            return Entry::Refused(item);
        }
        let is_full = self.waiting.len() >= self.options.max_waiting;
        let displaced = if is_full { self.waiting.pop_first() } else { None };
        let ticket = Ticket(self.issued);
        self.issued += 1;
        self.waiting.insert(ticket, Waiting { since: now, item });
        match displaced {
            Some((_, oldest)) => Entry::Displaced(ticket, oldest.item),
            None => Entry::Waits(ticket),
        }
    }

    /// Gives up waiting; `None` when the ticket was called or displaced before.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.waiting.remove(&ticket).map(|waiting| waiting.item)
    }

    /// Whoever is met when there is something to serve: first those who waited too long, then the
    /// one to serve. `None` when nobody is left.
    pub fn next(&mut self, now: Instant) -> Option<Next<T>> {
        let oldest = self.waiting.first_entry()?;
        let age = now.saturating_duration_since(oldest.get().since);
        if age >= self.options.timeout {
            return Some(Next::Refuse(oldest.remove().item));
        }
        if age < self.options.newest_first_after {
            return Some(Next::Serve(oldest.remove().item));
        }
        self.waiting.pop_last().map(|(_, newest)| Next::Serve(newest.item))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The knobs.
    pub fn options(&self) -> &ShedOptions {
        &self.options
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin for a scripted clock")]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{Just, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy;

    use super::*;
    use crate::policy::limit::simulated::{Job, Line, Setup};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn options(max_waiting: usize) -> ShedOptions {
        ShedOptions { max_waiting, ..ShedOptions::default() }
    }

    fn served<T>(queue: &mut ShedQueue<T>, now: Instant) -> Option<T> {
        match queue.next(now)? {
            Next::Serve(item) => Some(item),
            Next::Refuse(_) => None,
        }
    }

    #[test]
    fn the_order_is_of_arrival_until_the_oldest_has_waited_and_then_reversed() {
        let start = Instant::now();
        for (age, first) in [(99, 0), (100, 2)] {
            let mut queue = ShedQueue::new(options(3));
            for nth in 0..3 {
                queue.enter(nth, start);
            }
            assert_eq!(served(&mut queue, start + ms(age)), Some(first), "after {age} ms");
        }
    }

    #[test]
    fn the_order_returns_to_normal_when_the_old_are_gone() {
        let start = Instant::now();
        let mut queue = ShedQueue::new(options(9));
        let Entry::Waits(oldest) = queue.enter(0, start) else { panic!("there is room") };
        for nth in 1..5 {
            queue.enter(nth, start + ms(90));
        }
        assert_eq!(served(&mut queue, start + ms(100)), Some(4));
        assert_eq!(queue.leave(oldest), Some(0));
        assert_eq!(served(&mut queue, start + ms(100)), Some(1));
    }

    #[test]
    fn one_more_than_may_wait_displaces_the_oldest() {
        let now = Instant::now();
        let mut queue = ShedQueue::new(options(2));
        assert!(matches!(queue.enter('a', now), Entry::Waits(_)));
        assert!(matches!(queue.enter('b', now), Entry::Waits(_)));
        assert!(matches!(queue.enter('c', now), Entry::Displaced(_, 'a')));
        assert_eq!((queue.len(), served(&mut queue, now)), (2, Some('b')));
        assert_eq!(ShedQueue::new(options(0)).enter('a', now), Entry::Refused('a'));
    }

    #[test]
    fn nobody_is_served_at_the_timeout_and_everybody_just_before() {
        let start = Instant::now();
        for (age, next) in [(999, Next::Serve('a')), (1000, Next::Refuse('a'))] {
            let mut queue = ShedQueue::new(options(2));
            queue.enter('a', start);
            assert_eq!(queue.next(start + ms(age)), Some(next), "after {age} ms");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter,
        Next,
        Leave(usize),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Enter),
            2 => Just(Step::Next),
            1 => (0..64usize).prop_map(Step::Leave),
            2 => (0..400u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Everybody who enters leaves exactly once, the bound holds, and nobody is served late.
        #[test]
        fn everybody_is_accounted_for(max_waiting in 0..8usize, steps in steps()) {
            let mut now = Instant::now();
            let mut queue = ShedQueue::new(options(max_waiting));
            let mut tickets = Vec::new();
            let (mut entered, mut gone) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Enter => {
                        let id = entered.len();
                        entered.push(now);
                        match queue.enter(id, now) {
                            Entry::Waits(ticket) => tickets.push((ticket, id)),
                            Entry::Displaced(ticket, oldest) => {
                                tickets.push((ticket, id));
                                gone.push(oldest);
                            }
                            Entry::Refused(refused) => gone.push(refused),
                        }
                    }
                    Step::Next => match queue.next(now) {
                        Some(Next::Serve(id)) => {
                            prop_assert!(now - entered[id] < queue.options().timeout);
                            gone.push(id);
                        }
                        Some(Next::Refuse(id)) => {
                            prop_assert!(now - entered[id] >= queue.options().timeout);
                            gone.push(id);
                        }
                        None => prop_assert_eq!(gone.len(), entered.len()),
                    },
                    Step::Leave(nth) if !tickets.is_empty() => {
                        let (ticket, id) = tickets[nth % tickets.len()];
                        let left = queue.leave(ticket);
                        prop_assert_eq!(left.is_none(), gone.contains(&id));
                        gone.extend(left);
                    }
                    Step::Leave(_) => {}
                    Step::Wait(millis) => now += ms(millis),
                }
                prop_assert!(queue.len() <= max_waiting);
                prop_assert_eq!(gone.len() + queue.len(), entered.len());
            }
            let mut once = gone.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), gone.len());
        }
    }

    /// A pool of workers with this queue before it.
    struct Shedding(ShedQueue<Job>);

    impl Line for Shedding {
        fn arrive(&mut self, job: Job, now: Instant) {
            self.0.enter(job, now);
        }

        fn next(&mut self, now: Instant) -> Option<Job> {
            loop {
                match self.0.next(now)? {
                    Next::Serve(job) => return Some(job),
                    Next::Refuse(_) => {}
                }
            }
        }
    }

    /// Twice as much arrives as ten workers can do. In order and without a bound, everybody waits
    /// for ever longer. Here the workers are as busy, most of what they do is as good as fresh,
    /// and nothing is older than the timeout and the work itself.
    #[test]
    fn at_twice_the_capacity_what_is_served_is_served_soon() {
        let start = Instant::now();
        let at = |seconds| Setup {
            seed: 1,
            workers: 10,
            work: ms(50),
            load: 2.0,
            span: Duration::from_secs(seconds),
        };
        let mut worse = 0.0;
        for seconds in [30, 60, 120] {
            let fifo = at(seconds).run(&mut VecDeque::new(), start).quantile_ms(0.99);
            assert!(fifo > worse * 1.8, "{fifo} after {worse} in {seconds} s");
            worse = fifo;
            let mut line = Shedding(ShedQueue::new(options(1024)));
            let shed = at(seconds).run(&mut line, start);
            let done = shed.latencies_ms.len() as f64;
            assert!(done > at(seconds).capacity() * seconds as f64 / 2.0 * 0.95, "{done} done");
            assert!(shed.quantile_ms(0.5) < 70.0, "p50 {} ms", shed.quantile_ms(0.5));
            assert!(shed.quantile_ms(0.99) < 1_000.0, "p99 {} ms", shed.quantile_ms(0.99));
        }
    }

    /// Where there is enough for all, the order of arrival is kept: the tail is that of a plain
    /// queue.
    #[test]
    fn at_half_the_capacity_nothing_is_refused_or_reordered() {
        let start = Instant::now();
        let setup =
            Setup { seed: 1, workers: 10, work: ms(50), load: 0.5, span: Duration::from_secs(60) };
        let fifo = setup.run(&mut VecDeque::new(), start);
        let shed = setup.run(&mut Shedding(ShedQueue::new(options(1024))), start);
        assert_eq!(fifo.latencies_ms, shed.latencies_ms);
    }
}
