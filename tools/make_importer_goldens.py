"""Makes the checkpoints, ONNX files and logits that the importers are tested with.

    pip install torch transformers onnx onnxscript safetensors
    python tools/make_importer_goldens.py crates/zoo/tests/data/importers

Each model is tiny and has random weights (also where its library starts with ones or zeros, so that nothing is equal by
chance). For each it writes a folder in the layout of Hugging Face (config.json, model.safetensors), its ONNX exports
(TorchScript-based and torch.export-based, several operator sets and attention kernels), and golden.json: inputs and
logits in float32, parameter counts, and the versions that made them.
"""

import json
import pathlib
import platform
import sys

import onnx
import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

BATCH, LENGTH, DECODER_LENGTH, VOCAB = 2, 8, 6, 61


class Logits(torch.nn.Module):
    """A model that takes its inputs by position and gives logits alone."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs):
        return self.model(**dict(zip(self.names, inputs))).logits


def models():
    tokens = ["input_ids"]
    yield "gpt2", tokens, GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB, n_positions=16, n_embd=16, n_layer=2, n_head=2, use_cache=False)
    )
    yield "bert", tokens + ["attention_mask", "token_type_ids"], BertForMaskedLM(
        BertConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=16,
        )
    )
    yield "llama", tokens + ["attention_mask"], LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=24,
            max_position_embeddings=16,
            rope_theta=500000.0,
            tie_word_embeddings=False,
            use_cache=False,
        )
    )
    yield "t5", tokens + ["decoder_input_ids"], T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCAB,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=2,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=20,
            use_cache=False,
        )
    )


class Recurrent(torch.nn.Module):
    """Recurrent layers over a batch of sequences, with a linear layer on every step."""

    def __init__(self, kind, layers, bidirectional):
        super().__init__()
        self.layers = getattr(torch.nn, kind)(5, 6, layers, batch_first=True, bidirectional=bidirectional)
        self.head = torch.nn.Linear(12 if bidirectional else 6, 3)

    def forward(self, x):
        return self.head(self.layers(x)[0])


def small_models():
    """Models of features, with the shape of a batch of them."""
    yield "lstm", Recurrent("LSTM", 2, True), (BATCH, 4, 5)
    yield "gru", Recurrent("GRU", 1, False), (BATCH, 4, 5)
    image = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.LeakyReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=2),
        torch.nn.GroupNorm(4, 8),
        torch.nn.Hardswish(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    yield "cnn", image, (BATCH, 3, 16, 16)


# Exporter, operator set, attention kernel of each file.
EXPORTS = {
    "gpt2": [("dynamo", 18, "eager"), ("dynamo", 23, "sdpa")],
    "bert": [("script", 13, "eager"), ("script", 17, "sdpa"), ("dynamo", 18, "eager")],
    "llama": [("dynamo", 18, "eager"), ("dynamo", 23, "sdpa")],
    "t5": [("script", 13, "eager"), ("dynamo", 18, "eager")],
}


def versions():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "onnx": onnx.__version__,
    }


def write_small(folder):
    for name, model, shape in small_models():
        model = model.eval()
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        features = torch.randn(shape)
        with torch.no_grad():
            outputs = model(features)
        files = ["script-17.onnx", "dynamo-18.onnx"]
        common = dict(input_names=["features"], output_names=["logits"])
        torch.onnx.export(
            model, (features,), str(place / files[0]), opset_version=17, dynamo=False,
            dynamic_axes={"features": {0: "batch"}}, **common
        )
        torch.onnx.export(
            model, (features,), str(place / files[1]), opset_version=18, dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False, **common
        )
        slim(str(place / files[1]))
        golden = {
            "made_by": "tools/make_importer_goldens.py",
            "versions": versions(),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "exports": files,
            "features_shape": list(shape),
            "features": [round(value, 7) for value in features.flatten().tolist()],
            "logits_shape": list(outputs.shape),
            "logits": [round(value, 7) for value in outputs.flatten().tolist()],
        }
        (place / "golden.json").write_text(json.dumps(golden) + "\n")
        print(name, golden["parameters"], files)


def inputs_of(names):
    def one(name):
        if name == "attention_mask":
            return torch.ones(BATCH, LENGTH, dtype=torch.long)
        length, limit = (DECODER_LENGTH, VOCAB) if "decoder" in name else (LENGTH, VOCAB)
        return torch.randint(0, 2 if name == "token_type_ids" else limit, (BATCH, length))

    return tuple(one(name) for name in names)


def export(wrapped, inputs, names, path, exporter, opset):
    axis = lambda name: "decoder_sequence" if "decoder" in name else "sequence"
    common = dict(input_names=names, output_names=["logits"], opset_version=opset)
    if exporter == "script":
        axes = {name: {0: "batch", 1: axis(name)} for name in names}
        torch.onnx.export(wrapped, inputs, path, dynamo=False, dynamic_axes=axes, **common)
        return
    dims = {"batch": torch.export.Dim("batch")}
    for name in names:
        dims.setdefault(axis(name), torch.export.Dim(axis(name), min=2, max=16))
    shapes = {"inputs": tuple({0: dims["batch"], 1: dims[axis(name)]} for name in names)}
    torch.onnx.export(
        wrapped, inputs, path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **common
    )
    slim(path)


def slim(path):
    """Drops stack traces and the like, which are most of a small file; the names of modules stay."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    onnx.save(model, path)


def main(folder):
    torch.manual_seed(7)
    torch.set_num_threads(1)
    for name, names, model in models():
        model = model.eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.tie_weights()
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(place)
        (place / "generation_config.json").unlink(missing_ok=True)
        inputs = inputs_of(names)
        wrapped = Logits(model, names).eval()
        with torch.no_grad():
            logits = wrapped(*inputs)
        files = []
        for exporter, opset, kernel in EXPORTS[name]:
            model.set_attn_implementation(kernel)
            file = f"{exporter}-{opset}-{kernel}.onnx"
            export(wrapped, inputs, names, str(place / file), exporter, opset)
            files.append(file)
        golden = {
            "made_by": "tools/make_importer_goldens.py",
            "versions": versions(),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "exports": files,
            "inputs": {key: value.tolist() for key, value in zip(names, inputs)},
            "logits_shape": list(logits.shape),
            "logits": [round(value, 7) for value in logits.flatten().tolist()],
        }
        (place / "golden.json").write_text(json.dumps(golden) + "\n")
        print(name, golden["parameters"], files)
    write_small(folder)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
