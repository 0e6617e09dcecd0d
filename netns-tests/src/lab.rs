//! The lab as a whole: an underlay that joins the hosts, the world outside, and etcd.
//!
//! The underlay is a bridge in a namespace of its own. Addresses come from the blocks for documentation: 192.0.2.0/24
//! and 2001:db8::/64 (RFC 5737, RFC 3849) on the underlay, 198.51.100.1 and 2001:db8:ffff::1 for the world.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use crate::endpoint::Endpoint;
use crate::etcd::Etcd;
use crate::host::Host;
use crate::isolation::{self, root::LAB};

/// The world's number on the underlay; hosts use it as their default gateway.
const WORLD: u8 = 1;
/// Number of the host that runs etcd.
pub(crate) const ETCD: u8 = 2;
/// Number of the first host that a test asks for.
const FIRST: u8 = 11;

/// The address of a host outside every network of the lab, reached through the default route.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The same for IPv6.
pub const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// flannel's own default conflist (bridge attachment).
pub const FLANNEL_CONFLIST: &str = r#"{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}"#;

/// Our own conflist as users install it: the routed attachment, which has no bridge.
pub const ROUTED_CONFLIST: &str = include_str!("../../manifests/10-flannel.conflist");

/// What the hosts have to know of the lab.
#[derive(Debug)]
pub(crate) struct Shared {
    conflist: Mutex<String>,
}

impl Shared {
    pub(crate) fn conflist(&self) -> String {
        self.conflist
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn etcd_endpoint(&self, ipv4: bool) -> String {
        if ipv4 {
            format!("http://192.0.2.{ETCD}:2379")
        } else {
            format!("http://[2001:db8::{ETCD:x}]:2379")
        }
    }
}

/// A lab; one a process.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
    underlay: Host,
    world: Host,
    etcd: Option<Etcd>,
    next: AtomicU8,
}

impl Lab {
    /// A lab with an underlay and the world, no etcd and no hosts yet.
    pub fn new() -> Result<Self> {
        ensure!(
            isolation::is_inside(),
            "a lab stands only in a process of its own namespaces: in a test of the harness, or through isolation::run"
        );
        ensure!(
            !Path::new(LAB).join("underlay").exists(),
            "this process has a lab already; one has room for one"
        );
        let shared = Arc::new(Shared {
            conflist: Mutex::new(ROUTED_CONFLIST.to_owned()),
        });
        let underlay = Host::build("underlay", 0, true, &shared)?;
        // No IPv6 of the bridge's own, and no snooping that delays a new port.
        underlay.ip_batch(
            "link set dev lo up\n\
             link add name underlay type bridge mcast_snooping 0\n\
             link set dev underlay addrgenmode none up\n",
        )?;
        let world = Host::build("world", WORLD, true, &shared)?;
        let lab = Self {
            shared,
            underlay,
            world,
            etcd: None,
            next: AtomicU8::new(FIRST),
        };
        lab.plug_in(&lab.world)?;
        lab.world.ip_batch(&format!(
            "addr add {OUTSIDE}/32 dev lo\naddr add {OUTSIDE_V6}/128 dev lo nodad\n"
        ))?;
        Ok(lab)
    }

    /// A new host on the underlay with a default route to the world.
    pub fn host(&self, name: &str) -> Result<Host> {
        self.host_numbered(name, self.next_number(name)?, true)
    }

    /// The same without any IPv4 address, as on an underlay that carries IPv6 alone.
    pub fn ipv6_host(&self, name: &str) -> Result<Host> {
        self.host_numbered(name, self.next_number(name)?, false)
    }

