"""The networks of several members as one stack: their parameters side by side, and passes over a batch for all.

Activations are stored as [units, rows], so that each member's part is contiguous whatever its width. The first layer of
all members is one matrix: it reads the batch once, and no width is padded. Later layers are computed member by member,
and for members of one shape together. Backward is written out: autograd would cost more than a small layer's
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from besom.bundle.activations import ACTIVATIONS, Activation
from besom.models.network import MLP, SeededDropout

_Op = Callable[[], object]
_aten = torch.ops.aten


def stacking_key(network: MLP) -> tuple[object, ...]:
    """Return the sort key of members in a stack: equal operations are adjacent, members without hidden layer first."""
    sizes = network.hidden_sizes
    return (bool(sizes), network.batch_norm, network.activation, network.dropout > 0, -len(sizes), sizes)


@dataclass(frozen=True)
class Block:
    """One member's part of a layer: its units, as rows of the layer's activations."""

    member: int
    rows: slice
    weight: Tensor
    bias: Tensor
    weight_grad: Tensor


@dataclass(frozen=True)
class Layer:
    """The members that have this layer, and their vectors, side by side."""

    blocks: tuple[Block, ...]
    bias: Tensor
    bias_grad: Tensor

    @property
    def units(self) -> int:
        """The number of units."""
        return len(self.bias)


class Stack:
    """A stack of networks, which must be sorted by `stacking_key`; it takes over their parameters.

    Each network stays usable: its parameters and their `grad` are views of the stack's memory.
    """

    def __init__(self, networks: Sequence[MLP]) -> None:
        self.networks = tuple(networks)
        self.features, self.outputs = networks[0].in_features, networks[0].out_features
        self.bare = sum(not network.hidden_sizes for network in networks)
        some = networks[0].linears[0].weight
        self.dtype, self.device = some.dtype, some.device
        self._build()

    @property
    def members(self) -> int:
        """The number of networks."""
        return len(self.networks)

    def _build(self) -> None:
        deep = range(self.bare, self.members)
        # Hidden units first, then the outputs of members without hidden layer: see `Pass`.
        first = [(member, 0) for member in (*deep, *range(self.bare))]
        matrix = self.new(sum(self._linear(member, 0).out_features for member, _ in first), self.features)
        self.first, self.first_weight, self.first_weight_grad = self._layer(first, matrix)
        depth = max(len(network.hidden_sizes) for network in self.networks)
        self.hidden = [
            self._layer([(member, level) for member in deep if len(self.networks[member].hidden_sizes) > level])[0]
            for level in range(1, depth)
        ]
        self.heads = self._layer([(member, len(self.networks[member].hidden_sizes)) for member in deep])[0]
        self.norms = [self._norm(level) for level in range(depth)]

    def _layer(self, places: Sequence[tuple[int, int]], matrix: Tensor | None = None) -> tuple[Layer, Tensor, Tensor]:
        """Put linear layers, given as (member, level), side by side."""
        linears = [self._linear(member, level) for member, level in places]
        weight = self.new(sum(linear.weight.numel() for linear in linears)) if matrix is None else matrix
        weight_grad = torch.zeros_like(weight)
        bias = self.new(sum(linear.out_features for linear in linears))
        bias_grad = torch.zeros_like(bias)
        blocks, offset, row = [], 0, 0
        for (member, _), linear in zip(places, linears, strict=True):
            shape, count, units = linear.weight.shape, linear.weight.numel(), linear.out_features
            rows = slice(row, row + units)
            own, grad = (flat.view(-1)[offset : offset + count].view(shape) for flat in (weight, weight_grad))
            move(linear.weight, own, grad)
            move(linear.bias, bias[rows], bias_grad[rows])
            blocks.append(Block(member, rows, own, bias[rows], grad))
            offset, row = offset + count, row + units
        return Layer(tuple(blocks), bias, bias_grad), weight, weight_grad

    def _norm(self, level: int) -> dict[str, Tensor]:
        """Put the batch norms of a level side by side; their members are adjacent by `stacking_key`."""
        norms = [
            norm
            for network in self.networks
            for norm in [layer for layer in network.layers if isinstance(layer, nn.BatchNorm1d)][level : level + 1]
        ]
        units = sum(norm.num_features for norm in norms)
        side = {name: self.new(units) for name in ("weight", "bias", "running_mean", "running_var")}
        grads = {name: torch.zeros_like(side[name]) for name in ("weight", "bias")}
        row = 0
        for norm in norms:
            rows = slice(row, row + norm.num_features)
            for name in ("weight", "bias"):
                move(getattr(norm, name), side[name][rows], grads[name][rows])
            for name in ("running_mean", "running_var"):
                side[name][rows].copy_(getattr(norm, name))
                setattr(norm, name, side[name][rows])
            row += norm.num_features
        return {**side, **{f"{name}_grad": grad for name, grad in grads.items()}}

    def _linear(self, member: int, level: int) -> nn.Linear:
        return self.networks[member].linears[level]

    def new_pass(self, rows: int, *, training: bool) -> Pass:
        """Return a pass for batches of this number of rows."""
        return Pass(self, rows, training=training)

    def new(self, *shape: int) -> Tensor:
        """Return an uninitialized tensor of the networks' dtype, on their device."""
        return torch.empty(*shape, dtype=self.dtype, device=self.device)

    def count_batches(self, batches: int) -> None:
        """Add `batches` to the counters of the networks' batch norms."""
        for network in self.networks:
            for layer in network.layers:
                if isinstance(layer, nn.BatchNorm1d) and layer.num_batches_tracked is not None:
                    layer.num_batches_tracked.add_(batches)


