"""A stand-in for huggingface_hub: repositories that are folders, and a record of what was asked for."""

import shutil
import sys
import types
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _errors() -> types.ModuleType:
    """The exceptions that the package has, in their real order of inheritance."""
    module = types.ModuleType("huggingface_hub.errors")
    module.HfHubHTTPError = type("HfHubHTTPError", (OSError,), {})
    module.HFValidationError = type("HFValidationError", (ValueError,), {})
    module.RepositoryNotFoundError = type("RepositoryNotFoundError", (module.HfHubHTTPError,), {})
    module.GatedRepoError = type("GatedRepoError", (module.RepositoryNotFoundError,), {})
    module.RevisionNotFoundError = type("RevisionNotFoundError", (module.HfHubHTTPError,), {})
    module.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (FileNotFoundError,), {})
    return module


class FakeHub:
    """``snapshot_download`` over folders.

    Args:
        root: the repositories are ``root/remote/<owner>/<name>``, the cache is ``root/cache``.

    Attributes:
        calls: (repository, revision, offline) of every call.
        is_reachable: whether there is a network.
        failure: name of an error to raise, as the hub would.
    """

    def __init__(self, root: Path) -> None:
        self.remote, self.cache = root / "remote", root / "cache"
        self.calls: list[tuple[str, str | None, bool]] = []
        self.is_reachable = True
        self.failure: str | None = None
        self.errors = _errors()

    def install(self, monkeypatch) -> None:
        """Be ``import huggingface_hub`` until the test ends."""
        module = types.ModuleType("huggingface_hub")
        module.snapshot_download, module.errors = self.snapshot_download, self.errors
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setitem(sys.modules, "huggingface_hub.errors", self.errors)

    def snapshot_download(
        self, repo: str, *, revision: str | None, allow_patterns: Sequence[str], local_files_only: bool
    ) -> str:
        self.calls.append((repo, revision, local_files_only))
        if self.failure:
            raise getattr(self.errors, self.failure)("as the hub says")
        source, target = self.remote / repo, self.cache / repo / "snapshots" / COMMIT
        if not local_files_only and self.is_reachable:
            if not source.is_dir():
                raise self.errors.RepositoryNotFoundError("404")
            if revision not in (None, "main", COMMIT):
                raise self.errors.RevisionNotFoundError("404")
            target.mkdir(parents=True, exist_ok=True)
            for file in source.rglob("*"):
                name = file.relative_to(source).as_posix()
                if file.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target / name)
        if not target.is_dir():
            raise self.errors.LocalEntryNotFoundError("no snapshot")
        return str(target)
