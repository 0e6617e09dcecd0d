//! How a pod's link is called: the host interface's name, both MACs, and the mark by which we know our own again. The CNI
//! program makes such links, and the daemon finds those that a killed call left.
//!
//! All of it follows from the network, the container and the interface alone, so that a DEL finds what an ADD made even if
//! every record is lost. The derivation must therefore never change between releases.

use std::fmt;
use std::net::IpAddr;

use crate::{Link, Mac};

/// `IFALIASZ` (linux/if.h) without the final NUL.
const ALIAS_MAX: usize = 255;

/// Begins the alias of every interface of ours.
const ALIAS_PREFIX: &str = "loden:";

/// Lower-case base32 without the letters that read like digits (RFC 4648 section 6).
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Which attachment an interface belongs to: one interface of one container in one network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The network's name.
    pub network: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

impl Identity {
    /// The name of the host end. `attempt` 0 is the name to expect; more are for when somebody else has that one.
    ///
    /// It begins with `veth`, by which NetworkManager and udev rules leave such interfaces alone.
    pub fn host_name(&self, attempt: u32) -> String {
        let mut bits = self.digest(b"name", attempt);
        let mut name = String::from("veth");
        // 11 characters of 5 bits fill the 15 bytes of an interface name.
        for _ in 0..11 {
            name.push(char::from(BASE32[(bits & 0x1f) as usize]));
            bits >>= 5;
        }
        name
    }

    /// The MAC of the host end: locally administered, unicast.
    ///
    /// Always given explicitly, else udev may rewrite it after the pod has learned it.
    pub fn host_mac(&self) -> Mac {
        let [_, _, _, a, b, c, d, e] = self.digest(b"mac", 0).to_be_bytes();
        Mac([0x02, a, b, c, d, e])
    }

    /// What the host end bears as its alias, shown by `ip link`. `pod` is only for the reader.
    pub fn alias(&self, pod: Option<&str>) -> String {
        let mark = self.mark();
        match pod {
            Some(pod)
                if mark.len() + 1 + pod.len() <= ALIAS_MAX && !pod.contains(char::is_control) =>
            {
                format!("{mark} {pod}")
            }
            _ => mark,
        }
    }

    /// Whether this is the host end of this attachment: by its alias, or, where it has none (yet), by its MAC.
    pub fn owns(&self, link: &Link) -> bool {
        match link.alias.as_deref().filter(|alias| !alias.is_empty()) {
            Some(_) => self.marks(link),
            None => link.mac == Some(self.host_mac()) && link.kind.as_deref() == Some("veth"),
        }
    }

    /// Whether the link bears the alias of this attachment, which an ADD gives it last of all.
    pub fn marks(&self, link: &Link) -> bool {
        let alias = link.alias.as_deref();
        alias.and_then(|alias| alias.split(' ').next()) == Some(self.mark().as_str())
    }

