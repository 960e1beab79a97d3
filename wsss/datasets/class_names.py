"""Names of classes that nobody meant: slips of whoever typed or exported the labels."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping

from wsss.errors import InputError, listed

# As `folded` has them: these stand for an absent label, or for what label maps hold anyway.
NO_CLASSES = ("background", "ignore", "none", "nan", "null", "n/a", "-", "")
SEPARATORS = re.compile(r"[,|/+&、，]")
LIST = re.compile(r"[\[{].*|.*[\]}]|\(.*\)")


def folded(name: str) -> str:
    """What names of one class have in common: not case, Unicode form, quotes, blanks nor _."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(re.split(r"[\s_]+|(?<=\w)-(?=\w)", text)).strip(" '\"")


def is_no_class(name: str) -> bool:
    """Whether a name means the background, as labelme's `_background_` does, or nothing at all."""
    return folded(name) in NO_CLASSES


def check_class_names(source: str, places: Mapping[str, str]) -> None:
    """Refuse names that are no classes, and classes that are written in two ways.

    Args:
        source: the file or folder that the names are from.
        places: where in it by name, such as "line 3", or "".

    Raises:
        InputError: the names, and where they are.
    """
    for name in places:
        if is_no_class(name):
            raise InputError(
                f"{_where(source, places[name])}: {name!r} is no object class (background is"
                " always there, as class 0): leave it out; a photograph without any label is a"
                " negative"
            )
    alike = defaultdict(list)
    for name in places:
        alike[folded(name)].append(name)
    pairs = [names for names in alike.values() if len(names) > 1]
    if pairs:
        told = [" and ".join(_in_quotes(names, places)) for names in pairs]
        raise InputError(f"{source}: one class under two names: {listed(told)}: write one of them")


def check_single_labels(source: str, places: Mapping[str, str]) -> None:
    """Refuse cells that hold several labels in one name, where `;` should be between them.

    A name falls apart if all its parts are classes elsewhere; a list of Python or JSON always does.
    """
    split = {name: parts for name in places if len(parts := _parts(name)) > 1}
    often = Counter(folded(part) for parts in split.values() for part in parts)
    known = {folded(name) for name in places} | {part for part, n in often.items() if n > 1}
    whole = {folded(name) for name in places}
    for name in places:
        in_words = name.split()
        falls_apart = name in split and all(folded(part) in known for part in split[name])
        apart_at_blanks = len(in_words) > 1 and all(folded(word) in whole for word in in_words)
        if LIST.fullmatch(name) or falls_apart or apart_at_blanks:
            parts = _parts(name) if LIST.fullmatch(name) or falls_apart else in_words
            raise InputError(
                f"{_where(source, places[name])}: {name!r} holds several labels or a list: write"
                f" {';'.join(parts) or 'nothing'}"
            )


def _parts(name):
    """Of a name, or of a list of names in Python or JSON, what separators part."""
    parts = SEPARATORS.split(name.strip("[](){}") if LIST.fullmatch(name) else name)
    return [part for part in (part.strip().strip("'\"").strip() for part in parts) if part]


def _where(source, place):
    return f"{source}, {place}" if place else source


def _in_quotes(names, places):
    """Names with their places; those that look the same on paper by their code points."""
    quote = ascii if len({unicodedata.normalize("NFKC", n) for n in names}) < len(names) else repr
    return [f"{quote(name)} ({places[name]})" if places[name] else quote(name) for name in names]
