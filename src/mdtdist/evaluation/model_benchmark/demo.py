"""Teacher and student beside each other for a person's images, as one page that opens from the disk."""

import html
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from statistics import median
from string import Template
from typing import Any
from urllib.parse import quote

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mdtdist.evaluation.model_benchmark.results import write_text
from mdtdist.evaluation.model_benchmark.timing import FLOW_STAGES, STAGES
from mdtdist.export import video_suffix, write_preview, write_turntable
from mdtdist.files import appear_whole
from mdtdist.pipelines import Asset, EmptyStructureError, ImageTo3D
from mdtdist.pipelines.config import Flows
from mdtdist.pipelines.options import DECODERS
from mdtdist.render import orbit_camera, render_mesh

logger = logging.getLogger(__name__)

TEMPLATE = "demo_page.html"
_PREVIEW_SIZE, _NUM_FRAMES = 256, 24
_SURFACE_CAMERA = orbit_camera(math.radians(-60), math.radians(20))  # that of the previews
# progress(what, done, total)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to generate that the page shows.

    Attributes:
        key: ends the names of its files; "" for the one whose asset is written out.
        title: what a reader sees.
        flows: whose flows.
        steps: of the structure and of the latent flow.
        turntable_size: pixels.
    """

    key: str
    title: str
    flows: Flows
    steps: tuple[int, int]
    turntable_size: int

    def file_name(self, stem: str, suffix: str) -> str:
        """For example ``chair_teacher25.png``."""
        return f"{stem}{self.key}{suffix}"


TEACHER = Variant(
    key="_teacher25", title="Teacher, 25 steps per flow", flows="teacher", steps=(25, 25), turntable_size=160
)
STUDENT = Variant(key="", title="Student 1x2: 1 step per flow", flows="student", steps=(1, 1), turntable_size=256)
STUDENT_TWO = Variant(
    key="_student2", title="Student 2x2: 2 steps per flow", flows="student", steps=(2, 2), turntable_size=160
)
VARIANTS = (TEACHER, STUDENT, STUDENT_TWO)
# Where the surface of a mesh can come from: ends the name of its picture -> what a reader sees.
SURFACES = {"_voxels": "Mesh by marching cubes on the structure", "_mesh": "Mesh of the learned decoder"}


@dataclass(kw_only=True)
class Entry:
    """What the page shows of one image.

    Attributes:
        stem: name of the image without suffix.
        assets: key of a variant -> what it made; missing where the structure came out empty.
        files: names of the files of the asset, in the folder of the page.
        has_surfaces: whether there are pictures of ``SURFACES``: only of a model with a mesh decoder.
        notes: what went wrong, for the reader.
    """

    stem: str
    assets: dict[str, Asset] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    has_surfaces: bool = False
    notes: list[str] = field(default_factory=list)


def warm_up(pipe: ImageTo3D, crop: Float[Tensor, "4 S S"]) -> None:
    """Run every network once, so that no measured time contains the first use of anything."""
    for variant in (STUDENT, TEACHER):
        try:
            pipe(crop, steps=1, flows=variant.flows)
        except EmptyStructureError:
            logger.info("empty structure while warming up")


def make_entry(
    pipe: ImageTo3D, stem: str, crop: Float[Tensor, "4 S S"], out: Path, *, seed: int, progress: Progress
) -> Entry:
    """Generate with every variant and write all files of one image.

    Args:
        pipe: the model.
        stem: begins the names of the files.
        crop: from ``prepare_image``.
        out: folder of the page.
        seed: of the noise, the same for all variants.
        progress: called before every part.
    """
    entry = Entry(stem=stem)
    for number, variant in enumerate(VARIANTS):
        progress(variant.title, number, 2 * len(VARIANTS) + 1)
        try:
            # Only the student's surfaces are shown; without them the others are as fast as they can be.
            decoders = [name for name in ("gs", "mesh") if DECODERS[name] in pipe.config.models]
            decoders = decoders if variant.key == STUDENT.key else ["gs"]
            entry.assets[variant.key] = pipe(
                crop, steps=variant.steps, flows=variant.flows, seed=seed, decoders=decoders
            )
        except EmptyStructureError as err:
            entry.notes.append(f"{variant.title}: {err}")
    _save_input(crop, out / f"{stem}_input.png")
    for number, variant in enumerate(VARIANTS, len(VARIANTS)):
        progress("pictures", number, 2 * len(VARIANTS) + 1)
        if variant.key in entry.assets:
            _save_pictures(entry.assets[variant.key], variant, stem, out)
    progress("glb and ply", 2 * len(VARIANTS), 2 * len(VARIANTS) + 1)
    if STUDENT.key in entry.assets:
        asset = entry.assets[STUDENT.key]
        plain = replace(asset, representations={"gs": asset.gaussians}, timings={})
        if "mesh" in asset.representations:
            _save_surfaces({"_voxels": plain, "_mesh": asset}, stem, out)
            entry.has_surfaces = True
        names = [STUDENT.file_name(stem, suffix) for suffix in (".glb", ".ply")]
        for name in names:
            (asset if "mesh" in pipe.resolve_decoders(None) else plain).save(out / name)
        entry.files = [*names, STUDENT.file_name(stem, video_suffix()), STUDENT.file_name(stem, ".png")]
    return entry


def _save_pictures(asset: Asset, variant: Variant, stem: str, out: Path) -> None:
    size = variant.turntable_size
    write_preview(
        asset.gaussians,
        out / variant.file_name(stem, ".png"),
        size=_PREVIEW_SIZE,
    )
    write_turntable(
        asset.gaussians,
        out / variant.file_name(stem, video_suffix()),
        num_frames=_NUM_FRAMES,
        size=size,
        fps=_NUM_FRAMES // 3,
    )


def _save_surfaces(assets: Mapping[str, Asset], stem: str, out: Path) -> None:
    """Pictures of the meshes that an asset gets from each of ``SURFACES``."""
    for key, asset in assets.items():
        picture = Image.new("RGBA", (_PREVIEW_SIZE, _PREVIEW_SIZE), "white")
        picture.alpha_composite(Image.fromarray(render_mesh(asset.mesh, _SURFACE_CAMERA, size=_PREVIEW_SIZE)))
        with appear_whole(out / f"{stem}{key}.png") as partial:
            picture.convert("RGB").save(partial, "PNG")


def _save_input(crop: Float[Tensor, "4 S S"], path: Path) -> None:
    """What the encoder saw, on white."""
    pixels = ((crop[:3] + 1 - crop[3:]).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    with appear_whole(path) as partial:
        Image.fromarray(pixels).save(partial, "PNG")


# ---------------------------------------------------------------------------------------------------------------- page


def write_page(entries: Sequence[Entry], out: Path, *, model: str, machine: str) -> Path:
    """Write ``index.html`` beside the files of the entries; it needs nothing else."""
    path = out / "index.html"
    write_text(path, demo_page(entries, model=model, machine=machine))
    return path


def demo_page(entries: Sequence[Entry], *, model: str, machine: str) -> str:
    """The page as text."""
    template = Template((resources.files("mdtdist.evaluation.model_benchmark") / TEMPLATE).read_text(encoding="utf-8"))
    return template.substitute(
        model=html.escape(model),
        machine=html.escape(machine),
        summary=_summary_table(entries),
        entries="\n".join(_entry_section(entry) for entry in entries),
    )


def speed_ups(entries: Sequence[Entry], variant: Variant, stages: Sequence[str]) -> list[float]:
    """Seconds of the teacher over those of a variant, per image that has both."""
    pairs = [(entry.assets.get(TEACHER.key), entry.assets.get(variant.key)) for entry in entries]
    return [_seconds(slow, stages) / _seconds(fast, stages) for slow, fast in pairs if slow and fast]


def _seconds(asset: Asset, stages: Sequence[str]) -> float:
    return sum(asset.timings[stage] for stage in stages)


def summarize(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Per variant: evaluations, median seconds per stage, median times faster than the teacher."""
    rows = []
    for variant in VARIANTS:
        assets = [entry.assets[variant.key] for entry in entries if variant.key in entry.assets]
        if not assets:
            continue
        rows.append(
            {
                "variant": variant.title,
                "nfe": dict(assets[0].nfe),
                "seconds": {stage: median(asset.timings[stage] for asset in assets) for stage in STAGES},
                "total": median(_seconds(asset, STAGES) for asset in assets),
                "times_faster": {
                    "flows": median(speed_ups(entries, variant, FLOW_STAGES) or [float("nan")]),
                    "total": median(speed_ups(entries, variant, STAGES) or [float("nan")]),
                },
            }
        )
    return rows


