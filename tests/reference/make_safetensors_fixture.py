"""Makes two files written by Python's own safetensors.

    pip install safetensors numpy torch
    python tests/reference/make_safetensors_fixture.py

tests/fixtures/python_written.safetensors holds one tensor of several dtypes, a scalar, an empty tensor and metadata.
The numbers that models are tested with are in the PyTorch fixtures.

tests/fixtures/python_floats.safetensors holds floats of other types, and what PyTorch makes of them as f32:
    F64, F16, BF16              special values and others
    F64.f32, F16.f32, BF16.f32  the same, by `.float()`
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

F32 = np.float64(2.0) ** np.arange(-152, 130)  # from below the least f32, which is 2^-149, to beyond the largest
# The middle between two f32s goes to the even one; a little more or less does not.
NEAR = [(1 + odd * 2.0**-24) * (1 + off) for odd in (1, 3) for off in (0, 2.0**-50, -(2.0**-50))]
SPECIAL = np.array([0.0, np.inf, np.nan, 2.0**128 - 2.0**103, np.nextafter(2.0**128 - 2.0**103, 0), 1e-45, 7e-46, 1e308])
DOUBLES = np.concatenate([F32, F32 * 1.5, F32 * (1 + 2.0**-24), F32 * 1.75, NEAR, SPECIAL])
HALVES = np.concatenate([np.arange(0, 65536, 61), [0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7F7F, 0x7F80, 0x7F81]])
BITS = torch.from_numpy(np.concatenate([HALVES, HALVES ^ 0x8000]).astype(np.uint16).view(np.int16))
floats = {
    "F64": torch.from_numpy(np.concatenate([DOUBLES, -DOUBLES])),
    "F16": BITS.clone().view(torch.float16),
    "BF16": BITS.clone().view(torch.bfloat16),
}
tensors = {
    "0.weight": (torch.arange(6, dtype=torch.float32) / 4 - 0.5).reshape(1, 2, 3),
    "1.num_batches_tracked": torch.tensor(469),
    "labels": torch.tensor([0, 9, 255], dtype=torch.uint8),
    "größe": torch.tensor([-1, 2**31 - 1], dtype=torch.int32),
    "empty": torch.zeros((0, 4)),
}
files = {
    "python_written": (tensors, {"format": "pt", "note": 'a "quoted"\nline'}),
    "python_floats": (floats | {f"{dtype}.f32": x.float() for dtype, x in floats.items()}, None),
}
for name, (content, metadata) in files.items():
    path = FIXTURES / f"{name}.safetensors"
    save_file(content, path, metadata=metadata)
    print(f"{path}: {path.stat().st_size} bytes")
