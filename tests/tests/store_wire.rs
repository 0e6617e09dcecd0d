//! A cluster in which some hosts run flannel: leases byte for byte as it writes them come out as routes, neighbours and FDB
//! entries, and ours have the bytes that it reads.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use flanneld::desired::{Desired, Hop};
use flanneld::leases::Leases;
use flanneld::network::Network;
use flanneld::store::{LeaseStore, PeerEvent};
use flanneld::uplink::Uplink;
use ipam::{LeaseKey, NetConf, PerFamily, Subnets};
use loden_tests::next;
use loden_tests::store::{conf, etcd_with, path, store, subnets, watch_peers};

const V4: &str = r#"{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}"#;
const DUAL: &str = r#"{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:10:5::/48",
    "Backend": {"Type": "vxlan"}}"#;
const SIX: &str = r#"{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:10:5::/48",
    "Backend": {"Type": "vxlan"}}"#;
const HOST_GW: &str = r#"{"Network": "10.5.0.0/16", "Backend": {"Type": "host-gw"}}"#;

/// Our host.
fn network(conf: &NetConf) -> Result<(Network, Uplink)> {
    let (v4, v6) = (conf.networks.v4.is_some(), conf.networks.v6.is_some());
    let address = PerFamily {
        v4: v4.then(|| [192, 0, 2, 1].into()),
        v6: v6.then(|| [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
    };
    let uplink = Uplink {
        link: hostnet::LinkIndex(2),
        name: "eth0".to_owned(),
        mtu: 1500,
        networks: vec!["192.0.2.1/24".parse()?, "2001:db8::1/64".parse()?],
        local: address,
        public: address,
    };
    let macs = PerFamily {
        v4: Some(hostnet::Mac([0x0e, 0x2a, 0, 0, 0, 1])),
        v6: Some(hostnet::Mac([0x0e, 0x2a, 0, 0, 0, 2])),
    };
    Ok((Network::new(conf, &uplink, &macs)?, uplink))
}

/// What our host makes of leases that stand in etcd with these keys and values: each route, with where it leads to.
async fn routes(json: &str, own: &str, leases: &[(&str, &str)]) -> Result<BTreeSet<String>> {
    let (etcd, mut client) = etcd_with(json).await?;
    for (key, value) in leases {
        client.put(path(key), *value, None).await?;
    }
    let mut events = watch_peers(&store(&etcd.endpoint())?);
    let mut known = Leases::default();
    match next(&mut events).await? {
        event @ PeerEvent::Snapshot { .. } => known.apply(event),
        other => bail!("{other:?}"),
    };
    let own: Subnets = subnets(own)?;
    let (network, _) = network(&conf(json)?)?;
    let (desired, skipped) = network.desired(Some(&own), known.peers());
    assert_eq!(skipped, []);
    Ok(in_words(&desired))
}

fn in_words(desired: &Desired) -> BTreeSet<String> {
    let words = |(to, hop): (&ipnetwork::IpNetwork, &Hop)| match hop {
        Hop::Tunnel { device, gateway } => {
            let mac = desired.neighbours[&(device.clone(), *gateway)];
            let at = desired.fdb[&(device.clone(), mac)];
            format!("{to} through {device} via {gateway}, which is {mac} at {at}")
        }
        Hop::Uplink { gateway, .. } => format!("{to} via {gateway}"),
        Hop::Blackhole => format!("{to} to nowhere"),
    };
    desired.routes.iter().map(words).collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

#[tokio::test]
async fn vxlan_leases_of_flannel_are_understood() -> Result<()> {
    let leases = [
        // Today's.
        (
            "10.5.7.0-24",
            r#"{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d8:1b:2a:d6:07"}}"#,
        ),
        // Before 0.15 there was no second public address, before 0.14 no VNI.
        (
            "10.5.8.0-24",
            r#"{"PublicIP":"192.0.2.8","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d8:1b:2a:d6:08"}}"#,
        ),
        (
            "10.5.9.0-24",
            r#"{"PublicIP":"192.0.2.9","BackendType":"vxlan","BackendData":{"VtepMAC":"c6:d8:1b:2a:d6:09"}}"#,
        ),
        // Written by hand or by another implementation: the order of members is free.
        (
            "10.5.10.0-24",
            r#"{"BackendData":{"VtepMAC":"c6:d8:1b:2a:d6:0a","VNI":1},"BackendType":"vxlan","PublicIPv6":null,"PublicIP":"192.0.2.10"}"#,
        ),
    ];
    assert_eq!(
        routes(V4, "10.5.1.0-24", &leases).await?,
        set([
            "10.5.7.0/24 through flannel.1 via 10.5.7.0, which is c6:d8:1b:2a:d6:07 at 192.0.2.7",
            "10.5.8.0/24 through flannel.1 via 10.5.8.0, which is c6:d8:1b:2a:d6:08 at 192.0.2.8",
            "10.5.9.0/24 through flannel.1 via 10.5.9.0, which is c6:d8:1b:2a:d6:09 at 192.0.2.9",
            "10.5.10.0/24 through flannel.1 via 10.5.10.0, which is c6:d8:1b:2a:d6:0a at 192.0.2.10",
        ])
    );
    Ok(())
}

#[tokio::test]
async fn dual_stack_leases_of_flannel_are_understood() -> Result<()> {
    let leases = [(
        "10.5.34.0-24&fd00:10:5:12::-64",
        r#"{"PublicIP":"192.0.2.12","PublicIPv6":"2001:db8::12","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"36:34:0d:a5:88:ab"},"BackendV6Data":{"VNI":1,"VtepMAC":"32:41:3f:a0:e6:e1"}}"#,
    )];
    assert_eq!(
        routes(DUAL, "10.5.1.0-24&fd00:10:5:1::-64", &leases).await?,
        set([
            "10.5.34.0/24 through flannel.1 via 10.5.34.0, which is 36:34:0d:a5:88:ab at 192.0.2.12",
            "fd00:10:5:12::/64 through flannel-v6.1 via fd00:10:5:12::, which is 32:41:3f:a0:e6:e1 at 2001:db8::12",
        ])
    );
    Ok(())
}

#[tokio::test]
async fn host_gw_leases_of_flannel_are_understood() -> Result<()> {
    let leases = [(
        "10.5.7.0-24",
        r#"{"PublicIP":"192.0.2.7","PublicIPv6":null,"BackendType":"host-gw"}"#,
    )];
    assert_eq!(
        routes(HOST_GW, "10.5.1.0-24", &leases).await?,
        set(["10.5.7.0/24 via 192.0.2.7"])
    );
    Ok(())
}

#[tokio::test]
async fn our_leases_have_the_bytes_that_flannel_reads() -> Result<()> {
    for (json, key, value) in [
        (
            V4,
            "10.5.52.0-24",
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:2a:00:00:00:01"}}"#,
        ),
        (
            DUAL,
            "10.5.52.0-24&fd00:10:5:34::-64",
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0e:2a:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"0e:2a:00:00:00:02"}}"#,
        ),
        (
            HOST_GW,
            "10.5.52.0-24",
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
        ),
        // Flannel has no such thing; the place of the IPv4 part stays, as its parser wants it.
        (
            SIX,
            "0.0.0.0-0&fd00:10:5:34::-64",
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"0e:2a:00:00:00:02"}}"#,
        ),
    ] {
        let (etcd, mut client) = etcd_with(json).await?;
        let conf = conf(json)?;
        let (network, uplink) = network(&conf)?;
        let record = network.record(&uplink);
        let wish = key.parse::<LeaseKey>()?.subnets();
        let store = store(&etcd.endpoint())?;
        store.acquire(&conf, &record, Some(&wish)).await?;
        let kv = loden_tests::store::entry(&mut client, key).await?;
        assert_eq!(kv.context("another key")?.value_str()?, value);
    }
    Ok(())
}

#[tokio::test]
async fn a_lease_that_flannel_left_is_taken_over_in_every_family() -> Result<()> {
    for (json, key, left) in [
        (
            DUAL,
            "10.5.34.0-24&fd00:10:5:12::-64",
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"36:34:0d:a5:88:ab"},"BackendV6Data":{"VNI":1,"VtepMAC":"32:41:3f:a0:e6:e1"}}"#,
        ),
        (
            HOST_GW,
            "10.5.34.0-24",
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
        ),
    ] {
        let (etcd, mut client) = etcd_with(json).await?;
        client.put(path(key), left, None).await?;
        let conf = conf(json)?;
        let (network, uplink) = network(&conf)?;
        let store = store(&etcd.endpoint())?;
        let own = store.acquire(&conf, &network.record(&uplink), None).await?;
        assert_eq!(own.key.to_string(), key);
    }
    Ok(())
}
