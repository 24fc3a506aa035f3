//! GoogLeNet, also called Inception-v1 (Szegedy et al. 2015), with batch norm and without its auxiliary classifiers, as
//! torchvision has it.

use cutplane_graph::{ValueId, Window};

use super::net::{Added, Net, ceil, point, same};

/// Channels of a module: 1x1; 3x3 after reduction; 5x5 (3x3 in torchvision) after reduction; after the pool.
type Channels = [u64; 6];

fn module(net: &mut Net<'_>, at: &str, x: ValueId, channels: Channels) -> Added {
    net.next_layer();
    let [one, reduce3, three, reduce5, five, pool] = channels.map(|channels| net.scale.channels(channels));
    let first = net.basic(&format!("{at}.branch1"), x, one, point())?;
    let second = net.basic(&format!("{at}.branch2.0"), x, reduce3, point())?;
    let second = net.basic(&format!("{at}.branch2.1"), second, three, same(3))?;
    let third = net.basic(&format!("{at}.branch3.0"), x, reduce5, point())?;
    let third = net.basic(&format!("{at}.branch3.1"), third, five, same(3))?;
    let fourth = net.max_pool(&format!("{at}.branch4.0"), x, ceil(same(3)))?;
    let fourth = net.basic(&format!("{at}.branch4.1"), fourth, pool, point())?;
    net.concat(&format!("{at}.concat"), &[first, second, third, fourth])
}

pub(super) fn googlenet(net: &mut Net<'_>, mut x: ValueId) -> Added {
    let halve = || ceil(Window::square(3, 2, 0));
    let (stem, wide) = (net.scale.channels(64), net.scale.channels(192));
    x = net.basic("conv1", x, stem, Window::square(7, 2, 3))?;
    x = net.max_pool("maxpool1", x, halve())?;
    x = net.basic("conv2", x, stem, point())?;
    x = net.basic("conv3", x, wide, same(3))?;
    x = net.max_pool("maxpool2", x, halve())?;
    x = module(net, "inception3a", x, [64, 96, 128, 16, 32, 32])?;
    x = module(net, "inception3b", x, [128, 128, 192, 32, 96, 64])?;
    x = net.max_pool("maxpool3", x, halve())?;
    x = module(net, "inception4a", x, [192, 96, 208, 16, 48, 64])?;
    x = module(net, "inception4b", x, [160, 112, 224, 24, 64, 64])?;
    x = module(net, "inception4c", x, [128, 128, 256, 24, 64, 64])?;
    x = module(net, "inception4d", x, [112, 144, 288, 32, 64, 64])?;
    x = module(net, "inception4e", x, [256, 160, 320, 32, 128, 128])?;
    x = net.max_pool("maxpool4", x, ceil(Window::square(2, 2, 0)))?;
    x = module(net, "inception5a", x, [256, 160, 320, 32, 128, 128])?;
    x = module(net, "inception5b", x, [384, 192, 384, 48, 128, 128])?;
    net.no_layer();
    x = net.global_mean("avgpool", x)?;
    net.linear("fc", x, net.classes)
}
