"""Training batches: which images at which step, and how each is seen.

Everything random about a sample follows from (seed, epoch, position), so a run that is resumed
at step n sees what an uninterrupted one sees, whatever the number of workers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from wsss.augmentation import (
    crop_and_pad,
    jitter_colours,
    random_crop_origin,
    resize_image,
    resize_labels,
    scaled_size,
)
from wsss.images import shrink
from wsss.signals import ignore_stopping

IGNORE = 255


@dataclass(frozen=True)
class Draw:
    """One sample of one step: the image's position in the list, and its random key."""

    index: int
    key: tuple[int, ...]
    batch_key: tuple[int, ...]


class BatchPlan:
    """The batches of all epochs from step `start` on; a fresh permutation per epoch.

    Where several processes train together, each reads its part of every batch: `part` takes it.
    """

    def __init__(self, images, batch_size, epochs, seed, start=0, part=list):
        self.images, self.batch_size, self.seed, self.part = images, batch_size, seed, part
        self.steps_per_epoch = max(1, images // batch_size)
        self.steps = epochs * self.steps_per_epoch
        self.start = start

    def __len__(self):
        return self.steps - self.start

    def __iter__(self):
        for step in range(self.start, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
            first = position * self.batch_size
            # Fewer images than a batch: they are taken more than once.
            places = np.arange(first, first + self.batch_size) % self.images
            key = (self.seed, epoch, position)
            draws = [Draw(int(order[p]), (*key, i + 1), (*key, 0)) for i, p in enumerate(places)]
            yield self.part(draws)


class TrainingImages(Dataset):
    """Augmented crops with image-level labels, and pseudo labels where a reader is given.

    Args:
        index: `DatasetIndex`; its train split is used.
        mean, std: of the backbone's input, for RGB / 255.
        settings: section `classifier` or `stage` of the configuration.
        long_side: photographs are shrunk to this long side first (None: not).
        pseudo_labels: `ArtifactReader` of pseudo labels, or None for the classifier.
    """

    def __init__(self, index, mean, std, settings, long_side=None, pseudo_labels=None):
        self.index = index
        self.records = index.split("train")
        self.mean = np.asarray(mean, np.float32)
        self.std = np.asarray(std, np.float32)
        self.settings = settings
        self.long_side = long_side
        self.pseudo_labels = pseudo_labels

    def __len__(self):
        return len(self.records)

    def __getitem__(self, draw):
        record, rng = self.records[draw.index], np.random.default_rng(draw.key)
        image = shrink(self.index.read_image(record), self.long_side)
        size = self._random_size(image.shape[:2], rng, np.random.default_rng(draw.batch_key))
        image = resize_image(image, size)
        flip = self.settings["flip"] and rng.random() < 0.5
        origin = random_crop_origin(size, self.settings["crop"], rng)
        image = self._view(jitter_colours(image, self.settings["colour_jitter"], rng), flip)
        # Padding with the mean colour is zero after normalisation.
        image = (image.astype(np.float32) / 255 - self.mean) / self.std
        sample = {
            "image": self._tensor(image, origin, 0.0).permute(2, 0, 1),
            "labels": torch.from_numpy(self.index.label_vector(record)),
        }
        if self.pseudo_labels is not None:
            sample |= self._labels(record, size, flip, origin)
        return sample

    def _random_size(self, size, rng, batch_rng):
        if "resize" in self.settings:
            low, high = self.settings["resize"]["long_side"]
            return scaled_size(size, rng.integers(low, high + 1) / max(size))
        low, high = self.settings["random_scale"]
        chosen = batch_rng if self.settings["random_scale_per"] == "batch" else rng
        return scaled_size(size, chosen.uniform(low, high))

    def _labels(self, record, size, flip, origin):
        arrays = self.pseudo_labels.read(record.image_id).array
        padding = self.settings["label_padding"]
        # Quantised to 8 bit: 128 is the first value above a probability of 0.5.
        salient = (arrays["saliency"] >= 128).astype(np.uint8)
        maps = {"segmentation": arrays["segmentation"], "saliency": salient}
        return {
            name: self._tensor(self._view(resize_labels(m, size), flip), origin, padding)
            for name, m in maps.items()
        }

    def _view(self, array, flip):
        return array[:, ::-1] if flip else array

    def _tensor(self, array, origin, fill):
        return torch.from_numpy(crop_and_pad(array, origin, self.settings["crop"], fill))


def batch_loader(images, plan, workers, pin_memory):
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


def batches_of(loader):
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
