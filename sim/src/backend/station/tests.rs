//! Schedules worked out by hand, and what holds for all of them.

use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rules(discipline: Discipline, workers: usize) -> Rules {
    Rules { discipline, workers: Some(workers), queue: None, speed: 1.0 }
}

/// What is played: at an instant, something happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request of so much work comes.
    Come(Duration),
    /// The request with this number leaves.
    Go(u64),
    /// The workers' speed changes.
    Speed(f64),
}

/// When a request began to be worked on, and when that was over.
type Times = (Option<Duration>, Option<Duration>);

/// Plays steps and looks at the station every millisecond, as the simulator does; in the end, what
/// became of each request.
fn play(rules: Rules, steps: &[(u64, Step)]) -> Vec<Times> {
    let mut station = Station::new(rules);
    let mut work: Vec<Duration> = Vec::new();
    let mut times: Vec<Times> = Vec::new();
    let mut steps = steps.iter().copied().peekable();
    for now in (0..100_000).map(ms) {
        while let Some((_, step)) = steps.next_if(|(at, _)| ms(*at) <= now) {
            match step {
                Step::Come(amount) => {
                    let number = work.len() as u64;
                    work.push(amount);
                    times.push((None, None));
                    let _ = station.arrive(number, now);
                }
                Step::Go(number) => station.leave(number, now),
                Step::Speed(speed) => {
                    let rules = Rules { speed, ..station.rules };
                    station.set(rules, now);
                }
            }
            settle(&mut station, now, &work, &mut times);
        }
        station.advance(now);
        settle(&mut station, now, &work, &mut times);
        if steps.peek().is_none() && station.held.is_empty() && station.waiting.is_empty() {
            break;
        }
    }
    times
}

/// Begins the work of whoever was given a worker, until nothing more happens at this instant.
fn settle(station: &mut Station, now: Duration, work: &[Duration], times: &mut [Times]) {
    loop {
        let mut idle = true;
        for (number, times) in times.iter_mut().enumerate() {
            let number = number as u64;
            let Some(at) = station.take_reached(number) else { continue };
            idle = false;
            if times.0.is_none() {
                times.0 = Some(at);
                station.work(number, work[number as usize], at, true);
            } else {
                times.1 = Some(at);
            }
        }
        station.advance(now);
        if idle {
            return;
        }
    }
}

fn in_ms(times: &[Times]) -> Vec<(f64, f64)> {
    let ms = |at: Option<Duration>| at.map_or(f64::NAN, |at| at.as_secs_f64() * 1e3);
    times.iter().map(|(from, to)| (ms(*from), ms(*to))).collect()
}

fn come(at: u64, work_us: u64) -> (u64, Step) {
    (at, Step::Come(Duration::from_micros(work_us)))
}

#[test]
fn fifo_works_on_who_has_waited_longest_to_the_microsecond() {
    let steps = [come(0, 2_500), come(1, 1_250), come(2, 1_250), come(20, 500)];
    let times = play(rules(Discipline::Fifo, 1), &steps);
    // Nobody begins at the next millisecond because a timer is coarse.
    assert_eq!(in_ms(&times), [(0.0, 2.5), (2.5, 3.75), (3.75, 5.0), (20.0, 20.5)]);
}

#[test]
fn lifo_works_on_who_came_last() {
    let steps = [come(0, 10_000), come(1, 2_000), come(2, 2_000), come(3, 2_000), come(11, 1_000)];
    let times = play(rules(Discipline::Lifo, 1), &steps);
    assert_eq!(
        in_ms(&times),
        [(0.0, 10.0), (15.0, 17.0), (13.0, 15.0), (10.0, 12.0), (12.0, 13.0)]
    );
}

#[test]
fn several_workers_serve_one_queue() {
    let steps = [come(0, 4_000), come(0, 6_000), come(1, 3_000), come(1, 3_000)];
    let times = play(rules(Discipline::Fifo, 2), &steps);
    assert_eq!(in_ms(&times), [(0.0, 4.0), (0.0, 6.0), (4.0, 7.0), (6.0, 9.0)]);
}

#[test]
fn who_shares_is_slowed_by_all_others_and_by_no_queue() {
    // Alone for 2 ms, then two: 4 ms each of its 4 left, halved. The second has 1 ms left then.
    let steps = [come(0, 4_000), come(2, 3_000)];
    let times = play(rules(Discipline::ProcessorSharing, 1), &steps);
    assert_eq!(in_ms(&times), [(0.0, 6.0), (2.0, 7.0)]);
    // Three on two workers go at two thirds, two of them at full speed.
    let steps = [come(0, 2_000), come(0, 4_000), come(0, 4_000)];
    let times = play(rules(Discipline::ProcessorSharing, 2), &steps);
    assert_eq!(in_ms(&times), [(0.0, 3.0), (0.0, 5.0), (0.0, 5.0)]);
    // A third that leaves gives its part to the others.
    let steps = [come(0, 4_000), come(0, 4_000), (2, Step::Go(0))];
    let times = play(rules(Discipline::ProcessorSharing, 1), &steps);
    assert!(times[0].1.is_none());
    assert_eq!(in_ms(&times)[1], (0.0, 5.0));
}

