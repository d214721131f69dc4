"""What a structure teacher has to beat: the mean shape, the nearest training object and kernel ridge regression.

All see the same image tokens as the flows and predict the occupancy grid. Whatever they can choose (kernel,
regularisation, threshold) is chosen on the validation split.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdtdist.data import PreparedFolder
from mdtdist.evaluation.metrics.geometry import surface_f1
from mdtdist.evaluation.model_benchmark.test_objects import input_view, structure_scores

# progress(stage, done, total)
Progress = Callable[[str, int, int], None]

_CHANNELS = 448 + 320 + 64  # strides 16 and 32, alpha; without colours and the constant position code
_CHUNK = 1024  # rows of a kernel at a time
BANDWIDTHS = (None, 0.5, 1.0)  # None: linear kernel; else RBF, in units of the median squared distance
REGULARISATIONS = (0.03, 0.3, 3.0, 30.0)  # in units of the mean diagonal of the kernel
THRESHOLDS = tuple(np.linspace(0.05, 0.6, 23).tolist())


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Scores of one baseline on the test objects, by order of id.

    Attributes:
        name: what it is.
        choice: what was chosen on the validation split.
        scores: as ``protocol.structure_scores``, one value per object.
    """

    name: str
    choice: str
    scores: dict[str, Float[np.ndarray, "N"]]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Pictures of objects.

    Attributes:
        tokens: float16 image tokens, one row of cells per picture.
        objects: number of the object of each picture.
        grids: occupancy of each object.
    """

    tokens: Float[Tensor, "n L C"]
    objects: Int[Tensor, "n"]
    grids: Bool[Tensor, "M R R R"]

    @property
    def truth(self) -> Bool[Tensor, "n R R R"]:
        """The occupancy that each picture should give."""
        return self.grids[self.objects]


def measure_baselines(
    data: PreparedFolder,
    *,
    limit: int | None = None,
    views_per_object: int | None = None,
    progress: Progress | None = None,
) -> list[Baseline]:
    """Fit on all condition views of the training split, choose on those of val, score on the test split.

    Args:
        data: prepared folder with image tokens.
        limit: only the first so many test objects by order of id, as ``load_test_objects``.
        views_per_object: condition views of each training object; None for all. The cost grows with its square.
        progress: called between the parts.
    """
    report = progress or (lambda *_: None)
    report("baselines: read", 0, 4)
    train = load_samples(data, data.ids("train"), num_views=views_per_object)
    val = load_samples(data, data.ids("val"))
    test = load_samples(data, sorted(data.ids("test"))[:limit], input_only=True)
    report("baselines: kernel", 1, 4)
    grams = linear_kernels(train.tokens, [val.tokens, test.tokens])
    report("baselines: ridge", 2, 4)
    choice, val_values, test_values = fit_kernel_ridge(grams, train, val)
    mean = train.grids.float().mean(0)
    report("baselines: scores", 3, 4)
    results = [
        *_thresholded("mean shape", "", mean.expand(val.truth.shape), mean.expand(test.truth.shape), val, test),
        _score("nearest training object", "", train.grids[_nearest(grams, train)], test),
        *_thresholded("kernel ridge", choice, val_values, test_values, val, test),
    ]
    report("baselines", 4, 4)
    return results


def load_samples(
    data: PreparedFolder, ids: Sequence[str], *, num_views: int | None = None, input_only: bool = False
) -> Samples:
    """Tokens of all condition views, of ``num_views`` evenly spread ones, or of the protocol's input view alone."""
    tokens, objects = [], []
    for number, sha256 in enumerate(ids):
        item = data.condition_tokens(sha256)[:, 0, :, :_CHANNELS]
        if num_views is not None:
            item = item[torch.linspace(0, len(item) - 1, num_views).round().long()]
        if input_only:
            views = data.views(sha256)
            item = item[sum(view.is_cond for view in views[: input_view(views)])][None]
        tokens.append(item)
        objects += [number] * len(item)
    grids = torch.stack([data.occupancy(sha256) for sha256 in ids])
    return Samples(tokens=torch.cat(tokens), objects=torch.tensor(objects), grids=grids)


# ------------------------------------------------------------------------------------------------------------ kernels


