"""Pseudo labels of a shard: CRF on the saliency (stage >= 1), fusion with the CAMs.

At stage 0 the segmentation may be another tool's, from files, instead of the fusion.
"""

from dataclasses import dataclass

import numpy as np

from workflow_scripts import arguments
from workflow_scripts.command import run
from wsss.artifacts import ArtifactReader, ArtifactWriter
from wsss.datasets.index import DatasetIndex
from wsss.image_files import ImageFiles, label_files
from wsss.parallel import map_images
from wsss.pseudo_labels import make_pseudo_labels


@dataclass
class PseudoLabels:
    """The pseudo labels of a record; picklable, so that processes can share the work."""

    index: DatasetIndex
    cams: ArtifactReader
    off_the_shelf: ArtifactReader
    refined: ArtifactReader | None
    settings: dict

    def __call__(self, record):
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
    files: ImageFiles

    def __call__(self, record):
        saliency = self.off_the_shelf.read(record.image_id).array
        return saliency, self.index.read_label_map(record, self.files.path(record))


def main(argv=None):
    made = arguments.parser(__doc__)
    arguments.add_run(made, "variant", "seed", "stage", "shard", "shards")
    made.add_argument("--cams", help="for all but labels from files")
    made.add_argument("--saliency", required=True, help="off-the-shelf saliency")
    made.add_argument("--refined-saliency", help="refined saliency, for stages >= 1")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--output", required=True)
    args = made.parse_args(argv)
    if "files" not in args.settings and not args.cams:
        made.error("--cams is needed, or the setting files")
    index = arguments.dataset_index(args)
    records = index.shard("train", args.shard, args.shards)
    data = arguments.identity(args, index)
    saliency = ArtifactReader(args.saliency, "saliency", **data)
    later = {"stage": args.stage} | ({"variant": args.variant} if args.stage else {})
    cams, refined = (
        ArtifactReader(path, kind, **data, seed=args.seed, **later) if path else None
        for path, kind in ((args.cams, "cams"), (args.refined_saliency, "refined_saliency"))
    )
    if "files" in args.settings:
        files = label_files(args.settings["files"])
        files.check(records)
        work = GivenLabels(index, saliency, files)
    else:
        work = PseudoLabels(index, cams, saliency, refined, args.settings)
    readers = [reader for reader in (cams, saliency, refined) if reader]
    with ArtifactWriter(
        args.output,
        "pseudo_labels",
        identity=arguments.identity(args, index, "variant", "seed", "stage") | {"split": "train"},
        parameters=args.settings,
        sources={path: digest for reader in readers for path, digest in reader.sources.items()},
        expected=[record.image_id for record in records],
    ) as artifact:
        labels = map_images(work, records, args.threads, "pseudo labels")
        for record, (sal, seg) in zip(records, labels, strict=True):
            artifact.write(record.image_id, {"saliency": sal, "segmentation": seg})


if __name__ == "__main__":
    run(main)
