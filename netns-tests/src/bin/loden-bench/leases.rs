//! Many leases in the lab's etcd, written over its JSON interface: starting `etcdctl` takes longer than what is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{Endpoint, Lab, etcd};
use serde_json::{Value, json};

/// The pod network that has room for all of them.
pub(crate) const NET_CONF: &str = r#"{"Network": "10.0.0.0/8", "SubnetLen": 24, "SubnetMin": "10.1.0.0", "SubnetMax": "10.99.255.0", "Backend": {"Type": "vxlan"}}"#;

/// So many operations fit in a transaction of etcd.
const TOGETHER: usize = 100;

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
            "BackendData": {"VNI": 1, "VtepMAC": self.mac()},
        })
        .to_string()
    }
}

/// A connection to etcd.
#[derive(Debug)]
pub(crate) struct Writer(BufReader<TcpStream>);

impl Writer {
    pub(crate) fn connect(lab: &Lab) -> Result<Self> {
        let stream = lab
            .etcd()?
            .host()
            .run(|| TcpStream::connect("127.0.0.1:2379"))??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn put(&mut self, peer: Peer) -> Result<()> {
        self.post("/v3/kv/put", &put(peer))
    }

    pub(crate) fn delete(&mut self, peer: Peer) -> Result<()> {
        self.post("/v3/kv/deleterange", &json!({"key": base64(&peer.key())}))
    }

    /// Writes those numbered from 0 to `number`.
    pub(crate) fn put_all(&mut self, number: u32) -> Result<()> {
        let peers: Vec<Peer> = (0..number).map(Peer).collect();
        for peers in peers.chunks(TOGETHER) {
            let puts: Vec<Value> = peers
                .iter()
                .map(|peer| json!({"requestPut": put(*peer)}))
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
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut head)?;
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
                self.0.read_exact(&mut answer)?;
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
            self.0.read_line(&mut line)?;
            let length =
                usize::from_str_radix(line.trim(), 16).context("etcd's answer is broken")?;
            let mut chunk = vec![0; length + 2];
            self.0.read_exact(&mut chunk)?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
}

fn put(peer: Peer) -> Value {
    json!({"key": base64(&peer.key()), "value": base64(&peer.value())})
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
        assert_eq!(Peer(0x0203).mac(), "02:00:00:01:02:03");
        assert_eq!(Peer(0x0203).public().to_string(), "203.0.2.3");
    }
}
