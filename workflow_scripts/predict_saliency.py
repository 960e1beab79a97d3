"""Off-the-shelf saliency of a shard of the training images."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration.sections import Saliency
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.saliency import ReadyMaps, U2Netp, create_source, source_files
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.files import sha256_of


@dataclass
class SaliencyMaps:
    """The saliency map of a record; picklable, each process loads the source for itself."""

    index: DatasetIndex
    settings: Saliency

    def __call__(self, record: ImageRecord) -> np.ndarray:
        return self.source.predict(record, self.index.read_image(record))

    @cached_property
    def source(self) -> U2Netp | ReadyMaps:
        """The source that is chosen."""
        return create_source(self.settings)


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Saliency)
    arguments.add_run(parser, "shard", "shards")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    create_source(args.settings).check(records)
    work = SaliencyMaps(index, args.settings)
    files = {file: sha256_of(file) for file in source_files(args.settings)}
    with ArtifactWriter(
        args.output,
        "saliency",
        identity=arguments.identity(args, index) | {"split": "train"},
        parameters=arguments.given(args.settings),
        sources={"index": index.digest, **files},
        expected=[record.image_id for record in records],
    ) as artifact:
        maps = map_images(work, records, args.threads, "saliency")
        for record, saliency in zip(records, maps, strict=True):
            artifact.write(record.image_id, saliency)


if __name__ == "__main__":
    run(main)
