//! This host: what its kernel answers, its pods by the CNI program's files, its network by the daemon's report.

use std::cmp::Reverse;
use std::net::IpAddr;

use hostnet::nft::{Hook, Nftables, Packet};
use hostnet::{
    AddressFamily, Link, LinkIndex, Mac, Netlink, Netns, NoWay, Route, RouteFilter, sysctl,
};
use ipam::{Cidr, Subnets};

use super::others;
use super::rules::{Fate, fate, recognise};
use super::world::{Inside, Others, Rules, World};
use crate::firewall::{Firewall, OWNED, Tunnels, tables};
use crate::status::report::{Pod, Report};

/// The link on which kube-proxy keeps the addresses of services when it works with IPVS.
const IPVS: &str = "kube-ipvs0";

/// This host.
pub(super) struct Here {
    netlink: Netlink,
    report: Report,
    networks: Subnets,
    own: Subnets,
}

impl Here {
    /// # Errors
    /// The kernel gives no socket.
    pub(super) fn new(report: Report) -> Result<Self, hostnet::Error> {
        Ok(Self {
            netlink: Netlink::open()?,
            networks: subnets(&report.network.networks),
            own: subnets(&report.node.subnets),
            report,
        })
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    fn tunnels(&self) -> Option<Tunnels> {
        let network = &self.report.network;
        Some(Tunnels {
            port: network.port?,
            vni: network.vni?,
        })
    }

    /// The rules in nf_tables, or, where iptables keeps them, those that the daemon keeps there.
    fn table(&self, ipv4: bool) -> Result<hostnet::nft::Table, String> {
        let (family, name) = OWNED[usize::from(!ipv4)];
        let network = &self.report.network;
        if let Some(mode) = &network.firewall
            && mode.starts_with("iptables")
        {
            let firewall = Firewall {
                masquerade: network.masquerade.unwrap_or(false),
                fully_random: true,
                forward_accept: true,
                untracked: None,
            };
            let mut tables = tables(&self.networks, &self.own, &firewall).into_iter();
            let table = tables.find(|table| table.family == family);
            return table.ok_or_else(|| "Loden keeps no rules of this family".to_owned());
        }
        let observed = Nftables::open().and_then(|mut nftables| nftables.observe(family, name));
        let observed =
            observed.map_err(|error| format!("firewall rules cannot be read: {error}"))?;
        let observed = observed.ok_or_else(|| format!("there is no table {name}"))?;
        let found = recognise(&self.networks, &self.own, self.tunnels(), family, &observed);
        found.ok_or_else(|| {
            format!("the table {name} is not as Loden writes it, so what it does is not known")
        })
    }
}

impl World for Here {
    fn pods(&self) -> &[Pod] {
        &self.report.pods
    }

    fn node_of(&self, address: IpAddr) -> Option<String> {
        let holds = |subnet: &String| parse(subnet).is_some_and(|subnet| subnet.contains(address));
        let mut peers = self.report.peers.iter();
        let peer = peers.find(|peer| peer.subnets.iter().any(holds))?;
        let subnet = peer.subnets.iter().find(|subnet| holds(subnet))?;
        let public = peer.public.first()?;
        Some(format!("the node {public}, which holds {subnet}"))
    }

    fn is_pods_address(&self, address: IpAddr) -> bool {
        let mut networks = self.networks.each::<Cidr>();
        networks.any(|network| network.contains(address))
    }

    fn way_in_pod(&mut self, pod: &Pod, to: IpAddr) -> Result<Inside, String> {
        let path = pod.netns.as_deref().ok_or("its path is not recorded")?;
        let mut inside = Netns::open(path)
            .and_then(|netns| netns.netlink())
            .map_err(|error| error.to_string())?;
        let look = |error: hostnet::Error| error.to_string();
        let link = inside.link_by_name(&pod.ifname).map_err(look)?;
        let link = link.ok_or_else(|| format!("there is no {} in it", pod.ifname))?;
        let held = inside.addresses(Some(link.index)).map_err(look)?;
        if !held
            .iter()
            .any(|held| pod.addresses.contains(&held.address))
        {
            return Err("another pod has its path by now".to_owned());
        }
        let way = match inside.route_to(to) {
            Ok(Some(route)) => Ok(route),
            Ok(None) => Err(NoWay::Unreachable),
            Err(hostnet::Error::Refused { error, .. }) => Err(NoWay::Other(error)),
            Err(error) => return Err(error.to_string()),
        };
        let index = way.as_ref().ok().and_then(|route| route.link);
        let leaving = match index {
            Some(index) => inside.link(index).map_err(look)?.unwrap_or(link),
            None => link,
        };
        Ok(Inside {
            way,
            by: leaving.name,
            mtu: leaving.mtu,
        })
    }

