#!/usr/bin/env python3
"""Step time of Cutplane against PyTorch on the same cores: GPT, BERT, LSTM and ResNet twins, one rank and two.

    make compare-pytorch PYTHON=/path/to/python-with-torch
    tools/compare_pytorch.py --tool target/debug/cutplane --python python3 --turns 5

The same model (the numbers of parameters are compared), batch, element type (f32), optimizer (AdamW) and threads (one a rank):
plan `single` against one process, plan `dp2` against two with DistributedDataParallel over gloo. The two tools take turns,
each going first in every other one, so that both see the same machine. Left behind: compare-pytorch-DAY.csv, one line a
twin, plan and turn, and compare-pytorch-DAY.json: the ratio of PyTorch's step time to Cutplane's (above 1, Cutplane is the
faster one), median and range over the turns, and into what both spend their time. Run it on a machine that does nothing
else. The exit status is 1 when Cutplane is slower anywhere by the median.
"""
import argparse
import csv
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

from compare_twins import TWINS

PLANS = ("single", "dp2")


def output(command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def cutplane(arguments, twin, plans, profile):
    """Median step time of each plan, ns, over the steps of one comparison."""
    command = [arguments.tool, "compare", twin, *TWINS[twin][0], "--devices", "cpu:2", "--plans", ",".join(plans)]
    command += ["--steps", arguments.steps, "--profile", profile, "--out", arguments.out / "cutplane" / twin, "--json"]
    rows = output(command)["rows"]
    return {row["name"]: row["measured_step_ns"] for row in rows if row["name"] in plans}


def pytorch(arguments, twin, plans):
    """What tools/pytorch_twins.py says of each plan."""
    script = pathlib.Path(__file__).with_name("pytorch_twins.py")
    common = ["--steps", arguments.steps, "--attention", arguments.attention]
    return {plan: output([arguments.python, script, twin, "--plan", plan, *common]) for plan in plans}


def parameters(arguments, twin):
    sizes = TWINS[twin][0]
    # The batch is no property of the model.
    sizes = [word for name, value in zip(sizes[::2], sizes[1::2]) if name != "--batch" for word in (name, value)]
    return output([arguments.tool, "inspect", twin, *sizes, "--json"])["parameters"]


def turn(arguments, twin, plans, profile, number):
    """One row a plan."""
    tools = [lambda: cutplane(arguments, twin, plans, profile), lambda: pytorch(arguments, twin, plans)]
    order = (0, 1) if number % 2 == 0 else (1, 0)
    told = {which: tools[which]() for which in order}
    for plan in plans:
        ours, theirs = told[0][plan], told[1][plan]
        step = statistics.median(theirs["steps_ns"])
        yield {
            "twin": twin, "plan": plan, "turn": number, "first": ("cutplane", "pytorch")[order[0]],
            "cutplane_step_ns": ours, "pytorch_step_ns": step, "ratio": step / ours,
            "pytorch_forward_ns": theirs["forward_ns"], "pytorch_backward_ns": theirs["backward_ns"],
            "pytorch_optimizer_ns": theirs["optimizer_ns"], "parameters": theirs["parameters"],
            "attention": theirs["attention"], "torch": theirs["torch"],
        }


def where_time_goes(arguments, twin):
    """Shares of Cutplane's own step by kind of instruction, one device, from the trace of a run."""
    plan, trace = arguments.out / f"{twin}-single.json", arguments.out / f"{twin}-single-trace.json"
    sizes = [*TWINS[twin][0], "--devices", "cpu:1", "--planner", "even-split"]
    subprocess.run([arguments.tool, "plan", twin, *sizes, "--out", plan], stdout=subprocess.DEVNULL, check=True)
    command = [arguments.tool, "run", plan, "--steps", "4", "--trace", trace, "--json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    events = json.loads(trace.read_text(encoding="utf-8"))
    events = events["traceEvents"] if isinstance(events, dict) else events
    times = {}
    for event in events:
        if event.get("ph") == "X":
            kind = event.get("cat") or event["name"].split(" ")[0]
            times[kind] = times.get(kind, 0) + event["dur"]
    whole = sum(times.values()) or 1
    return {kind: time / whole for kind, time in sorted(times.items(), key=lambda item: -item[1])}


def summary(rows):
    ratios = [row["ratio"] for row in rows]
    middle = lambda column: statistics.median(row[column] for row in rows)
    columns = ("cutplane_step_ns", "pytorch_step_ns", "pytorch_forward_ns", "pytorch_backward_ns", "pytorch_optimizer_ns")
    return {
        "twin": rows[0]["twin"], "plan": rows[0]["plan"], "turns": len(rows),
        "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
        **{column: middle(column) for column in columns},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", default="target/debug/cutplane", help="the binary")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each plan and tool in a turn")
    parser.add_argument("--attention", choices=("sdpa", "explicit"), default="sdpa", help="PyTorch's own, or written out")
    parser.add_argument("--twins", default=",".join(TWINS), help="some of: " + ",".join(TWINS))
    parser.add_argument("--plans", default=",".join(PLANS), help="single and data parallel ones")
    parser.add_argument("--profile", type=pathlib.Path, help="prices from this profile in place of a fresh one")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/compare-pytorch"))
    arguments = parser.parse_args()
    if subprocess.run([arguments.python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode:
        sys.exit(f"{arguments.python} has no torch: `python3 -m venv .venv-torch && .venv-torch/bin/pip install torch`, then "
                 "--python .venv-torch/bin/python (or make compare-pytorch PYTHON=...)")
    arguments.out.mkdir(parents=True, exist_ok=True)
    day = datetime.date.today().isoformat()
    profile = arguments.profile or arguments.out / f"profile-{day}.toml"
    if arguments.profile is None:
        # `compare` prices its plans; measuring needs no prices, but a profile keeps each turn from making one.
        subprocess.run([arguments.tool, "profile", "--devices", "cpu:2", "--out", profile], check=True)
    twins, plans = arguments.twins.split(","), arguments.plans.split(",")
    rows = []
    for number in range(arguments.turns):
        for twin in twins:
            print(f"turn {number + 1} of {arguments.turns}: {twin}", flush=True)
            rows += turn(arguments, twin, plans, profile, number)
    for twin in twins:
        ours = parameters(arguments, twin)
        theirs = {row["parameters"] for row in rows if row["twin"] == twin}
        if theirs != {ours}:
            sys.exit(f"{twin}: Cutplane has {ours} parameters, PyTorch's twin {theirs}: not the same model")
    record = arguments.out / f"compare-pytorch-{day}.csv"
    with open(record, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    of = lambda twin, plan: [row for row in rows if (row["twin"], row["plan"]) == (twin, plan)]
    results = [summary(of(twin, plan)) for twin in twins for plan in plans]
    shares = {twin: where_time_goes(arguments, twin) for twin in twins}
    result = {"day": day, "torch": rows[0]["torch"], "results": results, "cutplane_shares": shares}
    (arguments.out / f"compare-pytorch-{day}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for line in results:
        print(f"{line['twin']:14} {line['plan']:7} cutplane {line['cutplane_step_ns'] / 1e6:8.1f} ms  pytorch "
              f"{line['pytorch_step_ns'] / 1e6:8.1f} ms  ratio {line['ratio']:.2f} ({line['least']:.2f} to {line['most']:.2f})")
    for twin in twins:
        print(f"{twin:14} " + ", ".join(f"{kind} {100 * share:.0f}%" for kind, share in shares[twin].items()))
    print("saved   ", record)
    return 0 if all(line["ratio"] >= 1 for line in results) else 1


if __name__ == "__main__":
    sys.exit(main())
