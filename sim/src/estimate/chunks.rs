//! Which blocks each pipeline device holds.

use super::error::{EstimateError, inconsistent};
use super::layout::Layout;
use super::model::FoldedModel;

/// What one device of the pipeline holds: `(index of the block, instances)`, over all its chunks.
pub(super) type Held = Vec<(usize, u64)>;

/// The blocks of each device, first to last. Layers are spread evenly over the chunks, embedding and head counted as one each
/// where that alone is even, else the first chunks taking what is left, unless the layout says otherwise; chunk `c` lies on device `c mod pp`. Other blocks go with the layer before them, those
/// before the first layer with the first chunk, those behind the last layer with the last chunk.
///
/// # Errors
/// [`EstimateError::Inconsistent`] when there are fewer layers than chunks, or the split does not add up.
pub(super) fn held(model: &FoldedModel, layout: &Layout) -> Result<Vec<Held>, EstimateError> {
    let devices = layout.pp as usize;
    if devices == 1 {
        return Ok(vec![model.blocks.iter().enumerate().map(|(index, block)| (index, block.repeats)).collect()]);
    }
    let split = split(model, layout)?;
    let mut held = vec![Held::new(); devices];
    let last = model.blocks.iter().rposition(|block| block.is_layer);
    let (mut chunk, mut room) = (0, split[0]);
    let mut ahead = model.layers();
    for (index, block) in model.blocks.iter().enumerate() {
        if !block.is_layer {
            chunk = if ahead == 0 { split.len() - 1 } else { chunk };
            // Behind the last layer: the last chunk, even one without layers.
            chunk = if last.is_some_and(|last| index > last) { split.len() - 1 } else { chunk };
            held[chunk % devices].push((index, block.repeats));
            continue;
        }
        let mut left = block.repeats;
        while left > 0 {
            while room == 0 && chunk + 1 < split.len() {
                chunk += 1;
                room = split[chunk];
            }
            let here = if room == 0 { left } else { left.min(room) };
            held[chunk % devices].push((index, here));
            (left, room) = (left - here, room.saturating_sub(here));
            ahead -= here;
        }
    }
    Ok(held)
}

fn split(model: &FoldedModel, layout: &Layout) -> Result<Vec<u64>, EstimateError> {
    let (layers, chunks) = (model.layers(), layout.pp * layout.vpp);
    if let Some(split) = &layout.stage_split {
        let given: u64 = split.iter().sum();
        if given != layers {
            let problem = format!("{given} layers in the split, {layers} in {}", model.name);
            return inconsistent("stage_split", problem, "make the entries add up to the model's layers");
        }
        return Ok(split.clone());
    }
    if let Some(fewer) = with_ends(layers, chunks) {
        return Ok(fewer);
    }
    if layers < chunks {
        let problem = format!("{chunks} chunks for the {layers} layers of {}", model.name);
        return inconsistent("pp, vpp", problem, "choose at most as many chunks as there are layers");
    }
    Ok((0..chunks).map(|chunk| layers / chunks + u64::from(chunk < layers % chunks)).collect())
}

/// A split that counts embedding and head as a layer each (Megatron-Core's `account_for_embedding_in_pipeline_split`), where
/// only that divides evenly.
fn with_ends(layers: u64, chunks: u64) -> Option<Vec<u64>> {
    if layers.is_multiple_of(chunks) || !(layers + 2).is_multiple_of(chunks) || chunks < 2 {
        return None;
    }
    let mut split = vec![(layers + 2) / chunks; chunks as usize];
    for end in [0, chunks as usize - 1] {
        split[end] -= 1;
    }
    Some(split)
}
