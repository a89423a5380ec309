"""Execution providers: what a model really runs on, and why a GPU cannot be used.

A variant's label says what it was built for. Only a registered provider says that it can run there.
Pure, but for one look at whether an NVIDIA driver is installed.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CPU_PROVIDER = "CPUExecutionProvider"
PREFERENCE = ("cuda", "tensorrt", "trtrtx", "openvino", "qnn", "webgpu")
GPU_FIX = (
    "For an NVIDIA GPU install its driver, CUDA 12 and cuDNN 9 (on ARM64: CUDA 13); where the CUDA provider "
    "cannot be downloaded, set FOUNDRY_LOCAL_CUDA_EP_LIBRARY to its file."
)
_GPU_NAMES = ("cuda", "tensorrt", "trtrtx", "webgpu", "dml", "migraphx")


def rank(provider: str | None) -> int:
    """Place of a provider in the order of preference; the lower the better."""
    name = (provider or "").lower()
    return next((place for place, part in enumerate(PREFERENCE) if part in name), len(PREFERENCE))


def is_gpu(provider: str) -> bool:
    """Whether a provider runs models on a GPU, and on nothing else."""
    return any(part in provider.lower() for part in _GPU_NAMES)


def has_gpu(registered: Sequence[str]) -> bool:
    """Whether any of the providers that a process registered runs models on a GPU."""
    return any(map(is_gpu, registered))


def why_no_gpu(discoverable: Sequence[str], fault: str | None) -> str:
    """Why no GPU provider is registered, as a sentence.

    Args:
        discoverable: providers that the runtime knows for this machine.
        fault: what it said when it tried to register them.
    """
    found = [provider for provider in discoverable if is_gpu(provider)]
    if found:
        reason = f" ({fault})" if fault else ""
        return f"{' and '.join(found)} was found but could not be registered{reason}."
    if shutil.which("nvidia-smi"):
        return "No GPU provider is registered, although an NVIDIA driver is installed."
    return "No GPU provider is registered: the runtime found no GPU that it can use."
