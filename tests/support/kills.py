"""Kill real training jobs at random moments, and compare what they make with whole runs.

    PYTHONPATH=. python tests/support/kills.py --kills 12 --output docs/results/kills.csv

A job is killed as an accident kills it: Snakemake and everything below it at once. Then the same
command is given again, until the job ends well or is killed once more.
"""

import argparse
import csv
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tiny_run import TINY_DEMO, TINY_RUN
from workspace import Workspace

RUN = "results/demo/auxsegnet/seed0/stage0"
TARGETS = {
    "train_classifier": "results/demo/classifier/default/seed0/model.pt",
    "train_stage": f"{RUN}/train/model.pt",
}
# Long enough for epochs between two accidents: ten of them, of four steps.
LONG = {
    "dataset": {"demo": TINY_DEMO["demo"] | {"train_images": 16}},
    "classifier": TINY_RUN["classifier"] | {"epochs": 10},
    "stage": TINY_RUN["stage"] | {"epochs": 10},
    "compute": {"workers": 1},
}
TRAINING = "from step"  # the command says so before its first step


@dataclass
class Attempt:
    """One call of Snakemake for one job: when it said what, in seconds since the call."""

    status: int | None
    seconds: float
    lines: list[tuple[float, str]]

    def first(self, text):
        return next((moment for moment, line in self.lines if text in line), None)

    @property
    def said(self):
        return "".join(line for _, line in self.lines)


class KilledJob:
    """A rule's job in a workspace, made again and again."""

    def __init__(self, workspace, rule):
        self.workspace, self.rule = workspace, rule
        self.model = workspace.folder / TARGETS[rule]

    def whole(self):
        """Make it without interruption: the seconds that this takes, and the result."""
        attempt = self.attempt()
        assert attempt.status == 0, attempt.said[-3000:]
        return attempt.seconds - attempt.first(f"rule {self.rule}:"), self.result()

    def attempt(self, number=None, after=0.0):
        """Run the job; `after` seconds from its start, signal all its processes."""
        arguments = ("--nolock", "--rerun-incomplete", "--", TARGETS[self.rule])
        started, lines, said = time.monotonic(), [], threading.Event()
        since = f"rule {self.rule}:"
        process = subprocess.Popen(
            self.workspace.command(*arguments),
            cwd=self.workspace.folder,
            env=self.workspace.env(),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def listen():
            for line in process.stdout:
                lines.append((time.monotonic() - started, line))
                if since in line:
                    said.set()
            said.set()

        listener = threading.Thread(target=listen)
        listener.start()
        if number is not None:
            said.wait()
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, number)
        status = process.wait()
        listener.join()
        return Attempt(status, time.monotonic() - started, lines)

    def result(self):
        """Digest of the weights, and the log."""
        digest = torch.load(self.model, weights_only=True)["digest"]
        return digest, self.model.with_name("log.csv").read_text()

    def forget(self):
        """As if it had never run."""
        assert not list(self.model.parent.glob(".resume-*")), "a state is left after success"
        for path in (self.model, self.model.with_name("log.csv")):
            path.unlink()


@dataclass
class Kills:
    """What was seen of one job under one signal."""

    killed: int = 0
    while_training: int = 0
    runs: int = 0
    restarts: list[float] = field(default_factory=list)
    identical: bool = True


def endure(job, number, kills, rng, whole):
    """Kill the job `kills` times at random moments, and compare runs that end with a whole one."""
    duration, expected = whole
    seen = Kills()
    job.forget()
    ended = False  # a kill may come when the model is there and Snakemake not done with it
    while seen.killed < kills or not ended:
        last = seen.killed >= kills
        attempt = job.attempt(None if last else number, rng.uniform(0, duration))
        restarted = attempt.first("continuing an interrupted run")
        if restarted is not None:
            seen.restarts.append(restarted)
        ended = attempt.status == 0
        if ended:
            seen.runs += 1
            seen.identical &= job.result() == expected
            if seen.killed < kills:
                job.forget()
            continue
        assert not last, attempt.said[-3000:]
        seen.killed += 1
        seen.while_training += attempt.first(TRAINING) is not None
        print(job.rule, signal.Signals(number).name, seen, flush=True)
    return seen


def prepare(folder):
    """A workspace with all that the two jobs start from."""
    overlay = Path(folder) / "tiny.yaml"
    overlay.write_text(json.dumps(TINY_RUN | LONG))
    workspace = Workspace.create(Path(folder) / "workspace", [overlay])
    workspace.make(TARGETS["train_stage"])
    return workspace


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12, help="of each job, by SIGKILL")
    parser.add_argument("--stops", type=int, default=4, help="of each job, by SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    rng, rows = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(folder)
        for rule in ("train_stage", "train_classifier"):
            job = KilledJob(workspace, rule)
            job.forget()
            whole = job.whole()
            for number, kills in ((signal.SIGKILL, args.kills), (signal.SIGTERM, args.stops)):
                rows.append(row(rule, number, endure(job, number, kills, rng, whole)))
    with open(args.output, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def row(rule, number, seen):
    return {
        "job": rule,
        "signal": signal.Signals(number).name,
        "kills": seen.killed,
        "while_training": seen.while_training,
        "finished_runs": seen.runs,
        "identical": seen.identical,
        "continued": len(seen.restarts),
        "seconds_to_restart_median": round(statistics.median(seen.restarts), 1),
        "seconds_to_restart_max": round(max(seen.restarts), 1),
    }


if __name__ == "__main__":
    main()
