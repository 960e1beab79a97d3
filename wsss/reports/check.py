"""What can be known before hours of compute, in the order in which it is told."""

from pathlib import Path

from wsss.configuration.sections import Configuration
from wsss.datasets.formats import paints_masks
from wsss.datasets.index import DatasetIndex
from wsss.reports.data_checks import (
    check_corrected,
    check_earlier,
    check_images,
    check_imported_cams,
    check_label_files,
    check_quality,
    check_sources,
)
from wsss.reports.disk import disk_needed
from wsss.reports.findings import Finding
from wsss.reports.machine_checks import (
    check_all_weights,
    check_cache,
    check_crf,
    check_device,
    check_disk,
    check_gallery,
    check_time,
)


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
        *check_time(config, index),
        *check_quality(config, index),
        check_gallery(config, index),
        *check_crf(config, index),
        *check_cache(),
        check_disk(disk_needed(config, index), results),
        *check_earlier(index, Path(results, config.dataset.name)),
    ]


def check_without_index(config: Configuration) -> list[Finding]:
    """What can be said although the data set cannot: saliency's source, weights and device."""
    return [
        *check_sources(config, None),
        *check_all_weights(config),
        check_device(config.device),
        *check_cache(),
        Finding("note", "disk", "not estimated without the data set"),
    ]
