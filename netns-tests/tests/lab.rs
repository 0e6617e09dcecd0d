//! The lab and its harness, tried on themselves and on the reference plugins.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::cni::CniError;
use netns_tests::daemon::{Daemon, ended_by};
use netns_tests::harness::{Test, main as run_tests};
use netns_tests::{Address, Endpoint, Host, Lab, OUTSIDE, Traffic, eventually, skip};
use nix::sys::signal::Signal;

fn a_test_has_the_kernel_to_itself() -> Result<()> {
    ensure!(std::process::id() == 1);
    let numbers = fs::read_dir("/proc")?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok())
        })
        .count();
    ensure!(numbers == 1, "{numbers} processes in /proc");
    let links = fs::read_dir("/sys/class/net")?.count();
    ensure!(links == 1, "{links} links");
    Ok(())
}

fn directories_of_the_network_software_are_empty() -> Result<()> {
    for directory in ["/run/netns", "/var/lib/cni", "/etc/cni/net.d", "/tmp"] {
        let probe = Path::new(directory).join("probe");
        ensure!(!probe.exists(), "{} is there already", probe.display());
        fs::write(&probe, "x")?;
    }
    ensure!(
        Path::new("/etc/passwd").exists(),
        "the machine's /etc is not there"
    );
    Ok(())
}

/// Runs this program again with its failing tests; what it printed.
fn run_failing(name: &str) -> Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .env(FAILING, "1")
        .args(["--exact", name])
        .output()?;
    ensure!(
        !output.status.success(),
        "a failing test was reported as a success"
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn a_failing_test_is_reported_with_its_output() -> Result<()> {
    let said = run_failing("it_fails")?;
    ensure!(
        said.contains("seen before the end") && said.contains("the reason of the failure"),
        "{said}"
    );
    ensure!(
        said.contains("test result: FAILED. 0 passed; 1 failed; 0 ignored"),
        "{said}"
    );
    Ok(())
}

fn a_panicking_test_fails() -> Result<()> {
    let said = run_failing("it_panics")?;
    ensure!(
        said.contains("the reason of the panic") && said.contains("0 passed; 1 failed"),
        "{said}"
    );
    Ok(())
}

fn a_late_test_is_killed_with_all_it_started() -> Result<()> {
    let said = run_failing("it_never_ends")?;
    ensure!(
        said.contains("killed: still running after 1 s") && said.contains("0 passed; 1 failed"),
        "{said}"
    );
    let left = sleepers()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn a_dead_harness_takes_everything_along() -> Result<()> {
    let mut harness = Command::new(std::env::current_exe()?)
        .env(FAILING, "1")
        .args(["--exact", "it_never_ends"])
        .spawn()?;
    let deadline = Duration::from_secs(10);
    eventually("the test runs", deadline, || {
        ensure!(sleepers()?.len() == 1, "no sleeper yet");
        Ok(())
    })?;
    harness.kill()?;
    harness.wait()?;
    eventually("nothing of it is left", deadline, || {
        let left = sleepers()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

/// The processes that [`it_never_ends`] starts, told by their arguments.
fn sleepers() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Processes may end while they are looked at, zombies have no arguments.
        let line = fs::read_to_string(entry?.path().join("cmdline")).unwrap_or_default();
        found.extend(line.contains(SLEEP).then_some(line));
    }
    Ok(found)
}

fn skips_are_counted() -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .env(FAILING, "1")
        .args(["--exact", "it_cannot_run"])
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("ignored (there is no such device)"), "{said}");
    ensure!(said.contains("0 passed; 0 failed; 1 ignored"), "{said}");
    Ok(())
}

fn waiting_shows_the_last_state() -> Result<()> {
    let mut looks = 0;
    let error = eventually(
        "b forgets a",
        Duration::from_millis(30),
        || -> Result<()> {
            looks += 1;
            anyhow::bail!("{looks} peers")
        },
    );
    let text = error.err().context("it came true")?.to_string();
    ensure!(
        text.contains("\"b forgets a\"") && text.ends_with(&format!("{looks} peers")),
        "{text}"
    );
    eventually("at once", Duration::ZERO, || Ok(()))
}

fn hosts_reach_each_other_and_the_world() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    a.ping(&b)?;
    a.ping(&b.ipv6())?;
    a.ping_unfragmented(&b, 1500)?;
    ensure!(
        a.ping_unfragmented(&b, 1501).is_err(),
        "a packet above the MTU crossed"
    );
    ensure!(
        a.tcp_echo(&b)?.ip() == a.address(),
        "TCP came from elsewhere"
    );
    ensure!(
        a.udp_echo(&b)?.ip() == a.address(),
        "UDP came from elsewhere"
    );
    ensure!(
        a.tcp_echo_at(lab.world(), OUTSIDE.into())?.ip() == a.address(),
        "the world saw another source"
    );
    ensure!(a.sh("hostname")? == "a\n");

    lab.unplug(&b)?;
    a.cannot_ping(&b)
}

