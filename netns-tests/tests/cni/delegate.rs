//! Plugins of others that do a part of the work: Debian's macvlan and static, and fakes with every fault there is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Host, eventually};
use serde_json::{Value, json};

use crate::scene::{self, Answer, Call, bridge, host, ip_json, routed};

const RESERVATIONS: &str = "/var/lib/cni/networks/cbr0";
const SCRATCH: &str = "/var/lib/cni/flannel";
const RECORDS: &str = "/run/loden/ipam/cbr0/attachments";

/// Where the fakes are.
const FAKES: &str = "/run/fakes";

/// What a fake keeps for every attachment it has made.
const MADE: &str = "/run/fakes/made";

/// What a fake was called with.
const LOG: &str = "/run/fakes/log";

/// A delegate that Debian's plugins do, who know no later version.
fn macvlan() -> Value {
    json!({"type": "flannel", "cniVersion": "1.0.0", "delegate": {"type": "macvlan", "master": "up0"}})
}

/// `plugin` with its addresses from Debian's `static`.
fn with_static(mut plugin: Value, address: &str) -> Value {
    plugin["cniVersion"] = json!("1.0.0");
    plugin["ipam"] = json!({"type": "static", "addresses": [{"address": address, "gateway": "10.244.1.1"}],
        "routes": [{"dst": "0.0.0.0/0"}]});
    plugin
}

fn names_in(host: &Host, directory: &str) -> Result<Vec<String>> {
    let directory = host.path(directory);
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let names =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// No record, no scratch file, no reservation, nothing that a fake keeps.
fn nothing_known(host: &Host) -> Result<()> {
    for directory in [RECORDS, SCRATCH, RESERVATIONS, MADE] {
        let mut names = names_in(host, directory)?;
        names.retain(|name| name != "lock" && !name.starts_with("last_reserved_ip."));
        ensure!(names.is_empty(), "left in {directory}: {names:?}");
    }
    Ok(())
}

/// A plugin of this name that notes each call and does as the script says.
fn fake(host: &Host, name: &str, script: &str) -> Result<()> {
    fs::create_dir_all(host.path(MADE))?;
    let path = host.path(FAKES).join(name);
    let prologue = format!(
        "#!/bin/sh\nconfig=$(cat)\nmade={MADE}/$CNI_CONTAINERID\n\
         echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME ${{CNI_NETNS:-none}} $config\" >>{LOG}\n"
    );
    fs::write(&path, prologue + script)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

fn calls(host: &Host) -> Result<Vec<String>> {
    let log = fs::read_to_string(host.path(LOG)).unwrap_or_default();
    Ok(log.lines().map(str::to_owned).collect())
}

/// What every good fake does with a DEL.
const WELL: &str = "test $CNI_COMMAND = DEL && rm -f $made && exit 0\n";

const RESULT: &str = r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.99/24"}]}'"#;

fn faked() -> Value {
    json!({"type": "flannel", "delegate": {"type": "fake", "members": [1]}})
}

fn by_fake(verb: &str, netns: &str, plugin: &Value) -> Call {
    Call::new(verb, netns, plugin).with("CNI_PATH", FAKES)
}

pub(crate) fn a_delegate_of_others_attaches() -> Result<()> {
    let (_lab, host) = host()?;
    host.sh("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up")?;
    let before = host.snapshot()?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let plugin = macvlan();
    let add = Call::new("ADD", &netns, &plugin);
    let result = add.run(&host)?.result()?;
    ensure!(result["cniVersion"] == "1.0.0", "{result}");
    let link = ip_json(&pod, &["link", "show", "eth0"])?;
    ensure!(link[0]["linkinfo"]["info_kind"] == "macvlan", "{link}");
    ensure!(link[0]["mtu"] == 1450, "{link}");
    let address = result["ips"][0]["address"].as_str().context("no address")?;
    ensure!(address.starts_with("10.244.1."), "{result}");
    // As flannel's program hands it over.
    let noted: Value = serde_json::from_str(&fs::read_to_string(host.path(SCRATCH).join("c1"))?)?;
    let expected = json!({"name": "cbr0", "cniVersion": "1.0.0", "type": "macvlan", "master": "up0", "mtu": 1450,
        "ipMasq": false, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "10.244.0.0/16"}]}});
    ensure!(noted == expected, "{noted}");

    add.run(&host)?.refusal(101)?;
    let del = Call::new("DEL", &netns, &plugin);
    del.run(&host)?.silent()?;
    let links = ip_json(&pod, &["link", "show"])?.to_string();
    ensure!(!links.contains("eth0"), "{links}");
    del.run(&host)?.silent()?;
    nothing_known(&host)?;
    pod.delete()?;
    // What stays are directories.
    let mut difference = host.snapshot()?.diff(&before);
    for lines in [&mut difference.gone, &mut difference.new] {
        lines.retain(|line| !line.starts_with("file "));
    }
    ensure!(difference.is_empty(), "the host changed:\n{difference}");
    Ok(())
}

