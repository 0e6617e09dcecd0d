//! The decisions, one after the other.

mod firewall;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr};

use hostnet::nft::Hook;
use hostnet::{Link, Route, RouteKind};

use super::world::{Inside, World};
use super::{By, Decision, End, EndKind};
use crate::status::report::Pod;

/// Follows a packet of a pod.
pub(super) fn walk(
    world: &mut impl World,
    pod: &Pod,
    to: IpAddr,
) -> (Option<IpAddr>, Vec<Decision>, End) {
    let mut addresses = pod.addresses.iter().copied();
    let source = addresses.find(|address| address.is_ipv4() == to.is_ipv4());
    let mut walk = Walk {
        world,
        pod,
        to,
        decisions: Vec::new(),
    };
    let end = match (special(to), source) {
        (Some(end), _) => Ok(end),
        (None, Some(from)) => walk.leave_pod(from),
        (None, None) => Err(dropped(format!(
            "the pod has no {} address",
            if to.is_ipv4() { "IPv4" } else { "IPv6" }
        ))),
    };
    let end = end.unwrap_or_else(|end| end);
    (source, walk.decisions, end)
}

struct Walk<'a, W> {
    world: &'a mut W,
    pod: &'a Pod,
    to: IpAddr,
    decisions: Vec<Decision>,
}

/// The end, found in the regular way or before it.
type Outcome = Result<End, End>;

fn dropped(says: impl Into<String>) -> End {
    End {
        kind: EndKind::Dropped,
        says: says.into(),
    }
}

fn unknown(says: impl Into<String>) -> End {
    End {
        kind: EndKind::Unknown,
        says: says.into(),
    }
}

/// The end of packets to addresses that no route of the host is for.
fn special(to: IpAddr) -> Option<End> {
    let broadcast = to == IpAddr::V4(Ipv4Addr::BROADCAST);
    let link_local = match to {
        IpAddr::V4(to) => to.is_link_local(),
        IpAddr::V6(to) => to.is_unicast_link_local(),
    };
    if to.is_loopback() || to.is_unspecified() {
        return Some(End {
            kind: EndKind::Pod,
            says: "it is the pod itself that such an address means; the packet does not leave it"
                .to_owned(),
        });
    }
    if to.is_multicast() || broadcast {
        return Some(unknown(
            "it is for many, of which this command cannot follow each",
        ));
    }
    link_local.then(|| {
        unknown(
            "such an address is for the pod's own link alone; what answers there is not followed",
        )
    })
}

