//! What firewall rules of other programs do with a packet, as far as nf_tables tells: native rules and those of iptables-nft.

use std::fs;

use hostnet::nft::{End, Hook, Nftables, Obstacle, Packet};

use super::world::{Others, Place};
use crate::firewall::OWNED;

pub(super) fn look(at: Hook, packet: &Packet) -> Result<Others, String> {
    let mut nftables = Nftables::open().map_err(|error| error.to_string())?;
    let drops = nftables.obstacles(at, packet);
    let rewrites = nftables.rewrites(at, packet);
    let foreign = |found: Result<Vec<Obstacle>, _>| -> Result<Vec<Place>, String> {
        let found = found.map_err(|error: hostnet::nft::Error| {
            format!("rules of other programs cannot be read: {error}")
        })?;
        let found = found.iter().filter(|obstacle| !is_ours(obstacle));
        Ok(found.map(place).collect())
    };
    Ok(Others {
        drops: foreign(drops)?,
        rewrites: foreign(rewrites)?,
        unread: legacy(packet.source.is_ipv4()).into_iter().collect(),
    })
}

/// Those are looked at for what they say by themselves.
fn is_ours(obstacle: &Obstacle) -> bool {
    let in_our_chain =
        matches!(&obstacle.end, End::Rule { chain, .. } if chain.starts_with("FLANNEL-"));
    let owned = OWNED.iter();
    let mut tables = owned.map(|(family, name)| (*family, *name));
    in_our_chain || tables.any(|table| table == (obstacle.family, obstacle.table.as_str()))
}

fn place(obstacle: &Obstacle) -> Place {
    let Obstacle {
        family,
        table,
        chain,
        end,
        certain,
    } = obstacle;
    let name = match end {
        End::Policy => format!("the policy of chain {chain} in table {family} {table}"),
        End::Rule {
            chain,
            place,
            comment,
        } => {
            let comment = comment.as_ref().map(|comment| format!(" ({comment})"));
            let comment = comment.unwrap_or_default();
            format!("rule {place}{comment} of chain {chain} in table {family} {table}")
        }
    };
    Place {
        name,
        certain: *certain,
    }
}

/// Rules of iptables-legacy, which nf_tables does not show: the kernel names the tables that there are to root.
fn legacy(ipv4: bool) -> Option<String> {
    let file = if ipv4 {
        "/proc/net/ip_tables_names"
    } else {
        "/proc/net/ip6_tables_names"
    };
    let tables = fs::read_to_string(file).ok()?;
    let tables: Vec<&str> = tables.split_whitespace().collect();
    (!tables.is_empty()).then(|| {
        format!(
            "rules of iptables-legacy in the tables {} are not followed; flanneld doctor looks at their chain FORWARD",
            tables.join(", ")
        )
    })
}
