//! What others do to a table with the `nft` program is seen, named, and put right.

use anyhow::{Context, Result, ensure};
use hostnet::nft::{Expr, Family, Hook, Nftables, Rule, Set, SetKind, Table};

use crate::program::{chain, drift, everything, expect_in_place, filter, listing, nft, table};

/// A table with something of everything that can be altered.
fn victim() -> Result<Table> {
    let own = "10.244.1.0/24".parse()?;
    let rules = vec![
        Rule::new([Expr::Source(own), Expr::Counter, Expr::Accept]).with_comment("first"),
        Rule::new([Expr::DestinationIn("nets".to_owned()), Expr::Accept]).with_comment("second"),
        Rule::new([Expr::Jump("aside".to_owned())]),
    ];
    Ok(Table {
        comment: Some("ours".to_owned()),
        sets: vec![Set {
            name: "nets".to_owned(),
            kind: SetKind::Ipv4,
            prefixes: vec!["10.0.0.0/8".parse()?, "172.16.0.0/12".parse()?],
        }],
        ..table(
            Family::Ip,
            "t",
            vec![
                chain("aside", vec![Rule::new([Expr::Return])]),
                filter("main", Hook::Forward, rules),
            ],
        )
    })
}

/// What somebody types, and what we say about it. `$1` is the handle of the first rule of `main`, and so on.
const MEDDLING: &[(&str, &[&str])] = &[
    ("flush ruleset", &["table ip t is missing"]),
    ("delete table ip t", &["table ip t is missing"]),
    (
        "flush table ip t",
        &[
            "rule 1 of chain ip t aside is missing",
            "rule 1 of chain ip t main (\"first\") is missing",
            "rule 2 of chain ip t main (\"second\") is missing",
            "rule 3 of chain ip t main is missing",
        ],
    ),
    (
        "add table ip t { flags dormant; }",
        &["table ip t was altered"],
    ),
    (
        "flush chain ip t aside",
        &["rule 1 of chain ip t aside is missing"],
    ),
    (
        "flush chain ip t main\ndelete chain ip t main",
        &["chain ip t main is missing"],
    ),
    ("add chain ip t more", &["chain ip t more is not ours"]),
    (
        "add chain ip t more { type nat hook prerouting priority dstnat; }",
        &["chain ip t more is not ours"],
    ),
    (
        "chain ip t main { policy drop; }",
        &["chain ip t main was altered"],
    ),
    (
        "delete rule ip t main handle $1",
        &["rule 1 of chain ip t main (\"first\") is missing"],
    ),
    (
        "add rule ip t main drop",
        &["rule 4 of chain ip t main is not ours"],
    ),
    (
        "insert rule ip t main drop comment \"mine\"",
        &["rule 1 of chain ip t main (\"mine\") is not ours"],
    ),
    (
        "add rule ip t main index 0 ip saddr 10.244.1.0/24 counter accept comment \"first\"",
        &["rule 2 of chain ip t main (\"first\") is not ours"],
    ),
    (
        "delete rule ip t main handle $1\n\
         add rule ip t main ip saddr 10.244.1.0/24 counter accept comment \"first\"",
        &["the rules of chain ip t main are in another order"],
    ),
    (
        "replace rule ip t main handle $1 ip saddr 10.244.1.0/25 counter accept comment \"first\"",
        &[
            "rule 1 of chain ip t main (\"first\") is missing",
            "rule 1 of chain ip t main (\"first\") is not ours",
        ],
    ),
    (
        "replace rule ip t main handle $1 ip saddr 10.244.1.0/24 counter drop comment \"first\"",
        &[
            "rule 1 of chain ip t main (\"first\") is missing",
            "rule 1 of chain ip t main (\"first\") is not ours",
        ],
    ),
    (
        "replace rule ip t main handle $1 ip saddr 10.244.1.0/24 accept comment \"first\"",
        &[
            "rule 1 of chain ip t main (\"first\") is missing",
            "rule 1 of chain ip t main (\"first\") is not ours",
        ],
    ),
    (
        "replace rule ip t main handle $1 \
         ip saddr 10.244.1.0/24 limit rate 1/second counter accept comment \"first\"",
        &[
            "rule 1 of chain ip t main (\"first\") is missing",
            "rule 1 of chain ip t main (\"first\") is not ours",
        ],
    ),
    (
        "replace rule ip t main handle $1 ip saddr 10.244.1.0/24 counter accept comment \"other\"",
        &[
            "rule 1 of chain ip t main (\"first\") is missing",
            "rule 1 of chain ip t main (\"other\") is not ours",
        ],
    ),
    (
        "replace rule ip t main handle $2 ip daddr != @nets accept comment \"second\"",
        &[
            "rule 2 of chain ip t main (\"second\") is missing",
            "rule 2 of chain ip t main (\"second\") is not ours",
        ],
    ),
    (
        "replace rule ip t main handle $3 goto aside",
        &[
            "rule 3 of chain ip t main is missing",
            "rule 3 of chain ip t main is not ours",
        ],
    ),
    (
        "add element ip t nets { 192.0.2.1 }",
        &["set ip t nets was altered"],
    ),
    (
        "delete element ip t nets { 10.0.0.0/8 }",
        &["set ip t nets was altered"],
    ),
    ("flush set ip t nets", &["set ip t nets was altered"]),
    (
        "delete rule ip t main handle $2\ndelete set ip t nets\n\
         add set ip t nets { type ipv4_addr; elements = { 10.0.0.1 }; }",
        &[
            "set ip t nets was altered",
            "rule 2 of chain ip t main (\"second\") is missing",
        ],
    ),
    (
        "add set ip t more { type inet_service; }",
        &["set ip t more is not ours"],
    ),
    (
        "add map ip t more { type ipv4_addr : verdict; }",
        &["set ip t more is not ours"],
    ),
];

