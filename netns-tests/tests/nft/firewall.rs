//! The rules of `flanneld::firewall` in the kernel: as text, and on packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use flanneld::firewall::{Firewall, Tunnels, tables};
use hostnet::nft::{Nftables, Table};
use ipam::{PerFamily, Subnets};
use netns_tests::{Endpoint, Host, Lab, OUTSIDE, OUTSIDE_V6, Traffic};

use crate::program::{expect_in_place, expect_same_as_nft, listing, nft};

/// A pod of the node in the middle.
const OUR_POD: Ipv4Addr = Ipv4Addr::new(10, 244, 3, 7);
const OUR_POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 3, 0, 0, 0, 7);
/// A pod of another node.
const OTHER_POD: Ipv4Addr = Ipv4Addr::new(10, 244, 5, 7);
const OTHER_POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 5, 0, 0, 0, 7);

pub(crate) const ALL: Firewall = Firewall {
    masquerade: true,
    fully_random: true,
    forward_accept: true,
    untracked: Some(Tunnels { port: 8472, vni: 1 }),
};

/// The tables of the node in the middle.
pub(crate) fn firewall_tables(firewall: &Firewall) -> Result<Vec<Table>> {
    let networks: Subnets = PerFamily::both("10.244.0.0/16".parse()?, "fd00:10:244::/56".parse()?);
    let own: Subnets = PerFamily::both("10.244.3.0/24".parse()?, "fd00:10:244:3::/64".parse()?);
    Ok(tables(&networks, &own, firewall))
}

pub(crate) fn the_firewall_is_written_and_read() -> Result<()> {
    let plain = Firewall {
        fully_random: false,
        ..ALL
    };
    for firewall in [ALL, plain] {
        for table in firewall_tables(&firewall)? {
            expect_same_as_nft(&table)?;
        }
    }
    // Both tables in one transaction, and what an operator sees of them.
    let tables = firewall_tables(&ALL)?;
    let mut nftables = Nftables::open()?;
    nftables.replace(&tables)?;
    for table in &tables {
        expect_in_place(&mut nftables, table)?;
        let text = listing(table)?;
        for part in [
            format!("comment \"rules for {}\"", table.name),
            "type nat hook postrouting priority srcnat; policy accept;".to_owned(),
            "meta mark & 0x00004000 == 0x00004000 return comment \"left to kube-proxy\"".to_owned(),
            "masquerade fully-random comment \"pods to the world\"".to_owned(),
        ] {
            ensure!(text.contains(&part), "no {part:?} in\n{text}");
        }
    }
    Ok(())
}

/// What flannel's nftables mode leaves on a node.
const FLANNELS: &str = r#"
table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.244.0.0/16 accept
		ip daddr 10.244.0.0/16 accept
	}
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr 10.244.3.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr 10.244.3.0/24 return
		ip saddr != 10.244.3.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
	}
}
table ip6 flannel-ipv6 {
	comment "rules for flannel-ipv6"
}
"#;

pub(crate) fn flannels_own_table_is_replaced() -> Result<()> {
    nft(FLANNELS)?;
    let tables = firewall_tables(&ALL)?;
    let mut nftables = Nftables::open()?;
    for table in &tables {
        let found = nftables.observe(table.family, &table.name)?;
        ensure!(!table.compile()?.drift(found.as_ref()).is_empty());
    }
    nftables.replace(&tables)?;
    for table in &tables {
        expect_in_place(&mut nftables, table)?;
    }
    let names = nft("list tables")?;
    ensure!(
        names == "table ip flannel-ipv4\ntable ip6 flannel-ipv6\n",
        "{names}"
    );
    Ok(())
}

/// A node that routes between the world, a pod of its own and a pod of another node, each played by a host.
struct Node {
    lab: Lab,
    node: Host,
    our_pod: Host,
    other_pod: Host,
}

impl Node {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let [node, our_pod, other_pod] = lab.hosts(["node", "our-pod", "other-pod"])?;
        // All of them share one underlay, so the node must not tell them shorter ways.
        node.sh("echo 1 > /proc/sys/net/ipv4/ip_forward
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
             echo 0 > /proc/sys/net/ipv4/conf/eth0/send_redirects")?;
        let this = Self {
            lab,
            node,
            our_pod,
            other_pod,
        };
        this.lay_routes()?;
        Ok(this)
    }

