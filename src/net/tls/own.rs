//! The certificate that is made here when TLS is switched on without one: self-signed, for this machine's names and
//! addresses, kept in `DIR/tls/` with a key that only the owner can read.
//!
//! It is made once. Clients that were told its fingerprint, or were given the file, go on trusting it over restarts. The
//! key is written first, so a crash in between leaves no certificate, and both are made anew.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Datelike as _;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::files::TlsError;
use super::{PairFiles, TlsPlan};
use crate::model::Timestamp;

/// Ten years: nobody renews it, and one that ends unseen would cut off every sender.
const LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// Clocks of devices differ; it is valid a day ago already.
const SLACK: Duration = Duration::from_secs(86_400);
/// Addresses of this machine in the certificate, at most: container hosts have hundreds.
const MAX_ADDRESSES: usize = 32;

/// Where the certificate made here lies in a data directory.
pub fn own_certificate_file(data_dir: &Path) -> PathBuf {
    data_dir.join("tls").join("self-signed.crt")
}

/// Where the certificate made here and its key lie.
pub(super) fn own_pair(data_dir: &Path) -> PairFiles {
    let certificate = own_certificate_file(data_dir);
    PairFiles { key: certificate.with_extension("key"), certificate }
}

/// The files of the certificate made here; makes them if they are missing.
pub(super) fn ensure(plan: &TlsPlan, now: Timestamp) -> Result<PairFiles, TlsError> {
    let pair = own_pair(&plan.data_dir);
    if pair.certificate.exists() && pair.key.exists() {
        return Ok(pair);
    }
    let failed = |why: String| TlsError::NotMade { file: pair.certificate.clone(), why };
    let (certificate, key) = make(&plan.names, now).map_err(|error| failed(error.to_string()))?;
    let folder = plan.data_dir.join("tls");
    let written = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .and_then(|()| write(&pair.key, &key, 0o600))
        .and_then(|()| write(&pair.certificate, &certificate, 0o644));
    written.map_err(|error| failed(error.to_string()))?;
    tracing::info!(certificate.file = %pair.certificate.display(), "A self-signed certificate was made");
    Ok(pair)
}

/// Certificate and key as PEM.
fn make(names: &[String], now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let host = host_name();
    let mut all: Vec<String> = vec![host.clone(), "localhost".to_owned()];
    all.extend(names.iter().cloned());
    all.extend(addresses().into_iter().map(|address| address.to_string()));
    let mut seen = Vec::new();
    all.retain(|name| !name.is_empty() && !seen.contains(name) && (seen.push(name.clone()), true).1);
    let mut params = CertificateParams::new(all)?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.distinguished_name.push(DnType::OrganizationName, "muttd self-signed");
    let ((year, month, day), (last_year, last_month, last_day)) = (date(now.minus(SLACK)), date(now.plus(LIFE)));
    params.not_before = rcgen::date_time_ymd(year, month, day);
    params.not_after = rcgen::date_time_ymd(last_year, last_month, last_day);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Year, month and day.
fn date(time: Timestamp) -> (i32, u8, u8) {
    let date = time.to_utc();
    let small = |number: u32| u8::try_from(number).unwrap_or(1);
    (date.year(), small(date.month()), small(date.day()))
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// This machine's name, or a word in its place.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fit = |name: &&str| {
        (1..=253).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
    };
    Some(name.trim()).filter(fit).unwrap_or("muttd").to_owned()
}

/// The addresses of this machine as the kernel tells them, loopback first.
fn addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let table = |path: &str| fs::read_to_string(path).unwrap_or_default();
    found.extend(local_v4(&table("/proc/net/fib_trie")));
    found.extend(table("/proc/net/if_inet6").lines().filter_map(v6));
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|address| seen.insert(*address));
    found.truncate(MAX_ADDRESSES);
    found
}

/// In fib_trie an address stands on a line of its own, and `/32 host LOCAL` below it if it is ours.
fn local_v4(table: &str) -> Vec<IpAddr> {
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let ours = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    ours.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse().ok()).collect()
}

/// A line of if_inet6 begins with the address in 32 hexadecimal digits; link-local ones name no machine to others.
fn v6(line: &str) -> Option<IpAddr> {
    let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
    let address = Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?);
    (!address.is_unicast_link_local()).then_some(address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_give_the_addresses_of_this_machine() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.7\n        \
                     /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(table), ["192.0.2.7".parse::<IpAddr>().expect("an address")]);
        let line = "20010db8000000000000000000000007 02 40 00 80     eth0";
        assert_eq!(v6(line), "2001:db8::7".parse().ok());
        assert_eq!(v6("fe800000000000000000000000000001 02 40 20 80     eth0"), None);
        assert_eq!(v6(""), None);
    }
}
