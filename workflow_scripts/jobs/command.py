"""What every command does around its main function: logging and readable errors."""

import logging
import sys
import traceback
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import NoReturn

from wsss.errors import InputError, StoppedError, last_line

Main = Callable[[list[str] | None], int | None]


def documented_parser(doc: str) -> ArgumentParser:
    """A parser whose help shows the text of a module as it is written."""
    return ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)


def run(main: Main, arguments: list[str] | None = None) -> NoReturn:
    """Call `main(arguments)` and exit: 0 if well, 1 after an error, 128 + N after signal N."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    try:
        code = main(arguments)
    except InputError as error:
        print(f"error: {message_of(error)}", file=sys.stderr)
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


def message_of(error: InputError) -> str:
    """The message of an error; PyTorch puts the stack of a loading process before it."""
    return last_line(str(error)).removeprefix(f"{InputError.__module__}.{InputError.__name__}: ")
