//! Which blocks each chunk of a pipeline holds, and which chunks each device.

use super::error::{EstimateError, inconsistent};
use super::layout::Layout;
use super::model::FoldedModel;

/// What one chunk holds: `(index of the block, instances)`.
pub(super) type Held = Vec<(usize, u64)>;

/// The chunks of a pipeline, equal ones once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chunks {
    /// The distinct ones.
    pub(super) kinds: Vec<Held>,
    /// In the order of the model: `(kind, how many in a row)`.
    runs: Vec<(usize, u64)>,
}

/// Devices in a row that hold equal chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceRun {
    /// Kinds of its chunks, in the order of the model.
    pub(super) chunks: Vec<usize>,
    /// How many devices.
    pub(super) count: u64,
}

/// The chunks of a layout. Layers are spread evenly, embedding and head counted as one each where that alone is even, else
/// the first chunks taking what is left, unless the layout says otherwise. Other blocks go with the layer before them, those
/// before the first layer with the first chunk, those behind the last layer with the last chunk.
///
/// # Errors
/// [`EstimateError::Inconsistent`] when there are fewer layers than chunks, or the split does not add up.
pub(super) fn chunks(model: &FoldedModel, layout: &Layout) -> Result<Chunks, EstimateError> {
    let mut built = Builder::default();
    if layout.pp == 1 {
        model.blocks.iter().enumerate().for_each(|(index, block)| built.open.push((index, block.repeats)));
        built.close();
        return Ok(built.chunks);
    }
    let split = Split::of(model, layout)?;
    let last = model.blocks.iter().rposition(|block| block.is_layer);
    let (mut chunk, mut room) = (0, split.layers(0));
    let mut ahead = model.layers();
    for (index, block) in model.blocks.iter().enumerate() {
        if !block.is_layer {
            // Behind the last layer: the last chunk, even one without layers.
            let to_the_end = ahead == 0 || last.is_some_and(|last| index > last);
            while to_the_end && chunk + 1 < split.chunks {
                built.close();
                chunk += 1;
            }
            built.open.push((index, block.repeats));
            continue;
        }
        let mut left = block.repeats;
        ahead -= left;
        while left > 0 {
            while room == 0 && chunk + 1 < split.chunks {
                built.close();
                chunk += 1;
                room = split.layers(chunk);
                // Equal chunks in the middle of a run of layers.
                let fits = (left - 1).checked_div(room).unwrap_or(0);
                let more = split.equal_after(chunk).min(fits);
                if more > 0 {
                    built.repeat((index, room), more);
                    (chunk, left) = (chunk + more, left - more * room);
                }
            }
            let here = if room == 0 { left } else { left.min(room) };
            built.open.push((index, here));
            (left, room) = (left - here, room.saturating_sub(here));
        }
    }
    while chunk + 1 < split.chunks {
        built.close();
        chunk += 1;
    }
    built.close();
    Ok(built.chunks)
}

#[derive(Default)]
struct Builder {
    chunks: Chunks,
    open: Held,
}

impl Builder {
    fn close(&mut self) {
        let known = self.chunks.kinds.iter().position(|kind| *kind == self.open);
        let kind = known.unwrap_or_else(|| {
            self.chunks.kinds.push(self.open.clone());
            self.chunks.kinds.len() - 1
        });
        self.open.clear();
        self.count(kind, 1);
    }

    /// So many chunks that hold instances of one block alone.
    fn repeat(&mut self, held: (usize, u64), times: u64) {
        self.open.push(held);
        self.close();
        let kind = self.chunks.runs.last().map_or(0, |run| run.0);
        self.count(kind, times - 1);
    }

    fn count(&mut self, kind: usize, times: u64) {
        match self.chunks.runs.last_mut() {
            Some(run) if run.0 == kind => run.1 += times,
            _ if times > 0 => self.chunks.runs.push((kind, times)),
            _ => {}
        }
    }
}

impl Chunks {
    /// The devices in order, when chunk `c` lies on device `c mod devices`.
    pub(super) fn devices(&self, devices: u64) -> Vec<DeviceRun> {
        let all: u64 = self.runs.iter().map(|run| run.1).sum();
        let each = all / devices;
        if each == 1 {
            return self.runs.iter().map(|(kind, count)| DeviceRun { chunks: vec![*kind], count: *count }).collect();
        }
        let order: Vec<usize> =
            self.runs.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count as usize)).collect();
        let stride = devices as usize;
        let mut runs: Vec<DeviceRun> = Vec::new();
        for device in 0..stride {
            let mine = || order.iter().skip(device).step_by(stride);
            match runs.last_mut() {
                Some(run) if run.chunks.iter().eq(mine()) => run.count += 1,
                _ => runs.push(DeviceRun { chunks: mine().copied().collect(), count: 1 }),
            }
        }
        runs
    }
}

/// Layers of each chunk.
#[derive(Clone, Copy, Debug)]
struct Split<'a> {
    chunks: u64,
    ways: Ways<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Ways<'a> {
    /// So many each, and one more on so many of the first.
    Even(u64, u64),
    /// So many each, one less at both ends (Megatron-Core's `account_for_embedding_in_pipeline_split`).
    Ends(u64),
    /// As the layout says.
    Given(&'a [u64]),
}

