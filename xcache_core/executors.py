"""How a decision becomes skipped work. All executors give the same result; they differ in what they spend.

An executor gets a `Job` and returns the block's output. Whatever it computes it hands to `job.keep`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .constants import index_on
from .plan import Layout
from .rows import Rows

ExecutorName = Literal["masked", "eager", "graph"]


@dataclass(frozen=True)
class Request:
    """Which part of the batch a block is asked to compute.

    Whole rows (`view` is None): the input is [n, V, N, C]. Tiles: the input is [n, 1, Nt, C], one view's tokens each;
    queries come from it, keys and values of the rest may be taken from `x`, the block's whole input.
    """

    x: Tensor  # [B, V, N, C] the whole input of the block
    batch: Tensor  # int64 [n] row of the batch
    slots: Tensor  # int64 [n] slot of the session
    view: Tensor | None = None  # int64 [n]
    tokens: Tensor | None = None  # int64 [n, Nt] tokens of the view; None: all of them

    @property
    def everything(self) -> bool:
        """Whether the whole batch is asked for, in order: nothing needs gathering."""
        return self.view is None and self.batch.shape[0] == self.x.shape[0]


# A residual block: (its input for the requested part, the request) to its output, x + f(x), of the same shape.
Block = Callable[[Tensor, Request], Tensor]

# Takes output and input of tiles that were computed: [n, Vt, Nt, C] of chosen tiles (int64 [n] into B x R),
# or [B, R, Vt, Nt, C] with a mask bool [B, R], or with neither: all.
Keep = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], None]


@dataclass(frozen=True)
class Job:
    """One block of one pass, with the decision taken."""

    block: Block
    x: Tensor  # [B, V, N, C]
    tiles: Tensor  # [B, R, Vt, Nt, C], the same numbers
    skip: Tensor  # bool [B, R]
    rows: Rows
    layout: Layout
    predict: Callable[[], Tensor]  # the residuals that stand in, [B, R, Vt, Nt, C]
    keep: Keep

    def compute_all(self) -> Tensor:
        """The block on everything, [B, V, N, C]."""
        return compute_all(self.block, self.x, self.rows)

    def compute_some(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Input and output of the chosen tiles (int64 [n] into B x R), [n, Vt, Nt, C] each."""
        part = self.tiles.flatten(0, 1).index_select(0, chosen)
        return part, checked(self.block(part, request_for(self, chosen)), part)


def whole(job: Job) -> Tensor:
    """Compute everything, whatever the decision says."""
    y = job.compute_all()
    job.keep(job.layout.split(y), job.tiles, None, None)
    return y


def masked(job: Job) -> Tensor:
    """Compute everything, then select: the reference. Reads nothing back to the host."""
    reused = job.tiles + job.predict()  # before `keep` overwrites what it reads
    y = job.layout.split(job.compute_all())
    job.keep(y, job.tiles, None, ~job.skip)
    return job.layout.merge(torch.where(job.skip[:, :, None, None, None], reused, y))


def eager(job: Job) -> Tensor:
    """Decide on the host; gather the tiles that must be computed and put their results back."""
    chosen = (~job.skip).flatten().nonzero().squeeze(1)
    if chosen.numel() == 0:
        return job.layout.merge(job.tiles + job.predict())
    if chosen.numel() == job.skip.numel():
        return whole(job)
    out = (job.tiles + job.predict()).flatten(0, 1)
    part, y = job.compute_some(chosen)
    out.index_copy_(0, chosen, y)
    job.keep(y, part, chosen, None)
    return job.layout.merge(out.view_as(job.tiles))


def graph(job: Job) -> Tensor:
    """Decide on the device: an IF node of a CUDA graph around the block, entered when any tile must be computed.

    Outside a capture it runs like `masked` (that is the warm-up). The block must not draw random numbers.
    """
    if not torch.cuda.is_current_stream_capturing():
        return masked(job)
    out = (job.tiles + job.predict()).contiguous()
    capture: Any = torch.cuda.CUDAGraph.get_currently_capturing_graph()
    capture.begin_capture_to_if_node((~job.skip).any())
    try:
        y = job.layout.split(job.compute_all())
        job.keep(y, job.tiles, None, ~job.skip)
        out.copy_(torch.where(job.skip[:, :, None, None, None], out, y))
    finally:
        capture.end_capture_to_conditional_node()
    return job.layout.merge(out)


EXECUTORS: dict[ExecutorName, Callable[[Job], Tensor]] = {"masked": masked, "eager": eager, "graph": graph}


def compute_all(block: Block, x: Tensor, rows: Rows) -> Tensor:
    """The block on its whole input [B, V, N, C]."""
    return checked(block(x, Request(x, rows.order, rows.index)), x)


def request_for(job: Job, chosen: Tensor) -> Request:
    """The request for chosen tiles, int64 [n] into B x R; whole rows where a row is one tile."""
    layout = job.layout
    batch = chosen // layout.tiles
    slots = job.rows.index.index_select(0, batch)
    if layout.tiles == 1:
        return Request(job.x, batch, slots)
    tile = chosen % layout.tiles
    tokens = None
    if layout.parts > 1:
        order = index_on(layout.order, job.x.device).view(layout.parts, -1)
        tokens = order[tile % layout.parts]
    return Request(job.x, batch, slots, tile // layout.parts, tokens)


def checked(y: object, like: Tensor) -> Tensor:
    """A block's output, once it is known to fit its input."""
    if not isinstance(y, Tensor):
        raise TypeError(f"expected a block that returns one tensor, got {type(y).__name__}")
    if y.shape != like.shape or y.dtype != like.dtype:
        expected, got = (f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (like, y))
        raise ValueError(f"expected a block that keeps {expected}, got {got}")
    return y


def why_no_graph(device: torch.device) -> str | None:
    """Why the `graph` executor cannot run on a device, found out by trying; None when it can."""
    if device.type != "cuda":
        return f"it needs a CUDA device, got {device}"
    if not hasattr(torch.cuda.CUDAGraph, "begin_capture_to_if_node"):
        return f"torch {torch.__version__} has no conditional nodes in CUDA graphs"
    try:
        works = _try_if_node(device)
    except RuntimeError as error:
        return f"a conditional node could not be captured: {error}"
    return None if works else "a captured conditional node did not follow its predicate"


def _try_if_node(device: torch.device) -> bool:
    """Capture `if p: x += 1`, replay it with p true and false."""
    p = torch.zeros((), dtype=torch.bool, device=device)
    x = torch.zeros((), device=device)
    x.add_(0)  # load the kernel before the capture
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        capture: Any = torch.cuda.CUDAGraph.get_currently_capturing_graph()
        capture.begin_capture_to_if_node(p)
        x.add_(1)
        capture.end_capture_to_conditional_node()
    for value in (True, False):
        p.fill_(value)
        captured.replay()
    return x.item() == 1.0
