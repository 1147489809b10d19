//! The trap listener on a real socket, with the net-snmp clients operators use and with hand-made datagrams.

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::process::Command;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::message::tests::{link_down, tlv, v2c};
use crate::clock::Clock;
use crate::ingest::testing::{Memory, context};
use crate::ingest::{Secrets, Settings};
use crate::model::{Event, Flag, Timestamp};
use crate::telemetry::ListenerBoard;

/// Far longer than anything here takes; it only keeps a broken listener from hanging the tests.
const PATIENCE: Duration = Duration::from_secs(20);
const INFORM: u8 = 0xa6;
const TRAP: u8 = 0xa7;

struct Listening {
    address: SocketAddr,
    memory: Memory,
    board: ListenerBoard,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn listen(bind: &str) -> Listening {
    let memory = Memory::default();
    let secrets = Secrets { api_keys: vec![], communities: vec!["public".into(), "next".into()] };
    let clock = Clock::fixed(Timestamp::from_millis(1_800_000_000_000));
    let context = context(&memory, Settings::default(), secrets, clock);
    let task = super::start(&context, bind.parse().expect("an address")).expect("a free port");
    let address = context.board.address("snmp").expect("bound");
    Listening { address, memory, board: context.board, stop: context.stop, task }
}

impl Listening {
    /// Waits until `count` events are stored.
    async fn events(&self, count: usize) -> Vec<Event> {
        let stored = async {
            while self.memory.events().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, stored).await.expect("the events arrive");
        self.memory.events()
    }

    /// Runs a net-snmp client against the listener; says whether it was content.
    async fn client(&self, program: &str, options: &[&str], rest: &[&str]) -> bool {
        let mut command = Command::new(program);
        // No configuration and no MIBs of the machine may have a say.
        command.env("SNMPCONFPATH", "/nonexistent").env("MIBS", "").args(options);
        command.arg(format!("udp:127.0.0.1:{}", self.address.port())).args(rest);
        let running = tokio::task::spawn_blocking(move || command.output());
        let output = tokio::time::timeout(PATIENCE, running).await.expect("it ends").expect("no panic");
        output.expect("it is installed").status.success()
    }

    async fn stop(self) -> Memory {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").expect("it does not panic");
        self.memory
    }
}

/// A peer that sends datagrams by hand.
async fn peer(listening: &Listening) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    socket.connect(listening.address).await.expect("an address");
    socket
}

async fn answer(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer").expect("readable");
    buffer.truncate(length);
    buffer
}

#[tokio::test]
async fn traps_of_net_snmp_arrive_whole() {
    let listening = listen("127.0.0.1:0");
    let v2c = [
        "",
        "1.3.6.1.6.3.1.1.5.3",
        "1.3.6.1.2.1.2.2.1.1.2",
        "i",
        "2",
        "1.3.6.1.2.1.2.2.1.2.2",
        "s",
        "eth0",
        "1.3.6.1.2.1.31.1.1.1.6.2",
        "C",
        "18446744073709551615",
        "1.3.6.1.2.1.2.2.1.6.2",
        "x",
        "00ff10",
        "1.3.6.1.2.1.4.20.1.1.1",
        "a",
        "192.0.2.7",
        "1.3.6.1.2.1.1.2.0",
        "o",
        "1.3.6.1.4.1.9.1.1",
        "1.3.6.1.2.1.2.2.1.5.2",
        "u",
        "4294967295",
        "1.3.6.1.2.1.2.2.1.9.2",
        "t",
        "12345",
        "1.3.6.1.2.1.2.2.1.10.2",
        "c",
        "7",
        "1.3.6.1.4.1.99999.1",
        "n",
        "",
        "1.3.6.1.4.1.99999.2",
        "F",
        "1.5",
    ];
    assert!(listening.client("snmptrap", &["-v2c", "-c", "public"], &v2c).await);
    let v1 = ["1.3.6.1.4.1.9.1.5", "10.1.2.3", "6", "17", "55", "1.3.6.1.2.1.1.5.0", "s", "router"];
    assert!(listening.client("snmptrap", &["-v1", "-c", "next"], &v1).await);
    let mut events = listening.events(2).await;
    events.sort_by_key(|event| event.id);

    let trap = events[0].trap.as_ref().expect("a trap");
    assert_eq!(
        (trap.oid.to_string().as_str(), trap.version.as_str(), trap.inform),
        ("1.3.6.1.6.3.1.1.5.3", "2c", false)
    );
    let found: Vec<_> = trap.varbinds.iter().map(|varbind| (varbind.kind.name(), varbind.value.as_str())).collect();
    assert_eq!(
        found,
        [
            ("INTEGER", "2"),
            ("OCTET STRING", "eth0"),
            ("Counter64", "18446744073709551615"),
            ("OCTET STRING", "hex:00ff10"),
            ("IpAddress", "192.0.2.7"),
            ("OBJECT IDENTIFIER", "1.3.6.1.4.1.9.1.1"),
            ("Gauge32", "4294967295"),
            ("TimeTicks", "12345"),
            ("Counter32", "7"),
            ("NULL", ""),
            ("Opaque", "hex:9f78043fc00000"),
        ]
    );
    assert!(
        events[0].message.starts_with("linkDown: ifIndex.2=2, ifDescr.2=eth0, ifHCInOctets.2=18446744073709551615")
    );
    assert_eq!((events[0].hostname.as_str(), events[0].has(Flag::HostFromPeer)), ("127.0.0.1", true));

    let trap = events[1].trap.as_ref().expect("a trap");
    assert_eq!((trap.oid.to_string().as_str(), trap.version.as_str()), ("1.3.6.1.4.1.9.1.5.0.17", "1"));
    assert_eq!((events[1].hostname.as_str(), trap.uptime), ("10.1.2.3", Some(55)));
    listening.stop().await;
}