@dataclass(frozen=True, kw_only=True)
class Grams:
    """Inner products of standardised tokens with those of the training pictures, and squared norms.

    ``rows[0]`` belongs to the training pictures themselves, the others to the queries in order.
    """

    rows: tuple[Float[Tensor, "_ n"], ...]
    norms: tuple[Float[Tensor, "_"], ...]

    def kernel(self, index: int, bandwidth: float | None) -> Float[Tensor, "q n"]:
        """Linear kernel with mean diagonal 1 for None, else ``exp(-d^2 / (2 b median d^2))``, float64."""
        if bandwidth is None:
            return self.rows[index].double() / self.norms[0].mean()
        scale = bandwidth * self.squared_distances(0)[:: max(1, len(self.rows[0]) // 500)].median()
        return (-self.squared_distances(index) / (2 * scale)).exp()

    def squared_distances(self, index: int) -> Float[Tensor, "q n"]:
        """Between the pictures of ``rows[index]`` and the training pictures, float64."""
        norms = self.norms[index][:, None] + self.norms[0][None]
        return (norms - 2 * self.rows[index].double()).clamp_min(0)


def linear_kernels(train: Float[Tensor, "n L C"], queries: Sequence[Float[Tensor, "_ L C"]]) -> Grams:
    """Products of tokens that are standardised per channel over all training pictures and cells.

    The mean is taken per cell and channel, so that what every picture shares drops out.
    """
    sets = [train, *queries]
    rows = [torch.zeros(len(item), len(train)) for item in sets]
    norms = [torch.zeros(len(item), dtype=torch.float64) for item in sets]
    spread = _channel_spread(train)
    for cell in range(train.shape[1]):
        mean = train[:, cell].float().mean(0)
        cells = [(item[:, cell].float() - mean) / spread for item in sets]
        for row, norm, item in zip(rows, norms, cells, strict=True):
            for start in range(0, len(item), _CHUNK):
                part = slice(start, start + _CHUNK)
                row[part].addmm_(item[part], cells[0].T)
            norm += item.double().square().sum(1)
    return Grams(rows=tuple(rows), norms=tuple(norms))


def _channel_spread(tokens: Float[Tensor, "n L C"]) -> Float[Tensor, "C"]:
    """Standard deviation per channel around the mean of each cell; a constant channel counts as 1."""
    variance = torch.stack([tokens[:, cell].float().var(0, unbiased=False) for cell in range(tokens.shape[1])]).mean(0)
    return torch.where(variance > 1e-8, variance, 1.0).sqrt()


def ridge_weights(
    kernel: Float[Tensor, "n n"], queries: Float[Tensor, "q n"], objects: Int[Tensor, "n"], regularisation: float
) -> Float[Tensor, "q M"]:
    """Weights of the training objects in the prediction of kernel ridge regression.

    ``queries (kernel + regularisation I)^-1 S``, where row i of ``S`` marks the object of training picture i. All
    pictures of an object share its target, so nothing of the size of the targets enters the solution.
    """
    shifted = kernel.clone()
    shifted.diagonal().add_(regularisation)
    solution = torch.cholesky_solve(queries.T, torch.linalg.cholesky(shifted)).T
    return queries.new_zeros(len(queries), int(objects.max()) + 1).index_add_(1, objects, solution)


def predict_grids(weights: Float[Tensor, "q M"], grids: Bool[Tensor, "M R R R"]) -> Float[Tensor, "q R R R"]:
    """Mean shape plus the weighted deviations of the training objects from it."""
    targets = grids.float()
    mean = targets.mean(0)
    return mean + torch.einsum("qm,mxyz->qxyz", weights.float(), targets - mean)


def fit_kernel_ridge(
    grams: Grams, train: Samples, val: Samples
) -> tuple[str, Float[Tensor, "v R R R"], Float[Tensor, "t R R R"]]:
    """Choose kernel and regularisation by the best IoU on val.

    Returns:
        What was chosen, and the predicted values for ``grams.rows[1]`` (val) and ``grams.rows[2]`` (test).
    """
    best, choice, chosen = -1.0, "", None
    for bandwidth in BANDWIDTHS:
        kernels = [grams.kernel(index, bandwidth) for index in range(3)]
        for regularisation in REGULARISATIONS:
            weights = ridge_weights(kernels[0], torch.cat(kernels[1:]), train.objects, regularisation)
            values = predict_grids(weights[: len(val.tokens)], train.grids)
            score = max(mean_iou(values, val.truth, threshold) for threshold in THRESHOLDS[::3])
            if score > best:
                name = "linear kernel" if bandwidth is None else f"RBF kernel, bandwidth {bandwidth}"
                best, choice, chosen = score, f"{name}, regularisation {regularisation}", weights
    assert chosen is not None
    val_values, test_values = (predict_grids(part, train.grids) for part in chosen.split_with_sizes(_sizes(grams)))
    return choice, val_values, test_values


def _sizes(grams: Grams) -> list[int]:
    return [len(row) for row in grams.rows[1:]]


def _nearest(grams: Grams, train: Samples) -> Int[Tensor, "t"]:
    """The training object of the most similar training picture."""
    return train.objects[grams.squared_distances(2).argmin(1)]


# --------------------------------------------------------------------------------------------------------- thresholds


def mean_iou(values: Float[Tensor, "q R R R"], truth: Bool[Tensor, "q R R R"], threshold: float) -> float:
    """Mean intersection over union of ``values > threshold``."""
    grids = (values > threshold).flatten(1)
    flat = truth.flatten(1)
    return float(((grids & flat).sum(1) / (grids | flat).sum(1).clamp_min(1)).mean())


def best_threshold(values: Float[Tensor, "q R R R"], truth: Bool[Tensor, "q R R R"], *, metric: str) -> float:
    """The threshold with the best mean ``iou`` or ``f1``; the latter on at most 64 evenly spaced pictures."""
    if metric == "iou":
        return max(THRESHOLDS, key=lambda threshold: mean_iou(values, truth, threshold))
    picks = range(0, len(values), -(-len(values) // 64))

    def mean_f1(threshold: float) -> float:
        return float(np.mean([surface_f1(values[i] > threshold, truth[i]) for i in picks]))

    return max(THRESHOLDS, key=mean_f1)


def _thresholded(
    name: str,
    choice: str,
    val_values: Float[Tensor, "v R R R"],
    test_values: Float[Tensor, "t R R R"],
    val: Samples,
    test: Samples,
) -> list[Baseline]:
    """Two baselines: with the threshold that is best for IoU, and for F1."""
    results = []
    for metric, label in (("iou", "IoU"), ("f1", "F1")):
        threshold = best_threshold(val_values, val.truth, metric=metric)
        note = ", ".join(part for part in (choice, f"threshold {threshold:.3f}") if part)
        results.append(_score(f"{name}, threshold for {label}", note, test_values > threshold, test))
    return results


def _score(name: str, choice: str, grids: Bool[Tensor, "t R R R"], test: Samples) -> Baseline:
    scores = [structure_scores(grid, truth) for grid, truth in zip(grids, test.truth, strict=True)]
    return Baseline(
        name=name, choice=choice, scores={key: np.array([score[key] for score in scores]) for key in scores[0]}
    )
