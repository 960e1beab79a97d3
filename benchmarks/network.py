"""The network: cross-task attention, dilation, and a training step against the machine's limit."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from benchmarks.material import Bench
from benchmarks.timing import Row, Way, compare
from model.affinity import CrossTaskAttention
from wsss.training.loop import Hardware, Trainer


def rows(bench: Bench) -> Iterator[Row]:
    """All forward and backward; steps by the recipe `compact`, of stride 8."""
    size = bench.size
    yield _attention(bench)
    images = torch.randn(size.batch, 3, size.crop, size.crop)
    plain, ours = (_gradients(bench.network(plain).backbone, images) for plain in (True, False))
    part = f"EfficientNet-Lite0 at stride 8, {size.batch} crops of {size.crop}"
    ways = Way("dilated depth-wise convolutions", plain), Way("undilated ones, in phases", ours)
    yield compare(part, "ms", *ways, size.rounds)
    plain, ours = (_step(bench, plain) for plain in (True, False))
    ways = Way("both as above", plain, size.batch), Way("both as here", ours, size.batch)
    yield compare("training step, an image", "ms", *ways, size.rounds)
    yield _limit(bench, ours)


def _gradients(layer: Callable, *inputs: torch.Tensor) -> Callable[[], None]:
    return lambda: layer(*inputs).square().mean().backward()


def _attention(bench: Bench) -> Row:
    tokens = (-(-bench.size.loader_crop // 8)) ** 2
    attention = CrossTaskAttention()
    pair = [torch.rand(2, tokens, tokens).softmax(-1).requires_grad_() for _ in range(2)]
    return compare(
        f"cross-task attention, two images of {tokens} tokens",
        "ms",
        Way("a 3x3 convolution of two channels", _gradients(attention.forward, *pair)),
        Way("columns packed into channels", _gradients(attention.merge, *pair)),
        bench.size.rounds,
    )


def _step(bench: Bench, plain: bool) -> Callable[[], object]:
    """A step of SGD on noise."""
    hardware, size = Hardware(torch.device("cpu")), bench.size
    trainer = Trainer(bench.network(plain).train(), bench.config.stage, hardware, states=None)
    batch = bench.material.batch(size.batch, size.crop)
    batch["labels"] = torch.randint(0, 2, (size.batch, 20)).float()
    return lambda: trainer.step(batch)


def operations_of(run: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and products, two for each multiply-add."""

    def backward(
        out, inputs, weight, _bias, _stride, _padding, _dilation, transposed, *others, **_
    ):
        # Each gradient takes what the layer took; PyTorch's own formula forgets the groups.
        gradients = sum(others[-1][:2])
        return gradients * conv_flop_count(inputs, weight, out, transposed=transposed)

    mapping = {torch.ops.aten.convolution_backward: backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def _limit(bench: Bench, step: Callable[[], object]) -> Row:
    operations, side = operations_of(step), bench.size.matrix
    first, second = torch.randn(2, side, side)
    return compare(
        f"training step of {operations / 2e9 / bench.size.batch:.0f} GMAC an image",
        "GFLOP/s",
        Way(f"products of {side}x{side} in float32", lambda: first @ second, 2 * side**3 / 1e9),
        Way("the step", step, operations / 1e9),
        bench.size.rounds,
    )
