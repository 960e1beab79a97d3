"""What people read of the configuration, made from its sections: three files that a test compares.

`python -m wsss.configuration.reference` writes config.yaml, docs/configuration.md and
config/schema.json, which editors complete and check overlays by.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from wsss.configuration.key_types import Section
from wsss.configuration.resolve import plain
from wsss.configuration.sections import Configuration

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
# yaml-language-server: $schema=config/schema.json
# The configuration. Three things are set; every other key stands below as a comment with its
# default. To change one, remove the # before it and before the names of the sections it is in.
# Keys marked (recipe) have no default: they come from the file config/recipes/<recipe>.yaml.
# Other data sets: --configfile config/voc2012.yaml and so on, merged over this file.
# Floats are written 1.0e-3, since YAML reads 1e-3 as text.
# This file is made from wsss/configuration/sections.py; your own values go into an overlay.
"""
PAGE = """\
# Configuration

Every key with its default. A key without one comes from the recipe
([config/recipes](../config/recipes)), or from you. This page is made from
[wsss/configuration/sections.py](../wsss/configuration/sections.py).

| key | default | what it is |
|---|---|---|
"""
SET = {"dataset.name": "demo", "dataset.format": "demo", "recipe": "demo", "stages": 3}
COLUMN = 35  # where comments begin


def keys(section: type[Section], values: Any = None, path: str = "") -> Iterator[tuple]:
    """(dotted key, default or None, whether there is one, description, whether it is a section).

    Args:
        section: whose keys are listed, and those of the sections in it.
        values: an instance with its defaults, or None where it has keys without any.
    """
    for name, field in section.model_fields.items():
        inner = field.annotation
        is_section = isinstance(inner, type) and issubclass(inner, Section)
        has_default = values is not None or not field.is_required()
        default = getattr(values, name) if values is not None else field.get_default()
        description = field.description or inner.__doc__
        yield path + name, default if has_default else None, has_default, description, is_section
        if is_section:
            yield from keys(inner, default if has_default else None, f"{path}{name}.")


def config_yaml() -> str:
    """The commented config.yaml."""
    lines = [HEAD]
    for key, default, has_default, description, is_section in keys(Configuration):
        *above, name = key.split(".")
        if not above and (is_section or name in ("recipe", "seeds")):
            lines.append("")
        value = SET.get(key, default)
        is_set = key in SET or any(known.startswith(f"{key}.") for known in SET)
        mark = "" if has_default or is_section or is_set else "(recipe) "
        # The mark of a comment stands behind the indentation of the section that is set.
        outer = 1 if above and above[0] == "dataset" else 0
        inner = "  " * (len(above) - outer)
        text = f"{'  ' * outer}{'' if is_set else '#'}{inner}{name}:"
        if not is_section and (has_default or is_set):
            text += f" {_yaml(value)}"
        lines.append(f"{text:<{COLUMN - 1}} # {mark}{description}")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/configuration.md."""
    rows = []
    for key, default, has_default, description, is_section in keys(Configuration):
        shown = f"`{_yaml(default)}`" if has_default and not is_section else ""
        rows.append(f"| `{key}` | {shown} | {description.replace('|', chr(92) + '|')} |")
    return PAGE + "\n".join(rows) + "\n"


def schema() -> str:
    """The JSON schema of an overlay, in which every key may be left out."""
    whole = Configuration.model_json_schema()
    return json.dumps(_all_optional(whole), indent=1, ensure_ascii=False) + "\n"


def _all_optional(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _all_optional(value)
            for key, value in part.items()
            if key != "required" or isinstance(value, dict)
        }
    return [_all_optional(item) for item in part] if isinstance(part, list) else part


def _yaml(value: Any) -> str:
    value = plain(value) if isinstance(value, Section) else value
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


FILES = {
    "config.yaml": config_yaml,
    "docs/configuration.md": page,
    "config/schema.json": schema,
}

if __name__ == "__main__":
    for name, text in FILES.items():
        (ROOT / name).write_text(text(), encoding="utf-8")
