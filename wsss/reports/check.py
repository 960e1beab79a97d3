"""What can be known before hours of compute: files, device, disk."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from pathlib import Path

import numpy as np

from model.labels import IGNORE
from wsss.compute.progress import progress
from wsss.configuration.paths import weights_path
from wsss.configuration.resolve import picked_classifiers, picked_sources, variant_config
from wsss.configuration.sections import (
    Backbone,
    Cam,
    Configuration,
    LabelFiles,
    Source,
)
from wsss.datasets.cam_files import ImportedCams
from wsss.datasets.coco.masks import SECONDS_PER_MASK, unwritable
from wsss.datasets.corrected_masks import CorrectedMasks, corrected_masks
from wsss.datasets.files_per_image import label_files
from wsss.datasets.formats import paints_masks
from wsss.datasets.index import SPLITS, DatasetIndex, ImageRecord
from wsss.errors import InputError, listed
from wsss.reports.disk import disk_needed, readable_bytes
from wsss.reports.gallery.choice import chosen

SHOWN = 3  # offenders named per check


@dataclass(frozen=True)
class Finding:
    """A line of the report; `level` is ok, note or problem."""

    level: str
    subject: str
    message: str


def check_run(
    config: Configuration, index: DatasetIndex, results: str | Path = "results"
) -> list[Finding]:
    """Check everything that a run will read, the device and the free disk space.

    Args:
        config: the configuration of the run.
        index: its images.
        results: the folder that the run will write to; it need not exist.

    Returns:
        What was found; a finding of level "problem" would stop the run.
    """
    return [
        *(Finding("note", "data set", note) for note in index.notes),
        *check_images(index, paints_masks(config.dataset)),
        *check_besides_images(config, index, results),
    ]


def check_besides_images(
    config: Configuration, index: DatasetIndex, results: str | Path = "results"
) -> list[Finding]:
    """What `check_run` checks without the photographs: maps, weights, device and disk."""
    return [
        *check_sources(config, index.split("train")),
        *check_imported_cams(config, index),
        *check_label_files(config, index),
        *check_corrected(config, index),
        *check_all_weights(config),
        check_device(config.device),
        check_gallery(config, index),
        check_disk(disk_needed(config, index), results),
    ]


def check_without_index(config: Configuration) -> list[Finding]:
    """What can be said although the data set cannot: saliency's source, weights and device."""
    return [
        *check_sources(config, None),
        *check_all_weights(config),
        check_device(config.device),
        Finding("note", "disk", "not estimated without the data set"),
    ]


def check_images(index: DatasetIndex, painted_by_run: bool = False) -> list[Finding]:
    """Decode every image and mask completely; masks that the run will paint need not be there."""
    there, absent = [], []
    for record in (record for record in index.records if record.mask is not None):
        expected = not painted_by_run or (index.root / record.mask).is_file()
        (there if expected else absent).append(record)
    return [
        _all_readable("images", index.records, index.read_image),
        *([_all_readable("masks", there, index.read_mask)] if there or not absent else []),
        *([_to_be_painted(index.root, absent)] if absent else []),
        *_counts(index),
        _class_counts(index),
    ]


def _to_be_painted(root, records):
    minutes = ceil(len(records) * SECONDS_PER_MASK / 60)
    message = (
        f"{len(records)} not there yet: the run begins by painting them, {minutes} min on one core"
    )
    folder = existing_parent(root / records[0].mask)
    if not os.access(folder, os.W_OK):
        return Finding("problem", "masks", unwritable(folder))
    return Finding("note", "masks", message)


def check_sources(config: Configuration, train: Sequence[ImageRecord] | None) -> Iterator[Finding]:
    """`check_saliency` of the sources that variants pick."""
    for name, source in picked_sources(config).items():
        yield from check_saliency(name, source, train)


