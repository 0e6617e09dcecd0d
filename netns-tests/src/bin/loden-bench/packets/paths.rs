//! The ways that packets can take, each between two places that stay for the whole run.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use netns_tests::{Address, Daemon, Endpoint, Host, Lab, Namespaces, Pod, etcd};

use super::meters::{IPERF_PORT, PORT};
use crate::figure::Name;

const ROUTED: Name = Name {
    text: "Loden, routed",
    beside: None,
};

const fn beside_routed(text: &'static str) -> Name {
    Name {
        text,
        beside: Some(ROUTED.text),
    }
}

const SAME_HOST: Name = Name {
    text: "Loden, routed, same host",
    beside: None,
};

/// flannel's attachment, without portmap.
const BRIDGED_CONFLIST: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}"#;
const PLAIN_CONFLIST: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "flannel", "delegate": {"type": "ptp"}}]}"#;

/// What VXLAN over IPv4 adds to a packet.
const OVERHEAD: u32 = 50;

/// One way.
pub(super) struct Path {
    pub(super) name: Name,
    pub(super) from: Place,
    pub(super) to: Place,
    /// Under which the far side is reached from the near side.
    pub(super) address: IpAddr,
}

/// A host or a pod.
pub(super) enum Place {
    Host(Host),
    Pod(Box<Pod>, IpAddr),
}

impl Place {
    fn pod(host: &Host, name: &str, conflist: &str) -> Result<Self> {
        let pod = host.pod_spec(name).conflist(conflist).attach()?;
        let address = pod.address();
        Ok(Self::Pod(Box::new(pod), address))
    }
}

impl Address for Place {
    fn address(&self) -> IpAddr {
        match self {
            Self::Host(host) => host.address(),
            Self::Pod(_, address) => *address,
        }
    }
}

impl Endpoint for Place {
    fn name(&self) -> &str {
        match self {
            Self::Host(host) => host.name(),
            Self::Pod(pod, _) => pod.name(),
        }
    }

    fn namespaces(&self) -> &Namespaces {
        match self {
            Self::Host(host) => host.namespaces(),
            Self::Pod(pod, _) => pod.namespaces(),
        }
    }
}

/// All ways, and what they need.
pub(super) struct Paths {
    pub(super) all: Vec<Path>,
    _daemons: Vec<Daemon>,
}

impl Paths {
    pub(super) fn build(lab: &Lab, mtu: u32, services: u32) -> Result<Self> {
        let mut site = Site {
            lab,
            mtu,
            daemons: Vec::new(),
        };
        let [a, b, c] = [site.host("a")?, site.host("b")?, site.host("c")?];
        site.daemons(etcd::PREFIX, r#"{"Type": "vxlan"}"#, &[&a, &b, &c])?;
        let mut all = vec![
            site.path(beside_routed("host to host"), &a, &b, None)?,
            site.path(ROUTED, &a, &b, Some(PLAIN_CONFLIST))?,
            site.path(
                beside_routed("Loden, bridge"),
                &a,
                &b,
                Some(BRIDGED_CONFLIST),
            )?,
        ];
        for (host, number, name) in [
            (&a, 1, beside_routed("Loden, routed, 1 service")),
            (
                &c,
                services,
                beside_routed("Loden, routed, 10,000 services"),
            ),
        ] {
            let mut path = site.path(name, host, &b, Some(PLAIN_CONFLIST))?;
            path.address = serve(host, path.to.address(), number)?;
            all.push(path);
        }
        for (prefix, backend, name) in [
            (
                "/hostgw/network",
                r#"{"Type": "host-gw"}"#,
                beside_routed("Loden, host-gw"),
            ),
            (
                "/direct/network",
                r#"{"Type": "vxlan", "DirectRouting": true}"#,
                beside_routed("Loden, DirectRouting"),
            ),
        ] {
            let word = prefix.split('/').nth(1).context("no prefix")?;
            let [one, other] = [
                site.host(&format!("{word}-1"))?,
                site.host(&format!("{word}-2"))?,
            ];
            site.daemons(prefix, backend, &[&one, &other])?;
            all.push(site.path(name, &one, &other, Some(PLAIN_CONFLIST))?);
        }
        let [one, other] = [site.host("hand-1")?, site.host("hand-2")?];
        build_by_hand(&one, &other, 1, mtu)?;
        build_by_hand(&other, &one, 2, mtu)?;
        let by_hand = |name, to: &Host, (number, place)| -> Result<Path> {
            let from = pod_by_hand(&one, 1, place, mtu)?;
            let to = pod_by_hand(to, number, 10 + place, mtu)?;
            Ok(Path {
                name,
                address: to.address(),
                from,
                to,
            })
        };
        let name = beside_routed("bridge and VXLAN by hand");
        all.push(by_hand(name, &other, (2, 2))?);
        all.push(site.path(SAME_HOST, &a, &a, Some(PLAIN_CONFLIST))?);
        let name = Name {
            text: "bridge by hand, same host",
            beside: Some(SAME_HOST.text),
        };
        all.push(by_hand(name, &one, (1, 3))?);
        Ok(Self {
            all,
            _daemons: site.daemons,
        })
    }
}

/// Where the ways are built.
struct Site<'a> {
    lab: &'a Lab,
    mtu: u32,
    daemons: Vec<Daemon>,
}

