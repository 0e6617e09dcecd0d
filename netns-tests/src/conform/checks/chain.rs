//! The plugin in a chain: with a prevResult before it, and with reference plugins behind it that need things in its result.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::conform::call::{Call, needed};
use crate::conform::catalogue::{Check, Verdict, fails, inapplicable, require};
use crate::conform::checks::result::host_end;
use crate::conform::place::HOST_ADDRESS;
use crate::conform::result;
use crate::conform::scene::{Attached, NETWORK, Scene};
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;
use crate::endpoint::Endpoint;
use crate::traffic::Traffic;

const INTERFACE: &[Kind] = &[Kind::Interface];

/// The container's port and the host's.
const PORTS: (u16, u16) = (80, 8080);

pub(super) const CHECKS: &[Check] = &[
    Check::expected(
        "chain.prev-result-accepted",
        Verb::Add,
        "spec: prevResult",
        "ADD succeeds when a plugin before it passed a prevResult",
        previous_accepted,
    )
    .only(INTERFACE),
    Check::quality(
        "chain.prev-result-kept",
        Verb::Add,
        "spec: prevResult",
        "interfaces of a prevResult are in the result",
        previous_kept,
    )
    .only(INTERFACE),
    Check::expected(
        "chain.portmap",
        Verb::Add,
        "portmap",
        "portmap behind it succeeds, from ADD to DEL",
        portmap,
    )
    .only(INTERFACE),
    Check::expected(
        "chain.portmap-forwards",
        Verb::Add,
        "portmap",
        "with portmap behind it, the host's port leads to the container",
        portmap_forwards,
    )
    .only(INTERFACE),
    Check::expected(
        "chain.bandwidth",
        Verb::Add,
        "bandwidth",
        "bandwidth behind it succeeds, from ADD to DEL",
        bandwidth,
    )
    .only(INTERFACE),
    Check::expected(
        "chain.tuning",
        Verb::Add,
        "tuning",
        "tuning behind it succeeds, and CHECK accepts what it changed",
        tuning,
    )
    .only(INTERFACE),
    Check::expected(
        "chain.leaves-nothing",
        Verb::Del,
        "spec: DEL",
        "with portmap behind it, DEL of both leaves nothing",
        leaves_nothing,
    )
    .only(INTERFACE),
];

fn foreign_previous(scene: &Scene<'_>) -> Verdict<Value> {
    if !scene.version.lists_interfaces() {
        return inapplicable("prevResult exists since 0.3.0");
    }
    Ok(json!({
        "cniVersion": scene.version,
        "interfaces": [{"name": "before0", "mac": "02:00:00:00:00:07"}],
        "dns": {"nameservers": ["192.0.2.53"]},
    }))
}

fn previous_accepted(scene: &Scene<'_>) -> Verdict {
    let previous = foreign_previous(scene)?;
    let container = scene.container()?;
    let call = scene.own_call(&container).key("prevResult", previous);
    call.run()?.document().map(drop)
}

fn previous_kept(scene: &Scene<'_>) -> Verdict {
    let previous = foreign_previous(scene)?;
    let container = scene.container()?;
    let call = scene.own_call(&container).key("prevResult", previous);
    let result = needed("ADD with prevResult", call.run()?.document())?;
    let names = |name: &str| {
        result::interfaces(&result)
            .iter()
            .position(|entry| entry["name"] == name)
    };
    let (before, own) = (names("before0"), names(&container.ifname));
    require(before.is_some() && own.is_some(), || {
        format!("not both before0 and {}: {result}", container.ifname)
    })?;
    let right = result::ips(&result).iter().all(|ip| ip.interface == own);
    require(right, || {
        format!("an address refers to another interface: {result}")
    })
}

/// A reference plugin that stands behind.
struct Next {
    program: PathBuf,
    config: Map<String, Value>,
}

impl Next {
    fn find(scene: &Scene<'_>, name: &str, config: Value) -> Verdict<Self> {
        if !scene.version.lists_interfaces() {
            return inapplicable("plugins are chained since 0.3.0");
        }
        let directories = scene.subject.cni_path.iter();
        let mut files = directories.map(|directory| directory.join(name));
        let Some(program) = files.find(|file| file.is_file()) else {
            return inapplicable(format!("there is no {name} in CNI_PATH"));
        };
        let next = Self {
            program,
            config: config.as_object().cloned().unwrap_or_default(),
        };
        next.knows_version(scene, name)?;
        Ok(next)
    }