    fn next_number(&self, name: &str) -> Result<u8> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        ensure!(
            number < u8::MAX,
            "the underlay has no address left for {name}"
        );
        Ok(number)
    }

    /// Several hosts at once.
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let hosts: Vec<Host> = names
            .iter()
            .map(|name| self.host(name))
            .collect::<Result<_>>()?;
        hosts
            .try_into()
            .map_err(|_| anyhow::anyhow!("some hosts are missing"))
    }

    /// The host outside the pod network; reached under [`OUTSIDE`], knows no way to pods.
    pub fn world(&self) -> &Host {
        &self.world
    }

    /// The switch between the hosts: the bridge `underlay`, whose ports are called like the hosts.
    pub fn underlay(&self) -> &Host {
        &self.underlay
    }

    /// Starts a real etcd on a host of its own and waits until it answers.
    pub fn start_etcd(&mut self) -> Result<()> {
        if self.etcd.is_none() {
            let host = self.host_numbered("etcd", ETCD, true)?;
            self.etcd = Some(Etcd::start(&host)?);
        }
        Ok(())
    }

    /// The running etcd.
    pub fn etcd(&self) -> Result<&Etcd> {
        self.etcd
            .as_ref()
            .context("this lab has no etcd: start_etcd() first")
    }

    /// The running etcd, to stop and start it.
    pub fn etcd_mut(&mut self) -> Result<&mut Etcd> {
        self.etcd
            .as_mut()
            .context("this lab has no etcd: start_etcd() first")
    }

    /// The URL under which hosts reach etcd, whether it runs or not.
    pub fn etcd_endpoint(&self) -> String {
        self.shared.etcd_endpoint(true)
    }

    /// Writes the network config where flanneld looks for it.
    pub fn put_net_conf(&self, json: &str) -> Result<()> {
        self.etcd()?
            .put(&format!("{}/config", crate::etcd::PREFIX), json)
    }

    /// The conflist that pods are attached with from now on; [`ROUTED_CONFLIST`] at first.
    pub fn set_conflist(&self, conflist: &str) {
        conflist.clone_into(
            &mut self
                .shared
                .conflist
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Takes a host off the underlay, as if its cable were pulled for good. What runs on it keeps running.
    pub fn unplug(&self, host: &Host) -> Result<()> {
        self.underlay
            .exec(["ip", "link", "delete", "dev", host.name()])
            .map(drop)
    }

    /// Cuts the host's cable to the underlay: its uplink loses the carrier and keeps addresses and routes.
    pub fn cut(&self, host: &Host) -> Result<()> {
        self.underlay
            .exec(["ip", "link", "set", "dev", host.name(), "down"])
            .map(drop)
    }

    /// Mends the cable.
    pub fn mend(&self, host: &Host) -> Result<()> {
        self.underlay
            .exec(["ip", "link", "set", "dev", host.name(), "up"])
            .map(drop)
    }

    /// Gives the host's uplink and its end of the cable this MTU, as on an underlay of jumbo frames.
    pub fn set_mtu(&self, host: &Host, mtu: u32) -> Result<()> {
        let mtu = mtu.to_string();
        for (place, link) in [(&self.underlay, host.name()), (host, "eth0")] {
            place.exec(["ip", "link", "set", "dev", link, "mtu", &mtu])?;
        }
        Ok(())
    }

    /// Puts a new network card with the same name, MAC and addresses in the place of the host's present one, which takes along
    /// everything that hung on it.
    pub fn replace_uplink(&self, host: &Host) -> Result<()> {
        let mac = host.exec(["cat", "/sys/class/net/eth0/address"])?;
        self.unplug(host)?;
        self.plug_in(host)?;
        host.exec(["ip", "link", "set", "dev", "eth0", "address", mac.trim()])?;
        self.add_default_routes(host)
    }

    fn host_numbered(&self, name: &str, number: u8, ipv4: bool) -> Result<Host> {
        if name.is_empty()
            || name.len() > 15
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            bail!(
                "{name:?} cannot be a host: its name is that of a link too, so 1 to 15 letters, digits and dashes"
            );
        }
        let host = Host::build(name, number, ipv4, &self.shared)?;
        self.plug_in(&host)?;
        self.add_default_routes(&host)?;
        Ok(host)
    }

    fn add_default_routes(&self, host: &Host) -> Result<()> {
        let mut routes = String::new();
        if host.has_ipv4() {
            routes += &format!("route add default via {}\n", self.world.ipv4());
        }
        if has_ipv6() {
            routes += &format!("route add default via {}\n", self.world.ipv6());
        }
        host.ip_batch(&routes).map(drop)
    }

    /// A cable between the host's eth0 and the underlay.
    fn plug_in(&self, host: &Host) -> Result<()> {
        let (name, netns) = (host.name(), host.namespaces().net_path());
        self.underlay.ip_batch(&format!(
            "link add name {name} type veth peer name eth0 netns {}\n\
             link set dev {name} master underlay addrgenmode none up\n",
            netns.display()
        ))?;
        let mut lines = "link set dev lo up\nlink set dev eth0 up\n".to_owned();
        if host.has_ipv4() {
            lines += &format!("addr add {}/24 dev eth0\n", host.ipv4());
        }
        if has_ipv6() {
            lines += &format!("addr add {}/64 dev eth0 nodad\n", host.ipv6());
        }
        host.ip_batch(&lines).map(drop)
    }
}

pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}
