"""What can be known of a data set before hours of compute: its photographs, masks, maps and labels.

All files are read as the run will read them.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from wsss.compute.progress import progress
from wsss.configuration.data_sections import Source
from wsss.configuration.method_sections import Cam, LabelFiles
from wsss.configuration.resolve import picked_classifiers, picked_sources, variant_config
from wsss.configuration.sections import Configuration
from wsss.datasets.cam_files import ImportedCams
from wsss.datasets.coco.masks import SECONDS_PER_MASK, unwritable
from wsss.datasets.corrected_masks import CorrectedMasks, corrected_masks
from wsss.datasets.files_per_image import label_files
from wsss.datasets.ground_truth import classes_in, verdict_on_masks
from wsss.datasets.index import (
    ROOT_FILE,
    SPLITS,
    TEST,
    TEST_FILE,
    DatasetIndex,
    ImageRecord,
    read_dataset,
)
from wsss.errors import InputError, listed
from wsss.reports.disk import existing_parent
from wsss.reports.findings import SHOWN, Finding
from wsss.storage.images import is_turned

NEARLY_BLACK = 31  # of 255
# Photographs a class -> mIoU in percent after three stages (docs/RECIPE.md).
REACHED = {17: 69, 50: 76}


def check_images(index: DatasetIndex, painted_by_run: bool = False) -> list[Finding]:
    """Decode every image and mask completely; masks that the run will paint need not be there."""
    there, absent = [], []
    for record in (record for record in index.records if record.mask is not None):
        expected = not painted_by_run or (index.root / record.mask).is_file()
        (there if expected else absent).append(record)
    return [
        *_check_photographs(index, painted_by_run),
        *(_check_masks(index, there) if there or not absent else []),
        *([_to_be_painted(index.root, absent)] if absent else []),
        *_counts(index),
        _class_counts(index),
    ]


def _check_photographs(index, painted_by_run):
    """Read all; some that a viewer would show as black, or turned under outlines, are told."""
    read = _read_all("images", index.records, lambda r: int(index.read_image(r).max()))
    yield read.finding
    dark = [image_id for image_id, highest in read.found.items() if highest <= NEARLY_BLACK]
    if dark:
        message = f"{len(dark)} nearly black, no value being above {NEARLY_BLACK} of 255"
        yield Finding("note", "images", f"{message}: {listed(dark, SHOWN)}")
    if painted_by_run:
        paths = {record.image_id: index.root / record.image for record in index.records}
        turned = [image_id for image_id in read.found if is_turned(paths[image_id])]
        if turned:
            message = (
                f"{len(turned)} turned by their EXIF orientation: {listed(turned, SHOWN)}; the"
                " outlines are taken to be those of the upright photographs"
            )
            yield Finding("note", "images", message)


def _check_masks(index, records):
    """Read all, and compare what they hold with the labels."""
    read = _read_all("masks", records, lambda record: classes_in(index.read_mask(record)))
    yield read.finding
    verdict = verdict_on_masks(index, read.found)
    if verdict:
        yield Finding("problem" if verdict.wrong else "note", "masks", verdict.message)


def _to_be_painted(root, records):
    minutes = ceil(len(records) * SECONDS_PER_MASK / 60)
    message = (
        f"{len(records)} not there yet: the run begins by painting them, {minutes} min on one core"
    )
    folder = existing_parent(root / records[0].mask)
    if not os.access(folder, os.W_OK):
        return Finding("problem", "masks", unwritable(folder))
    return Finding("note", "masks", message)


def check_quality(config: Configuration, index: DatasetIndex) -> Iterator[Finding]:
    """What others got from so many photographs with the recipe for these."""
    if config.recipe != "compact":
        return
    counts = _images_of_classes(index)
    rarest = min(counts, key=counts.get)
    reached = ", ".join(f"{miou} with {images}" for images, miou in REACHED.items())
    message = (
        f"{counts[rarest]} training images of {rarest}, the rarest class; new masks of animals"
        f" came to a mIoU of {reached} a class (docs/photographs.md, What to expect)"
    )
    yield Finding("ok", "quality", message)


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
    from wsss.method.saliency import create_source, dark_maps  # it brings OpenCV's networks along

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
    read = _read_all("saliency", train, lambda record: int(source.predict(record, None).max()))
    labelled = {record.image_id for record in train if record.labels}
    dark = dark_maps({i: highest for i, highest in read.found.items() if i in labelled})
    if dark is None:
        return [read.finding]
    return [read.finding, Finding("problem" if dark.most else "note", "saliency", dark.message)]


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
        yield Finding(
            "problem",
            "corrected",
            f"{masks.path}: {len(masks.strangers)} of its masks are called like no image:"
            f" {masks.nearest}; give them the names of their images",
        )
    if masks.near:
        message = f"{masks.path}: taken for nearly the same name: {masks.near}"
        yield Finding("note", "corrected", message)
    if masks.elsewhere:
        message = f"of images that are not trained on, so not used: {listed(masks.elsewhere)}"
        yield Finding("note", "corrected", message)
    records = [record for record in index.split("train") if record.image_id in masks]
    other = []  # ids of images whose masks show other classes than their labels

    def read(record: ImageRecord) -> None:
        shown = classes_in(masks.read(record))
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


def check_earlier(index: DatasetIndex, folder: Path) -> Iterator[Finding]:
    """Tell where the results under this name are of another folder of photographs.

    A data set that has only moved is the same one, and so is one with more to predict.
    """
    if not (folder / ROOT_FILE).is_file():
        return
    try:
        earlier = read_dataset(folder, index.root, test=(folder / TEST_FILE).is_file())
        root = (folder / ROOT_FILE).read_text(encoding="utf-8").strip()
    except (InputError, OSError, ValueError):  # damaged: the run makes it again
        return
    predicted = set(earlier.split(TEST)) <= set(index.split(TEST))
    if Path(root) != index.root and not (predicted and earlier.digest == index.digest):
        yield Finding(
            "note",
            "results",
            f"{folder} holds those of {root}, which a run replaces: to keep them, set another"
            " dataset.name",
        )


class _Read(NamedTuple):
    """What came of reading all files of a kind."""

    finding: Finding  # how many there are, or the first few that fail
    found: dict[str, Any]  # image id -> what was found in its file


def _all_readable(
    subject: str, records: Sequence[ImageRecord], read: Callable[[ImageRecord], Any]
) -> Finding:
    """Whether all files of a kind can be read, whatever is in them."""
    return _read_all(subject, records, lambda record: read(record) is None).finding


def _read_all(
    subject: str, records: Sequence[ImageRecord], read: Callable[[ImageRecord], Any]
) -> _Read:
    """Read all files of a kind; what `read` returns is kept, and had better be small."""

    def outcome(record):
        try:
            return record.image_id, read(record), None
        except InputError as error:
            return record.image_id, None, str(error)

    # Threads are enough: decoders let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(outcome, records)
        outcomes = [*progress(results, total=len(records), desc=f"reading {subject}")]
    failures = [complaint for *_, complaint in outcomes if complaint]
    found = {image_id: what for image_id, what, complaint in outcomes if not complaint}
    if failures:
        return _Read(Finding("problem", subject, listed(failures, SHOWN, "; ")), found)
    return _Read(Finding("ok", subject, f"{len(records)} readable"), found)


def _images_of_classes(index: DatasetIndex) -> dict[str, int]:
    counts = Counter(name for record in index.split("train") for name in record.labels)
    return {name: counts[name] for name in index.classes}


def _class_counts(index: DatasetIndex) -> Finding:
    """All classes by name: one that nobody meant shows here."""
    told = ", ".join(f"{name} {count}" for name, count in _images_of_classes(index).items())
    return Finding("ok", "classes", f"training images of each: {told}")


def _counts(index: DatasetIndex) -> Iterator[Finding]:
    counts = ", ".join(f"{len(index.split(name))} {name}" for name in SPLITS)
    yield Finding("ok", "splits", f"{counts}; {len(index.classes)} classes")
    if not any(record.scored for record in index.records):
        yield Finding("note", "splits", "no masks: the tables of the evaluation stay empty")
