//! Smaller models: pruned channels, distillation, decomposition by class.

/// Operations left of a convolution when `kept` of both its input and output channels stay: `kept^2`.
pub fn pruned_operations(operations: f64, kept: f64) -> f64 {
    operations * kept * kept
}

/// Channels left of `channels`, in whole groups of `tile`, as matrix units want them; at least one group.
pub fn tiled_channels(channels: u64, kept: f64, tile: u64) -> u64 {
    let tile = tile.max(1);
    let wanted = (channels as f64 * kept / tile as f64).round().max(1.0) as u64;
    wanted * tile
}

/// Seconds of a distillation step (Hinton et al. 2015): the teacher's forward pass, the student's forward and backward.
pub fn distillation_step(teacher_forward: f64, student_forward: f64, student_backward: f64) -> f64 {
    teacher_forward + student_forward + student_backward
}

/// Seconds until a network that was decomposed into groups of classes answers (sensAI; Wang et al. 2021): groups are
/// computed side by side, one a device, and only their logits are gathered.
pub fn decomposed_latency(groups: &[f64], logits_gather: f64) -> f64 {
    groups.iter().copied().fold(0.0, f64::max) + logits_gather
}
