//! Several kinds of machines on one network: `v100-16gb:8+k80:8`.

use std::collections::HashSet;

use cutplane_graph::{ClusterSpec, NodeKind};

use super::chassis::NETWORK;
use super::{MAX_IRREGULAR, irregular, kind, parse_count, refuse};
use crate::error::ZooError;

/// Mixes by name, and what they stand for.
static NAMED: &[(&str, &str)] = &[("k80-v100", "v100-16gb:8+k80:8"), ("k80-v100-pair", "v100-16gb:1+k80:1")];

/// The mixes that have names.
pub(super) fn named() -> &'static [(&'static str, &'static str)] {
    NAMED
}

/// The cluster of a mix; `None` where the argument is none.
pub(super) fn cluster(argument: &str) -> Option<Result<ClusterSpec, ZooError>> {
    let named = NAMED.iter().find(|(name, _)| argument.eq_ignore_ascii_case(name));
    let parts = named.map_or(argument, |(_, parts)| parts);
    parts.contains('+').then(|| join(argument, parts))
}

fn join(argument: &str, parts: &str) -> Result<ClusterSpec, ZooError> {
    let mut whole = ClusterSpec {
        name: argument.to_owned(),
        device_models: std::collections::BTreeMap::new(),
        nodes: Vec::new(),
        links: Vec::new(),
    };
    let mut names: HashSet<String> = HashSet::new();
    for part in parts.split('+').map(str::trim) {
        let one = of_part(argument, part)?;
        for node in one.nodes.into_iter().filter(|node| !(node.name == NETWORK && node.kind == NodeKind::Switch)) {
            if !names.insert(node.name.clone()) {
                let problem = format!("'{part}' names '{}' a second time", node.name);
                return Err(refuse(
                    argument,
                    problem,
                    "write each kind of machine once, with its whole count".to_owned(),
                ));
            }
            whole.nodes.push(node);
        }
        whole.links.extend(one.links);
        whole.device_models.extend(one.device_models);
    }
    whole.nodes.push(super::chassis::node(NETWORK, NodeKind::Switch));
    Ok(whole)
}

fn of_part(argument: &str, part: &str) -> Result<ClusterSpec, ZooError> {
    let (name, count) = part.rsplit_once(':').unwrap_or((part, "1"));
    if let Some(machine) = crate::topology::machine(name) {
        return irregular::machines(machine, parse_count(argument, count, MAX_IRREGULAR)?, part, true);
    }
    match kind(name) {
        Some(kind) => {
            let devices = kind.devices(argument, count)?;
            Ok(kind.machines().joined(devices, part, true))
        }
        None => {
            Err(refuse(argument, format!("'{part}' is not known"), "write machines or devices with a count".to_owned()))
        }
    }
}
