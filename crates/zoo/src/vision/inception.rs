//! Inception-v3 (Szegedy et al. 2016) with its auxiliary classifier, whose loss counts 0.4.

use cutplane_graph::{OpKind, PoolKind, ValueId, Window};

use super::net::{Added, Net, point, same, same_rectangle};

/// Weight of the auxiliary loss.
const AUXILIARY_WEIGHT: f64 = 0.4;

/// A chain of convolutions below `at`, each with its name, channels and window.
fn chain(net: &mut Net<'_>, at: &str, mut x: ValueId, parts: &[(&str, u64, Window)]) -> Added {
    for (name, channels, window) in parts {
        let channels = net.scale.channels(*channels);
        x = net.basic(&format!("{at}.{name}"), x, channels, window.clone())?;
    }
    Ok(x)
}

/// Average pooling that keeps the extent, then a 1x1 convolution.
fn pooled(net: &mut Net<'_>, at: &str, x: ValueId, channels: u64) -> Added {
    let x = net.pool(&format!("{at}.branch_pool.pool"), x, PoolKind::Average, same(3))?;
    chain(net, at, x, &[("branch_pool", channels, point())])
}

fn module_a(net: &mut Net<'_>, at: &str, x: ValueId, pool: u64) -> Added {
    net.next_layer();
    let first = chain(net, at, x, &[("branch1x1", 64, point())])?;
    let second = chain(net, at, x, &[("branch5x5_1", 48, point()), ("branch5x5_2", 64, same(5))])?;
    let third = [("branch3x3dbl_1", 64, point()), ("branch3x3dbl_2", 96, same(3)), ("branch3x3dbl_3", 96, same(3))];
    let third = chain(net, at, x, &third)?;
    let fourth = pooled(net, at, x, pool)?;
    net.concat(&format!("{at}.concat"), &[first, second, third, fourth])
}

fn module_b(net: &mut Net<'_>, at: &str, x: ValueId) -> Added {
    net.next_layer();
    let halve = || Window::square(3, 2, 0);
    let first = chain(net, at, x, &[("branch3x3", 384, halve())])?;
    let second = [("branch3x3dbl_1", 64, point()), ("branch3x3dbl_2", 96, same(3)), ("branch3x3dbl_3", 96, halve())];
    let second = chain(net, at, x, &second)?;
    let third = net.max_pool(&format!("{at}.branch_pool"), x, halve())?;
    net.concat(&format!("{at}.concat"), &[first, second, third])
}

fn module_c(net: &mut Net<'_>, at: &str, x: ValueId, inner: u64) -> Added {
    net.next_layer();
    let (row, column) = (|| same_rectangle(1, 7), || same_rectangle(7, 1));
    let first = chain(net, at, x, &[("branch1x1", 192, point())])?;
    let second = [("branch7x7_1", inner, point()), ("branch7x7_2", inner, row()), ("branch7x7_3", 192, column())];
    let second = chain(net, at, x, &second)?;
    let third = [
        ("branch7x7dbl_1", inner, point()),
        ("branch7x7dbl_2", inner, column()),
        ("branch7x7dbl_3", inner, row()),
        ("branch7x7dbl_4", inner, column()),
        ("branch7x7dbl_5", 192, row()),
    ];
    let third = chain(net, at, x, &third)?;
    let fourth = pooled(net, at, x, 192)?;
    net.concat(&format!("{at}.concat"), &[first, second, third, fourth])
}

fn module_d(net: &mut Net<'_>, at: &str, x: ValueId) -> Added {
    net.next_layer();
    let halve = || Window::square(3, 2, 0);
    let first = chain(net, at, x, &[("branch3x3_1", 192, point()), ("branch3x3_2", 320, halve())])?;
    let second = [
        ("branch7x7x3_1", 192, point()),
        ("branch7x7x3_2", 192, same_rectangle(1, 7)),
        ("branch7x7x3_3", 192, same_rectangle(7, 1)),
        ("branch7x7x3_4", 192, halve()),
    ];
    let second = chain(net, at, x, &second)?;
    let third = net.max_pool(&format!("{at}.branch_pool"), x, halve())?;
    net.concat(&format!("{at}.concat"), &[first, second, third])
}