def check_saliency(
    name: str, settings: Source, train: Sequence[ImageRecord] | None
) -> list[Finding]:
    """Ask a source of saliency for its files; relative paths start here.

    `train` are the records of the training images; None where nobody knows them.
    """
    from wsss.method.saliency import create_source  # it brings OpenCV's networks along

    try:
        source = create_source(name, settings)
        train = train and [record for record in train if not record.is_negative]
        source.check(train or ())
    except InputError as error:
        return [Finding("problem", "saliency", str(error))]
    if train is None:
        return [Finding("note", "saliency", f"{name}, looked at without the training images")]
    if settings.kind != "maps":
        return [Finding("ok", "saliency", f"{name}, computed for {len(train)} training images")]
    # A ready map is read without its image: what decodes here will decode in the job.
    return [_all_readable("saliency", train, lambda record: source.predict(record, None))]


def check_imported_cams(config: Configuration, index: DatasetIndex) -> Iterator[Finding]:
    """`check_cam_files` of the classifiers that variants pick."""
    for own in picked_classifiers(config).values():
        yield from check_cam_files(own.cam, index)


def check_cam_files(cam: Cam, index: DatasetIndex) -> list[Finding]:
    """Read the CAMs of another tool, where stage 0 begins with them; silent where it does not."""
    if cam.source != "files":
        return []
    train = index.split("train")
    try:
        cams = ImportedCams.of_settings(index, cam.files)
        cams.check(train)
    except InputError as error:
        return [Finding("problem", "CAMs", str(error))]
    return [_all_readable("CAMs", [record for record in train if record.labels], cams)]


def check_label_files(config: Configuration, index: DatasetIndex) -> list[Finding]:
    """Read the pseudo labels of another tool, for each variant that begins with some."""
    sections = [variant_config(config, variant).pseudo_labels for variant in config.variants]
    chosen = dict.fromkeys(section.files for section in sections if section.initial == "files")
    return [_check_label_files(section, index) for section in chosen]


def _check_label_files(section: LabelFiles, index: DatasetIndex) -> Finding:
    train = [record for record in index.split("train") if not record.is_negative]
    try:
        files = label_files(section)
        files.check(train)
    except InputError as error:
        return Finding("problem", "pseudo labels", str(error))
    return _all_readable("pseudo labels", train, lambda r: index.read_label_map(r, files.path(r)))


def check_corrected(config: Configuration, index: DatasetIndex) -> Iterator[Finding]:
    """Read the masks that people corrected, for each variant that learns from some."""
    sections = [variant_config(config, variant).pseudo_labels for variant in config.variants]
    for path in dict.fromkeys(section.corrected for section in sections if section.corrected):
        try:
            masks = corrected_masks(path, index)
        except InputError as error:
            yield Finding("problem", "corrected", str(error))
            continue
        yield from _check_corrected(masks, index)


def _check_corrected(masks: CorrectedMasks, index: DatasetIndex) -> Iterator[Finding]:
    if masks.strangers:
        near = ", ".join(_near(name, index) for name in masks.strangers[:SHOWN])
        yield Finding(
            "problem",
            "corrected",
            f"{masks.path}: {len(masks.strangers)} of its masks are called like no image: {near};"
            " give them the names of their images",
        )
    if masks.elsewhere:
        message = f"of images that are not trained on, so not used: {listed(masks.elsewhere)}"
        yield Finding("note", "corrected", message)
    records = [record for record in index.split("train") if record.image_id in masks]
    other = []  # ids of images whose masks show other classes than their labels

    def read(record: ImageRecord) -> None:
        shown = set(np.unique(masks.read(record))) - {0, IGNORE}
        labels = {index.classes.index(name) + 1 for name in record.labels}
        if not shown <= labels or (labels and not shown):
            other.append(record.image_id)

    yield _all_readable("corrected", records, read)
    if other:
        message = (
            f"{len(other)} of {len(records)} masks do not show what their images are labelled"
            f" with: {listed(sorted(other))}"
        )
        if len(other) > len(records) / 2:
            remedy = "values of PNGs are mask_value in classes.csv: look at masks and labels"
            yield Finding("problem", "corrected", f"{message}; {remedy}")
        else:
            yield Finding("note", "corrected", message)


