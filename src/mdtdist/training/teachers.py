"""Where a teacher is: the checkpoint of one flow, or a model folder, which has everything around the flows too."""

from pathlib import Path

from mdtdist.errors import InputError
from mdtdist.models.registry import NetworkFiles
from mdtdist.pipelines.config import PipelineConfig, Stage, flow_role
from mdtdist.pipelines.image_to_3d import ImageTo3D
from mdtdist.pipelines.locate import resolve_model
from mdtdist.training.latent_batches import LatentBatch


def flow_files(teacher: Path, stage: Stage) -> NetworkFiles:
    """The flow of a stage: the checkpoint ``teacher`` (without suffix), or the teacher's flow of the model ``teacher``.

    Raises:
        InputError: if it is neither.
    """
    checkpoint = NetworkFiles.at(teacher)
    if checkpoint.config.is_file():
        return checkpoint
    return PipelineConfig.read(_model_folder(teacher)).files(flow_role(stage, "teacher"))


def open_model(model: Path, *, device: str, student: Path | None = None) -> ImageTo3D:
    """The pipeline of a model folder, shipped model or hub id; its networks are read when they are first used.

    Args:
        model: of the teacher.
        device: torch device.
        student: another flow for it: a checkpoint without suffix, a file, or a model folder.

    Raises:
        InputError: if there is no such model, or it makes assets from text.
    """
    folder = _model_folder(model)
    if not PipelineConfig.read(folder).image_cond_model:
        raise InputError(f"the teacher {model} takes text, the data are images; give the folder of an image model")
    if student is None:
        return ImageTo3D.from_pretrained(folder, device=device)
    checkpoint = NetworkFiles.at(student)
    source = checkpoint.weights if checkpoint.config.is_file() else student
    return ImageTo3D.from_pretrained(folder, student=source if source.exists() else str(source), device=device)


def _model_folder(model: Path) -> Path:
    try:
        return resolve_model(model if model.exists() else str(model))
    except InputError as err:
        missing = NetworkFiles.at(model).config
        raise InputError(f"{model} is neither a checkpoint ({missing} is missing) nor a model: {err}") from err


def check_fit(batch: LatentBatch, files: NetworkFiles, *, data: str) -> None:
    """Refuse latents or conditions that the teacher does not take.

    Args:
        batch: any of the data.
        files: of the teacher.
        data: where the batch comes from, for the message.

    Raises:
        InputError: names both sides and what differs.
    """
    args = files.read_config()["args"]
    channels, side = args.get("in_channels"), args.get("resolution")
    if batch.coords is None:
        there, expected = str(tuple(batch.x_0.shape[1:])), str((channels, side, side, side))
    else:
        there, expected = f"{batch.x_0.shape[1]} channels", f"{channels} channels"
        largest = int(batch.coords[:, 1:].max())
        if side is not None and largest >= side:
            raise InputError(
                f"{data} has voxels up to {largest}, but the teacher {files.weights} works on a grid of {side} a side; "
                "give latents and teacher of one model"
            )
    if there != expected:
        raise InputError(
            f"{data} gives latents of {there}, but the teacher {files.weights} works on {expected}; "
            "give latents and teacher of one model"
        )
    if batch.cond.shape[-1] != args.get("cond_channels"):
        raise InputError(
            f"{data} gives conditions with {batch.cond.shape[-1]} channels, but the teacher {files.weights} takes "
            f"{args.get('cond_channels')}; use the image encoder the teacher was trained with"
        )
