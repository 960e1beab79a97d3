"""A folder of another tool's files, one per image and named after it."""

from dataclasses import dataclass
from pathlib import Path

from wsss.errors import InputError, listed
from wsss.files import expanded_path

PLACE = "{image_id}"


@dataclass(frozen=True)
class FilesPerImage:
    """Files `folder/pattern`, where `{image_id}` in the pattern stands for the id of an image.

    `what` they hold and the configuration's `key` (a section with folder and pattern) are for
    messages.
    """

    folder: Path
    pattern: str
    what: str
    key: str

    @classmethod
    def of_settings(cls, settings, what, key, root="."):
        """From a section with `folder` (from `root` on, unless absolute) and `pattern`.

        Raises InputError if there is no such folder, or the pattern does not lead to one file an
        image below it.
        """
        if not settings.get("folder"):
            raise InputError(f"{key}.folder is not set: name the folder of the {what}")
        folder = Path(root) / expanded_path(settings["folder"], f"{key}.folder")
        if not folder.is_dir():
            raise InputError(f"{key}.folder: {folder} is not a folder: correct the path")
        return cls(folder, _checked_pattern(settings["pattern"], key), what, key)

    def path(self, record):
        """The file of an image."""
        return self.folder / self.pattern.replace(PLACE, record.image_id)

    def check(self, records):
        """Look whether there is a file for each record; InputError names the first missing ones."""
        paths = [self.path(record) for record in records]
        missing = [path.relative_to(self.folder) for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(records)} {self.what} are missing in {self.folder}:"
                f" {listed(missing)}; add them, or correct {self.key}.folder and {self.key}.pattern"
            )


def _checked_pattern(pattern, key):
    leads_out = Path(pattern).is_absolute() or ".." in pattern
    if pattern.count(PLACE) != 1 or leads_out:
        raise InputError(
            f"{key}.pattern is {pattern!r}: write a path below {key}.folder that holds {PLACE}"
            f" once, such as {PLACE}{Path(pattern).suffix}"
        )
    return pattern


def label_files(settings):
    """Pseudo labels of another tool, from the section `pseudo_labels.files`."""
    return FilesPerImage.of_settings(settings, "pseudo labels", "pseudo_labels.files")
