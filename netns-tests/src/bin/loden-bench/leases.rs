//! Many leases in the lab's etcd, written over its JSON interface: starting `etcdctl` takes longer than what is measured. Nodes of
//! Kubernetes are written there too, as the API server itself would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Lab, etcd};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The pod network that has room for all of them.
pub(crate) const NET_CONF: &str = r#"{"Network": "10.0.0.0/8", "SubnetLen": 24, "SubnetMin": "10.1.0.0", "SubnetMax": "10.99.255.0", "Backend": {"Type": "vxlan"}}"#;

/// So many operations fit in a transaction of etcd.
const TOGETHER: usize = 100;

/// Where leases lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Store {
    Etcd,
    /// The Nodes of a Kubernetes API server.
    Kubernetes,
}

impl Store {
    /// Behind the name of a scene.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Etcd => "",
            Self::Kubernetes => ", Kubernetes",
        }
    }

    fn key(self, peer: Peer) -> String {
        match self {
            Self::Etcd => peer.key(),
            Self::Kubernetes => node_key(&peer.node()),
        }
    }

    fn value(self, peer: Peer) -> String {
        match self {
            Self::Etcd => peer.value(),
            Self::Kubernetes => peer.node_value(),
        }
    }

    fn put(self, peer: Peer) -> Value {
        put(&self.key(peer), &self.value(peer))
    }
}

/// The lease of one more peer. None of them exists; nobody sends them anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) u32);

impl Peer {
    /// The subnet's own address, which is its VTEP's too.
    pub(crate) fn vtep(self) -> IpAddr {
        let [.., high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 100 + high, low, 0).into()
    }

    /// Some pod there.
    pub(crate) fn pod(self) -> IpAddr {
        let [.., high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 100 + high, low, 5).into()
    }

    pub(crate) fn public(self) -> IpAddr {
        let [.., high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(203, 0, high, low).into()
    }

    pub(crate) fn mac(self) -> String {
        let [.., high, low] = self.0.to_be_bytes();
        format!("02:00:00:01:{high:02x}:{low:02x}")
    }

    pub(crate) fn key(self) -> String {
        format!("{}/subnets/{}-24", etcd::PREFIX, self.vtep())
    }

    pub(crate) fn value(self) -> String {
        json!({
            "PublicIP": self.public(), "PublicIPv6": null, "BackendType": "vxlan",
            "BackendData": self.backend_data(),
        })
        .to_string()
    }

    fn backend_data(self) -> Value {
        json!({"VNI": 1, "VtepMAC": self.mac()})
    }

    fn node(self) -> String {
        format!("peer-{}", self.0)
    }

    /// The Node that says the same, with its daemon's annotations.
    fn node_value(self) -> String {
        let annotations = json!({
            "flannel.alpha.coreos.com/backend-data": self.backend_data().to_string(),
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ip": self.public(),
        });
        node_value(
            &self.node(),
            self.0,
            &format!("{}/24", self.vtep()),
            annotations,
        )
    }
}

/// Where the API server stores a Node.
fn node_key(name: &str) -> String {
    format!("/registry/minions/{name}")
}

/// How it stores one; it reads JSON as well as what it writes itself.
fn node_value(name: &str, number: u32, cidr: &str, annotations: Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": name, "uid": format!("00000000-0000-4000-8000-{number:012x}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations,
        },
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {},
    })
    .to_string()
}

/// A connection to etcd.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: BufReader<TcpStream>,
    store: Store,
}

impl Writer {
    pub(crate) fn connect(lab: &Lab, store: Store) -> Result<Self> {
        let stream = lab
            .etcd()?
            .host()
            .run(|| TcpStream::connect("127.0.0.1:2379"))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self {
            connection: BufReader::new(stream),
            store,
        })
    }

    pub(crate) fn put(&mut self, peer: Peer) -> Result<()> {
        self.post("/v3/kv/put", &self.store.put(peer))
    }

    /// The Node of a host whose daemon has not run yet, with a subnet outside those of peers.
    pub(crate) fn put_own_node(&mut self, name: &str, number: u8) -> Result<()> {
        let cidr = format!("10.{number}.0.0/24");
        // Every kubelet's Node has this one; on a Node with none at all flannel ends in a panic.
        let annotations = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
        let value = node_value(name, u32::MAX - u32::from(number), &cidr, annotations);
        self.post("/v3/kv/put", &put(&node_key(name), &value))
    }

    pub(crate) fn delete(&mut self, peer: Peer) -> Result<()> {
        let key = base64(&self.store.key(peer));
        self.post("/v3/kv/deleterange", &json!({"key": key}))
    }

    /// Writes those numbered from 0 to `number`.
    pub(crate) fn put_all(&mut self, number: u32) -> Result<()> {
        let peers: Vec<Peer> = (0..number).map(Peer).collect();
        for peers in peers.chunks(TOGETHER) {
            let puts: Vec<Value> = peers
                .iter()
                .map(|peer| json!({"requestPut": self.store.put(*peer)}))
                .collect();
            self.post("/v3/kv/txn", &json!({"success": puts}))?;
        }
        Ok(())
    }

    fn post(&mut self, path: &str, body: &Value) -> Result<()> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.connection.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.connection.read_line(&mut head)?;
            ensure!(read > 0, "etcd closed the connection: {head}");
        }
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse().ok());
        let answer = match length {
            Some(length) => {
                let mut answer = vec![0; length];
                self.connection.read_exact(&mut answer)?;
                answer
            }
            None => self.read_chunks()?,
        };
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "etcd refuses {path}: {head}{}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    /// A body in chunks, each with its length in hexadecimal before it; an empty one is the last.
    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line)?;
            let length =
                usize::from_str_radix(line.trim(), 16).context("etcd's answer is broken")?;
            let mut chunk = vec![0; length + 2];
            self.connection.read_exact(&mut chunk)?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
}

fn put(key: &str, value: &str) -> Value {
    json!({"key": base64(key), "value": base64(value)})
}

/// RFC 4648, section 4.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let mut bits = [0, 0, 0, 0];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for place in 0..4 {
            if place <= three.len() {
                encoded.push(char::from(
                    LETTERS[(bits >> (18 - 6 * place)) as usize & 63],
                ));
            } else {
                encoded.push('=');
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text), encoded);
        }
    }

    #[test]
    fn peers_differ() {
        assert_eq!(
            Peer(0x0203).key(),
            "/coreos.com/network/subnets/10.102.3.0-24"
        );
        assert_eq!(
            Store::Kubernetes.key(Peer(0x0203)),
            "/registry/minions/peer-515"
        );
        assert_eq!(Peer(0x0203).mac(), "02:00:00:01:02:03");
        assert_eq!(Peer(0x0203).public().to_string(), "203.0.2.3");
    }
}
