//! One pass of tokens through the layers: the kernels of a rank, the host's launches, the collectives between ranks.

use cutplane_graph::Pass;
use cutplane_sim::kernel::{Attention, AttentionAlgorithm, GpuModel, Kernel, Precision};
use cutplane_sim::network::{Collective, Fabric, Group, Library, time};
use cutplane_sim::prediction::Predicted;

use super::engine::FUSED_ENCODER_LENGTH;
use super::request::Request;
use crate::parse::{MixtureOfExperts, Products, TransformerKind};
use crate::prediction::Skip;

/// Tokens that go through the model at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tokens {
    /// Sequences.
    pub(super) sequences: u64,
    /// New tokens of each.
    pub(super) new: u64,
    /// Tokens that each attends to.
    pub(super) seen: u64,
}

impl Tokens {
    fn count(self) -> u64 {
        self.sequences * self.new
    }
}

/// One request batch on its devices.
pub(super) struct Machine<'a> {
    pub(super) request: &'a Request,
    pub(super) gpu: &'a GpuModel,
    pub(super) fabric: &'a Fabric,
    /// Arithmetic of matrix products.
    products: Precision,
    /// Storage of everything else.
    storage: Precision,
    tensor_group: Option<Group>,
    hop: Option<Group>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(request: &'a Request, gpu: &'a GpuModel, fabric: &'a Fabric) -> Result<Self, Skip> {
        let (products, storage) = arithmetic(request.precision.products)?;
        let node = fabric.node();
        let impossible = |error: cutplane_sim::network::NetworkError| Skip::new("impossible-group", error.to_string());
        let (tp, pp) = (request.tp as usize, request.pp as usize);
        let group = |ranks: usize, stride: usize| Group::strided(ranks, stride, node).map_err(impossible);
        let tensor_group = if tp > 1 { Some(group(tp, 1)?) } else { None };
        let hop = if pp > 1 { Some(group(2, tp)?) } else { None };
        Ok(Self { request, gpu, fabric, products, storage, tensor_group, hop })
    }

    /// Bytes of a stored activation.
    pub(super) const fn element(&self) -> u64 {
        self.storage.storage_bytes()
    }

    /// Time of all layers and what stands around them, for the tokens of one micro-batch on every stage in turn.
    pub(super) fn pass(&self, tokens: Tokens) -> Predicted {
        let layers = self.request.model.layers as f64;
        let hops = (self.request.pp - 1) as f64;
        self.layer(tokens) * layers + self.around(tokens) + self.exchange(tokens) * hops
    }

    /// One layer on one rank.
    fn layer(&self, tokens: Tokens) -> Predicted {
        let kernels = self.layer_kernels(tokens);
        let device = self.device(&kernels) + self.attention(tokens);
        let launches = kernels.len() as f64 + f64::from(self.request.engine.small_kernels);
        let host = Predicted::exact(launches * self.request.engine.launch_us * 1e-6);
        device.max(host) + self.reduce(tokens.count() * self.request.model.hidden * self.element()) * 2.0
    }

    /// Kernels on the device, with the gaps between them.
    fn device(&self, kernels: &[(Kernel, Precision)]) -> Predicted {
        let bare: Predicted = kernels.iter().map(|(kernel, precision)| self.gpu.time(kernel, *precision)).sum();
        bare * (1.0 / self.request.engine.efficiency)
    }

    /// The products of a layer's shard and the small kernels between them.
    fn layer_kernels(&self, tokens: Tokens) -> Vec<(Kernel, Precision)> {
        let (model, engine, tp) = (&self.request.model, self.request.engine, self.request.tp);
        let kept = (tokens.count() as f64 * self.kept(tokens)).ceil().max(1.0) as u64;
        let product = |n: u64, k: u64| (Kernel::matmul(kept, n.max(1), k.max(1)), self.products);
        let heads = (model.heads + 2 * model.kv_heads) * model.head_dim;
        let inputs = if model.gated { 2 } else { 1 };
        let mut kernels =
            vec![product(heads / tp, model.hidden), product(model.hidden, model.heads * model.head_dim / tp)];
        match model.experts {
            None => {
                kernels.push(product(inputs * model.ffn_hidden / tp, model.hidden));
                kernels.push(product(model.hidden, model.ffn_hidden / tp));
            }
            Some(mixture) => kernels.extend(self.experts(kept, mixture, inputs)),
        }
        let small = kept * model.hidden * self.element() * engine.small_passes;
        let count = engine.small_kernels;
        let small = Kernel::MemoryBound { bytes_read: small / 2, bytes_written: small / 2, kernels: count, rows: None };
        kernels.push((small, self.storage));
        kernels
    }

    /// Products of the experts that the tokens reach; tokens are spread evenly.
    fn experts(&self, tokens: u64, mixture: MixtureOfExperts, inputs: u64) -> Vec<(Kernel, Precision)> {
        let (hidden, tp) = (self.request.model.hidden, self.request.tp);
        let places = tokens * mixture.top_k;
        let missed = (1.0 - mixture.top_k as f64 / mixture.experts as f64).powf(tokens as f64);
        let reached = ((mixture.experts as f64 * (1.0 - missed)).round() as u64).clamp(1, mixture.experts);
        let rows = places.div_ceil(reached).max(1);
        let product =
            |n: u64, k: u64| (Kernel::Matmul { m: rows, n: n.max(1), k: k.max(1), batch: reached }, self.products);
        vec![
            (Kernel::matmul(tokens, mixture.experts, hidden), self.storage),
            product(inputs * mixture.ffn_hidden / tp, hidden),
            product(hidden, mixture.ffn_hidden / tp),
        ]
    }

    /// Share of the positions that are computed: padding may be left out of prompts.
    fn kept(&self, tokens: Tokens) -> f64 {
        if tokens.new > 1 { self.request.engine.kept_positions } else { 1.0 }
    }

    fn attention(&self, tokens: Tokens) -> Predicted {
        let (model, engine, tp) = (&self.request.model, self.request.engine, self.request.tp);
        let kept = self.kept(tokens);
        let length = |tokens: u64| ((tokens as f64 * kept).ceil() as u64).max(1);
        // A kernel of its own reads the cache for each new token, whatever the engine does with prompts.
        let short = self.element() <= 2 && tokens.new <= FUSED_ENCODER_LENGTH;
        let algorithm = match model.kind {
            _ if tokens.new == 1 => AttentionAlgorithm::Flash2,
            TransformerKind::Encoder if short => engine.encoder_attention,
            _ => engine.attention,
        };
        let attention = Attention {
            batch: tokens.sequences,
            heads: (model.heads / tp).max(1),
            kv_heads: (model.kv_heads / tp).max(1),
            query_len: length(tokens.new),
            key_len: length(tokens.seen),
            head_dim: model.head_dim,
            causal: model.kind == TransformerKind::Decoder && tokens.new > 1,
            algorithm,
            pass: Pass::Forward,
        };
        self.device(&[(Kernel::Attention(attention), self.storage)])
    }

    /// Embedding, head and sampling: once a pass, for the last token of each sequence. An encoder has neither.
    fn around(&self, tokens: Tokens) -> Predicted {
        let (model, engine) = (&self.request.model, self.request.engine);
        let fixed = Predicted::exact(engine.step_us * 1e-6);
        let embedding = self.gpu.time(&Kernel::Gather { indices: tokens.count(), width: model.hidden }, self.storage);
        if self.request.output == 0 {
            return fixed + embedding;
        }
        let head = Kernel::matmul(tokens.sequences, (model.vocab / self.request.tp).max(1), model.hidden);
        let logits = tokens.sequences * model.vocab * 4;
        let sampling = logits * engine.sampling_passes / 2;
        let kernels = (engine.sampling_passes as u32 / 2).max(1);
        let sampling = Kernel::MemoryBound { bytes_read: sampling, bytes_written: sampling, kernels, rows: None };
        fixed + embedding + self.device(&[(head, self.storage), (sampling, self.storage)]) + self.gather(logits)
    }

    fn collective(&self, collective: Collective, bytes: u64, group: Option<Group>) -> Predicted {
        let Some(group) = group else { return Predicted::ZERO };
        let found = time(collective, bytes as f64, &group, self.fabric, &Library::NCCL);
        let wait = self.request.engine.collective_us * 1e-6;
        Predicted {
            seconds: found.seconds + wait,
            low: found.low + wait / 2.0,
            high: found.high + wait * 2.0,
            extrapolates: found.extrapolates,
        }
    }

    fn reduce(&self, bytes: u64) -> Predicted {
        self.collective(Collective::AllReduce, bytes, self.tensor_group)
    }

    fn gather(&self, bytes: u64) -> Predicted {
        self.collective(Collective::AllGather, bytes, self.tensor_group)
    }

    fn exchange(&self, tokens: Tokens) -> Predicted {
        self.collective(Collective::SendRecv, tokens.count() * self.request.model.hidden * self.element(), self.hop)
    }
}

/// Arithmetic of products, and of what is stored between them.
fn arithmetic(products: Products) -> Result<(Precision, Precision), Skip> {
    Ok(match products {
        Products::F32 => (Precision::F32, Precision::F32),
        Products::Tf32 | Products::F32OrTf32 => (Precision::Tf32, Precision::F32),
        Products::F16 => (Precision::F16, Precision::F16),
        Products::Bf16 => (Precision::Bf16, Precision::Bf16),
        Products::Fp8 | Products::MxFp8 => (Precision::Fp8, Precision::Bf16),
        Products::Int8 => (Precision::Int8, Precision::F16),
        Products::NvFp4 | Products::Int4Weights => {
            return Err(Skip::new("unsupported-precision", "four-bit inference has no kernel model"));
        }
    })
}
