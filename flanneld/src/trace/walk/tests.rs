mod limits;

use std::collections::BTreeMap;

use hostnet::nft::Packet;
use hostnet::{LinkIndex, Mac, NoWay, Vxlan};

use super::super::world::{Others, Place, Rules};
use super::*;

const VETH: LinkIndex = LinkIndex(5);
const OTHER: LinkIndex = LinkIndex(6);
const TUNNEL: LinkIndex = LinkIndex(7);
const UPLINK: LinkIndex = LinkIndex(2);
const BRIDGE: LinkIndex = LinkIndex(8);
const VTEP: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A host with two pods, a tunnel to one node and a router.
struct Host {
    pods: Vec<Pod>,
    links: Vec<Link>,
    in_pod: Result<Inside, String>,
    way: Result<Route, NoWay>,
    forwards: bool,
    neighbour: Option<Mac>,
    fdb: Vec<IpAddr>,
    masqueraded: bool,
    ways: usize,
    service: Option<IpAddr>,
    /// By the name of the hook.
    others: BTreeMap<&'static str, Others>,
}

fn inside(way: Result<Route, NoWay>) -> Inside {
    Inside {
        way,
        by: "eth0".to_owned(),
        mtu: 1450,
    }
}

fn place(name: &str, certain: bool) -> Vec<Place> {
    vec![Place {
        name: name.to_owned(),
        certain,
    }]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: LinkIndex, name: &str, mtu: u32) -> Link {
    Link {
        mtu,
        up: true,
        running: true,
        ..Link::bare(index, name)
    }
}

fn pod(name: &str, interface: &str, addresses: &[&str]) -> Pod {
    Pod {
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        network: "cbr0".to_owned(),
        container_id: format!("{name}-id"),
        ifname: "eth0".to_owned(),
        namespace: None,
        name: Some(name.to_owned()),
        netns: None,
        interface: Some(interface.to_owned()),
        kind: "routed".to_owned(),
        since: None,
        linked: Some(true),
    }
}

fn route(by: LinkIndex, gateway: Option<&str>) -> Route {
    Route {
        gateway: gateway.map(ip),
        ..Route::direct("0.0.0.0/0".parse().unwrap(), by)
    }
}

fn host() -> Host {
    let mut tunnel = link(TUNNEL, "flannel.1", 1450);
    tunnel.vxlan = Some(Vxlan {
        port: 8472,
        ..Vxlan::new(1)
    });
    Host {
        pods: vec![
            pod("one", "veth1", &["10.244.1.2", "fd00::2"]),
            pod("two", "veth2", &["10.244.1.3"]),
        ],
        links: vec![
            link(VETH, "veth1", 1450),
            link(OTHER, "veth2", 1450),
            tunnel,
            link(UPLINK, "eth0", 1500),
            link(BRIDGE, "cni0", 1450),
        ],
        in_pod: Ok(inside(Ok(route(LinkIndex(2), Some("10.244.1.1"))))),
        ways: 1,
        service: None,
        others: BTreeMap::new(),
        way: Ok(route(UPLINK, Some("192.0.2.1"))),
        forwards: true,
        neighbour: Some(VTEP),
        fdb: vec![ip("192.0.2.12")],
        masqueraded: false,
    }
}

impl Host {
    fn end_of(&mut self, to: &str) -> (EndKind, String) {
        let (_, decisions, end) = self.followed(to);
        assert!(!decisions.is_empty() || end.kind != EndKind::Peer);
        (end.kind, end.says)
    }

    fn followed(&mut self, to: &str) -> (Option<IpAddr>, Vec<Decision>, End) {
        let pod = self.pods[0].clone();
        walk(self, &pod, ip(to))
    }

    fn link_mut(&mut self, index: LinkIndex) -> &mut Link {
        self.links
            .iter_mut()
            .find(|link| link.index == index)
            .unwrap()
    }
}

impl World for Host {
    fn pods(&self) -> &[Pod] {
        &self.pods
    }

