//! Hundreds of pods of one host at the same time, and pods while the daemon is restarted over and over.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use ipam::pool::{Options, RangeSpec};
use ipam::{Cidr, Pool};
use netns_tests::{Address, Daemon, Host, Lab, Pod, Snapshot, Traffic};

netns_tests::tests![
    five_hundred_routed_pods_at_once within 300,
    five_hundred_bridged_pods_at_once within 300,
    no_add_fails_while_the_daemon_is_restarted within 300,
];

const CROWD: usize = 500;
/// So many restarts of the daemon, and at least as many pods meanwhile.
const RESTARTS: usize = 100;
/// How many pods come and go at a time while the daemon is restarted.
const WORKERS: usize = 4;

const ROUTED: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
    {"type": "flannel", "delegate": {"type": "ptp"}}]}"#;
const BRIDGED: &str = r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [
    {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}}]}"#;

fn five_hundred_routed_pods_at_once() -> Result<()> {
    crowd(ROUTED)
}

fn five_hundred_bridged_pods_at_once() -> Result<()> {
    crowd(BRIDGED)
}

fn crowd(conflist: &str) -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("node")?;
    let subnet = "10.244.0.0/22".parse()?;
    give_subnet(&host, subnet)?;
    let before = used(&host, conflist)?;

    let create = || host.pod_spec("web").conflist(conflist).create();
    let mut pods: Vec<Pod> = (0..CROWD).map(|_| create()).collect::<Result<_>>()?;
    at_once(&mut pods, Pod::add)?;
    let addresses: BTreeSet<IpAddr> = pods.iter().map(Pod::address).collect();
    ensure!(
        addresses.len() == CROWD,
        "{} addresses for {CROWD} pods",
        addresses.len()
    );
    ensure!(
        !addresses.iter().any(IpAddr::is_unspecified),
        "a pod has no address"
    );
    ensure!(usage(&host, subnet)? == CROWD as u64);
    pods[0].ping(&pods[CROWD - 1])?;

    at_once(&mut pods, |pod| pod.detach())?;
    at_once(&mut pods, Pod::lose_netns)?;
    ensure!(usage(&host, subnet)? == 0);
    unchanged(&host, &before)
}

fn no_add_fails_while_the_daemon_is_restarted() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(r#"{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}"#)?;
    let host = lab.host("node")?;
    let mut daemon = host.flanneld(&["--ip-masq"])?;
    let subnet: Cidr = lab.etcd()?.lease_of(&host)?.subnet().parse()?;
    let before = used(&host, ROUTED)?;

    let (over, attached) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let work = |conflist: &'static str| {
            let (over, attached, host) = (&over, &attached, &host);
            scope.spawn(move || -> Result<()> {
                while !over.load(Ordering::Relaxed) {
                    host.pod_spec("web").conflist(conflist).attach()?.delete()?;
                    attached.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| work(ROUTED)).collect();
        let mut restart = 0;
        let restarted = loop {
            let enough = restart >= RESTARTS && attached.load(Ordering::Relaxed) >= RESTARTS;
            if enough || workers.iter().any(ScopedJoinHandle::is_finished) {
                break Ok(());
            }
            if let Err(error) = start_again(&mut daemon, restart) {
                break Err(error);
            }
            restart += 1;
        };
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            let worked: Result<()> = worker.join().map_err(|_| anyhow!("a worker panicked"))?;
            worked?;
        }
        restarted
    })?;
    daemon.wait_ready()?;
    ensure!(usage(&host, subnet)? == 0);
    unchanged(&host, &before)
}

/// Stops and kills it in turns, and starts it; not every start is awaited, so that it is killed in whatever it is doing.
fn start_again(daemon: &mut Daemon, turn: usize) -> Result<()> {
    if turn.is_multiple_of(2) {
        daemon.terminate()?;
    }
    daemon.restart()?;
    if turn % 4 < 2 {
        daemon.wait_ready()?;
    }
    Ok(())
}

/// Does it to all pods in the same moment.
fn at_once(pods: &mut [Pod], act: impl Fn(&mut Pod) -> Result<()> + Sync) -> Result<()> {
    let start = Barrier::new(pods.len());
    thread::scope(|scope| {
        let (start, act) = (&start, &act);
        let threads: Vec<_> = pods
            .iter_mut()
            .map(|pod| {
                scope.spawn(move || {
                    start.wait();
                    act(pod)
                })
            })
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        results.collect::<Result<Vec<()>>>().map(drop)
    })
}

fn give_subnet(host: &Host, subnet: Cidr) -> Result<()> {
    let path = host.path("/run/flannel/subnet.env");
    fs::create_dir_all(path.parent().context("no directory")?)?;
    let (gateway, prefix) = (subnet.first_address(), subnet.prefix());
    let environment = format!(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={gateway}/{prefix}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    );
    Ok(fs::write(path, environment)?)
}

/// The host after a first pod has come and gone: what is there then is there to stay.
fn used(host: &Host, conflist: &str) -> Result<Snapshot> {
    let first = host.pod_spec("first").conflist(conflist);
    first.attach()?.delete()?;
    host.snapshot()
}

/// How many addresses are in use.
fn usage(host: &Host, subnet: Cidr) -> Result<u64> {
    let range = RangeSpec::whole(subnet).shared_link()?;
    let pools = host.path(Path::new(ipam::pool::DEFAULT_DIRECTORY));
    Ok(Pool::open(&pools, "cbr0", Options::default())?
        .usage(&range)?
        .used)
}

/// The index of the pool grows with the number of addresses ever in use, and the last one is noted for host-local; nothing
/// else may differ.
fn unchanged(host: &Host, before: &Snapshot) -> Result<()> {
    let mut difference = host.snapshot()?.diff(before);
    for lines in [&mut difference.gone, &mut difference.new] {
        lines.retain(|line| {
            !line.starts_with("file /run/loden/ipam/cbr0/slots-")
                && !line.starts_with("file /var/lib/cni/networks/cbr0/last_reserved_ip.0 ")
        });
    }
    ensure!(difference.is_empty(), "the host changed:\n{difference}");
    Ok(())
}
