"""Pseudo labels of a stage at many thresholds: precision, recall and mIoU of each pair.

Against the masks of the scored training images, and so the table says `tuned_on` ground truth: a
threshold that is chosen by it is no longer weakly supervised. Every image is decoded once; the
labels scored are those that make_pseudo_labels would make at these thresholds.
"""

from argparse import Namespace
from dataclasses import dataclass

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.make_pseudo_labels import PseudoLabels, work_of
from wsss.compute.parallel import map_images
from wsss.configuration import method_sections
from wsss.datasets.corrected_masks import corrected_masks
from wsss.datasets.index import ImageRecord
from wsss.method.evaluation import with_ground_truth, write_table
from wsss.method.metrics import IGNORE_PREDICTION
from wsss.method.pseudo_labels import cams_to_fuse, updated_saliency
from wsss.method.threshold_sweep import ThresholdSweep, sweep_table
from wsss.storage.pixels import resize_map, resize_maps

CAM_THRESHOLDS = [round(0.05 * step, 2) for step in range(1, 13)]
SALIENCY_THRESHOLDS = [0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]


@dataclass
class Sweeping:
    """The cells of a record in the sweep; picklable, so that processes can share the work."""

    fusion: PseudoLabels
    sweep: ThresholdSweep

    def __call__(self, record: ImageRecord) -> tuple[np.ndarray, np.ndarray]:
        cams = self.fusion.cams.read(record.image_id)
        truth = self.fusion.index.read_mask(record)
        saliency = self._saliency(record)
        maps = resize_maps(cams.array.astype(np.float32), truth.shape)
        maps = cams_to_fuse(maps, saliency, self.fusion.settings)
        return self.sweep.cells(maps, cams.attributes["keys"], saliency, truth)

    def _saliency(self, record):
        """What the CAMs are fused with, as in `make_pseudo_labels`."""
        original = self.fusion.off_the_shelf.read(record.image_id).array.astype(np.float32) / 255
        if record.is_negative:
            return np.zeros_like(original)
        if not self.fusion.refined or self.fusion.settings.background == "off_the_shelf":
            return original
        refined = resize_map(self.fusion.refined.read(record.image_id).array, original.shape)
        image = self.fusion.index.read_image(record)
        return updated_saliency(image, refined, original, self.fusion.settings.saliency_crf)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    index = arguments.dataset_index(args)
    train = index.split("train")
    corrected = corrected_masks(path, index) if (path := args.settings.corrected) else ()
    scored = [r for r in train if r.scored and r.mask and r.image_id not in corrected]
    sweep = ThresholdSweep(
        len(index.classes),
        [*args.cam_thresholds, args.settings.cam_threshold],
        [*args.saliency_thresholds, args.settings.saliency_threshold],
    )
    fusion, _ = work_of(args, index, scored)
    work = Sweeping(fusion, sweep)
    for cells, pixels in map_images(work, scored, args.threads, "sweeping"):
        sweep.add(cells, pixels)
    table = sweep_table(sweep, args.ignore_prediction)
    write_table(args.output, with_ground_truth(table, scored, len(train)))


def parse(argv: list[str] | None) -> Namespace:
    parser = arguments.command_parser(__doc__, method_sections.PseudoLabels)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--cams", nargs="+", required=True)
    parser.add_argument("--saliency", nargs="+", required=True, help="off-the-shelf saliency")
    parser.add_argument("--refined-saliency", nargs="+", help="for stages >= 1")
    beside = {"type": float, "nargs": "+", "help": "beside that of the settings"}
    parser.add_argument("--cam-thresholds", default=CAM_THRESHOLDS, **beside)
    parser.add_argument("--saliency-thresholds", default=SALIENCY_THRESHOLDS, **beside)
    parser.add_argument("--ignore-prediction", choices=IGNORE_PREDICTION, default="miss")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    if args.settings.initial == "files":
        parser.error("labels from files have no thresholds; sweep those of a later stage")
    return args


if __name__ == "__main__":
    run(main)
