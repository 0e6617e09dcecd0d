//! How a config is read: the reference implementation decodes JSON with Go's library, and runtimes rely on what that does.

use serde_json::{Map, Value, json};

use crate::conform::call::Call;
use crate::conform::catalogue::{Check, Verdict};
use crate::conform::scene::Scene;
use crate::conform::spec::Verb;

const GO: &str = "Go's decoder, go-cni";

pub(super) const CHECKS: &[Check] = &[
    Check::expected(
        "config.key-case",
        Verb::Add,
        GO,
        "keys are matched whatever their case",
        key_case,
    ),
    Check::expected(
        "config.unknown-keys",
        Verb::Add,
        GO,
        "unknown keys are ignored",
        unknown_keys,
    ),
    Check::expected(
        "config.null-values",
        Verb::Add,
        GO,
        "null is the same as absent",
        null_values,
    ),
    Check::quality(
        "config.duplicate-keys",
        Verb::Add,
        GO,
        "the last of several equal keys counts",
        duplicate_keys,
    ),
    Check::must(
        "config.unknown-args",
        Verb::Add,
        "spec: network configuration",
        "what is not understood under args is ignored",
        unknown_args,
    ),
    Check::expected(
        "config.capabilities",
        Verb::Add,
        "libcni",
        "capabilities and foreign runtimeConfig do not disturb",
        capabilities,
    ),
    Check::expected(
        "config.kubernetes-args",
        Verb::Add,
        "containerd, CRI-O",
        "CNI_ARGS as Kubernetes runtimes pass them are accepted",
        kubernetes_args,
    ),
    Check::quality(
        "config.args-order",
        Verb::Add,
        "go-cni",
        "IgnoreUnknown may stand anywhere in CNI_ARGS",
        args_order,
    ),
    Check::quality(
        "config.args-equals",
        Verb::Add,
        "Nomad",
        "a value in CNI_ARGS may contain =",
        args_equals,
    ),
    Check::quality(
        "config.no-args",
        Verb::Add,
        "spec: parameters",
        "CNI_ARGS may be absent",
        no_args,
    ),
    Check::quality(
        "config.white-space",
        Verb::Add,
        "RFC 8259",
        "white space around and inside of the config does not matter",
        white_space,
    ),
];

fn accepted(scene: &Scene<'_>, change: impl FnOnce(Call) -> Call) -> Verdict {
    let container = scene.container()?;
    change(scene.call(Verb::Add, &container)).run()?.success()
}

/// Keys written as Go programs do that have no tags: `ipMasq` becomes `IpMasq`. What stands under these keys is data.
fn capitalised(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let renamed = object.iter().map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|first| first.to_ascii_uppercase());
                let key: String = first.into_iter().chain(letters).collect();
                (key, capitalised(value))
            });
            Value::Object(renamed.collect())
        }
        Value::Array(list) => list.iter().map(capitalised).collect(),
        other => other.clone(),
    }
}

fn key_case(scene: &Scene<'_>) -> Verdict {
    let text = capitalised(&Value::from(scene.config())).to_string();
    accepted(scene, |call| call.text(text))
}

fn unknown_keys(scene: &Scene<'_>) -> Verdict {
    accepted(scene, |call| {
        call.key("com.example.unknown", json!({"a": [1, null, "x"]}))
            .key("anotherUnknown", json!(18_446_744_073_709_551_615_u64))
    })
}

fn null_values(scene: &Scene<'_>) -> Verdict {
    accepted(scene, |call| {
        ["dns", "args", "runtimeConfig", "prevResult", "capabilities"]
            .iter()
            .fold(call, |call, key| call.key(key, Value::Null))
    })
}

fn duplicate_keys(scene: &Scene<'_>) -> Verdict {
    let config = Value::from(scene.config()).to_string();
    let text = format!(
        "{{\"name\":\"/\",\"cniVersion\":\"99.0.0\",{}",
        &config[1..]
    );
    accepted(scene, |call| call.text(text))
}

fn unknown_args(scene: &Scene<'_>) -> Verdict {
    accepted(scene, |call| {
        call.key("args", json!({"labels": {"appVersion": "1.0"}, "x": 7}))
    })
}

fn capabilities(scene: &Scene<'_>) -> Verdict {
    let passed = json!({
        "portMappings": [],
        "dns": {"Servers": ["192.0.2.53"], "Searches": [], "Options": []},
        "cgroupPath": "/x",
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
    });
    let declared: Map<String, Value> = passed
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| (key.clone(), json!(true)))
        .collect();
    accepted(scene, |call| {
        call.key("capabilities", declared.into())
            .key("runtimeConfig", passed)
    })
}

fn kubernetes_args(scene: &Scene<'_>) -> Verdict {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                K8S_POD_INFRA_CONTAINER_ID=0123abcd;K8S_POD_UID=1b4db7eb-4057-5ddf-91e0-36dec72071f5";
    accepted(scene, |call| call.with("CNI_ARGS", args))
}

fn args_order(scene: &Scene<'_>) -> Verdict {
    let args = "K8S_POD_NAME=web-0;NOMAD_REGION=global;IgnoreUnknown=true";
    accepted(scene, |call| call.with("CNI_ARGS", args))
}

fn args_equals(scene: &Scene<'_>) -> Verdict {
    let args = "IgnoreUnknown=1;CONSUL_IPTABLES_CONFIG={\"a\":\"b=c\"}";
    accepted(scene, |call| call.with("CNI_ARGS", args))
}

fn no_args(scene: &Scene<'_>) -> Verdict {
    accepted(scene, |call| call.without("CNI_ARGS"))
}

fn white_space(scene: &Scene<'_>) -> Verdict {
    let pretty = format!("{:#}", Value::from(scene.config()));
    accepted(scene, |call| call.text(format!("\r\n\t {pretty}\n\n")))
}
