//! Through the tunnel to another host.

use std::net::IpAddr;

use hostnet::{Link, Route};

use super::super::world::World;
use super::super::{By, End, EndKind};
use super::{Outcome, Walk, unknown};

/// The headers that VXLAN puts before a packet: Ethernet 14, VXLAN 8, UDP 8, and IPv4 20 or IPv6 40 (RFC 7348).
const OUTER: [u32; 2] = [50, 70];

impl<W: World> Walk<'_, W> {
    pub(super) fn tunnel(&mut self, device: &Link, route: &Route, pod_mtu: Option<u32>) -> Outcome {
        if !device.up {
            return Err(self.stop(By::HostRoute, format!("{} is down", device.name)));
        }
        let gateway = route.gateway.unwrap_or(self.to);
        let mac = self
            .world
            .neighbour(device.index, gateway)
            .map_err(unknown)?;
        let Some(mac) = mac else {
            let says = format!(
                "{} has no MAC for {gateway}, and a tunnel cannot ask for it",
                device.name
            );
            return Err(self.stop(By::Neighbour, says));
        };
        self.note(
            By::Neighbour,
            Some(true),
            format!("{gateway} on {} has the MAC {mac}", device.name),
        );
        let hosts = self.world.fdb(device.index, mac).map_err(unknown)?;
        let Some(&host) = hosts.first() else {
            let says = format!(
                "{} has no FDB entry for {mac}, so it knows no host",
                device.name
            );
            return Err(self.stop(By::Fdb, says));
        };
        self.note(
            By::Fdb,
            Some(true),
            format!("{mac} is the VTEP of the host {host}"),
        );
        self.outer(device, host, pod_mtu)?;
        Ok(self.at_peer(host))
    }

    fn outer(&mut self, device: &Link, host: IpAddr, pod_mtu: Option<u32>) -> Result<(), End> {
        let Some(way) = self.world.way_out(host).map_err(unknown)? else {
            return Err(self.stop(By::Outer, format!("no route leads to the host {host}")));
        };
        let uplink = match way.link {
            Some(index) => self.world.link(index).map_err(unknown)?,
            None => None,
        };
        let Some(uplink) = uplink else {
            return Err(self.stop(By::Outer, format!("no link leads to the host {host}")));
        };
        if !uplink.running {
            let says = format!(
                "{}, by which {host} is reached, has no carrier",
                uplink.name
            );
            return Err(self.stop(By::Outer, says));
        }
        let port = device.vxlan.as_ref().map_or(0, |vxlan| vxlan.port);
        let source = way.source.map(|source| format!(" from {source}"));
        let via = way.gateway.map(|gateway| format!(", router {gateway}"));
        let says = format!(
            "the outer packet goes by {}{} to {host}, UDP port {port}{}",
            uplink.name,
            source.unwrap_or_default(),
            via.unwrap_or_default()
        );
        self.note(By::Outer, Some(true), says);
        self.sizes(device, &uplink, host, way.mtu, pod_mtu);
        Ok(())
    }

    fn sizes(
        &mut self,
        device: &Link,
        uplink: &Link,
        host: IpAddr,
        path: Option<u32>,
        pod: Option<u32>,
    ) {
        let overhead = OUTER[usize::from(host.is_ipv6())];
        let room = path.map_or(uplink.mtu, |path| path.min(uplink.mtu));
        let inner = pod.unwrap_or(device.mtu);
        let says = format!(
            "up to {inner} bytes inside, {} outside; {} takes {}, {} takes {room}",
            inner.saturating_add(overhead),
            device.name,
            device.mtu,
            uplink.name
        );
        if inner > device.mtu {
            let says =
                format!("{says}: the pod's larger packets are cut, or sent back to it as too big");
            self.note(By::Mtu, None, says);
        } else if inner.saturating_add(overhead) > room {
            let says = format!("{says}: full packets do not fit");
            self.note(By::Mtu, Some(false), says);
        } else {
            self.note(By::Mtu, Some(true), says);
        }
    }

    pub(super) fn at_peer(&self, host: IpAddr) -> End {
        let node = self.world.node_of(self.to);
        let says = match node {
            Some(node) => format!("it leaves for {node}, which goes on from there"),
            None => format!("it leaves for the host {host}, which goes on from there"),
        };
        End {
            kind: EndKind::Peer,
            says,
        }
    }
}
