//! What a runtime hands to a CNI program: variables, stdin, results of the plugins before us.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use cni_plugin::attachment::conf::{AttachmentConf, Kind};
use cni_plugin::attachment::name::Identity;
use cni_plugin::flannel_conf::FlannelConf;
use cni_plugin::foreign::Plugin;
use cni_plugin::protocol::args::{CniArgs, Request, is_identifier};
use cni_plugin::protocol::json::{Json, Object, Section};
use cni_plugin::protocol::{AddResult, Config, Error, Invocation, SpecVersion, Verb};
use cni_plugin::request;
use cni_plugin::scratch::Worker;
use cni_plugin::verbs::gc::Order;
use ipam::SubnetEnv;

pub(super) const ENVIRONMENT: &[&str] = &[
    "\0",
    "CNI_COMMAND=ADD",
    "CNI_COMMAND=DEL",
    "CNI_COMMAND=CHECK",
    "CNI_COMMAND=GC",
    "CNI_COMMAND=STATUS",
    "CNI_COMMAND=VERSION",
    "CNI_CONTAINERID=one",
    "CNI_NETNS=/run/netns/x",
    "CNI_IFNAME=eth0",
    "CNI_PATH=/opt/cni/bin",
    "CNI_ARGS=",
    "CNI_NETNS_OVERRIDE=1",
];

