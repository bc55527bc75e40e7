//! Many callers, upstreams that do anything, and books that balance afterwards.

use std::time::Duration;

use proxy::rng::{StreamRng, stream};
use rand::RngExt as _;
use tokio::time::{sleep, timeout};

use crate::memory::MemoryPeer;
use crate::peer::Message;
use crate::world::{Dialing, ROUTE, World};

const SEEDS: u64 = 30;
const CALLERS: usize = 24;
const REQUESTS: usize = 6;
/// Of a request body.
static HALF: [u8; 10_000] = [b'x'; 10_000];

/// Whatever upstreams and callers do, an answer carries the id of its own request, every request
/// placed ends in exactly one counter, and nothing is left behind.
#[tokio::test(start_paused = true)]
async fn answers_never_cross_and_nothing_leaks() {
    let mut whole = 0;
    for seed in 0..SEEDS {
        let limits = "max_connections = 5\nmax_pending = 10\nidle_timeout = \"700ms\"";
        let mut world = World::with(Dialing::Works, limits, ROUTE);
        let callers: Vec<_> =
            (0..CALLERS).map(|nth| tokio::spawn(call(world.caller(), seed, nth))).collect();
        let (_, mut never) = tokio::sync::mpsc::unbounded_channel();
        std::mem::swap(&mut world.upstreams, &mut never);
        let serving = tokio::spawn(async move {
            while let Some((_, upstream)) = never.recv().await {
                tokio::spawn(serve(upstream, seed));
            }
        });
        for caller in callers {
            whole += caller.await.expect("a caller saw only its own answers");
        }
        // Longer than any route, any settling and any upstream's patience.
        sleep(Duration::from_secs(5)).await;
        world.assert_at_rest();
        let placed = world.counts().rq_total;
        let counts = world.counts();
        // Only what lost the race against an idle close is placed twice.
        assert_eq!(placed, world.received() + counts.rq_replay, "every request here can be placed");
        let books = world.stack.telemetry().conservation();
        books.check_at_rest().expect("the books balance");
        assert_eq!(books.requests.ok, counts.rq_success, "seed {seed}: {counts:?}");
        assert!(counts.cx_active <= 5, "{counts:?}");
        serving.abort();
    }
    assert_eq!(proxy::task::panics(), 0);
    // Else this tested nothing.
    assert!(whole > SEEDS as usize * CALLERS, "only {whole} whole answers");
}

fn body(id: &str) -> String {
    format!("{id};").repeat(200)
}

/// Sends requests one after the other on one connection as long as it lasts; returns how many
/// answers from upstreams were whole.
async fn call(mut peer: MemoryPeer, seed: u64, nth: usize) -> usize {
    let mut rng = stream(seed, &format!("caller/{nth}"));
    let mut whole = 0;
    for request in 0..REQUESTS {
        let id = format!("{nth}-{request}");
        sleep(Duration::from_millis(rng.random_range(0..300))).await;
        let patience = match rng.random_range(0..4) {
            0 => Duration::from_millis(rng.random_range(0..400)),
            _ => Duration::from_secs(60),
        };
        let answer = timeout(patience, exchange(&mut peer, &id, &mut rng)).await;
        let Ok(Ok(answer)) = answer else {
            return whole;
        };
        if answer.flag() == "none" {
            assert_eq!(answer.field("x-id"), Some(id.as_str()));
            assert_eq!(answer.body, body(&id));
            whole += 1;
        }
        if answer.field("connection") == Some("close") {
            return whole;
        }
    }
    whole
}

async fn exchange(peer: &mut MemoryPeer, id: &str, rng: &mut StreamRng) -> Result<Message, String> {
    let lost = |error: std::io::Error| error.to_string();
    if rng.random_bool(0.5) {
        peer.try_send(format!("GET /{id} HTTP/1.1\r\nhost: a\r\n\r\n")).await.map_err(lost)?;
    } else {
        let head = format!("POST /{id} HTTP/1.1\r\nhost: a\r\ncontent-length: 20000\r\n\r\n");
        peer.try_send(head).await.map_err(lost)?;
        for _ in 0..2 {
            peer.try_send(&HALF).await.map_err(lost)?;
            sleep(Duration::from_millis(rng.random_range(0..100))).await;
        }
    }
    peer.try_message().await
}

/// Answers requests on one connection until it misbehaves.
async fn serve(mut peer: MemoryPeer, seed: u64) {
    while let Ok(head) = peer.try_head().await {
        let id = head.split([' ', '/']).nth(2).expect("an id").to_owned();
        let mut rng = stream(seed, &format!("upstream/{id}"));
        let length = crate::peer::field(&head, "content-length").map_or(0, |_| 20_000);
        let reads_first = rng.random_bool(0.7);
        if reads_first && peer.take(length).await.is_none() {
            return;
        }
        sleep(Duration::from_millis(rng.random_range(0..60))).await;
        if !answer(&mut peer, &id, &mut rng).await {
            return;
        }
        if !reads_first && peer.take(length).await.is_none() {
            return;
        }
    }
}

/// True when the connection may go on.
async fn answer(peer: &mut MemoryPeer, id: &str, rng: &mut StreamRng) -> bool {
    let body = body(id);
    let length = body.len();
    let sized = format!("HTTP/1.1 200 OK\r\nx-id: {id}\r\ncontent-length: {length}\r\n");
    let (first, last) = body.split_at(length / 2);
    let pause = Duration::from_millis(rng.random_range(0..200));
    match rng.random_range(0..10) {
        // Closes without an answer.
        0 => false,
        // Closes in the middle of its answer.
        1 => {
            let _ = peer.try_send(format!("{sized}\r\n{first}")).await;
            false
        }
        // Answers and closes.
        2 => {
            let _ = peer.try_send(format!("{sized}connection: close\r\n\r\n{body}")).await;
            false
        }
        // Takes longer than any route.
        3 => {
            sleep(Duration::from_secs(2)).await;
            false
        }
        // Says more than it was asked.
        4 => peer.try_send(format!("{sized}\r\n{body}HTTP/1.1 200 OK\r\n\r\n")).await.is_ok(),
        // Takes its time, in chunks.
        5 | 6 => {
            let half = length / 2;
            let head =
                format!("HTTP/1.1 500 No\r\nx-id: {id}\r\ntransfer-encoding: chunked\r\n\r\n");
            let sent = peer.try_send(format!("{head}{half:x}\r\n{first}\r\n")).await;
            sleep(pause).await;
            let rest = length - half;
            sent.is_ok() && peer.try_send(format!("{rest:x}\r\n{last}\r\n0\r\n\r\n")).await.is_ok()
        }
        _ => peer.try_send(format!("{sized}\r\n{body}")).await.is_ok(),
    }
}
