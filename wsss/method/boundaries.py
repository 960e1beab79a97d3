"""Boundary IoU: how well the outlines of masks agree (Cheng et al., CVPR 2021).

IoU hardly sees the outline of a large object, since most of its pixels lie inside. Here only those
pixels of a mask count that lie within d of its outline, d being 2 % of the image's diagonal:
G_d of a true and P_d of a predicted mask, and |G_d & P_d| / |G_d | P_d|. Distances are in
king's moves and pixels beyond the image are outside of every mask, as in the authors' code
(bowenc0221/boundary-iou-api, which is for single objects and for panoptic segmentation).

Ours, since masks are semantic: a mask is all that an image has of a class, background too, and
both counts are summed over images before they are divided, as those of mIoU are.
"""

import cv2
import numpy as np

from model.labels import IGNORE

DISTANCE = 0.02  # of the diagonal


def boundary_overlap(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Intersection and union of the boundary regions of each class; sums feed `iou_of`.

    A pixel without ground truth belongs to no mask, whatever is predicted for it. So masks end
    where the unknown begins, and a prediction that is right wherever the truth is known scores 1.

    Args:
        prediction, truth: uint8 (H, W) as `comparable` gives them.
        num_classes: C, object classes without background.

    Returns:
        Pixels, int64 (2, C + 1).
    """
    distance = boundary_distance(truth.shape)
    predicted, true = (inner_boundaries(labels, distance) for labels in (prediction, truth))
    hits, *sizes = (
        np.bincount(labels, minlength=IGNORE + 1)[: num_classes + 1]
        for labels in (true[true == predicted], true.ravel(), predicted.ravel())
    )
    return np.stack([hits, sum(sizes) - hits])


def boundary_distance(size: tuple[int, int]) -> int:
    """d in pixels for an image of (height, width), at least 1."""
    return max(1, round(DISTANCE * float(np.hypot(*size))))


def inner_boundaries(labels: np.ndarray, distance: int) -> np.ndarray:
    """A label map without the inside of its masks.

    Args:
        labels: uint8 (H, W), classes and 255 for pixels of no mask.
        distance: pixels that have another label this near, or lie this near to what is beyond the
            image, are boundary.

    Returns:
        uint8 (H, W): the label of boundary pixels, 255 elsewhere.
    """
    # All masks at once: around a pixel inside a mask, the lowest and the highest label are its own.
    window = np.ones((2 * distance + 1,) * 2, np.uint8)
    lowest = cv2.erode(labels, window)
    highest = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=IGNORE)
    return np.where(lowest == highest, np.uint8(IGNORE), labels)
