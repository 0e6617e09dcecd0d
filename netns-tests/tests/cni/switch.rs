//! Nodes that change from flannel's plugin to ours and back while pods run, with Debian's reference plugins as the other
//! side: flannel's plugin has `bridge` and `host-local` do its work.

use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Lab};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::scene::{self, Answer, Call, alone, both, bridge, host, ip_json, routed, used};

const RESERVATIONS: &str = "/var/lib/cni/networks/cbr0";

/// What flannel's plugin asks of its delegate on this host.
fn delegate() -> Value {
    json!({"cniVersion": "0.3.1", "type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
        "mtu": 1450, "hairpinMode": true, "ipMasq": false,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]]}})
}

/// host-local alone, for this container.
fn host_local(host: &Host, verb: &str, id: &str) -> Result<Answer> {
    Call::new(verb, "/proc/1/ns/none", &delegate())
        .with("CNI_CONTAINERID", id)
        .run_reference(host, "host-local")
}

fn address(answer: &Answer) -> Result<String> {
    let result = answer.result()?;
    let address = result["ips"][0]["address"].as_str().context("no address")?;
    Ok(address.split('/').next().unwrap_or_default().to_owned())
}

fn holder(host: &Host, address: &str) -> Result<Option<String>> {
    let path = host.path(RESERVATIONS).join(address);
    Ok(path
        .exists()
        .then(|| fs::read_to_string(path))
        .transpose()?)
}

pub(crate) fn addresses_of_the_reference_are_honoured() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let theirs = address(&host_local(&host, "ADD", "old")?)?;
        ensure!(theirs == "10.244.1.2", "{theirs}");
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let first = address(&Call::new("ADD", &netns, &plugin).run(&host)?)?;
        ensure!(first == "10.244.1.3", "{first}");
        // Our pool has looked by now, and does not look again unless it has to.
        let later = address(&host_local(&host, "ADD", "later")?)?;
        ensure!(later == "10.244.1.4", "{later}");
        let second = Call::new("ADD", &netns, &plugin).with("CNI_IFNAME", "net1");
        let second = address(&second.run(&host)?)?;
        ensure!(second == "10.244.1.5", "{second}");
        // A DEL of ours for what only host-local knows.
        Call::new("DEL", "", &plugin)
            .with("CNI_CONTAINERID", "later")
            .run(&host)?
            .silent()?;
        ensure!(holder(&host, &later)?.is_none());
        ensure!(holder(&host, &theirs)?.is_some());
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn reservations_of_a_former_boot_are_void() -> Result<()> {
    let (_lab, host) = host()?;
    let theirs = address(&host_local(&host, "ADD", "old")?)?;
    host.sh(&format!("touch -d 2001-01-01 {RESERVATIONS}/{theirs}"))?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let ours = address(&Call::new("ADD", &netns, &routed()).run(&host)?)?;
    ensure!(ours == theirs, "{ours}");
    ensure!(holder(&host, &ours)?.as_deref() == Some("c1\r\neth0"));
    pod.delete()
}

pub(crate) fn what_the_reference_released_can_be_given() -> Result<()> {
    let (_lab, host) = host()?;
    scene::give_subnet(
        &host,
        &scene::SUBNET_ENV.replace("10.244.1.1/24", "10.244.1.1/29"),
    )?;
    for number in 0..5 {
        host_local(&host, "ADD", &format!("old{number}"))?.result()?;
    }
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let add = Call::new("ADD", &netns, &routed());
    add.run(&host)?.refusal(100)?;
    host_local(&host, "DEL", "old2")?.silent()?;
    let ours = address(&add.run(&host)?)?;
    ensure!(ours == "10.244.1.4", "{ours}");
    pod.delete()
}

