//! Rules that flannel left, in each of its layouts, and those of the other mode.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use flanneld::firewall::removal;
use netns_tests::{Address, Daemon, Endpoint, Lab, OUTSIDE, Traffic};
use nix::sys::signal::Signal;

use crate::scene::{Scene, Way, furnish, rules, saved};

/// What flannel left, by its versions; each with rules of others around, and a FORWARD chain that drops what nobody accepts.
const LAYOUTS: [(&str, &str); 4] = [
    (
        "0.9",
        include_str!("../../../flanneld/src/iptables/tests/flannel-0.9.rules"),
    ),
    (
        "0.16",
        include_str!("../../../flanneld/src/iptables/tests/flannel-0.16.rules"),
    ),
    (
        "0.20",
        include_str!("../../../flanneld/src/iptables/tests/flannel-0.20.rules"),
    ),
    (
        "0.28",
        include_str!("../../../flanneld/src/iptables/tests/flannel-0.28.rules"),
    ),
];

/// The rules of others in each of them.
const OTHERS: [&str; 4] = [
    "-A FORWARD -i br-lan -j ACCEPT",
    "-A FORWARD -i br-wan -j REJECT --reject-with icmp-port-unreachable",
    "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
    "-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
];

pub(crate) fn nf_tables_takes_over_what_flannel_left_in_nf_tables() -> Result<()> {
    take_over(Way::NfTables, "nft")
}

pub(crate) fn nf_tables_takes_over_what_flannel_left_in_old_tables() -> Result<()> {
    take_over(Way::NfTables, "legacy")
}

pub(crate) fn iptables_takes_over_what_flannel_left_in_nf_tables() -> Result<()> {
    take_over(Way::Iptables, "nft")
}

pub(crate) fn iptables_takes_over_what_flannel_left_in_old_tables() -> Result<()> {
    take_over(Way::Iptables, "legacy")
}

pub(crate) fn old_iptables_takes_over_what_flannel_left_in_nf_tables() -> Result<()> {
    take_over(Way::OldIptables, "nft")
}

pub(crate) fn old_iptables_takes_over_what_flannel_left_in_old_tables() -> Result<()> {
    take_over(Way::OldIptables, "legacy")
}

/// Flannel's rules stand in that variant's tables; a daemon starts, and pods notice nothing.
fn take_over(way: Way, suffix: &str) -> Result<()> {
    let mut scene = Scene::new(way)?;
    let subnet = scene.lab.etcd()?.lease_of(&scene.a)?.subnet();
    for (version, layout) in LAYOUTS {
        scene.daemon_a.kill()?;
        // As if flannel had been all there was.
        scene.a.run(removal::remove_all)??;
        let layout = layout
            .replace("10.244.3.0/24", &subnet)
            .replace(":FORWARD ACCEPT", ":FORWARD DROP")
            .replace("FORWARD -j REJECT", "FORWARD -i br-wan -j REJECT");
        std::fs::write(scene.a.path("/run/layout"), &layout)?;
        scene
            .a
            .sh(&format!("iptables-{suffix}-restore < /run/layout"))?;
        scene
            .a1
            .ping(&scene.b1)
            .with_context(|| format!("with flannel {version}'s rules"))?;

        undisturbed(&mut scene, restart)
            .with_context(|| format!("{way:?} after {version} in {suffix}"))?;

        let now = saved(&scene.a, suffix)?;
        for rule in OTHERS {
            ensure!(now.matches(rule).count() == 1, "{rule} in\n{now}");
        }
        let active = way != Way::NfTables && way.suffix() == suffix;
        let masquerading = now.lines().filter(|line| line.contains("masq\"")).count();
        ensure!(
            masquerading == if active { 7 } else { 0 },
            "{way:?} after {version}:\n{now}"
        );
        let direct = now
            .lines()
            .filter(|line| line.contains("10.244.") && !line.starts_with("-A FLANNEL-"));
        ensure!(direct.count() == 0, "{way:?} after {version}:\n{now}");
        ensure!(now.matches("-j FLANNEL-FWD").count() == 1, "{now}");
    }
    // Another start finds nothing to do.
    let before = rules(&scene.a)?;
    scene.daemon_a.restart()?;
    scene.daemon_a.wait_ready()?;
    ensure!(rules(&scene.a)? == before, "a restart changed something");
    Ok(())
}

pub(crate) fn the_mode_is_switched_and_back_while_pods_talk() -> Result<()> {
    let mut scene = Scene::new(Way::NfTables)?;
    let in_nf_tables = rules(&scene.a)?;
    ensure!(
        in_nf_tables.contains("table ip flannel-ipv4"),
        "{in_nf_tables}"
    );
    for _ in 0..2 {
        scene.lab.put_net_conf(&Way::Iptables.conf())?;
        undisturbed(&mut scene, restart)?;
        let by_iptables = rules(&scene.a)?;
        ensure!(!by_iptables.contains("flannel-ipv"), "{by_iptables}");
        for part in ["-j FLANNEL-POSTRTG", "-j FLANNEL-FWD", "--notrack"] {
            ensure!(by_iptables.contains(part), "no {part} in\n{by_iptables}");
        }
        scene.lab.put_net_conf(&Way::NfTables.conf())?;
        undisturbed(&mut scene, restart)?;
        let back = rules(&scene.a)?;
        ensure!(
            !back.contains("FLANNEL") && !back.contains("flanneld"),
            "{back}"
        );
        ensure!(back.contains("table ip6 flannel-ipv6"), "{back}");
    }
    Ok(())
}

