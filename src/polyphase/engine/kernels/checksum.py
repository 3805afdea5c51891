"""Kernel ``checksum``: a digest of bytes, to tell whether any of them has changed.

Every word goes into one of many lanes, whose state becomes ``t ^ t >> 29`` with
``t = (state + word) * MULTIPLIER``. Both steps can be undone, so a change of one word of a lane
always changes its state, and so do all that follow; the digest is the state of every lane.
"""

from llvmlite import ir

from polyphase.engine.emit import I8, I64, POINTER, Emitter
from polyphase.engine.target import Target

CONTEXT = "data digest next chunk_count chunk size".split()
# vectors in flight: enough to hide the latency of a multiplication
VECTORS = 8
WORD = 8
# odd, so that it has an inverse: the golden ratio
MULTIPLIER = 0x9E3779B97F4A7C15
SHIFT = 29


def lanes(target: Target) -> int:
    """Words in a vector."""
    return target.lanes("f64")


def digest_words(target: Target) -> int:
    """Words of the digest of a chunk: those of all vectors, and one for the rest."""
    return VECTORS * lanes(target) + 1


def build(target: Target) -> str:
    """IR of the kernel."""
    return _Checksum(target).build()


class _Checksum:
    def __init__(self, target: Target) -> None:
        self.lanes = lanes(target)
        self.digest_words = digest_words(target)
        self.vector = ir.VectorType(I64, self.lanes)
        self.e = e = Emitter(ir.Module("checksum"), "run", ["context*"], self.lanes)
        self.c = {name: e.load(e.arguments["context"], i, I64) for i, name in enumerate(CONTEXT)}
        for name in ("data", "digest"):
            self.c[name] = e.builder.inttoptr(self.c[name], POINTER)

    def build(self) -> str:
        """IR text of the kernel: chunks are taken until none is left."""
        e, c, b = self.e, self.c, self.e.builder
        counter = e.at(e.arguments["context"], CONTEXT.index("next"), I64)
        with e.taken(counter, c["chunk_count"]) as index:
            first = b.mul(index, c["chunk"])
            left = b.sub(c["size"], first)
            count = b.select(b.icmp_signed("<", left, c["chunk"]), left, c["chunk"])
            digest = e.at(c["digest"], e.mul(index, self.digest_words), I64)
            self._chunk(e.at(c["data"], first, I8), count, digest)
        e.finish()
        return str(e.module)

    def _chunk(self, data: ir.Value, count: ir.Value, digest: ir.Value) -> None:
        """The digest of ``count`` bytes."""
        e, b = self.e, self.e.builder
        width = self.lanes * WORD
        blocks_end = b.and_(count, e.const(-VECTORS * width))
        words_end = b.and_(count, e.const(-WORD))
        zero = ir.Constant(self.vector, None)
        with e.loop(0, blocks_end, VECTORS * width, carried=[zero] * VECTORS) as blocks:
            start = e.at(data, blocks.index, I8)
            blocks.carry(
                [
                    self._mixed(state, self._loaded(start, i * width, zero))
                    for i, state in enumerate(blocks.values)
                ]
            )
        for i, state in enumerate(blocks.results):
            e.store_vector(state, digest, i * self.lanes)
        with e.loop(blocks_end, words_end, WORD, carried=[e.const(0)]) as words:
            word = self._loaded(data, words.index, e.const(0))
            words.carry([self._mixed(words.values[0], word)])
        with e.loop(words_end, count, carried=words.results) as rest:
            byte = b.zext(self._loaded(data, rest.index, ir.Constant(I8, 0)), I64)
            rest.carry([self._mixed(rest.values[0], byte)])
        e.store(rest.results[0], digest, VECTORS * self.lanes)

    def _loaded(self, data: ir.Value, offset: ir.Value | int, like: ir.Value) -> ir.Value:
        """A value of the type of ``like``, ``offset`` bytes on: at any address."""
        return self.e.builder.load(self.e.at(data, offset, I8), typ=like.type, align=1)

    def _mixed(self, state: ir.Value, word: ir.Value) -> ir.Value:
        """The next state of a lane or of a vector of them."""
        b = self.e.builder

        def constant(value: int) -> ir.Constant:
            return ir.Constant(state.type, value if state.type == I64 else [value] * self.lanes)

        mixed = b.mul(b.add(state, word), constant(MULTIPLIER))
        return b.xor(mixed, b.lshr(mixed, constant(SHIFT)))
