//! Namespaces, and what is read and written in the one a thread is in.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use hostnet::{Bridge, Change, Netlink, Netns, NetnsError, NewLink, NewLinkKind, ethtool, sysctl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::neighbours::vxlan;
use crate::opinion::{ip, new_netns, plain_link, same};

pub(crate) fn a_namespace_is_visited_and_entered() -> Result<()> {
    let here = Netns::current()?.identity()?;
    ip("netns add there")?;
    let there = Netns::open("/run/netns/there")?;
    ensure!(there.identity()? != here, "two namespaces are one");
    same(
        there.run(|| Netns::current()?.identity())??,
        there.identity()?,
    )?;
    same(Netns::current()?.identity()?, here)?;

    // A connection stays where it was opened, also after the name is gone.
    let mut inside = there.netlink()?;
    ip("netns delete there")?;
    ensure!(
        Netns::open("/run/netns/there")
            .err()
            .context("still there")?
            .is_gone()
    );
    inside.apply(&[Change::AddLink(NewLink::new(
        "only-there",
        NewLinkKind::Bridge(Bridge::default()),
    ))])?;
    same(Netlink::open()?.link_by_name("only-there")?, None)?;
    ensure!(there.run(|| fs::exists("/sys/class/net"))??);
    same(there.netlink()?.links()?.len(), 2)?;

    there.enter()?;
    same(Netns::current()?.identity()?, there.identity()?)?;
    ensure!(
        Netlink::open()?.link_by_name("only-there")?.is_some(),
        "entered, but not there"
    );
    Ok(())
}

pub(crate) fn things_that_are_no_namespaces_are_told_as_such() -> Result<()> {
    fs::write("/tmp/file", "")?;
    mkfifo("/tmp/fifo", Mode::S_IRWXU)?;
    let _listener = UnixListener::bind("/tmp/socket")?;
    for path in [
        "/tmp/file",
        "/tmp/fifo",
        "/tmp/socket",
        "/tmp",
        "/proc/self/ns/uts",
        "/proc/self/ns/user",
        "/dev/null",
    ] {
        let error = Netns::open(path)
            .err()
            .with_context(|| format!("{path} is a network namespace"))?;
        ensure!(
            matches!(error, NetnsError::NotANetns { .. }),
            "{path}: {error}"
        );
        ensure!(
            error.is_gone() && error.to_string().contains(path),
            "{error}"
        );
    }
    for path in ["/tmp/nothing", "/nothing/at/all", "/tmp/file/below"] {
        let error = Netns::open(path).err().context("opened nothing")?;
        ensure!(matches!(error, NetnsError::Missing { .. }), "{error}");
    }
    Ok(())
}

/// The kernel may take the switch for done and leave all links out when several throw it at once.
pub(crate) fn forwarding_is_switched_by_many_at_once() -> Result<()> {
    const SETTING: &str = "net/ipv4/ip_forward";
    let link = plain_link(&mut Netlink::open()?, "first")?;
    for round in 0..50 {
        sysctl::write(SETTING, "0")?;
        let seen = |link| {
            Ok::<_, anyhow::Error>(Netlink::open()?.link(link)?.context("gone")?.forwards_ipv4)
        };
        ensure!(
            seen(link)? == Some(false),
            "not switched off in round {round}"
        );
        thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| sysctl::write(SETTING, "1")))
                .collect();
            for writer in writers {
                writer.join().map_err(|_| anyhow::anyhow!("panic"))??;
            }
            anyhow::Ok(())
        })?;
        ensure!(seen(link)? == Some(true), "left out in round {round}");
    }
    Ok(())
}

pub(crate) fn a_sysctl_is_the_namespaces_own() -> Result<()> {
    const FORWARDING: &str = "net/ipv4/ip_forward";
    let there = new_netns()?;
    let before = sysctl::read(FORWARDING)?;
    let other = if before == "0" { "1" } else { "0" };
    ensure!(sysctl::write(FORWARDING, other)?, "not changed");
    ensure!(!sysctl::write(FORWARDING, other)?, "changed to what it was");
    same(sysctl::read(FORWARDING)?.as_str(), other)?;
    same(there.run(|| sysctl::read(FORWARDING))??, before)?;
    ensure!(
        there.run(|| sysctl::write(FORWARDING, other))??,
        "not changed there"
    );

    // Names of links have dots; `sysctl` would take this one for a path.
    plain_link(&mut Netlink::open()?, "eth0.100")?;
    let setting = "net/ipv4/conf/eth0.100/rp_filter";
    sysctl::write(setting, "2")?;
    let seen = Command::new("cat")
        .arg("/proc/sys/net/ipv4/conf/eth0.100/rp_filter")
        .output()?;
    same(seen.stdout.as_slice(), b"2\n")?;
    let error = sysctl::write(setting, "not a number")
        .err()
        .context("took it")?;
    ensure!(
        error.to_string().starts_with(&format!(
            "cannot set the kernel setting {setting} to \"not a number\": "
        )),
        "{error}"
    );
    Ok(())
}

pub(crate) fn the_checksum_offload_is_switched() -> Result<()> {
    vxlan(&mut Netlink::open()?)?;
    ensure!(ethtool::tx_checksum("flannel.1")?, "off from the start");
    for on in [false, true, true, false] {
        ethtool::set_tx_checksum("flannel.1", on)?;
        same(ethtool::tx_checksum("flannel.1")?, on)?;
    }
    let error = ethtool::set_tx_checksum("nothing", false)
        .err()
        .context("switched nothing")?;
    ensure!(
        error.to_string().contains("link nothing: No such device"),
        "{error}"
    );
    Ok(())
}
