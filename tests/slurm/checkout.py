"""A clone of this checkout with a tiny configuration, and the commands that a user types in it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import h5py
import psutil
import torch
from cluster import PATIENCE, wait_for
from repository import ROOT

from wsss.storage.checkpoint import state_digest

HEAD = (".venv/bin/snakemake", "--profile", "slurm")  # the literal command


class Checkout:
    """A folder to work in; `environment` is that of all its commands."""

    def __init__(self, folder, environment):
        self.folder, self.environment = Path(folder), environment

    @classmethod
    def clone(cls, folder, environment, configuration):
        """`git clone`, what is not committed yet on top, and another config.yaml."""
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        listed = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            target = Path(folder) / name
            target.unlink(missing_ok=True)
            if (ROOT / name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        made = cls(folder, environment)
        (made.folder / ".venv").symlink_to(ROOT / ".venv")
        for weights in ("u2netp.onnx", "efficientnet-lite0.pth"):
            (made.folder / "weights" / weights).symlink_to(ROOT / "weights" / weights)
        made.configure(configuration)
        for profile in ("slurm", "slurm-preemptible"):
            # Jobs of seconds; and this cluster's squeue forgets none.
            entry = "slurm-init-seconds-before-status-checks: "
            made.edit(f"{profile}/profile.yaml", (f"{entry}60", f"{entry}5"))
        return made

    def copy(self, folder):
        """The same with its results, elsewhere."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder, self.environment)

    def configure(self, configuration):
        """Put a configuration in the place of config.yaml."""
        (self.folder / "config.yaml").write_text(json.dumps(configuration))  # JSON is YAML

    def edit(self, name, *changes):
        """Replace texts in a file; each must be there once."""
        path = self.folder / name
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{name}: {old}"
            text = text.replace(old, new)
        path.write_text(text)

    def start(self, *words):
        """Start a command in the background."""
        return Running(self, words)

    def run(self, *words):
        """A command that must end well; what it said."""
        with self.start(*words) as running:
            status = running.wait()
        assert status == 0, running.said()[-8000:]
        return running.said()

    def digests(self):
        """Path -> digest of what a result holds, without dates and times."""
        files = sorted((self.folder / "results/demo").rglob("*"))
        kept = [path for path in files if path.suffix in DIGESTS and "data" not in path.parts]
        return {str(path.relative_to(self.folder)): DIGESTS[path.suffix](path) for path in kept}


class Running:
    """A command under way, killed at the latest when its block is left."""

    def __init__(self, checkout, words):
        self.folder = checkout.folder
        number = len(list(checkout.folder.glob("said*.txt")))
        self.output = checkout.folder / f"said{number}.txt"
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                list(map(str, words)),
                cwd=checkout.folder,
                env=checkout.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Tests that a shell runs in the background ignore Ctrl-C, and so would this.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def said(self):
        return self.output.read_text()

    def wait(self):
        """The exit status."""
        return self.process.wait(PATIENCE)

    def until(self, condition, what):
        """Wait for something that this command brings about; returns it."""

        def alive():
            assert self.process.poll() is None, f"it ended too early:\n{self.said()[-5000:]}"
            return condition()

        return wait_for(alive, what)

    def job(self, module):
        """The process of a command of the workflow, once one is at work."""

        def found():
            for process in psutil.process_iter():
                try:
                    words, folder = process.cmdline(), process.cwd()
                    idle = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
                except psutil.Error:
                    continue
                if words[1:3] == ["-m", module] and folder == str(self.folder) and not idle:
                    return process
            return None

        return self.until(found, f"{module} to run")

    def send(self, number):
        """A signal to the command alone, as from `kill`."""
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL to it and its children, as by a crashing login node; Slurm's jobs go on."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def digest_of_hdf5(path):
    """All arrays and attributes of the records."""
    digest = hashlib.sha256()

    def add(name, node):
        digest.update(name.encode())
        for key, value in sorted(node.attrs.items()):
            digest.update(f"{key}={value!r}".encode())
        if isinstance(node, h5py.Dataset):
            digest.update(f"{node.dtype}{node.shape}".encode() + node[()].tobytes())

    with h5py.File(path, "r") as file:
        assert len(file["records"]), path
        file["records"].visititems(add)
    return digest.hexdigest()


def digest_of_checkpoint(path):
    return state_digest(torch.load(path, weights_only=True)["model"])


def digest_of_text(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


DIGESTS = {".h5": digest_of_hdf5, ".pt": digest_of_checkpoint, ".csv": digest_of_text}
