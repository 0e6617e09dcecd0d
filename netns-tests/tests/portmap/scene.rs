//! A host with pods that say their name, and whoever asks them through the host's ports.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netns_tests::cni::{Attachment, run_plugin};
use netns_tests::{Endpoint, Host, Pod, programs, skip};
use serde_json::{Value, json};

/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Where the records are.
pub(crate) const RECORDS: &str = "/run/loden/hostports";

/// The ports of every pod: of the host, then of the pod.
pub(crate) const TCP: (u16, u16) = (8080, 80);
pub(crate) const UDP: (u16, u16) = (5300, 53);

/// Whoever waits for an answer longer gets none.
const PATIENCE: Duration = Duration::from_secs(3);

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Tcp,
    Udp,
}

/// Our program under all its names, with no other plugin beside it.
pub(crate) fn ours() -> Result<OsString> {
    Ok(programs::by_all_names()?.into())
}

/// Debian's plugins.
pub(crate) fn theirs() -> Result<OsString> {
    if !Path::new(REFERENCE).join("portmap").is_file() {
        return skip(format!("there is no portmap in {REFERENCE}"));
    }
    Ok(REFERENCE.into())
}

/// The mappings that runtimes pass for [`TCP`] and [`UDP`], for one address of the host or for all.
pub(crate) fn mappings(host_ip: Option<IpAddr>) -> Value {
    let entry = |(host, pod): (u16, u16), protocol| {
        let address = host_ip.map(|address| address.to_string());
        json!({"hostPort": host, "containerPort": pod, "protocol": protocol, "hostIP": address.unwrap_or_default()})
    };
    json!([entry(TCP, "tcp"), entry(UDP, "udp")])
}

/// A pod of both families behind a plugin of this type, with these members in portmap's config.
pub(crate) fn attach(
    host: &Host,
    plugins: &OsString,
    (name, kind): (&str, &str),
    mappings: &Value,
    extra: &Value,
) -> Result<Pod> {
    let mut portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    for (key, value) in extra.as_object().into_iter().flatten() {
        portmap[key] = value.clone();
    }
    let conflist = json!({"name": "net", "cniVersion": "1.0.0", "plugins": [
        {"type": kind, "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
            "ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00:1:2::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
        portmap,
    ]});
    let spec = host.pod_spec(name).conflist(&conflist.to_string());
    let spec = spec.path(plugins.clone());
    spec.capability("portMappings", mappings.clone()).attach()
}

/// Has the pod say its name, and whom it sees, to whoever asks, as long as the test runs.
pub(crate) fn serve(pod: &Pod) -> Result<()> {
    let name = pod.name().to_owned();
    let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let listener = pod.run(|| TcpListener::bind(any(TCP.1)))??;
    let socket = pod.run(|| UdpSocket::bind(any(UDP.1)))??;
    let says = move |peer: SocketAddr| format!("{name} {}", peer.ip().to_canonical());
    let answer = says.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mut stream, Ok(peer)) = (&stream, stream.peer_addr()) else {
                continue;
            };
            // Whoever has gone does not need it.
            let _ = stream.write_all(answer(peer).as_bytes());
        }
    });
    thread::spawn(move || {
        let mut datagram = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(says(peer).as_bytes(), peer);
        }
    });
    Ok(())
}

/// Asks at this address of the host: who answers, and whom that one sees.
pub(crate) fn ask(from: &impl Endpoint, by: By, host: IpAddr) -> Result<(String, IpAddr)> {
    let said = from.run(|| match by {
        By::Tcp => ask_tcp((host, TCP.0).into()),
        By::Udp => ask_udp((host, UDP.0).into()),
    })?;
    let said = said.with_context(|| format!("{} asks {host} by {by:?}", from.name()))?;
    let (name, seen) = said.split_once(' ').context("half an answer")?;
    Ok((name.to_owned(), seen.parse()?))
}

fn ask_tcp(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn ask_udp(to: SocketAddr) -> Result<String> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    };
    exchange(&UdpSocket::bind((any, 0))?, to)
}

/// One question and its answer.
pub(crate) fn exchange(socket: &UdpSocket, to: SocketAddr) -> Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"?", to)?;
    let mut datagram = [0; 64];
    let (length, _) = socket.recv_from(&mut datagram)?;
    Ok(String::from_utf8_lossy(&datagram[..length]).into_owned())
}

/// An attachment to call portmap with alone.
pub(crate) fn target(id: &str) -> Attachment {
    Attachment {
        container: id.to_owned(),
        interface: "eth0".to_owned(),
        netns: "/run/netns/none".into(),
        arguments: String::new(),
        capabilities: [].into(),
        path: OsString::new(),
    }
}

/// Portmap's config for a pod that has this address.
pub(crate) fn config(address: &str, mappings: &Value) -> Value {
    json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap",
        "runtimeConfig": {"portMappings": mappings},
        "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": address}]}})
}

/// Calls our portmap alone.
pub(crate) fn call(host: &Host, verb: &str, id: &str, config: &Value) -> Result<String> {
    let target = Attachment {
        path: ours()?,
        ..target(id)
    };
    run_plugin(
        host.namespaces(),
        "portmap",
        verb,
        &target,
        &config.to_string(),
    )
}

/// An error if anything of ours is left.
pub(crate) fn nothing_left(host: &Host) -> Result<()> {
    let rules = host.exec(["nft", "list", "ruleset"])?;
    ensure!(
        !rules.contains("loden-hostports"),
        "rules are left:\n{rules}"
    );
    let left = records(host)?;
    ensure!(left.is_empty(), "records are left: {left:?}");
    Ok(())
}

/// The names of the records.
pub(crate) fn records(host: &Host) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(host.path(RECORDS)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => bail!("{RECORDS} cannot be read: {error}"),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.contains('@') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
