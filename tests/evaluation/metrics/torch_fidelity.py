"""What torch-fidelity 0.4.0 makes of features that anyone can draw again."""

import numpy as np


def independent_sets(num_a: int, num_b: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed, correlated features, as networks give them; the draws of RandomState are the same in every numpy."""
    random = np.random.RandomState(num_a * num_b * channels)
    a, b = random.standard_normal((num_a, channels)), random.standard_normal((num_b, channels))
    mix = np.eye(channels) + 0.3 * random.standard_normal((channels, channels)) / channels**0.5
    return np.abs(a), np.abs(b @ mix * 1.2 + 0.3)


# (rows, rows, channels) -> what torch-fidelity 0.4.0 gives for ``independent_sets``: fid_statistics_to_metric(
# fid_features_to_statistics(a), fid_features_to_statistics(b)) and kid_features_to_metric(a, b, kid_subsets=100,
# kid_subset_size=50) of its metric_fid.py and metric_kid.py on float64 tensors (torch 2.13.0, numpy 2.4.6).
TORCH_FIDELITY = {
    (300, 300, 64): (8.737084167061376, 1.0012504902789447, 0.15827064386108378),
    (200, 260, 48): (6.291899541341337, 1.0124039699941345, 0.1783299617647085),
    (60, 60, 96): (45.011245550403416, 1.0189668688415647, 0.060942709534559755),
}
