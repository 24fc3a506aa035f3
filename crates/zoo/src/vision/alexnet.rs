//! AlexNet (Krizhevsky 2014, one column, as in torchvision) and the small MNIST network of many tutorials.

use cutplane_graph::{ValueId, Window};

use super::net::{Added, Net, same};

pub(super) fn alexnet(net: &mut Net<'_>, mut x: ValueId) -> Added {
    let layers = [
        (0, 64, Window::square(11, 4, 2), true),
        (3, 192, same(5), true),
        (6, 384, same(3), false),
        (8, 256, same(3), false),
        (10, 256, same(3), true),
    ];
    for (index, channels, window, pooled) in layers {
        net.next_layer();
        let channels = net.scale.channels(channels);
        x = net.conv(&format!("features.{index}"), x, channels, window, true)?;
        x = net.relu(&format!("features.{}", index + 1), x)?;
        if pooled {
            x = net.max_pool(&format!("features.{}", index + 2), x, Window::square(3, 2, 0))?;
        }
    }
    net.no_layer();
    x = net.pool_to("avgpool", x, 6)?;
    x = net.flatten("flatten", x)?;
    let hidden = net.scale.channels(4096);
    x = net.linear("classifier.1", x, hidden)?;
    x = net.relu("classifier.2", x)?;
    x = net.linear("classifier.4", x, hidden)?;
    x = net.relu("classifier.5", x)?;
    net.linear("classifier.6", x, net.classes)
}

/// Two convolutions and three linear layers, with no function between the latter: 1,201,382 parameters.
pub(super) fn mnist(net: &mut Net<'_>, x: ValueId) -> Added {
    let (narrow, wide) = (net.scale.channels(32), net.scale.channels(64));
    let x = net.conv("conv1", x, narrow, Window::square(3, 1, 0), true)?;
    let x = net.relu("relu1", x)?;
    let x = net.conv("conv2", x, wide, Window::square(3, 1, 0), true)?;
    let x = net.max_pool("pool", x, Window::square(2, 2, 0))?;
    let x = net.flatten("flatten", x)?;
    let x = net.linear("fc1", x, 128)?;
    let x = net.linear("fc2", x, 20)?;
    net.linear("fc3", x, net.classes)
}
