//! What a transaction changes, and what it leaves alone.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};
use hostnet::nft::{
    ChainHead, ChainKind, Error, Expr, Family, Hook, Masquerade, Nftables, Policy, Rule, Set,
    SetKind, Table,
};
use ipnetwork::{IpNetwork, Ipv4Network};

use crate::program::{chain, everything, expect_in_place, filter, listing, nft, source_nat, table};

/// A ruleset of somebody else, with a table of the same name as ours in another family.
const FOREIGN: &str = r#"
table ip6 t {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ip6 saddr fd00::/8 counter packets 7 bytes 700 accept comment "theirs"
	}
}
table inet firewalld {
	comment "theirs too"
	map verdicts { type ipv4_addr : verdict; elements = { 10.0.0.1 : accept }; }
	set ports { type inet_service; flags timeout; }
	counter hits { packets 3 bytes 30 }
	chain input {
		type filter hook input priority filter - 1;
		tcp dport { 22, 80 } counter name hits accept
		ip saddr vmap @verdicts
		limit rate 5/minute log prefix "in: "
	}
}
table bridge t {
	chain c {
	}
}
"#;

fn simple(rules: Vec<Rule>) -> Table {
    table(Family::Ip, "t", vec![filter("c", Hook::Forward, rules)])
}

pub(crate) fn foreign_tables_stay_untouched() -> Result<()> {
    nft(FOREIGN)?;
    let before = everything()?;
    let mut nftables = Nftables::open()?;
    let first = simple(vec![Rule::new([Expr::Accept])]);
    let second = simple(vec![Rule::new([Expr::Drop]), Rule::new([Expr::Return])]);
    let mut third = second.clone();
    third.comment = Some("makes it a table of another frame".to_owned());
    for table in [&first, &second, &third] {
        nftables.replace(std::slice::from_ref(table))?;
        expect_in_place(&mut nftables, table)?;
    }
    nftables.delete(&[(Family::Ip, "t")])?;
    let after = everything()?;
    ensure!(after == before, "before\n{before}after\n{after}");
    Ok(())
}

pub(crate) fn deleting_takes_just_the_named_tables() -> Result<()> {
    nft("add table ip a\nadd table ip b\nadd table ip6 a\nadd table inet c")?;
    let mut nftables = Nftables::open()?;
    nftables.delete(&[(Family::Ip, "a"), (Family::Inet, "c")])?;
    let left = nft("list tables")?;
    ensure!(left == "table ip b\ntable ip6 a\n", "{left}");
    Ok(())
}

