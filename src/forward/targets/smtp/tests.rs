//! The mail target against a server that speaks SMTP as it is told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::fixtures::{options, refused, sample};
use super::*;
use crate::forward::http::Http;
use crate::forward::{Guard, Secrets};

/// Answers by command: the first word that begins a line said by the client chooses; everything else is 250.
struct Script(&'static [(&'static str, &'static str)]);

impl Script {
    fn answer(&self, line: &str) -> String {
        let said = self.0.iter().find(|(command, _)| line.to_ascii_uppercase().starts_with(command));
        said.map_or("250 ok", |(_, answer)| answer).to_owned()
    }
}

/// One connection; what the client said.
async fn server(script: Script) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = BufReader::new(stream);
        let mut heard = Vec::new();
        let mut say = script.answer("GREETING");
        let mut in_data = false;
        loop {
            if !in_data || say != "250 ok" {
                stream.get_mut().write_all(format!("{say}\r\n").as_bytes()).await.ok();
            }
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return heard;
            }
            let line = line.trim_end().to_owned();
            (say, in_data) = match (in_data, line.as_str()) {
                (true, ".") => (script.answer("."), false),
                (true, _) => ("250 ok".to_owned(), true),
                (false, "DATA") if script.answer("DATA") == "250 ok" => ("354 go on".to_owned(), true),
                (false, line) => (script.answer(line), false),
            };
            heard.push(line);
        }
    });
    (port, task)
}

fn target(port: u16, more: Value) -> Arc<dyn Target> {
    let mut value = json!({
        "server": "127.0.0.1", "port": port, "tls": "none", "from": "mutt@example.org",
        "to": ["a@example.org", "b@example.org"], "html": false,
    });
    value.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let (timeout, clock) = (Duration::from_secs(20), Clock::system());
    let parts = TargetParts {
        name: TargetName::new("mail").expect("a name"),
        http: Http::new(Guard::default(), timeout, clock.clone()).expect("a client"),
        guard: Guard::default(),
        timeout,
        secrets: Secrets::default(),
        clock,
    };
    options::<Options>(value).expect("options").build(parts).expect("a target")
}

async fn outcome(script: Script, more: Value, key: Option<&str>) -> (Result<Receipt, DeliveryError>, Vec<String>) {
    let (port, task) = server(script).await;
    let key = key.map(Secret::new);
    let outcome = target(port, more).deliver(&[sample()], key.as_ref()).await;
    (outcome, task.await.expect("the server"))
}

