//! A Node as far as it matters here. What a Node has beside that (images, addresses, other conditions) is passed over while
//! it is read, so that five thousand of them cost little.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ipam::{AnnotationPrefix, NodeAnnotations, NodeLeaseError, Subnets, pod_subnets};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::{Deserialize, Deserializer};

/// The condition that keeps pods off a node whose network does not work yet.
pub(super) const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// A Node as it comes from the API server.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Node {
    #[serde(deserialize_with = "slim", default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Spec>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

/// A condition of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    kind: String,
    /// `True`, `False` or `Unknown`.
    pub(super) status: String,
    /// One word.
    pub(super) reason: Option<String>,
}

/// What is kept of a Node's metadata.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Meta {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    annotations: Option<BTreeMap<String, String>>,
}

fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Meta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: meta.name,
        uid: meta.uid,
        resource_version: meta.resource_version,
        creation_timestamp: meta.creation_timestamp,
        annotations: meta.annotations,
        ..ObjectMeta::default()
    })
}

impl Resource for Node {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Node".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "nodes".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A Node as the store sees it: what is in it for the network that has this prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeView {
    pub(super) name: String,
    /// Tells a Node from another of the same name that came later.
    pub(super) uid: String,
    /// Larger for later versions.
    pub(super) revision: i64,
    /// When it came into being, in seconds since 1970.
    pub(super) created: i64,
    pub(super) annotations: NodeAnnotations,
    /// Its pod CIDRs; empty as long as none is given.
    pub(super) subnets: Result<Subnets, NodeLeaseError>,
    pub(super) network_unavailable: Option<Condition>,
}

impl NodeView {
    pub(super) fn new(prefix: &AnnotationPrefix, node: Node) -> Self {
        let meta = node.metadata;
        let annotations = meta.annotations.unwrap_or_default();
        let spec = node.spec.unwrap_or_default();
        let conditions = node.status.unwrap_or_default().conditions;
        let cidrs = spec.pod_cidrs.unwrap_or_default();
        Self {
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            revision: meta
                .resource_version
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            created: meta
                .creation_timestamp
                .map_or(i64::MAX, |Time(at)| at.as_second()),
            annotations: NodeAnnotations::pick(
                prefix,
                annotations
                    .iter()
                    .map(|(key, text)| (key.as_str(), text.as_str())),
            ),
            subnets: pod_subnets(cidrs.iter().map(String::as_str), spec.pod_cidr.as_deref()),
            network_unavailable: conditions
                .unwrap_or_default()
                .into_iter()
                .find(|condition| condition.kind == NETWORK_UNAVAILABLE),
        }
    }

    /// Whether the two differ in more than their revision, as they do not after a heartbeat of the kubelet.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let Self {
            name,
            uid,
            revision: _,
            created,
            annotations,
            subnets,
            network_unavailable,
        } = self;
        *name == other.name
            && *uid == other.uid
            && *created == other.created
            && *annotations == other.annotations
            && *subnets == other.subnets
            && *network_unavailable == other.network_unavailable
    }
}

#[cfg(test)]
pub(super) fn view(prefix: &AnnotationPrefix, json: &str) -> NodeView {
    let node: Node = serde_json::from_str(json).unwrap();
    NodeView::new(prefix, node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix() -> AnnotationPrefix {
        "flannel.alpha.coreos.com".parse().unwrap()
    }

    #[test]
    fn a_node_without_anything_is_read() {
        for json in [
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"name":"a","annotations":null,"labels":null},"spec":null,"status":null}"#,
            r#"{"metadata":{"name":"a"},"spec":{},"status":{"conditions":null}}"#,
            r#"{"metadata":{"name":"a"},"spec":{"podCIDR":"","podCIDRs":null}}"#,
        ] {
            let view = view(&prefix(), json);
            assert_eq!(view.name, "a");
            assert_eq!(view.subnets, Ok(Subnets::default()), "{json}");
            assert_eq!(view.network_unavailable, None);
            assert!(!view.annotations.is_managed());
        }
    }

    #[test]
    fn a_heartbeat_changes_nothing_that_matters() {
        let json = |revision: u32, beat: &str, reason: &str| {
            format!(
                r#"{{"metadata":{{"name":"a","uid":"u","resourceVersion":"{revision}","creationTimestamp":"2026-11-21T12:00:00Z",
                   "annotations":{{"flannel.alpha.coreos.com/kube-subnet-manager":"true","other":"{beat}"}}}},
                   "spec":{{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:1::/64"]}},
                   "status":{{"images":[{{"names":["{beat}"]}}],"conditions":[
                     {{"type":"Ready","status":"True","lastHeartbeatTime":"{beat}"}},
                     {{"type":"NetworkUnavailable","status":"False","reason":"{reason}","lastHeartbeatTime":"{beat}"}}]}}}}"#
            )
        };
        let before = view(&prefix(), &json(7, "2026-11-21T12:00:00Z", "FlannelIsUp"));
        let beat = view(&prefix(), &json(8, "2026-11-21T12:05:00Z", "FlannelIsUp"));
        let other = view(&prefix(), &json(9, "2026-11-21T12:05:00Z", "Other"));
        assert!(before.same_as(&beat) && before.revision < beat.revision);
        assert!(!before.same_as(&other));
        assert_eq!(before.created, 1_795_262_400);
        let subnets = before.subnets.unwrap();
        assert!(subnets.v4.is_some() && subnets.v6.is_some());
    }
}
