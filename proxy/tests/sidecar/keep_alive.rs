//! The keep-alive idle race: the upstream closes an idle connection as a request is written to it.
//!
//! Envoy's users know it as "503 UC". What may be repeated is, on a connection of which it is known
//! that it is open; nobody else's fault is made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxy::listener::{Options, serve};
use proxy::policy::balance::EndpointId;
use proxy::policy::outlier::GateState;
use proxy::rng::stream;
use proxy::seam::tcp_dialer;
use proxy::{Config, Stack};
use rand::RngExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::peer::Peer;
use crate::script::{Act, Fleet, GET, OK, POST, Seen};

/// Nothing but the repetition that the race is owed.
const NO_RETRIES: &str = "retry.max_retries = 0";
const NO_BUDGET: &str = "retry_budget = { ratio = 0.0, min_per_second = 0 }";

/// Answers the first request of each connection and closes in the face of the second, of which it
/// has read all.
fn one_each(seen: &Seen) -> Act {
    if seen.nth_there == 0 { Act::say(OK) } else { Act::close() }
}

#[tokio::test(start_paused = true)]
async fn a_get_is_never_failed_for_it() {
    let put = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    for endpoints in [&["a:80"][..], &["a:80", "b:80"]] {
        for request in [GET, put] {
            let fleet = Fleet::new(endpoints, NO_BUDGET, NO_RETRIES, one_each);
            for _ in 0..20 {
                let answer = fleet.ask(request).await;
                assert_eq!((answer.status(), answer.body.as_str()), (200, "ok"));
            }
            assert!(fleet.seen().len() > 20, "no race was lost");
            fleet.at_rest().await;
        }
    }
}

/// An endpoint that restarts closes all of them: the second try must not meet another such.
#[tokio::test(start_paused = true)]
async fn it_is_not_lost_twice() {
    for endpoints in [&["a:80"][..], &["a:80", "b:80"]] {
        // Slow enough that each needs a connection of its own.
        let script = |seen: &Seen| match seen.nth_there {
            0 => Act::later(10, OK),
            _ => Act::close(),
        };
        let fleet = Fleet::new(endpoints, NO_BUDGET, NO_RETRIES, script);
        let mut warm: Vec<_> = (0..8).map(|_| fleet.caller()).collect();
        for caller in &mut warm {
            caller.send(GET).await;
        }
        for caller in &mut warm {
            assert_eq!(caller.message().await.status(), 200);
        }
        fleet.settle().await;
        assert_eq!(fleet.idle(), 8);
        // All at once, so that each has a connection that is about to close.
        for caller in &mut warm {
            caller.send(GET).await;
        }
        for caller in &mut warm {
            let answer = caller.message().await;
            assert_eq!(answer.status(), 200, "{}", answer.head);
        }
        // And one by one.
        for _ in 0..4 {
            assert_eq!(fleet.ask(GET).await.status(), 200);
        }
        fleet.at_rest().await;
    }
}

/// Eight races lost in a row are no reason to eject an endpoint that is well.
#[tokio::test(start_paused = true)]
async fn it_is_not_the_endpoints_failure() {
    let script = |seen: &Seen| match seen.nth_there {
        0 => Act::later(10, OK),
        _ => Act::close(),
    };
    let fleet = Fleet::new(&["a:80", "b:80"], NO_BUDGET, NO_RETRIES, script);
    let mut callers: Vec<_> = (0..40).map(|_| fleet.caller()).collect();
    for _ in 0..2 {
        for caller in &mut callers {
            caller.send(GET).await;
        }
        for caller in &mut callers {
            assert_eq!(caller.message().await.status(), 200);
        }
        fleet.settle().await;
    }
    assert_eq!(fleet.seen().len(), 120, "each of the second forty lost one race");
    for endpoint in [EndpointId(0), EndpointId(1)] {
        assert_eq!(fleet.stack.clusters()[0].state(endpoint), GateState::Available);
    }
    fleet.at_rest().await;
}

