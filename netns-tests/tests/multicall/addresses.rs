//! host-local by our program beside Debian's, each on a host of its own.

use std::fs;

use anyhow::{Result, ensure};
use netns_tests::cni::Attachment;
use netns_tests::{Endpoint, Host};
use serde_json::{Value, json};

use crate::scene::{RESERVATIONS, Side, both, host, nowhere, ours, reservations, same};

/// A config of host-local.
pub(crate) fn config(ipam: Value) -> Value {
    let mut ipam = ipam;
    ipam["type"] = json!("host-local");
    json!({"type": "host-local", "ipam": ipam})
}

fn requesting(addresses: &str) -> Attachment {
    Attachment {
        arguments: format!("IP={addresses}"),
        ..nowhere("wish")
    }
}

/// What a side makes of a config: the results of three containers, one of which goes in between, and the files.
fn story(host: &Host, side: &Side, config: &Value) -> Result<Vec<Value>> {
    let mut told = Vec::new();
    for id in ["one", "two"] {
        told.push(side.add(host, &nowhere(id), config)?);
    }
    side.silent(host, "CHECK", &nowhere("one"), &checkable(config))?;
    side.silent(host, "DEL", &nowhere("one"), config)?;
    side.silent(host, "DEL", &nowhere("one"), config)?;
    told.push(side.add(host, &nowhere("three"), config)?);
    told.push(json!(reservations(host)?));
    for id in ["two", "three"] {
        side.silent(host, "DEL", &nowhere(id), config)?;
    }
    told.push(json!(reservations(host)?));
    Ok(told)
}

fn checkable(config: &Value) -> Value {
    let mut config = config.clone();
    if config["cniVersion"] == "0.3.1" || config["cniVersion"] == "0.1.0" {
        config["cniVersion"] = json!("0.4.0");
    }
    config
}

pub(crate) fn host_local_gives_what_the_reference_gives() -> Result<()> {
    let (_lab, hosts) = both()?;
    for config in [
        config(json!({"subnet": "10.1.2.0/24"})),
        config(
            json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.13", "gateway": "10.1.2.10",
            "ranges": [[{"subnet": "fd00::/64"}]]}),
        ),
        config(
            json!({"ranges": [[{"subnet": "10.1.2.0/30"}, {"subnet": "10.1.3.0/29", "gateway": "192.0.2.1"}],
            [{"subnet": "2001:db8::/126"}, {"subnet": "2001:db8:1::/120"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.2.9"}]}),
        ),
        config(json!({"subnet": "10.1.2.0/24", "resolvConf": "/run/resolv.conf"})),
        json!({"type": "host-local", "cniVersion": "0.1.0",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}),
        json!({"type": "host-local", "cniVersion": "0.3.1", "IPAM": {"Type": "host-local", "Subnet": "10.1.2.0/24"},
            "runtimeConfig": {"ipRanges": [[{"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.7"}]]}}),
    ] {
        let mut stories = Vec::new();
        for (host, side) in &hosts {
            host.sh(&format!("rm -rf {RESERVATIONS}"))?;
            fs::write(
                host.path("/run/resolv.conf"),
                "# ours\nnameserver 192.0.2.53\nsearch a.test b.test\noptions ndots:2\ndomain c.test\n",
            )?;
            stories.push(story(host, side, &config)?);
        }
        same(&stories, &config)?;
    }
    Ok(())
}

pub(crate) fn host_local_refuses_what_the_reference_refuses() -> Result<()> {
    let (_lab, hosts) = both()?;
    let plain =
        config(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}]]}));
    let ranges = |ranges: Value| config(json!({"ranges": ranges}));
    let wishes = |ips: Value| {
        let mut config = plain.clone();
        config["args"] = json!({"cni": {"ips": ips}});
        config
    };
    for (host, side) in &hosts {
        side.add(host, &nowhere("there"), &plain)?;
        let before = reservations(host)?;
        for (target, config, text) in [
            (
                nowhere("there"),
                plain.clone(),
                "duplicate allocation is not allowed",
            ),
            (
                nowhere("a"),
                wishes(json!(["10.1.2.2"])),
                "requested IP address 10.1.2.2 is not available in range set",
            ),
            (
                nowhere("a"),
                wishes(json!(["10.1.3.1"])),
                "requested ip 10.1.3.1 is subnet's gateway",
            ),
            (
                nowhere("a"),
                wishes(json!(["10.9.9.9"])),
                "failed to allocate all requested IPs: 10.9.9.9",
            ),
            (
                requesting("10.9.9.9"),
                plain.clone(),
                "failed to allocate all requested IPs: 10.9.9.9",
            ),
            (
                nowhere("a"),
                ranges(json!([[{"subnet": "10.1.2.0/31"}]])),
                "too small",
            ),
            (
                nowhere("a"),
                ranges(json!([[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]])),
                "families",
            ),
            (
                nowhere("a"),
                ranges(json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.0.0/16"}]])),
                "overlap",
            ),
            (
                nowhere("a"),
                ranges(json!([[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.9"}]])),
                "10.1.3.9",
            ),
            (nowhere("a"), ranges(json!([])), ""),
        ] {
            let error = side.refusal(host, "ADD", &target, &config)?;
            let message = format!("{} {}", error.message, error.details);
            ensure!(message.contains(text), "{config}: {message}");
            // Where the reference went on after the first range set is of no importance.
            let names = |files: &std::collections::BTreeMap<String, String>| -> Vec<String> {
                let addresses = files.keys().filter(|name| !name.starts_with("last_"));
                addresses.cloned().collect()
            };
            let now = reservations(host)?;
            ensure!(names(&now) == names(&before), "{config} left {now:?}");
        }
        let given = side.add(host, &requesting("10.1.2.77"), &plain)?;
        ensure!(given["ips"][0]["address"] == "10.1.2.77/24", "{given}");
        side.silent(host, "DEL", &nowhere("unknown"), &plain)?;
        side.refusal(host, "CHECK", &nowhere("unknown"), &plain)?;
    }
    Ok(())
}

pub(crate) fn host_local_tells_when_it_is_full() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    let mut config = config(json!({"subnet": "10.1.2.0/30"}));
    config["cniVersion"] = json!("1.1.0");
    side.silent(&host, "STATUS", &nowhere("any"), &config)?;
    side.add(&host, &nowhere("one"), &config)?;
    let full = side.refusal(&host, "ADD", &nowhere("two"), &config)?;
    ensure!(full.code == 100, "{full}");
    ensure!(full.message.contains("10.1.2.1-10.1.2.2"), "{full}");
    let status = side.refusal(&host, "STATUS", &nowhere("any"), &config)?;
    ensure!(status.code == 50, "{status}");

    // Without a list nothing is done; on a list the living stay.
    let mut collect = config.clone();
    side.silent(&host, "GC", &nowhere("any"), &collect)?;
    collect["cni.dev/valid-attachments"] = json!([{"containerID": "one", "ifname": "eth0"}]);
    side.silent(&host, "GC", &nowhere("any"), &collect)?;
    ensure!(reservations(&host)?.contains_key("10.1.2.2"));
    collect["cni.dev/valid-attachments"] = json!([]);
    collect["gcGrace"] = json!(3600);
    side.silent(&host, "GC", &nowhere("any"), &collect)?;
    ensure!(reservations(&host)?.contains_key("10.1.2.2"), "too young");
    collect["gcGrace"] = json!(0);
    side.silent(&host, "GC", &nowhere("any"), &collect)?;
    ensure!(!reservations(&host)?.contains_key("10.1.2.2"));
    side.silent(&host, "STATUS", &nowhere("any"), &config)
}
