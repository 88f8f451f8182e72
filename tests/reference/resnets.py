"""The five ResNets of lib/nn/resnet.ts as PyTorch modules: the notebook's, and deeper ones in its definition.

    python resnets.py        # prints the parameters of each

Residual is the notebook's.  Bottleneck is torchvision's (stride on the 3x3, expansion 4), but as in the notebook every
convolution has a bias, and the shortcut is a bare convolution, numbered after those of the branch.  How many blocks
there are is He et al. 2015 (https://arxiv.org/abs/1512.03385), table 1.
"""

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


if __name__ == "__main__":
    for name in RESNETS:
        print(name, f"{sum(p.numel() for p in make_resnet(name).parameters()):,}")