impl Site<'_> {
    fn host(&self, name: &str) -> Result<Host> {
        let host = self.lab.host(name)?;
        self.lab.set_mtu(&host, self.mtu)?;
        // Thousands of connections come and go, and each would be remembered for two minutes.
        host.sh("echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait 2>/dev/null || true")?;
        Ok(host)
    }

    fn daemons(&mut self, prefix: &str, backend: &str, hosts: &[&Host]) -> Result<()> {
        let conf = format!(r#"{{"Network": "10.244.0.0/16", "Backend": {backend}}}"#);
        self.lab.etcd()?.put(&format!("{prefix}/config"), &conf)?;
        let argument = format!("--etcd-prefix={prefix}");
        for host in hosts {
            self.daemons.push(host.flanneld(&["--ip-masq", &argument])?);
        }
        for host in hosts {
            let others = hosts.iter().filter(|other| other.name() != host.name());
            host.wait_peers(others.copied())?;
        }
        Ok(())
    }

    /// Between pods, or between the hosts themselves where there is no conflist.
    fn path(&self, name: Name, from: &Host, to: &Host, conflist: Option<&str>) -> Result<Path> {
        let place = |host: &Host, pod: &str| match conflist {
            Some(conflist) => Place::pod(host, pod, conflist),
            None => Ok(Place::Host(host.clone())),
        };
        let (from, to) = (place(from, "client")?, place(to, "server")?);
        Ok(Path {
            name,
            address: to.address(),
            from,
            to,
        })
    }
}

/// Lets a host lead a service address to a pod, by a map of so many services, as kube-proxy's mode for nf_tables does; the
/// address. Which of them is asked for does not matter to a map.
fn serve(host: &Host, pod: IpAddr, services: u32) -> Result<IpAddr> {
    let address = |number: u32| Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 1).to_bits() + number);
    let element = |address: Ipv4Addr, protocol: &str, port: u16| {
        format!("{address} . {protocol} . {port} : {pod} . {port}")
    };
    let asked = address(services / 2);
    let mut elements: Vec<String> = (0..services)
        .map(|number| element(address(number), "tcp", PORT))
        .collect();
    elements.extend(["tcp", "udp"].map(|protocol| element(asked, protocol, IPERF_PORT)));
    let ruleset = format!(
        "table ip services {{\n map to {{\n type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service\n \
         elements = {{ {} }}\n }}\n \
         chain pre {{\n type nat hook prerouting priority dstnat\n \
         ip daddr 10.96.0.0/12 meta l4proto {{ tcp, udp }} dnat ip to ip daddr . meta l4proto . th dport map @to\n }}\n}}\n",
        elements.join(",\n")
    );
    let file = std::env::temp_dir().join(format!("services-{services}.nft"));
    std::fs::write(&file, ruleset)?;
    host.exec(["nft", "-f", &file.display().to_string()])?;
    Ok(asked.into())
}

/// The set-up that flannel makes: a VXLAN device with entries for the other host, a bridge for pods, a rule to masquerade.
fn build_by_hand(host: &Host, other: &Host, number: u8, mtu: u32) -> Result<()> {
    let (own, peer, far) = (host.ipv4(), other.ipv4(), 3 - number);
    let inner = mtu - OVERHEAD;
    host.ip_batch(&format!(
        "link add flannel.1 address 02:00:00:00:00:{number:02x} mtu {inner} type vxlan id 1 dev eth0 local {own} dstport 8472 nolearning\n\
         addr add 10.250.{number}.0/32 dev flannel.1\nlink set flannel.1 up\n\
         link add cni0 mtu {inner} type bridge\naddr add 10.250.{number}.1/24 dev cni0\nlink set cni0 up\n\
         neigh add 10.250.{far}.0 dev flannel.1 lladdr 02:00:00:00:00:{far:02x} nud permanent\n\
         route add 10.250.{far}.0/24 via 10.250.{far}.0 dev flannel.1 onlink\n"
    ))?;
    host.sh(&format!(
        "bridge fdb add 02:00:00:00:00:{far:02x} dev flannel.1 dst {peer} self permanent; \
         echo 1 > /proc/sys/net/ipv4/ip_forward; \
         nft add table ip hand; \
         nft 'add chain ip hand post {{ type nat hook postrouting priority srcnat; }}'; \
         nft 'add rule ip hand post ip saddr 10.250.0.0/16 ip daddr != 10.250.0.0/16 masquerade'"
    ))
    .map(drop)
}

/// A pod on that bridge.
fn pod_by_hand(host: &Host, number: u8, place: u8, mtu: u32) -> Result<Place> {
    let inner = mtu - OVERHEAD;
    let pod = host.pod_spec("hand").create()?;
    let netns = pod.namespaces().net_path();
    let link = format!("hand-{number}-{place}");
    host.ip_batch(&format!(
        "link add {link} mtu {inner} type veth peer name eth0 mtu {inner} netns {}\nlink set {link} master cni0 up\n",
        netns.display()
    ))?;
    pod.ip_batch(&format!(
        "addr add 10.250.{number}.{place}/24 dev eth0\nlink set eth0 up\nroute add default via 10.250.{number}.1\n"
    ))?;
    Ok(Place::Pod(
        Box::new(pod),
        Ipv4Addr::new(10, 250, number, place).into(),
    ))
}
