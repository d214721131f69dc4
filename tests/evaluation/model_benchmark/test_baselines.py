"""Structure baselines: ridge recovers a linear map, thresholds and choices come from the validation split."""

import pytest
import torch

from mdtdist.data import PreparedFolder
from mdtdist.evaluation.model_benchmark.baselines import (
    Samples,
    best_threshold,
    fit_kernel_ridge,
    linear_kernels,
    mean_iou,
    measure_baselines,
    predict_grids,
    ridge_weights,
)
from tests.evaluation.tiny import RESOLUTION, write_prepared


def linear_samples(num_objects: int, *, views: int, seed: int) -> Samples:
    """Tokens that fix the object: voxel v of an object is occupied where token channel v is positive."""
    generator = torch.Generator().manual_seed(seed)
    grids = torch.rand(num_objects, 2, 2, 2, generator=generator) > 0.5
    objects = torch.arange(num_objects).repeat_interleave(views)
    tokens = (2 * grids.float() - 1).reshape(num_objects, 4, 2)[objects].half()
    return Samples(tokens=tokens, objects=objects, grids=grids)


def test_ridge_recovers_a_linear_map():
    train, val, test = (linear_samples(n, views=v, seed=s) for n, v, s in ((40, 2, 0), (10, 1, 1), (12, 1, 2)))
    grams = linear_kernels(train.tokens, [val.tokens, test.tokens])
    weights = ridge_weights(grams.kernel(0, None), grams.kernel(2, None), train.objects, 1e-3)
    predicted = predict_grids(weights, train.grids)
    assert weights.shape == (12, 40)
    assert (predicted - test.truth.float()).abs().max() < 2e-3
    choice, _, values = fit_kernel_ridge(grams, train, val)
    assert "regularisation 0.03" in choice
    assert ((values > 0.5) == test.truth).all()


def test_ridge_with_strong_regularisation_is_the_mean_shape():
    train = linear_samples(20, views=1, seed=0)
    grams = linear_kernels(train.tokens, [train.tokens[:3]])
    weights = ridge_weights(grams.kernel(0, None), grams.kernel(1, None), train.objects, 1e9)
    assert torch.allclose(predict_grids(weights, train.grids), train.grids.float().mean(0), atol=1e-5)


def test_ridge_weights_solve_the_normal_equations():
    """Against ridge regression written out with one target per picture."""
    generator = torch.Generator().manual_seed(0)
    x, q, y = (torch.randn(*shape, generator=generator).double() for shape in ((6, 3), (2, 3), (3, 5)))
    objects = torch.tensor([0, 0, 1, 1, 2, 2])
    weights = ridge_weights(x @ x.T, q @ x.T, objects, 0.7)
    expected = q @ torch.linalg.solve(x.T @ x + 0.7 * torch.eye(3).double(), x.T @ y[objects])
    assert torch.allclose(weights @ y, expected)


def test_rbf_kernel_is_one_for_equal_pictures_and_falls_with_distance():
    train = linear_samples(10, views=1, seed=3)
    kernel = linear_kernels(train.tokens, []).kernel(0, 0.5)
    assert torch.allclose(kernel.diagonal(), torch.ones(10).double(), atol=1e-4)  # products are float32
    distances = (train.tokens[:, None] - train.tokens[None]).float().square().sum((-1, -2))
    near, far = distances[0, 1:].argmin() + 1, distances[0, 1:].argmax() + 1
    assert kernel[0, near] > kernel[0, far] > 0


def test_thresholds():
    truth = torch.zeros(1, 4, 4, 4, dtype=torch.bool)
    truth[0, 0] = True
    values = torch.where(truth, 0.31, 0.11)
    assert mean_iou(values, truth, 0.2) == 1
    assert mean_iou(values, truth, 0.05) == pytest.approx(0.25)
    assert 0.11 < best_threshold(values, truth, metric="iou") < 0.31
    assert 0.11 < best_threshold(values, truth, metric="f1") < 0.31


def test_baselines_of_a_prepared_folder(tmp_path):
    """The tokens say how large the cube is, so neighbour and ridge are right and the mean shape is not."""
    data = PreparedFolder(write_prepared(tmp_path), resolution=RESOLUTION)
    results = {baseline.name: baseline for baseline in measure_baselines(data)}
    assert len(results) == 5
    assert results["nearest training object"].scores["iou"].tolist() == [1, 1, 1]
    assert results["kernel ridge, threshold for IoU"].scores["iou"].mean() > 0.8
    assert results["mean shape, threshold for IoU"].scores["iou"].min() < 0.7
    assert "threshold" in results["mean shape, threshold for F1"].choice
    limited = measure_baselines(data, limit=2, views_per_object=1)
    assert all(len(baseline.scores["chamfer"]) == 2 for baseline in limited)