pub(crate) fn absent_tables_can_be_deleted() -> Result<()> {
    let mut nftables = Nftables::open()?;
    nftables.delete(&[])?;
    nftables.delete(&[(Family::Ip, "a"), (Family::Ip6, "a"), (Family::Inet, "a")])?;
    nft("add table ip6 a")?;
    nftables.delete(&[(Family::Ip, "a"), (Family::Ip6, "a")])?;
    let left = nft("list tables")?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

pub(crate) fn a_refused_batch_leaves_everything_as_it_was() -> Result<()> {
    nft(FOREIGN)?;
    let mut nftables = Nftables::open()?;
    let good = simple(vec![Rule::new([Expr::Accept]).with_comment("good")]);
    let other = table(Family::Ip6, "other", vec![chain("c", vec![])]);
    nftables.replace(&[good.clone(), other.clone()])?;
    let before = everything()?;

    // Packets on their way through cannot be masqueraded at that hook.
    let masquerade = Rule::new([Expr::Masquerade(Masquerade::default())]);
    let misplaced = simple(vec![
        Rule::new([Expr::Drop]),
        masquerade.clone().with_comment("out of place"),
    ]);
    let mut with_new_chain = misplaced.clone();
    with_new_chain.chains.push(chain("more", vec![]));
    let mut changed_other = other;
    changed_other.chains[0].rules = vec![Rule::new([Expr::Drop])];
    for refused in [&misplaced, &with_new_chain] {
        let tables = [changed_other.clone(), refused.clone()];
        let error = refusal(nftables.replace(&tables))?;
        for part in [
            "rule 2 of chain ip t c (\"out of place\")",
            "errno 95",
            "nothing was changed",
        ] {
            ensure!(error.contains(part), "no {part:?} in {error:?}");
        }
        let after = everything()?;
        ensure!(after == before, "before\n{before}after\n{after}");
    }

    // Chains that go round in a circle.
    let circle = table(
        Family::Ip,
        "t",
        vec![
            filter("c", Hook::Forward, vec![jump("d")]),
            chain("d", vec![jump("e")]),
            chain("e", vec![jump("d")]),
        ],
    );
    let error = refusal(nftables.replace(&[circle]))?;
    ensure!(error.contains("Too many links (errno 31)"), "{error}");
    // The second of two tables is wrong, in a way we see ourselves.
    let unknown = simple(vec![jump("nowhere")]);
    let error = refusal(nftables.replace(&[changed_other, unknown]))?;
    ensure!(
        error.contains("\"nowhere\", which is not in the table"),
        "{error}"
    );
    let after = everything()?;
    ensure!(after == before, "before\n{before}after\n{after}");

    // The socket is as good as before.
    expect_in_place(&mut nftables, &good)?;
    let fine = table(Family::Ip, "t", vec![source_nat("c", vec![masquerade])]);
    nftables.replace(std::slice::from_ref(&fine))?;
    expect_in_place(&mut nftables, &fine)
}

fn jump(chain: &str) -> Rule {
    Rule::new([Expr::Jump(chain.to_owned())])
}

fn refusal(result: Result<(), Error>) -> Result<String> {
    let error = result.err().ok_or_else(|| anyhow!("it was not refused"))?;
    Ok(error.to_string())
}

pub(crate) fn new_rules_leave_the_chains_in_place() -> Result<()> {
    let mut nftables = Nftables::open()?;
    let one = simple(vec![Rule::new([Expr::Accept])]);
    let two = simple(vec![Rule::new([Expr::Counter]), Rule::new([Expr::Drop])]);
    nftables.replace(std::slice::from_ref(&one))?;
    let handle = |what: &str| -> Result<String> {
        let ruleset = everything()?;
        let line = ruleset.lines().find(|line| line.contains(what));
        line.map(str::to_owned)
            .ok_or_else(|| anyhow!("no {what} in\n{ruleset}"))
    };
    let (table, chain) = (handle("table ip t")?, handle("chain c")?);
    ensure!(table.contains("handle") && chain.contains("handle"));
    nftables.replace(std::slice::from_ref(&two))?;
    expect_in_place(&mut nftables, &two)?;
    ensure!(handle("table ip t")? == table && handle("chain c")? == chain);
    // Another frame needs another table.
    let mut hook = two;
    hook.chains[0].hook = None;
    nftables.replace(std::slice::from_ref(&hook))?;
    expect_in_place(&mut nftables, &hook)?;
    ensure!(handle("table ip t")? != table);
    Ok(())
}

pub(crate) fn new_elements_are_exchanged_in_place() -> Result<()> {
    let mut nftables = Nftables::open()?;
    let rules = vec![Rule::new([Expr::SourceIn("s".to_owned()), Expr::Accept])];
    let mut table = simple(rules);
    table.sets.push(Set {
        name: "s".to_owned(),
        kind: SetKind::Ipv4,
        prefixes: Vec::new(),
    });
    for prefixes in [
        &["10.0.0.0/8"][..],
        &["10.0.0.0/8", "172.16.0.0/12"],
        &["10.0.0.0/16", "172.16.0.0/12", "255.255.0.0/16"],
        &["0.0.0.0/0"],
        &[],
        &["192.0.2.0/24"],
    ] {
        let prefixes = prefixes.iter().map(|text| text.parse());
        table.sets[0].prefixes = prefixes.collect::<Result<_, _>>()?;
        nftables.replace(std::slice::from_ref(&table))?;
        expect_in_place(&mut nftables, &table)?;
    }
    let text = listing(&table)?;
    ensure!(text.contains("elements = { 192.0.2.0/24 }"), "{text}");
    Ok(())
}

/// More than a datagram holds by default, and more elements than fit into one message.
pub(crate) fn a_large_set_is_written_and_read() -> Result<()> {
    let prefix = |number: u32| {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + (number << 9));
        Ipv4Network::new(address, 24).map(IpNetwork::V4)
    };
    let mut table = simple(vec![Rule::new([Expr::SourceIn("s".to_owned())])]);
    table.sets.push(Set {
        name: "s".to_owned(),
        kind: SetKind::Ipv4,
        prefixes: (0..4_000).map(prefix).collect::<Result<_, _>>()?,
    });
    let mut nftables = Nftables::open()?;
    nftables.replace(std::slice::from_ref(&table))?;
    expect_in_place(&mut nftables, &table)?;
    let text = listing(&table)?;
    let listed = text.matches("/24").count();
    ensure!(listed == 4_000, "nft lists {listed} of 4000");
    // One element fewer, by somebody else, and back.
    nft("delete element ip t s { 10.0.2.0/24 }")?;
    ensure!(expect_in_place(&mut nftables, &table).is_err());
    nftables.replace(std::slice::from_ref(&table))?;
    expect_in_place(&mut nftables, &table)
}

