//! The configuration file: TOML in, validated types out.
//!
//! A value that is wrong on its own is refused by its type while it is read, so the error carries
//! the line; what only contradicts something else is checked in [`Config::parse`]. Unknown fields
//! are errors everywhere: a misspelt limit must not be a limit that is silently absent.

pub mod fields;
pub mod source;
mod values;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

pub use source::InputError;
pub use values::{Balance, EndpointAddr, Name};

use crate::policy::balance::{BalancerOptions, PeakEwmaOptions};

/// A whole sidecar.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seeds every random choice; drawn from the operating system if absent.
    pub seed: Option<u64>,
    /// Threads that serve requests; one per core if absent.
    pub workers: Option<NonZeroUsize>,
    /// How long requests in flight may go on after SIGTERM. 30 s, as Kubernetes waits by default
    /// before it kills.
    #[serde(default = "defaults::drain_timeout", deserialize_with = "fields::duration")]
    pub drain_timeout: Duration,
    /// Where to look at the sidecar from outside; nowhere if absent.
    pub admin: Option<AdminConfig>,
    /// Where requests come in; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where they can go.
    pub clusters: Vec<ClusterConfig>,
    /// Which of them goes where.
    pub routes: Vec<RouteConfig>,
}

/// The admin endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on.
    #[serde(deserialize_with = "fields::socket_addr")]
    pub listen: SocketAddr,
}

/// One place where requests come in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Its name in statistics and errors.
    pub name: Name,
    /// Address to listen on.
    #[serde(deserialize_with = "fields::socket_addr")]
    pub listen: SocketAddr,
    /// Connections held open at once; further ones wait in the kernel's queue. 10,000 is far above
    /// what one application opens and far below a usual descriptor limit with upstreams beside.
    #[serde(default = "defaults::max_connections")]
    pub max_connections: NonZeroUsize,
    /// How long a request head may take to arrive, from the connection's or the previous
    /// response's end. Also the idle limit of a keep-alive connection. An hour, as Envoy's.
    #[serde(default = "defaults::header_timeout", deserialize_with = "fields::positive_duration")]
    pub header_timeout: Duration,
}

/// A set of endpoints that can serve the same requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Its name in routes and statistics.
    pub name: Name,
    /// `host:port` of each endpoint; at least one.
    #[serde(deserialize_with = "fields::non_empty")]
    pub endpoints: Vec<EndpointAddr>,
    /// How to choose among them.
    #[serde(default)]
    pub balance: Balance,
    /// Knobs of the `peak_ewma` strategy.
    #[serde(default)]
    pub peak_ewma: PeakEwmaConfig,
    /// How long a connection may take to be made. 1 s: within a mesh one lost SYN is forgiven,
    /// two are a fault.
    #[serde(default = "defaults::connect_timeout", deserialize_with = "fields::positive_duration")]
    pub connect_timeout: Duration,
    /// Connections, and so requests in flight, per endpoint. 1024, as Envoy's circuit breaker.
    #[serde(default = "defaults::endpoint_limit")]
    pub max_connections: NonZeroUsize,
    /// Requests that may wait for a connection per endpoint; one more is refused with 503. 1024, as
    /// Envoy's circuit breaker.
    #[serde(default = "defaults::max_pending")]
    pub max_pending: usize,
    /// How long an unused connection is kept. 50 s: shorter than the 60 s or more after which
    /// common servers close it themselves, because a request sent into such a close is lost.
    #[serde(default = "defaults::idle_timeout", deserialize_with = "fields::positive_duration")]
    pub idle_timeout: Duration,
}

/// Knobs of the `peak_ewma` strategy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeakEwmaConfig {
    /// See [`PeakEwmaOptions::decay`].
    #[serde(deserialize_with = "fields::positive_duration")]
    pub decay: Duration,
    /// See [`PeakEwmaOptions::default_latency`].
    #[serde(deserialize_with = "fields::positive_duration")]
    pub default_latency: Duration,
    /// See [`PeakEwmaOptions::failure_latency`].
    #[serde(deserialize_with = "fields::positive_duration")]
    pub failure_latency: Duration,
}