pub(crate) fn addresses_may_come_from_another_plugin() -> Result<()> {
    let (_lab, hosts) = scene::both()?;
    for (host, plugin) in hosts {
        let plugin = with_static(plugin, "10.244.1.77/24");
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        let add = Call::new("ADD", &netns, &plugin);
        let result = add.run(&host)?.result()?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        ensure!(address.starts_with("10.244.1.77/"), "{result}");
        host.exec(["ping", "-c1", "-W3", "10.244.1.77"])?;
        pod.exec(["ping", "-c1", "-W3", "10.244.1.1"])?;
        add.run(&host)?.refusal(101)?;
        let mut checked = plugin.clone();
        checked["prevResult"] = result;
        Call::new("CHECK", &netns, &checked).run(&host)?.silent()?;

        // An ADD that fails after the addresses were given gives them back, and so does a DEL whose pod is gone.
        let refused = Call::new(
            "ADD",
            &netns,
            &with_static(plugin.clone(), "10.244.1.78/24"),
        )
        .with("CNI_CONTAINERID", "c2");
        refused.run(&host)?.refusal(102)?;
        pod.delete()?;
        Call::new("DEL", "", &plugin).run(&host)?.silent()?;
        nothing_known(&host)?;
    }
    Ok(())
}

pub(crate) fn del_calls_whom_the_add_called() -> Result<()> {
    let (_lab, host) = host()?;
    let script = format!("{WELL}test $CNI_COMMAND = ADD && touch $made && {RESULT}");
    fake(&host, "fake", &script)?;
    let ipam_faked =
        json!({"type": "flannel", "delegate": {"type": "ptp"}, "ipam": {"type": "fake"}});
    for plugin in [faked(), ipam_faked] {
        let pod = host.pod_spec("web").create()?;
        let netns = pod.netns().display().to_string();
        by_fake("ADD", &netns, &plugin).run(&host)?.result()?;
        ensure!(names_in(&host, MADE)? == ["c1"], "nothing was made");
        let told = calls(&host)?.pop().context("no call")?;
        let told = told.split_once('{').context("no config")?.1.to_owned();
        // The config has changed, the daemon has lost its subnet, and the path leads to the host itself by now.
        fs::rename(
            host.path("/run/flannel/subnet.env"),
            host.path("/run/subnet.env"),
        )?;
        by_fake("DEL", "/proc/self/ns/net", &bridge())
            .run(&host)?
            .silent()?;
        fs::rename(
            host.path("/run/subnet.env"),
            host.path("/run/flannel/subnet.env"),
        )?;
        let call = calls(&host)?.pop().context("no call")?;
        let (about, config) = call.split_once('{').context("no config")?;
        ensure!(about == "DEL c1 eth0 none ", "{about}");
        ensure!(config == told, "{config}");
        nothing_known(&host)?;
        pod.delete()?;
    }
    // Nobody is called for what was never there.
    let before = calls(&host)?.len();
    by_fake("DEL", "", &faked()).run(&host)?.silent()?;
    ensure!(calls(&host)?.len() == before, "called for nothing");
    Ok(())
}

