"""The backward pass of triton_kernel.py, whose docstring has the formulas; letters as there.

In every kernel dv is done before do · v is taken: so fewer numbers wait in registers, which are what limits them.
"""

import triton
import triton.language as tl

from minibert.fast.attention.triton_parts import LOG2_E, dot, draw, keep_mask, load, place, store


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
