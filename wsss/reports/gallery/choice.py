"""Which images of a split the gallery shows, and how large its maps are."""

from collections.abc import Sequence

from wsss.datasets.index import ImageRecord

MAP_SIDE = 160  # pixels; maps are smooth, and the browser draws them larger


def chosen(records: Sequence[ImageRecord], limit: int) -> list[ImageRecord]:
    """At most `limit` records, evenly spaced: a fair sample, of bad images as of good ones."""
    count = min(limit, len(records))
    return [records[number * len(records) // count] for number in range(count)]
