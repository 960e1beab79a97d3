"""Training batches: which images at which step, and how each is seen.

Everything random about a sample follows from (seed, epoch, position), so a run that is resumed
at step n sees what an uninterrupted one sees, whatever the number of workers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator, default_rng
from torch.utils.data import DataLoader, Dataset

from wsss.compute.signals import ignore_stopping
from wsss.configuration.training_sections import Classifier, Stage, steps_per_epoch
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.pixels import Size, normalise_pixels, resize_image, resize_labels, scaled_size
from wsss.training.augmentation import jitter_colours, padded, random_crop_origin

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Draw:
    """One sample of one step: the image's position in the list, and its random key."""

    index: int
    key: tuple[int, ...]
    batch_key: tuple[int, ...]


class BatchPlan:
    """The batches of all epochs from step `start` on; a fresh permutation per epoch."""

    def __init__(self, images: int, batch_size: int, epochs: int, seed: int, start: int = 0):
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.steps_per_epoch = steps_per_epoch(images, batch_size)
        self.steps = epochs * self.steps_per_epoch
        self.start = start

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.start, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            order = default_rng((self.seed, epoch)).permutation(self.images)
            first = position * self.batch_size
            # Fewer images than a batch: they are taken more than once.
            places = np.arange(first, first + self.batch_size) % self.images
            key = (self.seed, epoch, position)
            yield [Draw(int(order[p]), (*key, i + 1), (*key, 0)) for i, p in enumerate(places)]


@dataclass(frozen=True)
class View:
    """How one image is seen: resized, mirrored or not, and a square of it, padded to its side."""

    size: Size
    flip: bool
    origin: tuple[int, int]
    crop: int

    def of(self, array: np.ndarray) -> np.ndarray:
        """The crop of an array of `size`, smaller where the array ends."""
        top, left = self.origin
        rows = array[top : top + self.crop]
        if not self.flip:
            return rows[:, left : left + self.crop]
        right = array.shape[1] - left
        return cv2.flip(rows[:, max(0, right - self.crop) : right], 1)


class TrainingImages(Dataset):
    """Augmented crops with image-level labels, and pseudo labels where a reader is given.

    An item is a dict of `image`, float32 (3, crop, crop), normalised; `labels`, float32 (C,) of
    zeros and ones; and for a stage `segmentation` and `saliency`, uint8 (crop, crop).

    Args:
        index: its train split is used.
        mean, std: of the backbone's input, for RGB / 255.
        settings: how images are seen.
        long_side: photographs are shrunk to this long side first (None: not).
        pseudo_labels: None for the classifier.
    """

    def __init__(
        self,
        index: DatasetIndex,
        mean: Sequence[float],
        std: Sequence[float],
        settings: Classifier | Stage,
        long_side: int | None = None,
        pseudo_labels: ArtifactReader | None = None,
    ):
        self.index = index
        self.records = index.split("train")
        self.mean, self.std = mean, std
        self.settings = settings
        self.long_side = long_side
        self.pseudo_labels = pseudo_labels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        record, rng = self.records[draw.index], default_rng(draw.key)
        image = self.index.read_image(record, self.long_side)
        size = self._random_size(image.shape[:2], rng, default_rng(draw.batch_key))
        flip = self.settings.flip and rng.random() < 0.5
        crop = self.settings.crop
        view = View(size, flip, random_crop_origin(size, crop, rng), crop)
        image = resize_image(image, size)
        seen = view.of(image)
        if any(self.settings.colour_jitter):
            seen = jitter_colours(seen, image, self.settings.colour_jitter, rng)
        pixels = normalise_pixels(seen, self.mean, self.std)
        # Padding with the mean colour is zero after normalisation.
        sample = {
            "image": torch.from_numpy(padded(pixels, crop, 0.0)).permute(2, 0, 1),
            "labels": torch.from_numpy(self.index.label_vector(record)),
        }
        return sample | (self._labels(record, view) if self.pseudo_labels else {})

    def _random_size(self, size: Size, rng: Generator, batch_rng: Generator) -> Size:
        if isinstance(self.settings, Classifier):
            low, high = self.settings.resize.long_side
            return scaled_size(size, rng.integers(low, high + 1) / max(size))
        low, high = self.settings.random_scale
        chosen = batch_rng if self.settings.random_scale_per == "batch" else rng
        return scaled_size(size, chosen.uniform(low, high))

    def _labels(self, record: ImageRecord, view: View) -> dict[str, torch.Tensor]:
        # Read whole: a record is one compressed chunk, of which a part costs as much.
        maps = self.pseudo_labels.read(record.image_id).array
        crops = {name: view.of(resize_labels(maps[name], view.size)) for name in maps}
        # Quantised to 8 bit: 128 is the first value above a probability of 0.5.
        crops["saliency"] = (crops["saliency"] >= 128).astype(np.uint8)
        fill = self.settings.label_padding
        return {name: torch.from_numpy(padded(m, view.crop, fill)) for name, m in crops.items()}


def batch_loader(
    images: TrainingImages, plan: Iterable[list[Draw]], workers: int, pin_memory: bool
) -> DataLoader:
    """`DataLoader` over a `BatchPlan`."""
    return DataLoader(
        images,
        batch_sampler=plan,
        num_workers=workers,
        pin_memory=pin_memory,
        # A signal to the whole job must not take the next batch away: the main process stops.
        worker_init_fn=ignore_stopping,
        # Else it draws from PyTorch's own generator, and a resumed run has another dropout.
        generator=torch.Generator(),
    )


def batches_of(loader: DataLoader) -> Iterator[Batch]:
    """The batches of a `DataLoader`, whose processes end with this generator, however that ends.

    PyTorch ends them when the last reference to the iterator is gone. The traceback of an error
    holds one, maybe until Python exits; and there it waits for them for ever, as they ignore the
    signal that it sends them.
    """
    batches = iter(loader)
    try:
        yield from batches
    finally:
        if loader.num_workers:
            batches._shutdown_workers()
