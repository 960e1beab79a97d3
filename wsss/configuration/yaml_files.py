"""YAML files as plain values; a slip in one is one line with its place."""

from pathlib import Path

import yaml

from wsss.errors import InputError, printable, reason_of


class _StrictLoader(yaml.SafeLoader):
    """A safe YAML loader that refuses a key standing twice in a mapping, and says where."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as a date with a month 99
            problem = f"{node.value!r} cannot be read ({error}); correct it, or put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def read_yaml(path: str | Path) -> dict:
    """A configuration file as nested dicts; a file of comments only is empty.

    Raises:
        InputError: the file is missing, not YAML, not a mapping, or has a key twice.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, _StrictLoader)  # a subclass of the safe loader
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or reason_of(error)
        raise InputError(printable(f"{path}{place}: {problem}")) from error
    if not isinstance(content, dict | None):
        raise InputError(f"{path}: must hold key: value lines, not {type(content).__name__}")
    return content or {}
