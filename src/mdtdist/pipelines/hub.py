"""Models on the Hugging Face hub: what an id means, and files of a repository in the local cache."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdtdist.errors import InputError

_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>\w[\w.-]*(?:/\w[\w.-]*)*))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class HubId:
    """A repository on the hub, or a file in it.

    Attributes:
        repo: ``owner/name``.
        revision: commit, tag or branch; None is the newest. Only a commit names the same files for ever.
        path: inside the repository; empty for all of it.
    """

    repo: str
    revision: str | None = None
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "HubId | None":
        """``owner/name[@revision][/sub/path]``, or None if the text is something else."""
        match = _ID.fullmatch(text)
        if match is None:
            return None
        return cls(repo=match["repo"], revision=match["revision"], path=match["path"] or "")

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return self.repo + revision + (f"/{self.path}" if self.path else "")


def snapshot(source: HubId, patterns: Sequence[str], *, offline: bool) -> Path:
    """The local folder of a repository in which the files that match ``patterns`` are, downloaded where necessary.

    Args:
        source: repository and revision; its path is not looked at.
        patterns: as in ``huggingface_hub.snapshot_download``; a pattern that matches nothing is no error.
        offline: only look into the local cache.

    Raises:
        InputError: if huggingface_hub is not installed, or the repository or revision cannot be had.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as err:
        raise InputError(
            f"{source} would come from the Hugging Face hub, which needs one more package; install: "
            "pip install 'mdtdist[hub]', or download the model yourself and give the path of its folder"
        ) from err
    where = HubId(repo=source.repo, revision=source.revision)
    try:
        folder = snapshot_download(
            source.repo, revision=source.revision, allow_patterns=list(patterns), local_files_only=offline
        )
    except errors.GatedRepoError as err:
        raise InputError(f"the hub lets only some accounts read {where}; ask there for access, then log in") from err
    except errors.RepositoryNotFoundError as err:
        raise InputError(f"the hub has no repository {source.repo!r} that you may read; check the name") from err
    except errors.RevisionNotFoundError as err:
        raise InputError(f"{source.repo} has no commit, tag or branch {source.revision!r} on the hub") from err
    except errors.LocalEntryNotFoundError as err:
        if offline:
            raise InputError(f"{where} is not, or not whole, in the local cache; run once without --offline") from err
        raise InputError(f"{where} is not in the local cache and the hub could not be reached ({err})") from err
    except (errors.HfHubHTTPError, errors.HFValidationError) as err:
        raise InputError(f"{where} could not be downloaded: {err}") from err
    return Path(folder)


def commit_of(folder: Path) -> str | None:
    """The commit of a folder that ``snapshot`` returned."""
    return folder.name if _COMMIT.fullmatch(folder.name) else None
