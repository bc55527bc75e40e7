//! The configuration file: TOML in, validated types out.
//!
//! A value that is wrong on its own is refused by its type while it is read, so the error carries
//! the line; what only contradicts something else is checked in [`Config::parse`]. Unknown fields
//! are errors everywhere: a misspelt limit must not be a limit that is silently absent.

mod cluster;
mod endpoint;
pub mod fields;
mod route;
pub mod source;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use cluster::ClusterConfig;
pub use endpoint::EndpointConfig;
pub use route::{Fallback, HashOn, RouteConfig};
pub use source::{InputError, list, suggest};
pub use values::{Balance, EndpointAddr, Name};

use crate::telemetry::{AccessLogOptions, TimelineOptions, TracingOptions};

/// A whole sidecar.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seeds every random choice; drawn from the operating system if absent.
    pub seed: Option<u64>,
    /// Threads that serve requests; one per core if absent.
    pub workers: Option<NonZeroUsize>,
    /// How long requests in flight may go on after SIGTERM. 30 s, as Kubernetes waits by default
    /// before it kills.
    #[serde(default = "defaults::drain_timeout", deserialize_with = "fields::duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub drain_timeout: Duration,
    /// Where to look at the sidecar from outside; nowhere if absent.
    pub admin: Option<AdminConfig>,
    /// A line for each request; none if absent.
    pub access_log: Option<AccessLogOptions>,
    /// A span for each request and attempt; none if absent.
    #[serde(default)]
    pub tracing: TracingOptions,
    /// What is remembered for `/events`.
    #[serde(default)]
    pub timeline: TimelineOptions,
    /// Where requests come in; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where they can go.
    pub clusters: Vec<ClusterConfig>,
    /// Which of them goes where.
    pub routes: Vec<RouteConfig>,
}

/// The admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address to listen on.
    #[serde(deserialize_with = "fields::socket_addr")]
    pub listen: SocketAddr,
}

/// One place where requests come in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
    /// How long a connection may be open without a request begun on it. An hour, as Envoy's: it
    /// costs a descriptor and some memory, and a caller that comes back saves a handshake.
    #[serde(default = "defaults::listener_idle_timeout")]
    #[serde(deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub idle_timeout: Duration,
    /// How long a request head may take, from its first byte to its last, however steadily it
    /// trickles in; then 408. 10 s, as HAProxy's manual advises for `timeout http-request`: an
    /// application writes a head at once, so this is time for a few lost segments.
    #[serde(default = "defaults::header_timeout", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub header_timeout: Duration,
    /// How long a request body that the upstream is ready for may make no progress; then 408, or a
    /// cut when the response has begun. 60 s, as nginx's `client_body_timeout`: an application may
    /// compute what it sends.
    #[serde(default = "defaults::body_timeout", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub body_timeout: Duration,
    /// How long a caller may leave no room at all for its response before it is cut. 60 s, as
    /// nginx's `send_timeout`.
    #[serde(default = "defaults::write_timeout", deserialize_with = "fields::positive_duration")]
    #[serde(serialize_with = "fields::write_duration")]
    pub write_timeout: Duration,
    /// Whether a caller that has closed its sending half is still answered.
    ///
    /// No: on a socket it looks like a caller that is gone, and callers that give up are the
    /// common case. Their requests are cancelled upstream at once, as in Envoy and nginx. With
    /// `true`, as in HAProxy without `abortonclose`, an answer is written to whoever may be left,
    /// and one that is gone is noticed when that fails or the route's timeout is over.
    #[serde(default)]
    pub half_close: bool,
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
                let known = suggest(cluster.as_str(), &clusters);
                let message = format!("no cluster is called `{cluster}`; {known}");
                return Err(wrong(format!("routes[{index}].cluster"), cluster, message));
            }
        }
        Ok(config)
    }
}

impl Config {
    /// The sets of labels that routes to `cluster` ask for, each once.
    pub fn subsets_of(&self, cluster: &ClusterConfig) -> Vec<BTreeMap<String, String>> {
        let routes = self.routes.iter().filter(|route| {
            route.cluster.as_str() == cluster.name.as_str() && !route.labels.is_empty()
        });
        let labels: BTreeSet<_> = routes.map(|route| route.labels.clone()).collect();
        labels.into_iter().collect()
    }

    /// An address that two of the listeners and the admin endpoint want; port 0 is any free one.
    fn first_address_twice(&self) -> Option<SocketAddr> {
        let admin = self.admin.iter().map(|admin| admin.listen);
        let all = self.listeners.iter().map(|listener| listener.listen).chain(admin);
        let mut seen = BTreeSet::new();
        all.filter(|addr| addr.port() != 0).find(|addr| !seen.insert(*addr))
    }
}

impl ListenerConfig {
    /// A listener with the default limits.
    pub fn new(name: impl Into<Name>, listen: SocketAddr) -> Self {
        Self {
            name: name.into(),
            listen,
            max_connections: defaults::max_connections(),
            idle_timeout: defaults::listener_idle_timeout(),
            header_timeout: defaults::header_timeout(),
            body_timeout: defaults::body_timeout(),
            write_timeout: defaults::write_timeout(),
            half_close: false,
        }
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
    pub(super) fn listener_idle_timeout() -> Duration {
        Duration::from_secs(3600)
    }
    pub(super) fn header_timeout() -> Duration {
        Duration::from_secs(10)
    }
    pub(super) fn body_timeout() -> Duration {
        Duration::from_secs(60)
    }
    pub(super) fn write_timeout() -> Duration {
        Duration::from_secs(60)
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
