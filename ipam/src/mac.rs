//! Link-layer addresses as they stand in leases.

use std::fmt;
use std::str::FromStr;

/// A MAC address (EUI-48).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A text that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a MAC address; write it like c6:d8:1b:2a:d6:81")]
pub struct MacError {
    /// The text as given, cut when long.
    pub text: String,
}

impl Mac {
    /// Whether this can be the address of one interface: neither a group address nor all zeros.
    ///
    /// On a VXLAN device an FDB entry for the zero address is the destination of all unknown traffic, so one must
    /// never be taken from a lease.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 0x01 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Six pairs of hexadecimal digits, all joined by colons or all by dashes, in either case of letters.
    fn from_str(text: &str) -> Result<Self, MacError> {
        octets(text).map(Self).ok_or_else(|| MacError {
            text: crate::cidr::shortened(text),
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn octets(text: &str) -> Option<[u8; 6]> {
    let bytes = text.as_bytes();
    let separator = *bytes.get(2)?;
    if bytes.len() != 17 || !matches!(separator, b':' | b'-') {
        return None;
    }
    let mut octets = [0; 6];
    for (octet, group) in octets.iter_mut().zip(bytes.chunks(3)) {
        if group.get(2).is_some_and(|&byte| byte != separator) {
            return None;
        }
        *octet = digit(group[0])? << 4 | digit(group[1])?;
    }
    Some(octets)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_colons_and_dashes_in_either_case() {
        let mac = Mac([0xc6, 0xd8, 0x1b, 0x2a, 0xd6, 0x81]);
        assert_eq!("c6:d8:1b:2a:d6:81".parse(), Ok(mac));
        assert_eq!("C6-D8-1B-2A-D6-81".parse(), Ok(mac));
    }

    #[test]
    fn refuses_what_is_no_mac_address() {
        for text in [
            "",
            "c6:d8:1b:2a:d6",
            "c6:d8:1b:2a:d6:81:00",
            "c6:d8-1b:2a:d6:81",
            "c6:d8:1b:2a:d6:8g",
            "c6d81b2ad681",
            "+6:d8:1b:2a:d6:81",
            "ää:ää:ää:ää",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn knows_addresses_that_cannot_belong_to_an_interface() {
        assert!(Mac([0xc6, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!Mac([0; 6]).is_unicast());
        assert!(!Mac([0xff; 6]).is_unicast());
        assert!(!Mac([0x01, 0, 0x5e, 0, 0, 1]).is_unicast());
    }

    proptest! {
        #[test]
        fn text_round_trips(octets: [u8; 6]) {
            prop_assert_eq!(Mac(octets).to_string().parse(), Ok(Mac(octets)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,20}") {
            let _ = text.parse::<Mac>();
        }
    }
}
