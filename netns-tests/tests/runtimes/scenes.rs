//! Containers come, talk and go; runtimes are killed in between; machines reboot.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ipam::pool::DEFAULT_DIRECTORY;
use netns_tests::cni::{Attachment, run_plugin};
use netns_tests::{
    Daemon, Endpoint, FLANNEL_CONFLIST, Host, Lab, ROUTED_CONFLIST, Snapshot, eventually, programs,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::json;

use crate::containerd::{self, Container, Containerd};
use crate::place::{self, addresses_in_use, furnish, nothing_left, require};
use crate::podman::{self, Podman};

const PATIENCE: Duration = Duration::from_secs(30);

/// Serves a page that names the server.
fn serve(name: &str) -> String {
    format!("echo hello from {name} > /tmp/index.html; exec /bin/busybox httpd -p 80 -h /tmp")
}

/// A directory that outlives a reboot.
const DISK: &str = "/var/lib/cni/addresses";

/// Two hosts that know each other, the first with routed pods, the second with a bridge.
struct Pair {
    hosts: [Host; 2],
    _daemons: [Daemon; 2],
    _lab: Lab,
}

fn two_hosts() -> Result<Pair> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#)?;
    let hosts = lab.hosts(["routed", "bridged"])?;
    let [a, b] = &hosts;
    let daemons = [a.flanneld(&["--ip-masq"])?, b.flanneld(&["--ip-masq"])?];
    a.wait_peers([b])?;
    b.wait_peers([a])?;
    furnish(a, ROUTED_CONFLIST)?;
    furnish(b, FLANNEL_CONFLIST)?;
    Ok(Pair {
        hosts,
        _daemons: daemons,
        _lab: lab,
    })
}

/// One host with a subnet.
fn one_host(conflist: &str) -> Result<(Lab, Host)> {
    let lab = Lab::new()?;
    let host = lab.host("node")?;
    furnish(&host, conflist)?;
    place::give_subnet(&host)?;
    Ok((lab, host))
}

pub(crate) fn containers_of_containerd_talk() -> Result<()> {
    require(&containerd::PROGRAMS)?;
    let pair = two_hosts()?;
    let [a, b] = [
        Containerd::start(&pair.hosts[0])?,
        Containerd::start(&pair.hosts[1])?,
    ];
    let before = [used(&a)?, used(&b)?];

    let containers = [a.run("left")?, b.run("right")?];
    for container in &containers {
        container.exec(&["sh", "-c", &serve("here")])?;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let page = format!("http://{}/", containers[to].address()?);
        let read = containers[from].exec(&["wget", "-q", "-O", "-", &page])?;
        ensure!(read == "hello from here\n", "{read:?}");
    }
    containers.into_iter().try_for_each(Container::stop)?;
    nothing_left(&a.host, &before[0])?;
    nothing_left(&b.host, &before[1])
}

pub(crate) fn containers_of_podman_talk() -> Result<()> {
    require(&podman::PROGRAMS)?;
    let pair = two_hosts()?;
    let [a, b] = &pair.hosts;
    let podmans = [Podman::start(a)?, Podman::start(b)?];
    let mut before = Vec::new();
    for (podman, host) in podmans.iter().zip([a, b]) {
        podman.run("first")?;
        podman.remove("first")?;
        before.push(host.snapshot()?);
    }
    for podman in &podmans {
        podman.run("web")?;
        podman.exec("web", &["sh", "-c", &serve("here")])?;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let page = format!("http://{}/", podmans[to].address("web")?);
        let read = podmans[from].exec("web", &["wget", "-q", "-O", "-", &page])?;
        ensure!(read == "hello from here\n", "{read:?}");
    }
    for ((podman, host), before) in podmans.iter().zip([a, b]).zip(&before) {
        podman.remove("web")?;
        nothing_left(host, before)?;
    }
    Ok(())
}

pub(crate) fn a_killed_containerd_leaves_nothing() -> Result<()> {
    require(&containerd::PROGRAMS)?;
    let (_lab, host) = one_host(ROUTED_CONFLIST)?;
    let mut containerd = Containerd::start(&host)?;
    let before = used(&containerd)?;

    let container = containerd.run("web")?;
    let address = container.address()?;
    containerd.daemon.restart()?;
    containerd.wait_ready()?;
    let mut client = container.client;
    client.wait_end()?;
    // The client has lost its connection and cleaned up; the container has not noticed.
    let tasks = containerd.ctr(&["task", "ls"])?;
    ensure!(tasks.contains("web"), "{address} has no container: {tasks}");
    remove(&containerd, "web")?;
    nothing_left(&host, &before)?;
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 0);

    // The same name again.
    let container = containerd.run("web")?;
    container.stop()?;
    nothing_left(&host, &before)
}

