//! VGG (Simonyan and Zisserman 2015) without batch norm.

use cutplane_graph::{ValueId, Window};

use super::net::{Added, Net, same};

fn vgg(net: &mut Net<'_>, mut x: ValueId, convolutions: [u64; 5]) -> Added {
    let mut index = 0;
    for (channels, count) in [64, 128, 256, 512, 512].into_iter().zip(convolutions) {
        let channels = net.scale.channels(channels);
        for _ in 0..net.scale.repeats(count) {
            net.next_layer();
            x = net.conv(&format!("features.{index}"), x, channels, same(3), true)?;
            x = net.relu(&format!("features.{}", index + 1), x)?;
            index += 2;
        }
        x = net.max_pool(&format!("features.{index}"), x, Window::square(2, 2, 0))?;
        index += 1;
    }
    net.no_layer();
    x = net.pool_to("avgpool", x, 7)?;
    x = net.flatten("flatten", x)?;
    let hidden = net.scale.channels(4096);
    x = net.linear("classifier.0", x, hidden)?;
    x = net.relu("classifier.1", x)?;
    x = net.linear("classifier.3", x, hidden)?;
    x = net.relu("classifier.4", x)?;
    net.linear("classifier.6", x, net.classes)
}

pub(super) fn vgg11(net: &mut Net<'_>, x: ValueId) -> Added {
    vgg(net, x, [1, 1, 2, 2, 2])
}

pub(super) fn vgg13(net: &mut Net<'_>, x: ValueId) -> Added {
    vgg(net, x, [2; 5])
}

pub(super) fn vgg16(net: &mut Net<'_>, x: ValueId) -> Added {
    vgg(net, x, [2, 2, 3, 3, 3])
}

pub(super) fn vgg19(net: &mut Net<'_>, x: ValueId) -> Added {
    vgg(net, x, [2, 2, 4, 4, 4])
}