impl<W: World> Walk<'_, W> {
    fn note(&mut self, by: By, passes: Option<bool>, says: impl Into<String>) {
        self.decisions.push(Decision {
            by,
            says: says.into(),
            passes,
        });
    }

    /// Notes that it goes no further.
    fn stop(&mut self, by: By, says: impl Into<String>) -> End {
        let says = says.into();
        self.note(by, Some(false), says.clone());
        dropped(says)
    }

    fn leave_pod(&mut self, from: IpAddr) -> Outcome {
        if self.pod.addresses.contains(&self.to) {
            return Ok(End {
                kind: EndKind::Pod,
                says: "it is the pod's own address; the packet does not leave the pod".to_owned(),
            });
        }
        let pod_mtu = self.pod_route()?;
        let Some(host_end) = self.world.host_end(self.pod).map_err(unknown)? else {
            let says = "the host's end of the pod's link is gone".to_owned();
            return Err(self.stop(By::Link, says));
        };
        if !host_end.up {
            let says = format!(
                "{}, the host's end of the pod's link, is down",
                host_end.name
            );
            return Err(self.stop(By::Link, says));
        }
        let arriving = match host_end.master {
            None => {
                let says = format!("the packet comes to the host by {}", host_end.name);
                self.note(By::Link, Some(true), says);
                host_end
            }
            Some(master) => {
                let bridge = self.world.link(master).map_err(unknown)?;
                let bridge = bridge.ok_or_else(|| unknown("the bridge is gone"))?;
                if let Some(end) = self.across(&bridge) {
                    return Ok(end);
                }
                let says = format!(
                    "the packet comes to the host by {}, a port of {}",
                    host_end.name, bridge.name
                );
                self.note(By::Link, Some(true), says);
                bridge
            }
        };
        self.host(from, &arriving, pod_mtu)
    }

    /// The pod's own decision. The MTU of its link.
    fn pod_route(&mut self) -> Result<Option<u32>, End> {
        match self.world.way_in_pod(self.pod, self.to) {
            Err(reason) => {
                let says = format!(
                    "the pod's namespace cannot be entered ({reason}); taken to have the default route that it was given"
                );
                self.note(By::PodRoute, None, says);
                Ok(None)
            }
            Ok(inside) => self.inside(&inside).map(Some),
        }
    }

    fn inside(&mut self, inside: &Inside) -> Result<u32, End> {
        let (by, mtu) = (&inside.by, inside.mtu);
        let route = match &inside.way {
            Err(no_way) => return Err(self.stop(By::PodRoute, format!("in the pod: {no_way}"))),
            Ok(route) if route.kind.drops() => {
                return Err(self.stop(By::PodRoute, "in the pod: a route throws it away"));
            }
            Ok(route) => route,
        };
        if *by != self.pod.ifname {
            let says =
                format!("the pod sends it by its link {by}, which is not followed from here");
            self.note(By::PodRoute, None, says.clone());
            return Err(unknown(says));
        }
        let way = route.gateway.map_or_else(
            || "directly".to_owned(),
            |gateway| format!("to its gateway {gateway}"),
        );
        let says = format!("the pod sends it {way} by {by}, MTU {mtu}");
        self.note(By::PodRoute, Some(true), says);
        Ok(route.mtu.unwrap_or(mtu))
    }

    /// Where it ends if it stays on the bridge: pods of one subnet talk without the host.
    fn across(&mut self, bridge: &Link) -> Option<End> {
        let other = self.pod_with(self.to)?;
        if other.kind != self.pod.kind {
            return None;
        }
        let says = format!("it stays on the bridge {}", bridge.name);
        self.note(By::Link, Some(true), says);
        Some(arrived(&other))
    }

    fn host(&mut self, from: IpAddr, arriving: &Link, pod_mtu: Option<u32>) -> Outcome {
        self.others(Hook::Prerouting, from, (Some(arriving), None))?;
        match self
            .world
            .way(from, self.to, arriving.index)
            .map_err(unknown)?
        {
            Ok(route) if route.kind == RouteKind::Local => {
                self.note(By::HostRoute, Some(true), "it is an address of this host");
                if self.world.is_service(self.to).map_err(unknown)? {
                    let says = "kube-proxy (IPVS) sends it to a pod of the service; to which is not followed";
                    self.note(By::Service, None, says);
                    return Err(unknown(says));
                }
                self.others(Hook::Input, from, (Some(arriving), None))?;
                Ok(End {
                    kind: EndKind::Host,
                    says: "it ends at this host itself".to_owned(),
                })
            }
            Ok(route) => {
                self.forwarding()?;
                self.forward(from, arriving, &route, pod_mtu)
            }
            Err(no_way) => {
                self.forwarding()?;
                Err(self.stop(By::HostRoute, format!("on the host: {no_way}")))
            }
        }
    }

    fn forwarding(&mut self) -> Result<(), End> {
        let ipv4 = self.to.is_ipv4();
        if self.world.forwards(ipv4).map_err(unknown)? {
            return Ok(());
        }
        let setting = if ipv4 {
            "net.ipv4.ip_forward"
        } else {
            "net.ipv6.conf.all.forwarding"
        };
        Err(self.stop(
            By::Forwarding,
            format!("this host does not forward: {setting} is 0"),
        ))
    }

    fn forward(
        &mut self,
        from: IpAddr,
        arriving: &Link,
        route: &Route,
        pod_mtu: Option<u32>,
    ) -> Outcome {
        if route.kind.drops() {
            return Err(self.stop(By::HostRoute, "on the host: a route throws it away"));
        }
        let Some(index) = route.link else {
            return Err(unknown(
                "the route has several ways, of which the kernel chooses one for each connection",
            ));
        };
        let link = self.world.link(index).map_err(unknown)?;
        let Some(link) = link else {
            return Err(unknown(format!(
                "the link {} of the route is gone",
                index.0
            )));
        };
        let way = route.gateway.map(|gateway| format!(" to {gateway}"));
        let says = format!(
            "the host sends it by {}{}",
            link.name,
            way.unwrap_or_default()
        );
        self.note(By::HostRoute, Some(true), says);
        let ways = self.world.ways(self.to).map_err(unknown)?;
        if ways > 1 {
            let says = format!(
                "this is one of the route's {ways} ways: the kernel chooses one for each connection, perhaps another"
            );
            self.note(By::HostRoute, None, says);
        }
        let between = (Some(arriving), Some(&link));
        self.others(Hook::Forward, from, between)?;
        let masqueraded = self.filter(from);
        self.others(Hook::Postrouting, from, between)?;
        if link.vxlan.is_some() {
            self.tunnel(&link, route, pod_mtu)
        } else if let Some(other) = self.pod_with(self.to) {
            self.local(&other)
        } else {
            self.leave(&link, route, masqueraded, pod_mtu)
        }
    }

    fn local(&mut self, other: &Pod) -> Outcome {
        let link = self.world.host_end(other).map_err(unknown)?;
        match link {
            Some(link) if link.up => Ok(arrived(other)),
            Some(link) => Err(self.stop(
                By::Link,
                format!("{}, the link of {}, is down", link.name, named(other)),
            )),
            None => Err(self.stop(By::Link, format!("the link of {} is gone", named(other)))),
        }
    }

    /// By another link than ours: to a host on the same network, or away.
    fn leave(
        &mut self,
        link: &Link,
        route: &Route,
        masqueraded: Option<bool>,
        pod_mtu: Option<u32>,
    ) -> Outcome {
        if !link.running {
            return Err(self.stop(By::Link, format!("{} has no carrier", link.name)));
        }
        if let Some(mtu) = pod_mtu {
            let says = format!(
                "the pod sends up to {mtu} bytes, {} takes {}",
                link.name, link.mtu
            );
            // What is larger is cut, or sent back as too big.
            self.note(By::Mtu, (mtu <= link.mtu).then_some(true), says);
        }
        if let Some(gateway) = route
            .gateway
            .filter(|_| self.world.is_pods_address(self.to))
            && self.world.node_of(self.to).is_some()
        {
            return Ok(self.at_peer(gateway));
        }
        if self.world.is_pods_address(self.to) && masqueraded != Some(true) {
            let says = format!(
                "it leaves by {}, because no node holds the subnet of this address",
                link.name
            );
            return Ok(End {
                kind: EndKind::Astray,
                says,
            });
        }
        let says = match masqueraded {
            Some(true) => {
                let source = self.world.way_out(self.to).map_err(unknown)?;
                let source = source.and_then(|way| way.source);
                let source = source.map_or_else(
                    || "the host's address".to_owned(),
                    |source| source.to_string(),
                );
                self.note(
                    By::Masquerade,
                    Some(true),
                    format!("its source becomes {source}"),
                );
                format!("it leaves by {}, masqueraded as {source}", link.name)
            }
            Some(false) => format!(
                "it leaves by {} with the pod's own address, to which an answer must find back",
                link.name
            ),
            None => format!("it leaves by {}", link.name),
        };
        Ok(End {
            kind: EndKind::Outside,
            says,
        })
    }

    fn pod_with(&self, address: IpAddr) -> Option<Pod> {
        let mut pods = self.world.pods().iter();
        pods.find(|pod| pod.addresses.contains(&address)).cloned()
    }
}

fn arrived(pod: &Pod) -> End {
    End {
        kind: EndKind::Pod,
        says: format!("it arrives at {} on this host", named(pod)),
    }
}

/// A pod in words.
pub(super) fn named(pod: &Pod) -> String {
    match (&pod.namespace, &pod.name) {
        (Some(namespace), Some(name)) => format!("pod {namespace}/{name}"),
        (None, Some(name)) => format!("pod {name}"),
        (_, None) => {
            let short: String = pod.container_id.chars().take(12).collect();
            format!("container {short}")
        }
    }
}

#[cfg(test)]
mod tests;
