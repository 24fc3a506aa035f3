//! Machines whose devices are joined link by link, several of them on one network.

use cutplane_graph::{ClusterSpec, LinkKind, NodeKind, NodeSpec};

use super::catalogue::Port;
use super::chassis::{NETWORK, link, node};
use crate::error::ZooError;
use crate::topology::Machine;

/// Network cards of a DGX-1: two on each socket, EDR InfiniBand, 100 Gb/s [mem].
const CARDS_A_SOCKET: usize = 2;
const CARD: Port = Port { kind: LinkKind::Infiniband, bandwidth_gb_per_s: 12.5, latency_us: 2.0 };

/// `count` machines; with more than one, or where `joined`, their cards meet in a network switch.
pub(super) fn machines(machine: &Machine, count: usize, name: &str, joined: bool) -> Result<ClusterSpec, ZooError> {
    if count == 1 && !joined {
        return Ok(ClusterSpec { name: name.to_owned(), ..machine.cluster()? });
    }
    let mut cluster: Option<ClusterSpec> = None;
    for index in 0..count {
        let host = format!("{}-{index}", machine.name);
        let mut one = Machine { name: host.clone(), ..machine.clone() }.cluster()?;
        add_cards(&mut one, &host, machine.pcie_gb_per_s);
        match &mut cluster {
            None => cluster = Some(ClusterSpec { name: name.to_owned(), ..one }),
            Some(all) => {
                all.nodes.extend(one.nodes);
                all.links.extend(one.links);
            }
        }
    }
    let mut cluster = cluster.unwrap_or(machine.cluster()?);
    cluster.nodes.push(node(NETWORK, NodeKind::Switch));
    Ok(cluster)
}

fn add_cards(cluster: &mut ClusterSpec, host: &str, pcie_gb_per_s: f64) {
    let pcie = Port { kind: LinkKind::Pcie, bandwidth_gb_per_s: pcie_gb_per_s, latency_us: 1.0 };
    for socket in 0..2 {
        let root = format!("{host}/socket{socket}");
        if !cluster.nodes.iter().any(|node| node.name == root) {
            continue;
        }
        for card in 0..CARDS_A_SOCKET {
            let name = format!("{host}/nic{}", socket * CARDS_A_SOCKET + card);
            cluster.links.push(link(&root, &name, &pcie));
            cluster.links.push(link(&name, NETWORK, &CARD));
            cluster.nodes.push(NodeSpec { host: Some(host.to_owned()), ..node(&name, NodeKind::Nic) });
        }
    }
}
