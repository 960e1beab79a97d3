"""Pseudo labels as palette PNGs `<image id>.png`, in the values of the data set's own masks.

python -m workflow_scripts.export_pseudo_labels \\
    results/demo/auxsegnet/seed0/stage2/pseudo_labels/*.h5 --out pseudo_labels
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.export import export_images, export_parser, open_exported
from wsss.datasets.index import DatasetIndex, ImageRecord, check_id
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.files import atomic_path
from wsss.storage.palette import write_palette_png


@dataclass
class PseudoLabelExport:
    """Writes the files of a record; picklable, so that processes can share the work."""

    index: DatasetIndex
    labels: ArtifactReader
    folder: Path
    saliency: Path | None

    def __call__(self, record: ImageRecord) -> None:
        name = f"{check_id(record.image_id, 'pseudo labels')}.png"
        maps = self.labels.read(record.image_id).array
        write_palette_png(self.folder / name, self.index.mask_of(maps["segmentation"]))
        if self.saliency:
            with atomic_path(self.saliency / name) as temporary:
                Image.fromarray(maps["saliency"]).save(temporary, format="PNG")


def main(argv: list[str] | None = None) -> None:
    parser = export_parser(__doc__)
    parser.add_argument("--saliency", metavar="DIR", help="write the saliency too, as 8-bit grey")
    args = parser.parse_args(argv)
    index, labels = open_exported(args, "pseudo_labels")
    saliency = Path(args.saliency) if args.saliency else None
    if saliency and saliency.resolve() == Path(args.out).resolve():
        parser.error("--saliency and --out are the same folder: the files have the same names")
    work = PseudoLabelExport(index, labels, Path(args.out), saliency)
    export_images(work, index, labels, args.threads, "exporting pseudo labels")


if __name__ == "__main__":
    run(main)
