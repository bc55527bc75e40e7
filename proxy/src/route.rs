//! Request → route. Pure.
//!
//! Routes for a host go before routes for any host, longer prefixes before shorter ones, and
//! earlier routes before later ones. So the order of the file matters only between equals.

use std::time::Duration;

use crate::config::RouteConfig;

/// Where requests go.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// In order of precedence.
    routes: Vec<Route>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    host: Option<String>,
    prefix: String,
    /// Its place in the configuration.
    pub index: usize,
    /// The cluster's place in the configuration.
    pub cluster: usize,
    /// From the request's head to the end of its response.
    pub timeout: Duration,
}

impl RouteTable {
    /// The table of a configuration; `cluster` finds a cluster's place by its name.
    ///
    /// # Panics
    /// When a route names a cluster that `cluster` does not know; a checked configuration has
    /// none.
    pub fn new(configs: &[RouteConfig], cluster: impl Fn(&str) -> Option<usize>) -> Self {
        let mut routes: Vec<_> = configs
            .iter()
            .enumerate()
            .map(|(index, config)| Route {
                index,
                host: config.host.as_ref().map(|host| host.to_ascii_lowercase()),
                prefix: config.prefix.clone(),
                cluster: match cluster(config.cluster.as_str()) {
                    Some(cluster) => cluster,
                    None => unreachable!("configurations are checked before they are used"),
                },
                timeout: config.timeout,
            })
            .collect();
        routes.sort_by_key(|route| (route.host.is_none(), std::cmp::Reverse(route.prefix.len())));
        Self { routes }
    }

    /// The cluster's place of the route at `index` in the configuration.
    pub fn cluster_of(&self, index: usize) -> Option<usize> {
        let route = self.routes.iter().find(|route| route.index == index)?;
        Some(route.cluster)
    }

    /// The route of a request. `host` may carry a port, which is ignored; `path` is without its
    /// query.
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let host = without_port(host);
        self.routes.iter().find(|route| {
            let host_fits = route.host.as_ref().is_none_or(|h| h.eq_ignore_ascii_case(host));
            host_fits && has_prefix(path, &route.prefix)
        })
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 literal ends in a bracket when it has no port.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// True when `prefix` is made of the first whole segments of `path`.
fn has_prefix(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    fn table(routes: &[(Option<&str>, &str)]) -> RouteTable {
        let configs: Vec<_> = routes
            .iter()
            .enumerate()
            .map(|(i, (host, prefix))| RouteConfig {
                host: host.map(str::to_owned),
                prefix: (*prefix).to_owned(),
                ..RouteConfig::all_to(i.to_string().as_str(), Duration::from_secs(1))
            })
            .collect();
        RouteTable::new(&configs, |name| name.parse().ok())
    }

    #[test]
    fn host_goes_before_any_host_and_long_before_short() {
        let table =
            table(&[(None, "/"), (None, "/api/v1"), (Some("A.example"), "/"), (None, "/api")]);
        let cluster = |host, path| table.find(host, path).map(|route| route.cluster);
        assert_eq!(cluster("x", "/"), Some(0));
        assert_eq!(cluster("x", "/api/v1/users"), Some(1));
        assert_eq!(cluster("x", "/api"), Some(3));
        assert_eq!(cluster("a.example:8080", "/api/v1"), Some(2));
        assert_eq!(cluster("[::1]:80", "/api"), Some(3));
    }

    #[test]
    fn a_prefix_is_made_of_whole_segments() {
        let table = table(&[(None, "/api")]);
        let matches = |path| table.find("x", path).is_some();
        assert!(matches("/api") && matches("/api/") && matches("/api/a"));
        assert!(!matches("/apiary") && !matches("/ap") && !matches("/"));
    }

    proptest! {
        /// The route found is the best of those that match, by the rule as it is documented, and
        /// none is found only when none matches.
        #[test]
        fn the_most_specific_route_wins(
            routes in prop::collection::vec(
                (prop::option::of("[ab]"), "(/[xy]){1,3}|/"), 0..8,
            ),
            host in "[abAB](:80)?",
            path in "(/[xyz]){1,4}/?",
        ) {
            let borrowed: Vec<_> =
                routes.iter().map(|(host, prefix)| (host.as_deref(), prefix.as_str())).collect();
            let name = host.trim_end_matches(":80").to_ascii_lowercase();
            let with_end = format!("{}/", path.trim_end_matches('/'));
            let matching = routes.iter().enumerate().filter(|(_, (host, prefix))| {
                host.as_ref().is_none_or(|h| *h == name)
                    && with_end.starts_with(&format!("{}/", prefix.trim_end_matches('/')))
            });
            let best = matching.min_by_key(|(place, (host, prefix))| {
                (host.is_none(), std::cmp::Reverse(prefix.len()), *place)
            });
            let found = table(&borrowed).find(&host, &path).map(|route| route.cluster);
            prop_assert_eq!(found, best.map(|(place, _)| place));
        }
    }
}
