"""What a score costs: mIoU of the predictions against the time that led to it."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from wsss.reports.score_figures import DPI, finish

SCORE = "val_miou_crf"
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D")
TIMES = {"gpu_hours": "GPU hours", "cpu_minutes": "CPU minutes"}
LEAST_RANGE = 10  # points of mIoU, so that a difference of one looks like one
SHARED_BY_SEEDS = ("", "saliency")  # steps before the first that depends on the seed


def costs(
    footprint: pd.DataFrame,
    summaries: Mapping[str, pd.DataFrame],
    shared: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """What one seed took until a stage was scored, with its predictions, and how good they are.

    Args:
        footprint: of a run, by step and stage.
        summaries: scores by stage of each variant.
        shared: parts of the run beside its own that a variant needs, such as its classifier.

    Returns:
        DataFrame: variant, stage, runs, cpu_minutes, gpu_hours, miou and miou_std (percent).
    """
    rows = []
    for variant, summary in summaries.items():
        for scores in summary.to_dict("records"):
            own = (footprint["part"] == variant) & (footprint["stage"] <= scores["stage"])
            needed = footprint[own | footprint["part"].isin(["", *shared[variant]])]
            kinds = needed["part"].str.partition("/")[0]
            seeds = kinds.isin(SHARED_BY_SEEDS).map({True: 1, False: scores["runs"]})
            row = {"variant": variant, "stage": scores["stage"], "runs": scores["runs"]}
            row["cpu_minutes"] = (needed["cpu_seconds"] / seeds).sum() / 60
            row["gpu_hours"] = (needed["gpu_hours"] / seeds).sum()
            rows.append(row | {"miou": scores[SCORE], "miou_std": scores[f"{SCORE}_std"]})
    return pd.DataFrame(rows)


def draw_costs(table: pd.DataFrame, headline: str) -> Figure:
    """A line a variant, a mark a stage; of GPU hours where a GPU was used, else of CPU minutes.

    Names stand beside the axes, the best on top: marks of many variants lie close together.

    Args:
        table: of `costs`.
        headline: what the figure is of.
    """
    figure = Figure(figsize=(9, 5), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    time = "gpu_hours" if table["gpu_hours"].any() else "cpu_minutes"
    by_last = []
    for number, (variant, rows) in enumerate(table.groupby("variant", sort=False)):
        deviation = rows["miou_std"].fillna(0)
        line = axes.errorbar(
            rows[time],
            rows["miou"],
            yerr=deviation if deviation.any() else None,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            markersize=5,
            capsize=3,
        )
        by_last.append((rows["miou"].iloc[-1], number, line, variant))
    _, _, lines, names = zip(*sorted(by_last, reverse=True), strict=True)
    figure.legend(lines, names, loc="outside right upper", frameon=False, fontsize=9)
    axes.set_xlim(left=0)
    low, high = axes.get_ylim()
    room = max(0, LEAST_RANGE - (high - low)) / 2
    axes.set_ylim(low - room, high + room)
    axes.set_xlabel(f"{TIMES[time]}, a seed")
    axes.set_ylabel("mIoU in percent, with the CRF")
    finish(axes)
    figure.suptitle(headline)
    return figure