impl<'a> Split<'a> {
    fn of(model: &FoldedModel, layout: &'a Layout) -> Result<Self, EstimateError> {
        let (layers, chunks) = (model.layers(), layout.pp * layout.vpp);
        if let Some(split) = &layout.stage_split {
            let given: u64 = split.iter().sum();
            if given != layers {
                let problem = format!("{given} layers in the split, {layers} in {}", model.name);
                return inconsistent("stage_split", problem, "make the entries add up to the model's layers");
            }
            return Ok(Self { chunks, ways: Ways::Given(split) });
        }
        if !layers.is_multiple_of(chunks) && (layers + 2).is_multiple_of(chunks) && chunks >= 2 {
            return Ok(Self { chunks, ways: Ways::Ends((layers + 2) / chunks) });
        }
        if layers < chunks {
            let problem = format!("{chunks} chunks for the {layers} layers of {}", model.name);
            return inconsistent("pp, vpp", problem, "choose at most as many chunks as there are layers");
        }
        Ok(Self { chunks, ways: Ways::Even(layers / chunks, layers % chunks) })
    }

    fn layers(&self, chunk: u64) -> u64 {
        match self.ways {
            Ways::Even(each, more) => each + u64::from(chunk < more),
            Ways::Ends(each) => each - u64::from(chunk == 0) - u64::from(chunk + 1 == self.chunks),
            Ways::Given(split) => split[chunk as usize],
        }
    }

    /// Chunks directly behind one that hold as many layers, but for the last chunk.
    fn equal_after(&self, chunk: u64) -> u64 {
        let layers = self.layers(chunk);
        match self.ways {
            Ways::Even(_, more) if chunk < more => (more - chunk - 1).min(self.chunks - 1 - chunk).saturating_sub(1),
            Ways::Even(..) | Ways::Ends(_) => (self.chunks - 1 - chunk).saturating_sub(1),
            Ways::Given(split) => {
                let behind = &split[chunk as usize + 1..split.len().max(chunk as usize + 2) - 1];
                behind.iter().take_while(|other| **other == layers).count() as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Block;
    use super::*;
    use crate::estimate::PipelineSchedule;

    fn model(layers: &[u64]) -> FoldedModel {
        let outside = Block { operators: Vec::new(), repeats: 1, is_layer: false };
        let mut blocks = vec![outside.clone()];
        blocks.extend(layers.iter().map(|repeats| Block { operators: Vec::new(), repeats: *repeats, is_layer: true }));
        blocks.push(outside);
        FoldedModel { name: "test".to_owned(), blocks, tied_parameters: 0, sequence_length: 1 }
    }

    fn all(model: &FoldedModel, layout: &Layout) -> Vec<Held> {
        let chunks = chunks(model, layout).unwrap();
        let order = chunks.runs.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count as usize));
        order.map(|kind| chunks.kinds[kind].clone()).collect()
    }

    fn layout(pp: u64, vpp: u64, split: Option<&[u64]>) -> Layout {
        let schedule = if vpp > 1 { PipelineSchedule::Interleaved } else { PipelineSchedule::OneForwardOneBackward };
        Layout { pp, vpp, schedule, stage_split: split.map(<[u64]>::to_vec), ..Layout::default() }
    }

    #[test]
    fn ends_hold_embedding_and_head() {
        let expected = [vec![(0, 1), (1, 3)], vec![(1, 3)], vec![(1, 3)], vec![(1, 3), (2, 1)]];
        assert_eq!(all(&model(&[12]), &layout(4, 1, None)), expected);
        let expected = [vec![(0, 1), (1, 2)], vec![(1, 3)], vec![(1, 3)], vec![(1, 2), (2, 1)]];
        assert_eq!(all(&model(&[10]), &layout(4, 1, None)), expected);
    }

    #[test]
    fn what_is_left_over_goes_to_the_front() {
        let expected = [vec![(0, 1), (1, 3)], vec![(1, 3)], vec![(1, 3)], vec![(1, 2), (2, 1)]];
        assert_eq!(all(&model(&[11]), &layout(4, 1, None)), expected);
    }

    #[test]
    fn given_splits_are_kept_whatever_runs_they_cut() {
        for layers in [&[5_u64, 9, 2][..], &[16], &[1, 1, 14]] {
            let model = model(layers);
            for split in [&[4_u64, 4, 4, 4][..], &[1, 7, 7, 1], &[8, 8, 0, 0], &[2, 2, 2, 2, 2, 2, 2, 2], &[0, 0, 8, 8]]
            {
                let held = all(&model, &layout(split.len() as u64, 1, Some(split)));
                let is_layer = |part: &&(usize, u64)| model.blocks[part.0].is_layer;
                let layers_of = |held: &Held| held.iter().filter(is_layer).map(|part| part.1).sum::<u64>();
                let found: Vec<u64> = held.iter().map(layers_of).collect();
                assert_eq!(found, split, "{layers:?}");
                let blocks: Vec<usize> = held.iter().flatten().map(|part| part.0).collect();
                assert!(blocks.is_sorted(), "{layers:?} {split:?} {held:?}");
                assert_eq!(held.last().unwrap().last().unwrap().0, model.blocks.len() - 1);
            }
        }
    }

    #[test]
    fn devices_hold_every_pp_th_chunk() {
        let chunks = chunks(&model(&[16]), &layout(4, 2, None)).unwrap();
        let devices = chunks.devices(4);
        assert_eq!(devices.iter().map(|run| run.count).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(devices[0].chunks, [0, 1]);
        assert_eq!(devices[2].chunks, [1, 2]);
    }
}
