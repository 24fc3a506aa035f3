#!/usr/bin/env python3
"""Predicted against measured step times of small GPT, BERT, LSTM and ResNet twins under plans of every kind, on two cores.

    make compare-twins                                   build, measure the machine, run all plans, write the record
    tools/compare_twins.py --tool target/debug/cutplane --steps 7 --out out/compare-twins

One device profile is measured first and prices all plans. Each twin is one `cutplane compare`: its plans take their steps in
turn. Everything is gone through several times, minutes apart, and of a plan the pass counts whose median step is shortest:
whatever else runs on the machine, or on the host of a virtual one, only ever adds time. Left behind, besides what `compare`
leaves for each twin: compare-twins-DAY.csv, one line a plan and pass, and compare-twins-DAY.json, the errors by twin and over
all plans, of the passes that count and of each pass by itself. Run it on a machine that does nothing else. The exit status says
whether the bounds of the project are kept: median error, worst error, rank correlation.
"""
import argparse
import csv
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

DECODER = "single,single-m4-recompute,dp2,dp2-zero2,dp2-ps,tp2,sp2,cp2,pp2-vanilla,pp2-1f1b-m4,pp2-zb-m4,pp2-v2-m4"
CHAIN = "single,single-m4,dp2,dp2-m2,dp2-zero1,dp2-ps,pp2-vanilla,pp2-1f1b-m4,pp2-fill-drain-m4,pp2-zb-m4"
SIZES = ["--layers", "4", "--hidden", "256", "--heads", "4", "--vocab", "1024"]
# Twin: arguments of `cutplane compare`, plans.
TWINS = {
    "gpt-mini": (SIZES + ["--seq", "128", "--batch", "16"], DECODER),
    "bert-mini": (SIZES + ["--seq", "128", "--batch", "16"], DECODER),
    "lstm-stacked": (["--hidden", "256", "--seq", "32", "--batch", "32"], CHAIN),
    "resnet18": (["--hidden", "32", "--image", "64", "--vocab", "10", "--batch", "16"], CHAIN),
}
BOUNDS = {"median_error": 0.08, "worst_error": 0.20, "rank_correlation": 0.9}


def ranks(values):
    """Ranks from 0, equal values sharing the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for place in order[first : last + 1]:
            result[place] = (first + last) / 2
        first = last + 1
    return result


def correlation(left, right):
    """Spearman's rank correlation; none of fewer than two values or of equal ones."""
    left, right = ranks(left), ranks(right)
    if len(set(left)) < 2 or len(set(right)) < 2:
        return None
    return statistics.correlation(left, right)


def summary(rows):
    errors = [abs(row["predicted_step_ns"] / row["measured_step_ns"] - 1) for row in rows]
    order = correlation([row["predicted_step_ns"] for row in rows], [row["measured_step_ns"] for row in rows])
    return {
        "plans": len(rows),
        "median_error": statistics.median(errors),
        "worst_error": max(errors),
        "worst_plan": max(zip(errors, (row["twin"] + " " + row["name"] for row in rows)))[1],
        "rank_correlation": order,
    }


def least_disturbed(rows):
    """Of each plan the row of the pass in which its median step was shortest."""
    best = {}
    for row in rows:
        key = row["twin"], row["name"]
        if key not in best or row["measured_step_ns"] < best[key]["measured_step_ns"]:
            best[key] = row
    return list(best.values())


def compare(tool, twin, number, profile, arguments):
    sizes, plans = TWINS[twin]
    folder = arguments.out / twin
    command = [tool, "compare", twin, *sizes, "--devices", "cpu:2", "--plans", plans, "--steps", str(arguments.steps)]
    command += ["--profile", profile, "--out", folder, "--json"]
    print("running ", *command, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return [{"twin": twin, "pass": number, **row} for row in json.loads(done.stdout)["rows"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", default="target/debug/cutplane", help="the binary")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each plan in a pass")
    parser.add_argument("--passes", type=int, default=3, help="times that everything is gone through")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/compare-twins"))
    parser.add_argument("--profile", type=pathlib.Path, help="prices from this profile in place of a fresh one")
    parser.add_argument("--twins", default=",".join(TWINS), help="some of: " + ",".join(TWINS))
    arguments = parser.parse_args()
    day = datetime.date.today().isoformat()
    arguments.out.mkdir(parents=True, exist_ok=True)
    profile = arguments.profile or arguments.out / f"profile-{day}.toml"
    if arguments.profile is None:
        subprocess.run([arguments.tool, "profile", "--devices", "cpu:2", "--out", profile], check=True)
    twins = arguments.twins.split(",")
    passes = [
        [row for twin in twins for row in compare(arguments.tool, twin, number, profile, arguments)]
        for number in range(1, arguments.passes + 1)
    ]
    rows = [row for rows in passes for row in rows]
    record = arguments.out / f"compare-twins-{day}.csv"
    with open(record, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    best = least_disturbed(rows)
    by_twin = {twin: summary([row for row in best if row["twin"] == twin]) for twin in twins}
    by_pass = [summary(rows) for rows in passes]
    result = {"day": day, "steps": arguments.steps, "all": summary(best), "twins": by_twin, "passes": by_pass, "bounds": BOUNDS}
    (arguments.out / f"compare-twins-{day}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    numbered = [(f"all, pass {number}", numbers) for number, numbers in enumerate(by_pass, 1)]
    for name, numbers in [*by_twin.items(), *numbered, ("all", result["all"])]:
        order = "-" if numbers["rank_correlation"] is None else f"{numbers['rank_correlation']:.2f}"
        print(f"{name:14} {numbers['plans']:3} plans  median {100 * numbers['median_error']:5.1f}%  worst "
              f"{100 * numbers['worst_error']:5.1f}% ({numbers['worst_plan']})  rank correlation {order}")
    print("saved   ", record)
    total = result["all"]
    kept = total["median_error"] <= BOUNDS["median_error"] and total["worst_error"] <= BOUNDS["worst_error"]
    return 0 if kept and (total["rank_correlation"] or 0) >= BOUNDS["rank_correlation"] else 1


if __name__ == "__main__":
    sys.exit(main())
