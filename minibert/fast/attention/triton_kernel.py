"""Attention over rows of unequal length, without padding: forward and backward as Triton kernels.

T tokens of all rows lie one after another; nothing marks where a row ends but `cu_seqlens`. Each (row, head) is a
square of scores of its own, cut into tiles, and no program exists for what is not there:

    tokens   a a a b b b b b b b c          scores of one head           programs of the forward pass (tile = 4)
    cu_seqlens 0, 3, 10, 11                 a . .                        row b, tile 0: queries 0-3, all keys of b
                                            . b b   rows and columns:    row b, tile 1: queries 4-6
                                            . b b c the 11 tokens        row a, tile 0;   row c, tile 0

Forward, with s = scale · q kᵀ for one tile of queries, all in base 2, as the hardware's exponential is (exp x = 2^(x
log2 e), so log2 e is folded into the scale):

    m = max over the keys of s      p = 2^(s - m)      l = Σ p      out = p v / l      lse = m + log2 l

A row that fits into one step of keys is done exactly so. A longer one goes through its keys step by step and keeps a
running m, l and p v, which are multiplied by 2^(m_old - m_new) whenever m grows (Milakov & Gimelshein 2018; Dao et al.
2022). No [n, n] matrix is ever in memory. Backward makes p again from lse, which is all that is kept (z: dropout):

    p = 2^(s - lse)             dv = (p z)ᵀ do           delta = Σ over the head of do · out
    ds = p (do vᵀ z - delta)    dq = scale · ds k        dk = scale · dsᵀ q

Up to some length one program does the whole (row, head). Beyond, one kernel keeps a tile of queries (dq, delta) and
then another a tile of keys (dk, dv); s is computed twice, but no two programs ever add to the same number, so two runs
give the same bits. Dropout keeps a probability if a random number counted by (row, head, query, key) and keyed by the
seed says so, never by place in a tile: every kernel here draws the same.

Letters: T tokens, H heads, D head size, n tokens of the row in hand; names in capitals are known to the compiler.
triton_launch.py chooses among the kernels and starts them.
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


# ---- forward ----


@triton.jit(do_not_specialize=["T"])
def forward_short(
    q, k, v, out, lse, tiles, cu_seqlens, T, scale, dropout_p, seed, STRIDE: tl.constexpr,
    H: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """One tile of queries of a row of n <= STEP tokens: softmax as it is written, no loop and no rescaling."""
    row, head, n, number, at_in, at_out, at_lse = place(tiles, cu_seqlens, T, STRIDE, H, D)
    if n == 0:  # a tile that only fills a list (replay.py)
        return
    start = number * TILE
    queries, keys = start + tl.arange(0, TILE), tl.arange(0, STEP)
    q_tile = load(q + at_in, start, n, STRIDE, TILE, D)  # [TILE, D]
    k_tile = load(k + at_in, 0, n, STRIDE, STEP, D)  # [STEP, D]
    v_tile = load(v + at_in, 0, n, STRIDE, STEP, D)
    scale *= LOG2_E
    s = tl.where(keys[None, :] < n, dot(q_tile, tl.trans(k_tile)), float("-inf"))  # [TILE, STEP], not yet scaled
    m = tl.max(s, 1) * scale  # [TILE]; finite, as every row has a key
    p = tl.exp2(s * scale - m[:, None])  # scaling and subtraction are one instruction
    l = tl.sum(p, 1)
    share = 1 / l
    if DROPOUT:
        drop = draw(dropout_p, seed, row, head, DROPOUT)
        p = tl.where(keep_mask(drop, queries[:, None], keys[None, :]), p, 0.0)
        share /= 1 - dropout_p
    o = dot(p.to(v.dtype.element_ty), v_tile) * share[:, None]  # dividing after: D columns instead of n
    store(out + at_out, start, n, H * D, o, TILE, D)
    tl.store(lse + at_lse + queries, m + tl.log2(l), mask=queries < n)


@triton.jit
def _online(
    m, l, o, q_tile, k, v, queries, at, n, scale, drop, STRIDE: tl.constexpr,
    D: tl.constexpr, STEP: tl.constexpr, DROPOUT: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """Takes the keys at … at + STEP into the running maximum m [TILE], sum l [TILE] and p v, o [TILE, D]."""
    keys = at + tl.arange(0, STEP)
    k_tile = load(k, at, n, STRIDE, STEP, D, WHOLE)
    s = dot(q_tile, tl.trans(k_tile))  # [TILE, STEP]
    if not WHOLE:
        s = tl.where(keys[None, :] < n, s, float("-inf"))
    m_new = tl.maximum(m, tl.max(s, 1) * scale)
    p = tl.exp2(s * scale - m_new[:, None])
    shrink = tl.exp2(m - m_new)  # 0 at the first step, where m = -∞
    l = l * shrink + tl.sum(p, 1)
    if DROPOUT:
        p = tl.where(keep_mask(drop, queries[:, None], keys[None, :]), p, 0.0)
    v_tile = load(v, at, n, STRIDE, STEP, D, WHOLE)
    return m_new, l, o * shrink[:, None] + dot(p.to(v_tile.dtype), v_tile)


@triton.jit(do_not_specialize=["T"])
def forward_long(
    q, k, v, out, lse, tiles, cu_seqlens, T, scale, dropout_p, seed, STRIDE: tl.constexpr,
    H: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """One tile of queries of a row of any length, STEP keys at a time: whole steps unmasked, then a masked rest."""
    row, head, n, number, at_in, at_out, at_lse = place(tiles, cu_seqlens, T, STRIDE, H, D)
    if n == 0:  # a tile that only fills a list (replay.py)
        return
    start, drop = number * TILE, draw(dropout_p, seed, row, head, DROPOUT)
    queries = start + tl.arange(0, TILE)
    q_tile = load(q + at_in, start, n, STRIDE, TILE, D)  # [TILE, D]
    scale *= LOG2_E
    m = tl.full([TILE], float("-inf"), tl.float32)
    l = tl.zeros([TILE], tl.float32)
    o = tl.zeros([TILE, D], tl.float32)
    whole = 0
    if q.dtype.element_ty != tl.float32:  # there, two loops spill registers
        whole = n // STEP * STEP
        for at in range(0, whole, STEP):
            m, l, o = _online(
                m, l, o, q_tile, k + at_in, v + at_in, queries, at, n, scale, drop, STRIDE, D, STEP, DROPOUT, True
            )
    for at in range(whole, n, STEP):  # at most once; an `if` needs 194 registers instead of 164
        m, l, o = _online(
            m, l, o, q_tile, k + at_in, v + at_in, queries, at, n, scale, drop, STRIDE, D, STEP, DROPOUT, False
        )
    share = 1 / l
    if DROPOUT:
        share /= 1 - dropout_p
    store(out + at_out, start, n, H * D, o * share[:, None], TILE, D)
    tl.store(lse + at_lse + queries, m + tl.log2(l), mask=queries < n)


# ---- backward: dv is done before do · v is taken, so that fewer numbers wait in registers, which are what limits ----


@triton.jit
def _p(a, b, lse, scale):
    """The probabilities again, of the scores a bᵀ; queries beyond the row have lse = ∞, which makes them 0."""
    return tl.exp2(dot(a, tl.trans(b)) * (scale * LOG2_E) - lse)


@triton.jit
def _z(drop, queries, keys):
    """What dropout multiplies the probabilities by: 0, or 1 / (1 - dropout_p) so that the mean stays."""
    return tl.where(keep_mask(drop, queries, keys), 1 / (1 - drop[0]), 0.0)


@triton.jit
def _delta(out_tile, do_tile):
    """Σ of do · out over the head: [TILE, D] twice -> [TILE]. It is what Σ p z dp over the keys comes to."""
    return tl.sum(out_tile.to(tl.float32) * do_tile.to(tl.float32), 1)


@triton.jit(do_not_specialize=["T"])
def backward_fused(
    q, k, v, out, do, lse, dq, dk, dv, tiles, cu_seqlens, T, scale, dropout_p, seed,
    STRIDE: tl.constexpr, H: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
    DROPOUT: tl.constexpr,
):  # fmt: skip
    """All three gradients of one head of a row of n <= TILE tokens: every number is read once and written once."""
    row, head, n, _, at_in, at_out, at_lse = place(tiles, cu_seqlens, T, STRIDE, H, D)
    if n == 0:  # a tile that only fills a list (replay.py)
        return
    OUT: tl.constexpr = H * D
    queries, drop = tl.arange(0, TILE), draw(dropout_p, seed, row, head, DROPOUT)
    q_tile = load(q + at_in, 0, n, STRIDE, TILE, D)  # [TILE, D]
    do_tile = load(do + at_out, 0, n, OUT, TILE, D)
    delta = _delta(load(out + at_out, 0, n, OUT, TILE, D), do_tile)[:, None]  # [TILE, 1]
    lse_tile = tl.load(lse + at_lse + queries, mask=queries < n, other=float("inf"))[:, None]
    dq_tile = tl.zeros([TILE, D], tl.float32)
    end = n if TILE > STEP else STEP  # a single step is known to be one: no loop is left of it
    for at in range(0, end, STEP):
        keys, z = at + tl.arange(0, STEP), 1.0
        k_tile = load(k + at_in, at, n, STRIDE, STEP, D)  # [STEP, D]
        v_tile = load(v + at_in, at, n, STRIDE, STEP, D)
        # Keys beyond n are zeros, and 2^(0 - lse) is ∞ where all scores are very negative: unmasked, ∞ · 0 in dq.
        p = tl.where(keys[None, :] < n, _p(q_tile, k_tile, lse_tile, scale), 0.0)  # [TILE, STEP]
        if DROPOUT:
            z = _z(drop, queries[:, None], keys[None, :])
        store(dv + at_out, at, n, OUT, dot(tl.trans((p * z).to(do_tile.dtype)), do_tile), STEP, D)
        ds = (p * (dot(do_tile, tl.trans(v_tile)) * z - delta)).to(q_tile.dtype)
        store(dk + at_out, at, n, OUT, dot(tl.trans(ds), q_tile) * scale, STEP, D)
        dq_tile += dot(ds, k_tile)
    store(dq + at_out, 0, n, OUT, dq_tile * scale, TILE, D)


@triton.jit(do_not_specialize=["T"])
def backward_queries(
    q, k, v, out, do, lse, delta, dq, tiles, cu_seqlens, T, scale, dropout_p, seed,
    STRIDE: tl.constexpr, H: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
    DROPOUT: tl.constexpr,
):  # fmt: skip
    """dq, and delta for backward_keys, of one tile of queries; keys pass by, STEP at a time."""
    row, head, n, number, at_in, at_out, at_lse = place(tiles, cu_seqlens, T, STRIDE, H, D)
    if n == 0:  # a tile that only fills a list (replay.py)
        return
    OUT: tl.constexpr = H * D
    start, drop = number * TILE, draw(dropout_p, seed, row, head, DROPOUT)
    queries = start + tl.arange(0, TILE)
    q_tile = load(q + at_in, start, n, STRIDE, TILE, D)  # [TILE, D]
    do_tile = load(do + at_out, start, n, OUT, TILE, D)
    sums = _delta(load(out + at_out, start, n, OUT, TILE, D), do_tile)  # [TILE]
    tl.store(delta + at_lse + queries, sums, mask=queries < n)
    lse_tile = tl.load(lse + at_lse + queries, mask=queries < n, other=float("inf"))[:, None]
    dq_tile = tl.zeros([TILE, D], tl.float32)
    for at in range(0, n, STEP):
        keys, z = at + tl.arange(0, STEP), 1.0
        k_tile = load(k + at_in, at, n, STRIDE, STEP, D)  # [STEP, D]
        v_tile = load(v + at_in, at, n, STRIDE, STEP, D)
        p = tl.where(keys[None, :] < n, _p(q_tile, k_tile, lse_tile, scale), 0.0)  # masked as in backward_fused
        if DROPOUT:
            z = _z(drop, queries[:, None], keys[None, :])
        ds = (p * (dot(do_tile, tl.trans(v_tile)) * z - sums[:, None])).to(k_tile.dtype)  # [TILE, STEP]
        dq_tile += dot(ds, k_tile)
    store(dq + at_out, start, n, OUT, dq_tile * scale, TILE, D)


@triton.jit(do_not_specialize=["T"])
def backward_keys(
    q, k, v, do, lse, delta, dk, dv, tiles, cu_seqlens, T, scale, dropout_p, seed,
    STRIDE: tl.constexpr, H: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
    DROPOUT: tl.constexpr,
):  # fmt: skip
    """dk and dv of one tile of keys; queries pass by, STEP at a time.

    Scores are [keys, queries] here, as both products then take them as they are. Keys beyond n are not masked: what
    comes of them stays in their own rows, which are not stored.
    """
    row, head, n, number, at_in, at_out, at_lse = place(tiles, cu_seqlens, T, STRIDE, H, D)
    if n == 0:  # a tile that only fills a list (replay.py)
        return
    OUT: tl.constexpr = H * D
    start, drop = number * TILE, draw(dropout_p, seed, row, head, DROPOUT)
    keys = start + tl.arange(0, TILE)
    k_tile = load(k + at_in, start, n, STRIDE, TILE, D)  # [TILE, D]
    v_tile = load(v + at_in, start, n, STRIDE, TILE, D)
    dk_tile = tl.zeros([TILE, D], tl.float32)
    dv_tile = tl.zeros([TILE, D], tl.float32)
    for at in range(0, n, STEP):
        queries, z = at + tl.arange(0, STEP), 1.0
        q_tile = load(q + at_in, at, n, STRIDE, STEP, D)  # [STEP, D]
        do_tile = load(do + at_out, at, n, OUT, STEP, D)
        lse_tile = tl.load(lse + at_lse + queries, mask=queries < n, other=float("inf"))[None, :]
        p = _p(k_tile, q_tile, lse_tile, scale)  # [TILE, STEP]
        if DROPOUT:
            z = _z(drop, queries[None, :], keys[:, None])
        dv_tile += dot((p * z).to(do_tile.dtype), do_tile)
        sums = tl.load(delta + at_lse + queries, mask=queries < n, other=0.0)[None, :]
        ds = (p * (dot(v_tile, tl.trans(do_tile)) * z - sums)).to(q_tile.dtype)
        dk_tile += dot(ds, q_tile)
    store(dk + at_out, start, n, OUT, dk_tile * scale, TILE, D)
    store(dv + at_out, start, n, OUT, dv_tile, TILE, D)
