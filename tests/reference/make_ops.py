"""Makes tests/fixtures/ops.safetensors: every op's forward value and gradients, in double precision.

    python make_ops.py

Inputs are float32 numbers (philox, so the file does not depend on torch's generators).  PyTorch computes the
op on them in float64, and the results are rounded to float32 once, at the end.

Keys, for a case called NAME:
    NAME/x0, NAME/x1, ...   inputs: F32, or I32 for labels
    NAME/y                  output (shape [] for losses, counts and full sums)
    NAME/g                  cotangent of y; absent where nothing is differentiable
    NAME/dx0, ...           gradient of sum(y * g) for each differentiable input
    NAME/running_mean_in, running_var_in, running_mean_out, running_var_out     op "batchNorm" only
Metadata `cases`: JSON array, in file order, of
    { name, op, attrs, inputs: how many, grads: [indices of inputs with a gradient],
      f32: { y, dx0, ... } }
where `f32` is how far PyTorch's own float32 CPU kernel is from the value stored here:
max |f32 - f64| / max |f64| over the tensor (the absolute difference where the tensor is all zeros).

Conventions: `axes` and `order` hold non-negative axes; kernelSize, stride and padding are a number or a
pair [vertical, horizontal].  conv2d and linear have x2 = bias only where inputs is 3.  batchNorm takes x, gamma,
beta; batchNormEval takes x, gamma, beta, mean, variance.  relu's gradient at 0 is 0.  max pooling sends the
gradient of a tie to the first maximum of the window in row-major order; argmax takes the first maximum.
cropFlip takes pixels and draws, an I32 row (top, left, flip) for each image; `epoch` is the one that they are of in
a run with seed SEED.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fixture import save
from philox import philox_u32, uniform

torch.set_num_threads(1)
OUT = Path(__file__).parent.parent / "fixtures" / "ops.safetensors"
SEED = 20240

tensors: dict[str, np.ndarray] = {}
cases: list[dict] = []
streams = iter(range(1_000_000))  # every random tensor has a stream of its own


# Inputs -----------------------------------------------------------------------------------------------


def rand(*shape, low=-1.0, high=1.0):
    """Uniform float32 values."""
    return uniform(SEED, next(streams), int(np.prod(shape)), low, high).reshape(shape)


def integers(*shape, low, high):
    """Whole float32 values in [low, high), so that ties occur."""
    u = philox_u32(SEED, next(streams), int(np.prod(shape)))
    return (low + (u % np.uint32(high - low)).astype(np.float32)).astype(np.float32).reshape(shape)


def labels(n, classes):
    return (philox_u32(SEED, next(streams), n) % np.uint32(classes)).astype(np.int32)


# Cases ------------------------------------------------------------------------------------------------


def run(compute, inputs, grads, g, dtype):
    """Output, gradients and running statistics of one op, computed in `dtype`, as numpy float64 arrays."""
    xs = [torch.tensor(x).to(torch.int64 if x.dtype == np.int32 else dtype) for x in inputs]
    for i in grads:
        xs[i].requires_grad_()
    state: dict[str, torch.Tensor] = {}
    y = compute(state, *xs)
    found = {"y": y}
    if grads:
        dxs = torch.autograd.grad((y * torch.tensor(g).to(dtype)).sum(), [xs[i] for i in grads])
        found |= {f"dx{i}": dx for i, dx in zip(grads, dxs)}
    return {k: v.detach().double().numpy() for k, v in (found | state).items()}


def case(name, op, attrs, inputs, compute, grads=None):
    """Adds one case; `compute(state, *xs)` is the op in torch, `state` takes extra tensors to store."""
    if grads is None:
        grads = [i for i, x in enumerate(inputs) if x.dtype == np.float32]
    assert all(c["name"] != name for c in cases), name
    shape = run(compute, inputs, [], None, torch.float64)["y"].shape
    g = rand(*shape)
    exact = run(compute, inputs, grads, g, torch.float64)
    single = run(compute, inputs, grads, g, torch.float32)
    for i, x in enumerate(inputs):
        tensors[f"{name}/x{i}"] = np.array(x, order="C")
    if grads:
        tensors[f"{name}/g"] = np.array(g, order="C")
    for key, value in exact.items():
        assert np.isfinite(value).all(), (name, key)
        tensors[f"{name}/{key}"] = np.array(value, dtype=np.float32, order="C")
    f32 = {
        key: float(f"{np.abs(single[key] - value).max() / (np.abs(value).max() or 1.0):.2e}")
        for key, value in exact.items()
        if not key.endswith("_in")
    }
    cases.append({"name": name, "op": op, "attrs": attrs, "inputs": len(inputs), "grads": grads, "f32": f32})


def simple(name, op, inputs, compute, grads=None, **attrs):
    """A case whose torch function needs no state."""
    case(name, op, attrs, inputs, lambda _, *xs: compute(*xs), grads)


# Elementwise ------------------------------------------------------------------------------------------

BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}
BROADCASTS = {
    "same": ((2, 3, 4, 5), (2, 3, 4, 5)),
    "channel": ((2, 3, 4, 5), (1, 3, 1, 1)),
    "channel_first": ((1, 3, 1, 1), (2, 3, 4, 5)),
    "last": ((2, 3, 4, 5), (5,)),
    "column": ((2, 3, 4, 5), (4, 1)),
    "scalar": ((2, 3, 4, 5), ()),
    "scalar_first": ((), (3, 7)),
    "outer": ((3, 1), (1, 7)),
    "ones": ((1,), (1, 1)),
}
for op, compute in BINARY.items():
    for label, (a, b) in BROADCASTS.items():
        x0, x1 = rand(*a, low=-2, high=2), rand(*b, low=-2, high=2)
        if op == "div":  # keep the divisor away from zero, with both signs
            x1 = (x1 + np.copysign(np.float32(0.5), x1)).astype(np.float32)
        simple(f"{op}_{label}", op, [x0, x1], compute)

simple("neg", "neg", [rand(3, 5, 7)], torch.neg)
simple("exp", "exp", [rand(3, 5, 7, low=-8, high=8)], torch.exp)
simple("log", "log", [rand(3, 5, 7, low=0.01, high=9)], torch.log)
simple("sqrt", "sqrt", [rand(3, 5, 7, low=0.01, high=9)], torch.sqrt)
simple("square", "square", [rand(3, 5, 7, low=-3, high=3)], torch.square)
simple("relu", "relu", [rand(3, 5, 7)], F.relu)
zeros = integers(2, 5, 7, low=-2, high=3)
zeros[0, 0, :3] = -0.0
simple("relu_zeros", "relu", [zeros], F.relu)

ends = np.array([-1e4, -100, -30, -1e-3, 0, 1e-3, 30, 100, 1e4], np.float32)
for op, compute in {
    "abs": torch.abs, "sign": torch.sign, "floor": torch.floor, "round": torch.round, "erf": torch.erf,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "silu": F.silu, "gelu": F.gelu, "elu": F.elu,
    "leakyRelu": F.leaky_relu, "softplus": F.softplus, "relu": F.relu, "sin": torch.sin, "cos": torch.cos,
}.items():  # fmt: skip
    simple(f"{op}_middle", op, [rand(5, 13, low=-8, high=8)], compute)
    simple(f"{op}_ends", op, [ends], compute)
for op, compute in {
    "minimum": torch.minimum, "maximum": torch.maximum, "equal": torch.eq, "notEqual": torch.ne,
    "less": torch.lt, "lessEqual": torch.le, "greater": torch.gt, "greaterEqual": torch.ge,
}.items():  # fmt: skip
    xs = [integers(4, 3, 5, low=-2, high=3), integers(3, 1, low=-2, high=3)]
    if op in ("minimum", "maximum"):
        simple(f"{op}_ties", op, xs, compute)
    else:
        simple(f"{op}_ties", op, xs, lambda a, b, f=compute: f(a, b).to(a.dtype), grads=[])
simple("pow_positive", "pow", [rand(4, 7, low=0.05, high=5), rand(7, low=-4, high=4)], torch.pow)
whole = integers(7, low=-4, high=5)
simple("pow_negative", "pow", [rand(4, 7, low=-3, high=-0.5), whole], torch.pow, grads=[0])
simple("gelu_tanh", "gelu", [rand(5, 13, low=-8, high=8)], lambda x: F.gelu(x, approximate="tanh"),
       approximate="tanh")  # fmt: skip
simple("elu_alpha", "elu", [rand(5, 13, low=-8, high=8)], lambda x: F.elu(x, alpha=0.3), alpha=0.3)
simple("leakyRelu_slope", "leakyRelu", [zeros], lambda x: F.leaky_relu(x, 0.2), negativeSlope=0.2)
for name, bounds in {"both": {"min": -1, "max": 1}, "below": {"min": -1}, "above": {"max": 0.5}}.items():
    simple(f"clamp_{name}", "clamp", [zeros], lambda x, b=bounds: x.clamp(**b), **bounds)

# Reductions and shapes --------------------------------------------------------------------------------

for op, compute in {"sum": torch.sum, "mean": torch.mean}.items():
    for axes in ([0, 1, 2, 3], [3], [0, 2, 3], [1], [2, 3], [0], [0, 1]):
        for keep in (False, True):
            simple(
                f"{op}_{''.join(map(str, axes))}{'_keep' if keep else ''}", op, [rand(2, 3, 4, 5)],
                lambda x, f=compute, axes=axes, keep=keep: f(x, dim=axes, keepdim=keep),
                axes=axes, keepDims=keep,
            )  # fmt: skip
    simple(f"{op}_long", op, [rand(2, 1031)], lambda x, f=compute: f(x, dim=[1]), axes=[1], keepDims=False)
    simple(f"{op}_tall", op, [rand(1031, 2)], lambda x, f=compute: f(x, dim=[0]), axes=[0], keepDims=False)

simple("reshape_flat", "reshape", [rand(2, 3, 4, 5)], lambda x: x.reshape(2, 60), shape=[2, 60])
simple("reshape_up", "reshape", [rand(6, 35)], lambda x: x.reshape(2, 3, 5, 7), shape=[2, 3, 5, 7])
simple("reshape_scalar", "reshape", [rand(1, 1)], lambda x: x.reshape(()), shape=[])
for order in ([1, 0], [0, 2, 3, 1], [3, 1, 0, 2], [1, 0, 2, 3], [0, 1, 2]):
    shape = (2, 3, 4, 5)[: len(order)]
    simple(
        f"permute_{''.join(map(str, order))}", "permute", [rand(*shape)],
        lambda x, order=order: x.permute(order), order=order,
    )  # fmt: skip



def called(name, op, inputs, compute, *args, grads=None, listed=False):
    """A case that is called with the inputs, or a list of them, and then `args`."""
    case(name, op, {"args": list(args), "listed": listed}, inputs, lambda _, *xs: compute(*xs), grads)


x = rand(4, 6, 5)
called("slice_steps", "slice", [x], lambda x: x[1:4:2, :, -3:], [[1, 4, 2], None, [-3]])
called("flip", "flip", [x], lambda x: x.flip(0, 2), [0, -1])
called("pad", "pad", [x], lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), [1, 2, 0, 3], {"value": 0.5})
called("concat", "concat", [x, rand(4, 1, 5), rand(4, 3, 5)], lambda *x: torch.cat(x, 1), 1, listed=True)
called("stack", "stack", [x, rand(4, 6, 5)], lambda *x: torch.stack(x, 2), 2, listed=True)
ties = integers(4, 6, 5, low=-2, high=3)
for op, compute in {"max": torch.amax, "min": torch.amin}.items():
    called(f"{op}_ties", op, [ties], lambda x, f=compute: f(x, (0, 2)), [0, 2])
    called(f"{op}_all", op, [x], lambda x, f=compute: f(x))
called("prod", "prod", [x], lambda x: x.prod(1), [1])
called("prod_zeros", "prod", [ties], lambda x: x.prod(2, keepdim=True), [2], {"keepDims": True})
called("variance", "variance", [x], lambda x: x.var((0, 1)), [0, 1])
called("variance_all", "variance", [x], lambda x: x.var(correction=0), None, {"correction": 0})
called("logSumExp", "logSumExp", [x * 100], lambda x: x.logsumexp((1, 2)), [1, 2])
called("argmin", "argmin", [ties], lambda x: x.argmin(-1).double(), grads=[])
called("embedding", "embedding", [rand(7, 6), labels(11, 7)], lambda w, i: F.embedding(i, w))
called("takeAlong", "takeAlong", [x, labels(4 * 3 * 5, 6).reshape(4, 3, 5)], lambda x, i: x.gather(1, i), 1)
target = rand(4, 6, 5)
for reduction in ("mean", "sum", "none"):
    options = {"reduction": reduction}
    for op, compute in {
        "mseLoss": F.mse_loss, "l1Loss": F.l1_loss, "huberLoss": F.huber_loss,
        "binaryCrossEntropyWithLogits": F.binary_cross_entropy_with_logits,
    }.items():  # fmt: skip
        called(f"{op}_{reduction}", op, [x * 3, target],
               lambda x, t, f=compute, r=reduction: f(x, t, reduction=r), options)  # fmt: skip
called("huberLoss_delta", "huberLoss", [x * 3, target], lambda x, t: F.huber_loss(x, t, delta=0.3), {"delta": 0.3})
chances = rand(4, 6, low=0.0, high=1.0)
chances[0, :2] = [0.0, 1.0]
called("binaryCrossEntropy_ends", "binaryCrossEntropy", [chances, rand(4, 6, low=0.0, high=1.0)],
       F.binary_cross_entropy, grads=[0])  # fmt: skip
called("binaryCrossEntropy_inside", "binaryCrossEntropy", [chances[1:], rand(3, 6, low=0.0, high=1.0)],
       F.binary_cross_entropy, grads=[0])  # fmt: skip
called("bce_weight", "binaryCrossEntropyWithLogits", [x * 20, target],
       lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor(2.5, dtype=x.dtype)),
       {"posWeight": 2.5})  # fmt: skip
simple("layerNorm", "layerNorm", [x, rand(6, 5), rand(6, 5)], lambda x, w, b: F.layer_norm(x, (6, 5), w, b))
simple("groupNorm", "groupNorm", [rand(2, 6, 3, 4), rand(6), rand(6)], lambda x, w, b: F.group_norm(x, 3, w, b))

# Matrix products --------------------------------------------------------------------------------------

for m, k, n in ((1, 1, 1), (1, 17, 5), (7, 1, 9), (13, 11, 1), (5, 7, 3), (16, 16, 16), (37, 53, 29)):
    for ta, tb in ((False, False), (True, False), (False, True), (True, True)):
        if (m, k, n) == (37, 53, 29) and ta != tb:
            continue
        simple(
            f"matmul_{m}x{k}x{n}_{'t' if ta else 'n'}{'t' if tb else 'n'}", "matmul",
            [rand(*((k, m) if ta else (m, k))), rand(*((n, k) if tb else (k, n)))],
            lambda a, b, ta=ta, tb=tb: (a.T if ta else a) @ (b.T if tb else b),
            transposeA=ta, transposeB=tb,
        )  # fmt: skip

for name, n, c_in, c_out, bias in (
    ("linear", 5, 13, 10, True), ("linear_one", 1, 33, 7, True), ("linear_no_bias", 3, 9, 5, False),
):  # fmt: skip
    xs = [rand(n, c_in), rand(c_out, c_in)] + ([rand(c_out)] if bias else [])
    simple(name, "linear", xs, F.linear)

# Convolution ------------------------------------------------------------------------------------------

# name: (N, C, H, W), (O, KH, KW), stride, padding, bias
CONVS = {
    "1x1": ((2, 3, 5, 7), (5, 1, 1), 1, 0, True),
    "1x1_stride2": ((2, 4, 7, 5), (8, 1, 1), 2, 0, True),
    "1x1_pad1": ((1, 3, 4, 3), (5, 1, 1), 1, 1, True),
    "1x1_wide": ((3, 16, 4, 3), (16, 1, 1), 1, 0, True),
    "3x3": ((2, 3, 6, 5), (5, 3, 3), 1, 1, True),
    "3x3_no_bias": ((2, 3, 6, 5), (5, 3, 3), 1, 1, False),
    "3x3_valid": ((2, 4, 7, 9), (8, 3, 3), 1, 0, True),
    "3x3_stride2": ((3, 4, 7, 9), (5, 3, 3), 2, 1, True),
    "3x3_stride2_even": ((2, 8, 8, 6), (8, 3, 3), 2, 1, True),
    "3x3_stride3": ((2, 3, 11, 8), (5, 3, 3), 3, 0, True),
    "3x3_pad2": ((1, 1, 5, 4), (8, 3, 3), 1, 2, True),
    "3x3_one_out": ((2, 8, 5, 7), (1, 3, 3), 1, 1, True),
    "3x3_wide": ((2, 16, 7, 5), (16, 3, 3), 1, 1, True),
    "3x3_wide_even": ((1, 8, 8, 8), (16, 3, 3), 1, 1, True),
    "3x3_one_pixel": ((3, 8, 1, 1), (5, 3, 3), 1, 1, True),
    "3x3_two_pixels_stride2": ((3, 8, 2, 2), (5, 3, 3), 2, 1, True),
    "3x3_exact_fit": ((2, 3, 3, 3), (5, 3, 3), 1, 0, True),
    "5x5": ((1, 3, 9, 7), (5, 5, 5), 1, 2, True),
    "5x5_stride2_pad3": ((2, 1, 7, 10), (8, 5, 5), 2, 3, True),
    "5x5_stride3": ((1, 4, 11, 9), (5, 5, 5), 3, 1, True),
    "7x7_stem": ((2, 1, 15, 12), (8, 7, 7), 2, 3, True),
    "7x7_stem_rgb": ((1, 3, 12, 14), (5, 7, 7), 2, 3, True),
    "7x7": ((1, 1, 9, 8), (5, 7, 7), 1, 3, True),
    "7x7_valid_stride3": ((1, 3, 13, 16), (5, 7, 7), 3, 0, True),
    "3x5": ((2, 3, 7, 9), (5, 3, 5), 1, [1, 2], True),
    "5x3_strides": ((2, 3, 9, 8), (5, 5, 3), [2, 1], [2, 0], True),
    "1x7": ((1, 4, 3, 11), (5, 1, 7), [1, 3], [0, 3], False),
    "3x1_scalar": ((1, 3, 7, 5), (8, 3, 1), 2, 1, True),
}
for name, ((n, c, h, w), (o, kh, kw), stride, padding, bias) in CONVS.items():
    bound = (c * kh * kw) ** -0.5
    xs = [rand(n, c, h, w), rand(o, c, kh, kw, low=-bound, high=bound)]
    simple(
        f"conv_{name}", "conv2d", xs + ([rand(o)] if bias else []),
        lambda x, w, b=None, s=stride, p=padding: F.conv2d(x, w, b, stride=s, padding=p),
        stride=stride, padding=padding,
    )  # fmt: skip

# Batch norm -------------------------------------------------------------------------------------------

EPS, MOMENTUM = 1e-5, 0.1


def batch_norm(name, x, eps=EPS, momentum=MOMENTUM):
    c = x.shape[1]
    mean_in, var_in = rand(c), rand(c, low=0.5, high=2)

    def compute(state, x, gamma, beta):
        state["running_mean_in"] = torch.tensor(mean_in).to(x.dtype)
        state["running_var_in"] = torch.tensor(var_in).to(x.dtype)
        mean, var = state["running_mean_in"].clone(), state["running_var_in"].clone()
        y = F.batch_norm(x, mean, var, gamma, beta, training=True, momentum=momentum, eps=eps)
        state["running_mean_out"], state["running_var_out"] = mean, var
        return y

    xs = [x, rand(c, low=0.5, high=1.5), rand(c, low=-0.5, high=0.5)]
    case(name, "batchNorm", {"eps": eps, "momentum": momentum}, xs, compute)


batch_norm("batch_norm", rand(3, 5, 4, 7, low=-2, high=2))
batch_norm("batch_norm_one_image", rand(1, 3, 5, 3))
batch_norm("batch_norm_one_pixel", rand(4, 7, 1, 1))
batch_norm("batch_norm_many", rand(2, 2, 19, 17))
batch_norm("batch_norm_eps_momentum", rand(2, 3, 5, 5), eps=1e-3, momentum=0.3)
batch_norm("batch_norm_offset_100", rand(4, 3, 6, 5, low=99.5, high=100.5))
batch_norm("batch_norm_offset_minus_100", rand(4, 3, 6, 5, low=-100.05, high=-99.95))
constant = rand(3, 4, 3, 5)
constant[:, 1], constant[:, 2] = 0.0, 3.5  # channels without any variance: eps decides
batch_norm("batch_norm_constant_channels", constant)
batch_norm("batch_norm_tiny", rand(3, 4, 5, 3, low=-1e-3, high=1e-3))

for name, shape in (("batch_norm_eval", (2, 5, 4, 3)), ("batch_norm_eval_one", (1, 3, 1, 1))):
    c = shape[1]
    case(
        name, "batchNormEval", {"eps": EPS},
        [rand(*shape), rand(c, low=0.5, high=1.5), rand(c), rand(c), rand(c, low=0.2, high=2)],
        lambda _, x, gamma, beta, m, v: F.batch_norm(x, m, v, gamma, beta, training=False, eps=EPS),
        grads=[0, 1, 2],
    )  # fmt: skip

# Pooling ----------------------------------------------------------------------------------------------

# name: input, kernelSize, stride, padding
POOLS = {
    "2_2_0": (rand(2, 3, 6, 8), 2, 2, 0),
    "2_2_0_odd": (rand(2, 3, 7, 5), 2, 2, 0),
    "3_2_1": (rand(2, 3, 9, 8), 3, 2, 1),
    "3_2_1_even": (rand(1, 5, 8, 6), 3, 2, 1),
    "3_1_1": (rand(2, 3, 5, 4), 3, 1, 1),
    "3_3_0": (rand(1, 2, 10, 11), 3, 3, 0),
    "2_3_1": (rand(2, 1, 8, 7), 2, 3, 1),
    "pairs": (rand(2, 3, 7, 9), [2, 3], [1, 2], [1, 0]),
    "one_pixel": (rand(3, 2, 1, 1), 3, 2, 1),
}
MAX_ONLY = {
    "negative": (rand(2, 3, 5, 6, low=-3, high=-1), 3, 2, 1),  # padding must never win
    "ties_3_2_1": (integers(2, 3, 9, 8, low=-2, high=2), 3, 2, 1),
    "ties_2_2_0": (integers(2, 3, 6, 6, low=0, high=2), 2, 2, 0),
    "ties_3_1_1": (integers(1, 3, 6, 5, low=0, high=3), 3, 1, 1),
    "all_equal": (np.zeros((1, 2, 7, 7), np.float32), 3, 2, 1),
}
for name, (x, k, s, p) in (POOLS | MAX_ONLY).items():
    simple(f"max_pool_{name}", "maxPool2d", [x], lambda x, a=(k, s, p): F.max_pool2d(x, *a),
           kernelSize=k, stride=s, padding=p)  # fmt: skip
for name, (x, k, s, p) in POOLS.items():
    simple(f"avg_pool_{name}", "avgPool2d", [x], lambda x, a=(k, s, p): F.avg_pool2d(x, *a),
           kernelSize=k, stride=s, padding=p)  # fmt: skip
for shape in ((2, 5, 3, 4), (3, 7, 1, 1), (1, 2, 13, 11)):
    simple(f"global_avg_pool_{shape[2]}x{shape[3]}", "globalAvgPool2d", [rand(*shape)],
           lambda x: F.avg_pool2d(x, kernel_size=x.size()[2:]))  # fmt: skip

# Losses and accuracy ----------------------------------------------------------------------------------

extreme = rand(6, 10)
extreme[np.arange(6), [0, 3, 3, 9, 5, 5]] = [80, -80, 80, 80, -80, 80]
extreme[5, 6] = 80
LOGITS = {
    "": rand(7, 10, low=-3, high=3),
    "_one": rand(1, 10),
    "_wide": rand(3, 33, low=-5, high=5),
    "_large": rand(9, 10, low=-80, high=80),
    "_extreme": extreme,
    "_equal": np.full((2, 10), 80.0, np.float32),
}
for name, x in LOGITS.items():
    y = labels(*x.shape)
    simple(f"cross_entropy{name}", "crossEntropy", [x, y], F.cross_entropy)
    simple(f"log_softmax{name}", "logSoftmax", [x], lambda x: F.log_softmax(x, dim=-1))


def correct_count(_, x, y):
    """numpy's argmax is the first maximum by contract; torch's is not."""
    return torch.tensor(float((x.detach().numpy().argmax(axis=1) == y.numpy()).sum()))


tied = integers(33, 10, low=-1, high=3)
first = tied.argmax(axis=1).astype(np.int32)
last = (9 - tied[:, ::-1].argmax(axis=1)).astype(np.int32)
for name, x, y in (
    ("correct_count", rand(65, 10), labels(65, 10)),
    ("correct_count_ties", tied, np.where(np.arange(33) % 3 == 0, last, first).astype(np.int32)),
    ("correct_count_all_equal", np.full((5, 10), -1.5, np.float32), np.array([0, 9, 0, 1, 0], np.int32)),
    ("correct_count_one", np.array([[-3, -1, -2]], np.float32), np.array([1], np.int32)),
):
    case(name, "correctCount", {}, [x, y], correct_count, grads=[])

# Label smoothing --------------------------------------------------------------------------------------

for name, x in LOGITS.items():
    for smoothing in (0.1,) if name else (0.1, 0.9, 1.0):
        simple(f"cross_entropy{name}_smooth_{smoothing}", "crossEntropy", [x, labels(*x.shape)],
               lambda x, y, s=smoothing: F.cross_entropy(x, y, label_smoothing=s),
               labelSmoothing=smoothing)  # fmt: skip

# Weights, labels to ignore, shares, pixels ------------------------------------------------------------

pixels, classes = rand(2, 5, 3, 4, low=-4, high=4), rand(5, low=0.2, high=2)
of_pixels = labels(24, 5).reshape(2, 3, 4)
for smoothing in (0.0, 0.2):
    for reduction in ("none", "mean", "sum"):
        options = {"reduction": reduction, "labelSmoothing": smoothing}
        torches = {"reduction": reduction, "label_smoothing": smoothing}
        simple(f"cross_entropy_pixels_{reduction}_{smoothing}", "crossEntropy", [pixels, of_pixels, classes],
               lambda x, y, w, t=torches: F.cross_entropy(x, y, w.detach(), ignore_index=3, **t),
               grads=[0], ignoreIndex=3, **options)  # fmt: skip
        simple(f"cross_entropy_shares_{reduction}_{smoothing}", "crossEntropy",
               [pixels, rand(2, 5, 3, 4, low=0), classes],
               lambda x, y, w, t=torches: F.cross_entropy(x, y, w.detach(), **t),
               grads=[0, 1], **options)  # fmt: skip
voids = np.where(of_pixels == 2, 255, of_pixels).astype(np.int32)
called("cross_entropy_voids", "crossEntropy", [pixels, voids],
       lambda x, y: F.cross_entropy(x, y, ignore_index=255), {"ignoreIndex": 255})  # fmt: skip
called("cross_entropy_unbatched", "crossEntropy", [rand(7), np.array(4, np.int32)], F.cross_entropy)
for reduction in ("none", "mean", "sum"):
    called(f"nll_{reduction}", "nllLoss", [pixels, of_pixels],
           lambda x, y, r=reduction: F.nll_loss(x, y, ignore_index=0, reduction=r),
           {"ignoreIndex": 0, "reduction": reduction})  # fmt: skip
for axis in (0, 1, -2):
    called(f"softmax_{axis}", "softmax", [pixels], lambda x, a=axis: x.softmax(a), {"axis": axis})
    called(f"logSoftmax_{axis}", "logSoftmax", [pixels], lambda x, a=axis: x.log_softmax(a), {"axis": axis})
    for op in ("argmax", "argmin"):
        called(f"{op}_{axis}", op, [pixels], lambda x, a=axis, f=op: getattr(x, f)(a).double(),
               {"axis": axis}, grads=[])  # fmt: skip
simple("linear_sequence", "linear", [rand(2, 3, 7), rand(5, 7), rand(5)], F.linear)
simple("linear_vector", "linear", [rand(7), rand(5, 7)], F.linear)

# Crops and flips --------------------------------------------------------------------------------------


def crop_flip(x, draws, padding):
    """What torchvision's RandomCrop(size, padding=padding) and RandomHorizontalFlip do, once they have drawn."""
    h, w = x.shape[2:]
    padded = F.pad(x, [padding] * 4)
    crops = [image[:, top : top + h, left : left + w] for image, (top, left, _) in zip(padded, draws)]
    return torch.stack([crop.flip(-1) if flip else crop for crop, (*_, flip) in zip(crops, draws)])


