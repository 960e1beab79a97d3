"""A command called as its process calls it, in this one: importing torch alone takes a second."""

import io
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType

import pytest

from workflow_scripts.jobs.command import run


def called(module: ModuleType, *words) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command of `workflow_scripts`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        run(module.main, [str(word) for word in words])
    return ended.value.code, out.getvalue(), err.getvalue()
