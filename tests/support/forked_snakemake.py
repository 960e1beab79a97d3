"""Snakemake's command line in a fork of this process.

Importing Snakemake takes as long as a plan. Here it happens once, and every call begins with it.
Nothing else comes along: neither the packages of this checkout nor its import path.
"""

import gc
import logging
import multiprocessing
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from repository import ROOT

PACKAGES = ("wsss", "model", "workflow_scripts", "gpu_check")


def snakemake(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit status of `snakemake WORDS` in a folder, and all that it says."""
    _load()
    with tempfile.TemporaryFile("w+") as said:
        call = (words, folder, environment, said.fileno())
        process = multiprocessing.get_context("fork").Process(target=_begin, args=call)
        process.start()
        process.join()
        said.seek(0)
        return process.exitcode, said.read()


@cache
def _load():
    """Not where this module is imported: many tests do without Snakemake."""
    from snakemake import cli

    cli.get_argument_parser()  # loads the plugins


def _begin(words, folder, environment, output):
    gc.freeze()  # or each object of the tests would be copied, just to be looked at
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(output, number)
        stream = os.fdopen(number, "w", buffering=1, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    logging.getLogger().handlers.clear()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
    ours = (str(ROOT), f"{ROOT}/tests")
    others = [p for p in sys.path if p != ours[0] and not p.startswith(ours[1])]
    sys.path[:] = [str(folder), *others]
    sys.argv = ["snakemake", *words]
    sys.modules["snakemake.cli"].main()