def draws(epoch, n):
    """The first n of an epoch, as lib/train/recipe.ts draws them."""
    words = philox_u32(SEED, 2**31 + epoch, 3 * n).astype(np.uint64).reshape(n, 3)
    return (words * np.array([9, 9, 2], np.uint64) >> np.uint64(32)).astype(np.int32)


corners = np.array([(t, l, f) for t in (0, 4, 8) for l in (0, 4, 8) for f in (0, 1)], np.int32)
for name, x, rows, epoch in (
    ("fashion", integers(40, 1, 28, 28, low=0, high=256), draws(3, 40), 3),
    ("corners", integers(18, 3, 5, 7, low=0, high=256), corners, None),
):
    simple(f"crop_flip_{name}", "cropFlip", [x, rows], lambda x, d: crop_flip(x, d, 4),
           grads=[], padding=4, epoch=epoch)  # fmt: skip

# Convolutions with taps apart, groups, the same size; transposed ones ----------------------------------

# name: (N, C, H, W), (O, KH, KW), stride, padding, dilation, groups
SPREAD = {
    "dilation2": ((2, 3, 9, 8), (5, 3, 3), 1, 2, 2, 1),
    "dilation_wide": ((1, 8, 11, 9), (12, 3, 3), 1, [2, 3], [2, 3], 1),
    "dilation_stride2": ((2, 4, 9, 11), (8, 3, 2), 2, 1, [2, 3], 1),
    "dilation_same": ((1, 3, 6, 7), (4, 2, 4), 1, "same", [3, 1], 1),
    "groups2": ((2, 6, 5, 7), (4, 3, 3), 1, 1, 1, 2),
    "groups3_stride2": ((1, 12, 7, 6), (24, 3, 3), 2, 1, 1, 3),
    "groups4_dilation2": ((2, 16, 7, 8), (16, 3, 3), 1, 2, 2, 4),
    "depthwise": ((2, 8, 7, 9), (8, 3, 3), 1, 1, 1, 8),
    "depthwise_odd_stride2": ((1, 5, 9, 8), (5, 5, 3), [2, 1], [2, 1], 1, 5),
    "depthwise_dilation": ((1, 4, 9, 10), (4, 3, 3), 2, "valid", [2, 3], 4),
    "depthwise_twice_same": ((1, 3, 5, 6), (6, 3, 4), 1, "same", 1, 3),
}
for name, ((n, c, h, w), (o, kh, kw), stride, padding, dilation, groups) in SPREAD.items():
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    simple(f"conv_{name}", "conv2d", [rand(n, c, h, w), rand(o, c // groups, kh, kw), rand(o)],
           lambda x, w, b, k=options: F.conv2d(x, w, b, **k), **options)  # fmt: skip
    if isinstance(padding, str):
        continue
    steps = [stride, stride] if isinstance(stride, int) else stride
    more = [step - 1 for step in steps]
    simple(f"conv_transpose_{name}", "convTranspose2d",
           [rand(n, o, 4, 3), rand(o, c // groups, kh, kw), rand(c)],
           lambda x, w, b, k=options | {"output_padding": more}: F.conv_transpose2d(x, w, b, **k),
           **options, outputPadding=more)  # fmt: skip
simple("conv_transpose_2x2", "convTranspose2d", [rand(2, 8, 3, 5), rand(8, 4, 2, 2)],
       lambda x, w: F.conv_transpose2d(x, w, stride=2), stride=2)  # fmt: skip
simple("conv_transpose_more_than_stride", "convTranspose2d", [rand(1, 4, 3, 2), rand(4, 3, 2, 3), rand(3)],
       lambda x, w, b: F.conv_transpose2d(x, w, b, dilation=[4, 3], output_padding=[3, 2]),
       dilation=[4, 3], outputPadding=[3, 2])  # fmt: skip

# Windows that end outside, blocks, other sizes --------------------------------------------------------

# name: input, kernelSize, stride, padding
CEILED = {
    "3_2_1": (rand(2, 3, 8, 6), 3, 2, 1),
    "pairs": (rand(1, 4, 9, 8), [3, 2], [2, 3], [1, 0]),
    "last_in_padding": (rand(2, 2, 6, 5), 2, 4, 1),
    "larger": (rand(1, 3, 2, 7), 3, 2, 0),
}
for name, (x, k, s, p) in CEILED.items():
    simple(f"max_pool_ceil_{name}", "maxPool2d", [x], lambda x, a=(k, s, p): F.max_pool2d(x, *a, ceil_mode=True),
           kernelSize=k, stride=s, padding=p, ceilMode=True)  # fmt: skip
    for counted in (True, False):
        simple(f"avg_pool_ceil_{name}_{'' if counted else 'un'}counted", "avgPool2d", [x],
               lambda x, a=(k, s, p, True, counted): F.avg_pool2d(x, *a),
               kernelSize=k, stride=s, padding=p, ceilMode=True, countIncludePad=counted)  # fmt: skip
simple("avg_pool_uncounted", "avgPool2d", [rand(2, 3, 7, 8)],
       lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
       kernelSize=3, stride=2, padding=1, countIncludePad=False)  # fmt: skip
for shape, size in (((2, 3, 7, 9), [3, 4]), ((1, 8, 10, 6), [4, 6]), ((1, 2, 3, 4), [5, 7]), ((2, 4, 8, 6), [4, 3]),
                    ((1, 3, 5, 4), [None, 3]), ((1, 5, 11, 13), 7), ((2, 3, 4, 5), 1)):  # fmt: skip
    simple(f"adaptive_avg_pool_{'x'.join(map(str, shape))}_{size}", "adaptiveAvgPool2d", [rand(*shape)],
           lambda x, size=size: F.adaptive_avg_pool2d(x, size), outputSize=size)  # fmt: skip
for label, shape, options in (
    ("twice", (2, 3, 3, 5), {"scale_factor": 2}),
    ("odd", (1, 4, 5, 7), {"size": [8, 3]}),
    ("fractions", (1, 2, 5, 3), {"scale_factor": [1.7, 2.5]}),
    ("smaller", (1, 3, 7, 9), {"scale_factor": 0.45}),
):
    modes = {"nearest": {}, "bilinear": {"align_corners": False}, "corners": {"align_corners": True}}
    for mode, more in modes.items():
        more = more | {"mode": "nearest" if mode == "nearest" else "bilinear"}
        names = {"scale_factor": "scaleFactor", "align_corners": "alignCorners"}
        simple(f"upsample_{mode}_{label}", "upsample", [rand(*shape)],
               lambda x, o=options | more: F.interpolate(x, **o),
               **{names.get(key, key): value for key, value in (options | more).items()})  # fmt: skip

# ------------------------------------------------------------------------------------------------------

save(OUT, tensors, {"cases": json.dumps(cases), "torch": torch.__version__})
worst: dict[tuple[str, str], tuple[float, str]] = {}
for c in cases:
    for key, error in c["f32"].items():
        worst[c["op"], key] = max(worst.get((c["op"], key), (0.0, "")), (error, c["name"]))
print("PyTorch float32 against float64, worst case of each op: max |difference| / max |value|")
for (op, key), (error, name) in worst.items():
    print(f"  {op:16} {key:16} {error:.1e}  {name}")
print(f"{OUT}: {len(cases)} cases, {len(tensors)} tensors, {OUT.stat().st_size / 1e6:.2f} MB")
