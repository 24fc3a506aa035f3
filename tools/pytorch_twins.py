#!/usr/bin/env python3
"""Step time of the twins of tools/compare_twins.py in plain PyTorch on cores, one thread a rank, as one line of JSON.

    tools/pytorch_twins.py gpt-mini --plan dp2 --steps 7

Needs torch and nothing else. `single` is one process; `dpN` is N processes with DistributedDataParallel over gloo, each on a
core of its own with its part of the batch. A step is forward, backward and AdamW in f32, from a common start until the last
process has ended. Shapes and numbers of parameters are those of the zoo.
"""
import argparse
import json
import os
import statistics
import tempfile
import time

import torch
from torch import distributed, nn
from torch.nn import functional as F

import pytorch_step_time


class Lstm(nn.Module):
    """Two layers over bytes, as `lstm-stacked`: an embedding of half the units."""

    def __init__(self, hidden):
        super().__init__()
        self.vocab = 256
        self.embedding = nn.Embedding(self.vocab, hidden // 2)
        self.rnn = nn.LSTM(hidden // 2, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, self.vocab)

    def forward(self, ids, targets):
        logits = self.head(self.rnn(self.embedding(ids))[0])
        return F.cross_entropy(logits.view(-1, self.vocab), targets.view(-1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        plain = stride == 1 and inputs == outputs
        skip = () if plain else (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.skip = nn.Sequential(*skip)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x))


class ResNet18(nn.Module):
    """ResNet-18 with another number of channels in its first layer."""

    def __init__(self, channels, classes):
        super().__init__()
        stem = (nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks, inputs = [], channels
        for stage in range(4):
            for index in range(2):
                outputs = channels << stage
                blocks.append(BasicBlock(inputs, outputs, 2 if index == 0 and stage > 0 else 1))
                inputs = outputs
        self.body, self.head = nn.Sequential(*stem, *blocks), nn.Linear(inputs, classes)

    def forward(self, images, targets):
        return F.cross_entropy(self.head(self.body(images).mean((2, 3))), targets)


def options(sizes):
    """The arguments of `cutplane compare` as a dictionary of numbers."""
    return {name.removeprefix("--"): int(value) for name, value in zip(sizes[::2], sizes[1::2])}


def twin(name, sizes, attention, batch):
    """The model and one batch of samples."""
    if name == "lstm-stacked":
        model = Lstm(sizes["hidden"])
        ids = torch.randint(model.vocab, (batch, sizes["seq"]))
        return model, (ids, ids.roll(-1, 1))
    if name == "resnet18":
        images = torch.randn(batch, 3, sizes["image"], sizes["image"])
        return ResNet18(sizes["hidden"], sizes["vocab"]), (images, torch.randint(sizes["vocab"], (batch,)))
    family = name.split("-")[0]
    # Both have a table of 256 positions, however long the samples are.
    pytorch_step_time.MODELS[name] = (family, sizes["layers"], sizes["hidden"], sizes["heads"], sizes["vocab"], 256)
    model = pytorch_step_time.Transformer(name, attention)
    ids = torch.randint(sizes["vocab"], (batch, sizes["seq"]))
    targets = ids.roll(-1, 1)
    if family == "bert":
        targets = torch.where(torch.rand(ids.shape) < 0.15, ids, -100)
    return model, (ids, targets)


def work(rank, arguments, ranks, meeting, results):
    """Trains on one core and puts the moments of every step in `results`."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank % os.cpu_count()]})
    torch.set_num_threads(1)
    torch.manual_seed(17)
    if ranks > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    model, samples = twin(arguments.twin, arguments.sizes, arguments.attention, arguments.sizes["batch"] // ranks)
    parameters = sum(p.numel() for p in model.parameters())
    if ranks > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = []
    for _ in range(arguments.warm_up + arguments.steps):
        if ranks > 1:
            distributed.barrier()
        moments = [time.monotonic_ns()]
        optimizer.zero_grad(set_to_none=True)
        loss = model(*samples)
        moments.append(time.monotonic_ns())
        loss.backward()
        moments.append(time.monotonic_ns())
        optimizer.step()
        moments.append(time.monotonic_ns())
        steps.append(moments)
    results.put((rank, parameters, loss.item(), steps[arguments.warm_up :]))
    if ranks > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def main():
    import compare_twins

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twin", choices=compare_twins.TWINS)
    parser.add_argument("--plan", default="single", help="single or dpN")
    parser.add_argument("--steps", type=int, default=7, help="timed steps")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them")
    parser.add_argument("--attention", choices=("sdpa", "explicit"), default="sdpa", help="PyTorch's own, or written out")
    arguments = parser.parse_args()
    arguments.sizes = options(compare_twins.TWINS[arguments.twin][0])
    ranks = 1 if arguments.plan == "single" else int(arguments.plan.removeprefix("dp"))
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = os.path.join(folder, "meeting")
        started = [
            context.Process(target=work, args=(rank, arguments, ranks, meeting, results)) for rank in range(ranks)
        ]
        for process in started:
            process.start()
        all_ranks = [results.get(timeout=600) for _ in started]
        for process in started:
            process.join()
    _, parameters, loss, _ = all_ranks[0]
    steps = list(zip(*(moments for *_, moments in sorted(all_ranks, key=lambda result: result[0]))))
    part = lambda of: statistics.median(max(rank[of + 1] - rank[of] for rank in step) for step in steps)
    print(json.dumps({
        "twin": arguments.twin, "plan": arguments.plan, "torch": torch.__version__, "attention": arguments.attention,
        "parameters": parameters, "loss": loss,
        "steps_ns": [max(rank[3] for rank in step) - min(rank[0] for rank in step) for step in steps],
        "forward_ns": part(0), "backward_ns": part(1), "optimizer_ns": part(2),
    }))


if __name__ == "__main__":
    main()
