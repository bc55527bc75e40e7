//! Binds what the configuration names, serves, drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proxy::admin::Admin;
use proxy::config::ListenerConfig;
use proxy::listener::{Options, serve};
use proxy::seam::tcp_dialer;
use proxy::{Config, Stack};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::say;

/// How often idle upstream connections are looked through. They may live this much longer than
/// their timeout, which is far below any that makes sense.
const SWEEP: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT and the requests then in flight are done.
///
/// # Errors
/// When an address cannot be listened on.
pub(crate) async fn run(config: Config, seed: u64) -> anyhow::Result<()> {
    // First of all: once we say that we are ready, a signal must not kill us any more.
    let stop = StopSignals::new()?;
    let drain = CancellationToken::new();
    let stack = Stack::new(&config, seed, tcp_dialer());
    let mut servers = JoinSet::new();
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let socket = bind(listener.name.as_str(), listener.listen).await?;
        bound.push((listener.name.to_string(), socket.local_addr()?));
        let stack = stack.clone();
        let stats = stack.telemetry().listener(listener.name.as_str());
        let options = options(listener, config.drain_timeout);
        let service = move |request| stack.clone().call(request);
        servers.spawn(serve(socket, service, options, stats, drain.clone()));
    }
    // The admin endpoint outlives the listeners: whoever watches a drain wants to see its end.
    let _admin = match &config.admin {
        Some(admin) => {
            let socket = bind("admin", admin.listen).await?;
            bound.push(("admin".to_owned(), socket.local_addr()?));
            Some(serve_admin(socket, stack.clone(), drain.clone()))
        }
        None => None,
    };
    let sweeper = tokio::spawn(sweep(stack));
    for (name, addr) in &bound {
        say(&format!("{name} listens on {addr}"));
    }
    say(&format!("ready; seed {seed}"));
    stop.received().await;
    say(&format!("draining for at most {}", humantime::format_duration(config.drain_timeout)));
    drain.cancel();
    let mut cut = 0;
    while let Some(result) = servers.join_next().await {
        cut += result.context("a listener's task failed")?;
    }
    sweeper.abort();
    match cut {
        0 => say("drained"),
        1 => say("drained; 1 connection was still busy and had to be cut"),
        n => say(&format!("drained; {n} connections were still busy and had to be cut")),
    }
    Ok(())
}

async fn bind(name: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| {
        format!("cannot listen on {addr} for `{name}`; choose an address that is free and ours")
    })
}

fn options(listener: &ListenerConfig, drain_timeout: Duration) -> Options {
    Options {
        max_connections: listener.max_connections.get(),
        header_timeout: listener.header_timeout,
        date_header: true,
        drain_timeout,
    }
}

/// Serves the admin endpoint until the returned set is dropped.
fn serve_admin(socket: TcpListener, stack: Arc<Stack>, drain: CancellationToken) -> JoinSet<usize> {
    let config = ListenerConfig::new("admin", SocketAddr::from(([127, 0, 0, 1], 0)));
    let options = options(&config, Duration::ZERO);
    let stats = stack.telemetry().listener("admin");
    let admin = Admin::new(stack, drain);
    let service = move |request| {
        let response = admin.answer(&request);
        async move { response }
    };
    let mut set = JoinSet::new();
    set.spawn(serve(socket, service, options, stats, CancellationToken::new()));
    set
}

async fn sweep(stack: Arc<Stack>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stack.close_old_connections(Instant::now());
    }
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    async fn received(mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
