"""
What each dispatch of a captured step should take on an RX 6800: the longest of three times.

- memory: the bytes of its bindings at BANDWIDTH. Caches count for nothing.
- issue: the vector instructions of all waves that a SIMD gets, one after the other.
- latency: as many waves as a SIMD can hold at once, round after round, each with its waits.

GAP is between dispatches. Instructions are counted in the machine code, block by block; a block in a
loop counts as often as the loop runs, which the kernel's sizes tell.

usage: estimate.py FOLDER [CHIP] [--kernels] [--narrow]
  --kernels   the time of each pipeline, and what bounds it
  --narrow    the dispatches of fewer than 60 workgroups, and their share of the step
"""

import collections
import json
import math
import re
import sys

BANDWIDTH = 360e9  # bytes/s, 70% of what the card has
CLOCK = 2.1e9  # Hz
SIMDS = 120  # of 32 lanes: a wave of 64 takes two cycles for an instruction
WAIT = 600  # cycles from a load to its use
LDS_WAIT = 100  # the same in workgroup memory, or at a barrier
LDS = 65536  # bytes that two SIMDs share
GAP = 6e-6  # seconds
INNER = 16  # steps of the inner axis that a tile in workgroup memory loads at a time
SLOW = re.compile(r"v_(mul_(lo|hi)_[iu]32|mad_[iu]64|rcp|rsq|sqrt|exp|log)")  # at a quarter of the rate

paths = [a for a in sys.argv[1:] if not a.startswith("--")]
folder, chip = paths[0], paths[1] if len(paths) > 1 else "navi21"
steps = json.load(open(f"{folder}/steps.json"))["steps"]
stats = {}
for line in open(f"{folder}/{chip}.jsonl"):
    found = json.loads(line)
    stats[int(found["file"].split("/")[-1][:4])] = found


def read(pipeline):
    """The blocks of a kernel: vector instructions, multiply-adds, loads, and the loops around them."""
    blocks = []
    for line in open(f"{folder}/isa/{pipeline:04d}.Assembly"):
        line = line.split(";")[0].rstrip()
        label = re.match(r"^BB(\d+):", line)
        if label:
            blocks.append(dict(n=int(label[1]), vector=0, fma=0, loads=0, to=[]))
        elif blocks and line.strip():
            op, block = line.split()[0], blocks[-1]
            if op.startswith("v_"):
                block["vector"] += 4 if SLOW.match(op) else 1
            block["fma"] += bool(re.match(r"v_(fma|fmac|mul_f32|mac|mad_f)", op))
            block["loads"] += bool(re.match(r"(buffer|global)_load", op))
            jump = re.search(r"branch\S*\s+BB(\d+)", line)
            if jump:
                block["to"].append(int(jump[1]))
    loops = {}
    for block in blocks:
        for to in block["to"]:
            if to <= block["n"]:
                loops[to] = max(loops.get(to, 0), block["n"])
    for block in blocks:
        around = [first for first, last in loops.items() if first <= block["n"] <= last]
        block["depth"], block["loop"] = len(around), max(around, default=None)
    return blocks


known = {}


def blocks_of(pipeline):
    if pipeline not in known:
        known[pipeline] = read(pipeline)
    return known[pipeline]


def vector(blocks):
    return sum(block["vector"] for block in blocks)


def of_tile(blocks, z):
    """Cycles that a wave issues and waits, of a tile in workgroup memory, and the multiply-adds' share."""
    body = next(block for block in blocks if block["fma"] >= 64)
    turn = body["fma"] // 64  # steps in a turn of the inner loop
    inner = [block for block in blocks if block["depth"] >= body["depth"]]
    around = [block for block in blocks if block["depth"] == body["depth"] - 1]
    each = INNER / turn * vector(inner) + vector(around)
    if "c4" not in z or "pixels" in z:  # columns: over pixels
        turns = math.ceil(z["each"] / INNER)
    else:  # rows: over taps, of which phases in one dispatch have their mean, and channels
        taps = [v for k, v in z.items() if re.match(r"taps(_\d+)?$", k)]
        part = z["each"] if z.get("splits", 1) > 1 else z["c4"]
        turns = (1 if "length" in z else sum(taps) / len(taps)) * math.ceil(part * 4 / INNER)
    issue = 2 * (turns * each + vector(block for block in blocks if block["depth"] == 0))
    return issue, WAIT + turns * (WAIT + (2 + INNER / turn) * LDS_WAIT), 64 * INNER / each


def of_registers(blocks, z):
    """The same of a tile in registers."""
    core = max(blocks, key=lambda block: block["fma"])
    turns = z["each"] / 4 if "splits" in z else z.get("taps", z.get("taps_0", 1)) * z["c4"]
    issue = 2 * (turns * core["vector"] + vector(block for block in blocks if block["depth"] == 0))
    return issue, turns * WAIT, core["fma"] / core["vector"]


