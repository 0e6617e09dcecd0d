//! bridge, ptp and loopback by our program beside Debian's, each on a host of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, Pod, eventually, programs, skip};
use serde_json::{Value, json};

use crate::scene::{
    RESERVATIONS, Side, after, both, host, ip, layout, nowhere, ours, ours_and_more, reservations,
    same, target,
};

const SUBNET: &str = "10.1.2.0/24";

fn host_local(more: Value) -> Value {
    let mut ipam = json!({"type": "host-local", "ranges": [[{"subnet": SUBNET}]]});
    for (key, value) in more.as_object().into_iter().flatten() {
        ipam[key] = value.clone();
    }
    ipam
}

fn ptp() -> Value {
    json!({"type": "ptp", "ipam": host_local(json!({"routes": [{"dst": "0.0.0.0/0"}]}))})
}

fn bridge() -> Value {
    json!({"type": "bridge", "bridge": "br0", "isDefaultGateway": true, "ipam": host_local(json!({}))})
}

fn with(config: &Value, more: Value) -> Value {
    let mut config = config.clone();
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

pub(crate) fn each_name_is_its_plugin() -> Result<()> {
    let (_lab, host) = host()?;
    let directory = programs::by_all_names()?;
    for name in programs::OTHER_NAMES {
        let program = directory.join(name).display().to_string();
        let asked = host.attempt([program.as_str()])?;
        let begin = format!("CNI {name} plugin v");
        ensure!(asked.stderr.starts_with(&begin), "{name}: {}", asked.stderr);
        let said = host.sh(&format!("CNI_COMMAND=VERSION {program} </dev/null"))?;
        ensure!(said.contains(r#""1.1.0"]"#), "{name}: {said}");
    }
    Ok(())
}

fn is_up(pod: &Pod, ifname: &str) -> Result<bool> {
    let links = ip(pod, &format!("link show dev {ifname}"))?;
    let flags = links[0]["flags"].as_array().context("no flags")?;
    Ok(flags.contains(&json!("UP")))
}

pub(crate) fn loopback_is_switched_on_and_off() -> Result<()> {
    let (_lab, hosts) = both()?;
    let mut results = Vec::new();
    for (host, side) in &hosts {
        let pod = host.pod_spec("web").create()?;
        let eth0 = target("c1", pod.netns());
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let config = json!({"type": "loopback", "cniVersion": version});
            pod.sh("ip link set lo down")?;
            let mut result = side.add(host, &eth0, &config)?;
            ensure!(is_up(&pod, "lo")?, "{version}: down");
            if version >= "0.4.0" {
                side.silent(host, "CHECK", &eth0, &after(&config, &result))?;
            }
            if let Some(interface) = result.pointer_mut("/interfaces/0/sandbox") {
                ensure!(*interface == json!(pod.netns()), "{interface}");
                *interface = Value::Null;
            }
            // In older versions the reference prints what the newest has.
            if version == "1.0.0" {
                results.push(result);
            }
            side.silent(host, "DEL", &eth0, &config)?;
            ensure!(!is_up(&pod, "lo")?, "{version}: up");
            if version >= "0.4.0" {
                side.refusal(host, "CHECK", &eth0, &config)?;
            }
        }
        let config = json!({"type": "loopback"});
        side.silent(host, "DEL", &nowhere("c1"), &config)?;
        pod.delete()?;
    }
    let (ours, theirs) = results.split_at(results.len() / 2);
    same(&[ours.to_vec(), theirs.to_vec()], &json!("loopback"))
}

pub(crate) fn loopback_passes_results_on() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    let pod = host.pod_spec("web").create()?;
    let before = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
        "ips": [{"interface": 0, "address": "10.1.2.3/24"}]});
    let config = after(&json!({"type": "loopback"}), &before);
    let result = side.add(&host, &target("c1", pod.netns()), &config)?;
    ensure!(result == before, "{result}");
    // The host's own `lo` is nobody's to switch off.
    let own = target("c1", "/proc/1/ns/net".as_ref());
    let own_by_path = target("c1", "/proc/self/ns/net".as_ref());
    for target in [own, own_by_path] {
        side.silent(&host, "DEL", &target, &json!({"type": "loopback"}))?;
    }
    ensure!(host.sh("ip -o link show lo")?.contains(",UP"), "lo is down");
    pod.delete()
}

/// A result without what the two sides choose for themselves: MACs, and the name of the host's end.
fn comparable(result: &Value) -> Value {
    let mut result = result.clone();
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        interface["mac"] = json!("some");
        if interface["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("veth"))
        {
            interface["name"] = json!("veth");
        }
        if !interface["sandbox"].is_null() {
            interface["sandbox"] = json!("some");
        }
    }
    result
}

