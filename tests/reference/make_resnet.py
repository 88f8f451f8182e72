"""Makes tests/fixtures/resnet18.safetensors: the notebook's whole net, forward, backward and training.

    python make_resnet.py         # about two minutes on one core

Weights, images and labels are not stored: notebook_net.py says how to make them (seed 7).  Everything is
computed twice, in float32 and in float64 from the same float32 weights and images, so that a test can compare
its own distance from the float64 numbers with that of PyTorch's float32.

Keys.  P is f32 (PyTorch's float32 numbers) or f64 (float64 numbers, rounded to float32 once, at the end).
KEY is a state-dict key.  k is the place of KEY among the float entries of the state-dict (its philox stream).

CASE is 32 (batch 4 of 1x32x32) or 96 (batch 4 of 1x96x96); one training step without update:
    P/CASE/logits         [4,10]  training mode
    P/CASE/loss           []      mean cross entropy of them
    P/CASE/grad/KEY       [3 + m] summary of the gradient, for each of the 82 parameters
    P/CASE/stat/KEY       [C]     each running_mean and running_var after that one training forward
    P/CASE/eval_logits    [4,10]  eval mode, with those running statistics
    f64/CASE/scale/KEY    []      the natural size of that gradient, see below
RUN is one of RUNS below: ten steps, each on a new batch (make_batch), from the same weights after calm_down:
    P/RUN/losses          [11]    loss before each of the ten updates, then after the last (training mode)
    P/RUN/param/KEY       [3]     summary without samples of each parameter after ten steps
    P/RUN/moved/KEY       []      L2 norm of what the ten steps changed it by
    P/RUN/stat/KEY        [3]     summary without samples of each running_mean and running_var after ten steps

summary(x) = [L2 norm, x . u, x . v, samples...] over the flattened x of n elements, where
    u = uniform(-1, 1) of seed 7, stream 2000 + k      v = uniform(-1, 1) of seed 7, stream 3000 + k
    samples = x[j * floor(n / 64)] for j in 0..63, or all of x if n <= 64
The two projections see every element; the samples say where an error is.

scale(KEY): each element of a gradient is a sum of products, e.g. a conv weight's sum of dy * x.  scale is the L2
norm of the same gradient with every dy and x (for batch norm: every dy and normalised x) replaced by its absolute
value.  A relative error in all of dy gives at most that error times scale.  It is needed because the true gradient
of a convolution bias that feeds a batch norm is zero: the norm subtracts it again.  Only rounding errors remain
there, and only `scale` says what is small.  These parameters are listed in metadata `null_grads`.
Note that Adam divides by the gradient's own size: it moves these biases by lr per step in a direction made of
rounding noise.  They do not influence the training loss, but they cannot be compared after ten steps.

The runs keep Adam's settings and the notebook's learning rate (SGD has that of the ResNet paper).  They start from
weights of calm_down: README.md says why, and how far to trust ten steps.

Metadata (JSON):
    state_dict    [[key, shape], ...] in order, num_batches_tracked (shape []) included
    streams       { KEY: k }
    null_grads    [KEY, ...]
    cases         { "32": { batch, size }, "96": ... }
    runs          { "adam32": { batch, size, steps, optimizer: { name, lr, ... } }, ... }
    worst         what PyTorch's float32 differs by from float64, the worst of four ways to compute the same thing
                  (VARIANTS: the order of the batch, and oneDNN's convolutions or PyTorch's own).  f32/ holds the first.
                  cases: logits, eval_logits (max |d| / max |value|), loss (|d| / value), stat (max over keys of
                  max |d| / max |value|), grad (over keys without a null gradient: the greatest |d| of norm, of projections
                  and of samples, each divided by the gradient's L2 norm), grad_by_scale (all keys: divided by scale)
                  runs: losses (the |d| / value of each), moved (|d| / value), param (norm and projections, divided by
                  moved), running_mean and running_var (norm and projections, divided by the norm)
    torch         version
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fixture import save
from notebook_net import SEED, calm_down, float_keys, make_batch, make_images, make_labels, make_net, philox_fill
from philox import uniform

torch.set_num_threads(1)
OUT = Path(__file__).parent.parent / "fixtures" / "resnet18.safetensors"
CASES = {"32": {"batch": 4, "size": 32}, "96": {"batch": 4, "size": 96}}
ADAM = {"name": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weightDecay": 0}
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0, "nesterov": False, "weightDecay": 0}
RUNS = {
    "sgd32": {"batch": 32, "size": 32, "steps": 10, "optimizer": SGD},
    "adam32": {"batch": 64, "size": 32, "steps": 10, "optimizer": ADAM},
    "adam96": {"batch": 16, "size": 96, "steps": 10, "optimizer": ADAM},
}
# (rotation of the batch, oneDNN): four computations with the same exact result and different roundings.
VARIANTS = ((0, True), (3, True), (0, False), (2, False))

FILLED = philox_fill(make_net())
KEYS = float_keys(FILLED)
PARAMETERS = [key for key, _ in FILLED.named_parameters()]
# Every convolution bias but those of the shortcuts (conv3) feeds a batch norm.
NULL_GRADS = [
    key for key in PARAMETERS
    if key.endswith(".bias") and isinstance(FILLED.get_submodule(key[:-5]), nn.Conv2d) and "conv3" not in key
]  # fmt: skip


def summary(x: torch.Tensor, key: str, samples: bool = True) -> np.ndarray:
    """[norm, two projections, samples] of x in float64."""
    x = x.detach().double().flatten().numpy()
    k, n = KEYS.index(key), x.size
    u, v = (uniform(SEED, first + k, n, -1, 1).astype(np.float64) for first in (2000, 3000))
    picked = x if n <= 64 else x[: 64 * (n // 64) : n // 64]
    return np.concatenate([[np.sqrt(x @ x), x @ u, x @ v], picked if samples else []])


def to_numpy(found: dict[str, torch.Tensor | np.ndarray]) -> dict[str, np.ndarray]:
    return {k: x.detach().double().numpy() if isinstance(x, torch.Tensor) else x for k, x in found.items()}


def one_step(
    batch: int, size: int, dtype: torch.dtype, rotation=0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is stored under P/CASE, and the scales."""
    net = copy.deepcopy(FILLED).to(dtype).train()
    images, labels = make_images(batch, size).to(dtype).roll(rotation, 0), make_labels(batch).roll(rotation, 0)
    inputs: dict[nn.Module, torch.Tensor] = {}
    cotangents: dict[nn.Module, torch.Tensor] = {}

    def watch(module, args, y):
        inputs[module] = args[0].detach()
        y.register_hook(lambda dy, module=module: cotangents.__setitem__(module, dy))

    hooks = [
        m.register_forward_hook(watch)
        for m in net.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
    ]  # fmt: skip
    logits = net(images)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    for hook in hooks:
        hook.remove()

    found = {"logits": logits.roll(-rotation, 0), "loss": loss}
    found |= {f"grad/{key}": summary(p.grad, key) for key, p in net.named_parameters()}
    found |= {f"stat/{key}": x.clone() for key, x in net.named_buffers() if x.is_floating_point()}
    with torch.no_grad():
        found["eval_logits"] = net.eval()(images).roll(-rotation, 0)
    scales = {f"scale/{key}": x for key, x in gradient_scales(net, inputs, cotangents).items()}
    return to_numpy(found), to_numpy(scales)


