//! What changes in one family of a dual-stack Node, and what a reboot leaves of it.

use anyhow::{Result, ensure};
use netns_tests::traffic::Pings;
use netns_tests::{Endpoint, Traffic, eventually};

use crate::scene::{DEADLINE, DUAL, Member, Scene, all_talk, device, meet, wait_tunnel};

/// The MAC of one device, then the public address, in each family; what the other family has stays as it is.
pub(crate) fn a_change_in_one_family_is_followed() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let mut members = scene.members()?;
    let pods = [
        members[0].host.pod("a1")?,
        members[1].host.pod("b1")?,
        members[2].host.pod("c1")?,
    ];
    for (family, other, mac) in [(6, 4, "02:00:00:00:06:01"), (4, 6, "02:00:00:00:04:01")] {
        let [a, b, c] = &mut members;
        let before = b.mac(family)?;
        let kept = [a.tunnel(other)?, c.tunnel(other)?];
        b.daemon.terminate()?;
        let device = device(family);
        b.host
            .sh(&format!("ip link set dev {device} address {mac}"))?;
        b.daemon.restart()?;
        for member in [&*a, &*c] {
            wait_tunnel(member, family, &[mac], &[&before])?;
        }
        let now = [a.tunnel(other)?, c.tunnel(other)?];
        ensure!(now == kept, "{kept:?} became {now:?}");
        eventually("they talk again", DEADLINE, || all_talk(&pods))?;
    }
    for (family, other, from, to, length) in [
        (6, 4, "2001:db8::d", "2001:db8::77", "64 nodad"),
        (4, 6, "192.0.2.13", "192.0.2.77", "24"),
    ] {
        let [a, b, c] = &members;
        ensure!(b.host.ipv4().to_string() == "192.0.2.13");
        let kept = [a.tunnel(other)?, c.tunnel(other)?];
        let gateway = if family == 4 {
            "192.0.2.1"
        } else {
            "2001:db8::1"
        };
        let bare = length.split(' ').next().unwrap_or_default();
        b.host.sh(&format!(
            "ip -{family} address del {from}/{bare} dev eth0 && ip -{family} address add {to}/{length} dev eth0 && ip -{family} route replace default via {gateway}"
        ))?;
        let there = format!("dst {to} ");
        let gone = format!("dst {from} ");
        for member in [a, c] {
            wait_tunnel(member, family, &[&there], &[&gone])?;
        }
        let now = [a.tunnel(other)?, c.tunnel(other)?];
        ensure!(now == kept, "{kept:?} became {now:?}");
        eventually("they talk again", DEADLINE, || all_talk(&pods))?;
    }
    Ok(())
}

/// A reboot takes devices, rules and everything below `/run`. The Node stays as it was, so the peers see nothing of it.
pub(crate) fn a_rebooted_host_has_its_macs_again() -> Result<()> {
    let scene = Scene::new(DUAL)?;
    let mut members = scene.members()?;
    let pods = [members[0].host.pod("a1")?, members[2].host.pod("c1")?];
    let lost = members[1].host.pod("lost")?;
    let macs = [members[1].mac(4)?, members[1].mac(6)?];
    let written = scene.annotations("b")?;
    let state =
        |member: &Member| -> Result<[String; 2]> { Ok([member.tunnel(4)?, member.tunnel(6)?]) };
    let before = [state(&members[0])?, state(&members[2])?];
    let logs = [members[0].daemon.log(), members[2].daemon.log()];
    let pings = Pings::between(&pods[0], &pods[1])?;

    members[1].daemon.kill()?;
    lost.delete()?;
    members[1]
        .host
        .sh("ip link delete flannel.1; ip link delete flannel-v6.1\n\
         nft delete table ip flannel-ipv4; nft delete table ip6 flannel-ipv6\n\
         sysctl -qw net/ipv4/ip_forward=0 net/ipv6/conf/all/forwarding=0\n\
         rm -rf /run/flannel /run/loden /var/lib/cni/flannel /var/lib/cni/networks")?;
    members[1].daemon.restart()?;
    members[1].daemon.wait_ready()?;
    ensure!([members[1].mac(4)?, members[1].mac(6)?] == macs);
    ensure!(scene.annotations("b")? == written);
    let new = members[1].host.pod("new")?;
    meet(&members)?;
    for address in new.addresses() {
        pods[0].ping(&address)?;
        pods[1].ping(&address)?;
    }
    pings.finish()?;
    let after = [state(&members[0])?, state(&members[2])?];
    ensure!(after == before, "{before:?} became {after:?}");
    let said = [members[0].daemon.log(), members[2].daemon.log()];
    ensure!(said == logs, "the peers have noticed:\n{}", said.join("\n"));
    Ok(())
}
