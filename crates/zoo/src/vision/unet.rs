//! The simplified U-Net of torchgpipe (Kim et al. 2020, section 4; after Ronneberger, Fischer and Brox 2015): five levels of
//! stacked convolutions, instance norms without parameters, nearest-neighbour upsampling, skip connections by
//! concatenation.

use cutplane_graph::{ActivationKind, GroupNorm, OpKind, Pad, Upsample, ValueId, Window};

use super::net::{Added, Net, point, same};

/// Levels of the published sizes.
const DEPTH: u32 = 5;

struct Sizes {
    /// Convolutions of a cell.
    convolutions: u64,
    /// Channels of the first cell.
    base: u64,
}

/// Convolutions of a cell: `inner` channels, then `outputs` in the last.
fn cell(net: &mut Net<'_>, at: &str, mut x: ValueId, inner: u64, outputs: u64, count: u64) -> Added {
    net.next_layer();
    for index in 0..count {
        let channels = if index + 1 == count { outputs } else { inner };
        let at = format!("{at}.{index}");
        x = net.conv(&format!("{at}.conv"), x, channels, same(3), false)?;
        let norm = GroupNorm { groups: channels, channels, eps: 1e-5, affine: false };
        x = net.b.op(&format!("{at}.norm"), OpKind::GroupNorm(norm), &[x])?;
        x = net.activation(&format!("{at}.relu"), x, ActivationKind::LeakyRelu)?;
    }
    Ok(x)
}

/// Zeros after each axis, so that the image is as large as `like`.
fn grown_like(net: &mut Net<'_>, at: &str, mut x: ValueId, like: ValueId) -> Added {
    for axis in [1, 2] {
        let missing = net.b.type_of(like).dims[axis].saturating_sub(net.b.type_of(x).dims[axis]);
        if missing > 0 {
            x = net.b.op(&format!("{at}.pad.{axis}"), OpKind::Pad(Pad { axis, before: 0, after: missing }), &[x])?;
        }
    }
    Ok(x)
}

fn unet(net: &mut Net<'_>, mut x: ValueId, sizes: &Sizes) -> Added {
    let count = net.scale.repeats(sizes.convolutions);
    let base = net.scale.channels(sizes.base);
    let at_level = |level: u32| base << level;
    let mut skips = Vec::new();
    for level in 0..DEPTH {
        let channels = at_level(level);
        x = cell(net, &format!("encoder.{level}.encode"), x, channels, channels, count)?;
        skips.push(x);
        x = net.max_pool(&format!("encoder.{level}.down"), x, Window::square(2, 2, 0))?;
    }
    x = cell(net, "bottleneck", x, at_level(DEPTH), at_level(DEPTH - 1), count)?;
    for (level, skip) in (0..DEPTH).zip(skips).rev() {
        let at = format!("decoder.{}", DEPTH - 1 - level);
        net.no_layer();
        x = net.b.op(&format!("{at}.up"), OpKind::Upsample(Upsample { factor: 2 }), &[x])?;
        x = grown_like(net, &at, x, skip)?;
        x = net.concat(&format!("{at}.skip"), &[x, skip])?;
        let channels = (at_level(level) / 2).max(1);
        x = cell(net, &format!("{at}.decode"), x, channels, channels, count)?;
    }
    net.no_layer();
    net.conv("segment", x, net.classes, point(), false)
}

pub(super) fn unet_5_64(net: &mut Net<'_>, x: ValueId) -> Added {
    unet(net, x, &Sizes { convolutions: 5, base: 64 })
}

pub(super) fn unet_6_72(net: &mut Net<'_>, x: ValueId) -> Added {
    unet(net, x, &Sizes { convolutions: 6, base: 72 })
}