fn hosts_have_directories_of_their_own() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    a.sh("mkdir /run/flannel; echo x > /run/flannel/subnet.env")?;
    ensure!(fs::read_to_string(a.path("/run/flannel/subnet.env"))? == "x\n");
    ensure!(!b.path("/run/flannel").exists());
    b.sh("test ! -e /run/flannel")?;
    Ok(())
}

fn a_snapshot_tells_what_changed() -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let before = a.snapshot()?;
    a.snapshot()?.same_as(&before)?;

    a.ip_batch(
        "link add name flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.11 dev eth0 nolearning\n\
         link set dev flannel.1 up\n\
         addr add 10.244.1.0/32 dev flannel.1\n\
         route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink\n\
         neigh add 10.244.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent\n",
    )?;
    a.sh("bridge fdb append 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.12")?;
    a.sh("nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }; add rule ip t c counter drop'")?;
    a.sh("sysctl -qw net.ipv4.ip_forward=1; touch /run/left")?;
    let difference = a.snapshot()?.diff(&before);
    let text = difference.to_string();
    for expected in [
        "+ link flannel.1 vxlan up",
        "+ address flannel.1 label flannel.1 local 10.244.1.0 prefixlen 32",
        "+ route dev flannel.1 10.244.2.0/24 gateway 10.244.2.0 onlink",
        "+ neighbour dev flannel.1 dst 10.244.2.0 lladdr 02:00:00:00:00:02",
        "+ fdb dst 192.0.2.12",
        "+ nft table ip t / chain c / counter drop",
        "- sysctl net.ipv4.ip_forward 0",
        "+ file /run/left mode 0644 size 0",
    ] {
        ensure!(text.contains(expected), "no {expected:?} in\n{text}");
    }

    a.sh("ip link delete flannel.1; nft delete table ip t; sysctl -qw net.ipv4.ip_forward=0; rm /run/left")?;
    a.snapshot()?.same_as(&before)
}

/// The reference plugins as flannel would call them.
fn reference_conflist(subnet: &str) -> String {
    format!(
        r#"{{"name": "reference", "cniVersion": "1.0.0", "plugins": [
            {{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "mtu": 1450,
              "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{subnet}"}}]]}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
        ]}}"#
    )
}

/// What a flanneld does, by hand.
fn join_by_vxlan(own: &Host, own_number: u8, peer: &Host, peer_number: u8) -> Result<()> {
    let (local, remote) = (own.ipv4(), peer.ipv4());
    own.ip_batch(&format!(
        "link add name flannel.1 address 02:00:00:00:00:0{own_number} type vxlan id 1 dstport 8472 local {local} dev eth0 nolearning\n\
         link set dev flannel.1 up\n\
         addr add 10.244.{own_number}.0/32 dev flannel.1\n\
         route add 10.244.{peer_number}.0/24 via 10.244.{peer_number}.0 dev flannel.1 onlink\n\
         neigh add 10.244.{peer_number}.0 lladdr 02:00:00:00:00:0{peer_number} dev flannel.1\n"
    ))?;
    own.sh(&format!(
        "bridge fdb append 02:00:00:00:00:0{peer_number} dev flannel.1 dst {remote}"
    ))?;
    own.sh("sysctl -qw net.ipv4.ip_forward=1")?;
    Ok(())
}

