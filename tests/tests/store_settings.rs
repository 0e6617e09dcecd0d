//! How a host finds etcd and its network configuration: absence, TLS, users.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flanneld::store::etcd::{EtcdConfig, EtcdStore, Secret};
use flanneld::store::{LeaseStore, OwnEvent, PeerEvent};
use loden_tests::store::{
    Kept, PREFIX, conf, etcd_with, path, settings, store, vxlan, watch_peers,
};
use loden_tests::{Etcd, EtcdOptions, eventually, next, next_that};

const CONF: &str = r#"{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}"#;

#[tokio::test]
async fn the_network_configuration_is_waited_for() -> Result<()> {
    let mut etcd = Etcd::prepare(EtcdOptions::default())?;
    let waiting = store(&etcd.endpoint())?;
    let waiting = tokio::spawn(async move { waiting.net_conf().await });
    etcd.up().await?;
    let mut client = etcd.client().await?;
    // None of these is one; each is there for a while.
    for wrong in [
        "not JSON",
        r#"{"Network": "10.5.0.0/29"}"#,
        r#"{"Network": "10.5.0.0/16", "SubnetLen": 12}"#,
        r#"{"Network": "10.5.0.0/16", "Backend": {"Type": "carrier-pigeon"}}"#,
    ] {
        client.put(format!("{PREFIX}/config"), wrong, None).await?;
        tokio::task::yield_now().await;
        ensure!(!waiting.is_finished(), "{wrong} was taken");
    }
    client.put(format!("{PREFIX}/config"), CONF, None).await?;
    assert_eq!(waiting.await??, conf(CONF)?);
    Ok(())
}

#[tokio::test]
async fn another_prefix_is_another_network() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    let other = r#"{"Network": "10.6.0.0/16"}"#;
    client.put("/other/config", other, None).await?;
    let store = EtcdStore::new(EtcdConfig {
        // As flannel takes it.
        prefix: "//other/".to_owned(),
        ..settings(&etcd.endpoint())
    })?;
    let conf = store.net_conf().await?;
    let own = store.acquire(&conf, &vxlan(1), None).await?;
    let key = format!("/other/subnets/{}", own.key);
    assert_eq!(client.get(key, None).await?.count(), 1);
    Ok(())
}

fn pem(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("data/tls")
        .join(name)
}

async fn tls_etcd(arguments: &[String]) -> Result<Etcd> {
    let text = |name| pem(name).display().to_string();
    let mut etcd = Etcd::prepare(EtcdOptions {
        arguments: arguments.to_vec(),
        tls: Some((text("server.pem"), text("server-key.pem"))),
    })?;
    etcd.up().await?;
    Ok(etcd)
}