    /// Whose interface bears this alias, if it tells.
    pub fn of_alias(alias: &str) -> Option<Self> {
        let mark = alias.split(' ').next()?.strip_prefix(ALIAS_PREFIX)?;
        let mut parts = mark.split('/');
        let identity = Self {
            network: parts.next()?.to_owned(),
            container_id: parts.next()?.to_owned(),
            ifname: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(identity)
    }

    fn mark(&self) -> String {
        let mark = format!("{ALIAS_PREFIX}{self}");
        if mark.len() <= ALIAS_MAX {
            return mark;
        }
        // Names have no length limit, aliases do.
        let digest = self.digest(b"mark", 0);
        format!("{ALIAS_PREFIX}#{digest:016x}")
    }

    /// FNV-1a over all parts, each ended by a byte that none can hold, with the finish of SplitMix64 for even bits.
    fn digest(&self, purpose: &[u8], attempt: u32) -> u64 {
        let attempt = attempt.to_be_bytes();
        let parts: [&[u8]; 5] = [
            purpose,
            self.network.as_bytes(),
            self.container_id.as_bytes(),
            self.ifname.as_bytes(),
            &attempt,
        ];
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for part in parts {
            for &byte in part.iter().chain(&[0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            network,
            container_id,
            ifname,
        } = self;
        write!(f, "{network}/{container_id}/{ifname}")
    }
}

/// The alias of a bridge that we have made.
pub const BRIDGE_ALIAS: &str = "loden:bridge";

/// The MAC of whatever answers for this address.
///
/// It follows from the address, so that after an address is used again every neighbour entry out there is still right.
/// For IPv4 it is the form that kubenet introduced and that other software knows.
pub fn mac_of(address: IpAddr) -> Mac {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Mac([0x0a, 0x58, a, b, c, d])
        }
        IpAddr::V6(v6) => {
            // The pool of a node spans less than 32 bits.
            let [.., a, b, c, d] = v6.octets();
            Mac([0x0a, 0x59, a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn identity(network: &str, container_id: &str, ifname: &str) -> Identity {
        Identity {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        }
    }

    /// An interface made by one release is looked for by the next.
    #[test]
    fn golden_of_the_names() {
        let identity = identity("cbr0", "0123456789abcdef", "eth0");
        assert_eq!(identity.host_name(0), "vethu47cnj4lcwe");
        assert_eq!(identity.host_mac().to_string(), "02:f5:6d:4b:28:2d");
        assert_eq!(identity.alias(None), "loden:cbr0/0123456789abcdef/eth0");
        assert_eq!(
            identity.alias(Some("default/web-0")),
            "loden:cbr0/0123456789abcdef/eth0 default/web-0"
        );
    }

    #[test]
    fn names_differ_where_any_part_differs() {
        let mut names = HashSet::new();
        let mut macs = HashSet::new();
        let parts = [
            identity("a", "b", "c"),
            identity("ab", "", "c"),
            identity("a", "bc", ""),
            identity("b", "a", "c"),
            identity("c", "b", "a"),
        ];
        for identity in &parts {
            assert!(names.insert(identity.host_name(0)));
            assert!(names.insert(identity.host_name(1)));
            assert!(macs.insert(identity.host_mac()));
        }
    }

    #[test]
    fn many_names_do_not_collide() {
        let names: HashSet<_> = (0..100_000)
            .map(|n| identity("cbr0", &n.to_string(), "eth0").host_name(0))
            .collect();
        assert_eq!(names.len(), 100_000);
    }

    #[test]
    fn macs_of_addresses_are_local_and_differ() {
        assert_eq!(
            mac_of("10.244.1.7".parse().unwrap()).to_string(),
            "0a:58:0a:f4:01:07"
        );
        let macs: HashSet<_> = (0..10_000_u128)
            .map(|n| mac_of(IpAddr::V6((0xfd00_u128 << 112 | n).into())))
            .collect();
        assert_eq!(macs.len(), 10_000);
    }

    #[test]
    fn an_alias_tells_whose_it_is() {
        let ours = identity("cbr0", "c1", "eth0");
        assert_eq!(Identity::of_alias(&ours.alias(Some("a/b"))), Some(ours));
        for alias in [
            "",
            "loden:bridge",
            "loden:a/b",
            "loden:a/b/c/d",
            "x loden:a/b/c",
        ] {
            assert_eq!(Identity::of_alias(alias), None, "{alias}");
        }
    }

    fn link(alias: Option<&str>, mac: Mac) -> Link {
        Link {
            kind: Some("veth".to_owned()),
            mac: Some(mac),
            mtu: 1500,
            up: true,
            running: true,
            alias: alias.map(str::to_owned),
            ..Link::bare(crate::LinkIndex(9), "veth9")
        }
    }

    #[test]
    fn our_own_is_known_again_and_nothing_else_is() {
        let ours = identity("cbr0", "c1", "eth0");
        let other = Mac([2, 0, 0, 0, 0, 1]);
        assert!(ours.owns(&link(Some(&ours.alias(None)), other)));
        assert!(ours.owns(&link(Some(&ours.alias(Some("a/b c"))), other)));
        for alias in ["loden:cbr0/c1/eth1", "loden:cbr0/c1/eth0x", "mine"] {
            assert!(!ours.owns(&link(Some(alias), ours.host_mac())), "{alias}");
        }
        for alias in [None, Some("")] {
            assert!(ours.owns(&link(alias, ours.host_mac())));
            assert!(!ours.owns(&link(alias, other)));
        }
    }

    proptest! {
        #[test]
        fn everything_fits_the_kernel(network in "[a-z0-9._-]{0,300}", id in "[a-z0-9._-]{0,300}", ifname in "[a-z0-9]{0,15}", pod in proptest::option::of(any::<String>())) {
            let identity = identity(&network, &id, &ifname);
            let name = identity.host_name(3);
            prop_assert_eq!(name.len(), 15);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            prop_assert!(identity.host_mac().is_unicast());
            let alias = identity.alias(pod.as_deref());
            prop_assert!(alias.len() <= ALIAS_MAX);
            let told = Identity::of_alias(&alias);
            prop_assert!(told.is_none_or(|told| told == identity));
            prop_assert!(identity.owns(&link(Some(&alias), identity.host_mac())));
        }
    }
}
