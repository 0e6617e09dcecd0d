//! The demo: builds the three hosts, shows what the network consists of, proves that it works, and takes it down again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netns_tests::{Address, Endpoint, Pod, Snapshot, Traffic, eventually};

use crate::cluster::{Cluster, Node};
use crate::screen::Screen;

/// How long hosts may take to forget one that left.
const FORGET_DEADLINE: Duration = Duration::from_secs(10);

/// How long each throughput measurement runs.
const MEASURE: Duration = Duration::from_secs(2);

pub(crate) fn run(screen: &Screen) -> Result<()> {
    let start = Instant::now();
    screen.title("Loden: three hosts, one network for their pods");
    let mut cluster = Cluster::start(screen)?;
    if let Err(error) = tour(screen, &mut cluster) {
        for node in &cluster.nodes {
            screen.listing(
                &format!("(end of the log of flanneld on {})", node.name()),
                &node.daemon.log_tail(),
            );
        }
        return Err(error);
    }
    screen.success(&format!(
        "Everything worked, in {:.0} s.",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn tour(screen: &Screen, cluster: &mut Cluster) -> Result<()> {
    let before: Vec<Snapshot> = cluster
        .nodes
        .iter()
        .map(|node| node.host.snapshot())
        .collect::<Result<_>>()?;
    cluster.attach_pods(screen)?;
    show_leases(screen, cluster)?;
    show_kernel(screen, cluster.node("a")?)?;
    ping_matrix(screen, cluster)?;
    full_size(screen, cluster)?;
    throughput(screen, cluster)?;
    remove_host(screen, cluster)?;
    detach_pods(screen, cluster, &before)
}

fn show_leases(screen: &Screen, cluster: &Cluster) -> Result<()> {
    screen.chapter(
        "The leases in etcd",
        "All that the hosts know of each other.",
    );
    let mut rows = Vec::new();
    for node in &cluster.nodes {
        let lease = cluster.lease(node)?;
        let name = node.name().to_owned();
        rows.push(vec![
            name,
            lease.subnet(),
            lease.vtep_mac().to_owned(),
            lease.public_ip().to_owned(),
        ]);
    }
    screen.table(&["HOST", "SUBNET", "VTEP MAC", "PUBLIC IP"], &rows);
    Ok(())
}

fn show_kernel(screen: &Screen, node: &Node) -> Result<()> {
    screen.chapter(
        "What the kernel of host a does with it",
        "A packet for a pod elsewhere takes the route of that host's subnet to flannel.1; the neighbour entry gives the \
         MAC of the flannel.1 over there, the FDB the host address to wrap it for. No daemon is asked.",
    );
    for command in [
        "ip -4 route",
        "ip neighbour show dev flannel.1",
        "bridge fdb show dev flannel.1",
    ] {
        screen.listing(command, &node.host.sh(command)?);
    }
    Ok(())
}

fn ping_matrix(screen: &Screen, cluster: &Cluster) -> Result<()> {
    screen.chapter("Every pod pings every pod", "Times in milliseconds.");
    let pods: Vec<&Pod> = cluster.pods().collect();
    let mut rows = Vec::new();
    for from in &pods {
        let mut row = vec![format!("{} on {}", from.name(), from.host().name())];
        for to in &pods {
            row.push(if from.address() == to.address() {
                "-".to_owned()
            } else {
                format!("{:.2}", from.ping(*to)?.as_secs_f64() * 1000.0)
            });
        }
        rows.push(row);
    }
    let columns: Vec<&str> = ["FROM \\ TO"]
        .into_iter()
        .chain(pods.iter().map(|pod| pod.name()))
        .collect();
    screen.table(&columns, &rows);
    Ok(())
}

fn full_size(screen: &Screen, cluster: &Cluster) -> Result<()> {
    screen.chapter(
        "Packet sizes",
        "VXLAN adds 50 bytes, so pods get that much less than the hosts' 1500.",
    );
    let (from, to) = (&cluster.node("a")?.pods[0], &cluster.node("b")?.pods[0]);
    let mtu = from.mtu()?;
    screen.step(&format!("{mtu} bytes, never fragmented"), || {
        let time = from.ping_unfragmented(to, mtu)?;
        Ok((
            (),
            format!(
                "{} to {}: {:.2} ms",
                from.name(),
                to.name(),
                time.as_secs_f64() * 1000.0
            ),
        ))
    })?;
    screen.step(&format!("{} bytes", mtu + 1), || {
        ensure!(
            from.ping_unfragmented(to, mtu + 1).is_err(),
            "a packet larger than the MTU went out"
        );
        Ok(((), "refused before it leaves the pod".to_owned()))
    })
}

fn throughput(screen: &Screen, cluster: &Cluster) -> Result<()> {
    screen.chapter("Throughput", "One TCP connection, measured by iperf3.");
    let (a, b) = (cluster.node("a")?, cluster.node("b")?);
    let show = |rate: f64| Ok((rate, format!("{:.1} Gbit/s", rate / 1e9)));
    let hosts = screen.step("host a to host b", || {
        show(a.host.throughput(&b.host, MEASURE)?)
    })?;
    let pods = screen.step("pod a1 to pod b1", || {
        show(a.pods[0].throughput(&b.pods[0], MEASURE)?)
    })?;
    screen.note(&format!(
        "Pods get {:.0} % of what the hosts get between themselves.",
        100.0 * pods / hosts
    ));
    Ok(())
}

/// One host goes for good: its lease is deleted, as happens by itself when a lease runs out.
fn remove_host(screen: &Screen, cluster: &mut Cluster) -> Result<()> {
    screen.chapter(
        "Host c goes",
        "Its cable is pulled, its daemon stopped, its lease deleted.",
    );
    let lease = cluster.lease(cluster.node("c")?)?;
    let position = cluster
        .nodes
        .iter()
        .position(|node| node.name() == "c")
        .unwrap_or_default();
    let mut gone = cluster.nodes.remove(position);
    screen.step("take host c away", || {
        gone.daemon.terminate()?;
        cluster.lab.unplug(&gone.host)?;
        ensure!(
            cluster.lab.etcd()?.delete(&lease.key)?,
            "the lease was gone already"
        );
        Ok(((), format!("lease {} deleted", lease.subnet())))
    })?;
    for node in &cluster.nodes {
        screen.step(&format!("host {} forgets it", node.name()), || {
            eventually(
                "route, neighbour and FDB entry are gone",
                FORGET_DEADLINE,
                || {
                    let snapshot = node.host.snapshot()?;
                    let network = lease
                        .subnet()
                        .split('/')
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    let traces = [network.as_str(), lease.vtep_mac()];
                    let left: Vec<&str> = snapshot
                        .lines()
                        .filter(|line| traces.iter().any(|trace| line.contains(trace)))
                        .collect();
                    ensure!(left.is_empty(), "still there: {}", left.join("; "));
                    Ok(())
                },
            )?;
            Ok(((), "route, neighbour, FDB entry gone".to_owned()))
        })?;
    }
    let (from, to) = (&cluster.node("a")?.pods[0], &cluster.node("b")?.pods[0]);
    screen.step("the others go on", || {
        let time = from.ping(to)?;
        Ok((
            (),
            format!(
                "{} to {}: {:.2} ms",
                from.name(),
                to.name(),
                time.as_secs_f64() * 1000.0
            ),
        ))
    })
}

fn detach_pods(screen: &Screen, cluster: &mut Cluster, before: &[Snapshot]) -> Result<()> {
    screen.chapter(
        "The pods go",
        "The same programs with CNI_COMMAND=DEL, then a look at what is left of each pod.",
    );
    for (node, before) in cluster.nodes.iter_mut().zip(before) {
        let name = node.host.name().to_owned();
        screen.step(&format!("detach the pods of host {name}"), || {
            let traces: Vec<String> = node
                .pods
                .iter()
                .flat_map(|pod| [pod.address().to_string(), pod.container_id().to_owned()])
                .collect();
            for pod in node.pods.drain(..) {
                pod.delete()?;
            }
            let new = node.host.snapshot()?.diff(before).new;
            let left: Vec<String> = new
                .into_iter()
                .filter(|line| line.starts_with("link veth") || mentions(line, &traces))
                .collect();
            ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
            Ok(((), "no link, route or reservation left".to_owned()))
        })?;
    }
    Ok(())
}

/// Whether one of these addresses or names stands in the line, not only as the beginning of a longer one.
fn mentions(line: &str, traces: &[String]) -> bool {
    let words =
        line.split(|letter: char| !(letter.is_ascii_alphanumeric() || ".:".contains(letter)));
    words
        .into_iter()
        .any(|word| traces.iter().any(|trace| trace == word))
}