/// Nobody runs DEL then: what is left is for GC, which runtimes call with the containers they still know.
pub(crate) fn a_killed_client_of_containerd_is_collected() -> Result<()> {
    require(&containerd::PROGRAMS)?;
    let (_lab, host) = one_host(ROUTED_CONFLIST)?;
    let containerd = Containerd::start(&host)?;
    let before = used(&containerd)?;

    let stays = containerd.run("stays")?;
    let mut goes = containerd.run("goes")?;
    goes.client.kill()?;
    remove(&containerd, "goes")?;
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 2);
    let valid = json!([{"containerID": "default-stays", "ifname": "eth0"}]);
    collect(&host, &valid)?;
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 1);
    stays.address()?;
    stays.stop()?;
    // libcni's memory of the result goes with a DEL only.
    host.sh("rm -f /var/lib/cni/results/cbr0-default-goes-eth0")?;
    nothing_left(&host, &before)
}

pub(crate) fn a_killed_monitor_of_podman_leaves_nothing() -> Result<()> {
    require(&podman::PROGRAMS)?;
    let (_lab, host) = one_host(ROUTED_CONFLIST)?;
    let podman = Podman::start(&host)?;
    podman.run("first")?;
    podman.remove("first")?;
    let before = host.snapshot()?;

    podman.run("web")?;
    let monitor = pid(&podman.call(&["inspect", "--format", "{{.State.ConmonPid}}", "web"])?)?;
    let container = pid(&podman.call(&["inspect", "--format", "{{.State.Pid}}", "web"])?)?;
    kill(monitor, Signal::SIGKILL)?;
    waitpid(monitor, None)?;
    // On a machine, init would see to the container's end; here this process does, being the first of its namespace.
    let end = thread::spawn(move || waitpid(container, None));
    podman.remove("web")?;
    end.join().map_err(|_| anyhow!("the thread panicked"))??;
    nothing_left(&host, &before)?;
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 0);
    Ok(())
}

/// With reservations that outlive the boot they were made in; with podman they go with it.
pub(crate) fn a_reboot_under_containerd_leaks_no_address() -> Result<()> {
    require(&containerd::PROGRAMS)?;
    let (_lab, host) = one_host(
        r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
            {"type": "flannel", "delegate": {"type": "ptp"}, "ipam": {"dataDir": "/var/lib/cni/addresses"}}]}"#,
    )?;
    let containerd = Containerd::start(&host)?;
    let containers = [containerd.run("one")?, containerd.run("two")?];
    ensure!(addresses_in_use(&host, DISK)? == 2);
    place::reboot(&host, "00000000-0000-4000-8000-000000000002")?;
    drop((containers, containerd));

    let containerd = Containerd::start(&host)?;
    ensure!(addresses_in_use(&host, DISK)? == 0);
    for name in ["one", "two"] {
        containerd.ctr(&["containers", "rm", name])?;
    }
    let before = used(&containerd)?;
    let container = containerd.run("three")?;
    ensure!(addresses_in_use(&host, DISK)? == 1);
    container.stop()?;
    ensure!(addresses_in_use(&host, DISK)? == 0);
    nothing_left(&host, &before)
}

pub(crate) fn a_reboot_under_podman_leaks_no_address() -> Result<()> {
    require(&podman::PROGRAMS)?;
    let (_lab, host) = one_host(ROUTED_CONFLIST)?;
    let podman = Podman::start(&host)?;
    for name in ["one", "two"] {
        podman.run(name)?;
    }
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 2);
    place::reboot(&host, "00000000-0000-4000-8000-000000000002")?;
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 0);
    // podman sees the reboot and starts the same containers anew.
    podman.call(&["start", "one"])?;
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 1);
    podman.address("one")?;
    for name in ["one", "two"] {
        podman.remove(name)?;
    }
    let left = host.snapshot()?;
    ensure!(left.lines_of("link veth").is_empty(), "{left}");
    ensure!(addresses_in_use(&host, DEFAULT_DIRECTORY)? == 0);
    Ok(())
}

/// The host after a first container has come and gone.
fn used(containerd: &Containerd) -> Result<Snapshot> {
    containerd.run("first")?.stop()?;
    containerd.host.snapshot()
}

fn pid(text: &str) -> Result<Pid> {
    Ok(Pid::from_raw(text.trim().parse()?))
}

/// Removes a container that has lost its client.
fn remove(containerd: &Containerd, name: &str) -> Result<()> {
    containerd.ctr(&["task", "kill", "-s", "SIGKILL", name])?;
    eventually("the task has ended", PATIENCE, || {
        containerd.ctr(&["task", "rm", name])
    })?;
    containerd.ctr(&["containers", "rm", name]).map(drop)
}

/// Runs GC as libcni does.
fn collect(host: &Host, valid: &serde_json::Value) -> Result<()> {
    let attachment = Attachment {
        container: String::new(),
        interface: String::new(),
        netns: "".into(),
        arguments: String::new(),
        capabilities: Default::default(),
        path: programs::cni_path()?,
    };
    let config = json!({"name": "cbr0", "cniVersion": "1.1.0", "type": "flannel",
        "delegate": {"type": "ptp"}, "cni.dev/valid-attachments": valid});
    run_plugin(
        host.namespaces(),
        "flannel",
        "GC",
        &attachment,
        &config.to_string(),
    )
    .context("GC")
    .map(drop)
}