/// kube-proxy and others write their own tables whenever they like, which invalidates what we have just read.
pub(crate) fn constant_writers_keep_nobody_from_replacing() -> Result<()> {
    let one = simple(vec![Rule::new([Expr::Accept])]);
    let two = simple(vec![Rule::new([Expr::Drop])]);
    let stop = AtomicBool::new(false);
    let written = AtomicU32::new(0);
    let readings = thread::scope(|scope| {
        let writer = scope.spawn(|| write_foreign_tables(&written, &stop));
        let outcome = replace_and_look(&one, &two, || {
            written.load(Ordering::Relaxed) > 200 || writer.is_finished()
        });
        stop.store(true, Ordering::Relaxed);
        writer
            .join()
            .map_err(|_| anyhow!("the writer panicked"))??;
        outcome
    })?;
    println!(
        "{} foreign transactions; {} readings, {} given up",
        written.into_inner(),
        readings.made,
        readings.given_up
    );
    Ok(())
}

fn write_foreign_tables(written: &AtomicU32, stop: &AtomicBool) -> Result<()> {
    let foreign = |rule| table(Family::Ip, "foreign", vec![chain("c", vec![rule])]);
    let tables = [
        foreign(Rule::new([Expr::Accept])),
        foreign(Rule::new([Expr::Drop])),
    ];
    let mut nftables = Nftables::open()?;
    while !stop.load(Ordering::Relaxed) {
        for table in &tables {
            nftables.replace(std::slice::from_ref(table))?;
            written.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[derive(Default)]
struct Readings {
    made: u32,
    given_up: u32,
}

/// Replaces many times, until `done`; each time what is there is either as wanted or cannot be told.
fn replace_and_look(one: &Table, two: &Table, done: impl Fn() -> bool) -> Result<Readings> {
    let mut nftables = Nftables::open()?;
    let mut readings = Readings::default();
    while readings.made < 200 || !done() {
        for table in [one, two] {
            nftables.replace(std::slice::from_ref(table))?;
            readings.made += 1;
            match nftables.observe(table.family, &table.name) {
                Ok(observed) => ensure!(observed.as_ref() == Some(&table.compile()?)),
                Err(Error::Busy { .. }) => readings.given_up += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    ensure!(
        readings.given_up < readings.made,
        "no reading came to an end"
    );
    Ok(readings)
}

pub(crate) fn what_the_kernel_could_hold_is_not_written() -> Result<()> {
    nft(FOREIGN)?;
    let before = everything()?;
    let mut nftables = Nftables::open()?;
    let good = simple(vec![Rule::new([Expr::Accept])]);
    nftables.check(std::slice::from_ref(&good))?;
    // No chain of the kind nat can stand there.
    let mut bad = good.clone();
    for hook in bad
        .chains
        .iter_mut()
        .filter_map(|chain| chain.hook.as_mut())
    {
        hook.kind = ChainKind::Nat;
    }
    match nftables.check(&[good.clone(), bad]) {
        Err(Error::Refused { what, .. }) => ensure!(what == "chain ip t c", "{what}"),
        other => anyhow::bail!("{other:?}"),
    }
    let after = everything()?;
    ensure!(after == before, "before\n{before}after\n{after}");
    // The connection is of use afterwards, and a table that is there is no obstacle.
    nftables.replace(std::slice::from_ref(&good))?;
    nftables.check(std::slice::from_ref(&good))?;
    expect_in_place(&mut nftables, &good)
}

pub(crate) fn chains_of_others_are_listed() -> Result<()> {
    nft(FOREIGN)?;
    let mut nftables = Nftables::open()?;
    let head = |table: &str, name: &str, policy| ChainHead {
        table: table.to_owned(),
        name: name.to_owned(),
        policy,
    };
    let listed = nftables.chains(Family::Ip6)?;
    ensure!(
        listed == [head("t", "forward", Some(Policy::Drop))],
        "{listed:?}"
    );
    let listed = nftables.chains(Family::Inet)?;
    ensure!(
        listed == [head("firewalld", "input", Some(Policy::Accept))],
        "{listed:?}"
    );
    ensure!(nftables.chains(Family::Ip)?.is_empty());
    nft("add table ip t; add chain ip t c")?;
    let listed = nftables.chains(Family::Ip)?;
    ensure!(listed == [head("t", "c", None)], "{listed:?}");
    Ok(())
}
