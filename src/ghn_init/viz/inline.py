"""Small images inside of a page: PNG, without a library, as data that an `img` holds."""

from __future__ import annotations

import base64
import struct
import zlib
from html import escape

import torch
from torch import Tensor

MAGNIFIED = 4
"""Screen pixels of a pixel."""


def image(pixels: Tensor, title: str) -> str:
    """HTML of (H, W) or (H, W, 3) values from 0 to 1, with its title above."""
    height, width = pixels.shape[:2]
    data = base64.b64encode(_png((pixels * 255).round().to(torch.uint8))).decode()
    return (
        f'<figure style="display:inline-block;margin:.5em"><figcaption>{escape(title)}</figcaption>'
        f'<img alt="{escape(title)}" width="{MAGNIFIED * width}" height="{MAGNIFIED * height}" '
        f'style="image-rendering:pixelated" src="data:image/png;base64,{data}"></figure>'
    )


def _png(pixels: Tensor) -> bytes:
    """Grey or colour, 8 bits (PNG specification, 5 and 11.2)."""
    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + line.contiguous().numpy().tobytes() for line in pixels)  # no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.dim() == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
