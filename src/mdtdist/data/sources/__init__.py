"""Where 3D models come from: the record of one asset, any folder of model files, and data sets by name.

A data set is a :class:`Source`: ``find_source("abo").fetch(root, ids)`` then ``.list(root)``.
"""

import difflib

from mdtdist.data.sources.abo import Abo
from mdtdist.data.sources.asset import Asset, hash_file
from mdtdist.data.sources.folder import MODEL_SUFFIXES, list_assets, list_folder
from mdtdist.data.sources.future3d import Future3d
from mdtdist.data.sources.hssd import Hssd
from mdtdist.data.sources.objaverse import Objaverse, ObjaverseGithub
from mdtdist.data.sources.published import PublishedRow, captions_of, read_table
from mdtdist.data.sources.source import Fetched, Source
from mdtdist.data.sources.sweethome3d import SweetHome
from mdtdist.data.sources.toys4k import Toys4k
from mdtdist.errors import InputError

SOURCES: dict[str, Source] = {
    source.name: source for source in (Objaverse(), ObjaverseGithub(), Abo(), Future3d(), Hssd(), Toys4k(), SweetHome())
}


def find_source(name: str) -> Source:
    """A data set by name or alias, whatever the case; TRELLIS's names are aliases.

    Raises:
        InputError: for an unknown name, with the nearest.
    """
    names = {alias: source for source in SOURCES.values() for alias in (source.name, *source.aliases)}
    if (source := names.get(name.casefold())) is not None:
        return source
    near = difflib.get_close_matches(name.casefold(), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose among {', '.join(SOURCES)}."
    raise InputError(f"unknown data set {name!r}; {hint}")


__all__ = [
    "MODEL_SUFFIXES",
    "SOURCES",
    "Asset",
    "Fetched",
    "PublishedRow",
    "Source",
    "captions_of",
    "find_source",
    "hash_file",
    "list_assets",
    "list_folder",
    "read_table",
]
