//! SqueezeNet (Iandola et al. 2016).

use cutplane_graph::{ValueId, Window};

use super::net::{Added, Net, ceil, point, same};

/// A 1x1 convolution that squeezes, then 1x1 and 3x3 side by side.
fn fire(net: &mut Net<'_>, index: usize, x: ValueId, squeezed: u64, expanded: u64) -> Added {
    net.next_layer();
    let at = format!("features.{index}");
    let (squeezed, expanded) = (net.scale.channels(squeezed), net.scale.channels(expanded));
    let x = net.conv(&format!("{at}.squeeze"), x, squeezed, point(), true)?;
    let x = net.relu(&format!("{at}.squeeze_activation"), x)?;
    let left = net.conv(&format!("{at}.expand1x1"), x, expanded, point(), true)?;
    let left = net.relu(&format!("{at}.expand1x1_activation"), left)?;
    let right = net.conv(&format!("{at}.expand3x3"), x, expanded, same(3), true)?;
    let right = net.relu(&format!("{at}.expand3x3_activation"), right)?;
    net.concat(&format!("{at}.concat"), &[left, right])
}

/// The eight fire modules: channels squeezed and expanded.
const FIRES: [(u64, u64); 8] = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)];

fn squeezenet(net: &mut Net<'_>, mut x: ValueId, stem: (u64, u64), pooled_before: [usize; 2]) -> Added {
    let halve = || ceil(Window::square(3, 2, 0));
    let channels = net.scale.channels(stem.0);
    x = net.conv("features.0", x, channels, Window::square(stem.1, 2, 0), true)?;
    x = net.relu("features.1", x)?;
    x = net.max_pool("features.2", x, halve())?;
    let mut index = 3;
    for (number, (squeezed, expanded)) in FIRES.into_iter().enumerate() {
        if pooled_before.contains(&number) {
            x = net.max_pool(&format!("features.{index}"), x, halve())?;
            index += 1;
        }
        x = fire(net, index, x, squeezed, expanded)?;
        index += 1;
    }
    net.no_layer();
    x = net.conv("classifier.1", x, net.classes, point(), true)?;
    x = net.relu("classifier.2", x)?;
    net.global_mean("classifier.3", x)
}

pub(super) fn squeezenet1_0(net: &mut Net<'_>, x: ValueId) -> Added {
    squeezenet(net, x, (96, 7), [3, 7])
}

pub(super) fn squeezenet1_1(net: &mut Net<'_>, x: ValueId) -> Added {
    squeezenet(net, x, (64, 3), [2, 4])
}
