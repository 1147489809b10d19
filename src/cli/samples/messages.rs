//! Writes the sample messages: what each imaginary device has to say, in the dialect its kind speaks.
//!
//! Host names and addresses are made up (RFC 1918 and RFC 5737 addresses); no text is taken from a real site.

use std::net::Ipv4Addr;

use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Random;
use crate::cli::send::snmp::{TrapMessage, TrapValue};
use crate::clock::Clock;
use crate::model::Oid;

const CISCO: [&str; 6] = ["core-sw-01", "core-sw-02", "edge-rtr-ams", "edge-rtr-fra", "acc-sw-3f-02", "lab-sw-09"];
const LINUX: [&str; 4] = ["app-db-01", "app-web-03", "nas-01", "lab-web-01"];
const USERS: [&str; 6] = ["root", "admin", "deploy", "backup", "oracle", "m.keller"];

/// Facilities as RFC 5424 section 6.2.1 numbers them.
const AUTH: u8 = 4;
const DAEMON: u8 = 3;
const KERN: u8 = 0;
const CRON: u8 = 9;
const LOCAL0: u8 = 16;
/// Cisco devices send with local7 unless told otherwise.
const LOCAL7: u8 = 23;

/// What the messages are made from.
#[derive(Debug)]
pub struct Writer {
    pub(super) random: Random,
    clock: Clock,
    /// Cisco devices number their messages.
    cisco_count: u32,
}

impl Writer {
    pub(super) fn new(random: Random, clock: Clock) -> Self {
        Self { random, clock, cisco_count: 4_200 }
    }

    /// A syslog message in one of three dialects.
    pub(super) fn syslog(&mut self) -> String {
        match self.random.below(10) {
            0..4 => self.cisco(),
            4..8 => self.linux(),
            _ => self.firewall(),
        }
    }

    /// Cisco IOS with `logging origin-id hostname` and `service sequence-numbers`.
    fn cisco(&mut self) -> String {
        let host = *self.random.pick(&CISCO);
        let (severity, text) = match self.random.below(20) {
            0..2 => (3, format!("%LINK-3-UPDOWN: Interface {}, changed state to {}", self.port(), self.up_or_down())),
            2..4 => {
                (5, format!("%LINEPROTO-5-UPDOWN: Line protocol on Interface {}, changed state to up", self.port()))
            }
            4..6 => {
                let change = if self.random.below(2) == 0 { "Down Hold timer expired" } else { "Up" };
                (5, format!("%BGP-5-ADJCHANGE: neighbor 192.0.2.{} {change}", self.random.below(254) + 1))
            }
            6..9 => {
                let (user, address) = (*self.random.pick(&USERS), self.address());
                (5, format!("%SYS-5-CONFIG_I: Configured from console by {user} on vty0 ({address})"))
            }
            9..13 => {
                let (mac, from, to) = (self.mac(), self.port(), self.port());
                let vlan = 10 + self.random.below(40);
                (
                    4,
                    format!(
                        "%SW_MATM-4-MACFLAP_NOTIF: Host {mac} in vlan {vlan} is flapping between port {from} and port {to}"
                    ),
                )
            }
            13..16 => (4, format!("%CDP-4-DUPLEX_MISMATCH: duplex mismatch discovered on {}", self.port())),
            16..18 => (
                6,
                format!("%SEC-6-IPACCESSLOGP: list 110 denied tcp {}(51413) -> 10.1.4.9(22), 1 packet", self.address()),
            ),
            _ => (
                5,
                format!(
                    "%OSPF-5-ADJCHG: Process 1, Nbr 10.0.0.{} on {} from LOADING to FULL",
                    self.random.below(9),
                    self.port()
                ),
            ),
        };
        self.cisco_count = self.cisco_count.wrapping_add(1);
        let stamp = self.local().format("%b %e %H:%M:%S%.3f");
        format!("<{}>{}: {host}: {stamp}: {text}", pri(LOCAL7, severity), self.cisco_count)
    }

