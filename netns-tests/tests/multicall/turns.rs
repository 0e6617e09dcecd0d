//! Our program and Debian's plugins on the same host, with the same directory and the same pods.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use netns_tests::Endpoint;
use serde_json::json;

use crate::addresses::config;
use crate::scene::{address, host, nowhere, ours, reservations, target, theirs};

pub(crate) fn host_local_takes_turns_with_the_reference() -> Result<()> {
    let (_lab, host) = host()?;
    let sides = [ours()?, theirs()?];
    let config =
        config(json!({"ranges": [[{"subnet": "10.1.2.0/28"}], [{"subnet": "fd00::/64"}]]}));
    let id = |number: usize| format!("c{number}");
    // 10.1.2.2 to .14: each side goes on behind the other's last one, and round the end.
    for number in 0..20 {
        let (side, other) = (&sides[number % 2], &sides[(number + 1) % 2]);
        let given = address(&side.add(&host, &nowhere(&id(number)), &config)?)?;
        let expected = format!("10.1.2.{}", 2 + number % 13);
        ensure!(given == expected, "{number}: {given} instead of {expected}");
        let files = reservations(&host)?;
        ensure!(
            files[&given] == format!("{}\r\neth0", id(number)),
            "{files:?}"
        );
        ensure!(files["last_reserved_ip.0"] == given, "{files:?}");
        other.silent(&host, "CHECK", &nowhere(&id(number)), &config)?;
        let twice = other.refusal(&host, "ADD", &nowhere(&id(number)), &config)?;
        ensure!(twice.message.contains("duplicate allocation"), "{twice}");
        if let Some(old) = number.checked_sub(5) {
            other.silent(&host, "DEL", &nowhere(&id(old)), &config)?;
        }
    }
    for number in 15..20 {
        sides[number % 2].silent(&host, "DEL", &nowhere(&id(number)), &config)?;
    }
    let left: Vec<_> = reservations(&host)?.into_keys().collect();
    ensure!(
        left == ["last_reserved_ip.0", "last_reserved_ip.1", "lock"],
        "{left:?}"
    );
    Ok(())
}

pub(crate) fn a_crowd_shares_host_local() -> Result<()> {
    const CROWD: usize = 60;
    let (_lab, host) = host()?;
    let sides = [ours()?, theirs()?];
    let config = config(json!({"subnet": "10.1.2.0/26"}));
    let given: Vec<String> = thread::scope(|scope| {
        let one = |number: usize| {
            let (side, host, config) = (&sides[number % 2], &host, &config);
            scope
                .spawn(move || address(&side.add(host, &nowhere(&format!("c{number}")), config)?))
        };
        let all: Vec<_> = (0..CROWD).map(one).collect();
        let joined = all
            .into_iter()
            .map(|one| one.join().map_err(|_| anyhow!("a thread died"))?);
        joined.collect::<Result<_>>()
    })?;
    let distinct: BTreeSet<_> = given.iter().collect();
    ensure!(distinct.len() == CROWD, "{given:?}");
    Ok(())
}

pub(crate) fn pods_of_the_reference_are_detached() -> Result<()> {
    let (_lab, host) = host()?;
    let (ours, theirs) = (ours()?, theirs()?);
    for kind in ["bridge", "ptp"] {
        let pod = host.pod_spec("web").create()?;
        let eth0 = target("c1", pod.netns());
        let config = json!({"type": kind, "ipam": {"type": "host-local", "subnet": "10.1.2.0/24"}});
        theirs.add(&host, &eth0, &config)?;
        ours.silent(&host, "DEL", &eth0, &config)?;
        ensure!(
            !pod.attempt(["ip", "link", "show", "dev", "eth0"])?
                .status
                .success(),
            "{kind}: it is left"
        );
        ensure!(
            !reservations(&host)?.contains_key("10.1.2.2"),
            "{kind}: its address is left"
        );
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn the_reference_detaches_our_pods() -> Result<()> {
    let (_lab, host) = host()?;
    let (ours, theirs) = (ours()?, theirs()?);
    for kind in ["bridge", "ptp"] {
        let pod = host.pod_spec("web").create()?;
        let eth0 = target("c1", pod.netns());
        let config = json!({"type": kind, "isGateway": true,
            "ipam": {"type": "host-local", "subnet": "10.1.2.0/24"}});
        let result = ours.add(&host, &eth0, &config)?;
        theirs.silent(
            &host,
            "CHECK",
            &eth0,
            &crate::scene::after(&config, &result),
        )?;
        theirs.silent(&host, "DEL", &eth0, &config)?;
        ensure!(
            !host.sh("ip -o link")?.contains(": veth"),
            "{kind}: a link is left"
        );
        let left = reservations(&host)?;
        ensure!(
            !left.keys().any(|name| name.starts_with("10.")),
            "{kind}: {left:?}"
        );
        pod.delete()?;
    }
    Ok(())
}