/// What a side makes of a config, in the result, in the pod and on the link named; then everything is taken away.
fn story(host: &Host, side: &Side, config: &Value, segment: Option<&str>) -> Result<Vec<Value>> {
    let pod = host.pod_spec("web").create()?;
    let eth0 = target("c1", pod.netns());
    let result = side.add(host, &eth0, config)?;
    let host_end = result["interfaces"].as_array().context("no interfaces")?;
    let is_host_end = |known: &&Value| {
        known["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("veth"))
    };
    let host_end = host_end.iter().find(is_host_end).context("no host end")?;
    let host_end = host_end["name"].as_str().unwrap_or_default().to_owned();
    let mut told = vec![comparable(&result), json!(layout(&pod, "eth0")?)];
    let place = segment.unwrap_or(&host_end);
    told.push(json!(layout(host, place)?));
    let ends = [
        ip(&pod, "link show dev eth0")?,
        ip(host, &format!("link show dev {host_end}"))?,
    ];
    told.push(json!([
        ends[0][0]["mtu"],
        ends[1][0]["mtu"],
        ends[1][0]["master"]
    ]));
    let hairpin = &ends[1][0]["linkinfo"]["info_slave_data"]["hairpin"];
    told.push(hairpin.clone());
    if config["ipam"]["type"].is_string() {
        let gateways = result["ips"].as_array().context("no addresses")?;
        for gateway in gateways
            .iter()
            .filter_map(|known| known["gateway"].as_str())
        {
            pod.sh(&format!("ping -q -c 1 -W 5 {gateway}"))?;
        }
        if result["cniVersion"] == "1.0.0" {
            side.silent(host, "CHECK", &eth0, &after(config, &result))?;
        }
        told.push(json!(reservations(host)?));
    }
    side.silent(host, "DEL", &eth0, config)?;
    side.silent(host, "DEL", &eth0, config)?;
    told.push(json!(ip(&pod, "link show")?.len()));
    told.push(json!(reservations(host)?));
    ensure!(
        !host.sh("ip -o link")?.contains(&host_end),
        "{host_end} is left"
    );
    pod.delete()?;
    Ok(told)
}

fn compare(configs: &[Value], segment: Option<&str>) -> Result<()> {
    let (_lab, hosts) = both()?;
    for config in configs {
        let mut stories = Vec::new();
        for (host, side) in &hosts {
            stories.push(story(host, side, config, segment)?);
            host.sh(&format!("rm -rf {RESERVATIONS}"))?;
            if let Some(segment) = segment {
                host.sh(&format!("ip link delete {segment}"))?;
            }
        }
        same(&stories, config)?;
    }
    Ok(())
}

pub(crate) fn ptp_makes_what_the_reference_makes() -> Result<()> {
    let dual = json!({"ranges": [[{"subnet": SUBNET}], [{"subnet": "fd00:1:2::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.2.1"}]});
    let configs = [
        ptp(),
        with(
            &ptp(),
            json!({"mtu": 1400, "ipMasq": true, "isDefaultGateway": true, "dns": {"nameservers": ["192.0.2.53"]}}),
        ),
        json!({"type": "ptp", "ipam": host_local(dual)}),
        json!({"type": "ptp", "cniVersion": "0.3.1", "ipam": host_local(json!({}))}),
    ];
    compare(&configs, None)
}

pub(crate) fn bridge_makes_what_the_reference_makes() -> Result<()> {
    let dual = json!({"ranges": [[{"subnet": SUBNET}], [{"subnet": "fd00:1:2::/64"}]]});
    let configs = [
        bridge(),
        with(
            &bridge(),
            json!({"mtu": 1400, "ipMasq": true, "hairpinMode": true, "dns": {"domain": "a.test"}}),
        ),
        with(
            &bridge(),
            json!({"isDefaultGateway": false, "isGateway": true, "promiscMode": true}),
        ),
        with(&bridge(), json!({"ipam": host_local(dual)})),
        json!({"type": "bridge", "bridge": "br0"}),
        json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": {}}),
    ];
    compare(&configs, Some("br0"))
}

pub(crate) fn a_bridge_has_one_address_of_ipv4() -> Result<()> {
    let (_lab, hosts) = both()?;
    for (host, side) in &hosts {
        let pod = host.pod_spec("web").create()?;
        let eth0 = target("c1", pod.netns());
        host.sh(
            "ip link add br0 address 02:00:00:00:00:09 type bridge; ip address add 10.9.9.1/24 dev br0; ip link set br0 up",
        )?;
        let error = side.refusal(host, "ADD", &eth0, &bridge())?;
        let expected = "\"br0\" already has an IP address different from";
        ensure!(
            error.message.starts_with(expected) || error.message.contains(expected),
            "{error}"
        );
        ensure!(
            !reservations(host)?.contains_key("10.1.2.2"),
            "the address is not given back"
        );
        // The reference leaves the pair behind.
        side.silent(host, "DEL", &eth0, &bridge())?;
        let force = with(&bridge(), json!({"forceAddress": true}));
        side.add(host, &eth0, &force)?;
        let lines = layout(host, "br0")?;
        ensure!(
            lines.contains(&"address \"10.1.2.1\"/24".to_owned()),
            "{lines:?}"
        );
        ensure!(
            !lines.iter().any(|line| line.contains("10.9.9")),
            "{lines:?}"
        );
        side.silent(host, "DEL", &eth0, &force)?;
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn isolated_pods_do_not_meet() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    let config = with(&bridge(), json!({"portIsolation": true}));
    let pods = [
        host.pod_spec("one").create()?,
        host.pod_spec("two").create()?,
    ];
    let mut addresses = Vec::new();
    for (pod, id) in pods.iter().zip(["one", "two"]) {
        let result = side.add(&host, &target(id, pod.netns()), &config)?;
        addresses.push(crate::scene::address(&result)?);
    }
    let open = host.pod_spec("three").create()?;
    side.add(&host, &target("three", open.netns()), &bridge())?;
    for address in &addresses {
        open.sh(&format!("ping -q -c 1 -W 5 {address}"))?;
    }
    pods[0].sh("ping -q -c 1 -W 5 10.1.2.1")?;
    let meet = pods[0].attempt(["ping", "-q", "-c", "1", "-W", "1", &addresses[1]])?;
    ensure!(!meet.status.success(), "isolated pods reach each other");
    for (pod, id) in pods.into_iter().chain([open]).zip(["one", "two", "three"]) {
        side.silent(&host, "DEL", &target(id, pod.netns()), &config)?;
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn a_pod_keeps_its_mac() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    if !host
        .attempt(["nft", "add table bridge probe; delete table bridge probe"])?
        .status
        .success()
    {
        return skip("this kernel has no nf_tables for bridges");
    }
    let config = with(
        &bridge(),
        json!({"macspoofchk": true, "cniVersion": "1.1.0"}),
    );
    let tables = || host.sh("nft list tables");
    let pod = host.pod_spec("web").create()?;
    let eth0 = target("c1", pod.netns());
    let result = side.add(&host, &eth0, &config)?;
    pod.sh("ping -q -c 1 -W 5 10.1.2.1")?;
    let mac = result["interfaces"][2]["mac"].as_str().context("no MAC")?;
    let ruleset = host.sh("nft list ruleset")?;
    ensure!(
        ruleset.contains(&format!("ether saddr != {mac} drop")),
        "{ruleset}"
    );

    pod.sh("ip link set eth0 address 02:00:00:00:00:66")?;
    let forged = pod.attempt(["ping", "-q", "-c", "1", "-W", "1", "10.1.2.1"])?;
    ensure!(!forged.status.success(), "a forged MAC passes");
    pod.sh(&format!(
        "ip link set eth0 address {mac}; ping -q -c 1 -W 5 10.1.2.1"
    ))?;

    side.silent(&host, "DEL", &target("c1", "".as_ref()), &config)?;
    ensure!(!tables()?.contains("bridge"), "{}", tables()?);
    // Without a DEL the table stays behind, until GC.
    side.add(&host, &eth0, &config)?;
    pod.delete()?;
    eventually("the link is gone", Duration::from_secs(10), || {
        let links = host.sh("ip -o link")?;
        ensure!(!links.contains(": veth"), "{links}");
        Ok(())
    })?;
    ensure!(tables()?.contains("bridge"), "{}", tables()?);
    let order = with(&config, json!({"cni.dev/valid-attachments": []}));
    side.silent(&host, "GC", &nowhere("any"), &order)?;
    ensure!(!tables()?.contains("bridge"), "{}", tables()?);

    // A failed ADD leaves none either.
    let pod = host.pod_spec("other").create()?;
    pod.sh("ip link add eth0 type bridge")?;
    side.refusal(&host, "ADD", &target("c2", pod.netns()), &config)?;
    ensure!(!tables()?.contains("bridge"), "{}", tables()?);
    pod.delete()
}

pub(crate) fn an_interface_can_stay_off() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    let pod = host.pod_spec("web").create()?;
    let eth0 = target("c1", pod.netns());
    let off = json!({"type": "bridge", "bridge": "br0", "disableContainerInterface": true});
    let result = side.add(&host, &eth0, &off)?;
    ensure!(!is_up(&pod, "eth0")?, "it is on");
    side.silent(&host, "CHECK", &eth0, &after(&off, &result))?;
    side.silent(&host, "DEL", &eth0, &off)?;
    let both = with(&bridge(), json!({"disableContainerInterface": true}));
    let error = side.refusal(&host, "ADD", &eth0, &both)?;
    ensure!(
        error.message.contains("disableContainerInterface"),
        "{error}"
    );
    pod.delete()
}

pub(crate) fn what_the_kernel_lacks_is_refused() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    let pod = host.pod_spec("web").create()?;
    let eth0 = target("c1", pod.netns());
    for (more, key) in [
        (json!({"vlan": 100}), "vlan"),
        (json!({"vlanTrunk": [{"id": 7}]}), "vlanTrunk"),
        (json!({"enabledad": true}), "enabledad"),
        (json!({"ipMasqBackend": "pf"}), "ipMasqBackend"),
    ] {
        let error = side.refusal(&host, "ADD", &eth0, &with(&bridge(), more))?;
        ensure!(error.code == 2 && error.message.contains(key), "{error}");
    }
    ensure!(reservations(&host)?.is_empty(), "an address is reserved");
    pod.delete()
}

pub(crate) fn addresses_may_come_from_another_plugin() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours_and_more()?);
    let pod = host.pod_spec("web").create()?;
    let eth0 = target("c1", pod.netns());
    let fixed =
        json!({"type": "static", "addresses": [{"address": "10.1.2.9/24", "gateway": "10.1.2.1"}]});
    for config in [
        with(&ptp(), json!({"ipam": fixed})),
        with(&bridge(), json!({"ipam": fixed, "ipMasq": true})),
    ] {
        let result = side.add(&host, &eth0, &config)?;
        ensure!(result["ips"][0]["address"] == "10.1.2.9/24", "{result}");
        pod.sh("ping -q -c 1 -W 5 10.1.2.1")?;
        side.silent(&host, "CHECK", &eth0, &after(&config, &result))?;
        side.silent(&host, "DEL", &eth0, &config)?;
    }
    let missing = with(&ptp(), json!({"ipam": {"type": "nobody"}}));
    let error = side.refusal(&host, "ADD", &eth0, &missing)?;
    ensure!(error.message.contains("nobody"), "{error}");
    pod.delete()
}

