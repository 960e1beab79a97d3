"""All scores of label maps: of one image, and of the images of a split one after the other.

Neither depends on the order of the images, nor on how they lie in files or go to processes: counts
are whole numbers, and what is a mean of fractions keeps the fractions.
"""

from array import array
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from wsss.method.boundaries import boundary_overlap
from wsss.method.metrics import ConfusionMatrix, comparable, mean_defined
from wsss.method.object_sizes import object_ious, size_of


@dataclass(frozen=True)
class ImageScores:
    """What one label map scores.

    `boundary` is a `boundary_overlap`, `objects` are class id, area and IoU as of `object_ious`.
    """

    matrix: ConfusionMatrix
    boundary: np.ndarray
    objects: list[tuple[int, int, float]]


def score_image(
    prediction: np.ndarray, truth: np.ndarray, num_classes: int, ignore_prediction: str = "miss"
) -> ImageScores:
    """Scores of a label map against the ground truth; arguments are `ConfusionMatrix`'s.

    Raises:
        InputError: the two do not fit each other or the classes.
    """
    matrix = ConfusionMatrix(num_classes, ignore_prediction)
    matrix.update(prediction, truth)
    prediction, truth = comparable(prediction, truth, ignore_prediction)
    boundary = boundary_overlap(prediction, truth, num_classes)
    return ImageScores(matrix, boundary, object_ious(prediction, truth))


class Scores:
    """Scores of many images.

    `matrix` and `boundary` are sums over images. `images` has the IoU of each by its id: the mean
    over the classes, background among them, that are in its ground truth or its prediction; NaN
    where nothing of the ground truth is known. `overlaps` has its `ConfusionMatrix.overlap`.
    `objects` has the IoU of each object by class id and size.
    """

    def __init__(self, num_classes: int, ignore_prediction: str = "miss"):
        self.matrix = ConfusionMatrix(num_classes, ignore_prediction)
        self.boundary = np.zeros((2, num_classes + 1), np.int64)
        self.images: dict[str, float] = {}
        self.overlaps: dict[str, np.ndarray] = {}
        self.objects: dict[tuple[int, str], array] = defaultdict(lambda: array("d"))

    def add(self, image_id: str, image: ImageScores) -> None:
        """Count an image in."""
        self.matrix.merge(image.matrix)
        self.boundary += image.boundary
        self.overlaps[image_id] = image.matrix.overlap()
        self.images[image_id] = mean_defined(image.matrix.iou())
        for class_id, area, iou in image.objects:
            self.objects[class_id, size_of(area)].append(iou)
