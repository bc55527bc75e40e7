//! SIGHUP and `/reload`.

use super::{Program, accept, config, exchange, listen};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_signal_moves_traffic_and_what_is_in_flight_is_answered() {
    let ((old, old_addr), (new, new_addr)) = (listen().await, listen().await);
    let mut program = Program::start(&config(old_addr, ""));
    let mut caller = program.connect().await;
    caller.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = accept(&old).await;
    upstream.head().await;

    program.rewrite(&config(new_addr, ""));
    program.signal("-HUP");
    let said = "sidecar: configuration 2 is in force: endpoints 1 added, 1 removed, 0 altered; \
                clusters 0 added, 0 removed, 0 rebuilt";
    assert_eq!(program.line(), said);
    assert_eq!(exchange(&program, &new, OK).await.status(), 200);
    upstream.send(OK).await;
    assert_eq!(caller.message().await.status(), 200);
    // Its connection is not kept.
    upstream.closed().await;
    let info = program.admin("GET /server_info").await;
    assert!(info.body.contains("\"config_generation\": 2"), "{}", info.body);
    let dump = program.admin("GET /config_dump").await;
    assert_eq!(dump.field("x-sidecar-config-generation"), Some("2"));
    assert!(dump.body.contains(&new_addr.to_string()), "{}", dump.body);
    assert!(dump.body.contains("\"base_ejection\": \"2s\""), "a default: {}", dump.body);
}

#[tokio::test]
async fn a_file_that_is_wrong_is_refused_in_one_line_and_changes_nothing() {
    let (upstream, addr) = listen().await;
    let right = config(addr, "");
    let mut program = Program::start(&right);
    let restart = right.replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    for (file, why) in [
        (right.replace("cluster = \"web\"", "cluster = \"wbe\""), "no cluster is called `wbe`"),
        (restart, "`admin` cannot be changed in a running sidecar"),
    ] {
        program.rewrite(&file);
        let answer = program.admin("POST /reload").await;
        assert_eq!(answer.status(), 422);
        assert!(
            answer.body.contains("sidecar.toml") && answer.body.contains(why),
            "{}",
            answer.body
        );
        assert!(answer.body.ends_with("; configuration 1 stays in force\n"), "{}", answer.body);
        assert_eq!(program.line(), format!("sidecar: {}", answer.body.trim_end()));
    }
    assert_eq!(exchange(&program, &upstream, OK).await.status(), 200);
    let counted = program.admin("GET /stats?filter=config_").await.body;
    assert_eq!(counted, "sidecar_config_applied_total: 0\nsidecar_config_refused_total: 2\n");
    program.rewrite(&right);
    assert_eq!(program.admin("POST /reload").await.status(), 200);
    assert_eq!(program.admin("GET /reload").await.status(), 405);
}
