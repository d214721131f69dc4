"""Initial weights for training from scratch (section "Initialisation" of the TRELLIS configs)."""

from torch import nn


def initialize_transformer(module: nn.Module) -> None:
    """Xavier-uniform linears with zero bias, small time embedding, zero modulation and output layer.

    Zero modulation and output make an untrained flow predict zero velocity and every block start as the identity. What
    is embedded beside the time starts silent, its last layer being zero.
    """
    if next(module.parameters()).is_meta:
        return  # nothing to fill, and on the meta device normal_ imports torch's compiler, which takes seconds
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear):
            if "adaLN_modulation" in name or name == "out_layer" or _ends_extra_embedder(name):
                nn.init.zeros_(child.weight)
            elif name.startswith(("t_embedder", "extra_embedders")):
                nn.init.normal_(child.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(child.weight)
            nn.init.zeros_(child.bias)


def _ends_extra_embedder(name: str) -> bool:
    return name.startswith("extra_embedders") and name.endswith("mlp.2")
