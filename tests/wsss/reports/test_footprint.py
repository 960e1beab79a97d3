"""Time and memory of a run from files of times as Snakemake writes them."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from workflow_scripts import draw_costs, measure_footprint
from wsss.compute.gpus import GPUS_OF_JOB, gpus_of_log
from wsss.errors import InputError
from wsss.method.evaluation import SUMMARY_COLUMNS
from wsss.reports.footprint import step_of

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
STEPS = {
    "index_dataset.tsv": ("", "", "index_dataset"),
    "saliency/u2netp/shard0.tsv": ("saliency/u2netp", "", "saliency"),
    "classifier/default/seed0/train.tsv": ("classifier/default", "", "train"),
    "classifier/default/seed0/cams/shard1.tsv": ("classifier/default", "", "cams"),
    "auxsegnet/seed1/stage2/train.tsv": ("auxsegnet", "2", "train"),
    "auxsegnet/seed1/stage2/predictions/val/shard0.tsv": ("auxsegnet", "2", "predictions"),
}


@pytest.mark.parametrize(("file", "step"), STEPS.items())
def test_steps_are_read_off_the_place_of_a_file(file, step):
    assert step_of(Path(file)) == step


VARIANTS = {"auxsegnet": 2, "short": 1}


def write(folder, name, seconds, memory, cpu, log=""):
    benchmark, said = folder / "times" / name, folder / "logs" / Path(name).with_suffix(".log")
    for path in (benchmark, said):
        path.parent.mkdir(parents=True, exist_ok=True)
    values = (seconds, "0:00:01", memory, 9, 9, 9, 9, 9, 9, cpu)
    benchmark.write_text(HEADER + "\t".join(map(str, values)) + "\n")
    said.write_text(log)


def measured(folder):
    words = ["--data", folder / "set", "--benchmarks", folder / "times", "--logs", folder / "logs"]
    words += ["--csv", folder / "f.csv", "--markdown", folder / "f.md"]
    measure_footprint.main([str(word) for word in words])
    with open(folder / "f.csv", newline="") as file:
        return list(csv.DictReader(file)), (folder / "f.md").read_text()


def test_sums_and_peaks_by_step_and_stage(tmp_path):
    gpus = f"a line\n{GPUS_OF_JOB}2 (NVIDIA H100)\nsteps: ...\n"
    write(tmp_path, "auxsegnet/seed0/stage0/train.tsv", 3600, 1500, 2000, gpus)
    write(tmp_path, "auxsegnet/seed1/stage0/train.tsv", 1800, 1700, 1000, "no GPU: ...\n")
    write(tmp_path, "auxsegnet/seed0/stage1/train.tsv", 10, 100, 9)
    write(tmp_path, "index_dataset.tsv", 0.3, "NA", "NA")  # ended before it was looked at
    rows, text = measured(tmp_path)
    found = {(row["part"], row["stage"], row["step"]): row for row in rows}
    first = found["auxsegnet", "0", "train"]
    assert (first["jobs"], first["seconds"], first["cpu_seconds"]) == ("2", "5400.00", "3000.00")
    assert (first["peak_mb"], first["gpu_hours"]) == ("1700.00", "2.00")
    short = found["", "", "index_dataset"]
    assert (short["seconds"], short["peak_mb"]) == ("0.30", "")
    assert rows[-1]["part"] == "all" and rows[-1]["seconds"] == "5410.30"
    assert rows[-1]["peak_mb"] == "1700.00" and rows[-1]["gpu_hours"] == "2.00"
    assert "| auxsegnet | 0 | train | 2 | 5,400 | 3,000 | 1,700 | 2.00 |" in text


def test_without_gpus_people_see_no_column_of_them(tmp_path):
    write(tmp_path, "auxsegnet/seed0/stage0/train.tsv", 10, 100, 9)
    _, text = measured(tmp_path)
    assert "gpu_hours" not in text


def test_a_damaged_file_is_refused_by_name(tmp_path):
    write(tmp_path, "auxsegnet/seed0/stage0/train.tsv", "soon", 100, 9)
    with pytest.raises(InputError, match=r"stage0/train\.tsv: no file of times"):
        measured(tmp_path)


def test_the_last_command_of_a_log_counts():
    """A job that was tried again on another machine."""
    line = f"{GPUS_OF_JOB}%d (Tesla T4)\n"
    assert gpus_of_log(line % 4 + "error: ...\n" + line % 1) == 1
    assert gpus_of_log("no GPU: running on the CPU\n") == 0


def summary(path, stages, runs, score):
    """A summary whose scores with the CRF are `score` and a point more a stage."""
    rows = [
        {"stage": stage, "runs": runs, **dict.fromkeys(SUMMARY_COLUMNS, score + stage)}
        for stage in range(stages)
    ]
    pd.DataFrame(rows).assign(val_miou_crf_std=0.5).to_csv(path, index=False)
    return path


def test_costs_of_a_score_are_of_all_that_led_to_it(tmp_path):
    """Two seeds: what they share counts whole, the rest by half; nobody pays for other variants."""
    write(tmp_path, "index_dataset.tsv", 9, 9, 6)
    write(tmp_path, "saliency/u2netp/shard0.tsv", 9, 9, 60)
    write(tmp_path, "saliency/maps/shard0.tsv", 9, 9, 600)
    for seed in (0, 1):
        write(tmp_path, f"classifier/default/seed{seed}/train.tsv", 9, 9, 120)
        write(tmp_path, f"auxsegnet/seed{seed}/stage0/train.tsv", 9, 9, 300)
        write(tmp_path, f"auxsegnet/seed{seed}/stage1/train.tsv", 9, 9, 240)
        write(tmp_path, f"short/seed{seed}/stage0/train.tsv", 9, 9, 30)
    measured(tmp_path)
    own = {"auxsegnet": ["saliency/u2netp", "classifier/default"]}
    shared = own | {"short": ["saliency/maps", "classifier/default"]}
    files = [f"{name}={summary(tmp_path / name, n, 2, 60)}" for name, n in VARIANTS.items()]
    words = ["--footprint", tmp_path / "f.csv", "--summaries", *files, "--headline", "costs"]
    words += ["--shared", json.dumps(shared), "--output", tmp_path / "costs.png"]
    draw_costs.main([str(word) for word in words])
    table = pd.read_csv(tmp_path / "costs.csv")
    found = table[["variant", "stage", "cpu_minutes", "miou"]].values.tolist()
    assert found == [
        ["auxsegnet", 0, (6 + 60 + 120 + 300) / 60, 60],
        ["auxsegnet", 1, pytest.approx((6 + 60 + 120 + 300 + 240) / 60), 61],
        ["short", 0, pytest.approx((6 + 600 + 120 + 30) / 60), 60],
    ]
