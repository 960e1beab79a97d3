"""The fixtures `index` and `config`, on which the checks before a run are tried."""

from checked_run import small_config, small_index  # noqa: F401