impl Default for PeakEwmaConfig {
    fn default() -> Self {
        let PeakEwmaOptions { decay, default_latency, failure_latency } =
            PeakEwmaOptions::default();
        Self { decay, default_latency, failure_latency }
    }
}

/// Which requests go to which cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// The host that the request is for, without a port; any host if absent.
    pub host: Option<String>,
    /// The beginning of the path, in whole segments: `/api` matches `/api` and `/api/users`, not
    /// `/apiary`.
    #[serde(default = "defaults::prefix", deserialize_with = "fields::path_prefix")]
    pub prefix: String,
    /// The cluster's name.
    pub cluster: Name,
    /// From the request's head to the end of its response. 15 s, as Envoy's.
    #[serde(default = "defaults::route_timeout", deserialize_with = "fields::positive_duration")]
    pub timeout: Duration,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// One [`InputError`] that names the file, the line, the field and what would be right.
    pub fn load(path: &Path) -> Result<Self, InputError> {
        let text = source::read(path)?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file; `path` is for the errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, InputError> {
        let config: Config = source::parse(path, text)?;
        if config.listeners.is_empty() {
            let message = "at least one [[listeners]] is needed";
            return Err(InputError::field(path, "listeners", message));
        }
        let wrong = |field: String, name: &Name, message: String| {
            InputError::field(path, field, message).at_span(text, name.span())
        };
        if let Some((index, name)) = first_repeated(config.listeners.iter().map(|l| &l.name)) {
            let message = format!("`{name}` names an earlier listener too; names must differ");
            return Err(wrong(format!("listeners[{index}].name"), name, message));
        }
        if let Some((index, name)) = first_repeated(config.clusters.iter().map(|c| &c.name)) {
            let message = format!("`{name}` names an earlier cluster too; names must differ");
            return Err(wrong(format!("clusters[{index}].name"), name, message));
        }
        if let Some(taken) = config.first_address_twice() {
            let message = format!("{taken} is listened on twice; give each its own address");
            return Err(InputError::field(path, "listen", message));
        }
        let clusters: Vec<&str> = config.clusters.iter().map(|c| c.name.as_str()).collect();
        for (index, RouteConfig { cluster, .. }) in config.routes.iter().enumerate() {
            if !clusters.contains(&cluster.as_str()) {
                let known = list(&clusters);
                let message = format!("no cluster is called `{cluster}`; there is {known}");
                return Err(wrong(format!("routes[{index}].cluster"), cluster, message));
            }
        }
        Ok(config)
    }
}

impl Config {
    /// An address that two of the listeners and the admin endpoint want; port 0 is any free one.
    fn first_address_twice(&self) -> Option<SocketAddr> {
        let admin = self.admin.iter().map(|admin| admin.listen);
        let all = self.listeners.iter().map(|listener| listener.listen).chain(admin);
        let mut seen = BTreeSet::new();
        all.filter(|addr| addr.port() != 0).find(|addr| !seen.insert(*addr))
    }
}

impl ClusterConfig {
    /// A cluster with the default limits.
    pub fn new(name: impl Into<Name>, endpoints: Vec<EndpointAddr>, balance: Balance) -> Self {
        Self {
            name: name.into(),
            endpoints,
            balance,
            peak_ewma: PeakEwmaConfig::default(),
            connect_timeout: defaults::connect_timeout(),
            max_connections: defaults::endpoint_limit(),
            max_pending: defaults::max_pending(),
            idle_timeout: defaults::idle_timeout(),
        }
    }

    /// The knobs of its balancer.
    pub fn balancer_options(&self) -> BalancerOptions {
        let PeakEwmaConfig { decay, default_latency, failure_latency } = self.peak_ewma;
        BalancerOptions { peak_ewma: PeakEwmaOptions { decay, default_latency, failure_latency } }
    }
}

