"""A real training job: twice the same, and once killed with SIGKILL and continued."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from gpu_check.answers import Answer
from gpu_check.material import Material
from wsss.storage.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
# Relative distance of the weights of two runs, of what training changed in them. Some GPU kernels
# add in an order of their own, and a training amplifies that; another crop or order is far more.
SAME_RUN = 0.05
PATIENCE = 300  # seconds until a first epoch is saved


def answers(material: Material) -> Iterator[Answer]:
    """The job whole, the job again, the job killed."""
    whole = _finished(material, "whole")
    again = _finished(material, "again")
    yield _compared(material, "two runs of the same seed", whole, again)
    yield _kill(material)
    continued = _finished(material, "killed")
    yield _continued(continued, whole)
    yield _compared(material, "killed and continued, against whole", whole, continued)


def _job(material: Material, name: str) -> subprocess.Popen:
    """`train_stage`, as the workflow starts it."""
    output = material.folder / name
    arguments = {
        "data": material.folder,
        "settings": material.settings.model_dump_json(),
        "variant": "gpu_check",
        "seed": 0,
        "stage": 0,
        "pseudo-labels": material.pseudo_labels,
        "model": material.model,
        "device": material.device.type,
        "threads": torch.get_num_threads(),
        "workers": max(material.size.workers[:2]),
        "output": output / "model.pt",
        "log-csv": output / "log.csv",
    }
    command = [sys.executable, "-m", "workflow_scripts.train_stage"]
    command += [text for key, value in arguments.items() for text in (f"--{key}", str(value))]
    output.mkdir(exist_ok=True)
    with open(output / "said.txt", "a") as said:
        return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)


def _finished(material: Material, name: str) -> Path:
    """Run a job to its end; the folder of what it made."""
    folder = material.folder / name
    if _job(material, name).wait():
        raise RuntimeError((folder / "said.txt").read_text().strip().splitlines()[-1])
    return folder


def _kill(material: Material) -> Answer:
    """SIGKILL, as the kernel does where memory ends, once the first epoch is on disk."""
    folder = material.folder / "killed"
    job, end = _job(material, "killed"), time.monotonic() + PATIENCE
    while not list(folder.glob(".resume-*/state.pt")) and job.poll() is None:
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    was_killed = job.wait() == -signal.SIGKILL and not (folder / "model.pt").exists()
    said = "after its first epoch" if was_killed else "it was not: it had ended before"
    return Answer("training killed with SIGKILL", said, was_killed)


def _continued(folder: Path, whole: Path) -> Answer:
    """The log of the job that went on has each row once, and losses near those of the whole one."""
    on = "continuing an interrupted run" in (folder / "said.txt").read_text()
    rows, expected = _rows(folder / "log.csv"), _rows(whole / "log.csv")
    steps = [row["step"] for row in rows] == [row["step"] for row in expected]
    far = max(
        abs(float(row["loss"]) - float(other["loss"])) / float(other["loss"])
        for row, other in zip(rows, expected, strict=False)
    )
    said = f"{'continued' if on else 'began anew'}; {len(rows)} rows of the log"
    said += f", losses within {far:.1e} of the whole run's"
    return Answer("the loss curve goes on", said, on and steps and far < SAME_RUN, {"loss": far})


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _compared(material: Material, question: str, one: Path, other: Path) -> Answer:
    """Distance of the final weights, as a share of the way that training went."""
    start, first, second = (
        read_checkpoint(path)["model"]
        for path in (material.model, one / "model.pt", other / "model.pt")
    )
    apart = _distance(first, second)
    share = apart / _distance(first, start)
    said = "bit for bit the same" if apart == 0 else f"weights apart by {share:.1e} of their way"
    figures = {"distance": apart, "share_of_way": share}
    ok = apart == 0 if material.device.type == "cpu" else share < SAME_RUN
    return Answer(question, said, ok, figures)


def _distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    squares = [(one[name].double() - other[name].double()).square().sum() for name in one]
    return float(torch.stack(squares).sum().sqrt())
