"""Off-the-shelf saliency of a shard of the training images; that of a negative is zero."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration.data_sections import Source
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError
from wsss.method.saliency import (
    CentrePrior,
    ReadyMaps,
    U2Net,
    create_source,
    dark_maps,
    source_files,
)
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.files import sha256_of


@dataclass
class SaliencyMaps:
    """The saliency map of a record; picklable, each process loads the source for itself."""

    index: DatasetIndex
    name: str
    settings: Source

    def __call__(self, record: ImageRecord) -> np.ndarray:
        if record.is_negative:  # whatever it shows, it is none of the classes
            return np.zeros((record.height, record.width), np.uint8)
        return self.source.predict(record, self.index.read_image(record))

    @cached_property
    def source(self) -> U2Net | ReadyMaps | CentrePrior:
        """The source of the maps."""
        return create_source(self.name, self.settings)


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Source)
    arguments.add_run(parser, "shard", "shards")
    parser.add_argument("--source", required=True, help="its name in the configuration")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    work = SaliencyMaps(index, args.source, args.settings)
    needed = [record for record in records if not record.is_negative]
    create_source(args.source, args.settings).check(needed)
    files = {file: sha256_of(file) for file in source_files(args.source, args.settings)}
    with ArtifactWriter(
        args.output,
        "saliency",
        identity=arguments.identity(args, index) | {"split": "train"},
        parameters=arguments.given(args.settings),
        sources={"index": index.digest, **files},
        expected=[record.image_id for record in records],
    ) as artifact:
        maps = map_images(work, records, args.threads, "saliency")
        highest = {}
        for record, saliency in zip(records, maps, strict=True):
            artifact.write(record.image_id, saliency)
            if record.labels:
                highest[record.image_id] = int(saliency.max())
        dark = dark_maps(highest)
        if dark and dark.most:
            raise InputError(f"{args.source}: {dark.message}")


if __name__ == "__main__":
    run(main)
