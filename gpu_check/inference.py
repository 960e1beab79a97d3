"""What a trained network costs on whole photographs: CAMs and predictions."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from gpu_check.answers import Answer
from gpu_check.material import Material, photographs
from gpu_check.speed import synchronise
from wsss.method.inference import Viewer, initial_cams, predict

# PSA's eight views for CAMs; the five scales of the paper's test.
CAM_VIEWS = {"scales": [1.0, 0.5, 1.5, 2.0], "flip": True}
PREDICTION = {"scales": [0.5, 0.75, 1.0, 1.25, 1.5], "flip": False, "merge": "max"}


def answers(material: Material) -> Iterator[Answer]:
    """Seconds and memory of a photograph, the second time it is seen."""
    network = material.network()
    viewer = Viewer(network.to(material.device).eval(), material.device)
    for image in photographs(material):
        height, width = image.shape[:2]
        where = f"of {width}x{height}"
        yield _measured(material, f"CAMs {where}, 8 views", lambda i=image: _cams(viewer, i))
        yield _measured(
            material,
            f"prediction {where}, 5 scales",
            lambda i=image: predict(viewer, i, **PREDICTION),
        )


def _cams(viewer: Viewer, image: np.ndarray) -> np.ndarray:
    return initial_cams(viewer, image, [0, 1], **CAM_VIEWS)


def _measured(material: Material, question: str, job: Callable) -> Answer:
    on_gpu = material.device.type == "cuda"
    try:
        job()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(material.device)
        synchronise(material.device)
        start = time.perf_counter()
        job()
        synchronise(material.device)
    except torch.cuda.OutOfMemoryError:
        return Answer(question, "no memory for it", ok=False)
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(material.device) / 2**30 if on_gpu else None
    said = f"{seconds:.2f} s" + ("" if peak is None else f", {peak:.1f} GB")
    return Answer(question, said, figures={"seconds": seconds, "peak_gb": peak})
