"""Which card and PyTorch, and whether they compute as `wsss.compute.devices` believes."""

import platform
import subprocess
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from gpu_check.answers import Answer
from gpu_check.material import Material
from wsss.compute.devices import PRECISIONS, autocast

# Largest error of a product of random numbers over the largest value, against float64: float32
# has 24 bits of mantissa, TF32 and float16 have 11, bfloat16 has 8.
FLOAT32_ERROR = 1e-5
LEAST_REDUCED_ERROR = 2e-5


def answers(material: Material) -> Iterator[Answer]:
    """The machine; then errors of a convolution and of a matrix product in each precision."""
    device = material.device
    yield Answer("card, driver, PyTorch", _machine(device), figures=_figures(device))
    for precision in PRECISIONS:
        errors = {
            "convolution": _error(device, precision, *_convolution()),
            "matrix product": _error(device, precision, *_product()),
        }
        text = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
        ok = _as_believed(errors, precision, device)
        yield Answer(f"error of {precision}", text, ok, errors)


def _machine(device: torch.device) -> str:
    if device.type != "cuda":
        threads = torch.get_num_threads()
        return f"no GPU: a miniature on {threads} CPU threads; PyTorch {torch.__version__}"
    figures = _figures(device)
    return (
        f"{figures['card']}, {figures['memory_gb']:.0f} GB, driver {figures['driver']}; "
        f"PyTorch {figures['torch']}, CUDA {figures['cuda']}, cuDNN {figures['cudnn']}"
    )


def _figures(device: torch.device) -> dict:
    figures = {"torch": torch.__version__, "python": platform.python_version()}
    if device.type != "cuda":
        return figures | {"card": None}
    card = torch.cuda.get_device_properties(device)
    return figures | {
        "card": card.name,
        "memory_gb": card.total_memory / 2**30,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def _convolution() -> tuple[Callable, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 64, 32, 32), (64, 64, 3, 3))
    return F.conv2d, [torch.randn(shape, generator=generator) for shape in shapes]


def _product() -> tuple[Callable, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return torch.matmul, [torch.randn(512, 512, generator=generator) for _ in range(2)]


def _error(device: torch.device, precision: str, function: Callable, values: list) -> float:
    exact = function(*(value.double() for value in values))
    with autocast(device, precision):
        found = function(*(value.to(device) for value in values)).double().cpu()
    return float((found - exact).abs().max() / exact.abs().max())


def _as_believed(errors: dict[str, float], precision: str, device: torch.device) -> bool:
    """fp32 is exact; tf32 rounds convolutions only, and on GPUs only; the others round both."""
    rounded = set() if precision == "fp32" else set(errors)
    if precision == "tf32":
        rounded = {"convolution"} if _has_tf32(device) else set()
    return all(
        error > LEAST_REDUCED_ERROR if name in rounded else error < FLOAT32_ERROR
        for name, error in errors.items()
    )


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
