//! Addresses that somebody asks for, in the ways of host-local.

use serde_json::{Value, json};

use crate::conform::call::Call;
use crate::conform::catalogue::{Check, Verdict, inapplicable, require};
use crate::conform::result;
use crate::conform::scene::Scene;
use crate::conform::spec::Verb;
use crate::conform::subject::Kind;

const HOST_LOCAL: &str = "host-local";
const ADDRESSES: &[Kind] = &[Kind::Interface, Kind::Ipam];

pub(super) const CHECKS: &[Check] = &[
    Check::expected(
        "request.cni-args",
        Verb::Add,
        "spec conventions, nerdctl",
        "IP= in CNI_ARGS is honoured",
        by_cni_args,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.args-cni-ips",
        Verb::Add,
        "spec conventions",
        "args.cni.ips is honoured",
        by_args,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.ips-capability",
        Verb::Add,
        "spec conventions, Multus",
        "the capability ips is honoured, with and without a prefix length",
        by_capability,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.taken",
        Verb::Add,
        HOST_LOCAL,
        "asking for an address that is in use is refused",
        taken,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.outside",
        Verb::Add,
        HOST_LOCAL,
        "asking for an address out of range is refused",
        outside,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.gateway",
        Verb::Add,
        HOST_LOCAL,
        "asking for the gateway's address is refused",
        gateway,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.nonsense",
        Verb::Add,
        HOST_LOCAL,
        "asking for what is no address is refused",
        nonsense,
    )
    .only(ADDRESSES),
    Check::quality(
        "request.refusal-leaves-nothing",
        Verb::Add,
        HOST_LOCAL,
        "a request that is refused leaves nothing",
        refusal_leaves_nothing,
    )
    .only(ADDRESSES),
    Check::expected(
        "request.ip-ranges",
        Verb::Add,
        "spec conventions",
        "the capability ipRanges adds a range",
        ip_ranges,
    )
    .only(&[Kind::Ipam]),
];

/// In the range of every staging that has addresses: far from the first ones.
const WANTED: &str = "10.88.0.77";

/// A call whose plugin understands requests.
fn call(scene: &Scene<'_>) -> Verdict<Call> {
    if !scene.subject.requests {
        return inapplicable("the plugin does not take its addresses in host-local's way");
    }
    let usual = scene.attached()?;
    let near = result::ips(&usual.result)
        .iter()
        .any(|ip| ip.text.starts_with("10.88.0."));
    if !near {
        return inapplicable("the runner does not know the range of this config");
    }
    Ok(scene.call(Verb::Add, &scene.container()?))
}

fn gives(call: &Call, wanted: &str) -> Verdict {
    let result = call.run()?.document()?;
    let given = result::ips(&result);
    let right = given.iter().any(|ip| ip.address.to_string() == wanted);
    require(right, || format!("not {wanted} but {result}"))
}

fn runtime_config(call: Call, capability: &str, value: Value) -> Call {
    call.key("capabilities", json!({capability: true}))
        .key("runtimeConfig", json!({capability: value}))
}

fn by_cni_args(scene: &Scene<'_>) -> Verdict {
    let call = call(scene)?.with("CNI_ARGS", format!("IgnoreUnknown=1;IP={WANTED}"));
    gives(&call, WANTED)
}

fn by_args(scene: &Scene<'_>) -> Verdict {
    let call = call(scene)?.key("args", json!({"cni": {"ips": [WANTED]}}));
    gives(&call, WANTED)
}

fn by_capability(scene: &Scene<'_>) -> Verdict {
    gives(
        &runtime_config(call(scene)?, "ips", json!([WANTED])),
        WANTED,
    )?;
    // Not the next in turn, which the first container of the second call takes.
    let other = "10.88.0.177";
    let with_prefix = json!([format!("{other}/24")]);
    gives(&runtime_config(call(scene)?, "ips", with_prefix), other)
}

fn requested(scene: &Scene<'_>, address: &str) -> Verdict<Call> {
    Ok(call(scene)?.with("CNI_ARGS", format!("IgnoreUnknown=1;IP={address}")))
}

fn taken(scene: &Scene<'_>) -> Verdict {
    crate::conform::call::needed(
        "the first request",
        gives(&requested(scene, WANTED)?, WANTED),
    )?;
    requested(scene, WANTED)?.run()?.refusal().map(drop)
}

fn outside(scene: &Scene<'_>) -> Verdict {
    let call = requested(scene, "203.0.113.7")?;
    call.run()?.refusal().map(drop)
}

fn gateway(scene: &Scene<'_>) -> Verdict {
    requested(scene, "10.88.0.1")?.run()?.refusal().map(drop)
}

fn nonsense(scene: &Scene<'_>) -> Verdict {
    requested(scene, "nonsense")?.run()?.refusal().map(drop)
}

fn refusal_leaves_nothing(scene: &Scene<'_>) -> Verdict {
    let call = requested(scene, "203.0.113.7")?;
    let before = scene.host.state()?;
    if call.run()?.succeeded() {
        return inapplicable("the request is not refused");
    }
    scene.host.state()?.same_as(&before)
}

fn ip_ranges(scene: &Scene<'_>) -> Verdict {
    if !scene.version.lists_interfaces() {
        return inapplicable("results have one address of a family before 0.3.0");
    }
    let ranges = json!([[{"subnet": "10.77.0.0/24"}]]);
    let call = runtime_config(call(scene)?, "ipRanges", ranges);
    gives(&call, "10.77.0.2")
}
