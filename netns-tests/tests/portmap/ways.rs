//! Where packets go, and whom the pod sees.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, Host, Lab, eventually};
use serde_json::{Value, json};

use crate::scene::{By, TCP, UDP, ask, attach, exchange, mappings, ours, serve, theirs};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn addresses(host: &Host) -> [IpAddr; 2] {
    [host.ipv4().into(), host.ipv6().into()]
}

fn every_way(kind: &str) -> Result<()> {
    let lab = Lab::new()?;
    let [node, client] = lab.hosts(["node", "client"])?;
    let plugins = ours()?;
    let none = json!([]);
    // The first pod of all has the host forward packets, and a bridge stays behind it.
    attach(&node, &plugins, ("first", kind), &none, &none)?.delete()?;
    let before = node.snapshot()?.kernel();
    let web = attach(&node, &plugins, ("web", kind), &mappings(None), &none)?;
    let other = attach(&node, &plugins, ("other", kind), &none, &none)?;
    serve(&web)?;
    for by in [By::Tcp, By::Udp] {
        for (address, source) in addresses(&node).into_iter().zip(addresses(&client)) {
            let (name, seen) = ask(&client, by, address)?;
            ensure!(name == "web", "{name} answered {by:?}");
            ensure!(seen == source, "the client is seen as {seen}");
            for said in [ask(&node, by, address)?, ask(&other, by, address)?] {
                ensure!(said.0 == "web", "{said:?}");
            }
            // Back to itself, which works only if it does not see itself.
            let (name, seen) = ask(&web, by, address)?;
            ensure!(name == "web", "{name} answered {by:?}");
            ensure!(!web.addresses().contains(&seen), "it sees itself");
        }
        ensure!(ask(&node, by, LOCALHOST)?.0 == "web");
    }
    web.check()?;
    web.delete()?;
    for (by, address) in [(By::Tcp, 0), (By::Udp, 1)] {
        let answer = ask(&client, by, addresses(&node)[address]);
        ensure!(answer.is_err(), "still there: {answer:?}");
    }
    other.delete()?;
    node.snapshot()?.kernel().same_as(&before)
}

pub(crate) fn every_way_leads_to_a_routed_pod() -> Result<()> {
    every_way("ptp")
}

pub(crate) fn every_way_leads_to_a_bridged_pod() -> Result<()> {
    every_way("bridge")
}

pub(crate) fn one_port_on_two_addresses_leads_to_two_pods() -> Result<()> {
    let lab = Lab::new()?;
    let [node, client] = lab.hosts(["node", "client"])?;
    let plugins = ours()?;
    let second: [IpAddr; 2] = ["192.0.2.200".parse()?, "2001:db8::200".parse()?];
    node.ip_batch(&format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n",
        second[0], second[1]
    ))?;
    let first = addresses(&node);
    let none = json!([]);
    for family in [0, 1] {
        let pods = [("a", first[family]), ("b", second[family])].map(|(name, address)| {
            let pod = attach(
                &node,
                &plugins,
                (name, "ptp"),
                &mappings(Some(address)),
                &none,
            )?;
            serve(&pod)?;
            Ok(pod)
        });
        for by in [By::Tcp, By::Udp] {
            for from in [&client, &node] {
                ensure!(ask(from, by, first[family])?.0 == "a");
                ensure!(ask(from, by, second[family])?.0 == "b");
            }
        }
        // Of the other family, and of no other address, the port is nobody's.
        ensure!(ask(&client, By::Tcp, first[1 - family]).is_err());
        ensure!(ask(&node, By::Tcp, LOCALHOST).is_err());
        for pod in pods {
            let pod: netns_tests::Pod = pod.map_err(|error: anyhow::Error| error)?;
            pod.delete()?;
        }
    }
    crate::scene::nothing_left(&node)
}

/// Who answers whom, and what that one sees, in every way, with these members in portmap's config.
fn story(
    [node, client]: &[Host; 2],
    plugins: &std::ffi::OsString,
    kind: &str,
    extra: &Value,
) -> Result<Vec<String>> {
    let web = attach(node, plugins, ("web", kind), &mappings(None), extra)?;
    let other = attach(node, plugins, ("other", kind), &json!([]), extra)?;
    serve(&web)?;
    let mut lines = Vec::new();
    let (pods, hosts) = (
        [web.addresses(), other.addresses()].concat(),
        addresses(node),
    );
    let mut tell = |way: String, answer: Result<(String, IpAddr)>| {
        let seen = match answer {
            Err(_) => "nobody".to_owned(),
            Ok((_, seen)) if pods.contains(&seen) => "a pod".to_owned(),
            Ok((_, seen)) if addresses(client).contains(&seen) => "the client".to_owned(),
            // Which address of the host a masqueraded packet has is a matter of its link.
            Ok((_, seen)) if hosts.contains(&seen) || !seen.is_loopback() => "the node".to_owned(),
            Ok((_, seen)) => seen.to_string(),
        };
        lines.push(format!("{way} {seen}"));
    };
    for address in hosts {
        tell(format!("client {address}"), ask(client, By::Tcp, address));
        tell(format!("node {address}"), ask(node, By::Tcp, address));
        tell(format!("other {address}"), ask(&other, By::Tcp, address));
        tell(format!("web {address}"), ask(&web, By::Tcp, address));
    }
    tell("node localhost".to_owned(), ask(node, By::Udp, LOCALHOST));
    web.delete()?;
    other.delete()?;
    Ok(lines)
}