pub(crate) fn flannels_tables_go_when_iptables_is_asked_for() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(&Way::Iptables.conf())?;
    let a = lab.host("a")?;
    furnish(&a)?;
    // As flannel's nftables mode has them, and one of somebody else beside them.
    a.exec([
        "nft",
        "add table ip flannel-ipv4 { comment \"rules for flannel-ipv4\"; }; \
         add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority srcnat; }; \
         add rule ip flannel-ipv4 postrtg ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade; \
         add table ip6 flannel-ipv6 { comment \"rules for flannel-ipv6\"; }; \
         add table ip flannel-ipv4-mine",
    ])?;
    let _daemon = Way::Iptables.start(&lab, &a, &["--ip-masq"])?;
    let tables = a.exec(["nft", "list", "tables"])?;
    ensure!(tables.contains("table ip flannel-ipv4-mine"), "{tables}");
    ensure!(
        !tables.contains("flannel-ipv4\n") && !tables.contains("flannel-ipv6"),
        "{tables}"
    );
    Ok(())
}

pub(crate) fn without_programs_nf_tables_does_it() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    lab.put_net_conf(&Way::Iptables.conf())?;
    let a = lab.host("a")?;
    // That others use iptables is nothing to be told of.
    a.sh("iptables-nft -N KUBE-FORWARD; iptables-nft -A FORWARD -j KUBE-FORWARD")?;
    let endpoints = format!("--etcd-endpoints={}", lab.etcd_endpoint());
    let program = netns_tests::programs::find("flanneld")?;
    let path = [("PATH", "/nonexistent")];
    let mut daemon = Daemon::start(&a, &program, [endpoints.as_str(), "--ip-masq"], &path)?;
    daemon.wait_ready()?;
    let log = daemon.log();
    ensure!(log.contains("no iptables programs are on PATH"), "{log}");
    ensure!(!log.contains("are left as they are"), "{log}");
    let tables = a.exec(["nft", "list", "tables"])?;
    ensure!(tables.contains("table ip flannel-ipv4"), "{tables}");
    // This is.
    a.sh("iptables-nft -P FORWARD DROP")?;
    daemon.wait_log("there is no program iptables-nft-save on PATH")
}

pub(crate) fn everything_in_nf_tables_can_be_removed() -> Result<()> {
    remove(Way::NfTables)
}

pub(crate) fn everything_of_iptables_can_be_removed() -> Result<()> {
    remove(Way::Iptables)
}

pub(crate) fn everything_of_old_iptables_can_be_removed() -> Result<()> {
    remove(Way::OldIptables)
}

fn remove(way: Way) -> Result<()> {
    let mut scene = Scene::new(way)?;
    scene.a.sh("iptables-nft -A FORWARD -i br-lan -j ACCEPT
         iptables-legacy -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE")?;
    scene.daemon_a.kill()?;
    let removed = scene.a.run(removal::remove_all)??;
    ensure!(!removed.is_empty());
    let left = rules(&scene.a)?;
    ensure!(
        !left.to_lowercase().contains("flannel"),
        "removed {removed:#?}, left:\n{left}"
    );
    for rule in [
        "-A FORWARD -i br-lan -j ACCEPT",
        "-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
    ] {
        ensure!(left.contains(rule), "{left}");
    }
    let again = scene.a.run(removal::remove_all)??;
    ensure!(again.is_empty(), "{again:?}");
    Ok(())
}

/// While `work` is done with the daemon, a ping every ten milliseconds between pods loses nothing, and each new connection to the world
/// is masqueraded.
fn undisturbed(scene: &mut Scene, work: impl FnOnce(&mut Daemon) -> Result<()>) -> Result<()> {
    let Scene {
        lab,
        a,
        daemon_a,
        a1,
        b1,
        ..
    } = scene;
    let netns = format!("--net={}", a1.netns().display());
    let target = b1.address().to_string();
    let arguments = [
        netns.as_str(),
        "ping",
        "-n",
        "-i",
        "0.01",
        "-W",
        "2",
        &target,
    ];
    let mut pings = a.start("nsenter", &arguments)?;
    pings.wait_log("icmp_seq=5 ")?;

    let over = AtomicBool::new(false);
    let expected = IpAddr::from(a.ipv4());
    let (world, a1) = (lab.world(), &*a1);
    thread::scope(|scope| {
        let connecting = scope.spawn(|| -> Result<()> {
            loop {
                let last = over.load(Ordering::Relaxed);
                let source = a1.udp_echo_at(world, OUTSIDE.into())?.ip();
                ensure!(source == expected, "the world sees {source}");
                if last {
                    return Ok(());
                }
            }
        });
        let outcome = work(daemon_a);
        over.store(true, Ordering::Relaxed);
        let connected = connecting.join();
        outcome?;
        connected.map_err(|_| anyhow!("a thread of the test panicked"))?
    })?;

    pings.signal(Signal::SIGINT)?;
    pings.wait_end()?;
    let log = pings.log();
    ensure!(log.contains(" 0% packet loss"), "{}", pings.log_tail());
    Ok(())
}

fn restart(daemon: &mut Daemon) -> Result<()> {
    daemon.restart()?;
    daemon.wait_ready()
}
