import numpy as np

from mdtdist.data.generated.families.tables import table_top
from mdtdist.data.generated.solids import join


def test_table_tops_of_all_shapes_keep_their_size():
    for shape in ("box", "round", "slats", "rounded"):
        vertices = join(table_top(np.random.default_rng(0), shape, 1.2, 0.8, 0.03)).vertices
        assert np.allclose(np.ptp(vertices, axis=0), [1.2, 0.8, 0.03], atol=0.01), shape
