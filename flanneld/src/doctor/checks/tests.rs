//! A node on which all is well, and what the checks say when something is done to it; the tests stand by the stage of a packet's path.

mod cni;
mod filter;
mod firewall;
mod host;
mod kubernetes;
mod reach;
mod routes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use hostnet::{Address, FdbEntry, Link, LinkIndex, Mac, Neighbour, Route, Vxlan};
use ipam::SubnetEnv;
use ipnetwork::IpNetwork;

use super::*;
use crate::doctor::facts::*;
use crate::doctor::finding::{Check, Verdict, cause};
use crate::network::vxlan::derived_mac;
use crate::probe::outcomes::answers;
use crate::probe::peer::PeerProbe;
use crate::reconcile::ROUTE_PROTOCOL;

const UPLINK: LinkIndex = LinkIndex(2);
const TUNNEL: LinkIndex = LinkIndex(3);

fn link(index: LinkIndex, name: &str) -> Link {
    Link {
        mtu: 1500,
        up: true,
        running: true,
        ..Link::bare(index, name)
    }
}

fn address(link: LinkIndex, address: &str, prefix: u8) -> Address {
    Address::new(link, address.parse().unwrap(), prefix)
}

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn peer_mac() -> Mac {
    "02:00:00:00:00:12".parse().unwrap()
}

fn peer() -> PeerFacts {
    PeerFacts {
        subnet: network("10.244.2.0/24"),
        public: "192.0.2.12".parse().unwrap(),
        tunnelled: true,
        leaves_by: Some(Some(TUNNEL)),
        answered_by: Some(Some(UPLINK)),
    }
}

/// A node without a daemon on which all is well.
fn well() -> Facts {
    let mut tunnel = link(TUNNEL, "flannel.1");
    tunnel.mtu = 1450;
    tunnel.mac = Some(derived_mac(
        "192.0.2.11".parse().unwrap(),
        ipam::Vni::DEFAULT,
    ));
    tunnel.vxlan = Some(Vxlan {
        lower: Some(UPLINK),
        local: Some("192.0.2.11".parse().unwrap()),
        port: 8472,
        ..Vxlan::new(1)
    });
    let vtep = "10.244.2.0".parse().unwrap();
    let way = Route {
        gateway: Some(vtep),
        link: Some(TUNNEL),
        protocol: ROUTE_PROTOCOL,
        ..Route::new(peer().subnet)
    };
    let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    Facts {
        at: SystemTime::now(),
        daemon: Err(NotAsked::NotRunning),
        subnet_file: Ok(SubnetEnv::parse(env).unwrap()),
        subnet_file_written: Some(SystemTime::now()),
        store_clock: Ok(200),
        kernel: KernelFacts {
            release: "6.1".to_owned(),
            vxlan: Some(true),
            nf_tables: None,
            iptables: true,
        },
        links: vec![link(UPLINK, "eth0"), tunnel.clone()],
        addresses: vec![
            address(UPLINK, "192.0.2.11", 24),
            address(TUNNEL, "10.244.1.0", 32),
        ],
        routes: vec![
            way,
            Route {
                gateway: Some("192.0.2.1".parse().unwrap()),
                link: Some(UPLINK),
                ..Route::new(network("0.0.0.0/0"))
            },
        ],
        tunnels: vec![TunnelFacts {
            link: tunnel,
            neighbours: vec![Neighbour::permanent(TUNNEL, vtep, peer_mac())],
            fdb: vec![FdbEntry::permanent(TUNNEL, peer_mac(), peer().public)],
        }],
        offloads: BTreeMap::new(),
        sysctls: ["net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into(),
        managed: Vec::new(),
        firewall: Ok(FirewallFacts::default()),
        peers: vec![peer()],
        probes: Some(vec![Probed {
            peer: peer(),
            probe: answers(),
        }]),
        rivals: BTreeMap::new(),
        cni: CniFacts {
            directory: PathBuf::from("/etc/cni/net.d"),
            conflists: Ok(vec![conflist(
                "10-flannel.conflist",
                &["flannel", "portmap"],
            )]),
            programs_in: PathBuf::from("/opt/cni/bin"),
            programs: vec![program(
                "flannel",
                ProgramState::Ours(env!("CARGO_PKG_VERSION").to_owned()),
            )],
            stale: Vec::new(),
            unlinked: Vec::new(),
            addresses: Vec::new(),
            pods: 0,
            unseen: Vec::new(),
        },
    }
}

fn conflist(file: &str, types: &[&str]) -> Conflist {
    Conflist {
        file: file.to_owned(),
        types: Some(types.iter().map(|&kind| kind.to_owned()).collect()),
    }
}

fn program(name: &str, state: ProgramState) -> Program {
    Program {
        name: name.to_owned(),
        state,
    }
}

fn probed(facts: &mut Facts, probe: PeerProbe) {
    facts.probes = Some(vec![Probed {
        peer: peer(),
        probe,
    }]);
}

/// The cause with its first evidence and command, after this was done to a node that is well.
fn cause_after(damage: impl FnOnce(&mut Facts)) -> (Check, String, String) {
    let mut facts = well();
    damage(&mut facts);
    let findings = all(&facts);
    let cause = cause(&findings).unwrap_or_else(|| panic!("nothing is wrong: {findings:#?}"));
    let commands = cause.remedy.iter().flat_map(|remedy| &remedy.commands);
    let command = commands.map(|step| step.run.clone()).next();
    (
        cause.check,
        cause.evidence[0].clone(),
        command.unwrap_or_default(),
    )
}

#[test]
fn nothing_but_the_daemon_is_missed_where_all_is_well() {
    let (check, evidence, command) = cause_after(|_| ());
    assert_eq!(
        (check, command.as_str()),
        (Check::Daemon, "systemctl restart flanneld")
    );
    assert!(evidence.starts_with("flanneld does not run"), "{evidence}");
    let findings = all(&well());
    let wrong = findings
        .iter()
        .filter(|finding| finding.verdict >= Verdict::Warn);
    assert_eq!(wrong.count(), 1, "{findings:#?}");
    let unseen: Vec<Check> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::NotSeen)
        .map(|finding| finding.check)
        .collect();
    assert_eq!(unseen, [Check::Store, Check::Lease, Check::Duplicates]);
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(some_of(&["a", "b", "c"]), "a, b, c");
    assert_eq!(some_of(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
}