pub(crate) fn the_reference_releases_what_we_reserved() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, plugin) in hosts {
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let ours = address(&Call::new("ADD", &netns, &plugin).run(&host)?)?;
        ensure!(holder(&host, &ours)?.as_deref() == Some("c1\r\neth0"));
        let theirs = address(&host_local(&host, "ADD", "next")?)?;
        ensure!(theirs != ours, "{theirs} is ours");
        host_local(&host, "DEL", "c1")?.silent()?;
        ensure!(holder(&host, &ours)?.is_none(), "not released");
        // Ours released what the reference released before.
        Call::new("DEL", &netns, &plugin).run(&host)?.silent()?;
        ensure!(holder(&host, &theirs)?.is_some());
        pod.delete()?;
    }
    Ok(())
}

/// What flannel's plugin does with a DEL: it has the delegate that its scratch file names carry it out, with what stands there.
pub(crate) fn the_reference_detaches_what_we_attached() -> Result<()> {
    let lab = Lab::new()?;
    let hosts = lab.hosts(["routed", "bridged", "elsewhere"])?;
    let mut elsewhere = routed();
    elsewhere["dataDir"] = json!("/run/notes");
    elsewhere["ipam"] = json!({"dataDir": "/run/addresses"});
    let plugins = [routed(), bridge(), elsewhere];
    for (host, mut plugin) in hosts.into_iter().zip(plugins) {
        scene::give_subnet(&host, scene::DUAL_STACK_ENV)?;
        plugin["cniVersion"] = json!("1.0.0");
        let before = used(&host, &alone(&plugin))?;
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let result = Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
        let directory = plugin["dataDir"].as_str().unwrap_or("/var/lib/cni/flannel");
        let note = host.path(directory).join("c1");
        let delegate: Value = serde_json::from_str(&fs::read_to_string(&note)?)?;
        let worker = delegate["type"].as_str().context("no type")?.to_owned();
        ensure!(Some(worker.as_str()) == plugin["delegate"]["type"].as_str().or(Some("bridge")));
        let store = delegate["ipam"]["dataDir"]
            .as_str()
            .unwrap_or("/var/lib/cni/networks");
        let store = host.path(store).join("cbr0");
        for (set, ip) in result["ips"]
            .as_array()
            .context("no ips")?
            .iter()
            .enumerate()
        {
            let address = ip["address"]
                .as_str()
                .and_then(|text| text.split('/').next());
            let address = address.context("no address")?;
            ensure!(store.join(address).exists(), "{address} is not reserved");
            let last = fs::read_to_string(store.join(format!("last_reserved_ip.{set}")))?;
            ensure!(last == address, "{last} after {address}");
        }

        let theirs = Call::new("DEL", &netns, &delegate).run_reference(&host, &worker)?;
        theirs.silent()?;
        fs::remove_file(&note)?;
        let links = ip_json(&pod, &["link", "show"])?.to_string();
        ensure!(!links.contains("eth0"), "{links}");
        for file in fs::read_dir(&store)? {
            let name = file?.file_name().to_string_lossy().into_owned();
            ensure!(
                name.parse::<std::net::IpAddr>().is_err(),
                "{name} is still reserved"
            );
        }
        // Back again: the record of ours is of no harm, and goes.
        Call::new("ADD", &netns, &plugin).run(&host)?.result()?;
        Call::new("DEL", "", &plugin).run(&host)?.silent()?;
        pod.delete()?;
        scene::unchanged(&host, &before)?;
    }
    Ok(())
}

