"""Networks through `torch.compile`, as an engine's choice.

On two CPU cores it buys a seventh of a block's time and costs half a minute per block at the first start (later ones
find the compiler's cache), so it is off unless asked for.
"""

import torch

from ..model.world_model import WorldModel

# Every block is a program of its own (its index is a constant of it), and a part of a batch another one.
_PROGRAMS = 64


def compile_networks(model: WorldModel, mode: str) -> None:
    """Compile blocks, conditioner and decoder in place, when they are first called.

    Args:
        model: shared by all engines that run it.
        mode: of `torch.compile`: `default`, `reduce-overhead`, `max-autotune`, ...

    Raises:
        ValueError: another mode; the message lists those that there are.
    """
    known = torch._inductor.list_mode_options()
    if mode not in known:
        raise ValueError(f"expected a compile mode of {', '.join(known)}, got {mode!r}")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _PROGRAMS)
    for network in (*model.dit.blocks, model.dit.embed, model.tokenizer.decoder):
        network.compile(mode=mode)
