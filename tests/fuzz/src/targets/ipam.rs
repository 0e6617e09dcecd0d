//! Texts that flannel, etcd and users write: subnets, leases, `net-conf.json`, `subnet.env`.

use std::str::FromStr;

use ipam::{
    Cidr, IpCidr, Ipv4Cidr, Ipv6Cidr, LeaseKey, LeaseRecord, Mac, NetConf, SubnetEnv, SubnetRange,
};

use super::sentence;

pub(super) const LEASE_KEY: &[&str] = &[
    "10.5.52.0-24",
    "&",
    "fd00:10:5::-64",
    "0.0.0.0-0",
    "-31",
    "-127",
    "::ffff:",
];

pub(super) fn lease_key(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match text.parse::<LeaseKey>() {
        Ok(key) => {
            assert!(!key.subnets().is_empty());
            assert_eq!(key.to_string().parse(), Ok(key));
            assert_eq!(LeaseKey::new(key.subnets()), Some(key));
        }
        Err(error) => sentence(&error),
    }
}

pub(super) const LEASE_RECORD: &[&str] = &[
    "\"PublicIP\":\"10.0.0.1\"",
    "\"PublicIPv6\":\"fd00::1\"",
    "\"BackendType\":\"vxlan\"",
    "\"BackendType\":\"host-gw\"",
    "\"BackendData\":{",
    "\"BackendV6Data\":{",
    "\"VNI\":1",
    "\"VtepMAC\":\"c6:d8:1b:2a:d6:81\"",
    "null",
    ",",
    "}",
    "\\u0000",
];

pub(super) fn lease_record(input: &[u8]) {
    match LeaseRecord::parse(input) {
        Ok(record) => {
            let json = record.to_json();
            assert!(json.len() <= 2000, "{json}");
            assert_eq!(LeaseRecord::parse(json.as_bytes()), Ok(record));
        }
        Err(error) => sentence(&error),
    }
}

pub(super) const NET_CONF: &[&str] = &[
    "\"Network\":\"10.244.0.0/16\"",
    "\"IPv6Network\":\"fd00::/48\"",
    "\"EnableIPv4\":false",
    "\"EnableIPv6\":true",
    "\"EnableNFTables\":true",
    "\"SubnetLen\":24",
    "\"SubnetMin\":\"10.244.1.0\"",
    "\"SubnetMax\":\"10.244.9.0\"",
    "\"IPv6SubnetLen\":64",
    "\"IPv6SubnetMin\":\"fd00:0:0:1::\"",
    "\"IPv6SubnetMax\":\"fd00:0:0:9::\"",
    "\"Backend\":{",
    "\"Type\":\"vxlan\"",
    "\"Type\":\"host-gw\"",
    "\"Type\":\"alloc\"",
    "\"VNI\":16777215",
    "\"Port\":8472",
    "\"MTU\":1450",
    "\"DirectRouting\":true",
    "null",
    ",",
    "}",
    "1e3",
    "/0",
    "/32",
    "/128",
];

pub(super) fn net_conf(input: &[u8]) {
    let conf = match NetConf::parse(input) {
        Ok(conf) => conf,
        Err(error) => return sentence(&error),
    };
    assert!(!conf.networks.is_empty());
    match conf.subnet_plan() {
        Ok(plan) => {
            assert_eq!(plan.v4.map(|v4| v4.network), conf.networks.v4);
            assert_eq!(plan.v6.map(|v6| v6.network), conf.networks.v6);
            if let Some(v4) = &plan.v4 {
                planned(v4);
            }
            if let Some(v6) = &plan.v6 {
                planned(v6);
            }
        }
        Err(error) => sentence(&error),
    }
}

fn planned<C: IpCidr + std::fmt::Debug>(range: &SubnetRange<C>) {
    assert!(range.min <= range.max, "{range:?}");
    assert!(
        range.contains(range.min) && range.contains(range.max),
        "{range:?}"
    );
    assert!(range.network.bits() <= range.min.bits(), "{range:?}");
    assert!(
        range.max.last_bits() <= range.network.last_bits(),
        "{range:?}"
    );
}

pub(super) fn subnet(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    round_trip::<Cidr>(&text);
    round_trip::<Ipv4Cidr>(&text);
    round_trip::<Ipv6Cidr>(&text);
    round_trip::<Mac>(&text);
    if let Ok(subnet) = text.parse::<Cidr>() {
        assert!(
            subnet.contains(subnet.network()) && subnet.contains(subnet.last()),
            "{subnet}"
        );
        assert_eq!(Cidr::masked(subnet.last(), subnet.prefix()), Ok(subnet));
        assert_eq!(subnet.is_v4(), text.parse::<Ipv4Cidr>().is_ok());
    }
}

fn round_trip<T>(text: &str)
where
    T: FromStr + ToString + PartialEq + std::fmt::Debug,
    T::Err: std::fmt::Display + std::fmt::Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse(), Ok(value)),
        Err(error) => sentence(&error),
    }
}

pub(super) const SUBNET_ENV: &[&str] = &[
    "FLANNEL_NETWORK=",
    "FLANNEL_SUBNET=",
    "FLANNEL_IPV6_NETWORK=",
    "FLANNEL_IPV6_SUBNET=",
    "FLANNEL_MTU=",
    "FLANNEL_IPMASQ=",
    "10.244.0.0/16",
    "10.244.1.1/24",
    "fd00::/48",
    "fd00:0:0:1::1/64",
    "true",
    "false",
    "1450",
    ",",
    "\n",
    "\r\n",
    "export ",
    "\"",
    "/0",
    "/32",
    "255.255.255.255/32",
    "/128",
];

pub(super) fn subnet_env(input: &[u8]) {
    match SubnetEnv::parse(&String::from_utf8_lossy(input)) {
        Ok(env) => {
            let text = env.to_string();
            assert!(
                text.ends_with('\n') && text.lines().all(|line| line.contains('=')),
                "{text}"
            );
            match SubnetEnv::parse(&text) {
                Ok(again) => assert_eq!(again, env),
                Err(error) => panic!("{error}: {text}"),
            }
        }
        Err(error) => sentence(&error),
    }
}