def gradient_scales(net, inputs, cotangents) -> dict[str, torch.Tensor]:
    """For each parameter, the L2 norm of its gradient made of absolute values."""
    scales = {}
    for name, module in net.named_modules():
        if module not in cotangents:
            continue
        x, dy = inputs[module], cotangents[module].abs()
        channels_first = dy.transpose(0, 1).flatten(1)  # [C, everything else]
        if isinstance(module, nn.Conv2d):
            weight = torch.nn.grad.conv2d_weight(
                x.abs(), module.weight.shape, dy, stride=module.stride, padding=module.padding
            )
        elif isinstance(module, nn.Linear):
            weight = dy.T @ x.abs()
        else:
            normalised = F.batch_norm(x, None, None, training=True, eps=module.eps)
            weight = (dy * normalised.abs()).transpose(0, 1).flatten(1).sum(1)
        scales[f"{name}.weight"] = weight.norm()
        scales[f"{name}.bias"] = channels_first.sum(1).norm()
    return scales


def train(batch: int, size: int, steps: int, optimizer: dict, dtype: torch.dtype, rotation=0) -> dict[str, np.ndarray]:
    """What is stored under P/RUN."""
    net = calm_down(copy.deepcopy(FILLED)).to(dtype).train()
    if optimizer["name"] == "adam":
        update = torch.optim.Adam(net.parameters(), lr=optimizer["lr"])
    else:
        update = torch.optim.SGD(net.parameters(), lr=optimizer["lr"], momentum=optimizer["momentum"])
    start = copy.deepcopy(dict(net.named_parameters()))
    found = {}
    losses = []
    for step in range(steps + 1):
        if step == steps:
            for key, p in net.named_parameters():
                found |= {f"param/{key}": summary(p, key, samples=False), f"moved/{key}": (p - start[key]).norm()}
            for key, x in net.named_buffers():
                found |= {f"stat/{key}": summary(x, key, samples=False)} if x.is_floating_point() else {}
        images, labels = (x.roll(rotation, 0) for x in make_batch(step, batch, size))
        loss = F.cross_entropy(net(images.to(dtype)), labels)
        losses.append(loss.item())
        if step < steps:
            update.zero_grad()
            loss.backward()
            update.step()
    return to_numpy({"losses": np.array(losses)} | found)