    /// A Linux server's RFC 3164 line.
    fn linux(&mut self) -> String {
        let host = *self.random.pick(&LINUX);
        let (user, address, pid) = (*self.random.pick(&USERS), self.address(), 300 + self.random.below(30_000));
        let (facility, severity, tag, text) = match self.random.below(20) {
            0..3 => {
                (AUTH, 6, "sshd", format!("Failed password for invalid user {user} from {address} port 40022 ssh2"))
            }
            3..6 => (
                AUTH,
                6,
                "sshd",
                format!("pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)"),
            ),
            6 => (
                KERN,
                3,
                "kernel",
                format!("Out of memory: Killed process {pid} (java) total-vm:8123456kB, anon-rss:6291456kB"),
            ),
            7..9 => {
                let percent = 84 + self.random.below(15);
                (DAEMON, 4, "volmon", format!("volume /srv/data is {percent}% full"))
            }
            9..12 => (CRON, 6, "CRON", format!("({user}) CMD (test -x /usr/local/bin/rotate && rotate --quiet)")),
            12..15 => (DAEMON, 6, "chronyd", format!("Selected source {address}")),
            15..18 => {
                let millis = 500 + self.random.below(4_000);
                (
                    DAEMON,
                    5,
                    "postgres",
                    format!("LOG: duration: {millis}.{:03} ms  statement: SELECT * FROM orders", pid % 1_000),
                )
            }
            _ => (DAEMON, 6, "systemd", format!("Started session {pid} of user {user}.")),
        };
        let stamp = self.local().format("%b %e %H:%M:%S");
        // The kernel has no process id.
        let tag = if tag == "kernel" { tag.to_owned() } else { format!("{tag}[{pid}]") };
        format!("<{}>{stamp} {host} {tag}: {text}", pri(facility, severity))
    }

