//! One recurrent layer: in one direction or both, in one piece or several over time.

use cutplane_graph::{Cell, Concat, ModelError, ModelGraphBuilder, OpKind, Recurrent, RecurrentOutput, Slice, ValueId};

/// Where a layer stands in its stack.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// Module that owns the parameters, as `torch.nn.LSTM` would.
    pub(super) module: &'a str,
    /// Number in the stack: parameters end in `_l{number}`.
    pub(super) number: u64,
}

impl Place<'_> {
    fn name(&self, kind: &Recurrent) -> String {
        let direction = if kind.reverse { ".reverse" } else { "" };
        format!("{}.{}{direction}", self.module, self.number)
    }

    /// Adds the operator with the layer's parameters, which several operators share.
    pub(super) fn op(
        &self,
        b: &mut ModelGraphBuilder,
        name: &str,
        kind: Recurrent,
        inputs: &[ValueId],
    ) -> Result<ValueId, ModelError> {
        let kind = OpKind::Recurrent(kind);
        let number = format!("_l{}", self.number);
        let own = |suffix: &str| format!("{}.{}", self.module, suffix.replacen("_l0", &number, 1));
        let names: Vec<String> = kind.params().iter().map(|spec| own(&spec.suffix)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        b.op_with_params(name, kind, inputs, &names)
    }

    /// The hidden state at each step, `[steps, width]`, in `chunks` pieces over time.
    pub(super) fn sequence(
        &self,
        b: &mut ModelGraphBuilder,
        kind: &Recurrent,
        x: ValueId,
        chunks: u64,
    ) -> Result<ValueId, ModelError> {
        let name = self.name(kind);
        let steps = b.type_of(x).dims[0];
        let chunks = chunks.clamp(1, steps);
        if chunks == 1 {
            return self.op(b, &name, kind.clone(), &[x]);
        }
        let bounds: Vec<(u64, u64)> =
            (0..chunks).map(|chunk| (chunk * steps / chunks, (chunk + 1) * steps / chunks)).collect();
        let mut state = None;
        let mut pieces = vec![None; bounds.len()];
        let order: Vec<usize> =
            if kind.reverse { (0..bounds.len()).rev().collect() } else { (0..bounds.len()).collect() };
        for chunk in order {
            let (start, end) = bounds[chunk];
            let at = format!("{name}.steps.{start}");
            let part = b.op(&format!("{at}.input"), OpKind::Slice(Slice::range(0, start, end)), &[x])?;
            let inputs: Vec<ValueId> = std::iter::once(part).chain(state).collect();
            let kind = Recurrent { initial_state: state.is_some(), output: RecurrentOutput::States, ..kind.clone() };
            let states = self.op(b, &at, kind.clone(), &inputs)?;
            let is_last = if kind.reverse { chunk == 0 } else { chunk + 1 == bounds.len() };
            if !is_last {
                let last_row = if kind.reverse { 0 } else { end - start - 1 };
                state = Some(b.op(&format!("{at}.state"), OpKind::SelectToken { index: last_row }, &[states])?);
            }
            pieces[chunk] = Some(hidden(b, &format!("{at}.hidden"), &kind, states)?);
        }
        let pieces: Vec<ValueId> = pieces.into_iter().flatten().collect();
        b.op(&format!("{name}.concat"), OpKind::Concat(Concat { axis: 0, values: pieces.len() }), &pieces)
    }

    /// Both directions, their hidden states side by side.
    pub(super) fn both_directions(
        &self,
        b: &mut ModelGraphBuilder,
        kind: &Recurrent,
        x: ValueId,
        chunks: u64,
    ) -> Result<ValueId, ModelError> {
        let forward = self.sequence(b, kind, x, chunks)?;
        let backward = self.sequence(b, &Recurrent { reverse: true, ..kind.clone() }, x, chunks)?;
        let axis = usize::from(kind.output != RecurrentOutput::Last);
        let name = format!("{}.{}.concat_directions", self.module, self.number);
        b.op(&name, OpKind::Concat(Concat { axis, values: 2 }), &[forward, backward])
    }
}

/// The hidden part of states `[steps, state]`.
pub(super) fn hidden(
    b: &mut ModelGraphBuilder,
    name: &str,
    kind: &Recurrent,
    states: ValueId,
) -> Result<ValueId, ModelError> {
    if kind.cell != Cell::Lstm {
        return Ok(states);
    }
    b.op(name, OpKind::Slice(Slice::range(1, 0, kind.width())), &[states])
}
