//! Slows down guessing of passwords: failed logins are counted by user and by address.
//!
//! Memory is bounded; a restart forgets the counts, which gives a guesser who can restart the appliance a few tries more.
//! A user's own delay stays short, so that a stranger who fails on purpose cannot lock the operator out for long; an
//! address waits much longer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Failures before the first delay: people mistype.
const FREE_TRIES: u32 = 5;

/// Longest delay of a user name.
const USER_DELAY: Duration = Duration::from_secs(30);

/// Longest delay of an address.
const ADDRESS_DELAY: Duration = Duration::from_secs(900);

/// A count is forgotten when its key has not failed for this long.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// Keys counted at once; beyond, the one that failed longest ago is forgotten.
const MAX_KEYS: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    User(String),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Failed logins by user and address.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    failures: HashMap<Key, Failures>,
}

impl Throttle {
    /// Counts a try as failed before it is looked at, so that many at once gain nothing; or says how long to wait.
    pub fn begin(&mut self, user: &str, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let keys = keys(user, peer);
        let wait = keys.iter().filter_map(|key| self.wait(key, now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        for key in keys {
            self.make_room(now);
            let failures = self.failures.entry(key).or_insert(Failures { count: 0, last: now });
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
        }
        Ok(())
    }

    /// The try succeeded: both keys start anew.
    pub fn succeeded(&mut self, user: &str, peer: IpAddr) {
        for key in keys(user, peer) {
            self.failures.remove(&key);
        }
    }

    fn wait(&self, key: &Key, now: Instant) -> Option<Duration> {
        let failures = self.failures.get(key)?;
        let since = now.saturating_duration_since(failures.last);
        if failures.count < FREE_TRIES || since >= FORGET_AFTER {
            return None;
        }
        let longest = match key {
            Key::User(_) => USER_DELAY,
            Key::Address(_) => ADDRESS_DELAY,
        };
        let doublings = (failures.count - FREE_TRIES).min(16);
        let delay = Duration::from_secs(1 << doublings).min(longest);
        delay.checked_sub(since).filter(|left| !left.is_zero())
    }

    fn make_room(&mut self, now: Instant) {
        if self.failures.len() < MAX_KEYS {
            return;
        }
        self.failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET_AFTER);
        while self.failures.len() >= MAX_KEYS {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.failures.remove(&oldest);
        }
    }
}

/// An IPv6 sender usually has a whole /64 to itself (RFC 4291 section 2.5.4), so that is what counts as an address.
fn keys(user: &str, peer: IpAddr) -> [Key; 2] {
    let address = match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    };
    [Key::User(user.chars().take(64).collect()), Key::Address(address)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn fail(throttle: &mut Throttle, times: u32, now: Instant) {
        for try_number in 0..times {
            assert_eq!(throttle.begin("admin", PEER, now), Ok(()), "try {try_number}");
        }
    }

    #[test]
    fn the_delay_starts_after_the_free_tries_and_doubles() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, FREE_TRIES, now);
        assert_eq!(throttle.begin("admin", PEER, now), Err(Duration::from_secs(1)));
        let later = now + Duration::from_secs(1);
        fail(&mut throttle, 1, later);
        assert_eq!(throttle.begin("admin", PEER, later), Err(Duration::from_secs(2)));
        throttle.succeeded("admin", PEER);
        fail(&mut throttle, FREE_TRIES, later);
    }

    #[test]
    fn another_user_from_another_address_is_not_delayed() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        fail(&mut throttle, FREE_TRIES, now);
        let other: IpAddr = "2001:db8::1".parse().expect("an address");
        assert_eq!(throttle.begin("alice", other, now), Ok(()));
        assert!(throttle.begin("alice", PEER, now).is_err(), "the address is slowed whatever the user");
        assert!(throttle.begin("admin", other, now).is_err(), "the user is slowed whatever the address");
    }

    #[test]
    fn memory_stays_bounded_under_a_flood_of_names() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..6_000_u32 {
            let peer = IpAddr::V4(number.into());
            assert_eq!(throttle.begin(&number.to_string(), peer, now + Duration::from_millis(number.into())), Ok(()));
        }
        assert!(throttle.failures.len() <= MAX_KEYS);
    }
}
