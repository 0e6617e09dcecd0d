//! The rules wanted in iptables' tables: flannel's chains, rules and comments, in flannel's order.

use ipnetwork::IpNetwork;

use super::rule::{Rule, UnreadableRule};
use crate::firewall::{Firewall, Ranges, Tunnels, multicast};

/// What one table should hold of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableRules {
    pub(super) name: &'static str,
    /// Our chain in it and its rules; without rules the chain should not be there.
    pub(super) chain: Option<(&'static str, Vec<Rule>)>,
    /// Rules of ours in the kernel's own chains.
    pub(super) hooks: Vec<(&'static str, Rule)>,
}

/// The chain of rules about masquerading, in the table nat.
pub(super) const POSTROUTING_CHAIN: &str = "FLANNEL-POSTRTG";
/// The chain of rules about forwarding, in the table filter.
pub(super) const FORWARD_CHAIN: &str = "FLANNEL-FWD";
/// The comment of the first …
pub(super) const MASQUERADE_COMMENT: &str = "flanneld masq";
/// … and of the second; both flannel's.
pub(super) const FORWARD_COMMENT: &str = "flanneld forward";
/// The comment of the rules in the table raw, which flannel does not have.
pub(super) const UNTRACKED_COMMENT: &str = "flanneld notrack";

/// The tables that rules of ours can be in. Without ranges none of them is wanted, which is how they are removed.
pub(super) fn tables(
    ranges: Option<&Ranges>,
    firewall: &Firewall,
) -> Result<[TableRules; 3], UnreadableRule> {
    let masquerade = ranges.filter(|_| firewall.masquerade);
    let accept = ranges.filter(|_| firewall.forward_accept);
    let untracked = ranges.zip(firewall.untracked);
    Ok([
        TableRules {
            name: "nat",
            chain: Some((
                POSTROUTING_CHAIN,
                masquerade.map_or(Ok(Vec::new()), |ranges| masquerading(ranges, firewall))?,
            )),
            hooks: jump(
                masquerade.is_some(),
                "POSTROUTING",
                MASQUERADE_COMMENT,
                POSTROUTING_CHAIN,
            )?,
        },
        TableRules {
            name: "filter",
            chain: Some((
                FORWARD_CHAIN,
                accept.map_or(Ok(Vec::new()), |ranges| accepting(&ranges.network))?,
            )),
            hooks: jump(accept.is_some(), "FORWARD", FORWARD_COMMENT, FORWARD_CHAIN)?,
        },
        TableRules {
            name: "raw",
            chain: None,
            hooks: untracked.map_or(Ok(Vec::new()), |(ranges, tunnels)| {
                untracking(tunnels, &ranges.network)
            })?,
        },
    ])
}

fn jump(
    wanted: bool,
    chain: &'static str,
    comment: &str,
    to: &str,
) -> Result<Vec<(&'static str, Rule)>, UnreadableRule> {
    if !wanted {
        return Ok(Vec::new());
    }
    let rule = format!("-m comment --comment \"{comment}\" -j {to}").parse()?;
    Ok(vec![(chain, rule)])
}

fn masquerading(ranges: &Ranges, firewall: &Firewall) -> Result<Vec<Rule>, UnreadableRule> {
    let (network, subnet) = (ranges.network, ranges.subnet);
    let multicast = multicast(&network);
    let comment = format!("-m comment --comment \"{MASQUERADE_COMMENT}\"");
    let masquerade = if firewall.fully_random {
        "MASQUERADE --random-fully"
    } else {
        "MASQUERADE"
    };
    [
        format!("-m mark --mark 0x4000/0x4000 {comment} -j RETURN"),
        format!("-s {subnet} -d {network} {comment} -j RETURN"),
        format!("-s {network} -d {subnet} {comment} -j RETURN"),
        format!("! -s {network} -d {subnet} {comment} -j RETURN"),
        format!("-s {network} ! -d {multicast} {comment} -j {masquerade}"),
        format!("! -s {network} -d {network} {comment} -j {masquerade}"),
    ]
    .iter()
    .map(|text| text.parse())
    .collect()
}

fn accepting(network: &IpNetwork) -> Result<Vec<Rule>, UnreadableRule> {
    let comment = format!("-m comment --comment \"{FORWARD_COMMENT}\"");
    [
        format!("-s {network} {comment} -j ACCEPT"),
        format!("-d {network} {comment} -j ACCEPT"),
    ]
    .iter()
    .map(|text| text.parse())
    .collect()
}

/// The same packets as [`crate::firewall::tables`] exempts, by the words that the header of a VXLAN packet begins with (RFC 7348).
fn untracking(
    tunnels: Tunnels,
    network: &IpNetwork,
) -> Result<Vec<(&'static str, Rule)>, UnreadableRule> {
    let Tunnels { port, vni } = tunnels;
    // The outer packets are of the inner ones' family. A header of IPv4 has a length in its first byte, one of IPv6 has 40 bytes.
    let (flags, identifier) = match network {
        IpNetwork::V4(_) => ("0x0>>0x16&0x3c@0x8", "0x0>>0x16&0x3c@0xc"),
        IpNetwork::V6(_) => ("0x30", "0x34"),
    };
    let header = format!("{flags}>>0x1b&0x1=0x1&&{identifier}>>0x8={vni:#x}");
    let tunnel = format!("-p udp -m udp --dport {port} -m u32 --u32 \"{header}\"");
    let rest = format!("-m comment --comment \"{UNTRACKED_COMMENT}\" -j CT --notrack");
    Ok(vec![
        (
            "PREROUTING",
            format!("{tunnel} -m addrtype --dst-type LOCAL {rest}").parse()?,
        ),
        ("OUTPUT", format!("{tunnel} {rest}").parse()?),
    ])
}
