"""Files of data sets on the Hugging Face hub, through its own client (which resumes and keeps what is there)."""

from pathlib import Path

from mdtdist.data.archives import inside
from mdtdist.errors import InputError


def fetch_file(repository: str, file_name: str, folder: Path) -> Path:
    """A file of a data set repository, at ``folder / file_name``.

    Raises:
        InputError: without ``huggingface_hub``, without permission (with what to do), if there is no such file, or if
            it would lie outside ``folder``.
    """
    inside(folder, file_name)
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as err:
        raise InputError(f"{repository} comes from the Hugging Face hub; pip install 'mdtdist[hub]'.") from err
    page = f"https://huggingface.co/datasets/{repository}"
    try:
        return Path(hf_hub_download(repository, file_name, repo_type="dataset", local_dir=folder))
    except GatedRepoError as err:
        raise InputError(f"{repository} is gated: accept its terms on {page}, then run `hf auth login`.") from err
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as err:
        reason = str(err).strip().splitlines()[0][:200] if str(err).strip() else type(err).__name__
        raise InputError(
            f"cannot fetch {file_name} from {page} ({reason}); run it again, or put the file into {folder}."
        ) from err
