"""Makes tests/fixtures/resize_pil.safetensors: what Pillow's bilinear resize makes of images.

    pip install "pillow<13" numpy
    python make_resize.py        (reads data/fashion-mnist)

It is what torchvision's Resize does to a PIL image of mode "L" or "RGB": each tensor is Pillow's output, byte for
byte.  Rows are always resampled before columns up to Pillow 12; from 13 on, columns come first where
(rows lost) > 2 * (columns lost), which differs in a last bit here and there.  Square images are the same in all
versions.

Keys, all U8 [count, height, width]:
    in_HxW             images: of the test set where 28x28, then random bytes, then a hard edge
    out_HxW_of_IxJ     the images in_IxJ (as many of the first as there are) resized to H rows, W columns
    png_MODE           a PNG file, [bytes], of 37 rows and 23 columns in Pillow's mode RGB, P (a palette) or L
    white_MODE         [37, 23]: the grey file png_MODE, which has transparency, laid on white
    rgb_HxW_of_MODE    that file as Image.open().convert("RGB").resize() has it: [red green blue, H, W]
"""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "data" / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"

# (rows, columns) of the input: [(rows, columns, how many images) of the outputs]
CASES = {
    (28, 28): [
        (96, 96, 4), (224, 224, 1), (20, 20, 4), (28, 28, 4), (28, 40, 4),
        (40, 28, 4), (1, 1, 4), (29, 27, 4), (7, 64, 4),
    ],
    (37, 23): [(25, 16, 3), (102, 64, 2), (16, 25, 3), (37, 5, 3), (3, 23, 3)],
    (5, 131): [(8, 209, 2), (3, 78, 2), (64, 2, 2)],
    (1, 1): [(3, 2, 2)],
    (2, 3): [(7, 11, 2), (1, 2, 2)],
}


def inputs(height, width, rng):
    edge = np.zeros((height, width), np.uint8)
    edge[: (height + 1) // 2, : (width + 1) // 2] = 255
    images = [rng.integers(0, 256, (height, width), np.uint8), edge]
    if (height, width) == (28, 28):
        pixels = np.frombuffer(gzip.decompress(DATA.read_bytes()), np.uint8, offset=16)
        images = [*pixels.reshape(-1, 28, 28)[:2], *images]
    elif height > 2:
        images.insert(0, rng.integers(0, 2, (height, width), np.uint8) * 255)
    return np.stack(images)


# Degrees, counter-clockwise.
TURNS = [-15, -4.25, 0.5, 11, 40, 90]


def files(rng):
    noise = Image.fromarray(rng.integers(0, 256, (37, 23, 3), np.uint8))
    for mode, image in {"RGB": noise, "P": noise.quantize(16), "L": noise.convert("L")}.items():
        assert image.mode == mode
        file = io.BytesIO()
        image.save(file, "png")
        yield mode, file


def veiled(rng):
    slope = np.add.outer(np.arange(37) * 5, np.arange(23) * 3).astype(np.uint8)
    alpha = np.clip(rng.integers(-60, 320, (37, 23)), 0, 255).astype(np.uint8)
    for mode, alpha in {"LA": alpha, "LA_slope": slope[::-1] // 2 + 40}.items():
        file = io.BytesIO()
        Image.fromarray(np.stack([slope, alpha], -1), "LA").save(file, "png")
        whole = slope * (alpha / 255) + 255 * (1 - alpha / 255)
        yield mode, file, np.round(whole).astype(np.uint8)


def main():
    assert int(PIL.__version__.split(".")[0]) < 13, "Pillow 13 takes columns first for some shapes"
    rng = np.random.default_rng(20240607)
    tensors = {}
    for (height, width), outputs in CASES.items():
        images = inputs(height, width, rng)
        tensors[f"in_{height}x{width}"] = images
        for rows, columns, count in outputs:
            tensors[f"out_{rows}x{columns}_of_{height}x{width}"] = np.stack([
                np.asarray(Image.fromarray(image).resize((columns, rows), Image.BILINEAR))
                for image in images[:count]
            ])
    for mode, file in files(np.random.default_rng(13)):
        tensors[f"png_{mode}"] = np.frombuffer(file.getvalue(), np.uint8)
        for rows, columns in [(37, 23), (64, 96), (16, 12), (8, 40), (75, 9)]:
            image = Image.open(file).convert("RGB").resize((columns, rows), Image.BILINEAR)
            tensors[f"rgb_{rows}x{columns}_of_{mode}"] = np.asarray(image).transpose(2, 0, 1)

    for mode, file, whole in veiled(np.random.default_rng(14)):
        tensors[f"png_{mode}"] = np.frombuffer(file.getvalue(), np.uint8)
        tensors[f"white_{mode}"] = whole

    noise = np.random.default_rng(15).integers(0, 256, (37, 23), np.uint8)
    smooth = np.add.outer(np.arange(37) * 3, np.arange(23) * 4).astype(np.uint8)
    tensors["unturned"] = np.stack([noise, smooth])
    for angle in TURNS:
        tensors[f"turned_{angle}"] = np.stack([
            np.asarray(Image.fromarray(image).rotate(angle, Image.BILINEAR)) for image in tensors["unturned"]
        ])

    header, offset = {"__metadata__": {"pillow": PIL.__version__}}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "U8", "shape": array.shape, "data_offsets": [offset, offset + array.size]}
        offset += array.size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    target = HERE.parent / "fixtures" / "resize_pil.safetensors"
    with target.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in tensors.values():
            file.write(array.tobytes())
    print(f"{target}: {len(tensors)} tensors, {target.stat().st_size} bytes, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()
