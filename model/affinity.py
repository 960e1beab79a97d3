"""Pixel affinities: one per task by a non-local block, and the cross-task affinity of both.

Shapes: B images, feature maps of h x w, N = h * w tokens, D channels, K maps.
An affinity is applied as ``A @ maps``: row i weighs all tokens for the new value at token i
(paper, equations 6-7; the released code transposes nothing either).
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from model.packed_affinity import packed_merge
from model.precision import at_least_float32

# An affinity (B, N, N), or the queries and keys (B, N, D) that it is made of.
AffinitySource = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
# Elements of a row block: 64 MiB in float32, of which a few are held at a time.
BLOCK_ELEMENTS = 2**24


class NonLocal(nn.Module):
    """The non-local block of a task: its affinity, and features enhanced by it (equations 2-3).

    No 1/sqrt(D) scale. The released code calls the layers theta, phi, g and W.

    Args:
        channels: D.
        project: a 1x1 convolution on the attended features before they are added.
    """

    def __init__(self, channels: int, project: bool = False):
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1) if project else None

    def start_from_similarity(self) -> None:
        """Let queries equal keys, by an orthogonal map: the affinity starts as similarity.

        With independent random maps, as released, it starts as a nearly even average over the
        image, and needs thousands of steps to become selective.
        """
        nn.init.orthogonal_(self.query.weight)
        nn.init.zeros_(self.query.bias)
        self.key.load_state_dict(self.query.state_dict())

    def forward(self, features: torch.Tensor, whole: bool) -> tuple[torch.Tensor, AffinitySource]:
        """F_in (B, D, h, w) -> F_out of that shape, and the source of the affinity.

        The source is the affinity itself (B, N, N) if it is to be made as a `whole`; else the
        queries and keys (B, N, D) that its rows are made of. Either is at least float32.
        """
        layers = (self.query, self.key, self.value)
        q, k, v = (at_least_float32(tokens(layer(features))) for layer in layers)  # (B, N, D)
        with torch.autocast(features.device.type, enabled=False):
            if whole:
                source = affinity_rows(q, k)  # A = softmax(Q K^T), each row by itself
                attended = source @ v  # (B, N, D)
            else:
                source = (q, k)
                attended = attend(q, k, v)
        attended = untokens(attended, features).to(features.dtype)  # (B, D, h, w)
        if self.projection is not None:
            attended = self.projection(attended)
        return features + attended, source


class CrossTaskAttention(nn.Module):
    """The self-attention SA that merges the affinities of two tasks (paper, equations 4-5)."""

    def __init__(self):
        super().__init__()
        self.conv3x3 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.conv1x1 = nn.Conv2d(2, 2, 1)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """A_CT (B, N, N) of the affinities (B, N, N) of two tasks, in the order of the stack.

        The plain form, which the tests hold `merge` to; the network uses that, which is faster.
        """
        stack = torch.stack([first, second], dim=1)  # (B, 2, N, N)
        weights = self.conv1x1(F.relu(self.conv3x3(stack))).softmax(dim=1)  # W1, W2: equation 4
        return (weights * stack).sum(dim=1)  # W1 * first + W2 * second: equation 5

    def merge(self, first: torch.Tensor, second: torch.Tensor, halo: bool = False) -> torch.Tensor:
        """`forward` by `packed_merge`, which says what `halo` is: what the network uses."""
        return packed_merge(self.conv3x3, self.conv1x1, first, second, halo)


def affinity_rows(
    queries: torch.Tensor, keys: torch.Tensor, start: int = 0, stop: int | None = None
) -> torch.Tensor:
    """Rows `start` to `stop` of softmax(Q K^T): (B, N, D) twice -> (B, stop - start, N)."""
    return torch.softmax(queries[:, start:stop] @ keys.transpose(1, 2), dim=-1)


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T) V without an N x N copy; all (B, N, D)."""
    # Torch streams what lies contiguously and has a dimension of heads; else it makes the matrix.
    heads = (maps.contiguous()[:, None] for maps in (queries, keys, values))
    return F.scaled_dot_product_attention(*heads, scale=1.0)[:, 0]


class BlockAffinity:
    """An affinity that is never held as a whole: row blocks are made when it is applied.

    `sources` are the (queries, keys) of each task in the order of the stack; with one source the
    affinity is that of the task, with two it is the cross-task one, computed exactly: the 3x3
    convolution of the self-attention needs one row of its neighbours (a halo), zeros at the rim.
    """

    def __init__(
        self,
        sources: Sequence[tuple[torch.Tensor, torch.Tensor]],
        cross: CrossTaskAttention | None = None,
        block_rows: int | None = None,
    ):
        self.sources = sources
        self.cross = cross
        self.block_rows = block_rows or max(1, BLOCK_ELEMENTS // self.tokens)

    @property
    def tokens(self) -> int:
        """The number of tokens N."""
        return self.sources[0][0].shape[1]

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop`: (B, stop - start, N)."""
        if self.cross is None:
            return affinity_rows(*self.sources[0], start, stop)
        first, last = max(start - 1, 0), min(stop + 1, self.tokens)
        rim = (0, 0, first - (start - 1), (stop + 1) - last)
        rows = [F.pad(affinity_rows(*source, first, last), rim) for source in self.sources]
        return self.cross.merge(*rows, halo=True)

    def apply(self, maps: torch.Tensor) -> torch.Tensor:
        """A @ maps: (B, K, h, w) -> the same shape (paper, equations 6-7)."""
        values = tokens(maps).to(self.sources[0][0].dtype)
        starts = range(0, self.tokens, self.block_rows)
        blocks = [self.rows(s, min(s + self.block_rows, self.tokens)) @ values for s in starts]
        return untokens(torch.cat(blocks, dim=1), maps)


def apply_affinity(affinity: torch.Tensor | BlockAffinity, maps: torch.Tensor) -> torch.Tensor:
    """A @ maps for an affinity (B, N, N) and maps (B, K, h, w) (paper, equations 6-7)."""
    if isinstance(affinity, BlockAffinity):
        return affinity.apply(maps)
    return untokens(affinity @ tokens(maps).to(affinity.dtype), maps)


def tokens(maps: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w) -> (B, N, K)."""
    return maps.flatten(2).transpose(1, 2)


def untokens(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B, N, K) -> (B, K, h, w) with the h and w of `like`."""
    return values.transpose(1, 2).unflatten(2, like.shape[-2:])
