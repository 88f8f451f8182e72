"""Writes a safetensors file whose bytes depend only on what is in it.

The safetensors package writes metadata keys in random order, so each run would change the committed file.  Here
tensors and metadata stay in the order given.  Only 4-byte types, so that every tensor is aligned.
"""

import json
import struct
from pathlib import Path

import numpy as np

DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.int32): "I32"}


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    header: dict[str, dict] = {"__metadata__": metadata}
    end = 0
    for name, x in tensors.items():
        start, end = end, end + x.nbytes
        header[name] = {"dtype": DTYPES[x.dtype], "shape": x.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for x in tensors.values():
            file.write(x.tobytes())  # row-major, whatever the array's strides
