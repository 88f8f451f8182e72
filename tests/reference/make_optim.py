"""Makes tests/fixtures/optim.safetensors: parameters after each of five optimizer steps with given gradients, and
learning rates of whole runs.

    python make_optim.py

Three parameters of odd sizes and gradients that include zeros, numbers near Adam's eps and large ones.  PyTorch
updates in float64 from the float32 numbers stored here; only the results are rounded to float32.  The state
(moments, momentum) is never rounded.

Keys:
    p0, p1, p2                       parameters before the first step
    g1/0, g1/1, g1/2, ..., g5/2      gSTEP/PARAMETER: gradients, the same for every case
    NAME/1/0, ..., NAME/5/2          NAME/STEP/PARAMETER: parameters after that step
Metadata `cases`: JSON array of { name, optimizer: "adam" | "adamw" | "sgd" | "rmsprop", attrs, lrs?, groups?, f32 },
with every attribute spelled out, `lrs` the learning rate of each step where it is not attrs.lr, `groups` what the group
of each parameter has other than attrs, and `f32` the greatest |f32 - f64| of PyTorch's own float32 optimizer over all
steps and elements.
Metadata `clips`: JSON array of { name, kind: "norm" | "value", most, norm? }; NAME/0, ..., NAME/2 are the gradients
g1/0, ..., g1/2 clipped, and `norm` their norm before.
Metadata `rates`: JSON array of { name, args, lrs }: the rates of a learning-rate schedule of that name, ours, with
these arguments, as PyTorch's schedulers set them, stepped once between each two.
Metadata `schedules`: JSON array of { config, stepsPerEpoch, lrs }: the learning rate of each step of a run with these
settings, as PyTorch's schedulers set it.
"""

import json
from pathlib import Path

import numpy as np
import torch

from fixture import save
from philox import uniform
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

