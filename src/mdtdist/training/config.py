"""Strict configuration of a training; the readers are those of :mod:`mdtdist.config`."""

from mdtdist.config import apply_overrides, from_dict, load_toml

__all__ = ["apply_overrides", "from_dict", "load_toml"]
