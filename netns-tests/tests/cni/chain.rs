//! Debian's reference plugins behind ours.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use netns_tests::{Address, Endpoint, Lab, Pod, Traffic};
use serde_json::json;

use crate::scene::{self, FLANNEL, OURS};

/// Connects to a TCP port and returns what is said there.
fn greeting(from: &impl Endpoint, to: IpAddr, port: u16) -> Result<String> {
    from.exec([
        "timeout".to_owned(),
        "5".to_owned(),
        "bash".to_owned(),
        "-c".to_owned(),
        format!("exec 3<>/dev/tcp/{to}/{port}; cat <&3"),
    ])
}

/// Says "hello" to whoever connects to port 80 of the pod, as often as asked.
fn greet(pod: &Pod, times: usize) -> Result<std::thread::JoinHandle<Result<()>>> {
    let listener = pod.run(|| std::net::TcpListener::bind("0.0.0.0:80"))??;
    Ok(std::thread::spawn(move || {
        for _ in 0..times {
            let (mut stream, _) = listener.accept()?;
            std::io::Write::write_all(&mut stream, b"hello")?;
        }
        Ok(())
    }))
}

fn serves_a_host_port(conflist: &str) -> Result<()> {
    let lab = Lab::new()?;
    let [host, client] = lab.hosts(["node", "client"])?;
    scene::give_subnet(&host, scene::SUBNET_ENV)?;
    host.sh("for f in all default; do echo 1 > /proc/sys/net/ipv4/conf/$f/rp_filter; done")?;
    let mapping = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let attach = |name: &str| {
        let spec = host.pod_spec(name).conflist(conflist);
        spec.capability("portMappings", mapping.clone()).attach()
    };
    // The bridge, portmap's chains and the pool's files stay when the first pod goes.
    attach("first")?.delete()?;
    let before = host.snapshot()?;

    let web = attach("web")?;
    let other = host.pod_spec("other").conflist(conflist).attach()?;
    let server = greet(&web, 5)?;
    let node = host.address();
    for said in [
        greeting(&client, node, 8080)?,
        greeting(&other, node, 8080)?,
        greeting(&host, node, 8080)?,
        greeting(&host, "127.0.0.1".parse()?, 8080)?,
        // Back to itself: hairpin on a bridge, an ordinary route otherwise.
        greeting(&web, node, 8080)?,
    ] {
        ensure!(said == "hello", "{said:?}");
    }
    server
        .join()
        .map_err(|_| anyhow::anyhow!("the server panicked"))??;

    web.detach()?;
    web.delete()?;
    other.delete()?;
    scene::unchanged(&host, &before)
}

pub(crate) fn flannels_own_conflist_serves_a_host_port() -> Result<()> {
    serves_a_host_port(FLANNEL)
}

pub(crate) fn our_conflist_serves_a_host_port() -> Result<()> {
    serves_a_host_port(OURS)
}

/// Everything that Debian has to put behind a plugin like ours: ADD, CHECK and DEL go through the whole chain.
pub(crate) fn the_whole_chain_works_behind_both() -> Result<()> {
    let (_lab, hosts) = scene::both()?;
    for (host, plugin) in hosts {
        let conflist = json!({"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
            plugin,
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "mtu": 1300},
            {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 80_000_000, "egressBurst": 8_000_000},
            {"type": "firewall", "backend": "iptables"},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "sbr"},
        ]})
        .to_string();
        let attach = |name: &str| host.pod_spec(name).conflist(&conflist).attach();
        attach("first")?.delete()?;
        let before = host.snapshot()?;
        let pod = attach("web")?;
        pod.check()?;
        ensure!(pod.sh("cat /proc/sys/net/core/somaxconn")?.trim() == "500");
        ensure!(pod.mtu()? == 1300);
        ensure!(pod.sh("ip rule")?.contains("lookup 100"));
        host.ping(&pod)?;
        // Once only: sbr's DEL fails when there is no interface any more.
        pod.delete()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}
