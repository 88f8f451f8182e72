"""Makes tests/fixtures/models.safetensors: what PyTorch says of the ResNets of resnets.py.

    python make_models.py         # half a minute on one core

Weights, images and labels are as in make_resnet.py: philox_fill, make_batch, seed 7, nothing stored.  Everything is
computed in float64 from float32 weights and images, and in float32 to know how far to trust it.

RUN is one of RUNS: training steps, each on a new batch, from weights calmed as by calm_down of notebook_net.py (each
branch's last batch norm weight / 64, the classifier's weight / 8; README.md says why).
    RUN/losses            [steps + 1]    loss before each update, then after the last (training mode)
    RUN/moved             [P, 3]         what the steps changed each parameter by: its summary; and the L2 norm of
                                         what is changed (float32 keeps a parameter to 6e-8 of that)
    RUN/running_mean      [B, 2]         each running mean after the steps: its summary
    RUN/running_var       [B, 2]         each running variance
FORWARD is one of FORWARDS, on the weights of philox_fill as they are:
    FORWARD/logits        [batch, 10]    in training mode
torchvision/PASS is one of PASSES: one pass of torchvision's definition, calm, on images of three channels:
    …/loss                [1]            in training mode
    …/grad                [P, 2]         the gradient of each parameter: its summary
    …/running_mean        [B, 2]         each running mean after that: its summary
    …/running_var         [B, 2]         each running variance
    …/eval_logits         [2, 1000]      then, in evaluation mode, of the first two images

summary(x) = [L2 norm, x . u] over the flattened x, where u = uniform(-1, 1) of seed 7, stream 2000 + k, and k is the
place of x among the float entries of the state-dict.  Rows are in the order of the state-dict.

Metadata (JSON):
    models     { "resnet18": { parameters, state_dict: "KEY SHAPE\\n...", trace: [[child, shape], ...] }, ... }
               trace: of [1, 1, 224, 224], as in the notebook's cell 13
    torchvision { "resnet18": the same in torchvision's definition, of [1, 3, 224, 224], ... }
    null_grads { "resnet34": [KEY, ...], ... } for each run
    runs       { "resnet34": { batch, size, steps, optimizer: { name, lr, ... } }, ... }
    forwards   { "resnet101": { batch, size } }
    passes     { "resnet18": { batch, size }, ... }
    worst      what PyTorch's float32 differs by from float64: losses |d| / value; moved, running_mean and running_var
               |d| / L2 norm, the worst key.  For moved, that norm is taken as at least 1e-5 of the parameter's,
               and null gradients (see make_resnet.py) are left out.  logits: |d| / max |value|; torchvision/…/grad: |d| / L2 norm
    torch      version
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fixture import save
from notebook_net import SEED, float_keys, make_batch, make_images, make_labels, make_net, philox_fill
from philox import uniform
from resnets import RESNETS, TorchvisionResNet, make_resnet

torch.set_num_threads(1)
OUT = Path(__file__).parent.parent / "fixtures" / "models.safetensors"
RUNS = {
    "resnet34": {"batch": 16, "size": 32, "steps": 3, "optimizer": {"name": "adam", "lr": 1e-5}},
    "resnet50": {"batch": 16, "size": 32, "steps": 3, "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9}},
}
FORWARDS = {"resnet101": {"batch": 16, "size": 32}}
PASSES = {"resnet18": {"batch": 4, "size": 64}, "resnet50": {"batch": 4, "size": 64}}


def describe(build: Callable[[str], nn.Module], name: str, channels: int) -> dict:
    """Parameters, keys and trace; nothing is computed."""
    with torch.device("meta"):
        net, x = build(name), torch.rand((1, channels, 224, 224))
    trace = []
    for child, layer in net.named_children():
        layer.register_forward_hook(lambda _, __, y, child=child: trace.append([child, list(y.shape)]))
    net(x)
    lines = [f"{key} {','.join(map(str, p.shape))}" for key, p in net.state_dict().items()]
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "state_dict": "\n".join(lines),
        "trace": trace,
    }


def calm_down(net: nn.Module, name: str) -> nn.Module:
    last = RESNETS[name][1] if isinstance(net, nn.Sequential) else RESNETS[name][1].replace("b", "bn")
    with torch.no_grad():
        for path, module in net.named_modules():
            if path.endswith(f".{last}"):
                module.weight /= 64
            if isinstance(module, nn.Linear):
                module.weight /= 8
    return net


def null_grads(name: str) -> list[str]:
    """Biases of convolutions that feed a batch norm: all but those of shortcuts, which have the last number."""
    shortcut = f"conv{int(RESNETS[name][1][1]) + 1}"
    with torch.device("meta"):
        modules = make_resnet(name).named_modules()
    return [f"{path}.bias" for path, m in modules if isinstance(m, nn.Conv2d) and not path.endswith(shortcut)]


def summary(stream: int, x: torch.Tensor) -> list[float]:
    x = x.detach().double().flatten().numpy()
    u = uniform(SEED, 2000 + stream, x.size, -1, 1).astype(np.float64)
    return [np.sqrt(x @ x), x @ u]


def train(name: str, batch: int, size: int, steps: int, optimizer: dict, dtype: torch.dtype) -> dict[str, np.ndarray]:
    net = calm_down(philox_fill(make_resnet(name)), name).to(dtype).train()
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer["name"]]
    update = kind(net.parameters(), **{key: x for key, x in optimizer.items() if key != "name"})
    start = copy.deepcopy(dict(net.named_parameters()))
    keys = float_keys(net)

    found = {}
    losses = []
    for step in range(steps + 1):
        if step == steps:
            found["moved"] = [
                [*summary(keys.index(key), p - start[key]), start[key].norm().item()]
                for key, p in net.named_parameters()
            ]
            for leaf in ("running_mean", "running_var"):
                found[leaf] = [summary(keys.index(key), x) for key, x in net.named_buffers() if key.endswith(leaf)]
        images, labels = make_batch(step, batch, size)
        loss = F.cross_entropy(net(images.to(dtype)), labels)
        losses.append(loss.item())
        if step < steps:
            update.zero_grad()
            loss.backward()
            update.step()
    return {key: np.array(x) for key, x in ({"losses": losses} | found).items()}


def worst_of_run(name: str, f32: dict, f64: dict) -> dict:
    worst = {"losses": np.abs(f32["losses"] / f64["losses"] - 1).max()}
    with torch.device("meta"):
        keys = [key for key, _ in make_resnet(name).named_parameters()]
    rows = [key not in null_grads(name) for key in keys]
    found, exact = f32["moved"][rows], f64["moved"][rows]
    worst["moved"] = (np.abs(found - exact)[:, :2].max(1) / np.maximum(exact[:, 0], 1e-5 * exact[:, 2])).max()
    for part in ("running_mean", "running_var"):
        worst[part] = (np.abs(f32[part] - f64[part]) / f64[part][:, :1]).max()
    return worst


def forward(name: str, batch: int, size: int, dtype: torch.dtype) -> np.ndarray:
    net = philox_fill(make_resnet(name)).to(dtype).train()
    with torch.no_grad():
        return net(make_batch(0, batch, size)[0].to(dtype)).double().numpy()


def one_pass(name: str, batch: int, size: int, dtype: torch.dtype) -> dict[str, np.ndarray]:
    net = calm_down(philox_fill(TorchvisionResNet(name)), name).to(dtype).train()
    keys = float_keys(net)
    images = make_images(3 * batch, size).reshape(batch, 3, size, size).to(dtype)
    loss = F.cross_entropy(net(images), make_labels(batch))
    loss.backward()
    found = {"loss": [loss.item()]}
    found["grad"] = [summary(keys.index(key), p.grad) for key, p in net.named_parameters()]
    for leaf in ("running_mean", "running_var"):
        found[leaf] = [summary(keys.index(key), x) for key, x in net.named_buffers() if key.endswith(leaf)]
    with torch.no_grad():
        found["eval_logits"] = net.eval()(images[:2]).double().numpy()
    return {key: np.array(x) for key, x in found.items()}


def worst_of_pass(f32: dict, f64: dict) -> dict:
    def unit(key: str, x: np.ndarray) -> np.ndarray:
        return x if key == "loss" else np.abs(x).max() if key == "eval_logits" else x[:, :1]

    return {key: (np.abs(f32[key] - x) / unit(key, x)).max() for key, x in f64.items()}


tensors: dict[str, np.ndarray] = {}
worst: dict[str, dict] = {}


def keep(name: str, found: dict[str, np.ndarray], off: dict) -> None:
    for key, x in found.items():
        assert np.isfinite(x).all(), (name, key)
        tensors[f"{name}/{key}"] = x.astype(np.float32)
    worst[name] = {key: float(f"{x:.2e}") for key, x in off.items()}
    print(name, json.dumps(worst[name]))


models = {name: describe(make_resnet, name, 1) for name in RESNETS}
torchvision = {name: describe(TorchvisionResNet, name, 3) for name in RESNETS}
with torch.device("meta"):
    assert list(make_net().state_dict()) == list(make_resnet("resnet18").state_dict())

for name, spec in RUNS.items():
    f32, f64 = (train(name, **spec, dtype=dtype) for dtype in (torch.float32, torch.float64))
    keep(name, f64, worst_of_run(name, f32, f64))
    print("  losses:", *(f"{x:.6f}" for x in f64["losses"]))

for name, spec in FORWARDS.items():
    f32, f64 = (forward(name, **spec, dtype=dtype) for dtype in (torch.float32, torch.float64))
    keep(name, {"logits": f64}, {"logits": np.abs(f32 - f64).max() / np.abs(f64).max()})

for name, spec in PASSES.items():
    f32, f64 = (one_pass(name, **spec, dtype=dtype) for dtype in (torch.float32, torch.float64))
    keep(f"torchvision/{name}", f64, worst_of_pass(f32, f64))

nulls = {name: null_grads(name) for name in RUNS}
metadata = {
    "models": models,
    "torchvision": torchvision,
    "null_grads": nulls,
    "runs": RUNS,
    "forwards": FORWARDS,
    "passes": PASSES,
    "worst": worst,
    "torch": torch.__version__,
}
save(OUT, tensors, {key: json.dumps(value) for key, value in metadata.items()})
print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
