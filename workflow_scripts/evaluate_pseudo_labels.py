"""Scores of a stage's segmentation pseudo labels against the masks of the scored images."""

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.progress import progress
from wsss.configuration.sections import Evaluation
from wsss.method.evaluation import score_table, with_ground_truth, write_table
from wsss.method.metrics import ConfusionMatrix
from wsss.storage.artifacts import ArtifactReader


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Evaluation)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--pseudo-labels", nargs="+", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage")
    labels = ArtifactReader(args.pseudo_labels, "pseudo_labels", **identity)
    train = index.split("train")
    scored = [record for record in train if record.scored and record.mask]
    matrix = ConfusionMatrix(len(index.classes), args.settings.ignore_prediction)
    for record in progress(scored, desc="scoring", unit="image"):
        label = labels.read(record.image_id, ["segmentation"]).array["segmentation"]
        matrix.update(label, index.read_mask(record))
    table = score_table(matrix, index.classes)
    write_table(args.output, with_ground_truth(table, scored, len(train)))


if __name__ == "__main__":
    run(main)