pub(crate) fn a_failed_add_gives_its_address_back() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    let pod = host.pod_spec("web").create()?;
    pod.sh("ip link add eth0 type bridge")?;
    let eth0 = target("c1", pod.netns());
    for config in [ptp(), bridge()] {
        let error = side.refusal(&host, "ADD", &eth0, &config)?;
        ensure!(error.code == 102, "{error}");
        let left = reservations(&host)?;
        ensure!(!left.keys().any(|name| name.starts_with("10.")), "{left:?}");
        ensure!(!host.sh("ip -o link")?.contains(": veth"), "a link is left");
        // What is no veth is not this plugin's.
        side.silent(&host, "DEL", &eth0, &config)?;
        pod.sh("ip link show dev eth0")?;
    }
    pod.delete()
}

pub(crate) fn del_needs_nothing_but_the_name() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    for config in [ptp(), bridge()] {
        let pod = host.pod_spec("web").create()?;
        let eth0 = target("c1", pod.netns());
        side.add(&host, &eth0, &config)?;
        let second = side.refusal(&host, "ADD", &eth0, &config)?;
        ensure!(second.code == 102 || second.code == 101, "{second}");
        let without = target("c1", "".as_ref());
        side.silent(&host, "DEL", &without, &config)?;
        ensure!(!host.sh("ip -o link")?.contains(": veth"), "a link is left");
        let left = reservations(&host)?;
        ensure!(!left.keys().any(|name| name.starts_with("10.")), "{left:?}");
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn gc_detaches_what_nobody_knows() -> Result<()> {
    let ((_lab, host), side) = (host()?, ours()?);
    for config in [ptp(), bridge()] {
        let config = with(&config, json!({"cniVersion": "1.1.0"}));
        let pods = [
            host.pod_spec("one").create()?,
            host.pod_spec("two").create()?,
        ];
        for (pod, id) in pods.iter().zip(["one", "two"]) {
            side.add(&host, &target(id, pod.netns()), &config)?;
        }
        let valid = json!([{"containerID": "two", "ifname": "eth0"}]);
        let order = with(&config, json!({"cni.dev/valid-attachments": valid}));
        side.silent(&host, "GC", &nowhere("any"), &order)?;
        let left = reservations(&host)?;
        let held: Vec<_> = left
            .values()
            .filter(|content| content.contains("eth0"))
            .collect();
        ensure!(held == ["two\r\neth0"], "{left:?}");
        ensure!(host.sh("ip -o link")?.matches(": veth").count() == 1);
        let [one, two] = pods;
        side.silent(&host, "DEL", &target("two", two.netns()), &config)?;
        one.delete()?;
        two.delete()?;
    }
    Ok(())
}