def _summary_table(entries: Sequence[Entry]) -> str:
    header = ["", "evaluations", *[stage.replace("_", " ") for stage in STAGES], "total", "flows", "whole"]
    lines = ["<tr>" + "".join(f"<th>{name}</th>" for name in header) + "</tr>"]
    for row in summarize(entries):
        nfe, faster = row["nfe"], row["times_faster"]
        cells = [f"{nfe['structure']} + {nfe['latent']}", *[_format_seconds(s) for s in row["seconds"].values()]]
        cells += [_format_seconds(row["total"]), f"{faster['flows']:.1f}x", f"{faster['total']:.1f}x"]
        lines.append(f"<tr><th>{row['variant']}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join(lines)


def _entry_section(entry: Entry) -> str:
    name = html.escape(entry.stem)
    source = _link(f"{entry.stem}_input.png")
    shown = {"Input": source}
    if entry.has_surfaces:
        shown |= {title: _link(f"{entry.stem}{key}.png") for key, title in SURFACES.items()}
    stack = "".join(
        f'<figure><img src="{file}" alt="{title}"><figcaption><b>{title}</b></figcaption></figure>'
        for title, file in shown.items()
    )
    cards = [f'<div class="stack">{stack}</div>', *(_card(entry, variant) for variant in VARIANTS)]
    links = " ".join(f'<a href="{_link(file)}">{html.escape(Path(file).suffix[1:])}</a>' for file in entry.files)
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in entry.notes)
    title = f'<h2>{name}</h2><p class="links">Student 1x2: {links}</p>' if links else f"<h2>{name}</h2>"
    return f'<section><header>{title}</header>{notes}<div class="row">' + "\n".join(cards) + "</div></section>"


