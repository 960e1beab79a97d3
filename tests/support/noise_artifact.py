"""An artifact of noise, which no compression makes smaller."""

import numpy as np

from wsss.storage.artifacts import ArtifactWriter


def write_artifact(path, count=40):
    noise = np.random.default_rng(0).integers(0, 256, (count, 100, 100), np.uint8)
    ids = [f"image{number}" for number in range(count)]
    with ArtifactWriter(
        path, "saliency", identity={}, parameters={}, sources={}, expected=ids
    ) as artifact:
        for image_id, array in zip(ids, noise, strict=True):
            artifact.write(image_id, array)