    fn ways(&mut self, to: IpAddr) -> Result<usize, String> {
        let filter = RouteFilter {
            family: Some(AddressFamily::of(to)),
            table: Some(Route::MAIN_TABLE),
            ..RouteFilter::default()
        };
        let routes = self.netlink.routes(&filter);
        let routes = routes.map_err(|error| error.to_string())?.into_iter();
        let fitting = routes.filter(|route| route.destination.contains(to));
        // The longest prefix, and of the same one what is nearer.
        let best = fitting.max_by_key(|route| {
            let distance = Reverse(route.priority.unwrap_or(0));
            (route.destination.prefix(), distance)
        });
        Ok(best.map_or(1, |route| route.nexthops))
    }

    fn is_service(&mut self, address: IpAddr) -> Result<bool, String> {
        let look = |error: hostnet::Error| error.to_string();
        let link = self.netlink.link_by_name(IPVS).map_err(look)?;
        let Some(link) = link else { return Ok(false) };
        let held = self.netlink.addresses(Some(link.index)).map_err(look)?;
        Ok(held.iter().any(|held| held.address == address))
    }

    fn others(&mut self, at: Hook, packet: &Packet) -> Result<Others, String> {
        others::look(at, packet)
    }

    fn host_end(&mut self, pod: &Pod) -> Result<Option<Link>, String> {
        let Some(name) = pod.interface.as_ref().filter(|_| pod.linked != Some(false)) else {
            return Ok(None);
        };
        self.netlink
            .link_by_name(name)
            .map_err(|error| error.to_string())
    }

    fn link(&mut self, index: LinkIndex) -> Result<Option<Link>, String> {
        self.netlink.link(index).map_err(|error| error.to_string())
    }

    fn forwards(&mut self, ipv4: bool) -> Result<bool, String> {
        let setting = if ipv4 {
            "net/ipv4/ip_forward"
        } else {
            "net/ipv6/conf/all/forwarding"
        };
        let value = sysctl::read(setting).map_err(|error| error.to_string())?;
        Ok(value.trim() != "0")
    }

    fn way(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        by: LinkIndex,
    ) -> Result<Result<Route, NoWay>, String> {
        self.netlink
            .route_of(from, to, by)
            .map_err(|error| error.to_string())
    }

    fn way_out(&mut self, to: IpAddr) -> Result<Option<Route>, String> {
        self.netlink.route_to(to).map_err(|error| error.to_string())
    }

    fn neighbour(&mut self, link: LinkIndex, of: IpAddr) -> Result<Option<Mac>, String> {
        let family = Some(AddressFamily::of(of));
        let neighbours = self.netlink.neighbours(link, family);
        let neighbours = neighbours.map_err(|error| error.to_string())?;
        let mut known = neighbours
            .iter()
            .filter(|neighbour| neighbour.address == of);
        Ok(known.find_map(|neighbour| neighbour.mac))
    }

    fn fdb(&mut self, link: LinkIndex, mac: Mac) -> Result<Vec<IpAddr>, String> {
        let entries = self.netlink.fdb(link).map_err(|error| error.to_string())?;
        let of_mac = entries.iter().filter(|entry| entry.mac == mac);
        Ok(of_mac.map(|entry| entry.destination).collect())
    }

    fn rules(&mut self, from: IpAddr, to: IpAddr) -> Rules {
        let table = self.table(from.is_ipv4());
        let at = |hook| table.as_ref().map(|table| fate(table, hook, from, to));
        let accepted = at(Hook::Forward).map(|fate| fate == Fate::Accepted);
        let masqueraded = at(Hook::Postrouting).map(|fate| fate == Fate::Masqueraded);
        Rules {
            accepted: accepted.map_err(Clone::clone),
            masqueraded: masqueraded.map_err(Clone::clone),
        }
    }
}

fn parse(subnet: &str) -> Option<Cidr> {
    let (address, prefix) = subnet.split_once('/')?;
    Cidr::masked(address.parse().ok()?, prefix.parse().ok()?).ok()
}

/// The first of each family.
fn subnets(texts: &[String]) -> Subnets {
    let mut subnets = Subnets::default();
    for cidr in texts.iter().filter_map(|text| parse(text)) {
        match cidr {
            Cidr::V4(cidr) => drop(subnets.v4.get_or_insert(cidr)),
            Cidr::V6(cidr) => drop(subnets.v6.get_or_insert(cidr)),
        }
    }
    subnets
}
