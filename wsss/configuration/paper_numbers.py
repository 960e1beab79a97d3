"""What the paper reports, of `config/paper`, for the data sets that it reports on."""

import csv
from functools import cache
from pathlib import Path

from wsss.configuration.paths import CODE
from wsss.configuration.sections import Configuration

PAPER = CODE / "config" / "paper"
COCO_OF_THE_PAPER = "instances_val2014.json"
VOC_CLASSES = 20


def paper_numbers(config: Configuration) -> dict[tuple[str, str], dict[str, float]]:
    """(table, row) -> column -> what the paper reports, where the data set is one of its own."""
    dataset = config.dataset
    if dataset.format == "voc" and len(dataset.classes or range(VOC_CLASSES)) == VOC_CLASSES:
        return _numbers("voc2012")
    of_paper = Path(dataset.coco.val_annotations).name == COCO_OF_THE_PAPER
    if dataset.format == "coco" and dataset.classes is None and of_paper:
        return _numbers("coco2014")
    return {}


@cache
def _numbers(name):
    numbers: dict[tuple[str, str], dict[str, float]] = {}
    with open(PAPER / f"{name}.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            numbers.setdefault((row["table"], row["row"]), {})[row["column"]] = float(row["value"])
    return numbers
