//! The harness itself: an etcd must not outlive its test, however that ends.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use loden_tests::{Etcd, eventually};
use tokio::net::TcpStream;

/// Set for a copy of this test that starts an etcd and is then killed.
const VICTIM: &str = "LODEN_TEST_VICTIM";

async fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

#[tokio::test]
async fn an_etcd_ends_when_it_is_dropped() -> Result<()> {
    let etcd = Etcd::start().await?;
    let port = etcd.port();
    ensure!(answers(port).await);
    drop(etcd);
    ensure!(!answers(port).await);
    Ok(())
}

#[tokio::test]
async fn an_etcd_ends_when_its_test_is_killed() -> Result<()> {
    if let Some(file) = std::env::var_os(VICTIM) {
        let etcd = Etcd::start().await?;
        let mine = format!("{} {}", etcd.port(), etcd.directory().display());
        std::fs::write(file, mine)?;
        return std::future::pending().await;
    }
    let directory = tempfile::TempDir::new()?;
    let file = directory.path().join("port");
    let mut victim = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "an_etcd_ends_when_its_test_is_killed"])
        .env(VICTIM, &file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("running this test again")?;
    let told = eventually("the victim tells its port", || async {
        let told = std::fs::read_to_string(&file).ok()?;
        let (port, directory) = told.split_once(' ')?;
        Some((port.parse::<u16>().ok()?, PathBuf::from(directory)))
    })
    .await;
    victim.kill()?;
    victim.wait()?;
    let (port, directory) = told?;
    eventually("etcd and its data are gone", || async {
        (!answers(port).await && !directory.exists()).then_some(())
    })
    .await
}