/// Does all that a daemon does with a store.
async fn use_it(store: &EtcdStore) -> Result<()> {
    let mut events = watch_peers(store);
    let first = next(&mut events).await?;
    ensure!(matches!(first, PeerEvent::Snapshot { .. }), "{first:?}");
    let own = store.acquire(&conf(CONF)?, &vxlan(1), None).await?;
    next_that(&mut events, |event| match event {
        PeerEvent::Changed(peer) if peer.key == own.key => Some(()),
        _ => None,
    })
    .await?;
    let mut kept = Kept::new(store, own);
    kept.record.send_replace(vxlan(2));
    next_that(&mut kept.events, |event| match event {
        OwnEvent::Published(_) => Some(()),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn tls_with_the_authority_alone() -> Result<()> {
    let etcd = tls_etcd(&[]).await?;
    let store = EtcdStore::new(EtcdConfig {
        ca_file: Some(pem("ca.pem")),
        ..settings(&etcd.endpoint())
    })?;
    use_it(&store).await
}

#[tokio::test]
async fn tls_with_a_certificate_of_our_own() -> Result<()> {
    let ca = pem("ca.pem").display().to_string();
    let arguments = [
        "--client-cert-auth".to_owned(),
        "--trusted-ca-file".to_owned(),
        ca,
    ];
    let etcd = tls_etcd(&arguments).await?;
    let anonymous = EtcdConfig {
        ca_file: Some(pem("ca.pem")),
        ..settings(&etcd.endpoint())
    };
    let store = EtcdStore::new(anonymous.clone())?;
    let refused = store.acquire(&conf(CONF)?, &vxlan(1), None).await;
    ensure!(refused.is_err(), "etcd asks for a certificate");
    let store = EtcdStore::new(EtcdConfig {
        cert_file: Some(pem("client.pem")),
        key_file: Some(pem("client-key.pem")),
        ..anonymous
    })?;
    use_it(&store).await
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() -> Result<()> {
    let etcd = tls_etcd(&[]).await?;
    let store = EtcdStore::new(EtcdConfig {
        ca_file: Some(pem("other-ca.pem")),
        ..settings(&etcd.endpoint())
    })?;
    let refused = store.acquire(&conf(CONF)?, &vxlan(1), None).await;
    let text = refused.err().context("was trusted")?.to_string();
    ensure!(
        text.contains("certificate") && text.contains(&etcd.endpoint()),
        "{text}"
    );
    Ok(())
}

/// Lets only users in: root, and one who may use flannel's keys.
fn enable_users(etcd: &Etcd) -> Result<()> {
    for command in [
        "user add root:toor",
        "user grant-role root root",
        "role add network",
        "role grant-permission network --prefix=true readwrite /coreos.com/network/",
        "user add node:hunter2",
        "user grant-role node network",
        "auth enable",
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        etcd.etcdctl(&arguments)?;
    }
    Ok(())
}

fn as_node(etcd: &Etcd, password: &str) -> Result<EtcdStore> {
    Ok(EtcdStore::new(EtcdConfig {
        username: Some("node".to_owned()),
        password: Some(Secret::new(password)),
        ..settings(&etcd.endpoint())
    })?)
}

#[tokio::test]
async fn a_user_who_may_no_more_than_needed() -> Result<()> {
    let (mut etcd, _) = etcd_with(CONF).await?;
    etcd.etcdctl(&["role", "add", "root"])?;
    enable_users(&etcd)?;
    let store = as_node(&etcd, "hunter2")?;
    use_it(&store).await?;
    // Started again etcd knows none of the tokens that it gave out.
    etcd.kill()?;
    etcd.up().await?;
    use_it(&store).await?;

    let refused = as_node(&etcd, "wrong-password")?
        .acquire(&conf(CONF)?, &vxlan(1), None)
        .await;
    let text = refused.err().context("the password is wrong")?.to_string();
    ensure!(
        text.contains("authentication failed") && !text.contains("wrong-password"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_token_that_has_expired_is_replaced() -> Result<()> {
    let mut etcd = Etcd::prepare(EtcdOptions {
        arguments: vec!["--auth-token-ttl=1".to_owned()],
        tls: None,
    })?;
    etcd.up().await?;
    etcd.etcdctl(&["role", "add", "root"])?;
    enable_users(&etcd)?;
    let store = as_node(&etcd, "hunter2")?;
    for _ in 0..2 {
        let own = store.acquire(&conf(CONF)?, &vxlan(1), None).await?;
        let mut kept = Kept::new(&store, own);
        next_that(&mut kept.events, |event| match event {
            OwnEvent::Renewed { .. } => Some(()),
            _ => None,
        })
        .await?;
        drop(kept);
        eventually("etcd forgets the token", || async {
            etcd.says("deleted a simple token").then_some(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn users_may_be_switched_on_while_in_use() -> Result<()> {
    let (etcd, mut client) = etcd_with(CONF).await?;
    let store = as_node(&etcd, "hunter2")?;
    // Nobody has to be anybody yet.
    use_it(&store).await?;
    client
        .delete(
            path(""),
            Some(etcd_client::DeleteOptions::new().with_prefix()),
        )
        .await?;
    etcd.etcdctl(&["role", "add", "root"])?;
    enable_users(&etcd)?;
    use_it(&store).await
}
