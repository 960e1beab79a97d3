"""Label maps of a shard after the test CRF, and how sure they are by the probabilities."""

from dataclasses import dataclass

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration.method_sections import Crf
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.crf import SEVERAL_LABELS, crf_processes
from wsss.method.label_maps import label_map_of
from wsss.method.uncertainty import Uncertainty, uncertainty_of
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter


@dataclass
class CrfLabels:
    """Label map and uncertainty of a record; picklable, so that processes can share the work."""

    index: DatasetIndex
    predictions: ArtifactReader
    crf: Crf

    def __call__(self, record: ImageRecord) -> tuple[np.ndarray, Uncertainty]:
        image = self.index.read_image(record)
        prediction = self.predictions.read(record.image_id)
        probabilities, labels = prediction.array["probabilities"], prediction.attributes["keys"]
        label_map = label_map_of(image, probabilities, labels, self.crf)
        return label_map, uncertainty_of(label_map, probabilities, labels)


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Crf)
    arguments.add_run(parser, "variant", "seed", "stage", "split", "shard", "shards")
    parser.add_argument("--predictions", required=True)
    arguments.add_crf(parser)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage", "split")
    predictions = ArtifactReader(args.predictions, "predictions", **identity)
    records = index.shard(args.split, args.shard, args.shards)
    work = CrfLabels(index, predictions, args.settings)
    labels = min(len(index.classes) + 1, SEVERAL_LABELS)
    processes = crf_processes(records, args.settings, args.threads, args.mem_mb, labels)
    with ArtifactWriter(
        args.output,
        "predictions_crf",
        identity=identity,
        parameters=arguments.given(args.settings),
        sources=predictions.sources,
        expected=[record.image_id for record in records],
    ) as artifact:
        labels = map_images(work, records, processes, "CRF")
        for record, (label_map, uncertainty) in zip(records, labels, strict=True):
            artifact.write(record.image_id, label_map, **uncertainty._asdict())


if __name__ == "__main__":
    run(main)
