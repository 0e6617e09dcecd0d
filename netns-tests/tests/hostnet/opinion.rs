//! iproute2's opinion of what is there, and small things all the tests need.

use std::fmt::Debug;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hostnet::{
    Change, Link, LinkChange, LinkIndex, Mac, Netlink, Netns, NewLink, NewLinkKind, VethPeer,
};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> Result<()> {
    run("ip", words).map(|_| ())
}

/// Runs `bridge` with these words.
pub(crate) fn bridge(words: &str) -> Result<()> {
    run("bridge", words).map(|_| ())
}

/// What `ip -json -details` tells.
pub(crate) fn ip_json(words: &str) -> Result<Vec<Value>> {
    json("ip", words)
}

/// What `bridge -json -details` tells.
pub(crate) fn bridge_json(words: &str) -> Result<Vec<Value>> {
    json("bridge", words)
}

fn json(program: &str, words: &str) -> Result<Vec<Value>> {
    let text = run(program, &format!("-json -details {words}"))?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).with_context(|| format!("{program} {words} said {text}"))
}

fn run(program: &str, words: &str) -> Result<String> {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output()?;
    if !output.status.success() {
        bail!(
            "{program} {words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The one object that `ip` tells of.
pub(crate) fn ip_one(words: &str) -> Result<Value> {
    let mut found = ip_json(words)?;
    ensure!(
        found.len() == 1,
        "{} objects for {words}: {found:?}",
        found.len()
    );
    found.pop().context("nothing")
}

/// Checks members of an object, given as `("/linkinfo/info_kind", value)`.
pub(crate) fn has(object: &Value, members: &[(&str, Value)]) -> Result<()> {
    for (path, expected) in members {
        let found = object.pointer(path).unwrap_or(&Value::Null);
        ensure!(
            found == expected,
            "{path} is {found} instead of {expected} in {object:#}"
        );
    }
    Ok(())
}

/// Checks that two values are the same.
pub(crate) fn same<T: PartialEq + Debug>(found: T, expected: T) -> Result<()> {
    ensure!(
        found == expected,
        "found {found:#?}\ninstead of {expected:#?}"
    );
    Ok(())
}

/// A new network namespace that nobody is in.
pub(crate) fn new_netns() -> Result<Netns> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| -> Result<Netns> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                Ok(Netns::current()?)
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A link that is up, with carrier and without addresses; its index.
pub(crate) fn plain_link(netlink: &mut Netlink, name: &str) -> Result<LinkIndex> {
    let far = format!("{name}-far");
    let peer = VethPeer::new(&far);
    let quiet = |name: &str| {
        let change = LinkChange::up(name);
        Change::SetLink(LinkChange {
            no_ipv6_link_local: true,
            ..change
        })
    };
    let pair = Change::AddLink(NewLink::new(name, NewLinkKind::Veth { peer }));
    Ok(netlink
        .apply_and_link(&[pair, quiet(&far), quiet(name)], name)?
        .index)
}

/// The link with this name, which must be there.
pub(crate) fn link(netlink: &mut Netlink, name: &str) -> Result<Link> {
    netlink
        .link_by_name(name)?
        .with_context(|| format!("no link {name}"))
}

/// A MAC of ours with this number.
pub(crate) fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x02, 0x4c, a, b, c, d])
}
