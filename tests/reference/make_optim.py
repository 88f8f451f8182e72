"""Makes tests/fixtures/optim.safetensors: parameters after each of five optimizer steps with given gradients.

    python make_optim.py

Three parameters of odd sizes and gradients that include zeros, numbers near Adam's eps and large ones.  PyTorch
updates in float64 from the float32 numbers stored here; only the results are rounded to float32.  The state
(moments, momentum) is never rounded.

Keys:
    p0, p1, p2                       parameters before the first step
    g1/0, g1/1, g1/2, ..., g5/2      gSTEP/PARAMETER: gradients, the same for every case
    NAME/1/0, ..., NAME/5/2          NAME/STEP/PARAMETER: parameters after that step
Metadata `cases`: JSON array of { name, optimizer: "adam" | "adamW" | "sgd", attrs, f32 }, with every attribute
spelled out and `f32` the greatest |f32 - f64| of PyTorch's own float32 optimizer over all steps and elements.
"""

import json
from pathlib import Path

import numpy as np
import torch

from fixture import save
from philox import uniform

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
    "adamw": ("adamW", ADAM | {"weightDecay": 1e-2}),
    "adamw_strong": ("adamW", ADAM | {"lr": 0.05, "weightDecay": 0.1}),
    "adamw_no_decay": ("adamW", ADAM),
    "sgd": ("sgd", SGD | {"momentum": 0}),
    "sgd_momentum": ("sgd", SGD),
    "sgd_momentum_decay": ("sgd", SGD | {"weightDecay": 5e-4}),
    "sgd_decay": ("sgd", SGD | {"momentum": 0, "weightDecay": 5e-4}),
}
CLASSES = {"adam": torch.optim.Adam, "adamW": torch.optim.AdamW, "sgd": torch.optim.SGD}


def gradient(step: int, i: int) -> np.ndarray:
    """Magnitudes from 1e-9 to 10; every fifth element is zero, in some steps only."""
    n = int(np.prod(SHAPES[i]))
    sign = uniform(SEED, 100 * step + i, n, -1, 1)
    size = 10.0 ** uniform(SEED, 100 * step + 10 + i, n, -9, 1).astype(np.float64)
    g = np.where(np.arange(n) % 2 == 0, sign, np.sign(sign) * size)
    g[(np.arange(n) + step // 2) % 5 == 0] = 0
    return g.astype(np.float32).reshape(SHAPES[i])


def steps(kind: str, attrs: dict, dtype: torch.dtype) -> list[np.ndarray]:
    """Parameters after each step: step 1's three, step 2's three, ..."""
    parameters = [torch.tensor(p, dtype=dtype, requires_grad=True) for p in initial]
    names = {"weightDecay": "weight_decay"}
    update = CLASSES[kind](parameters, **{names.get(k, k): v for k, v in attrs.items()})
    found = []
    for step in range(1, STEPS + 1):
        for i, p in enumerate(parameters):
            p.grad = torch.tensor(gradient(step, i), dtype=dtype)
        update.step()
        found += [p.detach().double().numpy().copy() for p in parameters]
    return found


initial = [uniform(SEED, i, int(np.prod(shape)), -1, 1).reshape(shape) for i, shape in enumerate(SHAPES)]
places = [(step, i) for step in range(1, STEPS + 1) for i in range(len(SHAPES))]
tensors = {f"p{i}": p for i, p in enumerate(initial)}
tensors |= {f"g{step}/{i}": gradient(step, i) for step, i in places}
cases = []
for name, (kind, attrs) in CASES.items():
    exact, single = steps(kind, attrs, torch.float64), steps(kind, attrs, torch.float32)
    tensors |= {f"{name}/{step}/{i}": x.astype(np.float32) for (step, i), x in zip(places, exact)}
    error = max(float(np.abs(a - b).max()) for a, b in zip(single, exact))
    cases.append({"name": name, "optimizer": kind, "attrs": attrs, "f32": float(f"{error:.2e}")})
    print(f"{name:20} PyTorch float32 differs by at most {error:.1e}")
save(OUT, tensors, {"cases": json.dumps(cases), "torch": torch.__version__})
print(f"{OUT}: {len(cases)} cases, {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