/// Variables with a NUL between, as in /proc/self/environ.
pub(super) fn environment(input: &[u8]) {
    let variable = |name: &str| {
        let mut all = input.split(|byte| *byte == 0);
        let value = all.find_map(|text| text.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        value.map(|value| OsString::from_vec(value.to_vec()))
    };
    let call = match Invocation::from_environment(variable) {
        Ok(Some(call)) => call,
        Ok(None) => return assert_eq!(variable("CNI_COMMAND").unwrap_or_default(), ""),
        Err(error) => return answered(&error),
    };
    let verb = call.request.verb();
    assert_eq!(variable("CNI_COMMAND"), Some(verb.as_str().into()));
    if let Request::Add(target) | Request::Check(target) | Request::Del(target) = &call.request {
        assert!(is_identifier(&target.container_id), "{target:?}");
        assert!((1..=15).contains(&target.ifname.len()), "{target:?}");
        assert!(
            !target.ifname.contains(['/', ':', ' ', '\t', '\n', '\r']),
            "{target:?}"
        );
        assert!(target.netns.is_some() || verb == Verb::Del, "{target:?}");
        request::owner(target).expect("the pool allows what the protocol allows");
    }
}

pub(super) const ARGS: &[&str] = &[
    ";",
    "=",
    "IP=10.244.1.7",
    "MAC=0a:00:00:00:00:01",
    "K8S_POD_NAME=p",
    "K8S_POD_NAMESPACE=n",
    "IgnoreUnknown=1",
    "IP=",
];

pub(super) fn args(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let args = CniArgs::parse(&text);
    for key in [
        "IP",
        "MAC",
        "K8S_POD_NAME",
        "K8S_POD_NAMESPACE",
        "K8S_POD_UID",
        "",
    ] {
        if let Some(value) = args.value(key) {
            assert!(!value.is_empty() && !value.contains(';'), "{value:?}");
            assert!(text.contains(value), "{value:?}");
        }
    }
    let conf =
        br#"{"type":"ptp","name":"a","ipam":{"type":"host-local","subnet":"10.244.1.0/24"}}"#;
    if let Err(error) = AttachmentConf::parse(&object(conf).expect("it is an object"), &args) {
        answered(&error);
    }
}

pub(super) const ALIAS: &[&str] = &["loden:", "cbr0/", "/", " ", "#", "one", "eth0"];

/// The alias of a link, which anybody may have given it.
pub(super) fn alias(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(identity) = Identity::of_alias(&text) {
        assert!(text.contains(&identity.to_string()), "{identity}");
        let alias = identity.alias(Some(&text));
        // The kernel keeps no more.
        assert!(alias.len() <= 255, "{alias}");
        if let Some(again) = Identity::of_alias(&alias) {
            assert_eq!(again, identity);
        }
        let name = identity.host_name(0);
        assert!(name.len() <= 15 && name.starts_with("veth"), "{name}");
    }
}

pub(super) const RESULT: &[&str] = &[
    "\"cniVersion\":\"0.1.0\"",
    "\"cniVersion\":\"0.2.0\"",
    "\"cniVersion\":\"0.3.1\"",
    "\"cniVersion\":\"0.4.0\"",
    "\"cniVersion\":\"1.0.0\"",
    "\"cniVersion\":\"1.1.0\"",
    "\"interfaces\":[",
    "\"ips\":[",
    "\"routes\":[",
    "\"dns\":{",
    "\"ip4\":{",
    "\"ip6\":{",
    "\"ip\":\"10.0.0.2/24\"",
    "\"address\":\"10.0.0.2/24\"",
    "\"address\":\"fd00::2/64\"",
    "\"gateway\":\"10.0.0.1\"",
    "\"interface\":0",
    "\"version\":\"4\"",
    "\"dst\":\"0.0.0.0/0\"",
    "\"gw\":\"10.0.0.1\"",
    "\"mtu\":1450",
    "\"sandbox\":\"/x\"",
    "\"nameservers\":[\"10.0.0.3\"]",
    "\"domain\":\"x\"",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
    "::ffff:10.0.0.1/128",
];

/// A document that may be the result of a plugin, of any version.
pub(super) fn result(input: &[u8]) {
    let Some(document) = object(input) else {
        return;
    };
    for fallback in SpecVersion::ALL {
        match AddResult::parse(&Section::root(&document), fallback) {
            Ok(result) => converted(&result),
            Err(error) => answered(&error),
        }
    }
}

/// In every version a result can be told or it is said why not; and telling it a second time changes nothing more.
fn converted(result: &AddResult) {
    for version in SpecVersion::ALL {
        let told = match result.render(version) {
            Ok(told) => told,
            Err(error) => {
                assert!(
                    result.ips.is_empty() && version <= SpecVersion::V0_2_0,
                    "{error}"
                );
                continue;
            }
        };
        let again = AddResult::parse(&Section::root(&told), version);
        let again = again.unwrap_or_else(|error| panic!("{error}: {told:?}"));
        let told_again = again.render(version).expect("it was told before");
        assert_eq!(told_again, told, "in version {version}");
        if version == SpecVersion::NEWEST {
            // Everything can be told in it.
            assert_eq!(&again, result);
        }
    }
}

pub(super) const STDIN: &[&str] = &[
    "\"name\":\"cbr0\"",
    "\"type\":\"flannel\"",
    "\"cniVersion\":\"1.0.0\"",
    "\"cniVersion\":\"1.1.0\"",
    "\"cniVersion\":\"0.3.1\"",
    "\"delegate\":{",
    "\"ipam\":{",
    "\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}]]",
    "\"prevResult\":{",
    "\"runtimeConfig\":{",
    "\"capabilities\":{",
    "\"args\":{\"cni\":{",
    "\"ips\":[\"10.244.1.7\"]",
    "\"mac\":\"0a:00:00:00:00:01\"",
    "\"mtu\":1400",
    "\"type\":\"ptp\"",
    "\"type\":\"bridge\"",
    "\"isDefaultGateway\":true",
    "\"hairpinMode\":true",
    "\"bridge\":\"cni0\"",
    "\"vlan\":7",
    "\"routes\":[{\"dst\":\"0.0.0.0/0\"}]",
    "\"dataDir\":\"/x\"",
    "\"rangeStart\":\"10.244.1.10\"",
    "\"rangeEnd\":\"10.244.1.20\"",
    "\"gateway\":\"10.244.1.1\"",
    "\"subnetFile\":\"/x\"",
    "\"cni.dev/valid-attachments\":[",
    "{\"containerID\":\"a\",\"ifname\":\"eth0\"}",
    "\"gcGrace\":0",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
];

const ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
    FLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

pub(super) fn stdin(input: &[u8]) {
    let version = Config::answer_version(input);
    for verb in [Verb::Add, Verb::Del, Verb::Check, Verb::Gc, Verb::Status] {
        match Config::parse(input, verb) {
            Ok(config) => {
                assert!(is_identifier(&config.name));
                assert!(config.version >= SpecVersion::introducing(verb));
                match verb {
                    Verb::Add => configured(&config),
                    Verb::Gc => ordered(&config),
                    _ => {}
                }
            }
            Err(error) => {
                answered(&error);
                let document = error.render(version);
                assert!(document.member("cniVersion").is_some());
            }
        }
    }
}

fn configured(config: &Config) {
    match config.previous_result() {
        Ok(Some(result)) => converted(&result),
        Ok(None) => {}
        Err(error) => answered(&error),
    }
    assert!(!request::data_dirs(config).is_empty());
    let env = SubnetEnv::parse(ENV).expect("the text is in order");
    let flannel = match FlannelConf::parse(config) {
        Ok(flannel) => flannel,
        Err(error) => return answered(&error),
    };
    let delegate = flannel.delegate(&env);
    for key in ["name", "type", "ipam", "mtu", "ipMasq"] {
        assert!(delegate.has(key), "{key} is missing");
    }
    let sets = AttachmentConf::parse(&delegate, &CniArgs::default())
        .and_then(|conf| request::range_sets(&conf));
    if let Err(error) = sets {
        answered(&error);
    }
}

/// What a GC is told to keep are attachments that there can be.
fn ordered(config: &Config) {
    match Order::of(config, Duration::ZERO) {
        Ok(Some(order)) => {
            for owner in &order.valid {
                assert!(is_identifier(owner.container_id()), "{owner}");
                assert!((1..=15).contains(&owner.ifname().len()), "{owner}");
            }
        }
        // No list is no order.
        Ok(None) => assert!(!config.root().has("cni.dev/valid-attachments")),
        Err(error) => answered(&error),
    }
}

pub(super) const SCRATCH: &[&str] = &[
    "{\"name\":\"cbr0\"",
    "\"type\":\"bridge\"",
    "\"type\":\"ptp\"",
    "\"type\":\"macvlan\"",
    "\"type\":\"host-local\"",
    "\"type\":\"static\"",
    "\"ipam\":{",
    "\"dataDir\":\"/x\"",
    "..",
    "/",
    "null",
    "}",
    ",",
];

/// flannel's scratch file, which any version of its plugin may have written, or half of it.
pub(super) fn scratch(input: &[u8]) {
    let Some(delegate) = cni_plugin::scratch::parse(input) else {
        return;
    };
    let written = serde_json::to_vec(&delegate).expect("a config is JSON");
    let again = cni_plugin::scratch::parse(&written);
    assert_eq!(again.as_ref(), Some(&delegate));
    if let Some(worker) = Worker::of(&delegate) {
        assert!(!Kind::is_ours(worker.name()), "{worker:?}");
        // Never anything that lies elsewhere than in one of the directories.
        let nowhere = ["/nonexistent".into()];
        let error = Plugin::find(worker.name(), &nowhere).expect_err("there is nothing");
        answered(&error.into());
    }
}

fn object(input: &[u8]) -> Option<Object> {
    match Json::parse(input) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    }
}

/// What is promised of a refusal: a document with a code and a message on one line, whose length does not depend on the input.
fn answered(error: &Error) {
    assert_ne!(error.code(), 0);
    let document =
        serde_json::to_string(&error.render(SpecVersion::NEWEST)).expect("an error is JSON");
    let read = object(document.as_bytes()).expect("an error is an object");
    for key in ["msg", "details"] {
        match read.member(key) {
            Some(Json::String(text)) => {
                assert!(text.chars().count() <= 1000, "{key} is {text}");
                assert!(!text.contains('\n'), "{key} is {text}");
            }
            other => assert!(other.is_none() && key == "details", "{other:?}"),
        }
    }
}
