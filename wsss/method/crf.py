"""Dense conditional random fields (Krähenbühl and Koltun, 2011) over whole images.

Time and memory grow with the pixels, so that photographs longer than `long_side` of a CRF are
shrunk for it. Its reaches in pixels stay as they are: they are those of the field's benchmarks,
whose photographs have 500 pixels.
"""

import logging
from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from wsss.configuration.method_sections import SALIENCY_CRF, SEGMENTATION_CRF, Crf
from wsss.datasets.index import ImageRecord
from wsss.storage.images import shrink
from wsss.storage.pixels import Size, resize_maps, shrunk_size

log = logging.getLogger(__name__)

# Per pixel, measured at 1000x750 to 4000x3000 with 2 to 8 labels: 200 to 230 bytes with 2 labels,
# 28 more with each other one, 50 more in noisy photographs.
BYTES, BYTES_PER_LABEL = 220, 30
PROCESS = 200_000_000  # bytes: Python with all that it imports
SECONDS = 2.6e-6  # ten iterations on one core
SEVERAL_LABELS = 4  # of a photograph: background and the classes above 0.01 in it


def dense_crf(image: np.ndarray, unary: np.ndarray, crf: Crf) -> np.ndarray:
    """Marginals of a fully connected CRF after mean-field iterations.

    Args:
        image: uint8 RGB (H, W, 3), as it was read: never mean-subtracted.
        unary: float32 (L, H, W), negative log-probabilities of L labels.
        crf: iterations and the two pairwise terms, smoothness and appearance.

    Returns:
        float32 (L, H, W), summing to 1 over the labels.

    Raises:
        ValueError: the image is not uint8 RGB of the size of the unary.
    """
    # Here, so that GPU machines without pydensecrf can make the pseudo labels of stage 0.
    from pydensecrf import densecrf

    labels, height, width = unary.shape
    if image.dtype != np.uint8 or image.shape != (height, width, 3):
        raise ValueError(
            f"a CRF over maps of {height}x{width} needs a uint8 image of {(height, width, 3)}, not"
            f" {image.dtype} of {image.shape}"
        )
    field = densecrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1), dtype=np.float32))
    field.addPairwiseGaussian(sxy=crf.gaussian_sxy, compat=crf.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=crf.bilateral_sxy,
        srgb=crf.bilateral_srgb,
        rgbim=np.ascontiguousarray(image),
        compat=crf.bilateral_compat,
    )
    marginals = np.asarray(field.inference(crf.iterations), dtype=np.float32)
    return marginals.reshape(labels, height, width)


def working_size(size: Size, crf: Crf) -> Size:
    """(height, width) at which a CRF runs on a photograph of `size`."""
    return shrunk_size(size, crf.long_side)


def crf_bytes(size: Size, crf: Crf, labels: int = SEVERAL_LABELS) -> int:
    """Bytes that a process takes at most with a CRF over (height, width) and its maps."""
    around = 3 + 8 * labels  # RGB; marginals in float32, and what they are resized from
    field = BYTES + BYTES_PER_LABEL * labels
    return PROCESS + prod(size) * around + prod(working_size(size, crf)) * field


def crf_seconds(size: Size, crf: Crf) -> float:
    """Seconds that a CRF over (height, width) takes on one core."""
    return prod(working_size(size, crf)) * SECONDS * crf.iterations / 10


def crf_processes(
    records: Sequence[ImageRecord], crf: Crf, threads: int, mem_mb: int | None, labels: int
) -> int:
    """How many photographs a job may have in a CRF at once.

    As many as it has threads, and as its memory holds of the largest; None: nobody has set a limit.
    """
    needed = max((crf_bytes((r.height, r.width), crf, labels) for r in records), default=0)
    if not mem_mb or not needed:
        return threads
    processes = max(1, min(threads, mem_mb * 10**6 // needed))
    if processes < threads:
        log.info(
            "CRF: %d at once and not %d, as the largest takes %.1f GB of the %.1f GB of this job",
            *(processes, threads, needed / 1e9, mem_mb / 1e3),
        )
    return processes


def _refined(
    image: np.ndarray,
    probabilities: np.ndarray,
    crf: Crf,
    unary_of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Marginals at the size of the photograph, of probabilities (L, H, W)."""
    reduced = shrink(image, crf.long_side)
    if reduced is image:
        return dense_crf(image, unary_of(probabilities), crf)
    probabilities = resize_maps(probabilities, reduced.shape[:2])
    return resize_maps(dense_crf(reduced, unary_of(probabilities), crf), image.shape[:2])


def saliency_unary(saliency: np.ndarray) -> np.ndarray:
    """Energies of background and foreground for a saliency map.

    As in the CRF of DSS (Hou et al., TPAMI 2019), on which the paper's CRF_d rests: the sigmoid
    in the denominator softens confident pixels.

    Args:
        saliency: (H, W), probability of the foreground; what rounding put beyond 0 or 1 is cut off.

    Returns:
        float32 (2, H, W).
    """
    saliency = np.clip(np.asarray(saliency, np.float32), 0.0, 1.0)
    probability = np.stack([1.0 - saliency, saliency])
    sigmoid = 1.0 / (1.0 + np.exp(-probability))
    return -np.log(probability + 1e-8) / (1.05 * sigmoid)


def refine_saliency(
    image: np.ndarray, probability: np.ndarray, crf: Crf = SALIENCY_CRF
) -> np.ndarray:
    """CRF_d of the paper's equation 1.

    Args:
        image: uint8 RGB (H, W, 3).
        probability: (H, W), probability of the foreground.
        crf: of `pseudo_labels.saliency_crf`.

    Returns:
        float32 (H, W), the soft marginal of the foreground.
    """
    return _refined(image, probability[None], crf, lambda maps: saliency_unary(maps[0]))[1]


def refine_segmentation(
    image: np.ndarray, probabilities: np.ndarray, crf: Crf = SEGMENTATION_CRF
) -> np.ndarray:
    """The test CRF, over all labels that are given.

    Args:
        image: uint8 RGB (H, W, 3).
        probabilities: (C + 1, H, W), of background and the object classes; for a photograph above
            `crf.long_side` any size will do, such as `working_size`.
        crf: of `prediction.crf`.

    Returns:
        float32 (C + 1, H, W), marginals that sum to 1.
    """

    # In float32, as pydensecrf's own unary_from_softmax; a zero would have infinite energy.
    def unary(maps):
        return -np.log(np.clip(np.asarray(maps, np.float32), 1e-5, 1.0))

    return _refined(image, probabilities, crf, unary)
