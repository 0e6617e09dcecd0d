//! A host as flannel leaves it: device, routes, neighbours, FDB entries, rules, subnet file, lease or annotations, and pods.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::etcd::Etcd;
use crate::host::Host;
use crate::net_conf::{NetConf, POD_NETWORK, POD_NETWORK_V6};
use crate::pod::Pod;

mod take_over;

pub use take_over::{indices, is_taken_over};

/// The rules of v0.9, among those of others.
pub const V0_9: &str = include_str!("../../flanneld/src/iptables/tests/flannel-0.9.rules");
/// The rules of v0.16, among those of others.
pub const V0_16: &str = include_str!("../../flanneld/src/iptables/tests/flannel-0.16.rules");
/// The rules of v0.20, among those of others.
pub const V0_20: &str = include_str!("../../flanneld/src/iptables/tests/flannel-0.20.rules");
/// The rules of v0.28, among those of others.
pub const V0_28: &str = include_str!("../../flanneld/src/iptables/tests/flannel-0.28.rules");

/// Where its plugin keeps what a DEL needs, by container.
pub const NOTES: &str = "/var/lib/cni/flannel";
/// Where host-local keeps its reservations for it.
pub const RESERVATIONS: &str = "/var/lib/cni/networks/cbr0";

/// Which rules it left.
#[derive(Clone, Copy, Debug)]
pub enum Rules {
    /// Those of `EnableNFTables`.
    NfTables,
    /// In iptables, together with rules of others.
    Iptables(&'static str),
}

/// A host that flannel runs on, or ran on.
#[derive(Debug)]
pub struct Node<'a> {
    /// It.
    pub host: &'a Host,
    /// The number of its subnet; that of flannel's rules as kept is 3.
    pub number: u8,
}