impl ListenerConfig {
    /// A listener with the default limits.
    pub fn new(name: impl Into<Name>, listen: SocketAddr) -> Self {
        Self {
            name: name.into(),
            listen,
            max_connections: defaults::max_connections(),
            header_timeout: defaults::header_timeout(),
        }
    }
}

impl RouteConfig {
    /// Everything to one cluster.
    pub fn all_to(cluster: impl Into<Name>, timeout: Duration) -> Self {
        Self { host: None, prefix: defaults::prefix(), cluster: cluster.into(), timeout }
    }
}

/// `a, b and c` in backticks, for error messages.
pub fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

fn first_repeated<'a>(names: impl Iterator<Item = &'a Name>) -> Option<(usize, &'a Name)> {
    let mut seen = BTreeSet::new();
    names.enumerate().find(|(_, name)| !seen.insert(name.as_str()))
}

/// The defaults, each justified at its field.
mod defaults {
    use super::{Duration, NonZeroUsize};

    const fn non_zero(n: usize) -> NonZeroUsize {
        match NonZeroUsize::new(n) {
            Some(n) => n,
            None => NonZeroUsize::MIN,
        }
    }

    pub(super) fn drain_timeout() -> Duration {
        Duration::from_secs(30)
    }
    pub(super) fn max_connections() -> NonZeroUsize {
        non_zero(10_000)
    }
    pub(super) fn header_timeout() -> Duration {
        Duration::from_secs(3600)
    }
    pub(super) fn connect_timeout() -> Duration {
        Duration::from_secs(1)
    }
    pub(super) fn endpoint_limit() -> NonZeroUsize {
        non_zero(1024)
    }
    pub(super) fn max_pending() -> usize {
        1024
    }
    pub(super) fn idle_timeout() -> Duration {
        Duration::from_secs(50)
    }
    pub(super) fn prefix() -> String {
        "/".to_owned()
    }
    pub(super) fn route_timeout() -> Duration {
        Duration::from_secs(15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[admin]
listen = "127.0.0.1:9901"

[[listeners]]
name = "outbound"
listen = "127.0.0.1:15001"

[[clusters]]
name = "web"
endpoints = ["127.0.0.1:9001", "localhost:9002", "[::1]:9003"]
balance = "least_request"

[[routes]]
prefix = "/"
cluster = "web"
timeout = "500ms"
"#;

    fn error(text: &str) -> String {
        match Config::parse(Path::new("mesh.toml"), text) {
            Ok(_) => panic!("accepted:\n{text}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_whole_file_is_read() -> Result<(), InputError> {
        let config = Config::parse(Path::new("mesh.toml"), GOOD)?;
        assert_eq!(config.clusters[0].endpoints.len(), 3);
        assert_eq!(config.clusters[0].balance.0.name, "least_request");
        assert_eq!(config.routes[0].timeout, Duration::from_millis(500));
        assert_eq!(config.drain_timeout, Duration::from_secs(30));
        Ok(())
    }

    /// Each way to be wrong, and the one line that says so.
    #[test]
    fn errors_name_file_line_field_and_what_would_be_right() {
        let twice = "[[clusters]]\nname = \"web\"\nendpoints = [\"a:1\"]\n\n[[routes]]";
        let all = "[\"127.0.0.1:9001\", \"localhost:9002\", \"[::1]:9003\"]";
        let cases = [
            ("least_request", "fastest"),
            ("500ms", "half a second"),
            ("500ms", "0s"),
            ("cluster = \"web\"", "cluster = \"wbe\""),
            ("prefix = \"/\"", "prefix = \"api\""),
            ("prefix", "prefx"),
            ("127.0.0.1:15001", "15001"),
            ("127.0.0.1:15001", "127.0.0.1:9901"),
            ("127.0.0.1:9001", "127.0.0.1"),
            ("listen = \"127.0.0.1:15001\"", ""),
            ("timeout = \"500ms\"", "timeout = -1"),
            ("[admin]", "[admin"),
            ("[[routes]]", twice),
            (all, "[]"),
        ];
        let lines: Vec<_> =
            cases.iter().map(|(right, wrong)| error(&GOOD.replacen(right, wrong, 1))).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
