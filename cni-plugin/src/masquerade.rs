//! Masquerading by this program, for hosts whose daemon does not: `flanneld` without `--ip-masq`, and `ipMasq` in the config
//! (which is what flannel's config means then, unless it says otherwise).
//!
//! One table per network and address family, whose rules follow from the host's subnet: they are the same for every pod, so
//! that an ADD mostly finds them there, and a DEL has nothing to take away. As with the daemon's own rules, what stays in
//! the pod network keeps its address.

use hostnet::nft::{
    BaseHook, Chain, ChainKind, Expr, Family, Hook, Masquerade, Nftables, Policy, Rule, Table,
    priority,
};
use ipnetwork::IpNetwork;

use crate::attachment::name::Identity;
use crate::protocol::Error;

/// `NFT_NAME_MAXLEN` (linux/netfilter/nf_tables.h) is 256; a name should fit a line.
const NAME_MAX: usize = 64;

/// Has the rules in place before the pod sends anything.
///
/// # Errors
///
/// [`Error::Masquerade`]
pub fn ensure(wanted: &[Table]) -> Result<(), Error> {
    let mut nftables = Nftables::open().map_err(Error::Masquerade)?;
    for table in wanted {
        let compiled = table.compile().map_err(Error::Masquerade)?;
        let observed = nftables
            .observe(table.family, &table.name)
            .map_err(Error::Masquerade)?;
        if !compiled.drift(observed.as_ref()).is_empty() {
            nftables
                .replace_compiled(&[compiled])
                .map_err(Error::Masquerade)?;
        }
    }
    Ok(())
}

/// The rules for a network: what `pods` send is masqueraded unless it stays within `inside`.
pub fn tables(network: &str, pods: &[IpNetwork], inside: &[IpNetwork]) -> Vec<Table> {
    let family = |v4: bool| {
        let of_family = |list: &[IpNetwork]| -> Vec<IpNetwork> {
            let of_family = list.iter().filter(|network| network.is_ipv4() == v4);
            of_family.copied().collect()
        };
        (of_family(pods), of_family(inside))
    };
    [(Family::Ip, true), (Family::Ip6, false)]
        .into_iter()
        .filter_map(|(nft, v4)| {
            let (pods, inside) = family(v4);
            (!pods.is_empty()).then(|| Table {
                family: nft,
                name: name(network),
                comment: Some(format!("pods of the CNI network {network}")),
                sets: Vec::new(),
                ports: Vec::new(),
                chains: vec![postrouting(&pods, &inside, multicast(v4))],
            })
        })
        .collect()
}

fn postrouting(pods: &[IpNetwork], inside: &[IpNetwork], multicast: Option<IpNetwork>) -> Chain {
    let mut rules = Vec::new();
    for &subnet in pods {
        let stays = pods.iter().chain(inside).map(|&network| {
            Rule::new([
                Expr::Source(subnet),
                Expr::Destination(network),
                Expr::Return,
            ])
        });
        rules.extend(stays);
        let unicast = multicast.map(Expr::DestinationNot);
        let leaves = [Some(Expr::Source(subnet)), unicast];
        let masquerade = Expr::Masquerade(Masquerade {
            random: false,
            fully_random: true,
        });
        rules.push(Rule::new(leaves.into_iter().flatten().chain([masquerade])));
    }
    Chain {
        name: "postrouting".to_owned(),
        hook: Some(BaseHook {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT,
            policy: Policy::Accept,
        }),
        rules,
    }
}

fn multicast(v4: bool) -> Option<IpNetwork> {
    if v4 { "224.0.0.0/4" } else { "ff00::/8" }.parse().ok()
}

fn name(network: &str) -> String {
    if network.len() <= NAME_MAX {
        return format!("loden-cni-{network}");
    }
    let of_network = Identity {
        network: network.to_owned(),
        container_id: String::new(),
        ifname: String::new(),
    };
    format!("loden-cni-{}", of_network.host_name(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_leaves_the_pod_network_is_masqueraded() {
        let tables = tables(
            "cbr0",
            &networks(&["10.244.1.0/24"]),
            &networks(&["10.244.0.0/16"]),
        );
        assert_eq!(tables.len(), 1);
        assert_eq!(
            (tables[0].family, tables[0].name.as_str()),
            (Family::Ip, "loden-cni-cbr0")
        );
        let [source, ..] = &networks(&["10.244.1.0/24"])[..] else {
            panic!();
        };
        let rules = &tables[0].chains[0].rules;
        assert_eq!(rules.len(), 3);
        assert_eq!(
            rules[1],
            Rule::new([
                Expr::Source(*source),
                Expr::Destination("10.244.0.0/16".parse().unwrap()),
                Expr::Return
            ])
        );
        assert_eq!(
            rules[2],
            Rule::new([
                Expr::Source(*source),
                Expr::DestinationNot("224.0.0.0/4".parse().unwrap()),
                Expr::Masquerade(Masquerade {
                    random: false,
                    fully_random: true
                })
            ])
        );
    }

    #[test]
    fn each_family_has_a_table_of_its_own() {
        let pods = networks(&["10.244.1.0/24", "fd00:1::/64"]);
        let families: Vec<_> = tables("cbr0", &pods, &[])
            .iter()
            .map(|table| table.family)
            .collect();
        assert_eq!(families, [Family::Ip, Family::Ip6]);
        assert_eq!(
            tables("cbr0", &pods[1..], &networks(&["10.0.0.0/8"])).len(),
            1
        );
    }

    #[test]
    fn long_names_are_cut_without_meeting() {
        let (one, other) = ("a".repeat(300), "a".repeat(301));
        assert_ne!(name(&one), name(&other));
        assert!(name(&one).len() <= NAME_MAX);
    }
}