def _card(entry: Entry, variant: Variant) -> str:
    asset = entry.assets.get(variant.key)
    if asset is None:
        return f"<figure><div></div><figcaption><b>{variant.title}</b><br>nothing made</figcaption></figure>"
    video, preview = (_link(variant.file_name(entry.stem, suffix)) for suffix in (video_suffix(), ".png"))
    moving = (
        f'<video src="{video}" poster="{preview}" autoplay loop muted playsinline></video>'
        if video.endswith(".mp4")
        else f'<img src="{video}" alt="turntable">'
    )
    stages = "".join(
        f"<tr><td>{stage.replace('_', ' ')}</td><td>{_format_seconds(asset.timings[stage])}</td></tr>"
        for stage in STAGES
    )
    return (
        f'<figure>{moving}<img src="{preview}" alt="preview"><figcaption><b>{variant.title}</b><br>'
        f"{_format_seconds(_seconds(asset, STAGES))}, {sum(asset.nfe.values())} evaluations{_faster(entry, variant)}"
        f"<table>{stages}</table></figcaption></figure>"
    )


def _faster(entry: Entry, variant: Variant) -> str:
    ratios = [speed_ups([entry], variant, stages) for stages in (FLOW_STAGES, STAGES)]
    if variant.key == TEACHER.key or not all(ratios):
        return ""
    return f"<br>flows {ratios[0][0]:.1f}x, whole {ratios[1][0]:.1f}x faster"


def _format_seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.095 else f"{1000 * value:.0f} ms"


def _link(name: str) -> str:
    return quote(name)


def as_json(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """What the page says, as plain data."""
    return {
        "summary": summarize(entries),
        "images": {
            entry.stem: {
                "files": entry.files,
                "notes": entry.notes,
                "variants": {
                    variant.title: entry.assets[variant.key].metadata()
                    for variant in VARIANTS
                    if variant.key in entry.assets
                },
            }
            for entry in entries
        },
    }