#[tokio::test]
async fn a_mail_is_handed_over_by_the_rules() {
    let (outcome, heard) =
        outcome(Script(&[("GREETING", "220 hi"), (".", "250 2.0.0 queued as 7")]), json!({}), None).await;
    assert_eq!(outcome, Ok(Receipt::new("250 2.0.0 queued as 7")));
    assert_eq!(heard[0], "EHLO example.org");
    assert_eq!(heard[1], "MAIL FROM:<mutt@example.org>");
    assert_eq!(&heard[2..5], ["RCPT TO:<a@example.org>", "RCPT TO:<b@example.org>", "DATA"]);
    assert!(heard.iter().any(|line| line.starts_with("Subject: [muttd] error: core-sw-1")), "{heard:?}");
    assert_eq!(heard.last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn answers_decide() {
    async fn check(script: &'static [(&'static str, &'static str)], reason: FailureReason, refused: bool) {
        let (outcome, _) = outcome(Script(script), json!({}), None).await;
        let error = outcome.expect_err("a failure");
        assert_eq!(error.reason(), reason, "{script:?}: {error}");
        assert_eq!(matches!(error, DeliveryError::Refused { .. }), refused, "{script:?}");
    }
    check(&[("GREETING", "220 hi"), ("MAIL", "451 later")], FailureReason::ServerError, false).await;
    check(&[("GREETING", "220 hi"), ("MAIL", "553 who are you")], FailureReason::Rejected, true).await;
    check(&[("GREETING", "220 hi"), ("MAIL", "530 log in")], FailureReason::Credentials, false).await;
    check(&[("GREETING", "220 hi"), ("RCPT", "550 nobody")], FailureReason::Rejected, true).await;
    check(&[("GREETING", "220 hi"), ("RCPT", "450 greylisted")], FailureReason::ServerError, false).await;
    check(&[("GREETING", "220 hi"), (".", "554 spam")], FailureReason::Rejected, true).await;
    check(&[("GREETING", "554 no service")], FailureReason::ServerError, false).await;
    check(&[("GREETING", "HTTP/1.1 400 Bad Request")], FailureReason::Connection, false).await;
}

#[tokio::test]
async fn one_bad_recipient_keeps_nobody_else_from_the_mail() {
    let script = Script(&[("GREETING", "220 hi"), ("RCPT TO:<A@", "550 nobody"), (".", "250 queued")]);
    let (outcome, heard) = outcome(script, json!({}), None).await;
    let receipt = outcome.expect("a receipt").answer;
    assert!(receipt.starts_with("250 queued; a@example.org was refused"), "{receipt}");
    assert!(heard.contains(&"DATA".to_owned()));
}

#[tokio::test]
async fn the_password_is_asked_for_and_kept_out_of_errors() {
    const OFFER: (&str, &str) = ("EHLO", "250-hi\r\n250 AUTH PLAIN LOGIN");
    let user = || json!({"user": "mutt"});
    let (ok, heard) =
        outcome(Script(&[("GREETING", "220 hi"), OFFER, ("AUTH", "235 welcome")]), user(), Some("pw")).await;
    assert!(ok.is_ok(), "{ok:?}");
    // AUTH PLAIN with NUL mutt NUL pw in base64.
    assert_eq!(heard[1], "AUTH PLAIN AG11dHQAcHc=");
    let refusing = Script(&[("GREETING", "220 hi"), OFFER, ("AUTH", "535 5.7.8 wrong")]);
    let (refused, _) = outcome(refusing, user(), Some("s3cret")).await;
    let error = refused.expect_err("refused");
    assert!(matches!(error, DeliveryError::Credentials { .. }), "{error:?}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let busy = Script(&[("GREETING", "220 hi"), OFFER, ("AUTH", "454 4.7.0 try later")]);
    let (busy, _) = outcome(busy, user(), Some("pw")).await;
    assert_eq!(busy.expect_err("busy").reason(), FailureReason::ServerError);
}

#[tokio::test]
async fn a_server_without_starttls_gets_no_mail() {
    let (outcome, heard) = outcome(Script(&[("GREETING", "220 hi")]), json!({"tls": "starttls"}), None).await;
    assert_eq!(outcome.expect_err("not encrypted").reason(), FailureReason::Connection);
    assert!(!heard.iter().any(|line| line.starts_with("MAIL")), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_never_ends_a_line_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        while stream.write_all(&[b'x'; 4_096]).await.is_ok() {}
    });
    let error = target(port, json!({})).deliver(&[sample()], None).await.expect_err("no SMTP");
    assert!(error.to_string().contains("says too much"), "{error}");
    flood.await.expect("the server ends when it is left");
}

#[test]
fn wrong_options_are_named() {
    let check = |more: Value, word: &str| {
        let mut value = json!({"server": "mail.example", "from": "a@example.org", "to": ["b@example.org"]});
        value.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        refused::<Options>(value, word);
    };
    check(json!({"server": ""}), "`server`");
    check(json!({"from": "nobody"}), "`from`");
    check(json!({"from": "a@example.org\r\nBcc: c@example.org"}), "`from`");
    check(json!({"to": []}), "`to`");
    check(json!({"to": ["b@example.org>\r\nDATA"]}), "`to`");
    check(json!({"to": ["bö@example.org"]}), "`to`");
    check(json!({"subject_prefix": "a\r\nBcc: x"}), "`subject_prefix`");
    check(json!({"hello": "a b"}), "`hello`");
    check(json!({"user": "u", "tls": "none"}), "`tls`");
    check(json!({"tls": "ssl"}), "ssl");
    check(json!({"password": "x"}), "password");
}
