//! Texts that flannel, etcd and users write: subnets, leases, `net-conf.json`, `subnet.env`.

use std::str::FromStr;

use ipam::{
    AnnotationPrefix, Cidr, IpCidr, Ipv4Cidr, Ipv6Cidr, LeaseKey, LeaseRecord, Mac, NetConf,
    NodeAnnotations, SubnetEnv, SubnetRange, pod_subnets,
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

pub(super) const NODE_ANNOTATIONS: &[&str] = &[
    "flannel.alpha.coreos.com\n",
    "kube-subnet-manager=true\n",
    "backend-type=vxlan\n",
    "backend-type=host-gw\n",
    "backend-data={\"VNI\":1,\"VtepMAC\":\"c6:d8:1b:2a:d6:81\"}\n",
    "backend-v6-data=null\n",
    "public-ip=192.0.2.1\n",
    "public-ipv6=2001:db8::1\n",
    "public-ip-overwrite=192.0.2.2\n",
    "node-public-ipv6=2001:db8::2\n",
    "cidr=10.244.1.0/24\n",
    "cidr=fd00:1::/64\n",
];

/// A prefix in the first line; in each other one an annotation with its text, or `cidr=` and a pod CIDR.
pub(super) fn node_annotations(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let prefix = match first.parse::<AnnotationPrefix>() {
        Ok(prefix) => prefix,
        Err(error) => {
            sentence(&error);
            return;
        }
    };
    assert_eq!(prefix.as_str().parse(), Ok(prefix.clone()));
    let pairs: Vec<(String, &str)> = rest
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, text)| (format!("{prefix}{name}"), text))
        .collect();
    let cidr = format!("{prefix}cidr");
    let cidrs = pairs.iter().filter(|(key, _)| *key == cidr);
    let subnets = match pod_subnets(cidrs.map(|(_, text)| *text), None) {
        Ok(subnets) => subnets,
        Err(error) => {
            sentence(&error);
            return;
        }
    };
    let node = NodeAnnotations::pick(
        &prefix,
        pairs.iter().map(|(key, text)| (key.as_str(), *text)),
    );
    let (overwrite, faults) = node.overwrites();
    faults.iter().for_each(sentence);
    node.wishes().1.iter().for_each(sentence);
    let lease = match node.lease(subnets) {
        Ok(lease) => lease,
        Err(error) => {
            sentence(&error);
            return;
        }
    };
    lease.faults.iter().for_each(sentence);
    // What was read and is written needs no second writing.
    let written = NodeAnnotations::of(&lease.record, &overwrite);
    assert!(written.changes(&written).is_empty() && written.is_managed());
    if let Ok(again) = written.lease(subnets) {
        assert_eq!(again.faults, []);
        assert_eq!(again.record.backend.name(), lease.record.backend.name());
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
