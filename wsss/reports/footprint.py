"""What a run took: time, memory and GPUs by step and stage, from the files that jobs leave behind.

Snakemake writes a file of times a job to `results/benchmarks`, and what the command says lies under
the same name in `results/logs`. Each is of the last attempt of its job: what an interrupted or
repeated one took before is not known. Memory is looked at twice a second at first, then every 30
seconds, so that a short peak of a long job may be missed.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wsss.compute.gpus import gpus_of_log
from wsss.errors import InputError, reason_of
from wsss.reports.result_tables import markdown_table

ORDER = ("part", "stage", "step")
COLUMNS = (*ORDER, "jobs", "seconds", "cpu_seconds", "peak_mb", "gpu_hours")
TOTAL = "all"
HOW_TO_READ = (
    "- Sums over jobs (seeds, shards, splits); the memory is the largest of one job. Jobs run side"
    " by side, so the seconds are no waiting time.",
    "- Of each job the last attempt counts. Short jobs have no CPU time or memory: Snakemake"
    " looks twice a second, and after a while every 30 seconds.",
)


def jobs_of(benchmarks: str | Path, logs: str | Path) -> pd.DataFrame:
    """A row a job: part, stage, step, seconds, cpu_seconds, peak_mb, gpu_hours.

    Args:
        benchmarks, logs: folders of the data set in `results/benchmarks` and `results/logs`.

    Raises:
        InputError: a file of times is damaged.
    """
    rows = []
    for path in sorted(Path(benchmarks).rglob("*.tsv")):
        place = path.relative_to(benchmarks)
        took = _read(path)
        gpus = _gpus(Path(logs, place).with_suffix(".log"))
        hours = {"gpu_hours": took["seconds"] * gpus / 3600}
        rows.append(dict(zip(ORDER, step_of(place), strict=True)) | took | hours)
    return pd.DataFrame(rows, columns=[*ORDER, "seconds", "cpu_seconds", "peak_mb", "gpu_hours"])


def step_of(place: Path) -> tuple[str, str, str]:
    """Part of the run, stage (empty for none) and step of a file of times.

    auxsegnet/seed0/stage1/predictions/val/shard0.tsv is auxsegnet, 1, predictions;
    saliency/u2netp/shard0.tsv is saliency/u2netp, without a stage, of the step saliency.
    """
    names = [*place.with_suffix("").parts]
    if names[-1].startswith("shard"):
        names.pop()
    stage = next((name for name in names if name.startswith("stage")), "")
    cut = next((i for i, name in enumerate(names) if name.startswith("seed")), len(names))
    steps = [name for name in names[cut + 1 :] if name != stage]
    part, step = "/".join(names[:cut]), steps[0] if steps else names[0]
    return "" if part == step else part, stage.removeprefix("stage"), step


def _read(path):
    try:
        found = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
        took = found[["s", "cpu_time", "max_rss"]].astype(float).iloc[-1]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)})") from error
    except (ValueError, LookupError) as error:
        raise InputError(f"{path}: no file of times ({reason_of(error)}); remove it") from error
    return {"seconds": took["s"], "cpu_seconds": took["cpu_time"], "peak_mb": took["max_rss"]}


def _gpus(log):
    return gpus_of_log(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else 0


def footprint(jobs: pd.DataFrame) -> pd.DataFrame:
    """A row for each step of each stage, and the last one for all of them.

    Returns:
        DataFrame: part, stage, step, jobs, seconds, cpu_seconds, peak_mb (of one job), gpu_hours.
    """
    steps = _sums(jobs.groupby(list(ORDER), sort=False)).reset_index()
    total = _sums(jobs.groupby(lambda _: TOTAL)).assign(part=TOTAL, stage="", step="")
    return pd.concat([steps, total], ignore_index=True)[list(COLUMNS)]


def _sums(grouped):
    return grouped.agg(
        jobs=("seconds", "size"),
        seconds=("seconds", "sum"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_mb=("peak_mb", "max"),
        gpu_hours=("gpu_hours", "sum"),
    )


def footprint_markdown(table: pd.DataFrame, dataset: str) -> str:
    """The table for people; GPU hours only where a GPU was used."""
    columns = [*COLUMNS] if table["gpu_hours"].any() else [*COLUMNS[:-1]]
    lines = [_line(row, columns) for row in table.to_dict("records")]
    head = [f"# What the run of {dataset} took", ""]
    return "\n".join([*head, *markdown_table(columns, lines), "", *HOW_TO_READ, ""])


def _line(row: dict, columns: Sequence[str]):
    return [*(str(row[column]) for column in ORDER), *(_cell(row[c], c) for c in columns[3:])]


def _cell(value, column):
    if math.isnan(value):
        return ""
    return f"{value:,.2f}" if column == "gpu_hours" else f"{value:,.0f}"
