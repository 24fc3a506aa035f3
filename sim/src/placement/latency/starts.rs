//! First assignments for latency: filling accelerators in turn, and the best sequence of blocks along an order.

use super::super::groups::Groups;
use super::super::ideal_dp::Part;

/// Fills the accelerators one after the other along the order, each to the brim; what is left over, and what no accelerator
/// can run, goes to the CPU (Tarnawski et al., NeurIPS 2020, section 4: the greedy baseline).
pub(super) fn fill(groups: &Groups, order: &[usize]) -> Vec<usize> {
    let devices = groups.devices;
    let (mut at, mut used) = (0, 0.0);
    let mut device = vec![devices.accelerators; groups.count()];
    for &group in order.iter().filter(|group| groups.on_accelerator[**group]) {
        while at < devices.accelerators && used + groups.size[group] > devices.accelerator_memory {
            (at, used) = (at + 1, 0.0);
        }
        device[group] = at;
        used += groups.size[group];
    }
    device
}

/// A step of the sequence: the groups from here on, to `end`, as one block or as a single group on the CPU.
#[derive(Clone, Copy)]
struct Step {
    total: f64,
    end: usize,
    on_cpu: bool,
}

/// The assignment with the least sum of blocks and CPU groups along the order, as if nothing ran at the same time: at most
/// `k` blocks, each within memory. `None` when there is none.
pub(super) fn sequence(groups: &Groups, order: &[usize]) -> Option<Vec<usize>> {
    let (blocks, cpus) = (groups.devices.accelerators.min(order.len()), groups.devices.cpus);
    let never = Step { total: f64::INFINITY, end: 0, on_cpu: false };
    // best[i][a]: from position i on, with at most a blocks.
    let mut best = vec![vec![never; blocks + 1]; order.len() + 1];
    best[order.len()] = vec![Step { total: 0.0, ..never }; blocks + 1];
    for first in (0..order.len()).rev() {
        let mut here = vec![never; blocks + 1];
        if cpus > 0 {
            for (step, rest) in here.iter_mut().zip(&best[first + 1]) {
                *step = Step { total: rest.total + groups.cpu_time[order[first]], end: first + 1, on_cpu: true };
            }
        }
        let mut part = Part::new(groups);
        for end in first + 1..=order.len() {
            part.add(order[end - 1]);
            if !part.may_fit_accelerator(f64::INFINITY) {
                break;
            }
            let time = part.accelerator_time + part.transfers;
            for left in 1..=blocks {
                let total = best[end][left - 1].total + time;
                if total < here[left].total {
                    here[left] = Step { total, end, on_cpu: false };
                }
            }
        }
        best[first] = here;
    }
    best[0][blocks].total.is_finite().then(|| follow(groups, order, &best))
}

fn follow(groups: &Groups, order: &[usize], best: &[Vec<Step>]) -> Vec<usize> {
    let blocks = best[0].len() - 1;
    let mut device = vec![groups.devices.accelerators; groups.count()];
    let (mut at, mut left) = (0, blocks);
    while at < order.len() {
        let step = best[at][left];
        if !step.on_cpu {
            order[at..step.end].iter().for_each(|group| device[*group] = blocks - left);
            left -= 1;
        }
        at = step.end;
    }
    device
}
