"""Makes tests/fixtures/python_written.safetensors, a file written by Python's own safetensors.

    pip install safetensors numpy
    python tests/reference/make_safetensors_fixture.py

It holds one tensor of several dtypes, a scalar, an empty tensor and metadata. The numbers that models are
tested with are in the PyTorch fixtures.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"

tensors = {
    "0.weight": (np.arange(6, dtype=np.float32) / 4 - 0.5).reshape(1, 2, 3),
    "1.num_batches_tracked": np.array(469, dtype=np.int64),
    "labels": np.array([0, 9, 255], dtype=np.uint8),
    "größe": np.array([-1, 2**31 - 1], dtype=np.int32),
    "empty": np.zeros((0, 4), dtype=np.float32),
}
path = FIXTURES / "python_written.safetensors"
save_file(tensors, path, metadata={"format": "pt", "note": 'a "quoted"\nline'})
print(f"{path}: {path.stat().st_size} bytes")