    /// A firewall or wireless controller that speaks RFC 5424 with structured data.
    fn firewall(&mut self) -> String {
        let (from, sport) = (self.address(), 1_024 + self.random.below(60_000));
        let (host, app, severity, id, data, text) = match self.random.below(4) {
            0..2 => (
                "fw-dmz-01",
                "filter",
                5,
                "DENY",
                format!(r#"[flow@32473 src="{from}" sport="{sport}" dst="10.1.0.20" dport="445" zone="dmz"]"#),
                format!("denied tcp {from}:{sport} to 10.1.0.20:445"),
            ),
            2 => (
                "fw-dmz-01",
                "ha",
                4,
                "HA_SYNC",
                "-".to_owned(),
                format!("peer 10.0.9.2 missed {} heartbeats", sport % 5 + 1),
            ),
            _ => (
                "wlc-01",
                "roam",
                6,
                "CLIENT_ROAM",
                format!(r#"[client@32473 mac="{}" ssid="staff"]"#, self.mac()),
                format!("client moved to access point ap-3f-{:02}", sport % 24),
            ),
        };
        let stamp = self.now().to_rfc3339_opts(SecondsFormat::Millis, true);
        format!("<{}>1 {stamp} {host} {app} {} {id} {data} {text}", pri(LOCAL0, severity), 600 + sport % 40)
    }

    /// A notification of a switch, a UPS or a server agent.
    pub(super) fn trap(&mut self) -> TrapMessage {
        let index = 1 + self.random.below(48);
        let interface = || {
            vec![
                varbind(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 1, index], TrapValue::Integer(index.cast_signed())),
                varbind(
                    &[1, 3, 6, 1, 2, 1, 2, 2, 1, 2, index],
                    TrapValue::text(&format!("GigabitEthernet1/0/{index}")),
                ),
                varbind(&[1, 3, 6, 1, 2, 1, 2, 2, 1, 7, index], TrapValue::Integer(1)),
            ]
        };
        let minutes = 20 + self.random.below(60).cast_signed();
        let (agent, oid, varbinds): (_, &[u32], _) = match self.random.below(10) {
            0..3 => (12, &[1, 3, 6, 1, 6, 3, 1, 1, 5, 3], interface()),
            3..6 => (12, &[1, 3, 6, 1, 6, 3, 1, 1, 5, 4], interface()),
            // upsTrapOnBattery with upsEstimatedMinutesRemaining, upsSecondsOnBattery, upsConfigLowBattTime (RFC 1628).
            6 => (
                60,
                &[1, 3, 6, 1, 2, 1, 33, 2, 1],
                vec![
                    varbind(&[1, 3, 6, 1, 2, 1, 33, 1, 2, 3, 0], TrapValue::Integer(minutes)),
                    varbind(&[1, 3, 6, 1, 2, 1, 33, 1, 2, 2, 0], TrapValue::Integer(15)),
                    varbind(&[1, 3, 6, 1, 2, 1, 33, 1, 9, 7, 0], TrapValue::Integer(5)),
                ],
            ),
            // ciscoConfigManEvent: command source 1 (commandLine), from running to startup configuration.
            7..9 => (
                11,
                &[1, 3, 6, 1, 4, 1, 9, 9, 43, 2, 0, 1],
                vec![
                    varbind(&[1, 3, 6, 1, 4, 1, 9, 9, 43, 1, 1, 6, 1, 3, index], TrapValue::Integer(1)),
                    varbind(&[1, 3, 6, 1, 4, 1, 9, 9, 43, 1, 1, 6, 1, 4, index], TrapValue::Integer(3)),
                    varbind(&[1, 3, 6, 1, 4, 1, 9, 9, 43, 1, 1, 6, 1, 5, index], TrapValue::Integer(4)),
                ],
            ),
            // authenticationFailure, which no sample rule handles.
            _ => (20, &[1, 3, 6, 1, 6, 3, 1, 1, 5, 5], Vec::new()),
        };
        TrapMessage {
            oid: Oid::new(oid.to_vec()),
            agent: Ipv4Addr::new(10, 0, 0, agent),
            uptime: 100 * (86_400 + self.random.below(8_000_000)),
            varbinds,
        }
    }

    /// An application's event as it would post it.
    pub(super) fn json(&mut self) -> Value {
        let host = *self.random.pick(&LINUX);
        let number = self.random.below(90_000) + 10_000;
        let (app, severity, message, fields) = match self.random.below(6) {
            0 => (
                "backup",
                "error",
                format!("job {number} failed: volume /srv/archive is 97% full"),
                json!({"job": number}),
            ),
            1 => (
                "shop",
                "warning",
                format!("checkout {number} took {} ms", number % 7_000),
                json!({"order_id": number}),
            ),
            2 => (
                "probe",
                "critical",
                "health check of https://shop.example answers 503".to_owned(),
                json!({"tries": 3}),
            ),
            3 => (
                "license",
                "notice",
                format!("certificate of vpn.example expires in {} days", number % 30),
                json!({"site": "ams"}),
            ),
            _ => ("shop", "info", format!("order {number} placed"), json!({"order_id": number, "currency": "EUR"})),
        };
        let mut event = json!({
            "timestamp": self.now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "hostname": host,
            "app_name": app,
            "severity": severity,
            "message": message,
        });
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        event
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now().to_utc()
    }

    /// Devices without a zone in their time stamp mean the site's own time.
    fn local(&self) -> DateTime<Local> {
        self.now().with_timezone(&Local)
    }

    fn port(&mut self) -> String {
        format!("GigabitEthernet1/0/{}", 1 + self.random.below(48))
    }

    fn up_or_down(&mut self) -> &'static str {
        if self.random.below(2) == 0 { "up" } else { "down" }
    }

    fn mac(&mut self) -> String {
        let bits = self.random.next();
        format!("0050.56{:02x}.{:04x}", bits & 0xff, bits >> 8 & 0xffff)
    }

    fn address(&mut self) -> String {
        format!("198.51.100.{}", 1 + self.random.below(254))
    }
}

fn pri(facility: u8, severity: u8) -> u8 {
    facility * 8 + severity
}

fn varbind(oid: &[u32], value: TrapValue) -> (Oid, TrapValue) {
    (Oid::new(oid.to_vec()), value)
}
