//! Bad input: refused with the right code and a text that helps, and nothing has changed.

use std::fs::File;
use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use netns_tests::{Endpoint, programs};
use serde_json::json;

use crate::scene::{self, Call, bridge, host, routed};

pub(crate) fn stdin_that_is_no_config_is_refused() -> Result<()> {
    let (_lab, host) = host()?;
    let before = host.snapshot()?;
    let add = Call::new("ADD", "/run/netns/none", &bridge());
    for (stdin, code) in [
        ("", 6),
        ("\n", 6),
        ("{", 6),
        ("nonsense", 6),
        ("[]", 6),
        (r#"{"name":"a"} {}"#, 6),
        (r#"{"name":7}"#, 6),
        ("{}", 7),
        (r#"{"name":""}"#, 7),
        (r#"{"name":"a/b"}"#, 7),
        (r#"{"name":"a","cniVersion":"0.9.0"}"#, 1),
    ] {
        let answer = add.clone().stdin(stdin).run(&host)?;
        answer.refusal(code)?;
        ensure!(answer.stderr.is_empty(), "{answer:?}");
    }
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let mut plugin = bridge();
        plugin["cniVersion"] = json!(version);
        let answer = Call::new(verb, "/run/netns/none", &plugin).run(&host)?;
        let message = answer.refusal(1)?;
        // The words of the reference, to which its suites hold a plugin.
        ensure!(
            message == format!("config version does not allow {verb}"),
            "{message}"
        );
    }
    scene::unchanged(&host, &before)
}

pub(crate) fn a_missing_environment_is_refused() -> Result<()> {
    let (_lab, host) = host()?;
    let add = Call::new("ADD", "/run/netns/none", &bridge());
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
    for name in all {
        let message = add.clone().without(name).run(&host)?.refusal(4)?;
        ensure!(message.contains(name), "{message}");
        let message = add.clone().with(name, "").run(&host)?.refusal(4)?;
        ensure!(message.contains(name), "{message}");
    }
    let bare = all
        .iter()
        .fold(add.clone(), |call, name| call.without(name));
    let message = bare.run(&host)?.refusal(4)?;
    ensure!(all.iter().all(|name| message.contains(name)), "{message}");
    for (name, value) in [
        ("CNI_CONTAINERID", "-x"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a:b"),
        ("CNI_COMMAND", "INIT"),
    ] {
        let message = add.clone().with(name, value).run(&host)?.refusal(4)?;
        ensure!(
            message.contains(name) && message.contains(value),
            "{message}"
        );
    }
    Ok(())
}

pub(crate) fn a_netns_path_that_is_none_is_refused() -> Result<()> {
    let (_lab, host) = host()?;
    let before = host.snapshot()?;
    for plugin in [routed(), bridge()] {
        for path in ["/etc/passwd", "/run", "/proc/self/ns/mnt", "/dev/null"] {
            let message = Call::new("ADD", path, &plugin).run(&host)?.refusal(8)?;
            ensure!(message.contains(path), "{message}");
        }
        // The container is gone, so the runtime need not clean up.
        for path in ["/run/netns/none", "/proc/999999/ns/net"] {
            let message = Call::new("ADD", path, &plugin).run(&host)?.refusal(3)?;
            ensure!(message.contains(path), "{message}");
        }
    }
    scene::unchanged(&host, &before)
}

pub(crate) fn the_own_netns_is_refused() -> Result<()> {
    let (_lab, host) = host()?;
    let before = host.snapshot()?;
    for plugin in [routed(), bridge()] {
        let add = Call::new("ADD", "/proc/self/ns/net", &plugin);
        add.run(&host)?.refusal(8)?;
        scene::unchanged(&host, &before)?;
    }
    // Who insists gets it. Both ends are on the host then, which cannot be its own gateway.
    let layer_2 = json!({"type": "flannel", "delegate": {"isGateway": false}});
    let insist = |verb: &str| {
        Call::new(verb, "/proc/self/ns/net", &layer_2)
            .with("CNI_IFNAME", "inner0")
            .with("CNI_NETNS_OVERRIDE", "true")
    };
    insist("ADD").run(&host)?.result()?;
    ensure!(!host.snapshot()?.lines_of("link inner0").is_empty());
    insist("DEL").run(&host)?.silent()?;
    ensure!(host.snapshot()?.lines_of("link inner0").is_empty());
    Ok(())
}

pub(crate) fn a_missing_subnet_file_names_the_daemon() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let add = Call::new("ADD", &netns, &bridge());
    std::fs::remove_file(host.path("/run/flannel/subnet.env"))?;
    let before = host.snapshot()?;
    let message = add.run(&host)?.refusal(11)?;
    ensure!(
        message.contains("flanneld") && message.contains("/run/flannel/subnet.env"),
        "{message}"
    );
    for text in [
        "",
        "FLANNEL_MTU\n",
        "FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n",
    ] {
        scene::give_subnet(&host, text)?;
        let message = add.run(&host)?.refusal(11)?;
        ensure!(message.contains("flanneld"), "{message}");
    }
    std::fs::remove_file(host.path("/run/flannel/subnet.env"))?;
    scene::unchanged(&host, &before)?;

    scene::give_subnet(&host, scene::SUBNET_ENV)?;
    std::fs::rename(
        host.path("/run/flannel/subnet.env"),
        host.path("/run/other.env"),
    )?;
    let mut elsewhere = routed();
    elsewhere["subnetFile"] = json!("/run/other.env");
    Call::new("ADD", &netns, &elsewhere).run(&host)?.result()?;
    Call::new("DEL", &netns, &elsewhere).run(&host)?.silent()?;
    pod.delete()
}

pub(crate) fn an_exhausted_pool_has_its_code() -> Result<()> {
    let (_lab, host) = host()?;
    scene::give_subnet(
        &host,
        &scene::SUBNET_ENV.replace("10.244.1.1/24", "10.244.1.1/30"),
    )?;
    for plugin in [routed(), bridge()] {
        let first = host
            .pod_spec("first")
            .conflist(&scene::alone(&plugin))
            .attach()?;
        let pod = host.pod_spec("second").create()?;
        let before = host.snapshot()?;
        let add = Call::new("ADD", &pod.netns().display().to_string(), &plugin);
        let message = add.run(&host)?.refusal(100)?;
        ensure!(message.contains("10.244.1."), "{message}");
        scene::unchanged(&host, &before)?;
        // The only address comes back, however young.
        first.delete()?;
        add.run(&host)?.result()?;
        Call::new("DEL", "", &plugin).run(&host)?.silent()?;
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn unsupported_delegates_are_named() -> Result<()> {
    let (_lab, host) = host()?;
    let pod = host.pod_spec("web").create()?;
    let netns = pod.netns().display().to_string();
    let before = host.snapshot()?;
    for (delegate, code, word) in [
        (json!({"type": "nonesuch"}), 105, "/usr/lib/cni"),
        (json!({"type": "../cni/macvlan"}), 7, "macvlan"),
        (json!({"vlan": 7}), 2, "vlan"),
        (json!({"macspoofchk": true}), 2, "macspoofchk"),
        (json!({"name": "other"}), 7, "delegate.name"),
        (json!({"ipam": {}}), 7, "delegate.ipam"),
        (
            json!({"hairpinMode": true, "promiscMode": true}),
            7,
            "promiscMode",
        ),
        (json!({"bridge": "eth0"}), 102, "eth0"),
        (json!({"mtu": "large"}), 6, "mtu"),
    ] {
        let plugin = json!({"type": "flannel", "delegate": delegate});
        let message = Call::new("ADD", &netns, &plugin)
            .run(&host)?
            .refusal(code)?;
        ensure!(message.contains(word), "{message}");
    }
    host.snapshot()?
        .diff(&before)
        .new
        .iter()
        .try_for_each(|line| {
            let stays = line.contains("/ mode") || line.contains("/last_reserved_ip.");
            let stays = stays && line.starts_with("file /var/lib/cni/");
            ensure!(stays || line.starts_with("file /run/loden"), "{line}");
            Ok(())
        })?;
    pod.delete()
}

/// A runtime that has closed our stdout does not know of the attachment, so there must be none.
pub(crate) fn a_result_that_cannot_be_told_is_taken_back() -> Result<()> {
    let (_lab, host) = host()?;
    for plugin in [routed(), bridge()] {
        host.pod_spec("first")
            .conflist(&scene::alone(&plugin))
            .attach()?
            .delete()?;
        let pod = host.pod_spec("web").create()?;
        let before = host.snapshot()?;
        let mut config = plugin.clone();
        config["name"] = json!("cbr0");
        std::fs::write(host.path("/run/config.json"), config.to_string())?;
        let mut command = std::process::Command::new(programs::find("flannel")?);
        command
            .arg0("flannel")
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", pod.netns())
            .env("CNI_PATH", "/usr/lib/cni")
            .stdin(File::open(host.path("/run/config.json"))?)
            .stdout(File::options().write(true).open("/dev/full")?);
        let status = host.run(|| command.status())??;
        ensure!(!status.success());
        std::fs::remove_file(host.path("/run/config.json"))?;
        scene::unchanged(&host, &before)?;
        pod.delete()?;
    }
    Ok(())
}

pub(crate) fn version_and_banner() -> Result<()> {
    let (_lab, host) = host()?;
    let version = Call::new("VERSION", "", &bridge());
    for call in [
        version.clone(),
        version.clone().stdin(""),
        version.clone().stdin("{"),
    ] {
        let result = call.run(&host)?.result()?;
        ensure!(result["cniVersion"] == "1.1.0", "{result}");
        let supported = result["supportedVersions"].as_array().map(Vec::len);
        ensure!(supported == Some(7), "{result}");
    }
    let answer = version.without("CNI_COMMAND").run(&host)?;
    ensure!(
        answer.status.success() && answer.stdout.is_empty(),
        "{answer:?}"
    );
    ensure!(
        answer.stderr.starts_with("CNI flannel plugin v"),
        "{answer:?}"
    );
    ensure!(
        answer.stderr.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        "{answer:?}"
    );
    Ok(())
}