fn pods_of_the_reference_plugins_talk() -> Result<()> {
    let lab = Lab::new()?;
    let [a, b] = lab.hosts(["a", "b"])?;
    join_by_vxlan(&a, 1, &b, 2)?;
    join_by_vxlan(&b, 2, &a, 1)?;

    lab.set_conflist(&reference_conflist("10.244.1.0/24"));
    let (web, neighbour) = (a.pod("web")?, a.pod("neighbour")?);
    let client = b
        .pod_spec("client")
        .conflist(&reference_conflist("10.244.2.0/24"))
        .attach()?;
    ensure!(
        web.address() == Ipv4Addr::new(10, 244, 1, 2),
        "web has {}",
        web.address()
    );
    ensure!(web.attached()?.interfaces.len() == 3, "{}", web.result());
    for to in [&web, &neighbour] {
        client.ping(to)?;
        client.ping_unfragmented(to, 1450)?;
        ensure!(
            client.tcp_echo(to)?.ip() == client.address(),
            "pod to pod was masqueraded"
        );
        client.udp_echo(to)?;
    }
    neighbour.ping(&web)?;
    web.check()?;

    let stream = client.stream(&web)?;
    stream.wait_progress()?;
    let report = stream.finish()?;
    ensure!(report.exchanges > 5, "{report:?}");
    ensure!(
        client.throughput(&web, Duration::from_secs(1))? > 1e6,
        "less than 1 Mbit/s"
    );
    Ok(())
}

fn a_deleted_pod_leaves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    lab.set_conflist(&reference_conflist("10.244.1.0/24"));
    // The bridge and the state directories stay after the first pod.
    a.pod("first")?.delete()?;
    let before = a.snapshot()?;
    let pod = a.pod("second")?;
    ensure!(
        !a.snapshot()?.diff(&before).is_empty(),
        "a pod changed nothing"
    );
    pod.detach()?;
    pod.detach()?;
    pod.delete()?;
    let difference = a.snapshot()?.diff(&before);
    let only_the_cursor = difference
        .new
        .iter()
        .all(|line| line.contains("last_reserved_ip"));
    ensure!(only_the_cursor, "left:\n{difference}");
    Ok(())
}

fn a_plugin_refusal_can_be_read() -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let before = a.snapshot()?;
    let conflist = r#"{"name": "x", "cniVersion": "1.0.0", "plugins": [
        {"type": "bridge", "hairpinMode": true, "promiscMode": true}]}"#;
    let refusal = CniError::expected_in(a.pod_spec("web").conflist(conflist).attach())?;
    ensure!(
        refusal.plugin == "bridge" && refusal.message.contains("hairpin"),
        "{refusal}"
    );
    a.snapshot()?.same_as(&before)
}

