"""Pseudo labels of a shard: CRF on the saliency (stage >= 1), fusion with the CAMs.

At stage 0 the segmentation may be another tool's, from files, instead of the fusion.
"""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration import sections
from wsss.datasets.files_per_image import FilesPerImage, label_files
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.crf import crf_processes
from wsss.method.pseudo_labels import make_pseudo_labels
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter


@dataclass
class PseudoLabels:
    """The pseudo labels of a record; picklable, so that processes can share the work."""

    index: DatasetIndex
    settings: sections.PseudoLabels
    cams: ArtifactReader
    off_the_shelf: ArtifactReader
    refined: ArtifactReader | None = None

    def __call__(self, record: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
        cams = self.cams.read(record.image_id)
        refined = self.refined and self.refined.read(record.image_id).array.astype(np.float32)
        return make_pseudo_labels(
            self.index.read_image(record),
            cams.array.astype(np.float32),
            cams.attributes["keys"],
            self.off_the_shelf.read(record.image_id).array,
            refined,
            self.settings,
        )


@dataclass
class GivenLabels:
    """The saliency of a record as it is, and segmentation labels from files; picklable."""

    index: DatasetIndex
    off_the_shelf: ArtifactReader
    files: FilesPerImage

    def __call__(self, record: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
        saliency = self.off_the_shelf.read(record.image_id).array
        return saliency, self.index.read_label_map(record, self.files.path(record))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    work, readers = work_of(args, index, records)
    processes = processes_of(args, records)
    with ArtifactWriter(
        args.output,
        "pseudo_labels",
        identity=arguments.identity(args, index, "variant", "seed", "stage") | {"split": "train"},
        parameters=arguments.given(args.settings),
        sources={path: digest for reader in readers for path, digest in reader.sources.items()},
        expected=[record.image_id for record in records],
    ) as artifact:
        labels = map_images(work, records, processes, "pseudo labels")
        for record, (sal, seg) in zip(records, labels, strict=True):
            artifact.write(record.image_id, {"saliency": sal, "segmentation": seg})


def parse(argv: list[str] | None) -> Namespace:
    parser = arguments.command_parser(__doc__, sections.PseudoLabels)
    arguments.add_run(parser, "variant", "seed", "stage", "shard", "shards")
    parser.add_argument("--cams", help="for all but labels from files")
    parser.add_argument("--saliency", required=True, help="off-the-shelf saliency")
    parser.add_argument("--refined-saliency", help="refined saliency, for stages >= 1")
    arguments.add_crf(parser)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    if args.settings.initial == "fusion" and not args.cams:
        parser.error("--cams is needed, or the setting initial: files")
    return args


def processes_of(args: Namespace, records: Sequence[ImageRecord]) -> int:
    """How many share the work: CRFs, of background and foreground, follow the job's memory."""
    if not args.refined_saliency:
        return args.threads
    return crf_processes(records, args.settings.saliency_crf, args.threads, args.mem_mb, labels=2)


def work_of(
    args: Namespace, index: DatasetIndex, records: Sequence[ImageRecord]
) -> tuple[PseudoLabels | GivenLabels, list[ArtifactReader]]:
    """The function that makes the pseudo labels of a record, and the artifacts that it reads."""
    data = arguments.identity(args, index)
    saliency = ArtifactReader(args.saliency, "saliency", **data)
    if args.settings.initial == "files":
        files = label_files(args.settings.files)
        files.check(records)
        return GivenLabels(index, saliency, files), [saliency]
    identity = data | {"seed": args.seed, "stage": args.stage}
    identity |= {"variant": args.variant} if args.stage else {}
    cams = ArtifactReader(args.cams, "cams", **identity)
    readers = [cams, saliency]
    if args.refined_saliency:
        readers.append(ArtifactReader(args.refined_saliency, "refined_saliency", **identity))
    return PseudoLabels(index, args.settings, *readers), readers


if __name__ == "__main__":
    run(main)
