//! Ethernet addresses.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    str::FromStr,
};

/// An Ethernet address (EUI-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A random address of the kind that nobody assigns: unicast, locally administered (IEEE 802c).
    ///
    /// The randomness is that of the standard library's hash keys, which come from the kernel; it is good against
    /// collisions, and no secret.
    #[must_use]
    pub fn random_local() -> Self {
        let [first, second, third, fourth, fifth, sixth, ..] =
            RandomState::new().build_hasher().finish().to_ne_bytes();
        Self([
            (first | LOCALLY_ADMINISTERED) & !MULTICAST,
            second,
            third,
            fourth,
            fifth,
            sixth,
        ])
    }

    /// Whether the address names one station and not a group.
    #[must_use]
    pub const fn is_unicast(&self) -> bool {
        self.0[0] & MULTICAST == 0
    }

    /// Reads a link-layer address attribute; links that are not Ethernet have addresses of other lengths.
    pub(crate) fn from_attribute(payload: &[u8]) -> Option<Self> {
        payload.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.chars().take(32).collect());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(invalid)?;
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self(octets))
    }
}

/// Text that is no Ethernet address; carries its beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address; it should look like 0a:58:0a:f4:01:02")]
pub struct InvalidMac(String);

// IEEE 802, the two low bits of the first octet.
const MULTICAST: u8 = 0x01;
const LOCALLY_ADMINISTERED: u8 = 0x02;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_back(octets: [u8; 6]) {
            let mac = Mac(octets);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(mac.to_string().replace(':', "-").to_uppercase().parse(), Ok(mac));
        }

        #[test]
        fn arbitrary_text_is_refused_or_read(text: String) {
            if let Ok(mac) = text.parse::<Mac>() {
                prop_assert_eq!(mac.to_string(), text.to_lowercase().replace('-', ":"));
            }
        }
    }

    #[test]
    fn near_misses_are_refused() {
        for text in [
            "",
            "0a:58:0a:f4:01",
            "0a:58:0a:f4:01:02:03",
            "a:58:0a:f4:01:02",
            "+a:58:0a:f4:01:02",
            "0a580af40102",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_addresses_are_local_unicast_and_differ() {
        let addresses: std::collections::HashSet<Mac> =
            (0..1000).map(|_| Mac::random_local()).collect();
        assert!(addresses.len() > 990);
        assert!(
            addresses
                .iter()
                .all(|mac| mac.is_unicast() && mac.0[0] & 2 == 2)
        );
    }
}
