//! A full disk: refusals that say so, no crash, recovery without a restart, and nothing acknowledged is lost.

use serde_json::json;

use crate::support::{ADMIN_KEY, INGEST_KEY, Receiver, Request, Server, SmallDisk, eventually};

/// Size of the small file system, in MiB.
const SIZE: u32 = 400;

fn post(server: &Server, number: u32) -> u16 {
    let item =
        json!({"hostname": "h", "message": format!("on disk number={number:05}"), "timestamp": "2026-03-01T12:00:00Z"});
    Request::post(server.ports.ingest, "/api/v2/ingest").key(INGEST_KEY).json(&item).expect().status
}

#[test]
fn a_full_disk_refuses_recovers_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(SIZE) else { return };
    let receiver = Receiver::start();
    let mut server = Server::builder().delivering_to(&receiver).data(&disk.path().join("data")).start();
    server.rule(&json!({"match_string": "on disk", "prod_handling": "Ignore"}));
    let mut acknowledged: Vec<u32> = Vec::new();
    let mut number = 0;
    let mut send = |server: &Server| {
        number += 1;
        let status = post(server, number);
        assert!([200, 503].contains(&status), "an ingest request was answered {status}");
        if status == 200 {
            acknowledged.push(number);
        }
        status
    };
    for _ in 0..20 {
        assert_eq!(send(&server), 200);
    }
    disk.fill();
    eventually("the full disk is noticed", || (send(&server) == 503).then_some(()));
    for _ in 0..20 {
        send(&server);
    }
    assert!(server.is_alive(), "the process ended on a full disk");
    let status = Request::get(server.ports.web, "/api/v2/rules").key(ADMIN_KEY).expect().status;
    assert_eq!(status, 200, "reading goes on while the disk is full");
    disk.empty();
    eventually("the server takes events again without a restart", || (send(&server) == 200).then_some(()));
    server.check_counters();
    disk.fill();
    eventually("the disk is full again", || (send(&server) == 503).then_some(()));
    server.kill();
    disk.empty();
    server.start_again();
    eventually("everything is judged", || (server.metrics().depth("ingest") == 0).then_some(()));
    let text = server.api_get("/api/v2/audit-logs?page=1&limit=1000").to_string();
    let lost: Vec<&u32> = acknowledged.iter().filter(|number| !text.contains(&format!("number={number:05}"))).collect();
    assert!(lost.is_empty(), "acknowledged events are lost: {lost:?}");
}
