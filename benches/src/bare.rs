//! A GPT on `burn::nn` modules with Burn's own AdamW: the baseline that the runtime's overhead is measured against.

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};

/// Sizes of a GPT.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Number of layers.
    pub layers: usize,
    /// Width.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Tokens a sample.
    pub sequence: usize,
}

#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    attention: Linear,
    projection: Linear,
    ln_2: LayerNorm,
    up: Linear,
    down: Linear,
    heads: usize,
}

impl Block {
    fn new(sizes: Sizes, device: &Device) -> Self {
        let h = sizes.hidden;
        Self {
            ln_1: LayerNormConfig::new(h).init(device),
            attention: LinearConfig::new(h, 3 * h).init(device),
            projection: LinearConfig::new(h, h).init(device),
            ln_2: LayerNormConfig::new(h).init(device),
            up: LinearConfig::new(h, 4 * h).init(device),
            down: LinearConfig::new(4 * h, h).init(device),
            heads: sizes.heads,
        }
    }

    fn forward(&self, x: Tensor<3>, mask: &Tensor<4>) -> Tensor<3> {
        let x = x.clone() + self.attend(self.ln_1.forward(x), mask);
        x.clone() + self.down.forward(activation::gelu_approximate(self.up.forward(self.ln_2.forward(x))))
    }

    fn attend(&self, x: Tensor<3>, mask: &Tensor<4>) -> Tensor<3> {
        let [batch, sequence, hidden] = x.dims();
        let width = hidden / self.heads;
        let qkv = self.attention.forward(x);
        let head = |part: usize| {
            let slice = qkv.clone().narrow(2, part * hidden, hidden);
            slice.reshape([batch, sequence, self.heads, width]).swap_dims(1, 2)
        };
        let scores = head(0).matmul(head(1).transpose()) / (width as f64).sqrt() + mask.clone();
        let mixed = activation::softmax(scores, 3).matmul(head(2));
        self.projection.forward(mixed.swap_dims(1, 2).reshape([batch, sequence, hidden]))
    }
}

#[derive(Module, Debug)]
struct Gpt {
    tokens: Embedding,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    last: LayerNorm,
}

impl Gpt {
    fn new(sizes: Sizes, device: &Device) -> Self {
        let positions = EmbeddingConfig::new(sizes.sequence, sizes.hidden).init(device).weight;
        Self {
            tokens: EmbeddingConfig::new(sizes.vocab, sizes.hidden).init(device),
            positions,
            blocks: (0..sizes.layers).map(|_| Block::new(sizes, device)).collect(),
            last: LayerNormConfig::new(sizes.hidden).init(device),
        }
    }

    fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>, mask: &Tensor<4>, device: &Device) -> Tensor<1> {
        let [batch, sequence] = tokens.dims();
        let mut x = self.tokens.forward(tokens) + self.positions.val().unsqueeze();
        for block in &self.blocks {
            x = block.forward(x, mask);
        }
        let hidden = x.dims()[2];
        // The head is tied to the token embedding.
        let x = self.last.forward(x).reshape([batch * sequence, hidden]);
        let logits = x.matmul(self.tokens.weight.val().transpose());
        CrossEntropyLossConfig::new().init(device).forward(logits, targets.reshape([batch * sequence]))
    }
}

/// The bare loop: model, optimizer, and one batch of tokens.
pub struct BareLoop {
    model: Option<Gpt>,
    optimizer: ModuleOptimizer,
    device: Device,
    mask: Tensor<4>,
    sizes: Sizes,
}

impl BareLoop {
    /// A fresh model on the CPU.
    pub fn new(sizes: Sizes) -> Self {
        let device = Device::flex().autodiff();
        let s = sizes.sequence;
        let blocked = |i: usize| if i % s > i / s { f32::NEG_INFINITY } else { 0.0 };
        let mask = TensorData::new((0..s * s).map(blocked).collect::<Vec<f32>>(), [1, 1, s, s]);
        Self {
            model: Some(Gpt::new(sizes, &device)),
            optimizer: AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init(),
            mask: Tensor::from_data(mask, &device),
            device,
            sizes,
        }
    }

    /// One step on `batch` samples; returns the loss.
    pub fn step(&mut self, tokens: Vec<i32>, targets: Vec<i32>, batch: usize) -> f32 {
        let shape = [batch, self.sizes.sequence];
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), &self.device);
        let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, shape), &self.device);
        let model = self.model.take().expect("put back at the end of every step");
        let loss = model.loss(tokens, targets, &self.mask, &self.device);
        let value = loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(1e-3, model, gradients));
        value
    }
}
