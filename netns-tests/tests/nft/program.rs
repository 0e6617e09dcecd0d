//! The `nft` program, and tables to try it on.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hostnet::nft::{
    BaseHook, Chain, ChainKind, CompiledTable, Expr, Family, Hook, Nftables, Policy, Rule, Table,
    priority,
};

/// Runs `nft` with these commands; its output.
pub(crate) fn nft(commands: &str) -> Result<String> {
    run(&[], commands)
}

/// The ruleset as `nft` lists it, with handles and everything it has counted.
pub(crate) fn everything() -> Result<String> {
    run(&["--handle"], "list ruleset")
}

/// One table as `nft` lists it.
pub(crate) fn listing(table: &Table) -> Result<String> {
    nft(&format!("list table {} {}", table.family, table.name))
}

fn run(options: &[&str], commands: &str) -> Result<String> {
    let mut child = Command::new("nft")
        .args(options)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the program nft is needed: install the package nftables")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft was given\n{commands}\n{said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What of the table is not as it should be, in the kernel's eyes.
pub(crate) fn drift(nftables: &mut Nftables, table: &Table) -> Result<Vec<String>> {
    let observed = nftables.observe(table.family, &table.name)?;
    let desired = table.compile()?;
    let drift = desired.drift(observed.as_ref());
    // The two ways to compare have to agree.
    ensure!(drift.is_empty() == (observed.as_ref() == Some(&desired)));
    Ok(drift.iter().map(ToString::to_string).collect())
}

/// Fails unless the kernel holds the table as it is wanted.
pub(crate) fn expect_in_place(nftables: &mut Nftables, table: &Table) -> Result<()> {
    let drift = drift(nftables, table)?;
    ensure!(
        drift.is_empty(),
        "{drift:?}; wanted\n{}found\n{}",
        code(Some(&table.compile()?)),
        code(nftables.observe(table.family, &table.name)?.as_ref())
    );
    Ok(())
}

fn code(table: Option<&CompiledTable>) -> String {
    table.map_or_else(|| "nothing\n".to_owned(), ToString::to_string)
}

/// Fails unless the table, written by us, is for `nft` the one it makes of the table's text, and the other way round.
pub(crate) fn expect_same_as_nft(table: &Table) -> Result<()> {
    let mut nftables = Nftables::open()?;
    nftables.replace(std::slice::from_ref(table))?;
    expect_in_place(&mut nftables, table).context("written by us")?;
    let ours = listing(table)?;
    nftables.delete(&[(table.family, &table.name)])?;
    nft(&table.to_string())?;
    expect_in_place(&mut nftables, table).context("written by nft")?;
    let theirs = listing(table)?;
    ensure!(ours == theirs, "we made\n{ours}nft made\n{theirs}");
    nftables.delete(&[(table.family, &table.name)])?;
    Ok(())
}

/// A table without sets and comment.
pub(crate) fn table(family: Family, name: &str, chains: Vec<Chain>) -> Table {
    Table {
        family,
        name: name.to_owned(),
        comment: None,
        sets: Vec::new(),
        ports: Vec::new(),
        chains,
    }
}

/// A chain without a hook.
pub(crate) fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain {
        name: name.to_owned(),
        hook: None,
        rules,
    }
}

/// A chain that filters at this hook, with the policy to accept.
pub(crate) fn filter(name: &str, hook: Hook, rules: Vec<Rule>) -> Chain {
    let hook = BaseHook {
        kind: ChainKind::Filter,
        hook,
        priority: priority::FILTER,
        policy: Policy::Accept,
    };
    Chain {
        hook: Some(hook),
        ..chain(name, rules)
    }
}

/// A chain for source translation.
pub(crate) fn source_nat(name: &str, rules: Vec<Rule>) -> Chain {
    let hook = BaseHook {
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: priority::SRCNAT,
        policy: Policy::Accept,
    };
    Chain {
        hook: Some(hook),
        ..chain(name, rules)
    }
}

/// A rule for each of these expressions.
pub(crate) fn rule_each(exprs: impl IntoIterator<Item = Expr>) -> Vec<Rule> {
    exprs.into_iter().map(|expr| Rule::new([expr])).collect()
}
