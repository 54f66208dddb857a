//! Wrong tokens by where they come from: after a few in a row no token from there is looked at for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens of each peer.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Allowance>>);

/// So many wrong tokens at once: a person who mistypes, a script with an old token that somebody mends.
const BURST: u32 = 20;
/// One more wrong token each time.
const REFILL: Duration = Duration::from_secs(3);
/// Peers kept. IPv6 gives everyone many addresses, so a full table forgets the peer that erred longest ago.
const PEERS_MAX: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Allowance {
    wrong: u32,
    at: Instant,
}

impl Allowance {
    /// What is left of the wrong ones after what time has forgiven.
    fn at(self, now: Instant) -> Allowance {
        let periods = now.duration_since(self.at).as_millis() / REFILL.as_millis().max(1);
        let forgiven = u32::try_from(periods).unwrap_or(u32::MAX);
        Allowance {
            wrong: self.wrong.saturating_sub(forgiven),
            at: self.at + REFILL * forgiven.min(self.wrong),
        }
    }
}

impl Throttle {
    /// Whether a token from there is looked at; if not, how long until it is.
    pub(super) fn check(&self, peer: IpAddr) -> Result<(), Duration> {
        self.check_at(peer, Instant::now())
    }

    /// Counts a wrong token.
    pub(super) fn failed(&self, peer: IpAddr) {
        self.failed_at(peer, Instant::now());
    }

    fn check_at(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let peers = self.peers();
        let Some(allowance) = peers.get(&prefix(peer)).map(|known| known.at(now)) else {
            return Ok(());
        };
        if allowance.wrong < BURST {
            return Ok(());
        }
        Err((allowance.at + REFILL).saturating_duration_since(now))
    }

    fn failed_at(&self, peer: IpAddr, now: Instant) {
        let mut peers = self.peers();
        let peer = prefix(peer);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            peers.retain(|_, known| known.at(now).wrong > 0);
            let oldest = peers.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest
                .map(|(peer, _)| *peer)
                .filter(|_| peers.len() >= PEERS_MAX)
            {
                peers.remove(&oldest);
            }
        }
        let known = peers.get(&peer).map(|known| known.at(now));
        let known = known.filter(|known| known.wrong > 0);
        let Allowance { wrong, at } = known.unwrap_or(Allowance { wrong: 0, at: now });
        peers.insert(
            peer,
            Allowance {
                wrong: (wrong + 1).min(BURST),
                at,
            },
        );
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Allowance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one subscriber has: an IPv4 address, or an IPv6 network of 64 bits.
fn prefix(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_close_the_door_for_a_while_and_only_to_their_sender() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let (guesser, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..BURST {
            assert_eq!(throttle.check_at(guesser, now), Ok(()));
            throttle.failed_at(guesser, now);
        }
        assert_eq!(throttle.check_at(guesser, now), Err(REFILL));
        assert_eq!(throttle.check_at(other, now), Ok(()));
        assert_eq!(throttle.check_at(guesser, now + REFILL), Ok(()));
        throttle.failed_at(guesser, now + REFILL);
        assert!(throttle.check_at(guesser, now + REFILL).is_err());
        assert_eq!(throttle.check_at(guesser, now + REFILL * 1_000), Ok(()));
    }

    #[test]
    fn the_table_of_peers_is_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for peer in 0..PEERS_MAX as u32 + 100 {
            throttle.failed_at(IpAddr::V4(peer.into()), now);
        }
        assert_eq!(throttle.peers().len(), PEERS_MAX);
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let a: IpAddr = "2001:db8::1".parse().unwrap();
        let b: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let c: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(prefix(a), prefix(b));
        assert_ne!(prefix(a), prefix(c));
    }
}