fn module_e(net: &mut Net<'_>, at: &str, x: ValueId) -> Added {
    net.next_layer();
    let (row, column) = (|| same_rectangle(1, 3), || same_rectangle(3, 1));
    let first = chain(net, at, x, &[("branch1x1", 320, point())])?;
    let second = chain(net, at, x, &[("branch3x3_1", 384, point())])?;
    let second_row = chain(net, at, second, &[("branch3x3_2a", 384, row())])?;
    let second_column = chain(net, at, second, &[("branch3x3_2b", 384, column())])?;
    let third = chain(net, at, x, &[("branch3x3dbl_1", 448, point()), ("branch3x3dbl_2", 384, same(3))])?;
    let third_row = chain(net, at, third, &[("branch3x3dbl_3a", 384, row())])?;
    let third_column = chain(net, at, third, &[("branch3x3dbl_3b", 384, column())])?;
    let fourth = pooled(net, at, x, 192)?;
    net.concat(&format!("{at}.concat"), &[first, second_row, second_column, third_row, third_column, fourth])
}

/// Pool, two convolutions, mean, and a classifier of its own.
fn auxiliary(net: &mut Net<'_>, x: ValueId) -> Result<(), cutplane_graph::ModelError> {
    net.no_layer();
    let pooled = net.pool("AuxLogits.pool", x, PoolKind::Average, Window::square(5, 3, 0))?;
    let y = chain(net, "AuxLogits", pooled, &[("conv0", 128, point()), ("conv1", 768, Window::square(5, 1, 0))])?;
    let y = net.global_mean("AuxLogits.mean", y)?;
    let logits = net.linear("AuxLogits.fc", y, net.classes)?;
    let loss = OpKind::CrossEntropy { classes: net.classes, counted: 1 };
    let loss = net.b.op("AuxLogits.loss", loss, &[logits, net.targets])?;
    net.auxiliary.push((loss, AUXILIARY_WEIGHT));
    Ok(())
}

pub(super) fn inception_v3(net: &mut Net<'_>, mut x: ValueId) -> Added {
    let stem = [
        ("Conv2d_1a_3x3", 32, Window::square(3, 2, 0)),
        ("Conv2d_2a_3x3", 32, Window::square(3, 1, 0)),
        ("Conv2d_2b_3x3", 64, same(3)),
    ];
    for (name, channels, window) in stem {
        let channels = net.scale.channels(channels);
        x = net.basic(name, x, channels, window)?;
    }
    x = net.max_pool("maxpool1", x, Window::square(3, 2, 0))?;
    for (name, channels, window) in [("Conv2d_3b_1x1", 80, point()), ("Conv2d_4a_3x3", 192, Window::square(3, 1, 0))] {
        let channels = net.scale.channels(channels);
        x = net.basic(name, x, channels, window)?;
    }
    x = net.max_pool("maxpool2", x, Window::square(3, 2, 0))?;
    x = module_a(net, "Mixed_5b", x, 32)?;
    x = module_a(net, "Mixed_5c", x, 64)?;
    x = module_a(net, "Mixed_5d", x, 64)?;
    x = module_b(net, "Mixed_6a", x)?;
    for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        x = module_c(net, name, x, inner)?;
    }
    auxiliary(net, x)?;
    x = module_d(net, "Mixed_7a", x)?;
    x = module_e(net, "Mixed_7b", x)?;
    x = module_e(net, "Mixed_7c", x)?;
    net.no_layer();
    x = net.global_mean("avgpool", x)?;
    net.linear("fc", x, net.classes)
}