pub(crate) fn pods_of_the_reference_are_detached() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let add = Call::new("ADD", &netns, &delegate());
    let theirs = address(&add.run_reference(&host, "bridge")?)?;
    let mut note = delegate();
    note["name"] = json!("cbr0");
    let path = host.path("/var/lib/cni/flannel/c1");
    fs::create_dir_all(path.parent().context("no directory")?)?;
    fs::write(&path, note.to_string())?;

    // What did not succeed is to be tried again, from the same note.
    let lock = File::open(host.path(RESERVATIONS).join("lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let del = Call::new("DEL", &netns, &bridge());
    del.run(&host)?.refusal(11)?;
    ensure!(path.exists() && holder(&host, &theirs)?.is_some());
    drop(lock);

    del.run(&host)?.silent()?;
    ensure!(!path.exists() && holder(&host, &theirs)?.is_none());
    let links = ip_json(&pod, &["link", "show"])?.to_string();
    ensure!(!links.contains("eth0"), "{links}");
    del.run(&host)?.silent()?;
    pod.delete()
}

/// A pod that flannel's plugin attached by this delegate: what the reference plugin reported, with the scratch file beside.
fn attached_by_flannel(host: &Host, id: &str, netns: &str, delegate: &Value) -> Result<Value> {
    let worker = delegate["type"].as_str().context("no type")?;
    let mut delegate = delegate.clone();
    delegate["name"] = json!("cbr0");
    let path = host.path("/var/lib/cni/flannel").join(id);
    fs::create_dir_all(path.parent().context("no directory")?)?;
    fs::write(&path, delegate.to_string())?;
    let add = Call::new("ADD", netns, &delegate).with("CNI_CONTAINERID", id);
    add.run_reference(host, worker)?.result()
}

pub(crate) fn pods_of_the_reference_are_checked_and_collected() -> Result<()> {
    let (_lab, host) = host()?;
    host.sh("ip link add up0 type veth peer name up1 && ip link set up0 up")?;
    let mut ptp = delegate();
    ptp["type"] = json!("ptp");
    let mut macvlan = delegate();
    macvlan["type"] = json!("macvlan");
    macvlan["master"] = json!("up0");
    macvlan["cniVersion"] = json!("1.0.0");
    for theirs in [delegate(), ptp, macvlan] {
        let pods = [
            host.pod_spec("stays").create()?,
            host.pod_spec("goes").create()?,
        ];
        let mut results = Vec::new();
        for (pod, id) in pods.iter().zip(["stays", "goes"]) {
            let netns = pod.netns().display().to_string();
            results.push(attached_by_flannel(&host, id, &netns, &theirs)?);
        }
        let [stays, goes] = [&results[0], &results[1]].map(|result| {
            let text = result["ips"][0]["address"].as_str().unwrap_or_default();
            text.split('/').next().unwrap_or_default().to_owned()
        });

        let mut config = bridge();
        config["cniVersion"] = json!("1.0.0");
        config["prevResult"] = results[0].clone();
        let netns = pods[0].netns().display().to_string();
        let check = Call::new("CHECK", &netns, &config).with("CNI_CONTAINERID", "stays");
        check.run(&host)?.silent()?;
        pods[0].sh("ip link set eth0 down")?;
        let status = check.run(&host)?.status;
        ensure!(!status.success(), "a link that is down passes");
        pods[0].sh("ip link set eth0 up")?;

        let mut config = bridge();
        config["cni.dev/valid-attachments"] = json!([{"containerID": "stays", "ifname": "eth0"}]);
        // What is new is spared at first.
        for (grace, there) in [(3600, true), (0, false)] {
            config["gcGrace"] = json!(grace);
            Call::new("GC", "", &config).run(&host)?.silent()?;
            ensure!(holder(&host, &stays)?.is_some(), "{stays} was given back");
            ensure!(host.path("/var/lib/cni/flannel/stays").exists());
            ensure!(holder(&host, &goes)?.is_some() == there, "{goes}");
            ensure!(host.path("/var/lib/cni/flannel/goes").exists() == there);
        }
        let routes = host.sh(&format!("ip route show {goes}"))?;
        ensure!(routes.is_empty(), "{routes}");
        config["cni.dev/valid-attachments"] = json!([]);
        Call::new("GC", "", &config).run(&host)?.silent()?;
        ensure!(holder(&host, &stays)?.is_none());
        pods.into_iter().try_for_each(netns_tests::Pod::delete)?;
    }
    // Nobody's, for a while.
    let empty = host.path(RESERVATIONS).join("10.244.1.200");
    fs::write(&empty, "")?;
    let mut config = bridge();
    config["gcGrace"] = json!(0);
    config["cni.dev/valid-attachments"] = json!([]);
    Call::new("GC", "", &config).run(&host)?.silent()?;
    ensure!(!empty.exists());
    Ok(())
}
