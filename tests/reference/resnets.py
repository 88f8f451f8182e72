"""The five ResNets of lib/nn/resnet.ts as PyTorch modules: the notebook's, deeper ones in its definition, torchvision's.

    python resnets.py        # prints the parameters of each, and compares with torchvision where that is installed

Residual is the notebook's.  Bottleneck is torchvision's (stride on the 3x3, expansion 4), but as in the notebook every
convolution has a bias, and the shortcut is a bare convolution, numbered after those of the branch.  How many blocks
there are is He et al. 2015 (https://arxiv.org/abs/1512.03385), table 1.

TorchvisionResNet is torchvision.models.resnet.ResNet, without the options that none of the five uses.
"""

import torch
import torch.nn.functional as F
from torch import nn

from notebook_net import FlattenLayer, GlobalAvgPool2d, Residual


class Bottleneck(nn.Module):
    def __init__(self, in_channels, out_channels, use_1x1conv=False, stride=1):
        super().__init__()
        channels = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, stride=stride)
        self.conv3 = nn.Conv2d(channels, out_channels, kernel_size=1)
        self.conv4 = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride) if use_1x1conv else None
        self.b1 = nn.BatchNorm2d(channels)
        self.b2 = nn.BatchNorm2d(channels)
        self.b3 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        y = F.relu(self.b1(self.conv1(x)))
        y = F.relu(self.b2(self.conv2(y)))
        y = self.b3(self.conv3(y))
        return F.relu(y + (self.conv4(x) if self.conv4 else x))


# The block, its last batch norm, how many channels it has for each of its 3x3's, and how many blocks there are.
RESNETS = {
    "resnet18": (Residual, "b2", 1, (2, 2, 2, 2)),
    "resnet34": (Residual, "b2", 1, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, "b3", 4, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, "b3", 4, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, "b3", 4, (3, 8, 36, 3)),
}


def make_resnet(name: str) -> nn.Sequential:
    block, _, expansion, counts = RESNETS[name]
    net = nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    before = 64
    for i, count in enumerate(counts):
        channels, stride = 64 * 2**i * expansion, 1 if i == 0 else 2
        first = block(before, channels, use_1x1conv=stride > 1 or before != channels, stride=stride)
        rest = [block(channels, channels) for _ in range(count - 1)]
        net.add_module(f"resnet_block{i + 1}", nn.Sequential(first, *rest))
        before = channels
    net.add_module("global_avg_pool", GlobalAvgPool2d())
    net.add_module("fc", nn.Sequential(FlattenLayer(), nn.Linear(before, 10)))
    return net


def convolution(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


class TorchvisionBlock(nn.Module):
    """Its BasicBlock, whose convolutions are 3x3, 3x3, or its Bottleneck: 1x1, 3x3, 1x1. The first 3x3 has the stride."""

    def __init__(self, in_channels, out_channels, expansion, stride):
        super().__init__()
        sizes, channels = ((3, 3), out_channels) if expansion == 1 else ((1, 3, 1), out_channels // expansion)
        before = in_channels
        for i, size in enumerate(sizes, 1):
            after = out_channels if i == len(sizes) else channels
            self.add_module(f"conv{i}", convolution(before, after, size, stride if i == sizes.index(3) + 1 else 1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
            before = after
        self.depth = len(sizes)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            bare = convolution(in_channels, out_channels, 1, stride)
            self.downsample = nn.Sequential(bare, nn.BatchNorm2d(out_channels))

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            if i < self.depth:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchvisionResNet(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        _, _, expansion, counts = RESNETS[name]
        self.conv1 = convolution(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        before = 64
        for i, count in enumerate(counts):
            channels, stride = 64 * 2**i * expansion, 1 if i == 0 else 2
            first = TorchvisionBlock(before, channels, expansion, stride)
            rest = [TorchvisionBlock(channels, channels, expansion, 1) for _ in range(count - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
            before = channels
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(before, 1000)

    def forward(self, x):
        *before, fc = self.children()
        for layer in before:
            x = layer(x)
        return fc(torch.flatten(x, 1))


def compare(name: str) -> str:
    """How TorchvisionResNet differs from torchvision's own, in training and evaluation, with the same weights."""
    try:
        import torchvision
    except ImportError:
        return "torchvision is not installed"
    ours, theirs = TorchvisionResNet(name), torchvision.models.get_model(name)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x, worst = torch.randn(2, 3, 64, 64), 0.0
    for mode in (True, False):
        worst = max(worst, (ours.train(mode)(x) - theirs.train(mode)(x)).abs().max().item())
    return f"the same keys as in torchvision {torchvision.__version__}, outputs differ by {worst}"


if __name__ == "__main__":
    for name in RESNETS:
        for build in (make_resnet, TorchvisionResNet):
            print(name, build.__name__, f"{sum(p.numel() for p in build(name).parameters()):,}")
        print(name, compare(name))
