"""Makes tests/fixtures/nets.safetensors: what PyTorch says of the nets of scripts/examples/nets.

    python make_nets.py         # a minute on one core

The nets are those of the notebook's course (d2l-pytorch: LeNet, VGG-11, GoogLeNet), of torchvision (DenseNet-121,
MobileNetV2, VisionTransformer) and of milesial/Pytorch-UNet, with their names, written down here again.

Weights: the k-th float entry of the state dict is uniform(-b, b) of seed 7, stream k, with b = 1 / sqrt(elements of one
row) of the entry, or for a bias of its weight, if that has rows; else uniform(0.5, 1.5) for a weight and
uniform(-0.5, 0.5) for a bias.  Running means are 0, variances 1.  Images are make_batch of notebook_net.py, one for each
step, grey: nets with three channels get it three times.  Labels are those of the batch; of the U-Net, which pixels are
brighter than 0.3.  Dropout is off.

NET/logits     [N, 10, ...]   before the first step, in training mode
NET/losses     [steps + 1]    loss before each step, then after the last
NET/grads      [P, 2]         of the first step's gradients: L2 norm, and product with uniform(-1, 1) of seed 7, stream
                              2000 + k; k as above
NET/moved      [P, 3]         the same of what the steps changed each parameter by; and the L2 norm of what is changed
Metadata (JSON):
    runs       { NET: { batch, size, steps, optimizer: { name, lr, ... } }, ... }
    keys       { NET: "KEY SHAPE\\n...", ... }: the state dict
    trace      { NET: [[child, shape], ...] } for TRACES
    worst      what PyTorch's float32 differs by from float64: logits |d| / max |value|; losses |d| / value; grads and
               moved |d| / L2 norm, the worst key.  That norm is taken as at least 1e-5 of the largest gradient's, and
               1e-4 of the parameter's: some gradients are zero but for rounding, and float32 keeps a parameter to 6e-8
    torch      version
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fixture import save
from notebook_net import SEED, GlobalAvgPool2d, FlattenLayer, float_keys, make_batch
from philox import uniform

torch.set_num_threads(1)
OUT = Path(__file__).parent.parent / "fixtures" / "nets.safetensors"


# The notebook's course --------------------------------------------------------------------------------


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.Sigmoid(), nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.MaxPool2d(2, 2),
        )  # fmt: skip
        self.fc = nn.Sequential(
            nn.Linear(16 * 4 * 4, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)
        )  # fmt: skip

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.view(x.shape[0], -1))


def vgg11(ratio, size):
    net, hidden, channels = nn.Sequential(), 4096 // ratio, 1
    for i, (convs, out) in enumerate(((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))):
        block = []
        for _ in range(convs):
            block += [nn.Conv2d(channels, out // ratio, kernel_size=3, padding=1), nn.ReLU()]
            channels = out // ratio
        net.add_module(f"vgg_block_{i + 1}", nn.Sequential(*block, nn.MaxPool2d(kernel_size=2, stride=2)))
    net.add_module("fc", nn.Sequential(
        FlattenLayer(), nn.Linear(channels * (size // 32) ** 2, hidden), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 10),
    ))  # fmt: skip
    return net


class Inception(nn.Module):
    def __init__(self, in_c, c1, c2, c3, c4):
        super().__init__()
        self.p1_1 = nn.Conv2d(in_c, c1, kernel_size=1)
        self.p2_1 = nn.Conv2d(in_c, c2[0], kernel_size=1)
        self.p2_2 = nn.Conv2d(c2[0], c2[1], kernel_size=3, padding=1)
        self.p3_1 = nn.Conv2d(in_c, c3[0], kernel_size=1)
        self.p3_2 = nn.Conv2d(c3[0], c3[1], kernel_size=5, padding=2)
        self.p4_1 = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
        self.p4_2 = nn.Conv2d(in_c, c4, kernel_size=1)

    def forward(self, x):
        p1 = F.relu(self.p1_1(x))
        p2 = F.relu(self.p2_2(F.relu(self.p2_1(x))))
        p3 = F.relu(self.p3_2(F.relu(self.p3_1(x))))
        p4 = F.relu(self.p4_2(self.p4_1(x)))
        return torch.cat((p1, p2, p3, p4), dim=1)


def googlenet():
    def halved():
        return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3), nn.ReLU(), halved()),
        nn.Sequential(nn.Conv2d(64, 64, kernel_size=1), nn.Conv2d(64, 192, kernel_size=3, padding=1), halved()),
        nn.Sequential(
            Inception(192, 64, (96, 128), (16, 32), 32), Inception(256, 128, (128, 192), (32, 96), 64), halved()
        ),
        nn.Sequential(
            Inception(480, 192, (96, 208), (16, 48), 64), Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64), Inception(512, 112, (144, 288), (32, 64), 64),
            Inception(528, 256, (160, 320), (32, 128), 128), halved(),
        ),
        nn.Sequential(
            Inception(832, 256, (160, 320), (32, 128), 128), Inception(832, 384, (192, 384), (48, 128), 128),
            GlobalAvgPool2d(),
        ),
        FlattenLayer(), nn.Linear(1024, 10),
    )  # fmt: skip


# torchvision ------------------------------------------------------------------------------------------


class DenseLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat((x, self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))), 1)


class DenseNet121(nn.Module):
    def __init__(self, classes):
        super().__init__()
        f = self.features = nn.Sequential()
        f.add_module("conv0", nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False))
        f.add_module("norm0", nn.BatchNorm2d(64))
        f.add_module("relu0", nn.ReLU())
        f.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        c = 64
        for i, layers in enumerate((6, 12, 24, 16)):
            block = nn.Sequential()
            for k in range(layers):
                block.add_module(f"denselayer{k + 1}", DenseLayer(c))
                c += 32
            f.add_module(f"denseblock{i + 1}", block)
            if i < 3:
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(c))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", nn.Conv2d(c, c // 2, 1, bias=False))
                transition.add_module("pool", nn.AvgPool2d(2))
                f.add_module(f"transition{i + 1}", transition)
                c //= 2
        f.add_module("norm5", nn.BatchNorm2d(c))
        self.classifier = nn.Linear(c, classes)

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(F.relu(self.features(x)), (1, 1)).flatten(1))


def conv_norm(c, o, kernel, stride=1, groups=1):
    conv = nn.Conv2d(c, o, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, c, o, stride, expand):
        super().__init__()
        wide = c * expand
        self.adds = stride == 1 and c == o
        self.conv = nn.Sequential(
            *([conv_norm(c, wide, 1)] if expand > 1 else []),
            conv_norm(wide, wide, 3, stride, wide), nn.Conv2d(wide, o, 1, bias=False), nn.BatchNorm2d(o),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes):
        super().__init__()
        features, c = [conv_norm(3, 32, 3, 2)], 32
        for t, o, n, s in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for i in range(n):
                features.append(InvertedResidual(c, o, s if i == 0 else 1, t))
                c = o
        self.features = nn.Sequential(*features, conv_norm(c, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0), nn.Linear(4 * width, width), nn.Dropout(0)
        )

    def forward(self, x):
        y = self.ln_1(x)
        y = x + self.self_attention(y, y, y, need_weights=False)[0]
        return y + self.mlp(self.ln_2(y))


class Encoder(nn.Module):
    def __init__(self, tokens, width, heads, layers):
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width))
        self.layers = nn.Sequential()
        for i in range(layers):
            self.layers.add_module(f"encoder_layer_{i}", EncoderLayer(width, heads))
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        return self.ln(self.layers(x + self.pos_embedding))


class VisionTransformer(nn.Module):
    def __init__(self, size=28, patch=7, channels=1, width=64, heads=4, layers=4, classes=10):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(channels, width, patch, patch)
        self.encoder = Encoder((size // patch) ** 2 + 1, width, heads, layers)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(width, classes))

    def forward(self, x):
        words = self.conv_proj(x).flatten(2).permute(0, 2, 1)
        token = self.class_token.expand(x.shape[0], -1, -1)
        return self.heads(self.encoder(torch.cat((token, words), 1))[:, 0])


# milesial/Pytorch-UNet --------------------------------------------------------------------------------


class DoubleConv(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(c, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
            nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c, o))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.up = nn.ConvTranspose2d(c, c // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(c, o)

    def forward(self, x, before):
        return self.conv(torch.cat([before, self.up(x)], dim=1))


class OutConv(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.conv = nn.Conv2d(c, o, kernel_size=1)

    def forward(self, x):
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, channels=1, classes=2, width=16):
        super().__init__()
        self.inc = DoubleConv(channels, width)
        self.down1, self.down2 = Down(width, 2 * width), Down(2 * width, 4 * width)
        self.up1, self.up2 = Up(4 * width, 2 * width), Up(2 * width, width)
        self.outc = OutConv(width, classes)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        return self.outc(self.up2(self.up1(self.down2(x2), x2), x1))


# What is stored ---------------------------------------------------------------------------------------

SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9}
NETS = {
    "lenet": (LeNet, 1, {"batch": 16, "size": 28, "optimizer": {"name": "adam", "lr": 1e-3}}),
    "vgg": (lambda: vgg11(8, 32), 1, {"batch": 8, "size": 32, "optimizer": {**SGD, "lr": 0.1}}),
    "googlenet": (googlenet, 1, {"batch": 8, "size": 32, "optimizer": {**SGD, "lr": 0.1}}),
    "densenet": (lambda: DenseNet121(10), 3, {"batch": 8, "size": 64, "optimizer": {**SGD, "lr": 1e-5}}),
    "vit": (VisionTransformer, 1, {"batch": 8, "size": 28, "optimizer": SGD}),
    "mobilenet": (lambda: MobileNetV2(10), 3, {"batch": 8, "size": 64, "optimizer": {**SGD, "lr": 1e-6}}),
    "unet": (UNet, 1, {"batch": 4, "size": 32, "optimizer": SGD}),
}
STEPS = 3
# Of the whole VGG-11 as of the one above.
TRACES = {
    "lenet": (LeNet, 1, 28), "vgg": (lambda: vgg11(1, 224), 1, 224), "googlenet": (googlenet, 1, 96),
    "densenet": (lambda: DenseNet121(1000).features, 3, 224), "mobilenet": (lambda: MobileNetV2(1000).features, 3, 224),
}  # fmt: skip


def fill(net: nn.Module) -> nn.Module:
    state = net.state_dict()
    with torch.no_grad():
        for stream, key in enumerate(float_keys(net)):
            x = state[key]
            if key.endswith(("running_mean", "running_var")):
                continue
            weight = state[key[:-4] + "weight"] if key.endswith("bias") else x
            low, high = (0.5, 1.5) if key.endswith("weight") else (-0.5, 0.5)
            if weight.dim() > 1:
                high = 1 / weight[0].numel() ** 0.5
                low = -high
            x.copy_(torch.from_numpy(uniform(SEED, stream, x.numel(), low, high)).reshape(x.shape))
    return net


def train(make, channels: int, batch: int, size: int, optimizer: dict, dtype: torch.dtype) -> dict[str, np.ndarray]:
    net = fill(make()).to(dtype).train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer["name"]]
    update = kind(net.parameters(), **{key: x for key, x in optimizer.items() if key != "name"})
    start = copy.deepcopy(dict(net.named_parameters()))
    keys = float_keys(net)
    found, losses = {}, []

    def summary(key: str, x: torch.Tensor) -> list[float]:
        x = x.detach().double().flatten().numpy()
        u = uniform(SEED, 2000 + keys.index(key), x.size, -1, 1).astype(np.float64)
        return [np.sqrt(x @ x), x @ u]

    for step in range(STEPS + 1):
        images, labels = make_batch(step, batch, size)
        logits = net(images.to(dtype).expand(-1, channels, -1, -1))
        if logits.dim() == 4:
            labels = (images[:, 0] > 0.3).long()
        loss = F.cross_entropy(logits, labels)
        losses.append(loss.item())
        found.setdefault("logits", logits.detach().double().numpy())
        if step < STEPS:
            update.zero_grad()
            loss.backward()
            found.setdefault("grads", np.array([summary(key, p.grad) for key, p in net.named_parameters()]))
            update.step()
    found["losses"] = np.array(losses)
    found["moved"] = np.array(
        [[*summary(key, p - start[key]), start[key].norm().item()] for key, p in net.named_parameters()]
    )
    return found


def worst_of(f32: dict, f64: dict) -> dict:
    moved, exact, grads = f32["moved"], f64["moved"], f64["grads"]
    return {
        "logits": np.abs(f32["logits"] - f64["logits"]).max() / np.abs(f64["logits"]).max(),
        "losses": np.abs(f32["losses"] / f64["losses"] - 1).max(),
        "grads": (np.abs(f32["grads"] - grads).max(1) / np.maximum(grads[:, 0], 1e-5 * grads[:, 0].max())).max(),
        "moved": (np.abs(moved - exact)[:, :2].max(1) / np.maximum(exact[:, 0], 1e-4 * exact[:, 2])).max(),
    }


tensors: dict[str, np.ndarray] = {}
worst: dict[str, dict] = {}
keys: dict[str, str] = {}
for name, (make, channels, spec) in NETS.items():
    f32, f64 = (train(make, channels, **spec, dtype=dtype) for dtype in (torch.float32, torch.float64))
    for key, x in f64.items():
        assert np.isfinite(x).all(), (name, key)
        tensors[f"{name}/{key}"] = x.astype(np.float32)
    worst[name] = {key: float(f"{x:.2e}") for key, x in worst_of(f32, f64).items()}
    with torch.device("meta"):
        state = make().state_dict()
    keys[name] = "\n".join(f"{key} {','.join(map(str, x.shape))}" for key, x in state.items())
    print(name, json.dumps(worst[name]), "losses:", *(f"{x:.5f}" for x in f64["losses"]), "least moved:",
          f"{(f64['moved'][:, 0] / f64['moved'][:, 2]).min():.1e}")  # fmt: skip

trace: dict[str, list] = {}
with torch.device("meta"):
    for name, (make, channels, size) in TRACES.items():
        net, x, trace[name] = make(), torch.rand(1, channels, size, size), []
        for child, layer in net.named_children():
            x = layer(x.flatten(1) if child == "fc" else x)
            trace[name].append([child, list(x.shape)])

metadata = {
    "runs": {name: {**spec, "channels": channels, "steps": STEPS} for name, (_, channels, spec) in NETS.items()},
    "keys": keys,
    "trace": trace,
    "worst": worst,
    "torch": torch.__version__,
}
save(OUT, tensors, {key: json.dumps(value) for key, value in metadata.items()})
print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
