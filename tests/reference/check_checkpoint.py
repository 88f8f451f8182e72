"""Loads a checkpoint into the notebook's net and compares its logits with ours.

    python check_checkpoint.py CHECKPOINT.safetensors LOGITS.safetensors

CHECKPOINT goes through the notebook's own net.load_state_dict, strictly: every key and shape must be right.
LOGITS holds `images` F32 [N, 1, H, W] and `logits` F32 [N, 10], what our net makes of them in eval mode.
Prints the greatest differences and how many argmaxes agree.  Exit status 1 if keys or shapes are wrong or if
max |difference| / max(1, max |logit|) is above 1e-3.
"""

import sys

import torch
from safetensors.torch import load_file

from notebook_net import make_net

TOLERANCE = 1e-3

if len(sys.argv) != 3:
    sys.exit(__doc__)
torch.set_num_threads(1)
net = make_net()
try:
    print(net.load_state_dict(load_file(sys.argv[1]), strict=True))
except RuntimeError as error:
    sys.exit(str(error))
given = load_file(sys.argv[2])
images, ours = given["images"], given["logits"]
with torch.no_grad():
    theirs = torch.cat([net.eval()(part) for part in images.split(64)])
if ours.shape != theirs.shape:
    sys.exit(f"logits: expected {list(theirs.shape)}, got {list(ours.shape)}")
absolute = (ours - theirs).abs().max().item()
relative = absolute / max(1.0, theirs.abs().max().item())
agreeing = (ours.argmax(dim=1) == theirs.argmax(dim=1)).sum().item()
print(f"images {list(images.shape)}: max |difference| {absolute:.3e}, relative to the largest logit {relative:.3e}")
print(f"argmax agrees for {agreeing} of {len(images)}")
if not relative <= TOLERANCE:  # also when it is NaN
    sys.exit(f"above {TOLERANCE}")