    fn node_of(&self, address: IpAddr) -> Option<String> {
        (address == ip("10.244.2.2")).then(|| "the node 192.0.2.12".to_owned())
    }

    fn is_pods_address(&self, address: IpAddr) -> bool {
        address.to_string().starts_with("10.244.")
    }

    fn way_in_pod(&mut self, _: &Pod, _: IpAddr) -> Result<Inside, String> {
        self.in_pod.clone()
    }

    fn ways(&mut self, _: IpAddr) -> Result<usize, String> {
        Ok(self.ways)
    }

    fn is_service(&mut self, address: IpAddr) -> Result<bool, String> {
        Ok(self.service == Some(address))
    }

    fn others(&mut self, at: Hook, packet: &Packet) -> Result<Others, String> {
        assert_eq!(packet.input.is_some(), at != Hook::Output);
        let hook = format!("{at:?}");
        Ok(self.others.get(&*hook).cloned().unwrap_or_default())
    }

    fn host_end(&mut self, pod: &Pod) -> Result<Option<Link>, String> {
        let mut links = self.links.iter();
        Ok(links
            .find(|link| Some(&link.name) == pod.interface.as_ref())
            .cloned())
    }

    fn link(&mut self, index: LinkIndex) -> Result<Option<Link>, String> {
        Ok(self.links.iter().find(|link| link.index == index).cloned())
    }

    fn forwards(&mut self, _: bool) -> Result<bool, String> {
        Ok(self.forwards)
    }

    fn way(&mut self, _: IpAddr, _: IpAddr, _: LinkIndex) -> Result<Result<Route, NoWay>, String> {
        Ok(self.way.clone())
    }

    fn way_out(&mut self, _: IpAddr) -> Result<Option<Route>, String> {
        Ok(Some(Route {
            source: Some(ip("192.0.2.11")),
            ..route(UPLINK, None)
        }))
    }

    fn neighbour(&mut self, _: LinkIndex, _: IpAddr) -> Result<Option<Mac>, String> {
        Ok(self.neighbour)
    }

    fn fdb(&mut self, _: LinkIndex, _: Mac) -> Result<Vec<IpAddr>, String> {
        Ok(self.fdb.clone())
    }

    fn rules(&mut self, _: IpAddr, _: IpAddr) -> Rules {
        Rules {
            accepted: Ok(true),
            masqueraded: Ok(self.masqueraded),
        }
    }
}

#[test]
fn to_a_pod_of_another_host_through_the_tunnel() {
    let mut host = host();
    host.way = Ok(route(TUNNEL, Some("10.244.2.0")));
    let (source, decisions, end) = host.followed("10.244.2.2");
    assert_eq!(source, Some(ip("10.244.1.2")));
    assert_eq!(end.kind, EndKind::Peer);
    assert!(end.says.contains("the node 192.0.2.12"), "{}", end.says);
    let by: Vec<By> = decisions.iter().map(|decision| decision.by).collect();
    assert_eq!(
        by,
        [
            By::PodRoute,
            By::Link,
            By::HostRoute,
            By::Filter,
            By::Masquerade,
            By::Neighbour,
            By::Fdb,
            By::Outer,
            By::Mtu
        ]
    );
    assert!(
        decisions
            .iter()
            .all(|decision| decision.passes == Some(true))
    );
}

