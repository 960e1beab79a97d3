"""A folder of another tool's files, one per image and named after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss.configuration.data_sections import Maps
from wsss.configuration.method_sections import CamFiles, LabelFiles
from wsss.configuration.paths import expanded_path
from wsss.datasets.index import ImageRecord
from wsss.errors import InputError, listed

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
    def of_settings(
        cls, settings: Maps | CamFiles | LabelFiles, what: str, key: str
    ) -> "FilesPerImage":
        """From a section with `folder` and `pattern`.

        Raises InputError if there is no such folder.
        """
        if not settings.folder:
            raise InputError(f"{key}.folder is not set: name the folder of the {what}")
        folder = expanded_path(settings.folder, f"{key}.folder")
        if not folder.is_dir():
            raise InputError(f"{key}.folder: {folder} is not a folder: correct the path")
        return cls(folder, settings.pattern, what, key)

    def path(self, record: ImageRecord) -> Path:
        """The file of an image."""
        return self.folder / self.pattern.replace(PLACE, record.image_id)

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Look whether there is a file for each record; InputError names the first missing ones."""
        paths = [self.path(record) for record in records]
        missing = [path.relative_to(self.folder) for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(records)} {self.what} are missing in {self.folder}:"
                f" {listed(missing)}; add them, or correct {self.key}.folder and {self.key}.pattern"
            )


def label_files(settings: LabelFiles) -> FilesPerImage:
    """Pseudo labels of another tool, from the section `pseudo_labels.files`."""
    return FilesPerImage.of_settings(settings, "pseudo labels", "pseudo_labels.files")
