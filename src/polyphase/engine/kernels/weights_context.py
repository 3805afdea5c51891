"""What the functions of method ``weights`` share: their context, its tables, the kernel's shape."""

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from polyphase.engine.emit import I64, POINTER, Emitter
from polyphase.engine.target import Target

CONTEXT = (
    "x y w scratch rests phase w_last next ticket tasks task_count deliveries delivery_count boxes "
    "lines places tiles lists sources ahead steps step_count "
    "groups forms rest_local x_packed y_packed "
    "scratch_size x_size y_size x_panel y_panel y_group rest_x rest_y chunks chunk_size local "
    "x_block y_block in_channels out_channels x_channel x_pixel x_pair y_channel y_pixel y_pair "
    "y_spacing "
    "w_input taps stretches"
).split()
TABLES = (
    "x y w scratch rests tasks deliveries boxes lines places tiles lists sources ahead steps "
    "groups forms"
).split()
TASK = "x y w rest x_start x_stop y_start y_stop box_start box_stop".split()
BOX = (
    "x y x_line_start x_line_stop x_count x_place y_line_start y_line_stop y_count y_place "
    "x_clear y_clear tile_start tile_stop x_ahead_start x_ahead_stop y_ahead_start y_ahead_stop "
    "group_start group_stop x_d x_h x_w y_d y_h y_w x_plane y_plane form_start form_stop"
).split()
DELIVERY = "rest w x_block y_block".split()
# a register tile of a block becomes the sum of two others times half as much as the factors
STEP = "target first second first_factor second_factor".split()
# sums of a phase: their kind, where they are made from and where they go
FORM = "kind source target".split()
# a signed sum of neighbours: how far each is from the first one, and 1 or -1
Sum = tuple[tuple[int, int], ...]
# the sums along each axis
Sums = tuple[tuple[Sum, ...], ...]
# where a vector of sums of kind taps goes: its place in the block, how many lanes, its first place
# in the weights, and the same where output channels lie closer than taps
DIRECT = "source count target last".split()


@dataclass(frozen=True, slots=True)
class Shape:
    """What the machine code depends on.

    A register tile holds ``taps`` taps (vectors of taps, for that kind), each with ``rows``
    broadcast channels and ``vectors`` vectors; taps multiply the rows for kind ``inputs`` and the
    vectors for the others. Where output channels are ``spaced``, each is packed by itself: a tap is
    one of a channel, and the rows of kind ``inputs`` are taps that follow it. ``x_last`` and
    ``y_last`` are the layouts in memory; ``y_pixel`` is the number of output channels where a block
    has few and all of them. With ``ahead`` what is packed next is fetched meanwhile. Where not
    cells are multiplied but sums of them, these are ``x_sums``, and ``y_sums`` has each kind. A
    cell holds the elements of so many ``images``.
    """

    dtype: str
    kind: str
    taps: int
    rows: int
    vectors: int
    spaced: bool
    x_last: bool
    y_last: bool
    y_pixel: int
    ahead: bool
    x_sums: Sums = ()
    y_sums: tuple[Sums, ...] = ()
    images: int = 1

    @property
    def filtered(self) -> bool:
        """Whether sums of cells are multiplied."""
        return bool(self.x_sums)

    @property
    def tile_rows(self) -> int:
        """Broadcast values of a register tile."""
        return self.rows * self.taps if self.kind == "inputs" else self.rows

    @property
    def tile_vectors(self) -> int:
        """Vectors loaded for a register tile."""
        return self.vectors if self.kind == "inputs" else self.vectors * self.taps

    @property
    def sums(self) -> int:
        """Vectors of sums of a register tile."""
        return self.tile_rows * self.tile_vectors

    def stretch(self, lanes: int) -> int:
        """Neighbouring taps of the last axis that share an address."""
        if self.kind == "taps":
            return lanes
        return self.rows if self.spaced else 1

    def x_pitch(self, lanes: int) -> int:
        """Input channels of a block."""
        return self.rows if self.kind in ("outputs", "taps") else self.vectors * lanes

    def y_pitch(self, lanes: int) -> int:
        """Output channels to a cell of a block."""
        if self.spaced:
            return 1
        return {"outputs": self.vectors * lanes, "inputs": self.rows, "groups": lanes}[self.kind]

    def last(self, side: str) -> bool:
        """Whether the channels of a side vary fastest in memory."""
        return self.x_last if side == "x" else self.y_last

    def name(self, target: Target) -> str:
        """Kernel name: type, method, tile, target."""
        last = "_cl" if self.y_last else ""
        spaced = "_spaced" * self.spaced
        pairs = "_paired" * (self.images > 1)
        tile = f"{self.taps}x{self.rows}x{self.vectors}"
        method = "minimal_weights" if self.filtered else "weights"
        return f"{self.dtype}_{method}_{self.kind}_{tile}{spaced}{last}{pairs}_{target.name}"


class Function(Emitter):
    """A function that begins with a context, whose slots it has at hand by name."""

    def __init__(self, module: ir.Module, name: str, more: Sequence[str], lanes: int) -> None:
        super().__init__(module, name, ["context*", *more], lanes)
        self.c = {
            slot: self.load(self.arguments["context"], number, I64)
            for number, slot in enumerate(CONTEXT)
            if slot not in ("next", "ticket")
        }
        for slot in TABLES:
            self.c[slot] = self.builder.inttoptr(self.c[slot], POINTER)

    def counter(self, name: str) -> ir.Value:
        """Where a counter lies that all threads share."""
        return self.at(self.arguments["context"], CONTEXT.index(name), I64)

    def least(self, value: ir.Value, bound: ir.Value | int) -> ir.Value:
        """The smaller of two."""
        bound = self.const(bound) if isinstance(bound, int) else bound
        return self.builder.select(self.builder.icmp_signed("<", value, bound), value, bound)

    def greatest(self, value: ir.Value, bound: ir.Value) -> ir.Value:
        """The larger of two."""
        return self.builder.select(self.builder.icmp_signed(">", value, bound), value, bound)
