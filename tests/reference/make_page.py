"""Makes tests/fixtures/page.safetensors: a checkpoint of PyTorch's, as somebody drops it on the page.

    python make_page.py              (reads data/fashion-mnist; ten seconds)
    python make_page.py FILE         instead loads a file that the page has handed out, and tests it

The net is scripts/web/small_net.ts, written down here again, after some steps on the first training images.

The keys are those of its state dict, as safetensors.torch.save_file writes them.  Metadata (JSON):
    probabilities    [10] of the first image to test with
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
BATCH, STEPS, TESTED = 64, 48, 500

torch.set_num_threads(1)
torch.manual_seed(0)


def read(name: str, header: int, count: int) -> torch.Tensor:
    with gzip.open(ROOT / "data" / "fashion-mnist" / name) as file:
        return torch.from_numpy(np.frombuffer(file.read(header + count), np.uint8)[header:].copy())


def images(part: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = read(f"{part}-images-idx3-ubyte.gz", 16, count * 784).reshape(-1, 1, 28, 28) / 255
    return pixels, read(f"{part}-labels-idx1-ubyte.gz", 8, count).long()


net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
)  # fmt: skip

if len(sys.argv) > 1:
    print(net.load_state_dict(load_file(sys.argv[1]), strict=True))
else:
    x, labels = images("train", BATCH * STEPS)
    adam = torch.optim.Adam(net.parameters(), lr=0.001)
    for batch, wanted in zip(x.split(BATCH), labels.split(BATCH)):
        adam.zero_grad()
        nn.functional.cross_entropy(net(batch), wanted).backward()
        adam.step()

net.eval()
x, labels = images("t10k", TESTED)
with torch.no_grad():
    probabilities = net(x).softmax(1)
print(f"test acc {(probabilities.argmax(1) == labels).float().mean():.3f} of the first {TESTED}")
if len(sys.argv) == 1:
    path = ROOT / "tests" / "fixtures" / "page.safetensors"
    save_file(net.state_dict(), path, {"probabilities": json.dumps(probabilities[0].tolist())})
    print(f"{path}: {path.stat().st_size} bytes")
