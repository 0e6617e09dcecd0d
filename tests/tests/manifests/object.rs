//! Objects of Kubernetes as these tests compare them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Kind and name: no two objects here share both.
pub(crate) type Objects = BTreeMap<String, Value>;

/// The objects by kind and name, with texts that are JSON read.
pub(crate) fn objects(documents: Vec<Value>) -> Result<Objects> {
    let mut objects = Objects::new();
    for mut object in documents {
        let kind = object["kind"].as_str().context("an object without kind")?;
        let name = object["metadata"]["name"].as_str().context("no name")?;
        let key = format!("{kind} {name}");
        if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
            for text in data.values_mut() {
                // helm writes JSON in another order than people do.
                *text = serde_json::from_str(text.as_str().context("no text")?)?;
            }
        }
        ensure!(
            objects.insert(key.clone(), object).is_none(),
            "{key} is there twice"
        );
    }
    Ok(objects)
}

/// Where `expected` says something else than `found`, or something that `found` lacks. What only `found` has is the server's.
pub(crate) fn lacks(path: &str, expected: &Value, found: &Value) -> Vec<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                match found.get(key) {
                    Some(found) => lacks(&path, value, found),
                    None => vec![format!("{path} is not there")],
                }
            })
            .collect(),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            pairs
                .flat_map(|(index, (expected, found))| {
                    lacks(&format!("{path}[{index}]"), expected, found)
                })
                .collect()
        }
        _ if expected == found => Vec::new(),
        _ => vec![format!("{path} is {found}, not {expected}")],
    }
}
