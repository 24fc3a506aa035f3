//! Vision transformers (Dosovitskiy et al. 2021): patches as tokens, a class token, pre-norm blocks.

use cutplane_graph::{ActivationKind, AttentionInput, OpKind, PrependTokens, Reshape, Transpose, ValueId, Window};

use super::net::{Added, Net};
use crate::transformer::{Dense, Scope};

struct Sizes {
    patch: u64,
    layers: u64,
    hidden: u64,
    heads: u64,
}

const STD: f64 = 0.02;
const EPS: f64 = 1e-6;

fn vit(net: &mut Net<'_>, image: ValueId, sizes: &Sizes) -> Added {
    let hidden = net.scale.channels(sizes.hidden);
    let x = net.conv("conv_proj", image, hidden, Window::square(sizes.patch, sizes.patch, 0), true)?;
    let patches = net.b.type_of(x).elements(1) / hidden;
    let x = net.b.op("conv_proj.flatten", OpKind::Reshape(Reshape { dims: vec![hidden, patches] }), &[x])?;
    let x = net.b.op("conv_proj.tokens", OpKind::Transpose(Transpose { axes: vec![1, 0] }), &[x])?;
    let class = OpKind::PrependTokens(PrependTokens { count: 1, dim: hidden, init_std: STD });
    let x = net.b.op_with_params("class_token", class, &[x], &["class_token"])?;
    let positions = OpKind::position_embedding(patches + 1, hidden, STD);
    let mut x = net.b.op_with_params("encoder.pos_embedding", positions, &[x], &["encoder.pos_embedding"])?;
    let heads = (1..=sizes.heads).rev().find(|heads| hidden.is_multiple_of(*heads)).unwrap_or(1);
    for layer in 0..net.scale.repeats(sizes.layers) {
        net.next_layer();
        let path = format!("encoder.layers.encoder_layer_{layer}");
        x = block(&mut Scope { b: net.b, path }, x, hidden, heads)?;
    }
    net.no_layer();
    let x = net.b.op("encoder.ln", OpKind::layer_norm(hidden, EPS), &[x])?;
    let x = net.b.op("class", OpKind::SelectToken { index: 0 }, &[x])?;
    net.linear("heads.head", x, net.classes)
}

fn block(scope: &mut Scope<'_>, x: ValueId, hidden: u64, heads: u64) -> Added {
    let dense = Dense::torch(STD);
    let normed = scope.op("ln_1", OpKind::layer_norm(hidden, EPS), &[x])?;
    let at = format!("{}.self_attention", scope.path);
    let params = [format!("{at}.in_proj_weight"), format!("{at}.in_proj_bias")];
    let params: Vec<&str> = params.iter().map(String::as_str).collect();
    let packed = dense.op(hidden, 3 * hidden, true);
    let packed = scope.b.op_with_params(&format!("{at}.in_proj"), packed, &[normed], &params)?;
    let attention = OpKind::attention(heads, hidden / heads, false, AttentionInput::Packed);
    let mixed = scope.op("self_attention", attention, &[packed])?;
    let projected = scope.op("self_attention.out_proj", dense.op(hidden, hidden, true), &[mixed])?;
    let x = scope.op("self_attention.residual", OpKind::Add, &[projected, x])?;
    let normed = scope.op("ln_2", OpKind::layer_norm(hidden, EPS), &[x])?;
    let wide = scope.op("mlp.0", dense.op(hidden, 4 * hidden, true), &[normed])?;
    let active = scope.op("mlp.1", OpKind::Activation { function: ActivationKind::Gelu }, &[wide])?;
    let narrow = scope.op("mlp.3", dense.op(4 * hidden, hidden, true), &[active])?;
    scope.op("mlp.residual", OpKind::Add, &[narrow, x])
}

pub(super) fn base_16(net: &mut Net<'_>, image: ValueId) -> Added {
    vit(net, image, &Sizes { patch: 16, layers: 12, hidden: 768, heads: 12 })
}

pub(super) fn base_32(net: &mut Net<'_>, image: ValueId) -> Added {
    vit(net, image, &Sizes { patch: 32, layers: 12, hidden: 768, heads: 12 })
}

pub(super) fn large_16(net: &mut Net<'_>, image: ValueId) -> Added {
    vit(net, image, &Sizes { patch: 16, layers: 24, hidden: 1024, heads: 16 })
}
