"""Which source files a command uses: itself and all of this project that it imports.

Their digest is a parameter of the command's rule, so that an edit of the code reruns what the edit
can change, and nothing else. Imports inside functions count too, and so does what a page is made of
beside the modules of a package. An interrupted training goes on
only with the code that it began with.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGES = ("workflow_scripts", "wsss", "model")
INIT = "__init__.py"
PAGE_SUFFIXES = (".css", ".html", ".js")
ROOT = Path(__file__).resolve().parents[2]


def files_of_module(module: str, root: Path = ROOT) -> list[str]:
    """Paths relative to `root`, sorted, of a module and everything it imports in `PACKAGES`.

    With the parts of pages that lie in a package of theirs.
    """
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name, root)
        if file is None or file in found:
            continue
        found.add(file)
        waiting.extend(_imports_of(root / file))
        waiting.extend(name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1))
    found |= {part for file in found if file.name == INIT for part in _page_parts(file, root)}
    return sorted(path.as_posix() for path in found if (root / path).stat().st_size)


def code_digest(module: str, root: Path = ROOT) -> str:
    """SHA-256 over names and contents of `files_of_module`, as a hexadecimal string."""
    digest = hashlib.sha256()
    for name in files_of_module(module, root):
        content = (Path(root) / name).read_bytes()
        digest.update(f"{name}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()


def _page_parts(init, root):
    """Files beside the `__init__.py` of a package that its modules make a page of."""
    return {
        init.with_name(p.name) for p in (root / init).parent.iterdir() if p.suffix in PAGE_SUFFIXES
    }


@cache
def _file_of(name, root):
    parts = Path(*name.split("."))
    for file in (parts.with_suffix(".py"), parts / INIT):
        if (root / file).is_file():
            return file
    return None


@cache
def _imports_of(path):
    """Dotted names that a file imports from `PACKAGES`; `from a import b` gives a and a.b."""
    names = []
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return [name for name in names if name.split(".")[0] in PACKAGES]


def _statements(tree):
    """All statements; their expressions, which hold no import, are nine tenths of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, part, ()))
