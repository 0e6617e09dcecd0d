//! iproute2's opinion of what is there, and small things all the tests need.

use std::fmt::Debug;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hostnet::{Change, Link, LinkIndex, Mac, Netlink, Netns, NewLink, NewLinkKind};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs `ip` with these words.
pub fn ip(words: &str) -> Result<()> {
    run("ip", words).map(|_| ())
}

/// What `ip -json -details` tells.
pub fn ip_json(words: &str) -> Result<Vec<Value>> {
    json("ip", words)
}

/// What `bridge -json -details` tells.
pub fn bridge_json(words: &str) -> Result<Vec<Value>> {
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
    let output = Command::new(program).args(words.split_whitespace()).output()?;
    if !output.status.success() {
        bail!("{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The one object that `ip` tells of.
pub fn ip_one(words: &str) -> Result<Value> {
    let mut found = ip_json(words)?;
    ensure!(found.len() == 1, "{} objects for {words}: {found:?}", found.len());
    found.pop().context("nothing")
}

/// Checks members of an object, given as `("/linkinfo/info_kind", value)`.
pub fn has(object: &Value, members: &[(&str, Value)]) -> Result<()> {
    for (path, expected) in members {
        let found = object.pointer(path).unwrap_or(&Value::Null);
        ensure!(found == expected, "{path} is {found} instead of {expected} in {object:#}");
    }
    Ok(())
}

/// Checks that two values are the same.
pub fn same<T: PartialEq + Debug>(found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "found {found:#?}\ninstead of {expected:#?}");
    Ok(())
}

/// A new network namespace that nobody is in.
pub fn new_netns() -> Result<Netns> {
    std::thread::scope(|scope| {
        scope.spawn(|| -> Result<Netns> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Netns::current()?)
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A dummy link that is up; its index.
pub fn dummy(netlink: &mut Netlink, name: &str) -> Result<LinkIndex> {
    let link = NewLink { up: true, ..NewLink::new(name, NewLinkKind::Dummy) };
    Ok(netlink.apply_and_link(&[Change::AddLink(link)], name)?.index)
}

/// The link with this name, which must be there.
pub fn link(netlink: &mut Netlink, name: &str) -> Result<Link> {
    netlink.link_by_name(name)?.with_context(|| format!("no link {name}"))
}

/// A MAC of ours with this number.
pub fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x02, 0x4c, a, b, c, d])
}
