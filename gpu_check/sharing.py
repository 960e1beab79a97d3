"""A second job that wants the same card, on a machine where no scheduler shares them out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu_check.answers import Answer
from gpu_check.material import Material

ROOT = Path(__file__).resolve().parents[1]
# A job: it takes a card, tells which and whether PyTorch sees one, and has it until told to end.
JOB = """
import logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from wsss.compute.gpus import claim_gpus
claim_gpus(1)
import torch
print("has", os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.is_available(), flush=True)
sys.stdin.read()
"""
NO_CARD = "GPU-00000000-0000-0000-0000-000000000000"  # a second name, that no card has


def answers(material: Material) -> Iterator[Answer]:
    """Three jobs that are offered the card and a name that is no card's."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    card = visible.split(",")[0].strip() or "0"
    on_gpu = material.device.type == "cuda"
    jobs = []
    try:
        for _ in range(2):
            jobs.append(_start(card))
            jobs[-1].said = _line(jobs[-1])
        first, second = (job.said for job in jobs)
        yield _told("the first job has the card", first, f"has {card} {on_gpu}")
        yield _told("a second job does not get it", second, f"has {NO_CARD} False")
        jobs.append(_start(card))
        waiting = _line(jobs[2])
        jobs[0].stdin.close()
        third = _line(jobs[2])
        yield _told("a third one waits", waiting, "all GPUs have jobs: waiting for one")
        yield _told("and has the card once the first has ended", third, f"has {card} {on_gpu}")
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def _start(card: str) -> subprocess.Popen:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": f"{card},{NO_CARD}"}
    return subprocess.Popen(
        [sys.executable, "-c", JOB],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(job: subprocess.Popen) -> str:
    return job.stdout.readline().strip()


def _told(question: str, found: str, expected: str) -> Answer:
    return Answer(f"gpus.py: {question}", found or "it said nothing", found == expected)
