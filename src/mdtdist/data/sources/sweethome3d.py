"""The Sweet Home 3D furniture libraries as a source by name; what they are says :mod:`mdtdist.data.sweethome`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mdtdist.data.sources.asset import Asset
from mdtdist.data.sources.source import Fetched, Progress, Source
from mdtdist.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SweetHome(Source):
    """One Debian package with everything; its hash is checked as a whole."""

    name: ClassVar[str] = "sweethome"
    aliases: ClassVar[tuple[str, ...]] = ("sweethome3d",)
    title: ClassVar[str] = "Sweet Home 3D furniture"
    license: ClassVar[str] = "CC0-1.0, CC-BY-3.0 and CC-BY-3.0-US, by library"
    homepage: ClassVar[str] = "https://packages.debian.org/sweethome3d-furniture"
    client: ClassVar[str] = "apt-get download"

    def fetch(
        self,
        root: Path,
        ids: Iterable[str] | None = None,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """The package comes whole.

        Raises:
            InputError: if single objects are asked for, or without apt or network.
        """
        from mdtdist.data.sweethome import fetch_package

        if ids is not None:
            raise InputError("Sweet Home 3D comes as one package; fetch it without ids.")
        fetch_package(root)
        return Fetched(num_there=len(self.list(root)), failed={})

    def list(self, root: Path) -> Sequence[Asset]:
        """Assets of the package in ``root``, or of the libraries there."""
        from mdtdist.data.sources.folder import list_assets
        from mdtdist.data.sweethome import FILE_NAME

        package = root / FILE_NAME
        return list_assets(package if package.exists() else root, cache=root)
