"""The archive for VOC's evaluation server, from label maps of the test images after the CRF."""

import logging
from pathlib import Path

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.progress import progress
from wsss.datasets.voc import CLASSES
from wsss.errors import InputError
from wsss.reports.voc_submission import write_submission
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.images import image_size

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--labels", nargs="+", required=True, help="predictions_crf of all shards")
    parser.add_argument("--output", required=True, help="the .tar.gz")
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args, test=True)
    records = index.split("test")
    if index.classes != CLASSES:
        raise InputError("dataset.classes: the server wants VOC's 20 classes in order: set null")
    if not records:
        raise InputError("dataset.voc.test_list names no image: name VOC 2012's test list")
    identity = arguments.identity(args, index, "variant", "seed", "stage") | {"split": "test"}
    labels = ArtifactReader(args.labels, "predictions_crf", **identity)
    maps = (
        (record.image_id, labels.read(record.image_id).array)
        for record in progress(records, desc="masks", unit="image")
    )
    # From the photographs as they are now; the index may be older.
    sizes = {record.image_id: image_size(index.root / record.image) for record in records}
    write_submission(args.output, maps, sizes)
    log.info("%s: %d masks", Path(args.output), len(records))


if __name__ == "__main__":
    run(main)
