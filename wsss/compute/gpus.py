"""Sharing out the GPUs of a machine among jobs, where no scheduler does.

Slurm tells each job its GPUs in CUDA_VISIBLE_DEVICES. On a workstation, or in an allocation of
several GPUs, `--resources gpu=4` only counts: without more, all four jobs would take the first GPU.
"""

import fcntl
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

GPUS_OF_JOB = "GPUs of this job: "  # what a log says, and is asked for

_held = []  # open files: their locks last as long as this process, however it ends


def claim_gpus(count: int, devices: str | Path = "/dev") -> None:
    """Make `count` GPUs that no other job has the only ones this process sees.

    Does nothing in a process of torchrun, or where there are not more GPUs than asked for: as many
    as there are devices, or as CUDA_VISIBLE_DEVICES names. Waits while others have too many.

    Args:
        count: GPUs of this job.
        devices: folder of the device files nvidia0, nvidia1, ...
    """
    if "LOCAL_RANK" in os.environ:
        return
    names = _visible() if "CUDA_VISIBLE_DEVICES" in os.environ else _devices(devices)
    if not 0 < count < len(names):
        return
    while len(mine := _try(count, names)) < count:
        log.info("all GPUs have jobs: waiting for one")
        time.sleep(5)
    # Numbers as nvidia-smi has them, and not with the fastest first.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)


def _visible() -> list[str]:
    """What CUDA_VISIBLE_DEVICES names: numbers, or identifiers such as GPU-8f2a."""
    return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]


def _devices(folder: str | Path) -> list[str]:
    found = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path(folder).glob("nvidia*")]
    return sorted((match[1] for match in found if match), key=int)


def _try(count: int, names: list[str]) -> list[str]:
    """Lock up to `count` GPUs; with fewer, let go of them again, and return none."""
    files, mine = [], []
    for name in names:
        file = _lock(name) if len(mine) < count else None
        if file:
            files.append(file)
            mine.append(name)
    if len(mine) == count:
        _held.extend(files)
        return mine
    for file in files:
        file.close()
    return []


def _lock(name: str) -> IO | None:
    """The locked file of a GPU, or None if another job has it."""
    plain = re.sub(r"[^\w-]", "_", name)
    path = Path(tempfile.gettempdir()) / f"auxsegnet-{os.getuid()}-gpu{plain}.lock"
    # Neither truncated nor followed: what lies there may be somebody else's link.
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def gpus_of_log(text: str) -> int:
    """How many GPUs the last command had that wrote to this log; 0 if it ran on the CPU."""
    found = re.findall(rf"^{GPUS_OF_JOB}(\d+) ", text, re.MULTILINE)
    return int(found[-1]) if found else 0
