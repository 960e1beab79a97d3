"""A process that may not write everywhere, although tests run as root."""

import contextlib
import os


@contextlib.contextmanager
def somebody_else():
    """Root may write everywhere; for a while it is nobody."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
