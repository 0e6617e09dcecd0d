//! The screens of the documents: what the programs print in a lab that is always the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{Address, Endpoint, Host, Lab, doctor, eventually, programs};

/// How long the lab may take for each change.
const PATIENCE: Duration = Duration::from_secs(30);

/// The screens with their names.
///
/// # Errors
/// Something in the lab does not work.
pub fn draw() -> Result<Vec<(&'static str, String)>> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#)?;
    let hosts = lab.hosts(["node-a", "node-b", "node-c"])?;
    let mut daemons = Vec::new();
    for (host, third) in hosts.iter().zip(["3", "7", "9"]) {
        let [before, file] =
            ["/run/flannel", "/run/flannel/subnet.env"].map(|path| host.path(path));
        std::fs::create_dir_all(before)?;
        // So that the subnets are the same each time.
        let text = format!(
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.{third}.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
        std::fs::write(file, text)?;
        daemons.push(host.flanneld(&["--ip-masq"])?);
    }
    let [a, b, c] = &hosts;
    a.wait_peers([b, c])?;
    b.wait_peers([a, c])?;
    let _web = a.pod("web-0")?;
    let _cache = a.pod("cache-0")?;
    let far = b.pod("shop-0")?;
    let deleted = "10.244.9.0/24";
    a.sh(&format!("ip route del {deleted}"))?;
    eventually("the repair is told", PATIENCE, || {
        let text = flanneld(a, &["status"])?;
        ensure!(
            text.contains(deleted) && text.contains("all is well"),
            "{text}"
        );
        Ok(())
    })?;
    let status = flanneld(a, &["status"])?;
    let trace = flanneld(a, &["trace", "web-0", &far.address().to_string()])?;
    let doctor = diagnosed(a, c)?;
    let plan = contested_plan(a, deleted)?;
    // Left alone it comes back.
    a.wait_peers([b, c])?;
    for daemon in &mut daemons {
        daemon.terminate()?;
    }
    let down = flanneld(a, &["status"])?;
    Ok(vec![
        ("status", status),
        ("status-down", down),
        ("plan", plan),
        ("trace", trace),
        ("doctor", doctor),
    ])
}

/// What the doctor says while a firewall on a peer drops what comes in for the tunnel.
fn diagnosed(host: &Host, peer: &Host) -> Result<String> {
    doctor::furnish(host)?;
    // As systemd sets it; what is there else is the machine's.
    host.sh("sysctl -qw net/ipv4/conf/all/rp_filter=2")?;
    peer.sh("nft add table inet filter\n\
         nft 'add chain inet filter input { type filter hook input priority 0; }'\n\
         nft add rule inet filter input udp dport 8472 drop")?;
    doctor::wait_cause(host, "reach")?;
    let text = doctor::text(host, &[])?;
    peer.sh("nft delete table inet filter")?;
    Ok(text)
}

/// The plan while somebody keeps deleting a route.
fn contested_plan(host: &Host, destination: &str) -> Result<String> {
    eventually("a repair is put off", 3 * PATIENCE, || {
        host.sh(&format!("ip route del {destination} 2>/dev/null || true"))?;
        let text = flanneld(host, &["plan"])?;
        ensure!(text.contains("somebody keeps undoing"), "{text}");
        Ok(text)
    })
}

fn flanneld(host: &Host, words: &[&str]) -> Result<String> {
    let program = programs::find("flanneld")?;
    let program = program.to_str().context("no text")?;
    // The exit status tells how the node does, not the program.
    Ok(host.attempt([&[program], words].concat())?.stdout)
}

/// The words of a screen without what differs from one run to the next: numbers, ages, and the layout that follows from them.
pub fn shape(screen: &str) -> Vec<String> {
    let mut before = "";
    let words = screen.split_whitespace().map(|word| {
        // The kernel is the machine's.
        let kernel = std::mem::replace(&mut before, word) == "Linux";
        let digit = word.chars().any(|letter| letter.is_ascii_digit());
        let plain = word.trim_matches(|letter: char| !letter.is_alphanumeric());
        if kernel || digit && !plain.contains('.') && !plain.contains(':') {
            "#".to_owned()
        } else {
            word.to_owned()
        }
    });
    words.collect()
}