pub(crate) fn what_a_faulty_delegate_began_is_taken_back() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let ipam_faked =
        json!({"type": "flannel", "delegate": {"type": "ptp"}, "ipam": {"type": "fake"}});
    for (fault, code, word) in [
        ("echo nonsense", 105, "JSON"),
        ("kill -9 $$", 105, "signal 9"),
        ("yes", 105, "4 MiB"),
        ("exit 3", 105, "exit status 3"),
        (
            r#"echo '{"code":107,"msg":"no way"}'; exit 1"#,
            107,
            "no way",
        ),
    ] {
        fake(&host, "fake", &format!("{WELL}touch $made\n{fault}"))?;
        for plugin in [faked(), ipam_faked.clone()] {
            let message = by_fake("ADD", &netns, &plugin).run(&host)?.refusal(code)?;
            ensure!(
                message.contains(word) && message.contains("fake"),
                "{message}"
            );
            nothing_known(&host)?;
        }
    }

    // One that cannot take back either is called again by the DEL.
    let stubborn = "touch $made\ntest -e /run/fakes/heal && test $CNI_COMMAND = DEL && rm $made && exit 0\n\
        echo '{\"code\":107,\"msg\":\"no way\"}'; exit 1";
    fake(&host, "fake", stubborn)?;
    let message = by_fake("ADD", &netns, &faked()).run(&host)?.refusal(107)?;
    ensure!(message.contains("could not be undone"), "{message}");
    by_fake("DEL", &netns, &faked()).run(&host)?.refusal(107)?;
    fs::write(host.path("/run/fakes/heal"), "")?;
    by_fake("DEL", &netns, &faked()).run(&host)?.silent()?;
    nothing_known(&host)?;

    // One that brings us down: the DEL calls it, without any help from the config.
    fake(
        &host,
        "fake",
        &format!("{WELL}touch $made\nkill -9 $PPID\nsleep 1"),
    )?;
    let killed: Answer = by_fake("ADD", &netns, &faked()).run(&host)?;
    ensure!(
        !killed.status.success() && killed.stdout.is_empty(),
        "{killed:?}"
    );
    by_fake("DEL", "", &routed()).run(&host)?.silent()?;
    nothing_known(&host)?;
    pod.delete()
}

pub(crate) fn an_add_at_work_is_not_taken_over() -> Result<()> {
    let (_lab, host) = host()?;
    let slow =
        format!("{WELL}touch $made\nwhile ! test -e /run/fakes/go; do sleep 0.01; done\n{RESULT}");
    fake(&host, "fake", &slow)?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let add = by_fake("ADD", &netns, &faked());
    std::thread::scope(|scope| -> Result<()> {
        let first = scope.spawn(|| add.run(&host)?.result());
        eventually("the first ADD is at work", Duration::from_secs(10), || {
            let names = names_in(&host, MADE)?;
            ensure!(names == ["c1"], "{names:?}");
            Ok(())
        })?;
        let message = add.run(&host)?.refusal(11)?;
        ensure!(message.contains("c1"), "{message}");
        fs::write(host.path("/run/fakes/go"), "")?;
        first.join().map_err(|_| anyhow::anyhow!("panic"))??;
        Ok(())
    })?;
    add.run(&host)?.refusal(101)?;
    by_fake("DEL", &netns, &faked()).run(&host)?.silent()?;
    nothing_known(&host)?;
    pod.delete()
}

pub(crate) fn a_delegate_that_hangs_is_killed() -> Result<()> {
    let (_lab, host) = host()?;
    fake(&host, "fake", &format!("{WELL}touch $made\nsleep 1000"))?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let begin = Instant::now();
    let message = by_fake("ADD", &netns, &faked()).run(&host)?.refusal(11)?;
    ensure!(message.contains("fake"), "{message}");
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(50), "{took:?}");
    nothing_known(&host)?;
    let processes = host.sh("ps -e -o args= | grep -c '[s]leep 1000' || true")?;
    ensure!(processes.trim() == "0", "{processes} processes are left");
    pod.delete()
}