def move(parameter: Tensor, place: Tensor, grad: Tensor) -> None:
    """Move a parameter and its gradient into given memory."""
    place.copy_(parameter.data)
    parameter.data = place
    parameter.grad = grad


@dataclass(frozen=True)
class _Source:
    """The location of a member's activations of a layer: rows of a tensor [units, b], and their gradient."""

    values: Tensor
    rows: slice
    grads: Tensor
    grad_rows: slice


class Pass:
    """A forward and backward pass through a stack for batches of a fixed number of rows, in preallocated memory.

    Fill `x` [b, features], call `forward`, read `outputs` [members, out, b]; in training then write the loss's gradient
    with respect to these to `output_grads` and call `backward`, which leaves the gradients in the parameters' `grad`.
    """

    def __init__(self, stack: Stack, rows: int, *, training: bool) -> None:
        self._stack = stack
        self._rows = rows
        self._training = training
        self._forward: list[_Op] = []
        self._backward: list[list[_Op]] = []  # by stage, in the order of `forward`
        self._sources: dict[int, _Source] = {}
        self.x = stack.new(rows, stack.features)
        first = stack.first
        deep = first.blocks[: stack.members - stack.bare]
        hidden = first.units - stack.bare * stack.outputs
        # The outputs follow the first hidden layer, those of members without hidden layer first: these are in place.
        z, d = self._memory(hidden + stack.members * stack.outputs)
        self.outputs, self.output_grads = (t[hidden:].view(stack.members, stack.outputs, rows) for t in (z, d))
        units = first.units
        self._stage(
            [partial(torch.addmm, first.bias[:, None], stack.first_weight, self.x.t(), out=z[:units])],
            [
                partial(torch.mm, d[:units], self.x, out=stack.first_weight_grad),
                partial(torch.sum, d[:units], 1, out=first.bias_grad),
            ],
        )
        self._activate(0, deep, z, d)
        for level, layer in enumerate(stack.hidden, start=1):
            inner_z, inner_d = self._memory(layer.units)
            self._multiply(layer, inner_z, inner_d)
            self._activate(level, layer.blocks, inner_z, inner_d)
        if deep:
            self._multiply(stack.heads, z[units:], d[units:])
        self._bound_outputs()

    def forward(self) -> None:
        """Compute `outputs` from `x`."""
        for op in self._forward:
            op()

    def backward(self) -> None:
        """Compute the gradients of all parameters from `output_grads`."""
        for stage in reversed(self._backward):
            for op in stage:
                op()

    def _memory(self, units: int) -> tuple[Tensor, Tensor]:
        """Return memory for a layer's values and for their gradients."""
        z = self._stack.new(units, self._rows)
        return z, self._stack.new(units, self._rows) if self._training else z

    def _stage(self, forward: list[_Op], backward: list[_Op]) -> None:
        self._forward += forward
        self._backward.append(backward)

    def _multiply(self, layer: Layer, z: Tensor, d: Tensor) -> None:
        """Add a layer after the first one, with members of one shape together."""
        forward: list[_Op] = []
        backward: list[_Op] = []
        for blocks in _equal_runs(layer.blocks, self._sources):
            count, (units, inputs) = len(blocks), blocks[0].weight.shape
            rows = slice(blocks[0].rows.start, blocks[-1].rows.stop)
            first, last = (self._sources[blocks[at].member] for at in (0, -1))
            values = first.values[first.rows.start : last.rows.stop]
            grads = first.grads[first.grad_rows.start : last.grad_rows.stop]
            own_z, own_d = z[rows], d[rows]
            bias, weight, weight_grad = layer.bias[rows, None], blocks[0].weight, blocks[0].weight_grad
            add: Callable[..., Tensor] = torch.addmm if count == 1 else torch.baddbmm
            multiply: Callable[..., Tensor] = torch.mm if count == 1 else torch.bmm
            if count > 1:
                weight, weight_grad = (
                    t.as_strided((count, units, inputs), (units * inputs, inputs, 1)) for t in (weight, weight_grad)
                )
                values, grads = (t.view(count, inputs, self._rows) for t in (values, grads))
                own_z, own_d = (t.view(count, units, self._rows) for t in (own_z, own_d))
                bias = bias.view(count, units, 1)
            forward.append(partial(add, bias, weight, values, out=own_z))
            backward.append(partial(multiply, own_d, values.mT, out=weight_grad))
            backward.append(partial(multiply, weight.mT, own_d, out=grads))
        backward.append(partial(torch.sum, d[: layer.units], 1, out=layer.bias_grad))
        self._stage(forward, backward)

    def _activate(self, level: int, blocks: Sequence[Block], z: Tensor, d: Tensor) -> None:
        """Add what follows a hidden layer: batch norm, activation, dropout, for runs of members that are alike."""
        networks = self._stack.networks
        norms_from = next((block.rows.start for block in blocks if networks[block.member].batch_norm), 0)

        def kind(block: Block) -> tuple[bool, str, bool]:
            network = networks[block.member]
            return network.batch_norm, network.activation, network.dropout > 0

        for (batch_norm, activation, dropout), run in groupby(blocks, kind):
            members = list(run)
            rows = slice(members[0].rows.start, members[-1].rows.stop)
            values, grads = z[rows], d[rows]
            if batch_norm:
                own = slice(rows.start - norms_from, rows.stop - norms_from)
                side = {name: t[own] for name, t in self._stack.norms[level].items()}
                values = self._normalize(values, grads, side)
            if activation != "linear":
                values = self._apply(ACTIVATIONS[activation], values, grads)
            if dropout and self._training:
                values = self._drop(level, members, values, grads, rows.start)
            for block in members:
                inner = slice(block.rows.start - rows.start, block.rows.stop - rows.start)
                self._sources[block.member] = _Source(values, inner, d, block.rows)

    def _normalize(self, z: Tensor, d: Tensor, side: dict[str, Tensor]) -> Tensor:
        out, saved = torch.empty_like(z), [self._stack.new(len(z)) for _ in range(2)]
        momentum, eps = 0.1, 1e-5  # the defaults of nn.BatchNorm1d
        buffers = (side["weight"], side["bias"], side["running_mean"], side["running_var"])

        def forward() -> None:
            _aten.native_batch_norm.out(
                z[None], *buffers, self._training, momentum, eps,
                out=out[None], save_mean=saved[0], save_invstd=saved[1],
            )  # fmt: skip

        def backward() -> None:
            weight, _, mean, variance = buffers
            inputs, *grads = _aten.native_batch_norm_backward(
                d[None], z[None], weight, mean, variance, *saved, True, eps, [True, True, True]
            )
            d.copy_(inputs[0])
            side["weight_grad"].copy_(grads[0])
            side["bias_grad"].copy_(grads[1])

        self._stage([forward], [backward])
        return out

    def _apply(self, activation: Activation, z: Tensor, d: Tensor) -> Tensor:
        a = torch.empty_like(z) if activation.keeps_input else z
        self._stage([partial(activation.forward, z, a)], [partial(activation.backward, d, z)])
        return a

    def _drop(self, level: int, members: Sequence[Block], values: Tensor, d: Tensor, start: int) -> Tensor:
        """Apply dropout to the members' activations, with the masks that each network alone would draw."""
        dropped = torch.empty_like(values)
        for block in members:
            own = slice(block.rows.start - start, block.rows.stop - start)
            layers = self._stack.networks[block.member].layers
            layer = [layer for layer in layers if isinstance(layer, SeededDropout)][level]
            mask = self._stack.new(self._rows, own.stop - own.start)
            self._stage(
                [partial(layer.draw, mask), partial(torch.mul, values[own], mask.t(), out=dropped[own])],
                [partial(torch.mul, d[own], mask.t(), out=d[own])],
            )
        return dropped

    def _bound_outputs(self) -> None:
        for member, network in enumerate(self._stack.networks):
            if network.output_activation != "linear":
                self._apply(ACTIVATIONS[network.output_activation], self.outputs[member], self.output_grads[member])


def _equal_runs(blocks: Sequence[Block], sources: dict[int, _Source]) -> Iterator[list[Block]]:
    """Yield runs of members with weights of one shape and adjacent inputs: they multiply together."""
    run: list[Block] = []
    for block in blocks:
        source = sources[block.member]
        if run:
            before = sources[run[-1].member]
            if (
                block.weight.shape != run[-1].weight.shape
                or source.values is not before.values
                or source.rows.start != before.rows.stop
                or source.grads is not before.grads
                or source.grad_rows.start != before.grad_rows.stop
            ):
                yield run
                run = []
        run.append(block)
    if run:
        yield run
