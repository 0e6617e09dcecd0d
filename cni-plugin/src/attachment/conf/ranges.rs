//! The ranges of addresses in the config of `host-local`.

use ipam::pool::RangeSpec;

use crate::protocol::Error;
use crate::protocol::json::{Json, Section};

/// `runtimeConfig.ipRanges` first, then the legacy single range beside `ranges`, then `ranges`; as `host-local` does.
pub(super) fn sets(root: &Section<'_>, ipam: &Section<'_>) -> Result<Vec<Vec<RangeSpec>>, Error> {
    let mut sets = Vec::new();
    if let Some(runtime) = root.section("runtimeConfig")? {
        sets.extend(list_of_sets(&runtime, "ipRanges")?);
    }
    if ipam.has("subnet") {
        sets.push(vec![range(ipam)?]);
    }
    sets.extend(list_of_sets(ipam, "ranges")?);
    if sets.is_empty() {
        return Err(Error::MissingKey {
            key: ipam.path_of("ranges"),
        });
    }
    Ok(sets)
}

fn list_of_sets(section: &Section<'_>, key: &str) -> Result<Vec<Vec<RangeSpec>>, Error> {
    let mut sets = Vec::new();
    for (index, set) in section.list(key)?.unwrap_or_default().iter().enumerate() {
        let name = format!("{key}[{index}]");
        let Json::Array(ranges) = set else {
            return Err(section.wrong_type(&name, "a list of ranges", set));
        };
        let ranges = ranges
            .iter()
            .enumerate()
            .map(|(index, item)| range(&section.item_section(&name, index, item)?))
            .collect::<Result<_, _>>()?;
        sets.push(ranges);
    }
    Ok(sets)
}

fn range(section: &Section<'_>) -> Result<RangeSpec, Error> {
    let subnet = section.parsed("subnet")?.ok_or_else(|| Error::MissingKey {
        key: section.path_of("subnet"),
    })?;
    Ok(RangeSpec {
        subnet,
        start: section.parsed("rangeStart")?,
        end: section.parsed("rangeEnd")?,
        gateway: section.parsed("gateway")?,
    })
}
