"""Makes tests/fixtures/ddp.safetensors: ten steps of PyTorch's DistributedDataParallel, gloo, two processes.

    python make_ddp.py          # half a minute on one core

The net is NET below, with the weights of philox_fill (notebook_net.py).  Batch s is make_batch of that file, 16 images
of 16x16, each pixel as the whole number below its 255-fold, divided by 255: images of bytes.  Rank r has every second
image of a batch, from the r-th on, as DistributedSampler deals them.  Adam with a learning rate of 1e-3, in float64.

DDP itself sends the running statistics of rank 0 to all before a step.  Ours are the means over the ranks, so that is
done here after each step, by all_reduce; it changes no loss and no weight.

losses         [STEPS + 1]   mean over the ranks, before each step, then after the last
state/KEY                    the state dict in the end, but for num_batches_tracked
moved/KEY      []            L2 norm of what the steps changed a parameter by
Metadata (JSON):
    run        { ranks, batch, size, steps, lr }
    wrong      what runs that do not reduce differ by, at least: `unreduced`, each rank by itself, the mean of the ranks'
               losses; `alone`, one process with the whole batch, whose batch norms see all of it.  |d| / loss, the largest
    float32    the same of a run of DDP in float32: what rounding is worth
    torch      version
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fixture import save
from notebook_net import SEED, FlattenLayer, GlobalAvgPool2d, make_batch, philox_fill

OUT = Path(__file__).parent.parent / "fixtures" / "ddp.safetensors"
RANKS, BATCH, SIZE, STEPS, LR = 2, 16, 16, 10, 1e-3


def make_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        GlobalAvgPool2d(), FlattenLayer(), nn.Linear(16, 10),
    )  # fmt: skip


def images_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = make_batch(step, BATCH, SIZE)
    return (images.double() * 255).floor() / 255, labels


def train(rank: int, ranks: int, reduces: bool, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Losses of a rank by itself; with `reduces`, as part of DDP."""
    net = philox_fill(make_net()).to(dtype).train()
    start = {key: x.detach().clone() for key, x in net.named_parameters()}
    model = DistributedDataParallel(net, broadcast_buffers=False) if reduces else net
    adam = torch.optim.Adam(net.parameters(), lr=LR)
    losses = []
    for step in range(STEPS + 1):
        images, labels = images_of(step)
        loss = F.cross_entropy(model(images[rank::ranks].to(dtype)), labels[rank::ranks])
        losses.append(loss.item())
        if step == STEPS:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        for key, x in net.named_buffers():
            if reduces and not key.endswith("num_batches_tracked"):
                dist.all_reduce(x)
                x /= ranks
        if step == STEPS - 1:
            state = {key: x.detach().clone() for key, x in net.state_dict().items()}
    found = {"losses": np.array(losses)}
    found |= {f"state/{key}": x.double().numpy() for key, x in state.items() if not key.endswith("num_batches_tracked")}
    found |= {f"moved/{key}": (state[key] - x).norm().double().numpy() for key, x in start.items()}
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    for name, dtype in {"f64": torch.float64, "f32": torch.float32}.items():
        for reduces in (True, False):
            torch.save(train(rank, RANKS, reduces, dtype), f"{folder}/{name}-{reduces}-{rank}")
    dist.destroy_process_group()


def main() -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (folder,), nprocs=RANKS)
        runs = {
            (name, reduces): [torch.load(f"{folder}/{name}-{reduces}-{rank}", weights_only=False) for rank in range(RANKS)]
            for name in ("f64", "f32") for reduces in (True, False)
        }  # fmt: skip
    mean = {run: np.mean([found["losses"] for found in ranks], 0) for run, ranks in runs.items()}
    first, second = runs["f64", True]
    for key, x in first.items():
        assert key == "losses" or np.array_equal(x, second[key]), f"the ranks differ in {key}"
    losses = mean["f64", True]
    far = lambda other: float(f"{np.abs(other / losses - 1).max():.2e}")
    alone = train(0, 1, False, torch.float64)["losses"]
    tensors = {"losses": losses, **{key: x for key, x in first.items() if key != "losses"}}
    metadata = {
        "run": {"ranks": RANKS, "batch": BATCH, "size": SIZE, "steps": STEPS, "lr": LR},
        "wrong": {"unreduced": far(mean["f64", False]), "alone": far(alone)},
        "float32": far(mean["f32", True]),
        "torch": torch.__version__,
    }
    print("losses:", *(f"{x:.5f}" for x in losses), "wrong:", metadata["wrong"], "float32:", metadata["float32"])
    worst = max(
        np.linalg.norm(runs["f32", True][0][key] - x) / first[key.replace("state", "moved")]
        for key, x in first.items() if key.startswith("state") and key.replace("state", "moved") in first
    )
    print("float32's weights differ by", f"{worst:.1e}", "of what they moved")
    save(OUT, {key: np.asarray(x, np.float32) for key, x in tensors.items()},
         {key: json.dumps(value) for key, value in metadata.items()})  # fmt: skip
    print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