fn etcd_keeps_and_forgets() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_etcd()?;
    let a = lab.host("a")?;
    lab.put_net_conf(r#"{"Network": "10.244.0.0/16"}"#)?;
    let etcd = lab.etcd()?;
    etcd.put(
        "/coreos.com/network/subnets/10.244.7.0-24",
        r#"{"PublicIP":"192.0.2.11","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:07"}}"#,
    )?;
    let lease = etcd.lease_of(&a)?;
    ensure!(
        lease.subnet() == "10.244.7.0/24" && lease.vtep_mac() == "02:00:00:00:00:07",
        "{lease:?}"
    );
    etcd.compact()?;
    lab.etcd_mut()?.stop()?;
    lab.etcd_mut()?.restart()?;
    let etcd = lab.etcd()?;
    ensure!(
        etcd.delete(&lease.key)? && !etcd.delete(&lease.key)?,
        "deleted never or twice"
    );
    ensure!(
        etcd.value("/coreos.com/network/config")?.as_deref()
            == Some(r#"{"Network": "10.244.0.0/16"}"#)
    );
    ensure!(
        a.sh(&format!(
            "ETCDCTL_API=3 etcdctl --endpoints {} endpoint health 2>&1",
            lab.etcd_endpoint()
        ))
        .is_ok()
    );
    Ok(())
}

fn a_daemon_is_awaited_killed_and_restarted() -> Result<()> {
    let lab = Lab::new()?;
    let a = lab.host("a")?;
    let own = std::env::current_exe()?;
    let mut daemon = Daemon::start(&a, &own, ["--some-flag"], &[(DAEMON, "1")])?;
    daemon.wait_ready()?;
    daemon.kill()?;
    ensure!(!daemon.is_running()?);
    daemon.restart()?;
    daemon.wait_ready()?;
    let status = daemon.terminate()?;
    ensure!(ended_by(status, Signal::SIGTERM), "{status}");
    ensure!(daemon.log() == "started\nstarted\n", "{:?}", daemon.log());

    let mut hopeless = a.start("false", &[])?;
    let error = hopeless
        .wait_ready()
        .err()
        .context("`false` became ready")?;
    ensure!(
        error.to_string().contains("it ended with exit status: 1"),
        "{error:#}"
    );
    Ok(())
}

/// Set for the program's failing tests, which others of its tests run.
const FAILING: &str = "LAB_RUNS_ITS_FAILING_TESTS";

/// Set for the program when it plays a daemon.
const DAEMON: &str = "LAB_PLAYS_A_DAEMON";

fn play_a_daemon() -> Result<()> {
    println!("started");
    UnixDatagram::unbound()?.send_to(b"STATUS=fine\nREADY=1", std::env::var("NOTIFY_SOCKET")?)?;
    loop {
        std::thread::park();
    }
}

/// Tells the processes of [`it_never_ends`] from all others.
const SLEEP: &str = "54321.5";

fn it_fails() -> Result<()> {
    println!("seen before the end");
    anyhow::bail!("the reason of the failure")
}

fn it_panics() -> Result<()> {
    panic!("the reason of the panic")
}

fn it_never_ends() -> Result<()> {
    Command::new("setsid").args(["sleep", SLEEP]).status()?;
    Ok(())
}

fn it_cannot_run() -> Result<()> {
    skip("there is no such device")
}

const FAILING_TESTS: &[Test] = &[
    Test::new("it_fails", it_fails),
    Test::new("it_panics", it_panics),
    Test::new("it_never_ends", it_never_ends).within(Duration::from_secs(1)),
    Test::new("it_cannot_run", it_cannot_run),
];

fn main() -> std::process::ExitCode {
    if std::env::var_os(FAILING).is_some() {
        return run_tests(FAILING_TESTS);
    }
    if std::env::var_os(DAEMON).is_some() {
        return play_a_daemon().map_or(std::process::ExitCode::FAILURE, |()| {
            std::process::ExitCode::SUCCESS
        });
    }
    run_tests(netns_tests::test_list![
        a_test_has_the_kernel_to_itself,
        directories_of_the_network_software_are_empty,
        a_failing_test_is_reported_with_its_output,
        a_panicking_test_fails,
        a_late_test_is_killed_with_all_it_started,
        a_dead_harness_takes_everything_along,
        skips_are_counted,
        waiting_shows_the_last_state,
        hosts_reach_each_other_and_the_world,
        hosts_have_directories_of_their_own,
        a_snapshot_tells_what_changed,
        pods_of_the_reference_plugins_talk,
        a_deleted_pod_leaves_nothing,
        a_plugin_refusal_can_be_read,
        etcd_keeps_and_forgets,
        a_daemon_is_awaited_killed_and_restarted,
    ])
}
