"""Scores of pseudo labels over thresholds as a figure, which says that it is tuned on masks."""

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import documented_parser, run
from wsss.configuration.method_sections import PseudoLabels
from wsss.method.evaluation import read_columns
from wsss.reports.figure_files import save_figure
from wsss.reports.score_figures import draw_sweep

COLUMNS = ("cam_threshold", "saliency_threshold", "precision", "recall", "iou", "tuned_on")


def main(argv: list[str] | None = None) -> None:
    parser = documented_parser(__doc__)
    arguments.add_settings(parser, PseudoLabels)
    parser.add_argument("--sweep", required=True)
    parser.add_argument("--headline", required=True)
    parser.add_argument("--output", required=True, help="PNG; PDF and CSV come beside it")
    args = parser.parse_args(argv)
    table = read_columns(args.sweep, COLUMNS)
    used = (args.settings.cam_threshold, args.settings.saliency_threshold)
    save_figure(args.output, draw_sweep(table, used, args.headline), table)


if __name__ == "__main__":
    run(main)