    fn knows_version(&self, scene: &Scene<'_>, name: &str) -> Verdict {
        let place = scene.host.namespaces();
        let version = Call::new(
            &self.program,
            place,
            scene.version,
            Verb::Version,
            Map::new(),
        );
        let known = version.run()?.document()?;
        let list = known["supportedVersions"].as_array().cloned();
        if list
            .unwrap_or_default()
            .iter()
            .any(|known| known == scene.version.as_str())
        {
            return Ok(());
        }
        inapplicable(format!(
            "the {name} in CNI_PATH does not know {}",
            scene.version
        ))
    }

    fn call(&self, scene: &Scene<'_>, verb: Verb, attached: &Attached, previous: &Value) -> Call {
        let mut call = scene.call(verb, &attached.container);
        call.program.clone_from(&self.program);
        call.config.clone_from(&self.config);
        call.key("name", json!(NETWORK))
            .key("cniVersion", json!(scene.version))
            .key("prevResult", previous.clone())
    }

    /// Its ADD; what it printed.
    fn add(&self, scene: &Scene<'_>, attached: &Attached) -> Verdict<Value> {
        let call = self.call(scene, Verb::Add, attached, &attached.result);
        call.run()?.document()
    }

    /// Its DEL, then the plugin's own.
    fn del(&self, scene: &Scene<'_>, attached: &Attached, result: &Value) -> Verdict {
        self.call(scene, Verb::Del, attached, result)
            .run()?
            .success()?;
        let own = scene.call(Verb::Del, &attached.container);
        own.previous(result).run()?.success()
    }
}

fn find_portmap(scene: &Scene<'_>) -> Verdict<Next> {
    let mapping = json!([{"hostPort": PORTS.1, "containerPort": PORTS.0, "protocol": "tcp"}]);
    let config = json!({
        "type": "portmap",
        "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": mapping},
    });
    Next::find(scene, "portmap", config)
}

fn portmap(scene: &Scene<'_>) -> Verdict {
    let next = find_portmap(scene)?;
    let attached = scene.attached()?;
    let result = next.add(scene, &attached)?;
    next.del(scene, &attached, &result)
}

fn portmap_forwards(scene: &Scene<'_>) -> Verdict {
    let next = find_portmap(scene)?;
    let attached = scene.attached()?;
    needed("portmap", next.add(scene, &attached))?;
    let Some(ip) = result::ips(&attached.result).first().cloned() else {
        return inapplicable("the container has no address");
    };
    if scene.host.ping(&ip.address).is_err() {
        return inapplicable("the host does not reach the container");
    }
    let listener = attached
        .container
        .run(|| TcpListener::bind((ip.address, PORTS.0)))?
        .context("the container cannot listen")?;
    let to = SocketAddr::new(IpAddr::from(HOST_ADDRESS), PORTS.1);
    let connected = scene
        .host
        .run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))?;
    drop(listener);
    match connected {
        Ok(_) => Ok(()),
        Err(error) => fails(format!("{to} does not lead to {}: {error}", ip.address)),
    }
}

fn bandwidth(scene: &Scene<'_>) -> Verdict {
    let limits = json!({
        "ingressRate": 8_000_000, "ingressBurst": 800_000,
        "egressRate": 8_000_000, "egressBurst": 800_000,
    });
    let config = json!({
        "type": "bandwidth",
        "capabilities": {"bandwidth": true},
        "runtimeConfig": {"bandwidth": limits},
    });
    let next = Next::find(scene, "bandwidth", config)?;
    let attached = scene.attached()?;
    host_end(scene, &attached)?;
    let result = next.add(scene, &attached)?;
    next.del(scene, &attached, &result)
}

fn tuning(scene: &Scene<'_>) -> Verdict {
    let config = json!({
        "type": "tuning", "mac": "02:77:00:00:00:01", "mtu": 1280,
        "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"},
    });
    let next = Next::find(scene, "tuning", config)?;
    let attached = scene.attached()?;
    let result = next.add(scene, &attached)?;
    if scene.version >= Verb::Check.since() {
        let check = scene.call(Verb::Check, &attached.container);
        check.previous(&result).run()?.success()?;
    }
    next.del(scene, &attached, &result)
}

fn leaves_nothing(scene: &Scene<'_>) -> Verdict {
    let next = find_portmap(scene)?;
    // portmap's own chains stay for good.
    let cycle = || -> Verdict {
        let attached = scene.attached()?;
        let result = needed("portmap", next.add(scene, &attached))?;
        needed("DEL of the chain", next.del(scene, &attached, &result))?;
        attached.container.die(&scene.host)?;
        Ok(())
    };
    cycle()?;
    let before = scene.host.state()?;
    cycle()?;
    scene.host.state()?.same_as(&before)
}
