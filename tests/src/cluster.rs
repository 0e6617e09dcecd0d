//! Several real etcd servers that are members of one cluster.

use anyhow::Result;
use etcd_client::{Client, ConnectOptions};
use std::time::Duration;

use crate::{Etcd, EtcdOptions, eventually};

/// Three members. With one of them down the cluster works on.
#[derive(Debug)]
pub struct Cluster {
    members: [Etcd; 3],
}

impl Cluster {
    /// Starts three members and waits until each answers.
    pub async fn start() -> Result<Self> {
        // Slower elections than one member alone needs: three on a busy machine would hold them all the time.
        let options = EtcdOptions {
            arguments: vec![
                "--heartbeat-interval=50".to_owned(),
                "--election-timeout=500".to_owned(),
            ],
            tls: None,
        };
        let prepare = || Etcd::prepare(options.clone());
        let mut members = [prepare()?, prepare()?, prepare()?];
        let names = ["one", "two", "three"];
        let cluster: Vec<String> = members
            .iter()
            .zip(names)
            .map(|(member, name)| format!("{name}={}", member.peer_url()))
            .collect();
        let cluster = cluster.join(",");
        for (member, name) in members.iter_mut().zip(names) {
            member.join(name, &cluster);
        }
        let [one, two, three] = &mut members;
        tokio::try_join!(one.up(), two.up(), three.up())?;
        Ok(Self { members })
    }

    /// The members.
    pub fn members(&mut self) -> &mut [Etcd; 3] {
        &mut self.members
    }

    /// What a host is given.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// A client of one member.
    pub async fn client(&self, member: usize) -> Result<Client> {
        let options = ConnectOptions::new().with_timeout(Duration::from_secs(20));
        let endpoint = self.members[member].endpoint();
        Ok(Client::connect([endpoint], Some(options)).await?)
    }

    /// Waits until this member answers requests that need most of the members.
    pub async fn wait_quorum(&self, member: usize) -> Result<()> {
        eventually("the cluster works", || async {
            let mut client = self.client(member).await.ok()?;
            client.get("any", None).await.ok().map(|_| ())
        })
        .await
    }
}
