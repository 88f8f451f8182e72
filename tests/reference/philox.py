"""Philox4x32-10 in numpy: the same numbers as lib/graph/random.ts, bit for bit.

A sequence is named by (seed, stream).  Its u32 values are the four words of block 0, then those of
block 1, and so on, where block b is Philox4x32-10 of

    counter = (b mod 2^32, b div 2^32, stream, 0)      key = (seed mod 2^32, seed div 2^32)

uniform(seed, stream, n, low, high) is low + (high - low) * ((u >> 8) * 2^-24), computed in float64 from
float64 bounds and rounded once, to float32, at the end.

    python philox.py        # checks the published known answer and prints a few values
"""

import numpy as np

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox_u32(seed: int, stream: int, n: int) -> np.ndarray:
    """The first n u32 values of the sequence (seed, stream)."""
    block = np.arange((n + 3) // 4, dtype=np.uint64)
    c0, c1 = block & MASK, block >> HALF
    c2, c3 = np.full_like(block, stream), np.zeros_like(block)
    key_0, key_1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        product_0, product_1 = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2  # 32 x 32 bits: never overflows
        c0, c1, c2, c3 = (
            (product_1 >> HALF) ^ c1 ^ np.uint64(key_0),
            product_1 & MASK,
            (product_0 >> HALF) ^ c3 ^ np.uint64(key_1),
            product_0 & MASK,
        )
        key_0, key_1 = (key_0 + WEYL_0) & 0xFFFFFFFF, (key_1 + WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:n].astype(np.uint32)


def uniform(seed: int, stream: int, n: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """The first n values of the sequence (seed, stream) as float32, from low to high."""
    unit = (philox_u32(seed, stream, n) >> np.uint32(8)) * 2.0**-24
    return (low + (high - low) * unit).astype(np.float32)


if __name__ == "__main__":
    words = [f"{w:08x}" for w in philox_u32(0, 0, 4)]
    assert words == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"], words
    print("known answer:", *words)
    print("seed 7, stream 1000, uniform(0, 1):", *uniform(7, 1000, 5))
    print("seed 2^32 + 7, stream 3, uniform(-0.3, 0.7):", *uniform(2**32 + 7, 3, 5, -0.3, 0.7))
