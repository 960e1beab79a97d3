"""YAML files as plain values, with every slip in them as one line."""

from itertools import islice
from pathlib import Path

import yaml

from wsss.errors import InputError, printable

DEEPEST = 20  # sections and lists within each other
MOST_VALUES = 100_000
# What PyYAML lets through when it makes values of text, or meets too much nesting.
SLIPS = (ValueError, LookupError, AttributeError, ArithmeticError, TypeError, RecursionError)


class _StrictLoader(yaml.SafeLoader):
    """A safe YAML loader that refuses a key standing twice in a mapping, and says where."""

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except SLIPS as error:
            kind = node.tag.rpartition(":")[2]
            shown = repr(node.value[:40]) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
            why = f" ({_reason(error)})" if type(error) is ValueError else ""
            problem = f"{shown} cannot be read as {kind}{why}; correct it, or put text in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path):
    """Read a configuration file as nested dicts; a file of comments only is empty.

    Raises:
        InputError: the file is missing, not YAML, not a mapping, has a key twice or a value that
            YAML cannot make, or is nested without end.
    """
    try:
        content = _load(path, Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold key: value lines, not {type(content).__name__}")
    refuse_tangles(content, f"{path}: ")
    return content


def _load(path, text):
    line = 0  # where a slip without a mark of its own was met
    try:
        loader = _StrictLoader(text)  # a subclass of the safe loader
        try:
            return loader.get_single_data()
        finally:
            line = loader.line + 1
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(printable(f"{path}{place}: {problem}")) from error
    except RecursionError as error:
        raise InputError(f"{path}, line {line}: {_too_deep()}") from error
    except SLIPS as error:
        raise InputError(f"{path}, line {line}: is not YAML ({_reason(error)})") from error


def refuse_tangles(content, prefix=""):
    """Refuse what could not be copied, compared or shown: nesting without end, numbers without end.

    Args:
        content: nested dicts and lists, from a file or a command line.
        prefix: of the message.

    Raises:
        InputError: `content` is deeper than `DEEPEST`, holds itself or more than `MOST_VALUES`
            values (aliases of aliases are quickly more than any memory holds), or a number that
            no float holds.
    """
    level = [("", content)]
    for _ in range(DEEPEST):
        level = list(islice(_children(level), MOST_VALUES + 1))
        if len(level) > MOST_VALUES:
            raise InputError(
                f"{prefix}{level[0][0]}: more than {MOST_VALUES:,} values; remove some, or aliases "
                "(*name) that repeat them"
            )
        for key, value in level:
            if not _fits_a_float(value):
                raise InputError(f"{prefix}{key}: a number of too many digits; write a smaller one")
        if not level:
            return
    raise InputError(f"{prefix}{level[0][0]}: {_too_deep()}")


def _children(level):
    """(dotted key, value) of all keys and values in containers; the key tells the first parts."""
    for key, value in level:
        if isinstance(value, dict):
            for name, item in value.items():
                told = key.count(".") < 3 and _fits_a_float(name)
                inner = printable(f"{key}.{str(name)[:40]}".lstrip(".")) if told else key
                yield from ((inner, name), (inner, item))
        elif isinstance(value, list | tuple | set):
            yield from ((key, item) for item in value)


def _fits_a_float(value):
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            return False
    return True


def _too_deep():
    return (
        f"sections or lists are nested more than {DEEPEST} deep, or one holds itself "
        "(&name and *name); write it flatter"
    )


def _reason(error):
    return " ".join(str(error).split())[:80] or type(error).__name__
