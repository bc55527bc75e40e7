//! What the admin endpoint shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Program, config, exchange, listen};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn paths_and_methods() {
    let (_upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    for (request, status, has) in [
        ("GET /ready", 200, "LIVE"),
        ("GET /", 200, "/stats/prometheus"),
        ("POST /ready", 405, "only GET and HEAD"),
        ("DELETE /clusters", 405, "only GET and HEAD"),
        ("GET /nothing", 404, "there is no /nothing here"),
        ("POST /nothing", 404, "there is no /nothing here"),
        ("GET /clusters?format=text", 200, "web::balance::peak_ewma"),
    ] {
        let response = program.admin(request).await;
        assert_eq!(response.status(), status, "{request}");
        assert!(response.body.contains(has), "{request}: {}", response.body);
        assert_eq!(response.field("allow"), (status == 405).then_some("GET, HEAD"));
    }
}

/// What it counts is what happened: two answers, an error, a broken connection.
#[tokio::test]
async fn clusters_show_what_happened_as_text_and_json() {
    let (upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    for answer in [OK, "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"] {
        exchange(&program, &upstream, answer).await;
    }
    exchange(&program, &upstream, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
    exchange(&program, &upstream, "").await;

    let json = program.admin("GET /clusters?format=json").await;
    assert_eq!(json.field("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_str(&json.body).expect("JSON");
    assert_eq!((&json[0]["name"], &json[0]["balance"]), (&json!("web"), &json!("peak_ewma")));
    let endpoint = &json[0]["endpoints"][0];
    let text = program.admin("GET /clusters").await.body;
    for (key, value) in [
        ("rq_total", 4),
        ("rq_active", 0),
        ("rq_success", 2),
        ("rq_error", 1),
        ("rq_timeout", 0),
        ("rq_failed", 1),
        ("rq_cancelled", 0),
        ("cx_total", 4),
        ("cx_connect_fail", 0),
    ] {
        assert_eq!(endpoint[key], json!(value), "{key} in {endpoint}");
        assert!(text.contains(&format!("web::{addr}::{key}::{value}\n")), "{key} in {text}");
    }
    assert_eq!(endpoint["address"], json!(addr.to_string()));
}

#[tokio::test]
async fn the_exposition_can_be_read_and_is_right() {
    let (upstream, addr) = listen().await;
    let program = Program::start(&config(addr, ""));
    for _ in 0..3 {
        exchange(&program, &upstream, OK).await;
    }
    exchange(&program, &upstream, "").await;
    let response = program.admin("GET /stats/prometheus").await;
    assert!(
        response
            .field("content-type")
            .is_some_and(|t| t.starts_with("application/openmetrics-text"))
    );
    let samples = parse(&response.body);
    let value = |series: &str| samples.get(series).copied();
    let endpoint = format!("cluster=\"web\",endpoint=\"{addr}\"");
    for (series, expected) in [
        ("sidecar_downstream_rq_total".to_owned(), 4.0),
        ("sidecar_downstream_cx_total{listener=\"in\"}".to_owned(), 4.0),
        ("sidecar_downstream_rq_refused_total{flag=\"UC\"}".to_owned(), 1.0),
        ("sidecar_downstream_rq_refused_total{flag=\"DC\"}".to_owned(), 0.0),
        (format!("sidecar_endpoint_upstream_rq_total{{{endpoint}}}"), 4.0),
        (format!("sidecar_endpoint_upstream_rq_failed_total{{{endpoint}}}"), 1.0),
        (format!("sidecar_endpoint_upstream_rq_class_total{{{endpoint},class=\"2xx\"}}"), 3.0),
        (format!("sidecar_endpoint_upstream_rq_time_seconds_count{{{endpoint}}}"), 3.0),
        (format!("sidecar_endpoint_upstream_rq_active{{{endpoint}}}"), 0.0),
        ("sidecar_cluster_upstream_rq_total{cluster=\"web\"}".to_owned(), 4.0),
        ("sidecar_cluster_upstream_rq_class_total{cluster=\"web\",class=\"2xx\"}".to_owned(), 3.0),
    ] {
        assert_eq!(value(&series), Some(expected), "{series}");
    }
}

/// Samples by series, after checking what Prometheus checks: each family is described once, its
/// samples follow its type, their names fit it, and the text has an end.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("an end");
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, of) = described.split_once(' ').expect("a name and a type");
            (family, kind) = (name.to_owned(), of.to_owned());
            assert!(families.insert(family.clone()), "{family} twice");
            continue;
        }
        if line.starts_with("# HELP ") || line.starts_with("# UNIT ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        let name = series.split('{').next().unwrap_or(series);
        let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} under {family}"));
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            other => panic!("type {other}"),
        };
        assert!(suffixes.contains(&suffix), "{name} as a {kind}");
        let value = value.parse().expect("a number");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
    }
    assert!(families.len() > 20, "{families:?}");
    samples
}
