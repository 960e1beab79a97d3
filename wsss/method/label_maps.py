"""From merged class probabilities to the label map of a photograph."""

from collections.abc import Sequence

import numpy as np

from wsss.configuration.method_sections import SEGMENTATION_CRF, Crf
from wsss.method.crf import refine_segmentation, working_size
from wsss.storage.pixels import resize_maps

NO_CRF = SEGMENTATION_CRF.model_copy(update={"iterations": 0})


def label_map_of(
    image: np.ndarray, probabilities: np.ndarray, labels: Sequence[int], crf: Crf
) -> np.ndarray:
    """The class of every pixel, after the test CRF.

    Args:
        image: uint8 RGB (H, W, 3).
        probabilities: float (K, h, w), on any grid; up-sampled to the photograph.
        labels: what the K maps are of, as in label maps: 0 is background.
        crf: section `prediction.crf`; with 0 iterations the most probable class is taken.

    Returns:
        uint8 (H, W).
    """
    if crf.iterations:
        probabilities = resize_maps(probabilities, working_size(image.shape[:2], crf))
        probabilities = refine_segmentation(image, probabilities, crf)
    else:
        probabilities = resize_maps(probabilities, image.shape[:2])
    return np.asarray(labels, dtype=np.uint8)[probabilities.argmax(axis=0)]


def merged_label_map(
    probabilities: np.ndarray, labels: Sequence[int], size: Sequence[int]
) -> np.ndarray:
    """The label map of all views before the CRF; arguments as in `label_map_of`.

    `size` is (height, width) of the photograph, of which nothing else counts here.
    """
    return label_map_of(np.empty((*size, 3), np.uint8), probabilities, labels, NO_CRF)