#[test]
fn a_change_of_speed_counts_for_what_is_in_work() {
    let steps =
        [come(0, 4_000), (2, Step::Speed(0.5)), (4, Step::Speed(0.0)), (10, Step::Speed(2.0))];
    for discipline in [Discipline::Fifo, Discipline::ProcessorSharing] {
        // 2 ms of work, then 1 in two, none in six, and the last one in half of one.
        assert_eq!(in_ms(&play(rules(discipline, 1), &steps)), [(0.0, 10.5)]);
    }
}

#[test]
fn who_leaves_gives_the_worker_to_the_next() {
    let steps =
        [come(0, 10_000), come(1, 2_000), come(1, 2_000), (3, Step::Go(1)), (4, Step::Go(0))];
    let times = play(rules(Discipline::Fifo, 1), &steps);
    assert_eq!(times[1], (None, None), "it left while it waited");
    assert_eq!(in_ms(&times)[2], (4.0, 6.0));
}

#[test]
fn one_more_than_may_wait_is_refused() {
    for discipline in [Discipline::Fifo, Discipline::Lifo, Discipline::ProcessorSharing] {
        let mut station = Station::new(Rules { queue: Some(2), ..rules(discipline, 1) });
        let all: Vec<_> = (0..4).map(|number| station.arrive(number, ms(0))).collect();
        assert_eq!(all, [Ok(()), Ok(()), Ok(()), Err(QueueFull)], "{discipline:?}");
    }
}

#[test]
fn only_the_first_of_those_who_share_has_an_alarm() {
    let mut station = Station::new(rules(Discipline::ProcessorSharing, 1));
    for (number, work) in [(0, 8), (1, 4)] {
        station.arrive(number, ms(0)).unwrap();
        station.take_reached(number);
        station.work(number, ms(work), ms(0), true);
    }
    assert_eq!((station.alarm(0), station.alarm(1)), (None, Some(ms(8))));
    assert!(station.take_changed().contains(&0), "its alarm is wrong now");
    station.set(Rules { speed: 0.0, ..station.rules }, ms(1));
    assert_eq!(station.alarm(1), None, "what stands still never ends");
}

fn any_discipline() -> impl Strategy<Value = Discipline> {
    prop_oneof![Just(Discipline::Fifo), Just(Discipline::Lifo), Just(Discipline::ProcessorSharing)]
}

proptest! {
    #[test]
    fn work_is_conserved(
        discipline in any_discipline(),
        jobs in prop::collection::vec((0_u64..200, 1_u64..20_000), 1..40),
    ) {
        // With one worker it is busy whenever someone is there, so the last one is finished when
        // all work is done, whoever goes first.
        let mut jobs = jobs;
        jobs.sort_unstable();
        let steps: Vec<_> = jobs.iter().map(|(at, us)| come(*at, *us)).collect();
        let times = play(rules(discipline, 1), &steps);
        let free = jobs.iter().fold(0.0_f64, |free, (at, us)| {
            free.max(*at as f64) + *us as f64 / 1e3
        });
        let last = in_ms(&times).iter().map(|(_, to)| *to).fold(0.0, f64::max);
        prop_assert!((last - free).abs() < 1e-3, "{} for {}", last, free);
        for ((from, to), (_, us)) in in_ms(&times).into_iter().zip(&jobs) {
            let took = to - from;
            let work = *us as f64 / 1e3;
            if discipline == Discipline::ProcessorSharing {
                prop_assert!(took >= work - 1e-3);
            } else {
                prop_assert!((took - work).abs() < 1e-3, "{} for {}", took, work);
            }
        }
    }

    #[test]
    fn nobody_is_forgotten_however_many_leave(
        discipline in any_discipline(),
        jobs in prop::collection::vec((0_u64..50, 1_u64..9_000, prop::bool::ANY), 1..30),
        workers in 1_usize..4,
    ) {
        let mut jobs = jobs;
        jobs.sort_unstable();
        let mut steps: Vec<_> = jobs.iter().map(|(at, us, _)| come(*at, *us)).collect();
        let leavers = jobs.iter().enumerate().filter(|(_, (.., leaves))| *leaves);
        steps.extend(leavers.map(|(n, (at, ..))| (at + 3, Step::Go(n as u64))));
        steps.sort_by_key(|(at, _)| *at);
        let times = play(rules(discipline, workers), &steps);
        for (n, (_, _, leaves)) in jobs.iter().enumerate() {
            prop_assert_eq!(times[n].1.is_some() || *leaves, true, "request {}", n);
        }
    }
}