pub(crate) fn the_reference_does_the_same() -> Result<()> {
    let lab = Lab::new()?;
    let hosts = lab.hosts(["node", "client"])?;
    for kind in ["ptp", "bridge"] {
        for extra in [json!({}), json!({"snat": false})] {
            let ours = story(&hosts, &ours()?, kind, &extra)?;
            let theirs = story(&hosts, &theirs()?, kind, &extra)?;
            for (ours, theirs) in ours.iter().zip(&theirs) {
                println!("{kind} {extra}: {ours}, {theirs}");
            }
            ensure!(
                ours == theirs,
                "{kind} {extra}:\nours   {ours:?}\ntheirs {theirs:?}"
            );
        }
    }
    Ok(())
}

/// The reference of Debian does not know this key yet.
pub(crate) fn everybody_is_masqueraded_if_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let [node, client] = lab.hosts(["node", "client"])?;
    let extra = json!({"masqAll": true, "markMasqBit": 5});
    let web = attach(&node, &ours()?, ("web", "ptp"), &mappings(None), &extra)?;
    serve(&web)?;
    for address in addresses(&node) {
        for by in [By::Tcp, By::Udp] {
            let (_, seen) = ask(&client, by, address)?;
            ensure!(!addresses(&client).contains(&seen), "{seen} is the client");
        }
    }
    web.delete()
}

/// A client that asks from one port all the time, as a resolver or a phone does.
pub(crate) fn a_flow_of_udp_moves_to_the_pod_that_has_the_port() -> Result<()> {
    let lab = Lab::new()?;
    let [node, client] = lab.hosts(["node", "client"])?;
    let plugins = ours()?;
    let none = json!([]);
    let pod = |name: &str| -> Result<netns_tests::Pod> {
        let pod = attach(&node, &plugins, (name, "ptp"), &mappings(None), &none)?;
        serve(&pod)?;
        Ok(pod)
    };
    for address in addresses(&node) {
        let any: IpAddr = if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = client.run(|| UdpSocket::bind((any, 0)))??;
        let to = SocketAddr::new(address, UDP.0);
        let answers = |name: &str| {
            eventually(&format!("{name} answers"), Duration::from_secs(10), || {
                let said = exchange(&socket, to)?;
                ensure!(said.starts_with(name), "{said}");
                Ok(())
            })
        };
        let old = pod("old")?;
        answers("old ")?;
        // The old one is not gone yet when the new one comes.
        let new = pod("new")?;
        answers("new ")?;
        old.delete()?;
        answers("new ")?;
        let newer = pod("newer")?;
        answers("newer ")?;
        newer.delete()?;
        answers("new ")?;
        new.delete()?;
    }
    crate::scene::nothing_left(&node)
}

/// What listens on 127.0.0.1 of the host is nobody's but the host's, although the link of the pod lets such addresses through.
pub(crate) fn neighbours_do_not_reach_the_hosts_loopback() -> Result<()> {
    let lab = Lab::new()?;
    let node = lab.host("node")?;
    let pod = attach(&node, &ours()?, ("web", "ptp"), &mappings(None), &json!([]))?;
    let listener = node.run(|| TcpListener::bind((LOCALHOST, 9000)))??;
    let to = listener.local_addr()?;
    pod.sh(
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip rule add pref 10 lookup 5; ip rule del pref 0; ip rule add pref 20 lookup local
         gateway=$(ip route show default | cut -d' ' -f3); own=$(ip -4 -o addr show dev eth0 | tr -s ' ' | cut -d' ' -f4 | cut -d/ -f1)
         ip route add 127.0.0.1 via $gateway dev eth0 onlink src $own table 5",
    )?;
    let reach = || -> Result<()> {
        let connected = pod.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)))?;
        Ok(connected.map(drop)?)
    };
    ensure!(reach().is_err(), "the pod reached it");
    ensure!(
        node.sh("cat /proc/sys/net/ipv4/conf/veth*/route_localnet")?
            .trim()
            == "1",
        "the link does not let it through anyway"
    );
    node.exec([
        "nft",
        "flush",
        "chain",
        "ip",
        "loden-hostports",
        "strangers",
    ])?;
    reach()?;
    ensure!(TCP.0 != to.port());
    pod.delete()
}
