"""Tests a run's checkpoint in PyTorch, and compares with what the run itself found.

    python check_checkpoint.py runs/NAME/checkpoints/epoch-N [DATA]

The checkpoint's model.safetensors goes through the notebook's own net.load_state_dict, strictly: every key and shape
must be right.  The net then classifies the test images of Fashion-MNIST in DATA (data/fashion-mnist), resized by
Pillow as torchvision's Resize does it and prepared as run.json says.  Prints the accuracy here and in run.json.  If
the checkpoint is its run's last, predictions.json has the run's answer to each image: prints how many agree, and how
far apart the probabilities of these answers are.
Exit status 1 if keys or shapes are wrong, if the counts of right answers differ, or if a probability differs by more
than 1e-3.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from notebook_net import make_net

TOLERANCE = 1e-3
BATCH = 128

if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
folder = Path(sys.argv[1])
data = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).resolve().parents[2] / "data" / "fashion-mnist"
run = json.loads((folder / "run.json").read_text())
config, count = run["config"], run["images"]["test"]
if run["data"]["kind"] != "fashion-mnist":
    sys.exit(f"{folder}: was trained on {run['data']['path']}, not on Fashion-MNIST")

net = make_net().eval()
try:
    print(net.load_state_dict(load_file(folder / "model.safetensors"), strict=True))
except RuntimeError as error:
    sys.exit(str(error))


def read(name, offset):
    return np.frombuffer(gzip.decompress((data / name).read_bytes()), np.uint8, offset=offset)


labels = torch.from_numpy(read("t10k-labels-idx1-ubyte.gz", 8)[:count].astype(np.int64))
pixels = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)[:count]
size = config["resize"]
rows, columns = size if isinstance(size, list) else (size, size)
mean, std = ((config[key] or [default])[0] for key, default in (("mean", 0.0), ("std", 1.0)))


def classify(part):
    resized = np.stack([Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR) for image in part])
    return net((torch.from_numpy(resized)[:, None] / 255 - mean) / std).softmax(1)


with torch.no_grad():
    theirs = torch.cat([classify(pixels[i : i + BATCH]) for i in range(0, count, BATCH)])
right = int((theirs.argmax(1) == labels).sum())
said = round(run["history"][-1]["testAccuracy"] * count)
print(f"right of {count}: {right} in PyTorch {torch.__version__}, {said} in the run")
wrong = right != said

answers = folder.parent.parent / "predictions.json"
ours = json.loads(answers.read_text()) if answers.is_file() else {}
if run["step"] == 0 and ours.get("steps") == run["steps"]:
    predicted = torch.tensor(ours["predicted"])
    alike = int((theirs.argmax(1) == predicted).sum())
    apart = (theirs.gather(1, predicted[:, None])[:, 0] - torch.tensor(ours["probability"])).abs().max().item()
    print(f"the same class for {alike} of {count}; the probabilities of the run's classes differ by up to {apart:.1e}")
    wrong = wrong or not apart <= TOLERANCE  # also when it is NaN
sys.exit(wrong)
