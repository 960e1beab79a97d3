"""CAMs as the files that other tools read: `<image id>.npy`, at the size of the images.

python -m workflow_scripts.export_cams results/demo/classifier/default/seed0/cams/*.h5 \\
    --format irn --out cams --data results/demo
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.export import export_images, export_parser, open_exported
from wsss.datasets.cam_files import IRN_STRIDE, WRITERS, file_classes, strided_size
from wsss.datasets.index import DatasetIndex, ImageRecord, check_id
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.pixels import resize_maps


@dataclass
class CamExport:
    """Writes the file of a record; picklable, so that processes can share the work."""

    index: DatasetIndex
    cams: ArtifactReader
    style: str
    folder: Path

    def __call__(self, record: ImageRecord) -> None:
        found = self.cams.read(record.image_id)
        cams, keys = found.array.astype(np.float32), found.attributes["keys"]
        size = (record.height, record.width)
        numbers = file_classes(self.index)
        if tuple(found.attributes["size"]) != size or len(keys) != len(cams):
            raise InputError(
                f"image {record.image_id}: its CAMs do not fit the index; remake the CAMs"
            )
        WRITERS[self.style](
            self.folder / f"{check_id(record.image_id, 'CAMs')}.npy",
            [numbers[key] for key in keys],
            resize_maps(cams, size),
            resize_maps(cams, strided_size(size, IRN_STRIDE)),
        )


def main(argv: list[str] | None = None) -> None:
    parser = export_parser(__doc__)
    parser.add_argument(
        "--format",
        required=True,
        choices=list(WRITERS),
        help="psa: a dict of class -> map; irn: keys, cam (stride 4) and high_res",
    )
    args = parser.parse_args(argv)
    index, cams = open_exported(args, "cams")
    work = CamExport(index, cams, args.format, Path(args.out))
    export_images(work, index, cams, args.threads, "exporting CAMs")


if __name__ == "__main__":
    run(main)
