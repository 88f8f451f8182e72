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
Metadata `cases`: JSON array of { name, optimizer: "adam" | "adamw" | "sgd", attrs, lrs?, f32 }, with every attribute
spelled out, `lrs` the learning rate of each step where it is not attrs.lr, and `f32` the greatest |f32 - f64| of
PyTorch's own float32 optimizer over all steps and elements.
Metadata `schedules`: JSON array of { config, stepsPerEpoch, lrs }: the learning rate of each step of a run with these
settings, as PyTorch's schedulers set it.
"""

import json
from pathlib import Path

import numpy as np
import torch

from fixture import save
from philox import uniform
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR, StepLR

torch.set_num_threads(1)
OUT = Path(__file__).parent.parent / "fixtures" / "optim.safetensors"
SEED, STEPS = 77, 5
SHAPES = ((7, 3), (5,), (3, 2, 3, 5))

ADAM = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weightDecay": 0}
SGD = {"lr": 0.1, "momentum": 0.9, "weightDecay": 0, "dampening": 0, "nesterov": False}
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
}
CLASSES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
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


def steps(kind: str, attrs: dict, lrs: list[float] | None, dtype: torch.dtype) -> list[np.ndarray]:
    """Parameters after each step: step 1's three, step 2's three, ..."""
    parameters = [torch.tensor(p, dtype=dtype, requires_grad=True) for p in initial]
    names = {"weightDecay": "weight_decay"}
    update = CLASSES[kind](parameters, **{names.get(k, k): v for k, v in attrs.items()})
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
for name, (kind, attrs, *lrs) in CASES.items():
    exact, single = (steps(kind, attrs, *lrs or [None], dtype) for dtype in (torch.float64, torch.float32))
    tensors |= {f"{name}/{step}/{i}": x.astype(np.float32) for (step, i), x in zip(places, exact)}
    error = max(float(np.abs(a - b).max()) for a, b in zip(single, exact))
    scheduled = {"lrs": lrs[0]} if lrs else {}
    cases.append({"name": name, "optimizer": kind, "attrs": attrs} | scheduled | {"f32": float(f"{error:.2e}")})
    print(f"{name:20} PyTorch float32 differs by at most {error:.1e}")
schedules = [{"config": run, "stepsPerEpoch": n, "lrs": rates(run, n)} for run, n in RUNS]
save(OUT, tensors, {"cases": json.dumps(cases), "schedules": json.dumps(schedules), "torch": torch.__version__})
print(f"{OUT}: {len(cases)} cases, {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
