//! Max-min fair sharing of links (Bertsekas and Gallager 1992, section 6.5.2).

use std::collections::BTreeMap;

use cutplane_graph::{DeviceGraph, DeviceId, LinkId};

use super::error::NetworkError;

/// What one stream of traffic takes of a link for each byte a second of its own rate.
pub type Use = (LinkId, f64);

/// Max-min fair rates by progressive filling: again and again the link with the least bandwidth left for each unit of use
/// sets the rate of all streams that cross it. In the order of the streams, bytes/s; a stream that crosses no link is
/// unbounded.
pub fn max_min_rates(streams: &[&[Use]], capacity: impl Fn(LinkId) -> f64) -> Vec<f64> {
    // Left bandwidth and use by streams without a rate, by link.
    let mut links: BTreeMap<LinkId, (f64, f64, usize)> = BTreeMap::new();
    for (link, weight) in streams.iter().flat_map(|stream| stream.iter()) {
        let entry = links.entry(*link).or_insert_with(|| (capacity(*link), 0.0, 0));
        entry.1 += weight;
        entry.2 += 1;
    }
    let mut rates: Vec<Option<f64>> = vec![None; streams.len()];
    loop {
        let open = links.iter().filter(|(_, (_, _, streams))| *streams > 0);
        let narrowest = open.map(|(link, (left, weight, _))| (*link, left / weight));
        let Some((narrowest, rate)) = narrowest.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        let crosses = |stream: &[Use]| stream.iter().any(|(link, _)| *link == narrowest);
        for (stream, slot) in streams.iter().zip(&mut rates).filter(|(stream, slot)| slot.is_none() && crosses(stream))
        {
            *slot = Some(rate);
            for (link, weight) in *stream {
                if let Some((left, open, streams)) = links.get_mut(link) {
                    *left = (*left - rate * weight).max(0.0);
                    *open -= weight;
                    *streams -= 1;
                }
            }
        }
    }
    rates.into_iter().map(|rate| rate.unwrap_or(f64::INFINITY)).collect()
}

/// What a ring through `order` takes of each link: one for every edge of the ring that is routed over it.
///
/// # Errors
/// [`NetworkError::Topology`] when two neighbours are not joined.
pub fn ring_use(order: &[DeviceId], devices: &DeviceGraph) -> Result<Vec<Use>, NetworkError> {
    let mut total: BTreeMap<LinkId, f64> = BTreeMap::new();
    let next = order.iter().cycle().skip(1);
    for (from, to) in order.iter().zip(next).filter(|(from, to)| from != to) {
        let route = devices.route(*from, *to).ok_or_else(|| NetworkError::Topology {
            cluster: devices.name().to_owned(),
            problem: format!(
                "nothing joins '{}' and '{}': add a link",
                devices.device(*from).name,
                devices.device(*to).name
            ),
        })?;
        route.links.into_iter().for_each(|link| *total.entry(link).or_default() += 1.0);
    }
    Ok(total.into_iter().collect())
}

/// How much slower each of several rings runs when all of them move bytes at once: its rate alone over its fair share, at
/// least 1. Each ring visits its devices in the order given.
///
/// # Errors
/// As [`ring_use`].
pub fn ring_slowdowns(rings: &[Vec<DeviceId>], devices: &DeviceGraph) -> Result<Vec<f64>, NetworkError> {
    let uses = rings.iter().map(|ring| ring_use(ring, devices)).collect::<Result<Vec<_>, _>>()?;
    let capacity = |link: LinkId| devices.link(link).bandwidth.get();
    let streams: Vec<&[Use]> = uses.iter().map(Vec::as_slice).collect();
    let together = max_min_rates(&streams, capacity);
    let slower = |(stream, shared): (&&[Use], f64)| match max_min_rates(&[*stream], capacity)[0] {
        alone if alone.is_finite() => (alone / shared).max(1.0),
        _ => 1.0,
    };
    Ok(streams.iter().zip(together).map(slower).collect())
}
