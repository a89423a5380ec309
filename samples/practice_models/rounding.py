"""Training that knows it will be rounded: weights as the int4 build will hold them.

A large model hardly notices int4; a very small one loses its facts. In the last blocks of training
the forward pass therefore uses rounded weights, while the update goes to the exact ones (a
"straight-through" gradient). The weights settle where rounding does little harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

BLOCK_WEIGHTS = 32


def round_to_int4(weights: Tensor) -> Tensor:
    """The matrix with each row cut into blocks of 32, and each block on sixteen levels.

    The weight of largest size in a block becomes level -8, as in ONNX Runtime's symmetric format.

    >>> round_to_int4(torch.tensor([[-8.0, 3.4] + [0.0] * 30]))[0, :2].tolist()
    [-8.0, 3.0]
    """
    blocks = weights.reshape(-1, BLOCK_WEIGHTS)
    largest = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = torch.where(largest == 0, torch.ones_like(largest), largest / -8)
    return ((blocks / scale).round().clamp(-8, 7) * scale).reshape(weights.shape)


@contextmanager
def int4_weights(model: nn.Module) -> Iterator[None]:
    """Within the block all matrices of the model are rounded; afterwards they are exact again."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    exact = [matrix.data.clone() for matrix in matrices]
    for matrix in matrices:
        matrix.data.copy_(round_to_int4(matrix.data))
    try:
        yield
    finally:
        for matrix, values in zip(matrices, exact, strict=True):
            matrix.data.copy_(values)