torch.set_num_threads(1)
OUT = Path(__file__).parent.parent / "fixtures" / "optim.safetensors"
SEED, STEPS = 77, 5
SHAPES = ((7, 3), (5,), (3, 2, 3, 5))

ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weightDecay": 0}
SGD = {"lr": 0.1, "momentum": 0.9, "weightDecay": 0, "dampening": 0, "nesterov": False}
RMSPROP = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weightDecay": 0, "momentum": 0, "centered": False}
CASES = {  # name: class, attributes
    "adam": ("adam", ADAM),
    "adam_decay": ("adam", ADAM | {"weightDecay": 5e-4}),
    "adam_decay_strong": ("adam", ADAM | {"lr": 0.05, "weightDecay": 0.1}),
    "adam_betas": ("adam", ADAM | {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-6}),
    "adamw": ("adamw", ADAM | {"weightDecay": 1e-2}),
    "adamw_strong": ("adamw", ADAM | {"lr": 0.05, "weightDecay": 0.1}),
    "adamw_no_decay": ("adamw", ADAM),
    "sgd": ("sgd", SGD | {"momentum": 0}),
    "sgd_momentum": ("sgd", SGD),
    "sgd_momentum_decay": ("sgd", SGD | {"weightDecay": 5e-4}),
    "sgd_decay": ("sgd", SGD | {"momentum": 0, "weightDecay": 5e-4}),
    "adam_scheduled": ("adam", ADAM | {"weightDecay": 0.1}, [0.01, 0.02, 0.05, 0.02, 0.001]),
    "adamw_scheduled": ("adamw", ADAM | {"weightDecay": 0.1}, [0.01, 0.02, 0.05, 0.02, 0.001]),
    "sgd_scheduled": ("sgd", SGD | {"weightDecay": 0.1}, [0.1, 0.2, 0.5, 0.2, 0.01]),
    "sgd_nesterov": ("sgd", SGD | {"nesterov": True, "weightDecay": 0.01}),
    "sgd_dampening": ("sgd", SGD | {"dampening": 0.3, "weightDecay": 0.01}),
    "sgd_dampening_no_momentum": ("sgd", SGD | {"dampening": 0.3, "momentum": 0}),
    "sgd_maximize": ("sgd", SGD | {"maximize": True, "weightDecay": 0.1}),
    "adam_amsgrad": ("adam", ADAM | {"amsgrad": True, "lr": 0.01, "betas": [0.5, 0.6], "weightDecay": 0.1}),
    "adamw_amsgrad": ("adamw", ADAM | {"amsgrad": True, "lr": 0.01, "betas": [0.5, 0.6], "weightDecay": 0.1}),
    "adam_maximize": ("adam", ADAM | {"maximize": True, "lr": 0.01}),
    "rmsprop": ("rmsprop", RMSPROP),
    "rmsprop_momentum_decay": ("rmsprop", RMSPROP | {"momentum": 0.9, "weightDecay": 0.1, "alpha": 0.9}),
    "rmsprop_centered": ("rmsprop", RMSPROP | {"centered": True, "eps": 1e-6}),
    "rmsprop_centered_momentum": ("rmsprop", RMSPROP | {"centered": True, "momentum": 0.5, "eps": 1e-4}),
    "adam_groups": ("adam", ADAM, None, [{"lr": 0.02, "amsgrad": True}, {"weightDecay": 0.1, "maximize": True}, {}]),
    "adamw_groups": ("adamw", ADAM | {"weightDecay": 0.1}, None, [{}, {"weightDecay": 0}, {"betas": [0.5, 0.9]}]),
    "sgd_groups": ("sgd", SGD, None, [{"nesterov": True}, {"momentum": 0.5, "dampening": 0.5}, {"lr": 0.01}]),
    "rmsprop_groups": ("rmsprop", RMSPROP, None, [{"momentum": 0.9}, {"centered": True, "eps": 1e-4}, {"alpha": 0.5}]),
}
CLASSES = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
RUN = {"lr": 0.1, "epochs": 3, "warmup": 0, "schedule": "constant", "stepSize": 1, "gamma": 0.1}
RUNS = [  # settings, steps of an epoch
    (RUN, 4),
    (RUN | {"warmup": 1}, 4),
    (RUN | {"warmup": 7}, 4),
    (RUN | {"warmup": 100}, 4),
    (RUN | {"schedule": "cosine"}, 7),
    (RUN | {"schedule": "cosine", "lr": 1e-3, "warmup": 5}, 7),
    (RUN | {"schedule": "cosine", "warmup": 20}, 7),
    (RUN | {"schedule": "step"}, 5),
    (RUN | {"schedule": "step", "epochs": 7, "stepSize": 3, "gamma": 0.5}, 5),
    (RUN | {"schedule": "step", "gamma": 0.3, "warmup": 3}, 5),
]
SCHEDULERS = {  # our name: class, PyTorch's name of each option
    "stepLR": (StepLR, {"stepSize": "step_size", "gamma": "gamma"}),
    "multiStepLR": (MultiStepLR, {"milestones": "milestones", "gamma": "gamma"}),
    "exponentialLR": (ExponentialLR, {"gamma": "gamma"}),
    "cosineAnnealingLR": (CosineAnnealingLR, {"TMax": "T_max", "etaMin": "eta_min"}),
    "linearLR": (LinearLR, {"startFactor": "start_factor", "endFactor": "end_factor", "totalIters": "total_iters"}),
    "oneCycleLR": (
        OneCycleLR,
        {
            "totalSteps": "total_steps",
            "pctStart": "pct_start",
            "annealStrategy": "anneal_strategy",
            "divFactor": "div_factor",
            "finalDivFactor": "final_div_factor",
            "threePhase": "three_phase",
        },
    ),
}
RATES = [  # name, learning rate, options; of sequentialLR schedules and milestones
    ("stepLR", 0.1, {"stepSize": 3}),
    ("stepLR", 0.05, {"stepSize": 4, "gamma": 0.7}),
    ("multiStepLR", 0.1, {"milestones": [3, 4, 11]}),
    ("multiStepLR", 0.1, {"milestones": [2, 9], "gamma": 0.5}),
    ("exponentialLR", 0.1, {"gamma": 0.9}),
    ("exponentialLR", 0.1, {"gamma": 1.25}),
    ("cosineAnnealingLR", 0.1, {"TMax": 20}),
    ("cosineAnnealingLR", 0.1, {"TMax": 7, "etaMin": 0.01}),
    ("linearLR", 0.1, {}),
    ("linearLR", 0.1, {"startFactor": 0.25, "totalIters": 9}),
    ("linearLR", 0.1, {"startFactor": 1, "endFactor": 0, "totalIters": 20}),
    ("oneCycleLR", 0.1, {"totalSteps": 20}),
    ("oneCycleLR", 0.1, {"totalSteps": 20, "pctStart": 0.25, "annealStrategy": "linear", "divFactor": 10}),
    ("oneCycleLR", 0.1, {"totalSteps": 20, "pctStart": 0.4, "threePhase": True, "finalDivFactor": 100}),
    ("oneCycleLR", 0.1, {"totalSteps": 21, "pctStart": 0.33, "threePhase": True, "annealStrategy": "linear"}),
    ("sequentialLR", 0.1, [("linearLR", {"totalIters": 4}), ("cosineAnnealingLR", {"TMax": 16})], [4]),
    (
        "sequentialLR",
        0.1,
        [("linearLR", {"startFactor": 0.1}), ("stepLR", {"stepSize": 3}), ("exponentialLR", {"gamma": 0.5})],
        [5, 13],
    ),
]


