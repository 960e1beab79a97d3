"""The gallery: a page that shows the images of a data set with what every run made of them.

It opens from disk by a double-click. Label maps and scores are those of the artifacts; photographs
and maps are shrunk to `long_side`. Of splits with more images, evenly spaced ones are shown.
"""

from argparse import Namespace
from pathlib import Path

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration.key_types import Section
from wsss.configuration.output_sections import Gallery
from wsss.datasets.index import SPLITS, TEST, DatasetIndex
from wsss.reports.gallery.choice import chosen
from wsss.reports.gallery.layers import Layers
from wsss.reports.gallery.page import PICTURES, write_page
from wsss.reports.gallery.pictures import Pictures


class Variant(Section):
    """What the page has to know of a variant, to find its artifacts and to score them."""

    stages: int
    source: str
    classifier: str | None
    ignore_prediction: str


class GallerySettings(Gallery):
    """What is shown, and what there is to be shown."""

    variants: dict[str, Variant]
    seeds: tuple[int, ...]
    splits: tuple[str, ...]
    shards: int
    intermediate: bool


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, GallerySettings)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True, help="index.html; the rest goes beside it")
    args = parser.parse_args(argv)
    settings = args.settings
    index = arguments.dataset_index(args, test=TEST in settings.splits)
    layers = layers_of(args, index)
    records = [r for split in SPLITS for r in chosen(index.split(split), settings.images)]
    folder = Path(args.output).parent / PICTURES
    work = Pictures(index, layers.all, settings.long_side, folder)
    rows = list(map_images(work, records, args.threads, "gallery"))
    of = {split: len(index.split(split)) for split in SPLITS if index.split(split)}
    write_page(args.output, Path(args.data).name, index.classes, layers.runs, rows, of)


def layers_of(args: Namespace, index: DatasetIndex) -> Layers:
    """All layers of all runs; every stage is asked about val, the last one about all splits."""
    settings = args.settings
    identity = arguments.identity(args, index)
    layers = Layers(args.data, identity, settings.shards, settings.intermediate)
    for name, variant in settings.variants.items():
        for seed in settings.seeds:
            for stage in range(variant.stages):
                last = stage == variant.stages - 1
                layers.add_run(
                    {"variant": name, "seed": seed, "stage": stage},
                    source=variant.source,
                    classifier=variant.classifier,
                    splits=[s for s in SPLITS if s == "val" or (last and s in settings.splits)],
                    ignore_prediction=variant.ignore_prediction,
                )
    return layers


if __name__ == "__main__":
    run(main)
