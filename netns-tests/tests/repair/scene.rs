//! Two hosts with a pod each, what is done to the first of them, and the comparison with how it was before.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use netns_tests::harness::Course;
use netns_tests::{
    Cluster, Endpoint, Families, Lease, NetConf, Node, Pod, Snapshot, Traffic, eventually,
};
use nix::sys::signal::Signal;

use crate::table::{Backend, Damage, Family, Outcome, trials};
use crate::uplink;

/// How long a repair may take. It takes milliseconds; a busy machine may need more.
pub(crate) const REPAIR: Duration = Duration::from_secs(30);

/// The stage of one backend.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    backend: Backend,
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: [Pod; 2],
    before: State,
    leases: [Lease; 2],
}

/// All that must be as before.
struct State {
    kernels: Vec<Snapshot>,
    subnet_files: Vec<String>,
    /// What the devices' `accept_ra` say.
    advertisements: String,
}

/// Runs the trials of one backend.
pub(crate) fn run(backend: Backend, course: &mut Course) -> Result<()> {
    let mut scene = Scene::new(backend)?;
    for (name, family, damage) in trials(backend) {
        if !course.wants(&name) {
            continue;
        }
        course.run(&name, || match &damage {
            Some(damage) => scene.inflict(damage, family),
            None => uplink::suffer(&scene, backend, &name),
        });
        if course.is_spoilt() {
            continue;
        }
        if let Err(error) = scene.is_whole().or_else(|_| scene.start_over()) {
            course.spoil(format!("{name} left the hosts in another state: {error:#}"));
        }
    }
    Ok(())
}

impl Scene {
    fn new(backend: Backend) -> Result<Self> {
        let conf = match backend {
            Backend::Vxlan => NetConf::new("vxlan", Families::Dual),
            Backend::HostGw => NetConf::new("host-gw", Families::Dual),
        };
        let cluster = Cluster::new(conf)?;
        let nodes = cluster.nodes(&["a", "b"])?;
        let pods = [nodes[0].host.pod("a1")?, nodes[1].host.pod("b1")?];
        nodes[0]
            .host
            .sh("ip link add name br-foreign address 02:00:00:00:00:b0 type bridge && ip link set dev br-foreign addrgenmode none up")?;
        let etcd = cluster.lab.etcd()?;
        let leases = [
            etcd.lease_of(&nodes[0].host)?,
            etcd.lease_of(&nodes[1].host)?,
        ];
        let before = State::of(&nodes)?;
        let scene = Self {
            cluster,
            backend,
            nodes,
            pods,
            before,
            leases,
        };
        scene.pods_talk()?;
        Ok(scene)
    }

    fn inflict(&self, damage: &Damage, family: Family) -> Result<()> {
        let a = &self.nodes[0];
        let told = a.daemon.log().len();
        let command = self.fill(damage.command, family);
        // Held still, so that it sees the outcome and not a half of it.
        a.daemon.signal(Signal::SIGSTOP)?;
        let done = a.host.sh(&command);
        a.daemon.signal(Signal::SIGCONT)?;
        done?;
        match damage.outcome {
            Outcome::Repaired(says) => {
                self.wait_whole()
                    .with_context(|| format!("after `{command}`"))?;
                let says = self.fill(says, family);
                let log = a.daemon.log();
                let news = log.get(told..).unwrap_or_default();
                ensure!(
                    news.contains(&says),
                    "the log does not say {says:?} but:\n{news}"
                );
            }
            Outcome::LeftAlone(undo) => {
                self.is_left_alone()
                    .with_context(|| format!("after `{command}`"))?;
                // Fails when it is not there any more.
                let undo = self.fill(undo, family);
                a.host.sh(&undo)?;
                self.wait_whole()
                    .with_context(|| format!("after `{undo}`"))?;
            }
        }
        Ok(())
    }

    /// With something foreign there: whatever the daemon would do to it, it has done when a host that joined and left has been
    /// followed, which takes a comparison of everything.
    fn is_left_alone(&self) -> Result<()> {
        let a = &self.nodes[0].host;
        let with_it = a.snapshot()?.kernel();
        ensure!(
            !with_it.diff(&self.before.kernels[0]).new.is_empty(),
            "it was gone at once"
        );
        let etcd = self.cluster.lab.etcd()?;
        let key = "/coreos.com/network/subnets/10.244.255.0-24&fd00:10:244:ffff::-64";
        etcd.put(key, lease_of_a_guest(self.backend))?;
        eventually("there is a route to the guest", REPAIR, || {
            let routes = a.exec(["ip", "-4", "route"])?;
            ensure!(routes.contains("10.244.255.0/24"), "{routes}");
            Ok(())
        })?;
        etcd.delete(key)?;
        eventually("the guest is forgotten", REPAIR, || {
            a.snapshot()?.kernel().same_as(&with_it)
        })?;
        self.pods_talk()
    }

    /// Waits until everything is as before and pods reach each other.
    pub(crate) fn wait_whole(&self) -> Result<()> {
        eventually("everything is as before", REPAIR, || self.is_whole()).map_err(|error| {
            let log = self.nodes[0].daemon.log_tail();
            anyhow!("{error:#}\nthe log ends:\n{log}")
        })
    }