def gradient(step: int, i: int) -> np.ndarray:
    """Magnitudes from 1e-9 to 10; every fifth element is zero, in some steps only."""
    n = int(np.prod(SHAPES[i]))
    sign = uniform(SEED, 100 * step + i, n, -1, 1)
    size = 10.0 ** uniform(SEED, 100 * step + 10 + i, n, -9, 1).astype(np.float64)
    g = np.where(np.arange(n) % 2 == 0, sign, np.sign(sign) * size)
    g[(np.arange(n) + step // 2) % 5 == 0] = 0
    return g.astype(np.float32).reshape(SHAPES[i])


def rates(run: dict, per_epoch: int) -> list[float]:
    """The learning rate of each step of a run."""
    last, warmup = run["epochs"] * per_epoch, run["warmup"]
    update = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=run["lr"])
    after = {
        "constant": lambda: ConstantLR(update, factor=1),
        "cosine": lambda: CosineAnnealingLR(update, T_max=last - warmup),
        "step": lambda: StepLR(update, step_size=run["stepSize"] * per_epoch, gamma=run["gamma"]),
    }[run["schedule"]]
    if warmup == 0:
        scheduler = after()
    else:
        rise = LinearLR(update, start_factor=1 / (warmup + 1), total_iters=warmup)
        scheduler = SequentialLR(update, [rise, after()], milestones=[warmup])
    found = []
    for _ in range(last):
        found.append(update.param_groups[0]["lr"])
        update.step()
        scheduler.step()
    return found


def scheduled(name: str, lr: float, given: dict | list, *milestones: list[int]) -> list[float]:
    """The first twenty rates of a schedule."""
    update = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)

    def make(name: str, given: dict) -> torch.optim.lr_scheduler.LRScheduler:
        kind, names = SCHEDULERS[name]
        spelled = {names[k]: v for k, v in given.items()}
        if kind is OneCycleLR:
            spelled |= {"max_lr": lr, "cycle_momentum": False}
        return kind(update, **spelled)

    if name == "sequentialLR":
        scheduler = SequentialLR(update, [make(*inner) for inner in given], *milestones)
    else:
        scheduler = make(name, given)
    found = []
    for step in range(20):
        found.append(update.param_groups[0]["lr"])
        update.step()
        if step < 19:
            scheduler.step()
    return found


def clipped(kind: str, most: float) -> tuple[list[np.ndarray], float | None]:
    """The gradients of the first step within bounds, and their norm before."""
    parameters = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in initial]
    for i, p in enumerate(parameters):
        p.grad = torch.tensor(gradient(1, i), dtype=torch.float64)
    if kind == "norm":
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, most))
    else:
        norm = torch.nn.utils.clip_grad_value_(parameters, most)
    return [p.grad.numpy() for p in parameters], norm


def options(attrs: dict) -> dict:
    names = {"weightDecay": "weight_decay"}
    return {names.get(k, k): v for k, v in attrs.items()}


def steps(
    kind: str, attrs: dict, lrs: list[float] | None, groups: list[dict] | None, dtype: torch.dtype
) -> list[np.ndarray]:
    """Parameters after each step: step 1's three, step 2's three, ..."""
    parameters = [torch.tensor(p, dtype=dtype, requires_grad=True) for p in initial]
    grouped = [{"params": [p]} | options(group) for p, group in zip(parameters, groups or [])]
    update = CLASSES[kind](grouped or parameters, **options(attrs))
    found = []
    for step in range(1, STEPS + 1):
        for i, p in enumerate(parameters):
            p.grad = torch.tensor(gradient(step, i), dtype=dtype)
        if lrs:
            update.param_groups[0]["lr"] = lrs[step - 1]
        update.step()
        found += [p.detach().double().numpy().copy() for p in parameters]
    return found


initial = [uniform(SEED, i, int(np.prod(shape)), -1, 1).reshape(shape) for i, shape in enumerate(SHAPES)]
places = [(step, i) for step in range(1, STEPS + 1) for i in range(len(SHAPES))]
tensors = {f"p{i}": p for i, p in enumerate(initial)}
tensors |= {f"g{step}/{i}": gradient(step, i) for step, i in places}
cases = []
for name, (kind, attrs, *more) in CASES.items():
    lrs, groups = [*more, None, None][:2]
    exact, single = (steps(kind, attrs, lrs, groups, dtype) for dtype in (torch.float64, torch.float32))
    tensors |= {f"{name}/{step}/{i}": x.astype(np.float32) for (step, i), x in zip(places, exact)}
    error = max(float(np.abs(a - b).max()) for a, b in zip(single, exact))
    given = {k: v for k, v in {"lrs": lrs, "groups": groups}.items() if v}
    cases.append({"name": name, "optimizer": kind, "attrs": attrs} | given | {"f32": float(f"{error:.2e}")})
    print(f"{name:20} PyTorch float32 differs by at most {error:.1e}")
clips = []
for name, kind, most in (("clip_norm", "norm", 1.5), ("clip_norm_none", "norm", 1e6), ("clip_value", "value", 0.5)):
    grads, norm = clipped(kind, most)
    tensors |= {f"{name}/{i}": g.astype(np.float32) for i, g in enumerate(grads)}
    clips.append({"name": name, "kind": kind, "most": most} | ({} if norm is None else {"norm": norm}))
lrs = [{"name": name, "args": args, "lrs": scheduled(name, *args)} for name, *args in RATES]
schedules = [{"config": run, "stepsPerEpoch": n, "lrs": rates(run, n)} for run, n in RUNS]
metadata = {"cases": cases, "clips": clips, "rates": lrs, "schedules": schedules}
save(OUT, tensors, {k: json.dumps(v) for k, v in metadata.items()} | {"torch": torch.__version__})
print(f"{OUT}: {len(cases)} cases, {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
