"""Pixel affinities: one per task by non-local attention, and the cross-task affinity of both.

Shapes: B images, feature maps of h x w, N = h * w tokens, D channels, K maps.
An affinity is applied as ``A @ maps``: row i weighs all tokens for the new value at token i
(paper, equations 6-7; the released code transposes nothing either).
"""

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from model.precision import at_least_float32

# An affinity (B, N, N), or the queries and keys (B, N, D) that it is made of.
AffinitySource = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


def tokens(maps):
    """(B, K, h, w) -> (B, N, K)."""
    return maps.flatten(2).transpose(1, 2)


def untokens(values, like):
    """(B, N, K) -> (B, K, h, w) with the h and w of `like`."""
    return values.transpose(1, 2).unflatten(2, like.shape[-2:])


def apply_affinity(affinity, maps):
    """Propagate maps (B, K, h, w) by an affinity: a tensor (B, N, N) or a `BlockAffinity`."""
    if isinstance(affinity, BlockAffinity):
        return affinity.apply(maps)
    return untokens(affinity @ tokens(maps).to(affinity.dtype), maps)


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


def affinity_rows(queries, keys, start=0, stop=None):
    """Rows `start` to `stop` of softmax(queries keys^T): (B, stop - start, N)."""
    return torch.softmax(queries[:, start:stop] @ keys.transpose(1, 2), dim=-1)


def attend(queries, keys, values):
    """Softmax(queries keys^T) values without an N x N copy; values (B, N, D)."""
    # Torch streams what lies contiguously and has a dimension of heads; else it makes the matrix.
    heads = (maps.contiguous()[:, None] for maps in (queries, keys, values))
    return F.scaled_dot_product_attention(*heads, scale=1.0)[:, 0]


# Elements of a row block: 64 MiB in float32, of which a few are held at a time.
BLOCK_ELEMENTS = 2**24
# Columns of an affinity matrix that are taken as channels: see `CrossTaskAttention._hidden`.
PACKED_COLUMNS = 8


class CrossTaskAttention(nn.Sequential):
    """The self-attention that weighs the two task affinities (paper, equations 4-5).

    The layer names `0` and `2` are those of the released checkpoints. Calling the module gives
    the two channels before their softmax for a stack (B, 2, N, N); `merge` does the whole.
    """

    def __init__(self):
        super().__init__(
            nn.Conv2d(2, 2, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(2, 2, 1),
        )

    def merge(self, first, second, halo=False):
        """W1 * first + W2 * second for two affinities (B, R, N) -> (B, R, N).

        With `halo` the first and the last row are only the neighbours that the 3x3 convolution
        needs, and have no result: (B, R - 2, N).
        """
        hidden = self._hidden(first, second, row_padding=0 if halo else 1)
        if halo:
            first, second = first[:, 1:-1], second[:, 1:-1]
        # A softmax over two channels is a sigmoid of their difference.
        weight = (self[2].weight[0] - self[2].weight[1]).flatten()
        bias = self[2].bias[0] - self[2].bias[1]
        share = torch.sigmoid(hidden[0] * weight[0] + hidden[1] * weight[1] + bias)
        return torch.lerp(second, first, share)

    def _hidden(self, first, second, row_padding):
        """Both channels after the 3x3 convolution and the ReLU, each (B, rows, N).

        Convolutions of two channels are slow everywhere. Eight neighbouring columns are taken as
        eight channels, which makes it a convolution of 16 channels over N / 8 columns with the
        same result, about ten times faster on a CPU.
        """
        columns = first.shape[-1]
        packed = [_pack(matrix) for matrix in (first, second)]
        stack = torch.cat(packed, dim=-1).permute(0, 3, 1, 2)  # channels last as it lies
        hidden = F.relu(F.conv2d(stack, self._packed_weight(), padding=(row_padding, 1)))
        halves = hidden.permute(0, 2, 3, 1).split(PACKED_COLUMNS, dim=-1)
        return [half.flatten(2)[..., :columns] for half in halves]

    def _packed_weight(self):
        """The weight (2, 2, 3, 3) spread over packed columns: (16, 16, 3, 3)."""
        weight = self[0].weight
        places = _packing_places(weight.device, weight.dtype)
        spread = torch.einsum("oiyx,xjkp->ojikyp", weight, places)
        return spread.reshape(2 * PACKED_COLUMNS, 2 * PACKED_COLUMNS, 3, 3)


def _pack(matrix):
    """(B, R, N) -> (B, R, ceil(N / 8), 8), padded with zeros as the convolution would."""
    padded = F.pad(matrix, (0, -matrix.shape[-1] % PACKED_COLUMNS))
    return padded.unflatten(-1, (-1, PACKED_COLUMNS))


@cache
@torch.inference_mode(False)  # what is kept must serve training, whoever asks first
def _packing_places(device, dtype):
    """1 where tap x of output column j meets column k of the packed neighbour p: (3, 8, 8, 3)."""
    places = torch.zeros(3, PACKED_COLUMNS, PACKED_COLUMNS, 3, device=device, dtype=dtype)
    for tap in range(3):
        for column in range(PACKED_COLUMNS):
            neighbour, k = divmod(column + tap - 1, PACKED_COLUMNS)
            places[tap, column, k, neighbour + 1] = 1
    return places


class BlockAffinity:
    """An affinity that is never held as a whole: row blocks are made when it is applied.

    `sources` are the (queries, keys) of each task in the order of the stack; with one source the
    affinity is that of the task, with two it is the cross-task one, computed exactly: the 3x3
    convolution of the self-attention needs one row of its neighbours (a halo), zeros at the rim.
    """

    def __init__(self, sources, cross=None, block_rows=None):
        self.sources = sources
        self.cross = cross
        self.block_rows = block_rows or max(1, BLOCK_ELEMENTS // self.tokens)

    @property
    def tokens(self):
        """The number of tokens N."""
        return self.sources[0][0].shape[1]

    def rows(self, start, stop):
        """Rows `start` to `stop`: (B, stop - start, N)."""
        if self.cross is None:
            return affinity_rows(*self.sources[0], start, stop)
        first, last = max(start - 1, 0), min(stop + 1, self.tokens)
        rim = (0, 0, first - (start - 1), (stop + 1) - last)
        rows = [F.pad(affinity_rows(*source, first, last), rim) for source in self.sources]
        return self.cross.merge(*rows, halo=True)

    def apply(self, maps):
        """Propagate maps (B, K, h, w)."""
        values = tokens(maps).to(self.sources[0][0].dtype)
        starts = range(0, self.tokens, self.block_rows)
        blocks = [self.rows(s, min(s + self.block_rows, self.tokens)) @ values for s in starts]
        return untokens(torch.cat(blocks, dim=1), maps)
