//! The whole appliance with secrets from a server that speaks Vault's HTTP API: a start while it is sealed, the first
//! answer, and an exchange in Vault.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN_KEY, Faulty, Mode, Request, Server, eventually};

const FIRST: &str = "first-key-from-vault-61c0";
const SECOND: &str = "second-key-from-vault-f27a";

/// The members of the secret and its version; `None` while it is sealed.
type Held = Arc<Mutex<Option<(Value, u64)>>>;

fn vault(held: &Held) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, held) = (listener.local_addr().expect("an address"), Arc::clone(held));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let held = Arc::clone(&held);
            std::thread::spawn(move || while answer(&stream, &held).is_some() {});
        }
    });
    address
}

/// Answers one request; `None` when there are no more.
fn answer(stream: &TcpStream, held: &Held) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut token) = (String::new(), 0, String::new());
    reader.read_line(&mut first).ok().filter(|length| *length > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "x-vault-token" => value.clone_into(&mut token),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = first.split(' ').nth(1)?;
    let (status, body) = match (&*held.lock().expect("no panic"), path) {
        (None, _) => (503, json!({"errors": ["Vault is sealed"]})),
        (_, "/v1/auth/approle/login") => {
            (200, json!({"auth": {"client_token": "hvs.it", "lease_duration": 3600, "renewable": true}}))
        }
        (Some((data, version)), "/v1/secret/data/muttd") if token == "hvs.it" => {
            (200, json!({"data": {"data": data, "metadata": {"version": version}}}))
        }
        _ => (403, json!({"errors": ["permission denied"]})),
    };
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut writer = stream;
    writer.write_all(format!("{head}{body}").as_bytes()).ok()
}

#[test]
fn a_start_without_vault_holds_alerts_until_it_answers_and_an_exchange_in_vault_comes_into_force() {
    let held = Held::default();
    let faulty = Faulty::start(Mode::WantsAny(vec![FIRST.to_owned()]));
    let folder = TempDir::new().expect("a directory");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    let config = format!(
        "[[targets]]\nname = \"noc\"\nkind = \"moogsoft\"\nurl = \"{}\"\nsecret = \"noc\"\n\
         [vault]\naddress = \"http://{}\"\nrole_id = \"role\"\npoll_seconds = 1\nstart_wait_seconds = 0\n",
        faulty.url(),
        vault(&held)
    );
    std::fs::write(data.join("muttd.toml"), config).expect("written");
    let server = Server::builder().data(&data).env("MUTTD_VAULT_SECRET_ID", "the-secret-id-of-vault").start();
    server.forward_rule("vault drill");
    let send = |text: &str| {
        let event =
            json!({"hostname": "sw1", "message": format!("vault drill {text}"), "timestamp": "2026-03-01T12:00:00Z"});
        server.ingest(&event).must_be(200);
    };
    send("while it is sealed");
    let told = eventually("Vault's state is told", || {
        let told = server.api_get("/api/v2/secrets");
        told["vault"]["trouble"]["error"].as_str().is_some_and(|why| why.contains("sealed")).then_some(told)
    });
    assert!(told.to_string().contains("\"awaited\":true"), "{told}");
    assert_eq!((faulty.requests(), server.metrics().sum("mutt_vault_up", &[])), (0, 0), "nothing goes without a key");
    *held.lock().expect("no panic") = Some((json!({"noc": FIRST}), 1));
    eventually("the alert goes with Vault's key", || (faulty.taken() == 1).then_some(()));

    *held.lock().expect("no panic") = Some((json!({"noc": FIRST, "noc_next": SECOND}), 2));
    faulty.want_any(&[SECOND]);
    eventually("the next key is known", || {
        let told = server.api_get("/api/v2/secrets/noc");
        (told["next"]["source"] == "vault").then_some(())
    });
    send("with the next key");
    eventually("the next key is taken", || (faulty.taken() == 2).then_some(()));
    *held.lock().expect("no panic") = Some((json!({"noc": SECOND}), 3));
    eventually("the exchange is over", || {
        server.api_get("/api/v2/secrets/noc")["next"]["source"].is_null().then_some(())
    });
    *held.lock().expect("no panic") = None;
    send("while it is away");
    eventually("what was read last stays in force", || (faulty.taken() == 3).then_some(()));

    let path = "/api/v2/secrets/noc/promote";
    let answer = Request::post(server.ports.web, path).key(ADMIN_KEY).json(&json!({})).expect().must_be(409);
    assert!(answer.text().contains("in Vault"), "{}", answer.text());
    let changes = server.api_get("/api/v2/config-audit?table_name=secrets").to_string();
    assert!(changes.contains("\"vault\"") && !changes.contains(FIRST), "{changes}");
    let log = server.log();
    for secret in [FIRST, SECOND, "hvs.it", "the-secret-id-of-vault"] {
        assert!(!log.contains(secret), "`{secret}` is in the log");
    }
}
