"""Choosing where the network runs, and making it repeatable there."""

import ctypes
import logging
import os
import random
from typing import Any

import numpy as np
import torch

from wsss.compute.gpus import GPUS_OF_JOB, claim_gpus
from wsss.errors import InputError

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, gpus: int = 1) -> torch.device:
    """`auto`, `cuda` or `cpu` -> torch.device.

    Args:
        name: `auto` takes the GPU where there is one and says in one line where there is none.
        gpus: GPUs that the job was given; with 0 it must not touch one.

    Raises:
        InputError: `cuda` was asked for and there is no GPU: a silent run on the CPU would
            waste a night.
    """
    available = gpus > 0 and torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "device: cuda, but this job sees no GPU; run it on a GPU node, "
            "or set device: auto in the configuration to use the CPU"
        )
    if name == "cpu" or not available:
        if name == "auto":
            log.warning("no GPU: running on the CPU (device: auto)")
        return torch.device("cpu")
    return torch.device("cuda")


def make_repeatable(seed: int, device: torch.device, threads: int) -> None:
    """Seed every generator and ask for deterministic kernels."""
    torch.set_num_threads(max(1, threads))
    # A selective affinity is full of values below 1e-38, which CPUs multiply many times slower
    # than others: as zeros, training steps at stride 8 take 0.4 of the time. New threads inherit
    # the setting, so it comes before the first parallel work.
    torch.set_flush_denormal(True)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        # Some losses have no deterministic kernel on a GPU: those are named in a warning.
        torch.use_deterministic_algorithms(True, warn_only=True)


def prepare_device(name: str, gpus: int, seed: int, threads: int) -> torch.device:
    """`choose_device` for a job: GPUs claimed, and every random generator seeded for it."""
    if name != "cpu":
        claim_gpus(gpus)  # before torch looks for them
    device = choose_device(name, gpus)
    if device.type == "cuda":
        log.info("%s%d (%s)", GPUS_OF_JOB, gpus, torch.cuda.get_device_name(device))
    make_repeatable(seed, device, threads)
    return device


def random_state(device: torch.device) -> dict[str, Any]:
    """States of all random generators of this process, as tensors and plain values."""
    kind, words, *rest = np.random.get_state()
    cuda = device.type == "cuda"
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if cuda else None,
        "numpy": [kind, torch.from_numpy(words.astype(np.int64)), *rest],
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `random_state` returned."""
    kind, words, *rest = state["numpy"]
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    np.random.set_state((kind, words.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context for mixed precision; `fp32` and `tf32` switch it off.

    From here on, in the backward pass too, convolutions on a GPU round float32 to the 10 bits of
    TF32 only where `tf32` asks for it. PyTorch lets them by itself, and results are then a
    thousandth off; the affinities, which are no convolutions, stay exact in both.
    """
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


M_MMAP_THRESHOLD = -3  # of mallopt(3)
LARGE = 1 << 17  # bytes: what glibc begins with, before it adapts


def return_large_memory() -> None:
    """Have the C library give large pieces of memory back to the system once they are free.

    By itself glibc keeps them, and small pieces that stay, such as HDF5's, come to lie between
    them: segmenting 2,000 images of 256 x 192 pixels grew by 2.4 MB an image. Elsewhere this does
    nothing.
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
    except (AttributeError, OSError, TypeError):
        log.debug("no mallopt in this C library")
