"""Makes `tests/fixtures/images/`: the first test image of Fashion-MNIST, an ankle boot, as Pillow writes files.

    python make_images.py

boot_tint.webp      lossy: dark blue on light grey, 84 x 84 pixels of 130 x 100
boot_turned.jpg     white background, stored lying on its side, with an EXIF note that says so
boot_alpha.png      black, its alpha the image
boot_palette.png    16 shades in a palette
boot_16.png         16 bits a pixel
"""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
OUT = ROOT / "tests/fixtures/images"
OUT.mkdir(exist_ok=True)
raw = gzip.open(ROOT / "data/fashion-mnist/t10k-images-idx3-ubyte.gz").read(16 + 28 * 28)
boot = np.frombuffer(raw, np.uint8, offset=16).reshape(28, 28)
large = np.asarray(Image.fromarray(boot).resize((84, 84), Image.Resampling.NEAREST))

light, dark = np.array([236, 238, 240.0]), np.array([0, 0, 40.0])
share = large[..., None] / 255
tint = np.full((100, 130, 3), light, np.uint8)
tint[6:90, 30:114] = light * (1 - share) + dark * share
Image.fromarray(tint).save(OUT / "boot_tint.webp", quality=80)

exif = Image.Exif()
exif[0x0112] = 6  # to be turned a quarter clockwise
paper = np.full((120, 100), 255, np.uint8)
paper[20:104, 8:92] = 255 - large
Image.fromarray(np.rot90(paper)).save(OUT / "boot_turned.jpg", quality=85, exif=exif)

alpha = np.zeros((84, 84, 4), np.uint8)
alpha[..., 3] = large
Image.fromarray(alpha).save(OUT / "boot_alpha.png")
Image.fromarray(large).quantize(16).save(OUT / "boot_palette.png")
Image.fromarray(large.astype(np.uint16) * 257).save(OUT / "boot_16.png")
