"""Pairs of label maps, and what they score, by other means than those of the project."""

import numpy as np
from scipy import ndimage

CLASSES = 3
EIGHT = np.ones((3, 3))


def blobs(rng, size):
    """A label map of blobs, 0..3 and 255."""
    values = [ndimage.gaussian_filter(rng.random(size), 3) for _ in range(5)]
    values = np.array([(value - value.mean()) / (value.std() + 1e-9) for value in values])
    values[0] += 0.5
    return np.array([0, 1, 2, 3, 255], np.uint8)[values.argmax(axis=0)]


def pair(seed, size=(61, 83)):
    """Ground truth and a prediction that resembles it; both hold all of 0..3 and 255."""
    rng = np.random.default_rng(seed)
    truth, noise = blobs(rng, size), blobs(rng, size)
    guess = np.roll(truth, (2, -1), (0, 1))
    return truth, np.where(blobs(rng, size) == 0, guess, noise).astype(np.uint8)


def masks(truth, prediction, class_id, way):
    """The two masks of a class, written otherwise than `comparable` does it."""
    known = truth != 255
    if way == "drop":
        known &= prediction != 255
    predicted = prediction == class_id
    if way == "background" and class_id == 0:
        predicted |= prediction == 255
    return predicted & known, (truth == class_id) & known


def boundary(mask, distance):
    """Pixels of a mask whose way out is `distance` king's moves or less."""
    steps = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1]
    return mask & (steps <= distance)


def objects_by_hand(truth, prediction, way):
    """Pixel sets, one object and one predicted part after the other."""
    found = []
    for class_id in range(1, CLASSES + 1):
        predicted, true = masks(truth, prediction, class_id, way)
        objects, parts = (pixel_sets(mask) for mask in (true, predicted))
        for item in objects:
            extra = 0.0
            for part in parts:
                touched = [other for other in objects if other & part]
                if item in touched:
                    beside = len(part - set().union(*objects))
                    extra += beside * len(item) / sum(len(other) for other in touched)
            hits = sum(len(item & part) for part in parts)
            found.append((class_id, len(item), hits / (len(item) + extra)))
    return found


def pixel_sets(mask):
    labels, count = ndimage.label(mask, EIGHT)
    return [set(map(tuple, np.argwhere(labels == i))) for i in range(1, count + 1)]
