"""A folder of another tool's files, one per image and named after it."""

from dataclasses import dataclass
from pathlib import Path

from wsss.errors import InputError, listed

PLACE = "{image_id}"


@dataclass(frozen=True)
class ImageFiles:
    """Files `folder/pattern`, where `{image_id}` in the pattern stands for the id of an image.

    `what` they hold and the configuration's `key` (a section with folder and pattern) are for
    messages.
    """

    folder: Path
    pattern: str
    what: str
    key: str

    @classmethod
    def of_settings(cls, settings, what, key):
        """From a section with `folder` and `pattern`; InputError if there is no such folder."""
        folder = Path(settings["folder"]).expanduser()
        if not folder.is_dir():
            raise InputError(f"{key}.folder: {folder} is not a folder: correct the path")
        return cls(folder, settings["pattern"], what, key)

    def path(self, record):
        """The file of an image."""
        return self.folder / self.pattern.replace(PLACE, record.image_id)

    def check(self, records):
        """Look whether there is a file for each record; InputError names the first missing ones."""
        missing = [self.path(r).name for r in records if not self.path(r).is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(records)} {self.what} are missing in {self.folder}:"
                f" {listed(missing)}; add them, or correct {self.key}.folder and {self.key}.pattern"
            )


def label_files(settings):
    """Pseudo labels of another tool, from the section `pseudo_labels.files`."""
    return ImageFiles.of_settings(settings, "pseudo labels", "pseudo_labels.files")
