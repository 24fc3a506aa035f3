//! ResNet (He et al. 2016; the stride of a bottleneck in its 3x3 convolution) and ResNeXt (Xie et al. 2017).

use cutplane_graph::{Convolution, OpKind, ValueId, Window};

use super::net::{Added, BATCH_NORM_EPS, Net, point};

/// One of the two kinds of block.
#[derive(Clone, Copy)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 in groups of a width, 1x1 of four times the channels.
    Bottleneck { groups: u64, group_width: u64 },
    /// The same ungrouped with the stride in the first 1x1, as first published.
    StrideFirst,
}

impl Block {
    const fn expansion(self) -> u64 {
        match self {
            Self::Basic => 1,
            Self::Bottleneck { .. } | Self::StrideFirst => 4,
        }
    }
}

const PLAIN: Block = Block::Bottleneck { groups: 1, group_width: 64 };

fn resnet(net: &mut Net<'_>, mut x: ValueId, block: Block, repeats: [u64; 4]) -> Added {
    let stem = net.scale.channels(64);
    x = net.conv("conv1", x, stem, Window::square(7, 2, 3), false)?;
    x = net.batch_norm("bn1", x, BATCH_NORM_EPS)?;
    x = net.relu("relu", x)?;
    x = net.max_pool("maxpool", x, Window::square(3, 2, 1))?;
    for (stage, (channels, count)) in (1..).zip([64, 128, 256, 512].into_iter().zip(repeats)) {
        for index in 0..net.scale.repeats(count) {
            net.next_layer();
            let stride = if index == 0 && stage > 1 { 2 } else { 1 };
            x = add_block(net, &format!("layer{stage}.{index}"), x, block, channels, stride)?;
        }
    }
    net.no_layer();
    x = net.global_mean("avgpool", x)?;
    net.linear("fc", x, net.classes)
}

fn add_block(net: &mut Net<'_>, at: &str, x: ValueId, block: Block, channels: u64, stride: u64) -> Added {
    let outputs = net.scale.channels(channels) * block.expansion();
    let y = match block {
        Block::Basic => {
            let y = conv_norm(net, at, 1, x, (outputs, 1), Window::square(3, stride, 1))?;
            let y = net.relu(&format!("{at}.relu1"), y)?;
            conv_norm(net, at, 2, y, (outputs, 1), Window::square(3, 1, 1))?
        }
        Block::Bottleneck { .. } | Block::StrideFirst => {
            let (groups, group_width, strides) = match block {
                Block::Bottleneck { groups, group_width } => (groups, group_width, [1, stride]),
                _ => (1, 64, [stride, 1]),
            };
            let inner = net.scale.channels(channels * group_width / 64 * groups);
            let y = conv_norm(net, at, 1, x, (inner, 1), Window::square(1, strides[0], 0))?;
            let y = net.relu(&format!("{at}.relu1"), y)?;
            let y = conv_norm(net, at, 2, y, (inner, groups), Window::square(3, strides[1], 1))?;
            let y = net.relu(&format!("{at}.relu2"), y)?;
            conv_norm(net, at, 3, y, (outputs, 1), point())?
        }
    };
    let skip = if stride != 1 || net.channels_of(x) != outputs {
        let skip = net.conv(&format!("{at}.downsample.0"), x, outputs, Window::square(1, stride, 0), false)?;
        net.batch_norm(&format!("{at}.downsample.1"), skip, BATCH_NORM_EPS)?
    } else {
        x
    };
    let sum = net.add(&format!("{at}.add"), y, skip)?;
    net.relu(&format!("{at}.relu"), sum)
}

fn conv_norm(
    net: &mut Net<'_>,
    at: &str,
    number: u64,
    x: ValueId,
    (outputs, groups): (u64, u64),
    window: Window,
) -> Added {
    let kind = Convolution { groups, ..Convolution::new(net.channels_of(x), outputs, window, false) };
    let y = net.b.op(&format!("{at}.conv{number}"), OpKind::Convolution(kind), &[x])?;
    net.batch_norm(&format!("{at}.bn{number}"), y, BATCH_NORM_EPS)
}

pub(super) fn resnet18(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::Basic, [2, 2, 2, 2])
}

pub(super) fn resnet34(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::Basic, [3, 4, 6, 3])
}

pub(super) fn resnet50(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, PLAIN, [3, 4, 6, 3])
}

pub(super) fn resnet101(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, PLAIN, [3, 4, 23, 3])
}

pub(super) fn resnet152(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, PLAIN, [3, 8, 36, 3])
}

/// The blocks of He et al. 2016b, with the norm after each convolution as above.
pub(super) fn resnet200(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, PLAIN, [3, 24, 36, 3])
}

/// 32 groups of 4 channels.
pub(super) fn resnext50(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::Bottleneck { groups: 32, group_width: 4 }, [3, 4, 6, 3])
}

/// 32 groups of 8 channels.
pub(super) fn resnext101(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::Bottleneck { groups: 32, group_width: 8 }, [3, 4, 23, 3])
}

/// 32 groups of 4 channels.
pub(super) fn resnext101_32x4d(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::Bottleneck { groups: 32, group_width: 4 }, [3, 4, 23, 3])
}

pub(super) fn resnet50_v1(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::StrideFirst, [3, 4, 6, 3])
}

pub(super) fn resnet101_v1(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::StrideFirst, [3, 4, 23, 3])
}

pub(super) fn resnet152_v1(net: &mut Net<'_>, x: ValueId) -> Added {
    resnet(net, x, Block::StrideFirst, [3, 8, 36, 3])
}