pub(crate) fn a_delegate_is_asked_whether_all_is_well() -> Result<()> {
    let (_lab, host) = host()?;
    let script = format!(
        "{WELL}test $CNI_COMMAND = ADD && {RESULT}\ntest -e /run/fakes/broken || exit 0\n\
         echo '{{\"code\":107,\"msg\":\"broken\"}}'; exit 1"
    );
    fake(&host, "fake", &script)?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let mut plugin = faked();
    plugin["prevResult"] = by_fake("ADD", &netns, &plugin).run(&host)?.result()?;
    // It is asked by the config of the ADD, whatever that of today says.
    plugin["delegate"] = json!({"type": "ptp"});
    let check = by_fake("CHECK", &netns, &plugin);
    check.run(&host)?.silent()?;
    let call = calls(&host)?.pop().context("no call")?;
    ensure!(
        call.starts_with("CHECK c1 eth0 /")
            && call.contains("members")
            && call.contains("prevResult"),
        "{call}"
    );
    fs::write(host.path("/run/fakes/broken"), "")?;
    let message = check.run(&host)?.refusal(107)?;
    ensure!(message.contains("broken"), "{message}");
    fs::remove_file(host.path("/run/fakes/broken"))?;
    by_fake("DEL", &netns, &plugin).run(&host)?.silent()?;
    pod.delete()
}

pub(crate) fn a_delegate_is_asked_for_its_status() -> Result<()> {
    let (_lab, host) = host()?;
    let status = by_fake("STATUS", "", &faked());
    for (script, code) in [
        ("exit 0", None),
        (r#"echo '{"code":51,"msg":"limited"}'; exit 1"#, Some(51)),
        (
            r#"echo '{"code":4,"msg":"unknown CNI_COMMAND"}'; exit 1"#,
            None,
        ),
    ] {
        fake(&host, "fake", script)?;
        let answer = status.run(&host)?;
        match code {
            None => answer.silent()?,
            Some(code) => ensure!(answer.refusal(code)?.contains("limited")),
        }
        let call = calls(&host)?.pop().context("no call")?;
        ensure!(
            call.starts_with("STATUS ") && call.contains(r#""members":[1]"#),
            "{call}"
        );
    }
    fs::remove_file(host.path(FAKES).join("fake"))?;
    let message = status.run(&host)?.refusal(50)?;
    ensure!(message.contains(FAKES), "{message}");
    Ok(())
}

pub(crate) fn a_delegate_collects_too() -> Result<()> {
    let (_lab, host) = host()?;
    let script = format!("{WELL}test $CNI_COMMAND = ADD && touch $made && {RESULT}; exit 0");
    fake(&host, "fake", &script)?;
    let pods = [
        host.pod_spec("one").create()?,
        host.pod_spec("other").create()?,
    ];
    for (pod, id) in pods.iter().zip(["c1", "c2"]) {
        let add = by_fake("ADD", &pod.netns().display().to_string(), &faked());
        add.with("CNI_CONTAINERID", id).run(&host)?.result()?;
    }
    let mut config = faked();
    config["gcGrace"] = json!(0);
    config["cni.dev/valid-attachments"] = json!([{"containerID": "c2", "ifname": "eth0"}]);
    by_fake("GC", "", &config).run(&host)?.silent()?;
    ensure!(names_in(&host, MADE)? == ["c2"] && names_in(&host, SCRATCH)? == ["c2"]);
    let calls = calls(&host)?;
    let [.., del, gc] = &calls[..] else {
        anyhow::bail!("{calls:?}");
    };
    ensure!(del.starts_with("DEL c1 eth0 /"), "{del}");
    ensure!(
        gc.starts_with("GC ") && gc.contains("valid-attachments"),
        "{gc}"
    );

    config["cni.dev/valid-attachments"] = json!([]);
    by_fake("GC", "", &config).run(&host)?.silent()?;
    nothing_known(&host)?;
    pods.into_iter().try_for_each(netns_tests::Pod::delete)
}
