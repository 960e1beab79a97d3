"""How much disk a run needs, before it runs."""

from collections.abc import Callable, Sequence
from functools import cache
from math import ceil, prod
from pathlib import Path

from wsss.configuration.resolve import (
    classifier_config,
    picked_classifiers,
    picked_sources,
    trained_as,
    variant_config,
)
from wsss.configuration.sections import Configuration
from wsss.configuration.training_sections import Backbone
from wsss.datasets.cam_files import GRID_STRIDE, strided_size
from wsss.datasets.formats import paints_masks
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.reports.gallery.choice import MAP_SIDE, chosen

SPARE = 1.2  # the estimate of disk is meant to be too high rather than too low

# Stored over raw bytes, measured on VOC photographs with gzip 4 + shuffle: saliency 0.14,
# label maps 0.02, CAMs and probabilities 0.7 to 0.8.
PACKED_SALIENCY = 0.2
PACKED_LABELS = 0.04
PACKED_FEATURES = 0.9
OVERLAY_BYTES = 1.5  # per pixel of an overlay PNG
PREDICTED_CLASSES = 4  # classes whose probability is above 0.01 somewhere in an image
# Bytes per pixel in the gallery, measured on VOC photographs: 0.29, 0.01 and 0.25.
PHOTOGRAPH_BYTES = 0.35
LABEL_BYTES = 0.02
MAP_BYTES = 0.3
HEADS = 1.2  # a network over its backbone


def disk_needed(config: Configuration, index: DatasetIndex) -> dict[str, int]:
    """Estimate the bytes that a run has on disk at most, by artifact kind.

    Per image: saliency, label maps and their PNGs at image resolution; CAMs and probabilities in
    float16 on the network's feature grid. Per training: a checkpoint in float32. With
    `keep: final` the maps in between lie there for one stage of each run at a time. Ground truth
    that the run paints is counted, though it lies below the root of the data set.
    """
    seeds = len(config.seeds)
    variants = [variant_config(config, name) for name in config.variants]
    stages = [variant.stages for variant in variants]
    kept = [1 if config.keep == "final" else number for number in stages]
    train, val = index.split("train"), index.split("val")
    # Every stage is scored on val; of other splits only the last stage is asked.
    others = [r for name in config.prediction.splits if name != "val" for r in index.split(name)]
    painted = [r for r in index.records if r.mask and paints_masks(config.dataset)]
    features, labels, pixels = 2 * PACKED_FEATURES, PACKED_LABELS, _pixels

    def over_variants(numbers, size):
        return sum(n * size(variant) for n, variant in zip(numbers, variants, strict=True))

    def predictions(records):
        grid = PREDICTED_CLASSES * features
        return lambda own: pixels(records) * 2 * labels + _cells(own, records) * grid

    cams = sum(_first_cam_cells(own, train) for own in picked_classifiers(config).values())
    cams += over_variants(kept, lambda own: _cam_cells(train, _cell_counter(own)))
    checkpoints = over_variants(stages, lambda own: checkpoint_bytes(own.backbone))
    needed = {
        "ground truth": pixels(painted) * labels,
        "saliency": pixels(train) * PACKED_SALIENCY * len(picked_sources(config)),
        "CAMs": cams * features * seeds,
        "refined saliency": over_variants(kept, lambda own: _cells(own, train)) * features * seeds,
        "pseudo labels": pixels(train) * (PACKED_SALIENCY + labels) * sum(stages) * seeds,
        "predictions": (
            over_variants(kept, predictions(val)) + sum(map(predictions(others), variants))
        )
        * seeds,
        "label maps": (pixels(val) * sum(stages) + pixels(others) * len(variants)) * labels * seeds,
        "masks": pixels(val + others) * (labels + OVERLAY_BYTES) * config.masks.export,
        "gallery": _gallery_bytes(config, index, stages),
        "checkpoints": (checkpoints + _classifier_checkpoints(config)) * seeds,
        # Weights and momentum of a job that is under way: two states, and one that is written.
        "resume states": max(checkpoint_bytes(own.backbone) for own in variants) * 2 * 3,
    }
    return {kind: int(size * SPARE) for kind, size in needed.items()}


def _gallery_bytes(config: Configuration, index: DatasetIndex, stages: Sequence[int]) -> float:
    """Photographs, label maps and smaller maps of the images that the gallery shows."""
    seeds, limit = len(config.seeds), config.gallery.images
    kinds = 1 if config.keep == "final" else 4  # of predictions
    # Every run has pseudo labels, and predictions on val; the last ones have those of other splits.
    of_split = {"train": sum(stages), "val": kinds * sum(stages)}
    for split in config.prediction.splits:
        if split != "val":
            of_split[split] = of_split.get(split, 0) + kinds * len(stages)
    maps = len(picked_sources(config)) + 2 * (sum(stages) - len(stages)) * seeds
    size = 0.0
    for split, count in of_split.items():
        shown = chosen(index.split(split), limit)
        pixels = sum(_shrunk_pixels(record, config.gallery.long_side) for record in shown)
        size += pixels * (PHOTOGRAPH_BYTES + LABEL_BYTES * (1 + count * seeds))
        if split == "train":
            small = sum(_shrunk_pixels(record, MAP_SIDE) for record in shown)
            size += small * MAP_BYTES * maps
    return size


def _shrunk_pixels(record: ImageRecord, long_side: int) -> float:
    return record.width * record.height * min(1, long_side / max(record.width, record.height)) ** 2


@cache
def checkpoint_bytes(backbone: Backbone) -> int:
    """Bytes of a checkpoint: float32 parameters and buffers of the backbone, and its heads."""
    import torch

    from model.backbones import create_backbone

    with torch.device("meta"):  # counts without memory
        network = create_backbone(backbone.name, backbone.output_stride)
    return int(HEADS * 4 * sum(tensor.numel() for tensor in network.state_dict().values()))


def _classifier_checkpoints(config: Configuration) -> int:
    """Bytes of the classifiers' checkpoints, for one seed; some classifiers share theirs."""
    trained = {trained_as(config, name) for name in picked_classifiers(config)}
    return sum(checkpoint_bytes(classifier_config(config, name).backbone) for name in trained)


def _pixels(records: Sequence[ImageRecord]) -> int:
    return sum(record.width * record.height for record in records)


def _cam_cells(records, cells):
    return sum(cells(record) * max(1, len(record.labels)) for record in records)


def _cells(config: Configuration, records: Sequence[ImageRecord]) -> int:
    return sum(map(_cell_counter(config), records))


def _first_cam_cells(classifier: Configuration, records: Sequence[ImageRecord]) -> int:
    """Cells of the CAMs of stage 0; those of other tools have a grid of their own."""
    imported = classifier.cam.source == "files"
    return _cam_cells(records, _imported_cells if imported else _cell_counter(classifier))


def _imported_cells(record):
    return prod(strided_size((record.height, record.width), GRID_STRIDE))


def _cell_counter(config: Configuration) -> Callable[[ImageRecord], int]:
    """A function that counts the feature cells of a record."""
    stride, long_side = config.backbone.output_stride, config.images.long_side

    def cells(record):
        longest = max(record.width, record.height)
        scale = min(1, long_side / longest) if long_side else 1
        return ceil(record.width * scale / stride) * ceil(record.height * scale / stride)

    return cells


def readable_bytes(size: float) -> str:
    """Bytes for people: 950 B, 12 kB, 3.4 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def existing_parent(path: Path) -> Path:
    """The path itself or the innermost folder around it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