def in_float32(compute, **spec) -> list:
    """What `compute` returns in float32, for each of the VARIANTS."""
    results = []
    for rotation, onednn in VARIANTS:
        with torch.backends.mkldnn.flags(enabled=onednn, allow_tf32=None):
            results.append(compute(**spec, dtype=torch.float32, rotation=rotation))
    return results


def difference(a: np.ndarray, b: np.ndarray, unit: float | None = None) -> float:
    return float(np.abs(a - b).max() / (np.abs(b).max() if unit is None else unit))


def worst_of_case(variants: list[dict], f64: dict, scales: dict) -> dict:
    def worst_difference(key):
        return max(difference(f32[key], f64[key]) for f32 in variants)

    worst = {key: worst_difference(key) for key in ("logits", "eval_logits", "loss")}
    worst["stat"] = max(worst_difference(key) for key in f64 if key.startswith("stat/"))
    parts = {"norm": slice(0, 1), "projections": slice(1, 3), "samples": slice(3, None)}
    for label, keys in (("grad", [k for k in PARAMETERS if k not in NULL_GRADS]), ("grad_by_scale", PARAMETERS)):
        worst[label] = {}
        for part, at in parts.items():
            found = []
            for key in keys:
                exact = f64[f"grad/{key}"]
                unit = exact[0] if label == "grad" else scales[f"scale/{key}"]
                found += [(difference(f32[f"grad/{key}"][at], exact[at], unit), key) for f32 in variants]
            worst[label][part] = max(found)
    return worst


def worst_of_run(variants: list[dict], f64: dict) -> dict:
    errors = np.stack([np.abs(f32["losses"] - f64["losses"]) / f64["losses"] for f32 in variants])
    worst = {"losses": errors.max(axis=0).tolist()}
    moved = {key: f64[f"moved/{key}"] for key in PARAMETERS if key not in NULL_GRADS}
    for part, units in (
        ("moved", {f"moved/{key}": unit for key, unit in moved.items()}),
        ("param", {f"param/{key}": unit for key, unit in moved.items()}),
        ("running_mean", {key: x[0] for key, x in f64.items() if key.endswith("running_mean")}),
        ("running_var", {key: x[0] for key, x in f64.items() if key.endswith("running_var")}),
    ):
        worst[part] = max((difference(f32[k], f64[k], unit), k) for f32 in variants for k, unit in units.items())
    return worst


def short(x):
    """JSON with three digits where it only informs."""
    if isinstance(x, float):
        return float(f"{x:.2e}")
    if isinstance(x, dict):
        return {k: short(v) for k, v in x.items()}
    return [short(v) for v in x] if isinstance(x, (list, tuple)) else x


tensors: dict[str, np.ndarray] = {}
worst: dict[str, dict] = {}


def keep(prefix: str, found: dict[str, np.ndarray]) -> None:
    for key, x in found.items():
        assert np.isfinite(x).all(), (prefix, key)
        tensors[f"{prefix}/{key}"] = np.array(x, dtype=np.float32)


for name, spec in CASES.items():
    f64, scales = one_step(**spec, dtype=torch.float64)
    variants = [f32 for f32, _ in in_float32(one_step, **spec)]
    keep(f"f32/{name}", variants[0])
    keep(f"f64/{name}", f64 | scales)
    worst[name] = short(worst_of_case(variants, f64, scales))
    print(f"case {name}: loss {f64['loss']:.6f}, worst of float32: {json.dumps(worst[name], indent=1)}")
    null = {key: variants[0][f"grad/{key}"][0] / scales[f"scale/{key}"] for key in NULL_GRADS}
    key = max(null, key=null.get)
    print(f"  largest null gradient by scale: {key}, {null[key]:.1e} in float32")

for name, spec in RUNS.items():
    f64 = train(**spec, dtype=torch.float64)
    variants = in_float32(train, **spec)
    keep(f"f32/{name}", variants[0])
    keep(f"f64/{name}", f64)
    worst[name] = short(worst_of_run(variants, f64))
    print(f"run {name}: float64 losses", *(f"{x:.6f}" for x in f64["losses"]))
    print(f"  worst of float32: {json.dumps(worst[name])}")

metadata = {
    "state_dict": [[key, list(x.shape)] for key, x in FILLED.state_dict().items()],
    "streams": {key: k for k, key in enumerate(KEYS)},
    "null_grads": NULL_GRADS,
    "cases": CASES,
    "runs": RUNS,
    "worst": worst,
    "torch": torch.__version__,
}
save(OUT, tensors, {key: json.dumps(value) for key, value in metadata.items()})
print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