def _near(name: str, index: DatasetIndex) -> str:
    """A name, with the image that it may mean."""
    close = get_close_matches(name, [record.image_id for record in index.records], 1)
    return f"{name} (did you mean {close[0]}?)" if close else name


def check_all_weights(config: Configuration) -> list[Finding]:
    """`check_weights` of each backbone of a classifier that variants pick."""
    chosen = dict.fromkeys(own.backbone for own in picked_classifiers(config).values())
    return [check_weights(backbone) for backbone in chosen]


def check_weights(backbone: Backbone) -> Finding:
    """Read the file of weights that classification training starts from."""
    from model.weights import read_state  # torch takes seconds to import

    path = weights_path(backbone.weights, "backbone.weights")
    try:
        read_state(path)
    except ValueError as error:
        return Finding("problem", "weights", f"backbone.weights: {error}")
    return Finding("ok", "weights", f"{path}, {readable_bytes(path.stat().st_size)}")


def check_device(name: str) -> Finding:
    """Which device a job on this machine would use."""
    from wsss.compute.devices import choose_device  # torch, as above

    try:
        device = choose_device(name)
    except InputError as error:
        return Finding("problem", "device", str(error))
    fallback = name == "auto" and device.type == "cpu"
    note = "the CPU, as there is no GPU: expect hours" if fallback else device.type
    return Finding("note" if fallback else "ok", "device", note)


def check_gallery(config: Configuration, index: DatasetIndex) -> Finding:
    """How many images the gallery will show, and about how large it will be."""
    limit = config.gallery.images
    shown = sum(len(chosen(index.split(split), limit)) for split in SPLITS)
    size = readable_bytes(disk_needed(config, index)["gallery"])
    message = f"about {size} for {shown} images"
    if shown < len(index.records):
        message += f" of {len(index.records)}; gallery.images: {limit} a split"
    return Finding("ok", "gallery", message)


def check_disk(needed: dict[str, int], results: str | Path) -> Finding:
    """Compare bytes by artifact kind with the free space where results will lie."""
    folder = existing_parent(Path(results).absolute())
    free, total = shutil.disk_usage(folder).free, sum(needed.values())
    largest = sorted(needed, key=needed.get, reverse=True)[:SHOWN]
    parts = ", ".join(f"{kind} {readable_bytes(needed[kind])}" for kind in largest)
    message = (
        f"about {readable_bytes(total)} needed ({parts}, ...), {readable_bytes(free)} free in"
        f" {folder}"
    )
    if total > free:
        return Finding("problem", "disk", f"{message}: free some, or set keep: final")
    return Finding("ok", "disk", message)


def existing_parent(path: Path) -> Path:
    """The path itself or the innermost folder around it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _all_readable(
    subject: str, records: Sequence[ImageRecord], read: Callable[[ImageRecord], object]
) -> Finding:
    """One finding on all files of a kind: how many there are, or the first few that fail."""

    def complaint(record):
        try:
            read(record)
        except InputError as error:
            return str(error)
        return None

    # Threads are enough: decoders let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(complaint, records)
        results = progress(results, total=len(records), desc=f"reading {subject}")
        failures = [message for message in results if message]
    if failures:
        return Finding("problem", subject, listed(failures, SHOWN, "; "))
    return Finding("ok", subject, f"{len(records)} readable")


def _class_counts(index: DatasetIndex) -> Finding:
    """All classes by name: one that nobody meant shows here."""
    counts = Counter(name for record in index.split("train") for name in record.labels)
    told = ", ".join(f"{name} {counts[name]}" for name in index.classes)
    return Finding("ok", "classes", f"training images of each: {told}")


def _counts(index: DatasetIndex) -> Iterator[Finding]:
    counts = ", ".join(f"{len(index.split(name))} {name}" for name in SPLITS)
    yield Finding("ok", "splits", f"{counts}; {len(index.classes)} classes")
    if not any(record.scored for record in index.records):
        yield Finding("note", "splits", "no masks: the tables of the evaluation stay empty")
