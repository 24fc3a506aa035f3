//! AmoebaNet-D (Real et al. 2019) as GPipe (Huang et al. 2019) and torchgpipe train it: cells of five pairwise sums over the
//! outputs of the two cells before.

use cutplane_graph::{OpKind, Pad};
use cutplane_graph::{PoolKind, Slice, ValueId, Window};

use super::net::{Added, BATCH_NORM_EPS, Net, point};

/// What a cell applies to one of its states.
#[derive(Clone, Copy)]
enum Step {
    /// The state itself, or its factorised reduction.
    None,
    Average,
    Max2,
    Conv1,
    Conv3,
    Conv7,
}

use Step::{Average, Conv1, Conv3, Conv7, Max2, None as Nothing};

/// Five sums: each of two states, by number, and what is applied to them. States 0 and 1 come from the cells before.
type Sums = [[(usize, Step); 2]; 5];

/// The reference's "maximum over 3x3" computes a mean, here as there.
const NORMAL: Sums = [
    [(1, Conv1), (1, Average)],
    [(1, Nothing), (0, Conv7)],
    [(0, Conv1), (0, Conv7)],
    [(2, Average), (2, Nothing)],
    [(1, Average), (5, Conv1)],
];
/// States that a normal cell gives, as in the reference.
const NORMAL_OUTPUT: [usize; 4] = [0, 3, 4, 6];

const REDUCTION: Sums = [
    [(0, Max2), (0, Average)],
    [(2, Nothing), (1, Conv3)],
    [(2, Conv7), (2, Average)],
    [(3, Nothing), (1, Max2)],
    [(2, Average), (3, Conv1)],
];
const REDUCTION_OUTPUT: [usize; 3] = [4, 5, 6];

/// ReLU, convolution, batch norm.
fn conv_norm(net: &mut Net<'_>, at: &str, x: ValueId, channels: u64, window: Window) -> Added {
    let x = net.relu(&format!("{at}.relu"), x)?;
    let x = net.conv(&format!("{at}.conv"), x, channels, window, false)?;
    net.batch_norm(&format!("{at}.bn"), x, BATCH_NORM_EPS)
}

/// Every second element of both axes of an image, from the second on, with a zero where there is none.
fn odd_elements(net: &mut Net<'_>, at: &str, mut x: ValueId) -> Added {
    for axis in [1, 2] {
        let end = net.b.type_of(x).dims[axis];
        let odd = if end > 1 { Slice { axis, start: 1, end, step: 2 } } else { Slice::range(axis, 0, 1) };
        x = net.b.op(&format!("{at}.odd.{axis}"), OpKind::Slice(odd), &[x])?;
        if end % 2 == 1 && end > 1 {
            x = net.b.op(&format!("{at}.pad.{axis}"), OpKind::Pad(Pad { axis, before: 0, after: 1 }), &[x])?;
        }
    }
    Ok(x)
}

/// Half the extent by two 1x1 convolutions over the even and the odd elements, half of the channels each.
fn factorised_reduction(net: &mut Net<'_>, at: &str, x: ValueId, channels: u64) -> Added {
    let x = net.relu(&format!("{at}.relu"), x)?;
    let half = (channels / 2).max(1);
    let even = net.conv(&format!("{at}.conv1"), x, half, Window::square(1, 2, 0), false)?;
    let odd = odd_elements(net, at, x)?;
    let odd = net.conv(&format!("{at}.conv2"), odd, half, point(), false)?;
    let both = net.concat(&format!("{at}.concat"), &[even, odd])?;
    net.batch_norm(&format!("{at}.bn"), both, BATCH_NORM_EPS)
}