#[test]
fn each_gap_in_the_tunnel_is_named() {
    let broken = |change: fn(&mut Host)| {
        let mut host = host();
        host.way = Ok(route(TUNNEL, Some("10.244.2.0")));
        change(&mut host);
        let (_, decisions, end) = host.followed("10.244.2.2");
        assert_eq!(end.kind, EndKind::Dropped, "{end:?}");
        decisions.last().unwrap().by
    };
    assert_eq!(broken(|host| host.neighbour = None), By::Neighbour);
    assert_eq!(broken(|host| host.fdb.clear()), By::Fdb);
    assert_eq!(
        broken(|host| host.link_mut(TUNNEL).up = false),
        By::HostRoute
    );
    assert_eq!(
        broken(|host| host.link_mut(UPLINK).running = false),
        By::Outer
    );
    assert_eq!(broken(|host| host.forwards = false), By::Forwarding);
    assert_eq!(
        broken(|host| host.way = Err(NoWay::WrongSide)),
        By::HostRoute
    );
    assert_eq!(broken(|host| host.link_mut(VETH).up = false), By::Link);
    assert_eq!(
        broken(|host| host.links.retain(|link| link.index != VETH)),
        By::Link
    );
    let no_way = |host: &mut Host| host.in_pod = Ok(inside(Err(NoWay::Unreachable)));
    assert_eq!(broken(no_way), By::PodRoute);
}

#[test]
fn packets_that_do_not_fit_are_told_of() {
    let mut host = host();
    host.way = Ok(route(TUNNEL, Some("10.244.2.0")));
    host.link_mut(UPLINK).mtu = 1400;
    let (_, decisions, _) = host.followed("10.244.2.2");
    let mtu = decisions.last().unwrap();
    assert_eq!((mtu.by, mtu.passes), (By::Mtu, Some(false)));
    assert!(mtu.says.contains("1500 outside"), "{}", mtu.says);
}

#[test]
fn to_a_pod_of_the_same_host_and_to_itself() {
    let mut host = host();
    host.way = Ok(route(OTHER, None));
    assert_eq!(
        host.end_of("10.244.1.3"),
        (
            EndKind::Pod,
            "it arrives at pod two on this host".to_owned()
        )
    );
    let (_, decisions, end) = host.followed("10.244.1.2");
    assert_eq!((end.kind, decisions.len()), (EndKind::Pod, 0));
    host.links.retain(|link| link.index != OTHER);
    host.way = Ok(route(UPLINK, None));
    assert_eq!(host.end_of("10.244.1.3").0, EndKind::Dropped);
}

#[test]
fn pods_of_one_bridge_do_not_need_the_host() {
    let mut host = host();
    host.link_mut(VETH).master = Some(BRIDGE);
    host.forwards = false;
    let (_, decisions, end) = host.followed("10.244.1.3");
    assert_eq!(end.kind, EndKind::Pod, "{decisions:?}");
    assert!(decisions.last().unwrap().says.contains("cni0"));
}

#[test]
fn to_the_world_masqueraded_or_not() {
    let mut host = host();
    let (kind, says) = host.end_of("198.51.100.1");
    assert_eq!(kind, EndKind::Outside);
    assert!(says.contains("with the pod's own address"), "{says}");
    host.masqueraded = true;
    let (kind, says) = host.end_of("198.51.100.1");
    assert_eq!(kind, EndKind::Outside);
    assert!(says.ends_with("masqueraded as 192.0.2.11"), "{says}");
}

#[test]
fn an_address_of_the_pod_network_that_nobody_holds_goes_astray() {
    let (kind, says) = host().end_of("10.244.99.1");
    assert_eq!(kind, EndKind::Astray);
    assert!(says.contains("no node holds"), "{says}");
}

#[test]
fn a_family_that_the_pod_has_not_and_a_namespace_that_cannot_be_entered() {
    let mut host = host();
    host.pods[0].addresses.truncate(1);
    let (source, decisions, end) = host.followed("2001:db8::1");
    assert_eq!(
        (source, decisions.len(), end.kind),
        (None, 0, EndKind::Dropped)
    );
    host.in_pod = Err("not permitted".to_owned());
    let (_, decisions, end) = host.followed("198.51.100.1");
    assert_eq!((decisions[0].by, decisions[0].passes), (By::PodRoute, None));
    assert_eq!(end.kind, EndKind::Outside);
}

#[test]
fn to_the_host_itself() {
    let mut host = host();
    host.way = Ok(Route {
        kind: RouteKind::Local,
        ..route(LinkIndex(1), None)
    });
    assert_eq!(host.end_of("192.0.2.11").0, EndKind::Host);
}
