//! MobileNetV2 (Sandler et al. 2018).

use cutplane_graph::{ActivationKind, Convolution, OpKind, ValueId, Window};

use super::net::{Added, BATCH_NORM_EPS, Net, point};

/// Convolution, batch norm, ReLU6: parts 0 and 1 of the module `at`.
fn part(net: &mut Net<'_>, at: &str, x: ValueId, outputs: u64, window: Window, depthwise: bool) -> Added {
    let inputs = net.channels_of(x);
    let groups = if depthwise { inputs } else { 1 };
    let kind = Convolution { groups, ..Convolution::new(inputs, outputs, window, false) };
    let x = net.b.op(&format!("{at}.0"), OpKind::Convolution(kind), &[x])?;
    let x = net.batch_norm(&format!("{at}.1"), x, BATCH_NORM_EPS)?;
    net.activation(&format!("{at}.2"), x, ActivationKind::Relu6)
}

fn inverted_residual(net: &mut Net<'_>, at: &str, x: ValueId, outputs: u64, stride: u64, expansion: u64) -> Added {
    let inputs = net.channels_of(x);
    let hidden = inputs * expansion;
    let expanded = if expansion == 1 { x } else { part(net, &format!("{at}.conv.0"), x, hidden, point(), false)? };
    let index = u64::from(expansion != 1);
    let y = part(net, &format!("{at}.conv.{index}"), expanded, hidden, Window::square(3, stride, 1), true)?;
    let y = net.conv(&format!("{at}.conv.{}", index + 1), y, outputs, point(), false)?;
    let y = net.batch_norm(&format!("{at}.conv.{}", index + 2), y, BATCH_NORM_EPS)?;
    if stride == 1 && inputs == outputs { net.add(&format!("{at}.add"), y, x) } else { Ok(y) }
}

pub(super) fn mobilenet_v2(net: &mut Net<'_>, mut x: ValueId) -> Added {
    // Expansion, channels, repetitions, stride of the first.
    let stages =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    let (stem, last) = (net.scale.channels(32), net.scale.channels(1280));
    x = part(net, "features.0", x, stem, Window::square(3, 2, 1), false)?;
    let mut index = 1;
    for (expansion, channels, count, stride) in stages {
        let channels = net.scale.channels(channels);
        for repeat in 0..net.scale.repeats(count) {
            net.next_layer();
            let stride = if repeat == 0 { stride } else { 1 };
            x = inverted_residual(net, &format!("features.{index}"), x, channels, stride, expansion)?;
            index += 1;
        }
    }
    net.no_layer();
    x = part(net, &format!("features.{index}"), x, last, point(), false)?;
    x = net.global_mean("avgpool", x)?;
    net.linear("classifier.1", x, net.classes)
}
