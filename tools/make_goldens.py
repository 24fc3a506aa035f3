#!/usr/bin/env python3
"""Makes the numbers of PyTorch that `cargo test -p cutplane-runtime --test goldens` compares with.

    python3 -m venv venv && venv/bin/pip install torch transformers onnx safetensors numpy
    venv/bin/python tools/make_goldens.py runtime/tests/goldens

Each file is a safetensors file with its versions in the metadata. References are computed in f64 from numbers that f32
holds, and stored in f32. `operators.safetensors` has cases of one operator: inputs, parameters, output, an upstream gradient
and what becomes of it. Other files hold a small model each: inputs, parameters, loss and the gradients of all parameters.
"""

import json
import sys
from pathlib import Path

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
import golden_models  # noqa: E402
import golden_operators  # noqa: E402


def versions():
    packages = {"torch": torch, "transformers": transformers, "numpy": numpy, "safetensors": safetensors}
    return ", ".join(f"{name} {package.__version__}" for name, package in packages.items())


def stored(tensor):
    integral = tensor.dtype in (torch.int64, torch.int32)
    return tensor.detach().to(torch.int32 if integral else torch.float32).contiguous().clone()


def write(path, tensors, metadata):
    metadata = {"versions": versions(), **{key: json.dumps(value) for key, value in metadata.items()}}
    save_file({name: stored(tensor) for name, tensor in tensors.items()}, path, metadata)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def main(folder):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(20261123)
    folder.mkdir(parents=True, exist_ok=True)
    cases, tensors = golden_operators.all_cases()
    write(folder / "operators.safetensors", tensors, {"cases": cases})
    for name, tensors, metadata in golden_models.all_models():
        write(folder / f"{name}.safetensors", tensors, metadata)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