    fn lay_routes(&self) -> Result<()> {
        let (v4, v6) = (self.node.ipv4(), self.node.ipv6());
        for (pod, own, own_v6) in [
            (&self.our_pod, OUR_POD, OUR_POD_V6),
            (&self.other_pod, OTHER_POD, OTHER_POD_V6),
        ] {
            pod.ip_batch(&format!(
                "addr add {own}/32 dev lo
                 addr add {own_v6}/128 dev lo nodad
                 route add 10.244.0.0/16 via {v4} src {own}
                 route add fd00:10:244::/56 via {v6} src {own_v6}
                 route replace default via {v4} src {own}
                 route replace ::/0 via {v6} src {own_v6}
                 "
            ))?;
            self.node.ip_batch(&format!(
                "route add {own}/32 via {}
                 route add {own_v6}/128 via {}
                 ",
                pod.ipv4(),
                pod.ipv6()
            ))?;
        }
        self.lab.world().ip_batch(&format!(
            "route add 10.244.0.0/16 via {v4} src {OUTSIDE}
             route add fd00:10:244::/56 via {v6} src {OUTSIDE_V6}
             "
        ))?;
        Ok(())
    }

    /// Fails unless the receiver sees packets come from this address, over TCP and UDP.
    fn expect(
        &self,
        from: &Host,
        to: &Host,
        address: impl Into<IpAddr>,
        seen_as: impl Into<IpAddr>,
    ) -> Result<()> {
        let (address, seen_as) = (address.into(), seen_as.into());
        let sources = [
            from.udp_echo_at(to, address)?.ip(),
            from.tcp_echo_at(to, address)?.ip(),
        ];
        ensure!(
            sources == [seen_as; 2],
            "{} to {address} of {} is seen as {sources:?}, not as {seen_as}",
            from.name(),
            to.name()
        );
        Ok(())
    }

    /// Who sees whom, in both families, when packets leave the node as `node` says (`None`: as they came).
    fn expect_world(&self, masqueraded: bool) -> Result<()> {
        let world = self.lab.world();
        let (our, other) = (&self.our_pod, &self.other_pod);
        let leaving = |own: IpAddr, node: IpAddr| if masqueraded { node } else { own };
        for (our_pod, other_pod, outside, node) in [
            (
                IpAddr::from(OUR_POD),
                IpAddr::from(OTHER_POD),
                IpAddr::from(OUTSIDE),
                IpAddr::from(self.node.ipv4()),
            ),
            (
                OUR_POD_V6.into(),
                OTHER_POD_V6.into(),
                OUTSIDE_V6.into(),
                self.node.ipv6().into(),
            ),
        ] {
            self.expect(our, world, outside, leaving(our_pod, node))?;
            self.expect(world, other, other_pod, leaving(outside, node))?;
            // Whatever is said about masquerading:
            self.expect(our, other, other_pod, our_pod)?;
            self.expect(other, our, our_pod, other_pod)?;
            self.expect(world, our, our_pod, outside)?;
        }
        Ok(())
    }

    fn replace(&self, tables: &[Table]) -> Result<()> {
        self.node
            .run(|| Nftables::open()?.replace(tables))?
            .context("on the node")
    }
}

pub(crate) fn the_firewall_masquerades_and_forwards() -> Result<()> {
    let node = Node::new()?;
    node.expect_world(false).context("without any rule")?;
    node.replace(&firewall_tables(&ALL)?)?;
    node.expect_world(true).context("with all rules")?;
    let forwarded = node
        .node
        .exec(["nft", "list", "chain", "ip", "flannel-ipv4", "forward"])?;
    ensure!(
        forwarded.contains("ip saddr 10.244.0.0/16 accept"),
        "{forwarded}"
    );

    // kube-proxy marks what it masquerades itself, and may set other bits of the mark.
    for (mark, seen_as) in [
        ("0x4000", OUR_POD),
        ("0x4001", OUR_POD),
        ("0x8001", node.node.ipv4()),
    ] {
        node.node.exec([
            "nft",
            &format!(
                "add table ip marks; flush table ip marks; \
                 add chain ip marks c {{ type filter hook prerouting priority mangle; }}; \
                 add rule ip marks c meta mark set {mark}"
            ),
        ])?;
        let world = node.lab.world();
        node.expect(&node.our_pod, world, OUTSIDE, seen_as)
            .with_context(|| format!("mark {mark}"))?;
    }
    Ok(())
}
