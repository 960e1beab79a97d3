"""Which source files a command uses: itself and all of this project that it imports.

Their digest is a parameter of the command's rule, so that an edit of the code reruns what the edit
can change, and nothing else. Imports inside functions count too. An interrupted training goes on
only with the code that it began with.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGES = ("workflow_scripts", "wsss", "model")
ROOT = Path(__file__).resolve().parents[2]


def files_of_module(module: str, root: Path = ROOT) -> list[str]:
    """Paths relative to `root`, sorted, of a module and everything it imports in `PACKAGES`."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name, root)
        if file is None or file in found:
            continue
        found.add(file)
        waiting.extend(_imports_of(root / file))
        waiting.extend(name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1))
    return sorted(path.as_posix() for path in found if (root / path).stat().st_size)


def code_digest(module: str, root: Path = ROOT) -> str:
    """SHA-256 over names and contents of `files_of_module`, as a hexadecimal string."""
    digest = hashlib.sha256()
    for name in files_of_module(module, root):
        content = (Path(root) / name).read_bytes()
        digest.update(f"{name}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()


def _file_of(name, root):
    parts = Path(*name.split("."))
    for file in (parts.with_suffix(".py"), parts / "__init__.py"):
        if (root / file).is_file():
            return file
    return None


@cache
def _imports_of(path):
    """Dotted names that a file imports from `PACKAGES`; `from a import b` gives a and a.b."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return [name for name in names if name.split(".")[0] in PACKAGES]
