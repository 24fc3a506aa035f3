//! Software stacks.

use serde::Serialize;

use super::words::says;

/// Families of frameworks whose kernels, launches and overlaps are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoftwareFamily {
    /// Megatron-LM before Megatron-Core.
    MegatronLm,
    /// Megatron-Core: NeMo, Megatron-Bridge, Primus.
    MegatronCore,
    /// Megatron models in DeepSpeed's engine.
    MegatronDeepSpeed,
    /// DeepSpeed with other models.
    DeepSpeed,
    /// PyTorch FSDP: llm-foundry, torchtitan, Composer.
    PytorchFsdp,
    /// InternEvo.
    InternEvo,
    /// Colossal-AI.
    ColossalAi,
    /// torchgpipe and other PyTorch pipelines.
    PytorchPipeline,
    /// PyTorch, eager.
    Pytorch,
    /// Torch7.
    Torch7,
    /// TensorFlow 1.
    TensorFlow1,
    /// TensorFlow 2.
    TensorFlow2,
    /// MXNet.
    Mxnet,
    /// PaddlePaddle.
    Paddle,
    /// OneFlow.
    OneFlow,
    /// Caffe and Caffe2.
    Caffe,
    /// JAX with XLA.
    Jax,
    /// Chainer, CNTK, Theano and other frameworks of their time.
    Other,
    /// FasterTransformer.
    FasterTransformer,
    /// LMDeploy's TurboMind.
    TurboMind,
    /// TensorRT-LLM.
    TensorRtLlm,
    /// vLLM.
    Vllm,
    /// SGLang.
    SgLang,
    /// DeepSpeed inference and MII.
    DeepSpeedInference,
    /// Hugging Face's text-generation-inference.
    TextGenerationInference,
    /// llama.cpp.
    LlamaCpp,
    /// Bare kernels: cuBLAS, cuDNN, profilers.
    Kernels,
    /// Bare collectives: NCCL, MPI, MLSL.
    Collectives,
    /// The row does not say.
    Unstated,
}

/// A framework.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Software {
    /// Its family.
    pub family: SoftwareFamily,
    /// Version numbers in the text, most significant first: `[1, 4, 0]`.
    pub version: Vec<u32>,
}

/// What a text must say for a family; the first match counts.
const FAMILIES: [(&[&str], SoftwareFamily); 32] = [
    (&["profiler", "cublas", "cudnn (", "deepbench", "vllm kernels"], SoftwareFamily::Kernels),
    (&["tensorrt-llm", "trt-llm", "tensorrt"], SoftwareFamily::TensorRtLlm),
    (&["fastertransformer", "nemo inference", "triton inference"], SoftwareFamily::FasterTransformer),
    (&["lmdeploy", "turbomind"], SoftwareFamily::TurboMind),
    (&["vllm"], SoftwareFamily::Vllm),
    (&["sglang"], SoftwareFamily::SgLang),
    (&["text-generation-inference", "tgi"], SoftwareFamily::TextGenerationInference),
    (&["deepspeed-mii", "deepspeed inference", "deepspeed-inference", "fastgen"], SoftwareFamily::DeepSpeedInference),
    (&["llama.cpp", "ggml", "gguf"], SoftwareFamily::LlamaCpp),
    (
        &["torch.distributed", "nccl", "mpi", "mlsl", "gloo", "ringallreduce", "rccl", "osu"],
        SoftwareFamily::Collectives,
    ),
    (&["colossal"], SoftwareFamily::ColossalAi),
    (&["internevo", "internlm"], SoftwareFamily::InternEvo),
    (
        &["megatron-deepspeed", "deepspeed 3d", "megatron + deepspeed", "megatron+deepspeed", "gpt-neox"],
        SoftwareFamily::MegatronDeepSpeed,
    ),
    (&["megatron-core", "megatron core", "megatron-bridge", "mcore", "primus", "nemo 2"], SoftwareFamily::MegatronCore),
    (&["nemo megatron"], SoftwareFamily::MegatronLm),
    (&["nemo"], SoftwareFamily::MegatronCore),
    (&["megatron"], SoftwareFamily::MegatronLm),
    (&["deepspeed", "zero2", "zero3", "bmtrain"], SoftwareFamily::DeepSpeed),
    (
        &["fsdp", "llm-foundry", "composer", "torchtitan", "fairscale", "llama-factory", "torchtune", "litgpt"],
        SoftwareFamily::PytorchFsdp,
    ),
    (&["gpipe, pytorch", "torchgpipe", "pippy", "pipedream"], SoftwareFamily::PytorchPipeline),
    (&["torch7"], SoftwareFamily::Torch7),
    (&["tensorflow 2", "tensorflow2", "tf2", "tf 2"], SoftwareFamily::TensorFlow2),
    (&["tensorflow", "tf_cnn", "tf 1", "tf1", "mesh-tf", "lingvo"], SoftwareFamily::TensorFlow1),
    (&["mxnet", "gluon"], SoftwareFamily::Mxnet),
    (&["paddle"], SoftwareFamily::Paddle),
    (&["oneflow"], SoftwareFamily::OneFlow),
    (&["caffe"], SoftwareFamily::Caffe),
    (&["jax", "maxtext", "flax", "alpa", "t5x"], SoftwareFamily::Jax),
    (&["pytorch", "torchvision", "fairseq", "hugging face", "transformers", "accelerate"], SoftwareFamily::Pytorch),
    (&["torch", "lightning", "huggingface", "nanogpt", "unsloth", "axolotl", "nanotron"], SoftwareFamily::Pytorch),
    (&["horovod"], SoftwareFamily::TensorFlow1),
    (&["chainer", "cntk", "theano", "keras", "neon"], SoftwareFamily::Other),
];

/// Reads the column `framework`. A framework that is not known is [`SoftwareFamily::Other`]: its traits are assumed.
pub fn software(text: &str) -> Software {
    let lower = text.trim().to_ascii_lowercase();
    let family = match FAMILIES.iter().find(|(names, _)| says(&lower, names)) {
        Some((_, family)) => *family,
        None if lower.is_empty() => SoftwareFamily::Unstated,
        None => SoftwareFamily::Other,
    };
    Software { family, version: version(&lower) }
}

/// The first dotted number of a text.
fn version(lower: &str) -> Vec<u32> {
    let words = lower.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let dotted = words.map(|word| word.trim_matches('.')).find(|word| word.contains('.'));
    dotted.map(|word| word.split('.').filter_map(|part| part.parse().ok()).collect()).unwrap_or_default()
}