impl Node<'_> {
    /// Its subnet's first number, without the length.
    pub fn vtep(&self, ipv4: bool) -> String {
        let number = self.number;
        if ipv4 {
            format!("10.244.{number}.0")
        } else {
            format!("fd00:10:244:{number}::")
        }
    }

    /// Its subnet.
    pub fn subnet(&self, ipv4: bool) -> String {
        format!("{}/{}", self.vtep(ipv4), if ipv4 { 24 } else { 64 })
    }

    /// Random at flannel's, and its own in each family.
    pub fn mac(&self, ipv4: bool) -> String {
        format!("c6:d8:1b:2a:{:02x}:{:02x}", u8::from(ipv4), self.number)
    }

    fn public(&self, ipv4: bool) -> String {
        if ipv4 {
            self.host.ipv4().to_string()
        } else {
            self.host.ipv6().to_string()
        }
    }

    /// The key of its lease, as flannel spells it.
    pub fn key(&self, conf: &NetConf) -> String {
        let part = |ipv4| self.subnet(ipv4).replace('/', "-");
        let (v4, v6) = (conf.families().has_ipv4(), conf.families().has_ipv6());
        let first = if v4 {
            part(true)
        } else {
            "0.0.0.0-0".to_owned()
        };
        let second = if v6 {
            format!("&{}", part(false))
        } else {
            String::new()
        };
        format!("/coreos.com/network/subnets/{first}{second}")
    }

    /// Its lease, byte for byte.
    pub fn lease(&self, conf: &NetConf) -> String {
        let (v4, v6) = (conf.families().has_ipv4(), conf.families().has_ipv6());
        let public4 = if v4 {
            self.public(true)
        } else {
            "0.0.0.0".to_owned()
        };
        let public6 = if v6 {
            format!("\"{}\"", self.public(false))
        } else {
            "null".to_owned()
        };
        let mut lease = format!(
            r#"{{"PublicIP":"{public4}","PublicIPv6":{public6},"BackendType":"{}""#,
            conf.backend()
        );
        if conf.backend() == "vxlan" {
            for (ipv4, member) in [(true, "BackendData"), (false, "BackendV6Data")] {
                if if ipv4 { v4 } else { v6 } {
                    let mac = self.mac(ipv4);
                    lease += &format!(r#","{member}":{{"VNI":1,"VtepMAC":"{mac}"}}"#);
                }
            }
        }
        lease + "}"
    }

    /// What it writes into the annotations of its Node, by their names behind the prefix.
    pub fn annotations(&self, conf: &NetConf) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::from([
            ("kube-subnet-manager".to_owned(), "true".to_owned()),
            ("backend-type".to_owned(), conf.backend().to_owned()),
        ]);
        for (ipv4, data, public) in [
            (true, "backend-data", "public-ip"),
            (false, "backend-v6-data", "public-ipv6"),
        ] {
            let families = conf.families();
            if if ipv4 {
                families.has_ipv4()
            } else {
                families.has_ipv6()
            } {
                let vtep = format!(r#"{{"VNI":1,"VtepMAC":"{}"}}"#, self.mac(ipv4));
                texts.insert(data.to_owned(), vtep);
                texts.insert(public.to_owned(), self.public(ipv4));
            }
        }
        texts
    }

    /// Writes the lease as flannel does: bound to a grant of a day.
    pub fn publish(&self, etcd: &Etcd, conf: &NetConf) -> Result<()> {
        let granted = etcd.control(&["lease", "grant", "86400"])?;
        let id = granted.split_whitespace().nth(1).unwrap_or_default();
        let (key, lease) = (self.key(conf), self.lease(conf));
        etcd.control(&["put", "--lease", id, "--", &key, &lease])
            .map(drop)
    }

    /// The subnet file. Flannel counts 50 bytes of overhead for IPv6 too; where that is what pods have, ours says 70.
    pub fn subnet_file(&self, conf: &NetConf, mtu: u32) -> String {
        let mut file = String::new();
        if conf.families().has_ipv4() {
            let first = self.subnet(true).replace(".0/24", ".1/24");
            file += &format!("FLANNEL_NETWORK={POD_NETWORK}\nFLANNEL_SUBNET={first}\n");
        }
        if conf.families().has_ipv6() {
            let first = self.subnet(false).replace("::/64", "::1/64");
            file +=
                &format!("FLANNEL_IPV6_NETWORK={POD_NETWORK_V6}\nFLANNEL_IPV6_SUBNET={first}\n");
        }
        file + &format!("FLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=true\n")
    }

    /// A pod that its plugin attached: by the reference plugin `bridge`, with a note for the DEL.
    pub fn attach(&self, conf: &NetConf, name: &str) -> Result<Pod> {
        let delegate = self.delegate(conf);
        let conflist = json!({"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
            delegate,
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let pod = self.host.pod_spec(name);
        let pod = pod.conflist(&conflist.to_string()).path("/usr/lib/cni");
        let pod = pod.attach()?;
        let notes = self.host.path(NOTES);
        fs::create_dir_all(&notes)?;
        fs::write(notes.join(pod.container_id()), delegate.to_string())?;
        Ok(pod)
    }

    /// What its plugin makes of its default conflist.
    fn delegate(&self, conf: &NetConf) -> Value {
        let families = conf.families();
        let (mut ranges, mut routes) = (Vec::new(), Vec::new());
        for (ipv4, there, network) in [
            (true, families.has_ipv4(), POD_NETWORK),
            (false, families.has_ipv6(), POD_NETWORK_V6),
        ] {
            if there {
                ranges.push(json!([{"subnet": self.subnet(ipv4)}]));
                routes.push(json!({"dst": network}));
            }
        }
        json!({
            "cniVersion": "0.3.1",
            "hairpinMode": true,
            "ipMasq": false,
            "ipam": {"ranges": ranges, "routes": routes, "type": "host-local"},
            "isDefaultGateway": true,
            "isGateway": true,
            "mtu": 1450,
            "name": "cbr0",
            "type": "bridge",
        })
    }

    /// Everything on the host itself, with the way to these peers.
    pub fn furnish(&self, conf: &NetConf, peers: &[&Node<'_>], rules: Rules) -> Result<()> {
        let mtu = if conf.backend() == "vxlan" {
            1450
        } else {
            1500
        };
        fs::create_dir_all(self.host.path("/run/flannel"))?;
        let file = self.subnet_file(conf, mtu);
        fs::write(self.host.path("/run/flannel/subnet.env"), file)?;
        let mut script =
            "sysctl -qw net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1\n".to_owned();
        for ipv4 in [true, false] {
            let families = conf.families();
            if if ipv4 {
                families.has_ipv4()
            } else {
                families.has_ipv6()
            } {
                script += &self.family(conf, ipv4, peers);
            }
        }
        self.host.sh(&script)?;
        match rules {
            Rules::NfTables => self.nf_tables(conf),
            Rules::Iptables(layout) => {
                // A machine with Docker: what nobody accepts is dropped.
                let layout = layout
                    .replace(":FORWARD ACCEPT", ":FORWARD DROP")
                    .replace("FORWARD -j REJECT", "FORWARD -i br-wan -j REJECT")
                    .replace("10.244.3.0/24", &self.subnet(true));
                fs::write(self.host.path("/run/layout"), layout)?;
                self.host
                    .sh("iptables-nft-restore < /run/layout && rm /run/layout")
                    .map(drop)
            }
        }
    }

    fn family(&self, conf: &NetConf, ipv4: bool, peers: &[&Node<'_>]) -> String {
        let (ip, device, full, overhead) = if ipv4 {
            ("ip -4", "flannel.1", 32, 50)
        } else {
            ("ip -6", "flannel-v6.1", 128, 70)
        };
        let mut script = String::new();
        if conf.backend() == "vxlan" {
            script += &format!(
                "ip link add name {device} address {} mtu {} txqueuelen 0 type vxlan id 1 local {} dev eth0 dstport 8472 nolearning\n\
                 sysctl -qw net/ipv6/conf/{device}/accept_ra=0\n\
                 {ip} address add {}/{full} dev {device}\n\
                 ip link set dev {device} up\n",
                self.mac(ipv4),
                1500 - overhead,
                self.public(ipv4),
                self.vtep(ipv4),
            );
        }
        for peer in peers {
            script += &peer.reached(conf, ipv4, ip, device);
        }
        script
    }

    /// What flannel does on another host for this one.
    fn reached(&self, conf: &NetConf, ipv4: bool, ip: &str, device: &str) -> String {
        let (subnet, vtep) = (self.subnet(ipv4), self.vtep(ipv4));
        let (mac, public) = (self.mac(ipv4), self.public(ipv4));
        if conf.backend() == "host-gw" {
            return format!("{ip} route add {subnet} via {public} dev eth0\n");
        }
        if conf.routes_directly() {
            return format!("{ip} route add {subnet} via {public}\n");
        }
        format!(
            "{ip} neighbour replace {vtep} lladdr {mac} dev {device} nud permanent\n\
             bridge fdb replace {mac} dev {device} dst {public} self permanent\n\
             {ip} route replace {subnet} via {vtep} dev {device} onlink\n"
        )
    }

    /// flannel's rules with `EnableNFTables`. Both tables are made whatever the families.
    fn nf_tables(&self, conf: &NetConf) -> Result<()> {
        let mut script = String::new();
        for (ipv4, family, network, multicast) in [
            (true, "ip", POD_NETWORK, "224.0.0.0/4"),
            (false, "ip6", POD_NETWORK_V6, "ff00::/8"),
        ] {
            let table = format!("{family} flannel-ipv{}", if ipv4 { 4 } else { 6 });
            script += &format!(
                "add table {table} {{ comment \"rules for flannel-ipv{}\"; }}\n\
                 add chain {table} forward {{ type filter hook forward priority filter; policy accept; }}\n\
                 add chain {table} postrtg {{ type nat hook postrouting priority srcnat; policy accept; }}\n\
                 flush chain {table} forward\n\
                 flush chain {table} postrtg\n",
                if ipv4 { 4 } else { 6 },
            );
            if !(if ipv4 {
                conf.families().has_ipv4()
            } else {
                conf.families().has_ipv6()
            }) {
                continue;
            }
            let subnet = self.subnet(ipv4);
            for rule in [
                format!("forward {family} saddr {network} accept"),
                format!("forward {family} daddr {network} accept"),
                "postrtg meta mark 0x4000 return".to_owned(),
                format!("postrtg {family} saddr {subnet} {family} daddr {network} return"),
                format!("postrtg {family} saddr {network} {family} daddr {subnet} return"),
                format!("postrtg {family} saddr != {subnet} {family} daddr {network} return"),
                format!(
                    "postrtg {family} saddr {network} {family} daddr != {multicast} masquerade fully-random"
                ),
                format!(
                    "postrtg {family} saddr != {network} {family} daddr {network} masquerade fully-random"
                ),
            ] {
                script += &format!("add rule {table} {rule}\n");
            }
        }
        fs::write(self.host.path("/run/rules.nft"), script)?;
        self.host
            .sh("nft -f /run/rules.nft && rm /run/rules.nft")
            .map(drop)
    }

    /// Whether flannel, started again now, would get its rules in.
    pub fn can_write_rules(&self, conf: &NetConf, rules: Rules) -> Result<()> {
        match rules {
            Rules::NfTables => self.nf_tables(conf),
            Rules::Iptables(_) => self
                .host
                .sh(
                    "for chain in 'nat FLANNEL-POSTRTG' 'filter FLANNEL-FWD'; do\n\
                         set -- $chain\n\
                         iptables -w -t $1 -N $2 || iptables -w -t $1 -F $2\n\
                     done",
                )
                .map(drop),
        }
    }
}
