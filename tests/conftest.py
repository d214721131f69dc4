"""One thread: the tests are small, run side by side, and give the same numbers everywhere."""

import torch

torch.set_num_threads(1)
