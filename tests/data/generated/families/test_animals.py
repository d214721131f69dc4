import numpy as np

from mdtdist.data.generated.families.animals import animal_head
from mdtdist.data.generated.finishes import plain
from mdtdist.data.generated.parts.bodies import EYE


def test_eyes_and_nose_are_before_the_skull():
    for seed in range(6):
        parts = animal_head(np.random.default_rng(seed), (0.0, 0.0, 0.0), 1.0, plain((0.5, 0.5, 0.5)))
        dark = [part.vertices for part in parts if part.materials[0].color == EYE]
        assert len(dark) == 3
        assert max(vertices[:, 1].max() for vertices in dark) < -0.5
