"""What every command does around its main function: logging and readable errors."""

import logging
import sys
import traceback

from wsss.errors import InputError, StoppedError


def run(main, arguments=None):
    """Call `main(arguments)` and exit: 0 if well, 1 after an error, 128 + N after signal N."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    try:
        code = main(arguments)
    except InputError as error:
        print(f"error: {last_line(error)}", file=sys.stderr)
        code = 1
    except StoppedError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.status
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    sys.exit(code or 0)


def last_line(error):
    """The message of an `InputError`; PyTorch puts the stack of a loading process before it."""
    line = (str(error).strip().splitlines() or [""])[-1]
    name = f"{InputError.__module__}.{InputError.__name__}: "
    return line.removeprefix(name)