    fn is_whole(&self) -> Result<()> {
        State::of(&self.nodes)?.same_as(&self.before)?;
        self.pods_talk()
    }

    /// After a failure: takes everything away that could be wrong, so that the next trial can tell its own tale.
    fn start_over(&mut self) -> Result<()> {
        let a = &mut self.nodes[0];
        a.daemon.kill()?;
        // Not the routes to the pods, which leave by the pods' own links.
        a.host.sh(
            "for device in flannel.1 flannel-v6.1; do ip link delete dev $device || true; done\n\
             nft flush ruleset\n\
             for what in \"dev eth0\" \"type blackhole\"; do\n\
                 ip -4 route flush root 10.244.0.0/16 $what\n\
                 ip -6 route flush root fd00:10:244::/48 $what\n\
             done",
        )?;
        a.daemon.restart()?;
        a.daemon.wait_ready()?;
        self.wait_whole()
    }

    /// In both families.
    pub(crate) fn pods_talk(&self) -> Result<()> {
        for address in self.pods[1].addresses() {
            self.pods[0].ping(&address)?;
        }
        Ok(())
    }

    /// Puts what is meant in the place of the names in braces.
    pub(crate) fn fill(&self, text: &str, family: Family) -> String {
        let [own, peer] = &self.leases;
        let host = &self.nodes[1].host;
        let first = |subnet: &str| subnet.split('/').next().unwrap_or_default().to_owned();
        let words: [(&str, String); 16] = match family {
            Family::Ipv4 => [
                ("device", "flannel.1".to_owned()),
                ("ip", "ip -4".to_owned()),
                ("subnet", peer.subnet()),
                ("gateway", first(&peer.subnet())),
                ("mac", peer.vtep_mac().to_owned()),
                ("public", host.ipv4().to_string()),
                ("own", format!("{}/32", first(&own.subnet()))),
                ("free", "10.244.0.0".to_owned()),
                ("free_subnet", "10.244.0.0/24".to_owned()),
                ("nobody", "192.0.2.200".to_owned()),
                ("router", "192.0.2.1".to_owned()),
                ("foreign", "172.31.0.9".to_owned()),
                ("full", "32".to_owned()),
                ("table", "ip flannel-ipv4".to_owned()),
                ("nft", "ip".to_owned()),
                ("forwarding", "net/ipv4/ip_forward".to_owned()),
            ],
            Family::Ipv6 => [
                ("device", "flannel-v6.1".to_owned()),
                ("ip", "ip -6".to_owned()),
                ("subnet", peer.ipv6_subnet()),
                ("gateway", first(&peer.ipv6_subnet())),
                ("mac", peer.ipv6_vtep_mac().to_owned()),
                ("public", host.ipv6().to_string()),
                ("own", format!("{}/128", first(&own.ipv6_subnet()))),
                ("free", "fd00:10:244::".to_owned()),
                ("free_subnet", "fd00:10:244::/64".to_owned()),
                ("nobody", "2001:db8::200".to_owned()),
                ("router", "2001:db8::1".to_owned()),
                ("foreign", "fd77::9".to_owned()),
                ("full", "128".to_owned()),
                ("table", "ip6 flannel-ipv6".to_owned()),
                ("nft", "ip6".to_owned()),
                ("forwarding", "net/ipv6/conf/all/forwarding".to_owned()),
            ],
        };
        words.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }
}

/// A host that is nobody's.
fn lease_of_a_guest(backend: Backend) -> &'static str {
    match backend {
        Backend::Vxlan => {
            r#"{"PublicIP":"192.0.2.99","PublicIPv6":"2001:db8::99","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:01:04"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:01:06"}}"#
        }
        Backend::HostGw => {
            r#"{"PublicIP":"192.0.2.99","PublicIPv6":"2001:db8::99","BackendType":"host-gw"}"#
        }
    }
}

impl State {
    fn of(nodes: &[Node]) -> Result<Self> {
        let kernel = |node: &Node| Ok(node.host.snapshot()?.kernel());
        let file = |node: &Node| {
            Ok(fs::read_to_string(
                node.host.path("/run/flannel/subnet.env"),
            )?)
        };
        Ok(Self {
            kernels: nodes.iter().map(kernel).collect::<Result<_>>()?,
            subnet_files: nodes.iter().map(file).collect::<Result<_>>()?,
            advertisements: nodes[0]
                .host
                .sh("cat /proc/sys/net/ipv6/conf/flannel*/accept_ra || true")?,
        })
    }

    fn same_as(&self, before: &Self) -> Result<()> {
        for (now, before) in self.kernels.iter().zip(&before.kernels) {
            now.same_as(before)?;
        }
        ensure!(
            self.subnet_files == before.subnet_files,
            "the subnet files changed: {:?}",
            self.subnet_files
        );
        ensure!(
            self.advertisements == before.advertisements,
            "accept_ra of the devices: {}",
            self.advertisements
        );
        Ok(())
    }
}
