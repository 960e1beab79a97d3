"""Pseudo labels of a shard: CRF on the saliency (stage >= 1), fusion with the CAMs.

At stage 0 the segmentation may be another tool's, from files, instead of the fusion. A negative is
background, and needs no file. At every stage, masks that people corrected stand in for the pseudo
labels of their images.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.parallel import map_images
from wsss.configuration import method_sections
from wsss.datasets.corrected_masks import CorrectedMasks, corrected_masks, digest_of_masks
from wsss.datasets.files_per_image import FilesPerImage, label_files
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import listed
from wsss.method.crf import crf_processes
from wsss.method.pseudo_labels import make_pseudo_labels, negative_labels, pseudo_labels_of_mask
from wsss.storage.artifacts import CORRECTED, ArtifactReader, ArtifactWriter

log = logging.getLogger(__name__)


@dataclass
class PseudoLabels:
    """The pseudo labels of a record; picklable, so that processes can share the work."""

    index: DatasetIndex
    settings: method_sections.PseudoLabels
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
        if record.is_negative:
            return negative_labels(saliency.shape)
        return saliency, self.index.read_label_map(record, self.files.path(record))


@dataclass
class WithCorrected:
    """The pseudo labels of a record, from its corrected mask if it has one; picklable."""

    labels: PseudoLabels | GivenLabels
    corrected: CorrectedMasks

    def __call__(self, record: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
        saliency, segmentation = self.labels(record)
        if record.image_id not in self.corrected:
            return saliency, segmentation
        return pseudo_labels_of_mask(saliency, self.corrected.read(record))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    work, readers = work_of(args, index, records)
    sources = {path: digest for reader in readers for path, digest in reader.sources.items()}
    corrected = ()
    if args.settings.corrected:
        corrected = corrected_masks(args.settings.corrected, index)
        work = WithCorrected(work, corrected)
        sources[args.settings.corrected] = digest_of_masks(args.settings.corrected)
        tell(corrected)
    processes = processes_of(args, records)
    with ArtifactWriter(
        args.output,
        "pseudo_labels",
        identity=arguments.identity(args, index, "variant", "seed", "stage") | {"split": "train"},
        parameters=arguments.given(args.settings),
        sources=sources,
        expected=[record.image_id for record in records],
    ) as artifact:
        labels = map_images(work, records, processes, "pseudo labels")
        for record, (sal, seg) in zip(records, labels, strict=True):
            maps = {"saliency": sal, "segmentation": seg}
            marks = {CORRECTED: True} if record.image_id in corrected else {}
            artifact.write(record.image_id, maps, **marks)


def parse(argv: list[str] | None) -> Namespace:
    parser = arguments.command_parser(__doc__, method_sections.PseudoLabels)
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


def tell(corrected: CorrectedMasks) -> None:
    """How many masks there are, and which are passed over; `make check` looks at them all."""
    log.info("%d training images have corrected masks", len(corrected.names))
    if corrected.near:
        log.info("%s: taken for nearly the same name: %s", corrected.path, corrected.near)
    for ids, why in (
        (corrected.elsewhere, "of images that are not trained on"),
        (corrected.strangers, "that are called like no image to learn from"),
    ):
        if ids:
            log.warning("%s: %d masks %s: %s", corrected.path, len(ids), why, listed(ids))


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
        files.check([record for record in records if not record.is_negative])
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
