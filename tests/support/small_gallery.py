"""A small run with all artifacts of a gallery, drawn instead of trained, so that scores are known.

In each photograph lies a square of SIDE pixels of a class. What is predicted of it is the same
square, SHIFTS to the right. Two squares of side a that lie d apart have IoU (a - d) / (a + d).
"""

import json

import numpy as np
from PIL import Image

from workflow_scripts import make_gallery
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset, write_test_images
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import write_palette_png

CLASSES = ("cat", "dog", "sheep")
HEIGHT, WIDTH, SIDE = 72, 96, 40
TOP, LEFT = 16, 12
GRID = 8  # pixels of a cell of CAMs and probabilities
VARIANTS = {"auxsegnet": 2, "baseline": 1}  # with so many stages
SPLITS = {"train": 5, "val": 4, "test": 2}
OTHER = 3  # a class that the second val image has besides
STRANGE = "a #1 %41?é"  # an id that is no plain part of an address


def class_of(number: int) -> int:
    """The class id of the square in image `number` of a split."""
    return number % 2 + 1


def shift_of(variant: str, stage: int, number: int) -> int:
    """How far to the right the label map of an image lies: better by stage, worse by number."""
    return {"auxsegnet": 8, "baseline": 16}[variant] - 4 * stage + 2 * number


def iou_of(shift: int) -> float:
    """IoU of two squares of side SIDE, in percent."""
    return 100 * (SIDE - shift) / (SIDE + shift)


def square(class_id: int, shift: int = 0) -> np.ndarray:
    """A label map (HEIGHT, WIDTH) with a square."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[TOP : TOP + SIDE, LEFT + shift : LEFT + shift + SIDE] = class_id
    return labels


def small_run(base, masks=True, intermediate=True, certain=True):
    """A folder of results with index and artifacts; `masks` and maps are there or are not."""
    root, folder = base / "photographs", base / "results" / "small"
    root.mkdir(parents=True)
    records = [_photograph(root, split, n, masks) for split in SPLITS for n in range(SPLITS[split])]
    index = DatasetIndex(root, CLASSES, (1, 2, 3), tuple(records))
    write_dataset(index, folder)
    write_test_images(index, folder)
    maps = _Maps(folder, index, intermediate, certain)
    maps.write("saliency/ready", "saliency", {}, "train", maps.saliency)
    if intermediate:
        first = {"seed": 0, "stage": 0}
        maps.write("classifier/default/seed0/cams", "cams", first, "train", maps.cams)
    for variant, stages in VARIANTS.items():
        for stage in range(stages):
            maps.write_stage(variant, stage, last=stage == stages - 1)
    return folder


def gallery_of(folder, **changes):
    """Make the gallery of such a folder; returns its page."""
    settings = {
        "images": 500,
        "long_side": 640,
        "variants": {
            name: {
                "stages": stages,
                "source": "ready",
                "classifier": "default",
                "ignore_prediction": "miss",
            }
            for name, stages in VARIANTS.items()
        },
        "seeds": [0],
        "splits": ["val", "test"],
        "shards": 1,
        "intermediate": True,
    }
    page = folder / "gallery" / "index.html"
    words = ["--data", folder, "--settings", json.dumps(settings | changes), "--output", page]
    make_gallery.main([str(word) for word in words])
    return page


def _photograph(root, split, number, masks):
    image_id = STRANGE if (split, number) == ("test", 1) else f"{split}_{number}"
    rows, columns = np.indices((HEIGHT, WIDTH))
    image = np.stack([rows * 2, columns * 2, 60 + 20 * number + 0 * rows], axis=-1)
    image[square(1) > 0] = (240, 200 - 30 * class_of(number), 90)
    name = f"{split}{number}.png"
    Image.fromarray(image.astype(np.uint8)).save(root / name)
    mask = f"{split}{number}_mask.png" if masks and split != "test" else None
    if mask:
        write_palette_png(root / mask, square(class_of(number)))
    labels = () if split == "test" else (CLASSES[class_of(number) - 1],)
    if (split, number) == ("train", 1):
        labels = (*labels, CLASSES[OTHER - 1])
    return ImageRecord(image_id, split, bool(mask), name, mask, WIDTH, HEIGHT, labels)


class _Maps:
    """Writes artifacts of drawn maps."""

    def __init__(self, folder, index, intermediate, certain):
        self.folder, self.index = folder, index
        self.intermediate, self.certain = intermediate, certain

    def write(self, place, kind, who, split, record_of):
        records = self.index.split(split)
        data = {"dataset": "small", "index_digest": self.index.digest, "classes": list(CLASSES)}
        with ArtifactWriter(
            self.folder / place / "shard0.h5",
            kind,
            identity=data | who,
            parameters={},
            sources={},
            expected=[record.image_id for record in records],
        ) as artifact:
            for number, record in enumerate(records):
                array, attributes = record_of(number)
                artifact.write(record.image_id, array, **attributes)

    def write_stage(self, variant, stage, last):
        who = {"variant": variant, "seed": 0, "stage": stage}
        place = f"{variant}/seed0/stage{stage}"

        def labels_of(number):
            return square(class_of(number), shift_of(variant, stage, number))

        def pseudo_labels(number):
            segmentation = labels_of(number)
            segmentation[:4] = 255
            return {"saliency": self.saliency(number)[0], "segmentation": segmentation}, {}

        def predictions(number):
            labels = labels_of(number)
            grid = labels[::GRID, ::GRID] > 0
            arrays = {
                "unrefined": square(class_of(number), shift_of(variant, stage, number) + 4),
                "refined": labels,
                "probabilities": np.stack([~grid, grid]).astype(np.float16),
            }
            return arrays, {"keys": [0, class_of(number)], "size": [HEIGHT, WIDTH]}

        def predictions_crf(number):
            certainty = {"confidence": 0.9 - 0.1 * number, "uncertain": 0.05 * number}
            return labels_of(number), certainty if self.certain else {}

        self.write(f"{place}/pseudo_labels", "pseudo_labels", who, "train", pseudo_labels)
        if stage and self.intermediate:
            self.write(f"{place}/cams", "cams", who, "train", self.cams)
            self.write(f"{place}/saliency", "refined_saliency", who, "train", self.refined)
        for split in ("val", "test") if last else ("val",):
            of_split = who | {"split": split}
            if self.intermediate:
                self.write(
                    f"{place}/predictions/{split}", "predictions", of_split, split, predictions
                )
            self.write(
                *(f"{place}/predictions_crf/{split}", "predictions_crf"),
                *(of_split, split, predictions_crf),
            )

    def saliency(self, number):
        return np.uint8(255 * (square(1) > 0)), {}

    def refined(self, number):
        return square(1)[::GRID, ::GRID].astype(np.float16), {}

    def cams(self, number):
        """Of each class of the image one; the second one is half as high, on the other side."""
        maps = [square(1)[::GRID, ::GRID] * 0.75]
        keys = [class_of(number) - 1]
        if number == 1:
            maps, keys = [*maps, maps[0][:, ::-1] / 2], [*keys, OTHER - 1]
        return np.array(maps, np.float16), {"keys": keys, "size": [HEIGHT, WIDTH]}
