//! TLS on real sockets: who trusts whom, and which protocol is spoken.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Identity = CertifiedKey<KeyPair>;

fn identity(name: &str) -> Identity {
    generate_simple_self_signed(vec![name.to_owned()]).unwrap()
}

/// Writes what a client is told of: the certificate, and the key.
fn files(identity: &Identity, name: &str) -> (String, String) {
    let path =
        |what: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{what}.pem"));
    std::fs::write(path("cert"), identity.cert.pem()).unwrap();
    std::fs::write(path("key"), identity.signing_key.serialize_pem()).unwrap();
    (path("cert").display().to_string(), path("key").display().to_string())
}

/// A server for localhost that speaks both versions of HTTP.
struct Server {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(identity: &Identity, clients: Option<&Identity>, alpn: &[&[u8]]) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.cert.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let certificates: Vec<CertificateDer<'static>> = vec![identity.cert.der().clone()];
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(certificates, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    match stream.get_ref().1.alpn_protocol() {
                        Some(b"h2") => serve_h2(stream).await,
                        _ => serve_h1(stream).await,
                    }
                });
            }
        });
        Server { url, _runtime: runtime }
    }

    fn measure(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["-R", "200", "-n", "40", "-c", "4", "--quiet", "--format", "json"])
            .args(arguments)
            .arg(&self.url)
            .output()
            .unwrap()
    }
}

type Stream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

async fn serve_h1(mut stream: Stream) {
    let mut buffer = Vec::new();
    while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
        if buffer.ends_with(b"\r\n\r\n") {
            buffer.clear();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh1";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

async fn serve_h2(stream: Stream) {
    let Ok(mut server) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = server.accept().await {
        let head = http::Response::new(());
        let Ok(mut content) = respond.send_response(head, false) else { continue };
        let _ = content.send_data(Bytes::from_static(b"h2"), true);
    }
}

fn ok(output: &Output) -> (u64, String) {
    let record: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let ok = record["accounting"]["ok"].as_u64().unwrap();
    (ok, record["asked"]["protocol"].as_str().unwrap().to_owned())
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn both_versions_are_spoken_to_a_server_that_is_trusted() {
    let identity = identity("localhost");
    let (cert, _) = files(&identity, "trusted");
    let server = Server::start(&identity, None, &[b"h2", b"http/1.1"]);
    let h1 = server.measure(&["--cacert", &cert, "--expect-body", "h1"]);
    assert_eq!(ok(&h1), (40, "http/1.1+tls".to_owned()));
    let h2 = server.measure(&["--cacert", &cert, "--http2", "--expect-body", "h2"]);
    assert_eq!(ok(&h2), (40, "h2+tls".to_owned()));
    assert_eq!(ok(&server.measure(&["--insecure"])).0, 40);
}

#[test]
fn a_stranger_is_refused_with_one_line_before_the_run() {
    let server = Server::start(&identity("localhost"), None, &[b"http/1.1"]);
    let (other, _) = files(&identity("localhost"), "other");
    let text = complaint(&server.measure(&["--cacert", &other]));
    assert!(text.contains("TLS: ") && text.contains("--cacert"), "{text}");
    let text = complaint(&server.measure(&["--cacert", "/nonexistent"]));
    assert!(text.contains("cannot use /nonexistent"), "{text}");
    let text = complaint(&server.measure(&["--insecure", "--http2"]));
    assert!(text.contains("--http2"), "{text}");
}

#[test]
fn a_server_that_asks_who_is_there_is_told() {
    let (identity, client) = (identity("localhost"), identity("client"));
    let (cacert, _) = files(&identity, "asking");
    let (cert, key) = files(&client, "client");
    let server = Server::start(&identity, Some(&client), &[b"http/1.1"]);
    let known = server.measure(&["--cacert", &cacert, "--cert", &cert, "--key", &key]);
    assert_eq!(ok(&known).0, 40);
    // TLS 1.3 lets a client finish before it is refused, so this may fail here or at each request.
    let unknown = server.measure(&["--cacert", &cacert]);
    assert!(unknown.status.code() == Some(1) || ok(&unknown).0 == 0, "{unknown:?}");
}
