"""What the Triton kernels of both directions are made of: where a program's work lies, loads, stores, dropout.

Letters: T tokens, H heads, D head size, n tokens of the row in hand; names in capitals are known to the compiler.
"""

import math

import triton
import triton.language as tl

LOG2_E: tl.constexpr = tl.constexpr(math.log2(math.e))


@triton.jit
def place(tiles, cu_seqlens, T, STRIDE: tl.constexpr, H: tl.constexpr, D: tl.constexpr):
    """Which work this program has: row, head, length of the row, number of the tile; and where the row begins in q, k
    and v, in [T, H, D] and in [H, T]. Heads vary fastest, so programs that run together read neighbouring memory."""
    tile, head = tl.program_id(0) // H, tl.program_id(0) % H
    row, number = tl.load(tiles + 2 * tile), tl.load(tiles + 2 * tile + 1)
    first = tl.load(cu_seqlens + row)
    n = tl.load(cu_seqlens + row + 1) - first
    first = first.to(tl.int64)  # T · 3 · H · D may pass 2^31
    return row, head, n, number, first * STRIDE + head * D, (first * H + head) * D, head.to(tl.int64) * T + first


@triton.jit
def _at(base, start, STRIDE: tl.constexpr, ROWS: tl.constexpr, D: tl.constexpr):
    """Addresses of the tokens start … start + ROWS: [ROWS, D]. Only `start`, a scalar, needs 64 bits."""
    return base + tl.cast(start, tl.int64) * STRIDE + (tl.arange(0, ROWS)[:, None] * STRIDE + tl.arange(0, D)[None, :])


@triton.jit
def load(base, start, n, STRIDE: tl.constexpr, ROWS: tl.constexpr, D: tl.constexpr, WHOLE: tl.constexpr = False):
    """Tokens start … start + ROWS of the row: [ROWS, D]. Beyond its n tokens the next row begins: zeros instead."""
    at = _at(base, start, STRIDE, ROWS, D)
    inside = (start + tl.arange(0, ROWS) < n)[:, None]
    return tl.load(at) if WHOLE else tl.load(at, mask=inside, other=0.0)


@triton.jit
def store(base, start, n, STRIDE: tl.constexpr, x, ROWS: tl.constexpr, D: tl.constexpr):
    """Writes x [ROWS, D], rounded to the type of what it writes to."""
    at, inside = _at(base, start, STRIDE, ROWS, D), (start + tl.arange(0, ROWS) < n)[:, None]
    tl.store(at, x.to(base.dtype.element_ty), mask=inside)


@triton.jit
def dot(a, b):
    """a @ b, added up in float32; float32 operands are not rounded to TF32 first."""
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def draw(dropout_p, seed, row, head, DROPOUT: tl.constexpr):
    """What names a draw of dropout: the rate, and two words of 32 bits for a head of a row, by Philox (Salmon et al.
    2011). The seed is read from memory, so that a recorded launch draws anew."""
    a, b = row, head
    if DROPOUT:
        a, b, _, _ = tl.philox(tl.load(seed), row, head, 0, 0)
    return dropout_p, a, b


@triton.jit
def keep_mask(drop, queries, keys):
    """Which probabilities dropout keeps: bool, of [queries, 1] and [1, keys] or of both transposed.

    Philox for each of them would take three times as long as all else. Two multiplications with shifts between them
    (constants of Wellons's "lowbias32") mix place and words well enough: tests/fast/test_triton.py has the statistics.
    The bits are compared as an integer: exact, no float.
    """
    dropout_p, a, b = drop
    place = queries.to(tl.uint32) * 0x9E3779B1 + keys.to(tl.uint32) * 0x85EBCA77
    bits = place ^ a.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15) ^ b.to(tl.uint32)) * 0x846CA68B
    return bits >= tl.cast(dropout_p * 4294967296.0, tl.uint32)
