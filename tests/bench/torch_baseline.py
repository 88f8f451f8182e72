"""The same training step and forward pass in PyTorch on the CPU: a line of `deno task bench:peers --python PATH`.

    python tests/bench/torch_baseline.py FOLDER {train,forward} [STEPS] [THREADS]

FOLDER holds weights.safetensors and batch.safetensors, which `deno task bench:peers --keep` leaves there.  STEPS
(default 3) are timed at least, and for five seconds, after a first one; THREADS is 2 by default.  Prints one line of
JSON, the `Answer` of tests/bench/peers/job.ts, and on stderr the same for people.  Needs torch and safetensors (see
tests/reference/requirements.txt).
"""

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent.parent / "reference"))
sys.dont_write_bytecode = True
from notebook_net import make_net

LEAST_SECONDS = 5

if not 3 <= len(sys.argv) <= 5 or sys.argv[2] not in ("train", "forward"):
    sys.exit(__doc__)
folder, phase = Path(sys.argv[1]), sys.argv[2]
steps, threads = [int(word) for word in sys.argv[3:] + ["3", "2"][len(sys.argv) - 3 :]]
torch.set_num_threads(threads)
weights, batch = load_file(folder / "weights.safetensors"), load_file(folder / "batch.safetensors")
images, labels = batch["images"], batch["labels"]

begin = time.perf_counter()
net = make_net()
net.load_state_dict(weights)
optimizer = torch.optim.Adam(net.parameters(), lr=0.001)
criterion = torch.nn.CrossEntropyLoss()
net.train(phase == "train")
losses, logits = [], []


def step() -> None:
    if phase == "forward":
        with torch.no_grad():
            y = net(images)
        if not logits:
            logits.extend(y.flatten().tolist())
        return
    loss = criterion(net(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())


step()
busy = time.process_time()
first = last = time.perf_counter()
times = []
while len(times) < steps or last - first < LEAST_SECONDS:
    step()
    now = time.perf_counter()
    times.append((now - last) * 1000)
    last = now
cores = (time.process_time() - busy) / (last - first)

median = statistics.median(times)
print(f"{phase}: {median:.0f} ms, {len(images) * 1000 / median:.1f} images/s, {threads} threads", file=sys.stderr)
answer = {
    "version": torch.__version__,
    "adapter": f"the CPU, {threads} threads",
    "warmup": first - begin,
    "times": times,
    "cores": cores,
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "losses": losses,
    "logits": logits,
}
print(json.dumps(answer))