#[tokio::test]
async fn an_inform_is_confirmed_when_it_is_stored_and_only_then() {
    let listening = listen("127.0.0.1:0");
    let inform = ["", "1.3.6.1.6.3.1.1.5.4", "1.3.6.1.2.1.2.2.1.1.3", "i", "3"];
    assert!(listening.client("snmpinform", &["-v2c", "-c", "public", "-r0", "-t10"], &inform).await);
    assert!(listening.memory.events()[0].trap.as_ref().is_some_and(|trap| trap.inform));
    listening.memory.fail();
    let impatient = ["-v2c", "-c", "public", "-r0", "-t0.5"];
    assert!(!listening.client("snmpinform", &impatient, &inform).await, "nothing is confirmed while nothing is stored");
    listening.memory.recover();
    assert!(!listening.client("snmpinform", &["-v2c", "-c", "wrong", "-r0", "-t0.5"], &inform).await);
    assert_eq!(listening.stop().await.events().len(), 1);
}

#[tokio::test]
async fn a_repeated_inform_is_answered_again_and_makes_one_event() {
    let listening = listen("127.0.0.1:0");
    let socket = peer(&listening).await;
    let inform = v2c(INFORM, "public", 42, &link_down());
    let mut expected = inform.clone();
    let position = expected.iter().position(|byte| *byte == INFORM).expect("the tag");
    expected[position] = 0xa2;
    for _ in 0..3 {
        socket.send(&inform).await.expect("sent");
        assert_eq!(answer(&socket).await, expected);
    }
    socket.send(&v2c(INFORM, "public", 43, &link_down())).await.expect("sent");
    answer(&socket).await;
    assert_eq!(listening.stop().await.events().len(), 2);
}

#[tokio::test]
async fn a_refused_inform_is_taken_when_it_comes_again() {
    let listening = listen("127.0.0.1:0");
    let socket = peer(&listening).await;
    let inform = v2c(INFORM, "public", 42, &link_down());
    listening.memory.fail();
    socket.send(&inform).await.expect("sent");
    let attempted = async {
        while listening.memory.refusals() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempted).await.expect("it is tried");
    listening.memory.recover();
    // As a real sender does: again and again until there is an answer.
    let answered = async {
        loop {
            socket.send(&inform).await.expect("sent");
            let mut buffer = [0; 1_000];
            if tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut buffer)).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it is answered");
    assert_eq!(listening.stop().await.events().len(), 1);
}

#[tokio::test]
async fn bad_datagrams_are_dropped_and_good_ones_still_taken() {
    let listening = listen("127.0.0.1:0");
    let socket = peer(&listening).await;
    let good = v2c(TRAP, "public", 1, &link_down());
    let bad = [
        b"<13>not SNMP".to_vec(),
        vec![],
        v2c(TRAP, "wrong", 1, &link_down()),
        v2c(0xa0, "public", 1, &[]),
        tlv(0x30, &tlv(2, &[3])),
        good[..good.len() - 3].to_vec(),
        vec![0x30; 60_000],
    ];
    for datagram in &bad {
        socket.send(datagram).await.expect("sent");
        socket.send(&good).await.expect("sent");
    }
    assert_eq!(listening.events(bad.len()).await.len(), bad.len());
    let line = listening.board.status().remove(0);
    assert_eq!((line.name, line.received), ("snmp", 2 * bad.len() as u64));
    listening.stop().await;
}

#[tokio::test]
async fn the_largest_datagram_is_taken_whole() {
    let listening = listen("127.0.0.1:0");
    let socket = peer(&listening).await;
    let text = "x".repeat(60_000);
    let long = tlv(0x30, &[tlv(6, &[0x2b, 6, 1]), tlv(4, text.as_bytes())].concat());
    socket.send(&v2c(TRAP, "public", 1, &[link_down(), long].concat())).await.expect("sent");
    let events = listening.events(1).await;
    assert_eq!(events[0].trap.as_ref().expect("a trap").varbinds[0].value, text);
    listening.stop().await;
}

#[tokio::test]
async fn ipv4_senders_to_an_ipv6_socket_keep_their_address() {
    let listening = listen("[::]:0");
    let socket = StdSocket::bind("127.0.0.1:0").expect("a free port");
    let datagram = v2c(TRAP, "public", 1, &link_down());
    socket.send_to(&datagram, ("127.0.0.1", listening.address.port())).expect("sent");
    let events = listening.events(1).await;
    assert_eq!((events[0].hostname.as_str(), events[0].source.peer.is_ipv4()), ("127.0.0.1", true));
    listening.stop().await;
}

#[tokio::test]
async fn what_is_in_the_socket_when_it_stops_is_still_taken() {
    let listening = listen("127.0.0.1:0");
    let socket = StdSocket::bind("127.0.0.1:0").expect("a free port");
    let datagram = v2c(TRAP, "public", 1, &link_down());
    // On one thread the listener cannot run between these lines.
    for _ in 0..300 {
        socket.send_to(&datagram, listening.address).expect("sent");
    }
    let Listening { memory, stop, task, .. } = listening;
    stop.cancel();
    task.await.expect("it stops");
    let stored = async {
        while memory.events().len() < 300 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.expect("all of them are stored");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_on_the_board() {
    let first = listen("127.0.0.1:0");
    let clock = Clock::fixed(Timestamp::from_millis(0));
    let second = context(&Memory::default(), Settings::default(), Secrets::default(), clock);
    assert!(super::start(&second, first.address).is_err());
    assert!(format!("{:?}", second.board.status()[0].state).contains("is held by"), "{:?}", second.board.status());
}
