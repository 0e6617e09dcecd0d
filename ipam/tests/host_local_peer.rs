//! The reference plugin host-local as the other side: each has to find, respect and give back what the other reserved.
//! Passed over, with a word on why, where the plugin is not installed (Debian: `containernetworking-plugins`).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ipam::host_local::Holder;
use ipam::{HostLocal, Owner};
use tempfile::TempDir;

const PLACES: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

struct Peer {
    program: PathBuf,
    data: TempDir,
    store: HostLocal,
}

impl Peer {
    fn find() -> Option<Self> {
        let programs = PLACES.map(|place| Path::new(place).join("host-local"));
        let Some(program) = programs.into_iter().find(|program| program.exists()) else {
            println!("skipped: there is no host-local in {}", PLACES.join(", "));
            return None;
        };
        let data = TempDir::new().unwrap();
        let store = HostLocal::new(data.path(), "cbr0").unwrap();
        Some(Self {
            program,
            data,
            store,
        })
    }

    fn start(&self, verb: &str, container_id: &str, args: &str) -> Child {
        let config = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "flannel",
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.244.1.5/24"}]},
            "ipam": {
                "type": "host-local",
                "dataDir": self.data.path(),
                "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]],
            },
        });
        let mut child = Command::new(&self.program)
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container_id)
            .env("CNI_NETNS", "/run/netns/none")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/nowhere")
            .env("CNI_ARGS", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(config.to_string().as_bytes()).unwrap();
        child
    }

    fn call(&self, verb: &str, container_id: &str, args: &str) -> Output {
        let output = self.start(verb, container_id, args).wait_with_output();
        output.unwrap()
    }

    fn succeed(&self, verb: &str, container_id: &str, args: &str) -> String {
        let output = self.call(verb, container_id, args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{verb} {container_id}: {said}");
        said
    }

    fn addresses(&self) -> Vec<String> {
        let all = self.store.reservations().unwrap();
        all.iter().map(|held| held.address.to_string()).collect()
    }
}

fn owner(container_id: &str) -> Owner {
    Owner::new(container_id, "eth0").unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn what_host_local_reserved_is_found_and_given_back() {
    let Some(peer) = Peer::find() else { return };
    peer.succeed("ADD", "one", "");
    peer.succeed("ADD", "two", "");
    let held = peer.store.held_by(&owner("one")).unwrap();
    let addresses: Vec<_> = held.iter().map(|held| held.address).collect();
    assert_eq!(
        addresses,
        [address("10.244.1.2"), address("fd00:10:244:1::2")]
    );
    assert_eq!(held[0].holder, Some(Holder::from(&owner("one"))));
    assert_eq!(
        peer.store.last_reserved(0).unwrap(),
        Some(address("10.244.1.3"))
    );

    let locked = peer.store.lock().unwrap();
    for address in addresses {
        assert!(locked.release(address, &owner("one")).unwrap());
    }
    drop(locked);
    assert_eq!(peer.addresses(), ["10.244.1.3", "fd00:10:244:1::3"]);
    // To host-local the container is as good as new, and it goes on behind the last one.
    peer.succeed("ADD", "one", "");
    let held = peer.store.held_by(&owner("one")).unwrap();
    assert_eq!(held[0].address, address("10.244.1.4"));
}

#[test]
fn what_we_reserved_is_respected_and_given_back_by_host_local() {
    let Some(peer) = Peer::find() else { return };
    let locked = peer.store.lock().unwrap();
    locked
        .reserve(address("10.244.1.5"), &owner("ours"), 0)
        .unwrap();
    locked
        .reserve(address("fd00:10:244:1::5"), &owner("ours"), 1)
        .unwrap();
    drop(locked);

    peer.succeed("CHECK", "ours", "");
    assert!(!peer.call("CHECK", "theirs", "").status.success());
    let refused = peer.call("ADD", "theirs", "IP=10.244.1.5");
    assert!(!refused.status.success(), "an address was given twice");
    let refused = peer.call("ADD", "ours", "");
    assert!(!refused.status.success(), "a container was attached twice");
    let said = peer.succeed("ADD", "theirs", "");
    assert!(
        said.contains("10.244.1.6/24"),
        "it does not go on behind ours: {said}"
    );
    assert!(
        said.contains("fd00:10:244:1::6/64"),
        "it does not go on behind ours: {said}"
    );

    peer.succeed("DEL", "ours", "");
    assert_eq!(peer.addresses(), ["10.244.1.6", "fd00:10:244:1::6"]);
    peer.succeed("DEL", "theirs", "");
    let mut left: Vec<_> = fs::read_dir(peer.store.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]);
}

#[test]
fn host_local_waits_for_our_lock() {
    let Some(peer) = Peer::find() else { return };
    let locked = peer.store.lock().unwrap();
    let mut child = peer.start("ADD", "theirs", "");
    // The kernel lists who waits for a lock, behind an arrow.
    let deadline = Instant::now() + Duration::from_secs(20);
    let waits = format!(" {} ", child.id());
    let waiting = |line: &str| line.contains("->") && line.contains(&waits);
    while !fs::read_to_string("/proc/locks")
        .unwrap()
        .lines()
        .any(waiting)
    {
        assert!(child.try_wait().unwrap().is_none(), "it did not wait");
        assert!(Instant::now() < deadline, "it never asked for the lock");
        std::thread::yield_now();
    }
    assert_eq!(peer.addresses(), [""; 0]);
    drop(locked);
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(peer.addresses().len(), 2);
}