pub(crate) fn changes_by_others_are_found_and_put_right() -> Result<()> {
    let table = victim()?;
    let mut nftables = Nftables::open()?;
    nftables.replace(std::slice::from_ref(&table))?;
    let untouched = listing(&table)?;
    for (commands, expected) in MEDDLING {
        meddle(&table, commands)?;
        let found = drift(&mut nftables, &table)?;
        ensure!(found == *expected, "{commands}: {found:#?}");
        nftables.replace(std::slice::from_ref(&table))?;
        expect_in_place(&mut nftables, &table).context(*commands)?;
        let repaired = listing(&table)?;
        ensure!(repaired == untouched, "after {commands}:\n{repaired}");
    }
    Ok(())
}

/// Runs the commands with the handles of the rules of `main` filled in.
fn meddle(table: &Table, commands: &str) -> Result<()> {
    let ruleset = everything()?;
    let main = ruleset
        .split("chain main")
        .nth(1)
        .context("there is no chain main")?;
    let handles = main
        .lines()
        .skip(1)
        .filter(|line| !line.contains("policy"))
        .filter_map(|line| line.split("# handle ").nth(1));
    let mut commands = commands.to_owned();
    for (number, handle) in (1..).zip(handles).take(3) {
        commands = commands.replace(&format!("${number}"), handle);
    }
    nft(&commands).context(table.to_string())?;
    Ok(())
}

pub(crate) fn packets_counted_are_no_drift() -> Result<()> {
    let local = "127.0.0.0/8".parse()?;
    let rules = vec![Rule::new([
        Expr::Source(local),
        Expr::Counter,
        Expr::Accept,
    ])];
    let table = table(Family::Ip, "t", vec![filter("in", Hook::Input, rules)]);
    let mut nftables = Nftables::open()?;
    nftables.replace(std::slice::from_ref(&table))?;
    bring_up_loopback()?;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"x", socket.local_addr()?)?;
    socket.recv(&mut [0])?;
    let text = listing(&table)?;
    ensure!(text.contains("counter packets 1 bytes 29"), "{text}");
    expect_in_place(&mut nftables, &table)
}

fn bring_up_loopback() -> Result<()> {
    let status = std::process::Command::new("ip")
        .args(["link", "set", "dev", "lo", "up"])
        .status()?;
    ensure!(status.success(), "lo cannot be set up");
    Ok(())
}

pub(crate) fn what_the_kernel_has_no_table_of_is_absent() -> Result<()> {
    let mut nftables = Nftables::open()?;
    ensure!(nftables.observe(Family::Ip, "t")?.is_none());
    nft("add table ip6 t\nadd table ip other")?;
    ensure!(nftables.observe(Family::Ip, "t")?.is_none());
    ensure!(nftables.observe(Family::Ip6, "t")?.is_some());
    Ok(())
}
