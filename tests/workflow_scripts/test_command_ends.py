"""How every command ends: its exit status, and what it says of an error."""

import pytest

from workflow_scripts.jobs.command import run
from wsss.errors import InputError


def raising(error):
    def main(_arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda _: None, 0),
        (lambda _: 1, 1),
        (raising(InputError("file x is wrong: mend it")), 1),
        (raising(ZeroDivisionError("oh")), 1),
        (raising(KeyboardInterrupt()), 130),
    ],
)
def test_exit_codes(main, code):
    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == code


def test_only_unexpected_errors_show_where_they_came_from(capsys):
    with pytest.raises(SystemExit):
        run(raising(InputError("file x is wrong: mend it")))
    assert capsys.readouterr().err == "error: file x is wrong: mend it\n"
    with pytest.raises(SystemExit):
        run(raising(ZeroDivisionError("oh")))
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "in main" in shown
    assert shown.splitlines()[-1] == "error: ZeroDivisionError: oh"
