"""The notebook's net, letter for letter, and deterministic weights, images and labels for it.

    python notebook_net.py        # prints the state-dict and the shape trace

philox_fill(net, seed): the k-th float entry of net.state_dict(), in order and not counting
num_batches_tracked, is filled from stream k:
    conv and linear weight and bias    uniform(-b, b), b = 1 / sqrt(fan_in) in float64, not rounded to float32
                                       (fan_in = in_channels * kernel height * kernel width)
    batch norm weight                  uniform(0.5, 1.5)
    batch norm bias                    uniform(-0.5, 0.5)
    running_mean, running_var          0, 1 (their streams stay unused)
images: uniform(0, 1) from stream 1000.  labels: u32 % 10 from stream 1001.  Both use SEED.

batch of step s, for training on new images in each step:
    labels       u32 % 10 from stream 5000 + s
    brightness   uniform(0, 1) from stream 6000, [10, 4, 4]: a pattern of 4x4 squares for each class
    images       uniform(0, 1) from stream 4000 + s, times the brightness of the label's square (float32)
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from philox import philox_u32, uniform

SEED = 7


# From the notebook ------------------------------------------------------------------------------------
# fmt: off

class Residual(nn.Module):
    def __init__(self,in_channels,out_channels,use_1x1conv=False,stride=1):
        super(Residual,self).__init__()
        self.conv1=nn.Conv2d(in_channels,out_channels,kernel_size=3,padding=1,stride=stride)
        self.conv2=nn.Conv2d(out_channels,out_channels,kernel_size=3,padding=1)
        if use_1x1conv:
            self.conv3=nn.Conv2d(in_channels,out_channels,kernel_size=1,stride=stride)
        else:
            self.conv3=None
        self.b1=nn.BatchNorm2d(out_channels)
        self.b2=nn.BatchNorm2d(out_channels)
    def forward(self,x):
        Y=F.relu(self.b1(self.conv1(x)))
        Y=self.b2(self.conv2(Y))
        if self.conv3:
            x=self.conv3(x)
        return F.relu(Y+x)

def resnet_block(in_channels,out_channels,num_residuals,first_block=False):
    if first_block:
        assert in_channels==out_channels # 第⼀个模块的通道数同输⼊通道数⼀致
    blk=[]
    for i in range(num_residuals):
        if i==0 and not first_block:
            blk.append(Residual(in_channels,out_channels,use_1x1conv=True,stride=2))
        else:
            blk.append(Residual(out_channels,out_channels))
    return nn.Sequential(*blk)

class GlobalAvgPool2d(nn.Module):
    def __init__(self):
        super(GlobalAvgPool2d,self).__init__()
    def forward(self,x):
        return F.avg_pool2d(x,kernel_size=x.size()[2:])

class FlattenLayer(nn.Module):
    def __init__(self):
        super(FlattenLayer,self).__init__()
    def forward(self,x):
        return x.view(x.shape[0],-1)

def make_net():
    net=nn.Sequential(
        nn.Conv2d(1,64,kernel_size=7,stride=2,padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3,stride=2,padding=1)
    )
    net.add_module('resnet_block1',resnet_block(64,64,2,first_block=True))
    net.add_module('resnet_block2',resnet_block(64,128,2))
    net.add_module('resnet_block3',resnet_block(128,256,2))
    net.add_module('resnet_block4',resnet_block(256,512,2))
    net.add_module('global_avg_pool',GlobalAvgPool2d()) #GlobalAvgPool2d的输出: (Batch, 512, 1, 1)
    net.add_module('fc',nn.Sequential(FlattenLayer(),nn.Linear(512,10)))
    return net

# fmt: on
# Deterministic contents -------------------------------------------------------------------------------


def float_keys(net: nn.Module) -> list[str]:
    """The state-dict keys that philox_fill counts: key k has stream k."""
    return [key for key, x in net.state_dict().items() if x.is_floating_point()]


def philox_fill(net: nn.Module, seed: int = SEED) -> nn.Module:
    """Overwrites every parameter and running statistic of the (float32) net; returns it."""
    state = net.state_dict()
    for stream, key in enumerate(float_keys(net)):
        x = state[key]
        prefix, leaf = key.rsplit(".", 1)
        if leaf in ("running_mean", "running_var"):
            x.fill_(0.0 if leaf == "running_mean" else 1.0)
            continue
        if isinstance(net.get_submodule(prefix), nn.BatchNorm2d):
            low, high = (0.5, 1.5) if leaf == "weight" else (-0.5, 0.5)
        else:
            high = 1 / state[f"{prefix}.weight"][0].numel() ** 0.5
            low = -high
        x.copy_(torch.from_numpy(uniform(seed, stream, x.numel(), low, high)).reshape(x.shape))
    return net


def make_images(n: int, size: int, seed: int = SEED) -> torch.Tensor:
    """[n, 1, size, size], float32."""
    return torch.from_numpy(uniform(seed, 1000, n * size * size)).reshape(n, 1, size, size)


def make_labels(n: int, seed: int = SEED) -> torch.Tensor:
    """[n], int64 in 0..9."""
    return torch.from_numpy((philox_u32(seed, 1001, n) % 10).astype("int64"))


def make_batch(step: int, n: int, size: int, seed: int = SEED) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [n, 1, size, size] that show their labels [n]; size is a multiple of 4."""
    labels = philox_u32(seed, 5000 + step, n) % 10
    brightness = uniform(seed, 6000, 160).reshape(10, 1, 4, 4)[labels]
    squares = np.kron(brightness, np.ones((1, 1, size // 4, size // 4), dtype=np.float32))
    noise = uniform(seed, 4000 + step, n * size * size).reshape(n, 1, size, size)
    return torch.from_numpy(squares * noise), torch.from_numpy(labels.astype("int64"))


def calm_down(net: nn.Module) -> nn.Module:
    """Makes the last batch norm weights of residual branches, and the classifier's weight, small; returns the net."""
    with torch.no_grad():
        for name, module in net.named_modules():
            if name.endswith(".b2"):
                module.weight /= 64
        net.fc[1].weight /= 8
    return net


if __name__ == "__main__":
    net = philox_fill(make_net())
    stream = {key: k for k, key in enumerate(float_keys(net))}
    for key, x in net.state_dict().items():
        print(f"{stream.get(key, ''):>4} {key:40} {list(x.shape)}")
    x = torch.rand((1, 1, 224, 224))
    for name, layer in net.named_children():
        x = layer(x)
        print(name, "output shape:", list(x.shape))
