#!/usr/bin/env python3
"""Step time and peak memory of the models of `cutplane gpu-check` in plain PyTorch, one device, as CSV.

    python3 pytorch_step_time.py --out pytorch.csv --device cuda:0 --seconds 90

Needs torch and nothing else: GPT-2 and BERT are written out here, with the shapes of the zoo. A training step is forward,
backward and AdamW, without dropout. bf16 keeps f32 master weights (autocast). Attention is PyTorch's fused one ("sdpa")
or written out ("explicit", the same arithmetic as Cutplane's). f32 is without TF32 ("f32") or with it ("tf32").
"""
import argparse
import contextlib
import csv
import os
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

# name: family, layers, width, heads, vocabulary, positions
MODELS = {
    "gpt2": ("gpt", 12, 768, 12, 50257, 1024),
    "gpt2-medium": ("gpt", 24, 1024, 16, 50257, 1024),
    "bert-base": ("bert", 12, 768, 12, 30522, 512),
    "gpt-nano": ("gpt", 4, 64, 4, 256, 64),
    "bert-nano": ("bert", 4, 64, 4, 256, 64),
}
# (model, tokens, batch): as in crates/cli/src/verbs/gpu_check/steps.rs, the most telling first
WORK = [
    ("gpt2", 1024, 8), ("bert-base", 128, 32), ("gpt2-medium", 1024, 4),
    ("gpt2", 1024, 4), ("bert-base", 128, 64), ("gpt2-medium", 1024, 8),
    ("gpt2", 1024, 16), ("bert-base", 128, 8),
]
REHEARSAL = [("gpt-nano", 64, 4), ("bert-nano", 64, 4)]
COLUMNS = ["model", "mode", "precision", "attention", "global_batch", "sequence_length", "n", "median_ns", "mad_ns", "min_ns",
           "max_ns", "peak_memory_bytes", "parameters", "loss", "device", "torch", "error"]


class Block(nn.Module):
    def __init__(self, family, width, heads, attention):
        super().__init__()
        self.causal, self.heads, self.attention = family == "gpt", heads, attention
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gelu = "tanh" if self.causal else "none"

    def mix(self, x):
        batch, tokens, width = x.shape
        q, k, v = (t.view(batch, tokens, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        if self.attention == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            scores = q @ k.transpose(-2, -1) / (width / self.heads) ** 0.5
            if self.causal:
                hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(hidden, float("-inf"))
            y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, tokens, width))

    def feed(self, x):
        return self.down(F.gelu(self.up(x), approximate=self.gelu))

    def forward(self, x):
        if self.causal:  # GPT-2 normalises before, BERT after
            x = x + self.mix(self.norm1(x))
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.mix(x))
        return self.norm2(x + self.feed(x))


class Transformer(nn.Module):
    def __init__(self, name, attention):
        super().__init__()
        self.family, layers, width, heads, self.vocab, positions = MODELS[name]
        self.token, self.position = nn.Embedding(self.vocab, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(self.family, width, heads, attention) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        if self.family == "bert":
            self.kind, self.head = nn.Embedding(2, width), nn.Linear(width, width)
            self.head_norm, self.bias = nn.LayerNorm(width), nn.Parameter(torch.zeros(self.vocab))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids, targets):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        if self.family == "bert":
            x = self.norm(x + self.kind.weight[0])
        for block in self.blocks:
            x = block(x)
        if self.family == "gpt":
            logits = F.linear(self.norm(x), self.token.weight)
        else:
            logits = F.linear(self.head_norm(F.gelu(self.head(x))), self.token.weight, self.bias)
        return F.cross_entropy(logits.float().view(-1, self.vocab), targets.view(-1))


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(work, mode, precision, attention, device, steps):
    name, tokens, batch = work
    torch.manual_seed(17)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    model = Transformer(name, attention).to(device)
    ids = torch.randint(model.vocab, (batch, tokens), device=device)
    # Next tokens for GPT; BERT predicts 15% of its tokens, here at random places.
    targets = ids.roll(-1, 1)
    if model.family == "bert":
        targets = torch.where(torch.rand(ids.shape, device=device) < 0.15, ids, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    model.train(mode == "training")

    def step():
        synchronize(device)
        began = time.perf_counter_ns()
        if mode == "training":
            optimizer.zero_grad(set_to_none=True)
            with autocast:
                loss = model(ids, targets)
            loss.backward()
            optimizer.step()
        else:
            with torch.no_grad(), autocast:
                loss = model(ids, targets)
        synchronize(device)
        return time.perf_counter_ns() - began, loss.item()

    last = float("inf")
    for _ in range(10):
        now, _ = step()
        settled, last = abs(now - last) < 0.05 * last, now
        if settled:
            break
    results = [step() for _ in range(steps)]
    times = [t for t, _ in results]
    median = statistics.median(times)
    return {
        "n": len(times), "median_ns": median, "mad_ns": statistics.median(abs(t - median) for t in times),
        "min_ns": min(times), "max_ns": max(times), "loss": results[-1][1],
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def write(path, rows):
    with open(path + ".tmp", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(path + ".tmp", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="CSV to write")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=120, help="no case is begun after this time")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a case")
    parser.add_argument("--rehearse", action="store_true", help="tiny models, to try the script out")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("this PyTorch sees no CUDA device")
    end = time.monotonic() + arguments.seconds
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    rows = []
    variants = [("bf16", "sdpa"), ("f32", "explicit"), ("bf16", "explicit"), ("tf32", "sdpa"), ("f32", "sdpa")]
    cases = [(work, "training", *variant) for variant in variants for work in WORK]
    cases += [(work, "inference", *variant) for variant in variants[:2] for work in WORK]
    if arguments.rehearse:
        cases = [(work, mode, "f32", "explicit") for mode in ("training", "inference") for work in REHEARSAL]
    for work, mode, precision, attention in cases:
        if time.monotonic() >= end:
            print("out of time: later cases are not measured", file=sys.stderr)
            break
        row = {"model": work[0], "mode": mode, "precision": precision, "attention": attention, "global_batch": work[2],
               "sequence_length": work[1], "device": name, "torch": torch.__version__}
        try:
            row.update(measure(work, mode, precision, attention, device, arguments.steps))
        except Exception as error:  # a case that does not fit is a result, not the end of the list
            row["error"] = str(error).splitlines()[0] if str(error) else type(error).__name__
        rows.append(row)
        write(arguments.out, rows)


if __name__ == "__main__":
    main()