/// Applies a step with a stride; all steps keep the channels.
fn apply(net: &mut Net<'_>, at: &str, x: ValueId, step: Step, stride: u64) -> Added {
    let channels = net.channels_of(x);
    let inner = (channels / 4).max(1);
    let around = |net: &mut Net<'_>, middle: &[Window]| {
        let mut y = conv_norm(net, &format!("{at}.0"), x, inner, point())?;
        for (index, window) in (1..).zip(middle) {
            y = conv_norm(net, &format!("{at}.{index}"), y, inner, window.clone())?;
        }
        conv_norm(net, &format!("{at}.{}", middle.len() + 1), y, channels, point())
    };
    match step {
        Nothing if stride == 1 => Ok(x),
        Nothing => factorised_reduction(net, at, x, channels),
        Average => net.pool(at, x, PoolKind::AverageInside, Window::square(3, stride, 1)),
        Max2 => net.max_pool(at, x, Window::square(2, stride, 0)),
        Conv1 => conv_norm(net, at, x, channels, Window::square(1, stride, 0)),
        Conv3 => around(net, &[Window::square(3, stride, 1)]),
        Conv7 => {
            let row = Window { stride: vec![1, stride], ..Window::new(&[1, 7], 1, &[0, 3]) };
            let column = Window { stride: vec![stride, 1], ..Window::new(&[7, 1], 1, &[3, 0]) };
            around(net, &[row, column])
        }
    }
}

/// What the next cell needs: the last output, the one before it, and whether the last cell halved the extent.
#[derive(Clone, Copy)]
struct State {
    last: ValueId,
    before: ValueId,
    reduced: bool,
    channels: u64,
}

fn cell(net: &mut Net<'_>, at: &str, state: State, reduction: bool) -> Result<State, cutplane_graph::ModelError> {
    net.next_layer();
    let channels = if reduction { state.channels * 2 } else { state.channels };
    let first = conv_norm(net, &format!("{at}.reduce1"), state.last, channels, point())?;
    let second = if state.reduced {
        factorised_reduction(net, &format!("{at}.reduce2"), state.before, channels)?
    } else if net.channels_of(state.before) == channels {
        state.before
    } else {
        conv_norm(net, &format!("{at}.reduce2"), state.before, channels, point())?
    };
    let (sums, output) = if reduction { (&REDUCTION, &REDUCTION_OUTPUT[..]) } else { (&NORMAL, &NORMAL_OUTPUT[..]) };
    let mut states = vec![first, second];
    for (index, pair) in sums.iter().enumerate() {
        let mut side = |side: usize| {
            let (from, step) = pair[side];
            let stride = if reduction && from < 2 { 2 } else { 1 };
            apply(net, &format!("{at}.operations.{}", 2 * index + side), states[from], step, stride)
        };
        let (left, right) = (side(0)?, side(1)?);
        states.push(net.add(&format!("{at}.sum{index}"), left, right)?);
    }
    let parts: Vec<ValueId> = output.iter().map(|index| states[*index]).collect();
    let joined = net.concat(&format!("{at}.concat"), &parts)?;
    Ok(State { last: joined, before: state.last, reduced: reduction, channels })
}

fn amoebanet(net: &mut Net<'_>, x: ValueId, layers: u64, filters: u64) -> Added {
    let stem = net.scale.channels(filters / 4);
    let x = conv_norm(net, "stem1", x, stem, Window::square(3, 2, 1))?;
    let mut state = State { last: x, before: x, reduced: false, channels: stem };
    state = cell(net, "stem2", state, true)?;
    state = cell(net, "stem3", state, true)?;
    for part in [1, 3, 5] {
        for index in 1..=net.scale.repeats(layers / 3) {
            state = cell(net, &format!("cell{part}_normal{index}"), state, false)?;
        }
        if part < 5 {
            state = cell(net, &format!("cell{}_reduction", part + 1), state, true)?;
        }
    }
    net.no_layer();
    let x = net.global_mean("classify.pool", state.last)?;
    net.linear("classify.fc", x, net.classes)
}

pub(super) fn amoebanet_18_256(net: &mut Net<'_>, x: ValueId) -> Added {
    amoebanet(net, x, 18, 256)
}

pub(super) fn amoebanet_18_416(net: &mut Net<'_>, x: ValueId) -> Added {
    amoebanet(net, x, 18, 416)
}
