"""Computes the checksum that is stored in weights files and palette files to detect damage."""

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of the names, data types, shapes, and values of contiguous tensors on the CPU."""
    total = 0
    for name, value in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {value.dtype} {list(value.shape)}\n".encode(), total)
        total = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
