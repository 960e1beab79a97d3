"""What can be known of the machine before hours of compute: weights, device, memory, disk."""

import os
import shutil
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from wsss.configuration.paths import weights_path
from wsss.configuration.resolve import picked_classifiers, variant_config
from wsss.configuration.sections import Configuration
from wsss.configuration.training_sections import Backbone
from wsss.datasets.index import SPLITS, DatasetIndex
from wsss.errors import InputError
from wsss.method.crf import crf_bytes, crf_seconds, working_size
from wsss.reports.disk import disk_needed, existing_parent, readable_bytes
from wsss.reports.duration import readable_minutes, run_seconds
from wsss.reports.findings import SHOWN, Finding
from wsss.reports.gallery.choice import chosen


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
    note = "the CPU, as there is no GPU; resnet38 would take months" if fallback else device.type
    return Finding("note" if fallback else "ok", "device", note)


def check_time(config: Configuration, index: DatasetIndex) -> Iterator[Finding]:
    """About how long a run takes on a CPU, and with what most of it."""
    if config.device == "cuda":
        return
    seconds = run_seconds(config, index)
    if not sum(seconds.values()):
        return
    longest = sorted(seconds, key=seconds.get, reverse=True)[:SHOWN]
    parts = ", ".join(f"{kind} {readable_minutes(seconds[kind])}" for kind in longest)
    message = (
        f"about {readable_minutes(sum(seconds.values()))} of one core for a run, less with more"
        f" cores ({parts}, ...)"
    )
    yield Finding("ok", "time", message)


def check_gallery(config: Configuration, index: DatasetIndex) -> Finding:
    """How many images the gallery will show, and about how large it will be."""
    limit = config.gallery.images
    shown = sum(len(chosen(index.split(split), limit)) for split in SPLITS)
    size = readable_bytes(disk_needed(config, index)["gallery"])
    message = f"about {size} for {shown} images"
    if shown < len(index.records):
        message += f" of {len(index.records)}; gallery.images: {limit} a split"
    return Finding("ok", "gallery", message)


def check_crf(config: Configuration, index: DatasetIndex) -> Iterator[Finding]:
    """Time and memory of the largest photograph in the test CRF, and how many a job takes at once.

    Of the first variant: they differ in other things.
    """
    crf = variant_config(config, next(iter(config.variants))).prediction.crf
    if not crf.iterations or not index.records:
        return
    largest = max(index.records, key=lambda record: record.width * record.height)
    size, job = (largest.height, largest.width), config.resources.crf
    height, width = working_size(size, crf)
    needed = crf_bytes(size, crf)
    reduced = f" on {width}x{height} of it" if (height, width) != size else ""
    at_once = max(1, min(job.threads, job.mem_mb * 10**6 // needed))
    message = (
        f"the largest photograph, {largest.image_id}, {largest.width}x{largest.height}:"
        f" {ceil(crf_seconds(size, crf))} s and {readable_bytes(needed)}{reduced}; up to {at_once}"
        f" at once in {readable_bytes(job.mem_mb * 10**6)} (resources.crf)"
    )
    if needed > job.mem_mb * 10**6:
        message += ": too little, raise resources.crf.mem_mb, or set prediction.crf.long_side"
    yield Finding("note" if needed > job.mem_mb * 10**6 else "ok", "CRF", message)


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


def check_cache() -> Iterator[Finding]:
    """Snakemake keeps a cache in the home folder, and ends with a traceback where it cannot."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    try:
        (folder / "snakemake").mkdir(parents=True, exist_ok=True)
        writable = os.access(folder / "snakemake", os.W_OK)
    except OSError:
        writable = False
    if not writable:
        yield Finding(
            "problem",
            "home",
            f"Snakemake cannot write to {folder}: export XDG_CACHE_HOME=/a/folder/of/yours",
        )
