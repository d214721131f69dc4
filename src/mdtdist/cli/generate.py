"""``mdtdist generate``: images to 3D assets."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtdist.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from mdtdist.pipelines import Asset
    from mdtdist.pipelines.image_to_3d import Progress

FORMATS = ("glb", "ply", "mp4", "gif", "png")
EPILOG = """
Each image becomes OUT/<name>.glb (textured mesh), .ply (Gaussian splats), .mp4 or .gif (turntable), .png (preview)
and .json (model, steps, network evaluations, seconds per stage, seed, versions).
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("generate", help="make 3D assets from images", epilog=EPILOG)
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", help="image files, or folders of images")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results, made if missing")
    parser.add_argument("--model", default="mini", help="shipped model or model folder (default: mini)")
    parser.add_argument("--steps", metavar="N[,M]", help="steps of both flows, or structure,latent (default: 1)")
    parser.add_argument(
        "--formats",
        metavar="LIST",
        help=f"comma-separated, of {','.join(FORMATS)} (default: all "
        "but gif, which stands in for mp4 where no encoder is installed)",
    )
    parser.add_argument("--seed", default="0", help="seed of the noise (default: 0)")
    parser.add_argument("--teacher", action="store_true", help="use the teacher flows (default steps: 25)")
    parser.add_argument("--guidance", metavar="W", help="guidance weight added on top of one (default: the model's)")
    parser.add_argument(
        "--background",
        default="border",
        choices=("border", "rembg"),
        help="how to find the object in an image without transparency",
    )
    parser.add_argument("--device", default="cpu", help="for example cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Check everything, then load the model, then generate image by image."""
    formats, steps = parse_formats(args.formats), parse_steps(args.steps)
    seed, guidance = _parse_number(args.seed, int, "seed"), None
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}; expected a whole number from 0 to 2^63 - 1")
    if args.guidance is not None:
        guidance = _parse_number(args.guidance, float, "guidance")
    paths = collect_images(args.images)

    from mdtdist.pipelines import ImageTo3D, locate_model  # after the quick checks: torch takes a second to import

    locate_model(args.model)
    crops = {path: _prepare(path, args.background) for path in paths}
    out = check_writable(args.out)
    _say(f"loading the model {args.model}")
    pipe = ImageTo3D.from_pretrained(args.model, device=args.device)
    flows = pipe.resolve_flows("teacher" if args.teacher else None)
    pipe.load_flows(flows)
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for number, (path, crop) in enumerate(crops.items(), 1):
        label = f"[{number}/{len(crops)}] {path.name}"
        asset = pipe(crop, steps=steps, seed=seed, flows=flows, cfg_strength=guidance, progress=_progress(label))
        results.append(save_asset(asset, out, path, formats, label))
        if not args.json:
            _print_result(results[-1], label)
    if args.json:
        print(json.dumps(results, indent=2))
    return 0


def parse_formats(text: str | None) -> list[str]:
    """The formats to write, in order, without repetitions.

    Raises:
        InputError: for an unknown format, or mp4 without an encoder.
    """
    from mdtdist.export.video import video_suffix

    has_encoder = video_suffix() == ".mp4"
    if text is None:
        return ["glb", "ply", "mp4" if has_encoder else "gif", "png"]
    formats = list(dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip()))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(f"the format {unknown[0] if unknown else text!r} is unknown; expected {', '.join(FORMATS)}")
    if "mp4" in formats and not has_encoder:
        raise InputError("the format mp4 needs an encoder; use gif, or install: pip install 'mdtdist[video]'")
    return formats


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


def save_asset(asset: "Asset", out: Path, source: Path, formats: Sequence[str], label: str) -> dict[str, Any]:
    """Write all files of one asset; they appear together, the json last.

    Returns:
        The content of the json file.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{source.stem}-", dir=out))
    try:
        names = [f"{source.stem}.{suffix}" for suffix in formats]
        for name, suffix in zip(names, formats, strict=True):
            _say(f"{label}: writing {suffix}")
            asset.save(folder / name)
        result = {"image": str(source), "files": [str(out / name) for name in names], **asset.metadata()}
        (folder / f"{source.stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        for name in [*names, f"{source.stem}.json"]:
            os.replace(folder / name, out / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _parse_number(text: str, kind: type, name: str) -> Any:
    try:
        return kind(text)
    except ValueError as err:
        raise InputError(f"{name} is {text!r}; expected a {'whole ' if kind is int else ''}number") from err


def _prepare(path: Path, background: str) -> "Tensor":
    from mdtdist.conditioning.image import prepare_image

    return prepare_image(path, background=background)


def _progress(label: str) -> "Progress":
    """Shows the steps of a flow as they are done."""
    return lambda stage, done, total: _say(f"{label}: {stage} {done}/{total}")


def _print_result(result: dict[str, Any], label: str) -> None:
    _say("")
    seconds = result["seconds"]
    stages = ("conditioning", "structure", "structure_decode", "latent", "gaussians")
    total = sum(seconds[stage] for stage in stages)
    parts = ", ".join(f"{stage} {seconds[stage]:.2f}" for stage in stages)
    nfe = result["nfe"]
    print(f"{label}: {total:.2f} s to Gaussians ({parts}); evaluations {nfe['structure']} + {nfe['latent']}")
    print("  " + "  ".join(result["files"]))


def _say(text: str) -> None:
    """Progress: one line that is overwritten on a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
