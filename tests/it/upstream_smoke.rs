//! The smoke contract of MUTT 2.5, asked with a real `curl` as its scripts do: it must hold unchanged on both ports.

use serde_json::Value;

use crate::support::{ADMIN_KEY, INGEST_KEY, Server, Tool};

/// What curl printed: status, header lines in lower case, body.
struct Printed {
    status: String,
    headers: String,
    body: String,
}

fn curl(arguments: &[&str]) -> Printed {
    let printed = Tool::new("curl").args(["-sS", "-i", "--max-time", "20"]).args(arguments).succeed();
    let (head, body) = printed.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split_whitespace().nth(1).expect("a status line").to_owned();
    Printed { status, headers: head.to_ascii_lowercase(), body: body.to_owned() }
}

impl Printed {
    fn must_be(self, status: &str) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.headers, self.body);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    fn names(&self, header: &str) -> bool {
        self.headers.lines().any(|line| line.starts_with(&format!("{header}: ")))
    }
}

#[test]
fn the_smoke_contract_of_upstream_holds() {
    let server = Server::builder().start();
    let web = |path: &str| format!("http://{}{path}", server.ports.web);
    let ingest = |path: &str| format!("http://{}{path}", server.ports.ingest);
    let key = format!("X-API-KEY: {ADMIN_KEY}");
    let sender = format!("X-API-KEY: {INGEST_KEY}");

    let refused = curl(&[&web("/api/v2/metrics")]).must_be("401");
    assert!(refused.json()["error"].is_string() && refused.json()["correlation_id"].is_string());
    let metrics = curl(&["-H", &key, &web("/api/v2/metrics")]).must_be("200").json();
    for name in ["current_rate_1m", "avg_rate_15m", "avg_rate_1h"] {
        assert!(metrics["summary"][name].is_number(), "{metrics}");
    }
    assert_eq!(metrics["chart_24h"]["labels"].as_array().map(Vec::len), Some(24), "{metrics}");
    assert_eq!(metrics["chart_24h"]["data"].as_array().map(Vec::len), Some(24), "{metrics}");
    assert!(curl(&["-H", &key, &web("/api/v2/rules")]).must_be("200").json()["rules"].is_array());
    let changes = curl(&["-H", &key, &web("/api/v2/config-audit")]).must_be("200").json();
    assert!(changes["changes"].is_array() && changes["pagination"]["pages"].is_number(), "{changes}");
    let old = curl(&["-H", &key, &web("/api/v1/rules")]).must_be("200");
    assert!(old.json().is_array(), "{}", old.body);

    let event = r#"{"hostname":"h","message":"smoke","timestamp":"2026-03-01T12:00:00Z"}"#;
    let json = "Content-Type: application/json";
    for path in ["/ingest", "/api/v1/ingest", "/api/v2/ingest"] {
        let taken = curl(&["-H", &sender, "-H", json, "-d", event, &ingest(path)]).must_be("200");
        assert_eq!(taken.json()["status"], "queued");
        check_headers(&taken, path.starts_with("/api/v1"));
    }
    let denied = curl(&["-H", json, "-d", event, &ingest("/api/v1/ingest")]).must_be("401");
    check_headers(&denied, true);
    for (address, is_old) in [
        (web("/api/v1/metrics"), true),
        (web(&format!("/api/v1/metrics?api_key={ADMIN_KEY}")), true),
        (web("/api/v2/version"), false),
        (web("/health"), false),
        (web("/login"), false),
        (ingest("/health"), false),
        (ingest("/nothing"), false),
    ] {
        check_headers(&curl(&["-H", &key, &address]), is_old);
    }
    for address in [web("/api/v2/rules"), web("/api/v1/rules"), ingest("/ingest")] {
        let other = curl(&["-H", &key, "-H", "Accept-Version: v9", "-d", "{}", &address]).must_be("400");
        assert!(other.body.contains("v2.5") && other.body.contains("v1"), "{}", other.body);
        let both = curl(&["-H", &key, "-H", "X-API-Version: v1", "-d", "{}", &format!("{address}?api_version=v2")]);
        assert!(both.must_be("400").body.contains("two different API versions"));
    }
}

fn check_headers(printed: &Printed, is_old: bool) {
    assert!(printed.headers.contains("x-api-version: v2.5\r\n"), "{}", printed.headers);
    assert!(printed.names("x-api-supported-versions"), "{}", printed.headers);
    for name in ["deprecation", "sunset", "x-sunset", "x-api-deprecated", "link"] {
        assert_eq!(printed.names(name), is_old, "{name}: {}", printed.headers);
    }
}
