"""A copy of the workflow in a folder of its own, driven through Snakemake's command line."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import forked_snakemake
from repository import ROOT

# Everything that a run reads; an older results/ of the checkout stays where it is.
PARTS = (
    "Snakefile",
    "config.yaml",
    "config",
    "rules",
    "slurm",
    "slurm-preemptible",
    "workflow_scripts",
    "wsss",
    "model",
)
DOCUMENTS = ("README.md", "Makefile")
VARIABLES = (
    "VOC_ROOT",
    "VOC_SALIENCY",
    "COCO_ROOT",
    "COCO_SALIENCY",
    "PHOTOS",
    "MASKS",
    "THEIR_CAMS",
    "THEIR_LABELS",
    "SNAKEMAKE_PROFILE",
)


@dataclass(frozen=True)
class Job:
    """A job of a dry run."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Workspace:
    """A folder with the workflow in it; `overlays` are used by every call.

    With `clone` the code lies there, and the folder has the run alone.
    """

    def __init__(self, folder, overlays=(), clone=None, **environment):
        self.folder, self.overlays = Path(folder), list(map(str, overlays))
        self.clone, self.environment = clone, environment

    @classmethod
    def create(cls, folder, overlays=(), **environment):
        """A fresh clone, as it were, with the weights of this checkout."""
        for name in (*PARTS, *filter(lambda name: (ROOT / name).exists(), DOCUMENTS)):
            source, target = ROOT / name, Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # With the bytecode, which is that of the copied files as long as they keep their times.
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        (Path(folder) / "weights").mkdir()
        for name in ("u2netp.onnx", "efficientnet-lite0.pth"):
            assert (ROOT / "weights" / name).is_file(), f"weights/{name} is missing: make setup"
            (Path(folder) / "weights" / name).symlink_to(ROOT / "weights" / name)
        return cls(folder, overlays, **environment)

    def copy(self, folder):
        """A copy with its results, for tests that change something."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return Workspace(folder, self.overlays, self.clone, **self.environment)

    def command(self, *arguments, overlays=()):
        """The words of a call: overlays as dicts or files, then targets after `--`."""
        files = [*self.overlays, *(self.as_file(overlay) for overlay in overlays)]
        configuration = ["--configfile", *files] if files else []
        head, tail = list(arguments), []
        if "--" in head:
            cut = head.index("--")
            head, tail = head[:cut], head[cut:]
        apart = ["-s", f"{self.clone}/Snakefile", "--directory", str(self.folder)]
        place = apart if self.clone else []
        return [sys.executable, "-m", "snakemake", "-c", "2", *place, *head, *configuration, *tail]

    def snakemake(self, *arguments, overlays=(), **environment):
        """Run Snakemake; returns the exit status and all that it said.

        What only plans or draws does so in a fork, and what starts jobs in a process of its own.
        """
        command = self.command(*arguments, overlays=overlays)
        folder = self.folder.parent if self.clone else self.folder
        if {"-n", "--rulegraph"} & set(arguments):
            words = command[command.index("snakemake") + 1 :]
            return forked_snakemake.snakemake(words, folder, self.env(**environment))
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.env(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def env(self, **environment):
        kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
        return kept | self.environment | environment

    def make(self, *targets, overlays=()):
        """A real run that must end well."""
        status, said = self.snakemake("--", *targets, overlays=overlays)
        assert status == 0, said[-5000:]
        return said

    def plan(self, *arguments, overlays=(), **environment):
        """The jobs of a dry run."""
        status, said = self.snakemake("-n", *arguments, overlays=overlays, **environment)
        assert status == 0, said[-5000:]
        jobs = jobs_of(said)
        assert jobs or "Nothing to be done" in said, said
        return jobs

    def counts(self, *arguments, overlays=(), **environment):
        """Number of jobs per rule of a dry run."""
        jobs = self.plan(*arguments, overlays=overlays, **environment)
        return dict(Counter(job.rule for job in jobs))

    def as_file(self, overlay):
        """Path of an overlay, which may be a dict."""
        if not isinstance(overlay, dict):
            return str(overlay)
        folder = self.folder / ".overlays"
        folder.mkdir(exist_ok=True)
        path = folder / f"{len(list(folder.iterdir()))}.yaml"
        path.write_text(json.dumps(overlay))  # JSON is YAML
        return str(path)


def jobs_of(said):
    """The jobs that a dry run lists."""
    return [
        Job(name, _listed("input", block), _listed("output", block))
        for name, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", said, re.M)
    ]


def _listed(what, block):
    found = re.search(rf"^    {what}: (.*)$", block, re.M)
    return tuple(found[1].split(", ")) if found else ()
