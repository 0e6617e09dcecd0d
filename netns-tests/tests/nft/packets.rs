//! Packets that must not notice that rules are replaced under them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use flanneld::firewall::Firewall;
use hostnet::nft::{BaseHook, Expr, Family, Hook, Nftables, Policy, Rule, Table};
use netns_tests::{Endpoint, Host, Lab, OUTSIDE, Traffic};

use crate::firewall::{ALL, firewall_tables};
use crate::program::{filter, table};

/// At least so many datagrams go there and back while rules are replaced.
const DATAGRAMS: u64 = 3_000;
/// At least so often they are replaced meanwhile.
const REPLACEMENTS: u64 = 500;
/// A datagram that takes longer than this is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// All that is let in is what the rules accept: one moment without them, and a datagram is lost.
pub(crate) fn no_packet_is_dropped_while_rules_are_replaced() -> Result<()> {
    let lab = Lab::new()?;
    let [client, server] = lab.hosts(["client", "server"])?;
    client.ping(&server)?;
    let gate = |rules| -> Table {
        let mut chain = filter("in", Hook::Input, rules);
        chain.hook = chain.hook.map(|hook| BaseHook {
            policy: Policy::Drop,
            ..hook
        });
        table(Family::Ip, "gate", vec![chain])
    };
    let accept = Rule::new([
        Expr::Source(IpAddr::from(client.ipv4()).into()),
        Expr::Accept,
    ]);
    let one = [gate(vec![accept.clone()])];
    let two = [gate(vec![Rule::new([Expr::Counter]), accept])];
    let mut nftables = server.run(Nftables::open)??;
    let socket = client.run(|| UdpSocket::bind((client.ipv4(), 0)))??;
    exchange_while(
        &Echo::on(&server, server.ipv4(), client.ipv4())?,
        &|| Ok(socket.try_clone()?),
        || Ok(nftables.replace(&one).and(nftables.replace(&two))?),
    )
}

/// Each datagram starts a connection, so each needs the rule that masquerades it; the world knows no way back to pods.
pub(crate) fn new_connections_are_masqueraded_while_rules_are_replaced() -> Result<()> {
    let pod = Ipv4Addr::new(10, 244, 3, 7);
    let lab = Lab::new()?;
    let node = lab.host("node")?;
    node.ping(&OUTSIDE)?;
    node.ip_batch(&format!("addr add {pod}/32 dev lo\n"))?;
    let plain = Firewall {
        fully_random: false,
        ..ALL
    };
    let (random, plain) = (firewall_tables(&ALL)?, firewall_tables(&plain)?);
    let mut nftables = node.run(Nftables::open)??;
    nftables.replace(&random)?;
    exchange_while(
        &Echo::on(lab.world(), OUTSIDE, node.ipv4())?,
        &|| Ok(node.run(|| UdpSocket::bind((pod, 0)))??),
        || Ok(nftables.replace(&plain).and(nftables.replace(&random))?),
    )
}

/// Sends datagrams to the echo, one after the other, while `work` is done again and again.
///
/// Fails when one is lost, or when the echo sees one come from a wrong address.
fn exchange_while(
    echo: &Echo,
    socket: &(dyn Fn() -> Result<UdpSocket> + Sync),
    mut work: impl FnMut() -> Result<()>,
) -> Result<()> {
    let (crossed, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| echo.answer(&over));
        let exchanging = scope.spawn(|| exchange(echo.address()?, socket, &crossed, &enough));
        let mut replacements = 0;
        let mut outcome = Ok(());
        while outcome.is_ok()
            && (crossed.load(Ordering::Relaxed) < DATAGRAMS || replacements < REPLACEMENTS)
            && !exchanging.is_finished()
        {
            outcome = work();
            replacements += 2;
        }
        enough.store(true, Ordering::Relaxed);
        let exchanged = exchanging.join();
        // The echo has to outlive the last datagram.
        over.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a thread of the test panicked");
        answering.join().map_err(panicked)??;
        exchanged.map_err(panicked)??;
        println!("{crossed:?} datagrams crossed during {replacements} replacements");
        outcome
    })
}

fn exchange(
    target: SocketAddr,
    socket: &(dyn Fn() -> Result<UdpSocket> + Sync),
    crossed: &AtomicU64,
    enough: &AtomicBool,
) -> Result<()> {
    while !enough.load(Ordering::Relaxed) {
        let number = crossed.load(Ordering::Relaxed);
        let socket = socket()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(&number.to_be_bytes(), target)?;
        let mut answer = [0; 8];
        let (length, _) = socket
            .recv_from(&mut answer)
            .with_context(|| format!("datagram {number} is lost"))?;
        ensure!(answer[..length] == number.to_be_bytes());
        crossed.store(number + 1, Ordering::Relaxed);
    }
    Ok(())
}

/// Answers each datagram.
struct Echo {
    socket: UdpSocket,
    seen_as: IpAddr,
}

impl Echo {
    /// Listens on that address of the host; all datagrams shall come from `seen_as`.
    fn on(host: &Host, address: Ipv4Addr, seen_as: Ipv4Addr) -> Result<Self> {
        let socket = host.run(|| UdpSocket::bind((address, 0)))??;
        // So that it looks now and then whether it is over.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self {
            socket,
            seen_as: seen_as.into(),
        })
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    fn answer(&self, over: &AtomicBool) -> Result<()> {
        let mut datagram = [0; 64];
        while !over.load(Ordering::Relaxed) {
            let Ok((length, source)) = self.socket.recv_from(&mut datagram) else {
                continue;
            };
            ensure!(
                source.ip() == self.seen_as,
                "a datagram came from {source}, not from {}",
                self.seen_as
            );
            self.socket.send_to(&datagram[..length], source)?;
        }
        Ok(())
    }
}
