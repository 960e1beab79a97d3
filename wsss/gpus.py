"""Sharing out the GPUs of a machine among jobs, where no scheduler does.

Slurm tells each job its GPUs in CUDA_VISIBLE_DEVICES. On a workstation, `--resources gpu=4` only
counts: without more, all four jobs would take the first GPU.
"""

import fcntl
import logging
import os
import re
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

_held = []  # open files: their locks last as long as this process, however it ends


def claim_gpus(count, devices="/dev"):
    """Make `count` GPUs that no other job has the only ones this process sees.

    Does nothing where CUDA_VISIBLE_DEVICES is set, in a process of torchrun, or where there are
    not more GPUs than asked for. Waits while others have too many.

    Args:
        count: GPUs of this job.
        devices: folder of the device files nvidia0, nvidia1, ...
    """
    if {"CUDA_VISIBLE_DEVICES", "LOCAL_RANK"} & os.environ.keys():
        return
    names = [path.name for path in Path(devices).glob("nvidia*")]
    numbers = sorted(int(name[6:]) for name in names if re.fullmatch(r"nvidia\d+", name))
    if not 0 < count < len(numbers):
        return
    while len(mine := _try(count, numbers)) < count:
        log.info("all GPUs have jobs: waiting for one")
        time.sleep(5)
    # Numbers as nvidia-smi has them, and not with the fastest first.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, mine))


def _try(count, numbers):
    """Lock up to `count` GPUs; with fewer, let go of them again, and return none."""
    files, mine = [], []
    for number in numbers:
        file = _lock(number) if len(mine) < count else None
        if file:
            files.append(file)
            mine.append(number)
    if len(mine) == count:
        _held.extend(files)
        return mine
    for file in files:
        file.close()
    return []


def _lock(number):
    """The locked file of a GPU, or None if another job has it."""
    path = Path(tempfile.gettempdir()) / f"auxsegnet-{os.getuid()}-gpu{number}.lock"
    # Neither truncated nor followed: what lies there may be somebody else's link.
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
