//! What the admin endpoint shows and turns.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use proxy::admin::{
    Admin, ClusterView, Controls, EjectionView, EndpointState, EndpointView, Inspect, ServerView,
};
use proxy::telemetry::event::EjectionReason;
use proxy::telemetry::{EndpointSnapshot, Event, Telemetry};

use super::{at, telemetry};

struct Sidecar(Telemetry);

impl Inspect for Sidecar {
    fn clusters(&self) -> Vec<ClusterView> {
        let counts = EndpointSnapshot {
            rq_total: 1_000_000,
            rq_active: 3,
            rq_success: 999_990,
            rq_error: 7,
            rq_retry: 12,
            cx_total: 4,
            cx_active: 4,
            ..EndpointSnapshot::default()
        };
        let good = EndpointView {
            address: "10.0.0.1:80".into(),
            zone: Some("eu-1a".into()),
            weight: 1.0,
            priority: 0,
            state: EndpointState::Ready,
            ejection: None,
            in_flight: 3,
            latency_estimate_ms: Some(12.3456),
            success_rate: Some(0.999_993),
            cx_idle: 1,
            counts,
        };
        let out = EndpointView {
            address: "10.0.0.2:80".into(),
            zone: None,
            weight: 0.1,
            priority: 1,
            state: EndpointState::Ejected,
            ejection: Some(EjectionView {
                reason: "consecutive_errors",
                remaining: Duration::from_millis(29_500),
            }),
            in_flight: 0,
            latency_estimate_ms: None,
            success_rate: None,
            cx_idle: 0,
            counts: EndpointSnapshot::default(),
        };
        vec![ClusterView {
            name: "web".into(),
            balance: "peak_ewma",
            panics: false,
            circuit: Some("closed"),
            concurrency: None,
            endpoints: vec![good, out],
        }]
    }

    fn server_info(&self) -> ServerView {
        let (uptime, seed) = (Duration::from_millis(1500), u64::MAX);
        ServerView { version: "1.2.3", uptime, workers: 2, seed, config_generation: 3 }
    }

    fn config_dump(&self) -> String {
        "{\"seed\": 1}\n".to_owned()
    }

    fn telemetry(&self) -> &Telemetry {
        &self.0
    }
}

fn admin() -> (Admin, Arc<Controls>) {
    let (telemetry, start) = telemetry();
    let (reason, lasts) = (EjectionReason::SuccessRate, Duration::from_secs(30));
    telemetry.emit(start, &Event::RequestReceived);
    telemetry.emit(start + lasts, &Event::Ejected { at: at(0, 1), reason, lasts });
    let controls = Arc::<Controls>::default();
    (Admin::of(Arc::new(Sidecar(telemetry)), controls.clone()), controls)
}

fn ask(admin: &Admin, request: &str) -> Response<Full<Bytes>> {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    admin.answer(&Request::builder().method(method).uri(path).body(()).expect("a request"))
}

async fn text(response: Response<Full<Bytes>>) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.into()).expect("text")
}

#[tokio::test]
async fn pages() {
    let (admin, _) = admin();
    let mut all = String::new();
    for path in [
        "/",
        "/clusters",
        "/clusters?format=json",
        "/server_info",
        "/config_dump",
        "/events",
        "/stats?usedonly&filter=rq",
    ] {
        let response = ask(&admin, &format!("GET {path}"));
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
        let text = text(response).await;
        if kind.starts_with("text/") {
            assert!(text.lines().all(|line| line.len() <= 80), "{path} is too wide:\n{text}");
        }
        all += &format!("GET {path}: {kind}\n{text}\n");
    }
    insta::assert_snapshot!(all);
}

#[tokio::test]
async fn what_acts_takes_post_alone_and_the_rest_does_not() {
    let (admin, controls) = admin();
    for (request, allowed) in [
        ("GET /quitquitquit", "POST"),
        ("HEAD /drain_listeners", "POST"),
        ("PUT /healthcheck/fail", "POST"),
        ("GET /healthcheck/ok", "POST"),
        ("POST /clusters", "GET, HEAD"),
        ("DELETE /", "GET, HEAD"),
        ("POST /stats/prometheus", "GET, HEAD"),
    ] {
        let response = ask(&admin, request);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{request}");
        assert_eq!(response.headers()["allow"], allowed, "{request}");
    }
    assert!(!controls.quit.is_cancelled() && !controls.drain_listeners.is_cancelled());
    assert!(!controls.fails_health_checks());
    assert_eq!(ask(&admin, "POST /nothing").status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn readiness_follows_what_is_turned() {
    let (admin, controls) = admin();
    let ready = async || {
        let response = ask(&admin, "GET /ready");
        (response.status().as_u16(), text(response).await)
    };
    let turn = |path| assert_eq!(ask(&admin, &format!("POST {path}")).status(), StatusCode::OK);
    assert_eq!(ready().await, (200, "LIVE\n".to_owned()));
    turn("/healthcheck/fail");
    assert_eq!(ready().await, (503, "FAILING\n".to_owned()));
    turn("/healthcheck/ok");
    assert_eq!(ready().await, (200, "LIVE\n".to_owned()));
    turn("/drain_listeners");
    assert_eq!(ready().await, (503, "DRAINING\n".to_owned()));
    assert!(controls.drain_listeners.is_cancelled() && !controls.quit.is_cancelled());
    turn("/quitquitquit");
    assert!(controls.quit.is_cancelled());
}
