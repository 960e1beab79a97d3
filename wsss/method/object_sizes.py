"""IoU of objects by their size: whether small objects are found, which mIoU hardly shows.

After "Small Objects Matters in Weakly-supervised Semantic Segmentation" (Mun et al., WACV 2024,
arXiv 2309.14117): the IoU of each object by itself, averaged over a class's objects and then over
classes, of all objects and of small, medium and large ones alone. Sizes are areas as in COCO: small
is below 32 x 32 pixels, large from 96 x 96 on.

That much follows the paper's abstract and introduction. Its section on the metric, IA-mIoU, and the
authors' code were not to be had when this was written, so what follows is ours: compare runs with
these scores, and do not put them beside the paper's.

- Masks are semantic. An object is a connected component of the ground truth of a class: two that
  touch count as one, and one that something hides in part counts as several.
- A semantic prediction names no objects, either. Each of its connected components is given to the
  objects that it touches: to each what lies on it, and of what lies beside all of them a share in
  proportion to the object's area. What touches no object of its class counts nowhere here;
  precision and mIoU see it.

Components are connected over corners, too. Background has no objects.
"""

import cv2
import numpy as np

from model.labels import IGNORE

SIZES = ("small", "medium", "large")
LIMITS = (32**2, 96**2)  # pixels, where the next size begins


def size_of(area: int) -> str:
    """The name of an object's size; its area is in pixels."""
    return SIZES[int(np.searchsorted(LIMITS, area, side="right"))]


def object_ious(prediction: np.ndarray, truth: np.ndarray) -> list[tuple[int, int, float]]:
    """Class id, area in pixels and IoU of every object of an image.

    Args:
        prediction, truth: uint8 (H, W) as `metrics.comparable` gives them.
    """
    return [
        (int(class_id), int(area), float(iou))
        for class_id in np.setdiff1d(truth, (0, IGNORE))
        for area, iou in zip(*_objects(prediction == class_id, truth == class_id), strict=True)
    ]


def _objects(predicted, true):
    """Areas and IoUs of the objects of a class, from its two masks."""
    where = predicted | true
    parts, objects = _components(predicted)[where], _components(true)[where]
    areas = np.bincount(objects)[1:]
    # Which part lies on which object, and with how many pixels. Number 0 is outside of all.
    pairs, pixels = np.unique(parts * (len(areas) + 1) + objects, return_counts=True)
    part, item = np.divmod(pairs, len(areas) + 1)
    beside = np.bincount(part, pixels * (item == 0))
    on = (part > 0) & (item > 0)
    part, item, pixels = part[on], item[on] - 1, pixels[on]
    touched = np.bincount(part, areas[item], minlength=len(beside))
    share = beside[part] * areas[item] / touched[part]
    hits, extra = (np.bincount(item, of, minlength=len(areas)) for of in (pixels, share))
    return areas, hits / (areas + extra)


def _components(mask):
    """Numbers 1.. of the connected components of a mask, and 0 elsewhere; (H, W)."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1].astype(np.int64)