/// The upstream may have carried it out before it closed.
#[tokio::test(start_paused = true)]
async fn a_post_that_was_written_is_not_repeated() {
    let fleet = Fleet::new(&["a:80", "b:80"], "", "", one_each);
    let mut answers = Vec::new();
    for _ in 0..12 {
        let answer = fleet.ask(POST).await;
        answers.push(answer.status());
        if answer.status() != 200 {
            assert_eq!((answer.status(), answer.flag()), (502, "UC"));
            assert_eq!(answer.field("x-sidecar-retry-given-up"), Some("not_safe"));
        }
    }
    assert_eq!(fleet.seen().len(), 12, "each is seen once: {answers:?}");
    assert!(answers.contains(&502), "no race was lost");
    fleet.at_rest().await;
}

/// Of which nothing was written is another matter: whatever its method, it goes out on a new
/// connection.
#[tokio::test(start_paused = true)]
async fn a_post_that_was_not_written_goes_out_on_a_new_connection() {
    let fleet = Fleet::new(&["a:80"], NO_BUDGET, NO_RETRIES, |_| Act::Last(OK.to_owned()));
    let mut caller = fleet.caller();
    for nth in 1..=10 {
        // At once after the last answer, behind which the close comes.
        caller.send(POST).await;
        let answer = caller.message().await;
        assert_eq!(answer.status(), 200, "{}", answer.head);
        assert_eq!((fleet.seen().len(), fleet.dialled().len()), (nth, nth));
    }
    fleet.at_rest().await;
}

/// A connection that fails before anything could be idle on it lost no race.
#[tokio::test(start_paused = true)]
async fn a_new_connection_loses_no_race() {
    let fleet = Fleet::new(&["a:80"], NO_BUDGET, NO_RETRIES, |_| Act::close());
    let answer = fleet.ask(GET).await;
    assert_eq!((answer.status(), answer.flag(), fleet.seen().len()), (502, "UC", 1));
    fleet.at_rest().await;
}

const CALLERS: u64 = 8;
const REQUESTS: usize = 60;
/// Of the upstream. Callers pause about as long.
const PATIENCE: Duration = Duration::from_millis(8);

/// On real sockets, where the close and the request really cross: an upstream with less patience
/// than the sidecar has, and callers that pause about as long as that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_sees_an_upstreams_idle_timeout() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = upstream.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = upstream.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer_until_idle(Peer::new(stream)));
        }
    });
    let text = format!(
        "[[listeners]]\nname = \"in\"\nlisten = \"127.0.0.1:0\"\n\
         [[clusters]]\nname = \"web\"\nendpoints = [\"{addr}\"]\n{NO_BUDGET}\n\
         [[routes]]\ncluster = \"web\"\n{NO_RETRIES}\n"
    );
    let config = Config::parse(std::path::Path::new("test.toml"), &text).expect("right");
    let stack = Stack::new(&config, 1, tcp_dialer());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let front = listener.local_addr().expect("bound");
    let service = {
        let stack = stack.clone();
        move |peer| {
            let stack = stack.clone();
            move |request| stack.clone().call(peer, request)
        }
    };
    let options = Options::new(&config.listeners[0], Duration::from_secs(5));
    let stats = stack.telemetry().listener("in");
    let drain = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, service, options, stats, drain.clone()));
    let calling: Vec<_> = (0..CALLERS)
        .map(|seed| {
            tokio::spawn(async move {
                let mut rng = stream(seed, "pauses");
                let mut caller = Peer::new(TcpStream::connect(front).await.expect("it listens"));
                for _ in 0..REQUESTS {
                    caller.send(GET).await;
                    let answer = caller.message().await;
                    assert_eq!(answer.status(), 200, "{}", answer.head);
                    sleep(PATIENCE.mul_f64(rng.random_range(0.8..1.2))).await;
                }
            })
        })
        .collect();
    for caller in calling {
        caller.await.expect("no failure was seen");
    }
    // Else this tested nothing.
    let made = connections.load(Ordering::Relaxed);
    assert!(made > CALLERS as usize * 2, "only {made} connections were made");
    drain.cancel();
    serving.await.expect("no panic");
    if let Err(imbalance) = stack.telemetry().conservation().check_at_rest() {
        panic!("{imbalance}");
    }
}

/// Its patience is for connections that have served: as with common servers, the first request of
/// each may take longer.
async fn answer_until_idle(mut peer: Peer<TcpStream>) {
    let mut request = peer.try_message().await.ok();
    while request.is_some() && peer.try_send(OK).await.is_ok() {
        request = timeout(PATIENCE, peer.try_message()).await.ok().and_then(Result::ok);
    }
}