def of_others(blocks, z, pipeline, name):
    """The same of any other kernel, which has no such share."""
    code = open(f"{folder}/{pipeline:04d}.wgsl").read()
    several = re.search(r"r \+= ([2-9])u", code)  # terms that a reduction takes up at a time
    count = int(several[1]) if several else 1
    terms = 128 if name.startswith("matmul") else z.get("each", 1)
    deepest = max(block["depth"] for block in blocks)
    first = min((b["loop"] for b in blocks if deepest and b["depth"] == deepest), default=None)

    def runs(block):
        if block["depth"] == 0:
            return 1
        if block["depth"] < deepest:
            return max(1, terms / 16)
        return terms // count if count == 1 or block["loop"] == first else terms % count

    issue = 2 * sum(block["vector"] * runs(block) for block in blocks)
    return issue, WAIT + sum(WAIT * runs(b) for b in blocks if b["loads"] and b["depth"]), None


def estimate(step):
    pipeline, z, name = step["pipeline"], step.get("sizes") or {}, step["name"].split(" +")[0]
    blocks, stat, groups = blocks_of(pipeline), stats[pipeline], math.prod(step["groups"])
    per_group = math.ceil(step["size"] / stat["Subgroup size"])
    held = stat["Subgroups per SIMD"]
    if stat["LDS size"] > 0:
        issue, wait, share = of_tile(blocks, z)
        held = max(1, min(held, LDS // stat["LDS size"] * per_group // 2))
    elif step["flops"] > 1e8 and re.search(r"conv2d|matmul|WeightGrad", name):
        issue, wait, share = of_registers(blocks, z)
    else:
        issue, wait, share = of_others(blocks, z, pipeline, name)
    waves = math.ceil(groups * per_group / SIMDS)
    times = dict(
        memory=(step["read"] + step["written"]) / BANDWIDTH,
        issue=waves * issue / CLOCK,
        latency=math.ceil(waves / held) * (issue + wait) / CLOCK,
    )
    bound = max(times, key=times.get)
    return dict(step=step, time=times[bound], bound=bound, share=share, groups=groups)


KINDS = [
    ("Winograd's transforms", "winograd"),
    ("strided input gradients, weight gradients with windows", "conv2dInputGrad|partialWeightGrad"),
    ("column products", "partialMatmulT|matmulT"),
    ("row products", "conv2d|matmul|partialConv2d|partialMatmul"),
    ("batch norms' sums", "partialMoments|partialDots"),
    ("other sums, merges", "partial|sum|merge"),
    ("elementwise", "add|relu|mul|sub|div"),
    ("rest", ""),
]

found = [estimate(step) for step in steps]
total = sum(x["time"] for x in found) + GAP * len(found)
by_kind = collections.Counter()
for x in found:
    by_kind[next(kind for kind, names in KINDS if re.match(names, x["step"]["name"]))] += x["time"]
for kind, time in by_kind.most_common():
    print(f"{kind:55} {time * 1e3:6.2f} ms")
print(f"{'between dispatches':55} {GAP * len(found) * 1e3:6.2f} ms")
moved = sum(step["read"] + step["written"] for step in steps)
pipelines = len({step["pipeline"] for step in steps})
print(f"{total * 1e3:.2f} ms, {moved / 1e9:.2f} GB, {len(steps)} dispatches, {pipelines} pipelines")

if "--kernels" in sys.argv:
    uses = collections.defaultdict(list)
    for x in found:
        uses[x["step"]["pipeline"]].append(x)
    for pipeline, of in sorted(uses.items(), key=lambda use: -sum(x["time"] for x in use[1])):
        time, share = sum(x["time"] for x in of), of[0]["share"]
        bounds = collections.Counter()
        for x in of:
            bounds[x["bound"]] += x["time"] * 1e3
        groups = [x["groups"] for x in of]
        print(
            f"{pipeline:4} {of[0]['step']['name'][:48]:48} ×{len(of):3} {time * 1e3:6.3f} ms "
            f"{100 * time / total:4.1f}% workgroups {min(groups):5}–{max(groups):5} "
            + (f"multiply-adds {100 * share:.0f}% " if share else "")
            + ", ".join(f"{bound} {ms:.2f}" for bound, ms in bounds.most_common())
        )
if "--narrow" in sys.argv:
    for x in sorted(found, key=lambda x: -x["time"]):
        if x["groups"] < 60:
            step = x["step"]
            print(
                f"{step['name'][:48]:48} {str(step['shape']):24} {x['groups']:3} workgroups, "
                f"{x['time'] * 1e6:5.1f} µs, {100 * x['time'] / total:.2f}%"
            )
