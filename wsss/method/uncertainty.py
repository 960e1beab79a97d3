"""How sure a segmentation of a photograph is, and which photographs most need a look.

Asked are the probabilities that are merged over all views, before the CRF, of the class that a
pixel has in the end, after it. The marginals of the CRF are near 0 or 1 nearly everywhere, also
where it is wrong: as an order of photographs they are worth less (docs/RESULTS.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.pixels import resize_maps

UNCERTAIN_BELOW = 0.5  # of its class: all others together are as probable


class Uncertainty(NamedTuple):
    """Of a photograph; both in 0..1. What has the lowest confidence most needs a look.

    `confidence` is the mean probability of their class over the pixels of objects. Where a
    photograph has none it is the lowest probability that the background has in it: how sure it is
    that there is nothing, and low where the CRF has removed an object.

    `uncertain` is the share of the photograph's pixels whose class has a probability below
    `UNCERTAIN_BELOW`.
    """

    confidence: float
    uncertain: float


def uncertainty_of(
    label_map: np.ndarray, probabilities: np.ndarray, labels: Sequence[int]
) -> Uncertainty:
    """The `Uncertainty` of a segmentation.

    Args:
        label_map: uint8 (H, W), as it is in the end; holds none but the K labels.
        probabilities: float (K, h, w), merged over the views, on any grid.
        labels: what the K maps are of, ascending, as in label maps: 0 is background.
    """
    maps = resize_maps(probabilities, label_map.shape)
    places = np.searchsorted(labels, label_map)[None]
    winning = np.take_along_axis(maps, places, axis=0)[0]
    objects = winning[label_map > 0]
    confidence = objects.mean(dtype=np.float64) if objects.size else winning.min()
    return Uncertainty(float(confidence), float((winning < UNCERTAIN_BELOW).mean()))


def stored_uncertainty(reader: ArtifactReader, image_id: str) -> Uncertainty:
    """The `Uncertainty` that lies beside a label map in `predictions_crf`.

    Raises:
        InputError: it does not: an earlier version has written the file.
    """
    attributes = reader.attributes(image_id)
    try:
        return Uncertainty(*(attributes[name] for name in Uncertainty._fields))
    except KeyError as error:
        raise InputError(
            f"{reader.path_of(image_id)}: image {image_id} without {error}: made by an earlier"
            " version; remake it with snakemake -f FILE"
        ) from error
