"""``mdtdist generate``: images or text to 3D assets."""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.cli import generate_batch
from mdtdist.errors import InputError

if TYPE_CHECKING:
    from mdtdist.pipelines import Asset
    from mdtdist.pipelines.options import Progress
    from mdtdist.pipelines.two_stage import TwoStagePipeline

MESH_FORMATS = ("glb", "obj", "usdz")
FORMATS = (*MESH_FORMATS, "ply", "splat", "mp4", "gif", "png")
DECODERS = ("gs", "mesh", "rf")
EPILOG = """
Each image becomes OUT/<name>.glb (textured mesh), .ply (Gaussian splats), .mp4 or .gif (turntable), .png (preview)
and .json (model, steps, network evaluations, seconds per stage, seed, versions); a radiance field .safetensors.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("generate", help="make 3D assets from images or text", epilog=EPILOG)
    parser.add_argument("images", nargs="*", metavar="IMAGE|FOLDER", help="image files, or folders of images")
    parser.add_argument("--prompt", metavar="TEXT", help="a description in place of images, for a model of text")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results, made if missing")
    parser.add_argument(
        "--views",
        choices=("stochastic", "multidiffusion"),
        help="all images show one object: the steps take turns in them, or each step follows their mean",
    )
    parser.add_argument("--structure", metavar="MESH", help="keep the shape of this mesh and make its look anew")
    parser.add_argument("--seed", default="0", help="seed of the noise (default: 0)")
    parser.add_argument(
        "--background",
        default="border",
        choices=("border", "rembg"),
        help="how to find the object in an image without transparency",
    )
    _add_model_arguments(parser)
    _add_output_arguments(parser)
    generate_batch.add_arguments(parser)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and sampling")
    group.add_argument("--model", default="mini", help="shipped model, model folder or hub id (default: mini)")
    group.add_argument(
        "--student", action="append", default=[], metavar="SOURCE", help="student flows: file, folder or hub id"
    )
    group.add_argument("--offline", action="store_true", help="use what is in the local hub cache only")
    group.add_argument("--teacher", action="store_true", help="use the teacher flows (default steps: 25)")
    group.add_argument("--steps", metavar="N[,M]", help="steps of both flows, or structure,latent (default: 1)")
    group.add_argument(
        "--guidance",
        metavar="W[,V]",
        help="guidance weight added on top of one, of both flows or structure,latent; off is 0 (default: the model's)",
    )
    group.add_argument("--max-voxels", metavar="N", help="most active voxels of an asset (default: 65536)")
    group.add_argument("--device", default="cpu", help="for example cpu or cuda (default: cpu)")
    group.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="of the networks")
    group.add_argument("--low-memory", action="store_true", help="keep one network in memory at a time")


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    group.add_argument(
        "--decoders",
        metavar="LIST",
        help=f"comma-separated, of {','.join(DECODERS)} (default: what the model says, else gs and mesh)",
    )
    group.add_argument(
        "--formats",
        metavar="LIST",
        help=f"comma-separated, of {','.join(FORMATS)} (default: glb,ply,mp4,png, as far as the decoders allow; "
        "gif stands in for mp4 where no encoder is installed)",
    )
    group.add_argument("--faces", metavar="N", help="most faces of the mesh (default: 4000)")
    group.add_argument("--texture-size", metavar="N", help="side of its texture; 0 for vertex colours (default: 512)")
    group.add_argument("--time-budget", metavar="SECONDS", help="for simplifying, unwrapping and baking the mesh")


def run(args: argparse.Namespace) -> int:
    """Check everything, then load the model, then generate one by one."""
    options, mesh_options = _parse_options(args), _parse_mesh_options(args)
    decoders = parse_decoders(args.decoders)
    formats = parse_formats(args.formats, decoders)
    if bool(args.images) == (args.prompt is not None):
        raise InputError(f"expected either images or --prompt; got {'both' if args.images else 'neither'}")
    if args.views and not args.images:
        raise InputError("--views goes with images; got a prompt")
    paths, out = collect_images(args.images), check_writable(args.out)
    _say(f"loading the model {args.model}")
    pipe = _load(args)
    options["flows"] = pipe.resolve_flows("teacher" if args.teacher else None)
    options["decoders"] = _choose_decoders(pipe, decoders, formats)
    if args.structure is not None:
        from mdtdist.pipelines.structure import given_logits

        options["structure"] = given_logits(args.structure, resolution=pipe.resolution)
    if generate_batch.is_batch(args):
        return generate_batch.run_batch(
            args, paths, out=out, options=options, mesh_options=mesh_options, formats=formats
        )
    jobs = _jobs(pipe, args, paths)
    pipe.load_flows(options["flows"], options["decoders"])
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for number, (source, stem, make) in enumerate(jobs, 1):
        label = f"[{number}/{len(jobs)}] {stem}"
        asset = make(**options, progress=_progress(label))
        results.append(save_asset(asset, out, stem, formats, source=source, label=label, mesh_options=mesh_options))
        if not args.json:
            _print_result(results[-1], label)
    if args.json:
        print(json.dumps(results, indent=2))
    return 0


def _load(args: argparse.Namespace) -> "TwoStagePipeline":
    """The pipeline; of its networks nothing is read yet."""
    import torch

    from mdtdist.pipelines import ImageTo3D, TextTo3D

    return (ImageTo3D if args.prompt is None else TextTo3D).from_pretrained(
        args.model,
        student=args.student,
        device=args.device,
        dtype=getattr(torch, args.dtype),
        low_memory=args.low_memory,
        offline=args.offline,
    )


# What the json says an asset was made of, the stem of its files, and how it is made.
Job = tuple[dict[str, Any], str, Callable[..., "Asset"]]


def _jobs(pipe: Any, args: argparse.Namespace, paths: Sequence[Path]) -> list[Job]:
    """The assets to make; every image is read and cropped before the first is made."""
    if args.prompt is not None:
        words = "".join(c if c.isalnum() else " " for c in args.prompt.lower()).split()
        return [({}, "_".join(words)[:40] or "asset", partial(pipe, args.prompt))]
    crops = [pipe.prepare(path, background=args.background) for path in paths]
    if args.views:
        source = {"images": [str(path) for path in paths], "views": args.views}
        return [(source, paths[0].stem, partial(pipe.from_views, crops, fusion=args.views))]
    return [({"image": str(path)}, path.stem, partial(pipe, crop)) for path, crop in zip(paths, crops, strict=True)]


def _choose_decoders(pipe: "TwoStagePipeline", decoders: list[str] | None, formats: Sequence[str]) -> tuple[str, ...]:
    """The decoders to run: those asked for, else the default ones without a mesh that no format needs."""
    chosen = pipe.resolve_decoders(decoders)
    if decoders is None and "gs" in chosen and not set(formats) & set(MESH_FORMATS):
        chosen = tuple(name for name in chosen if name != "mesh")
    return chosen


def _parse_options(args: argparse.Namespace) -> dict[str, Any]:
    """Steps, seed, guidance and the cap of voxels, as a pipeline takes them."""
    seed = _parse_number(args.seed, int, "seed")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; expected a whole number from 0 to 2^63 - 1")
    options: dict[str, Any] = {"steps": parse_steps(args.steps), "seed": seed}
    options["cfg_strength"] = parse_guidance(args.guidance)
    if args.max_voxels is not None:
        options["max_voxels"] = _at_least(args.max_voxels, 1, "max-voxels")
    return options


def _parse_mesh_options(args: argparse.Namespace) -> dict[str, Any]:
    """What ``Asset.finish_mesh`` takes, as far as it was given."""
    options: dict[str, Any] = {}
    if args.faces is not None:
        options["faces"] = _at_least(args.faces, 4, "faces")
    if args.texture_size is not None:
        size = _parse_number(args.texture_size, int, "texture-size")
        if size != 0 and not 16 <= size <= 8192:
            raise InputError(f"texture-size is {size}; expected 16 to 8192 texels, or 0 for vertex colours")
        options["texture_size"] = size or None
    if args.time_budget is not None:
        options["time_budget"] = _parse_number(args.time_budget, float, "time-budget")
        if not options["time_budget"] > 0:
            raise InputError(f"time-budget is {args.time_budget!r}; expected seconds above 0")
    return options


def parse_decoders(text: str | None) -> list[str] | None:
    """The decoders asked for, in order, without repetitions; None for the default.

    Raises:
        InputError: for an unknown decoder, or none.
    """
    return None if text is None else _parse_list(text, DECODERS, "decoder")


def parse_formats(text: str | None, decoders: Sequence[str] | None = None) -> list[str]:
    """The formats to write, in order, without repetitions.

    Args:
        text: comma-separated; None for the default.
        decoders: those asked for; None for the default ones. A radiance field is always written.

    Raises:
        InputError: for an unknown format, one that the decoders cannot give, or mp4 without an encoder.
    """
    from mdtdist.export.video import video_suffix

    video = video_suffix().lstrip(".")
    has_gaussians = decoders is None or "gs" in decoders
    has_mesh = decoders is None or "gs" in decoders or "mesh" in decoders
    if text is None:
        formats = [*(["glb"] if has_mesh else []), *(["ply", video, "png"] if has_gaussians else [])]
    else:
        formats = _parse_list(text, FORMATS, "format")
    for name in formats:
        if not (has_mesh if name in MESH_FORMATS else has_gaussians):
            need = "gs or mesh" if name in MESH_FORMATS else "gs"
            raise InputError(f"the format {name} needs the decoder {need}; got --decoders {','.join(decoders or ())}")
    if "mp4" in formats and video != "mp4":
        raise InputError("the format mp4 needs an encoder; use gif, or install: pip install 'mdtdist[video]'")
    return formats + (["safetensors"] if "rf" in (decoders or ()) else [])


def parse_steps(text: str | None) -> int | tuple[int, int] | None:
    """``N`` or ``N,M`` as steps of the two flows.

    Raises:
        InputError: if it is anything else, or below 1.
    """
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise InputError(f"steps is {text!r}; expected a whole number from 1 up, or two separated by a comma")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def parse_guidance(text: str | None) -> float | tuple[float, float] | None:
    """``W`` or ``W,V`` as guidance weights of the two flows; ``off`` is 0, None the model's own.

    Raises:
        InputError: if it is anything else, or below 0.
    """
    if text is None:
        return None
    parts = [0.0 if part.strip() == "off" else _parse_number(part, float, "guidance") for part in text.split(",")]
    if len(parts) > 2 or not all(0 <= w < math.inf for w in parts):
        raise InputError(f"guidance is {text!r}; expected a weight from 0 up or 'off', or two separated by a comma")
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def collect_images(names: Sequence[str]) -> list[Path]:
    """The image files meant by files and folders.

    Raises:
        InputError: if something is missing, a folder has no images, or two images would write the same files.
    """
    from mdtdist.conditioning.image import list_images

    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise InputError(f"the image {name!r} does not exist; expected an image file or a folder of images")
        paths += list_images(path) if path.is_dir() else [path]
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise InputError(
                f"{str(stems[path.stem])!r} and {str(path)!r} would both write {path.stem}.json; "
                "rename one or generate them into different folders"
            )
        stems[path.stem] = path
    return paths


def check_writable(name: str) -> Path:
    """Try the output folder, or the nearest folder above it that exists, without leaving anything there.

    Raises:
        InputError: if nothing can be written there.
    """
    out = Path(name).expanduser()
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return out
    except OSError as err:
        raise InputError(f"cannot write into {name!r} ({err.strerror}); choose a folder that can be written") from err


def save_asset(
    asset: "Asset",
    out: Path,
    stem: str,
    formats: Sequence[str],
    *,
    source: dict[str, Any],
    label: str,
    mesh_options: dict[str, Any],
) -> dict[str, Any]:
    """Write all files of one asset; they appear together, the json last.

    Returns:
        The content of the json file.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{stem}-", dir=out))
    try:
        mesh: dict[str, Any] = {}
        if set(formats) & set(MESH_FORMATS):
            _say(f"{label}: finishing the mesh")
            mesh = {"mesh": asset.finish_mesh(**mesh_options).metadata()}
        for suffix in formats:
            _say(f"{label}: writing {suffix}")
            asset.save(folder / f"{stem}.{suffix}")
        names = [f"{stem}.{suffix}" for suffix in formats]
        names += sorted({path.name for path in folder.iterdir()} - set(names))  # what an OBJ has beside it
        result = {**source, "files": [str(out / name) for name in names], **asset.metadata(), **mesh}
        (folder / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        for name in [*names, f"{stem}.json"]:
            os.replace(folder / name, out / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _parse_list(text: str, known: Sequence[str], kind: str) -> list[str]:
    """Comma-separated names in order, without repetitions."""
    names = list(dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"the {kind} {(unknown[0] if unknown else text)!r} is unknown; expected {', '.join(known)}")
    return names


def _at_least(text: str, least: int, name: str) -> int:
    value: int = _parse_number(text, int, name)
    if value < least:
        raise InputError(f"{name} is {value}; expected a whole number from {least} up")
    return value


def _parse_number(text: str, kind: type, name: str) -> Any:
    try:
        return kind(text)
    except ValueError as err:
        raise InputError(f"{name} is {text!r}; expected a {'whole ' if kind is int else ''}number") from err


def _progress(label: str) -> "Progress":
    """Shows the steps of a flow as they are done."""
    return lambda stage, done, total: _say(f"{label}: {stage} {done}/{total}")


def _print_result(result: dict[str, Any], label: str) -> None:
    _say("")
    seconds = result["seconds"]
    stages = [name for name in seconds if name != "mesh" and not name.startswith("save_")]
    total = sum(seconds[stage] for stage in stages)
    parts = ", ".join(f"{stage} {seconds[stage]:.2f}" for stage in stages)
    nfe = result["nfe"]
    print(f"{label}: {total:.2f} s without the files ({parts}); evaluations {nfe['structure']} + {nfe['latent']}")
    print("  " + "  ".join(result["files"]))


def _say(text: str) -> None:
    """Progress: one line that is overwritten on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
