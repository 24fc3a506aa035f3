//! DenseNet (Huang et al. 2017).

use cutplane_graph::{PoolKind, ValueId, Window};

use super::net::{Added, BATCH_NORM_EPS, Net, point, same};

/// Norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3 to the growth.
fn dense_layer(net: &mut Net<'_>, at: &str, x: ValueId, growth: u64) -> Added {
    net.next_layer();
    let x = net.batch_norm(&format!("{at}.norm1"), x, BATCH_NORM_EPS)?;
    let x = net.relu(&format!("{at}.relu1"), x)?;
    let x = net.conv(&format!("{at}.conv1"), x, 4 * growth, point(), false)?;
    let x = net.batch_norm(&format!("{at}.norm2"), x, BATCH_NORM_EPS)?;
    let x = net.relu(&format!("{at}.relu2"), x)?;
    net.conv(&format!("{at}.conv2"), x, growth, same(3), false)
}

fn densenet(net: &mut Net<'_>, mut x: ValueId, stem: u64, growth: u64, blocks: [u64; 4]) -> Added {
    let (stem, growth) = (net.scale.channels(stem), net.scale.channels(growth));
    x = net.conv("features.conv0", x, stem, Window::square(7, 2, 3), false)?;
    x = net.batch_norm("features.norm0", x, BATCH_NORM_EPS)?;
    x = net.relu("features.relu0", x)?;
    x = net.max_pool("features.pool0", x, Window::square(3, 2, 1))?;
    for (block, count) in (1..).zip(blocks) {
        for layer in 1..=net.scale.repeats(count) {
            let at = format!("features.denseblock{block}.denselayer{layer}");
            let new = dense_layer(net, &at, x, growth)?;
            x = net.concat(&format!("{at}.concat"), &[x, new])?;
        }
        net.no_layer();
        if block < 4 {
            let at = format!("features.transition{block}");
            x = net.batch_norm(&format!("{at}.norm"), x, BATCH_NORM_EPS)?;
            x = net.relu(&format!("{at}.relu"), x)?;
            let half = (net.channels_of(x) / 2).max(1);
            x = net.conv(&format!("{at}.conv"), x, half, point(), false)?;
            x = net.pool(&format!("{at}.pool"), x, PoolKind::Average, Window::square(2, 2, 0))?;
        }
    }
    x = net.batch_norm("features.norm5", x, BATCH_NORM_EPS)?;
    x = net.relu("features.relu5", x)?;
    x = net.global_mean("avgpool", x)?;
    net.linear("classifier", x, net.classes)
}

pub(super) fn densenet121(net: &mut Net<'_>, x: ValueId) -> Added {
    densenet(net, x, 64, 32, [6, 12, 24, 16])
}

pub(super) fn densenet161(net: &mut Net<'_>, x: ValueId) -> Added {
    densenet(net, x, 96, 48, [6, 12, 36, 24])
}
