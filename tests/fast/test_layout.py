"""Proves that packing keeps tokens, their places and their gradients. Run: pytest tests/fast/test_layout.py"""

import numpy as np
import pytest
import torch

from minibert.core.attention import Padded
from minibert.fast.layout import Packed, pack, packed_form, pad

LENGTHS = {
    "the picture in layout.py": [4, 6],
    "all different": [1, 200, 2, 63, 257, 64, 65, 127, 128, 129],
    "all equal": [5, 5, 5],
    "one row": [7],
    "one token": [1],
    "rows without tokens": [0, 3, 0, 0, 4, 0],
    "no token at all": [0, 0],
}
batches = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
HOLES = torch.tensor([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])  # left padding, holes …


def test_the_tensors_are_those_of_the_picture():
    layout = Packed.from_lengths([4, 6])
    assert (layout.lengths, layout.width, layout.max_length) == ((4, 6), 6, 6)
    assert layout.cu_seqlens.tolist() == [0, 4, 10]
    assert layout.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    assert layout.indices.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    dtypes = (layout.cu_seqlens.dtype, layout.position_ids.dtype, layout.indices.dtype)
    assert dtypes == (torch.int32, torch.int64, torch.int64)


@batches
@pytest.mark.parametrize("extra", [0, 3])
def test_lengths_and_the_mask_they_mean_give_the_same_layout(lengths, extra):
    width = max(lengths) + extra
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    ours, theirs = Packed.from_lengths(lengths, width), Packed.from_mask(mask.long())
    assert (ours.lengths, ours.width) == (theirs.lengths, theirs.width) == (tuple(lengths), width)
    for name in ("cu_seqlens", "indices", "position_ids"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_a_mask_may_have_holes_and_padding_on_the_left():
    layout = Packed.from_mask(HOLES)
    assert layout.lengths == (3, 3, 0, 5)
    assert layout.position_ids.tolist() == [2, 3, 4, 0, 2, 4, 0, 1, 2, 3, 4]
    assert torch.equal(pack(torch.arange(20).view(4, 5), layout), torch.arange(20)[HOLES.flatten().bool()])
    assert torch.equal(layout.padded.keys, HOLES.bool())


@batches
def test_pad_brings_back_what_pack_took_and_zeros_elsewhere(lengths):
    layout = Packed.from_lengths(lengths, max(lengths) + 2)
    x = torch.randn(len(lengths), layout.width, 3, 2)
    mask = torch.arange(layout.width) < torch.tensor(lengths)[:, None]
    packed = pack(x, layout)
    assert torch.equal(packed, x[mask])
    assert torch.equal(pad(packed, layout), x * mask[:, :, None, None])


def test_what_is_nan_at_padding_stays_there():
    layout = Packed.from_lengths([2, 0, 3], 4)
    x = torch.full((3, 4, 2), float("nan"))
    x[0, :2], x[2, :3] = 1.0, 2.0
    assert pad(pack(x, layout), layout).flatten().tolist() == [1] * 4 + [0] * 12 + [2] * 6 + [0] * 2


@pytest.mark.parametrize("lengths", [[2, 0, 3], [3, 3], [0]])
def test_gradients_of_pack_and_pad_are_exact(lengths):
    layout = Packed.from_lengths(lengths, 3)
    x = torch.randn(len(lengths), 3, 2, dtype=torch.float64, requires_grad=True)
    flat = torch.randn(sum(lengths), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pack(x, layout), x)
    assert torch.autograd.gradcheck(lambda flat: pad(flat, layout), flat)
    assert torch.autograd.gradgradcheck(lambda x: pad(pack(x, layout).square(), layout), x)


def test_strided_tensors_are_packed_as_they_are():
    layout = Packed.from_lengths([2, 3], 4)
    x = torch.randn(2, 5, 4, 3).transpose(1, 2)  # [B, S, …] of a tensor [B, H, S, D]
    assert torch.equal(pack(x, layout), pack(x.contiguous(), layout))
    qkv = torch.randn(5, 3, 2, 2)
    assert torch.equal(pad(qkv[:, 1], layout), pad(qkv[:, 1].contiguous(), layout))


@batches
@pytest.mark.parametrize("block", [1, 64, 128])
def test_tiles_cover_every_position_once_longest_rows_first(lengths, block):
    tiles = Packed.from_lengths(lengths).tiles(block)
    assert (tiles.dtype, tiles.shape[1:]) == (torch.int32, (2,))
    covered = [
        (row, at) for row, tile in tiles.tolist() for at in range(tile * block, min((tile + 1) * block, lengths[row]))
    ]
    assert sorted(covered) == [(row, at) for row, length in enumerate(lengths) for at in range(length)]
    assert all(tile * block < lengths[row] for row, tile in tiles.tolist()), "a tile without positions"
    sizes = [lengths[row] for row, _ in tiles.tolist()]
    assert sizes == sorted(sizes, reverse=True)


def test_tiles_of_a_bucket_hold_its_rows_alone():
    layout = Packed.from_lengths([64, 0, 65, 256, 257, 1])
    assert layout.tiles(256, 0, 256).tolist() == [[3, 0], [2, 0], [0, 0], [5, 0]]  # one for each row
    assert layout.tiles(64, 64, 256).tolist() == [[3, 0], [3, 1], [3, 2], [3, 3], [2, 0], [2, 1]]
    assert layout.tiles(128, 256).tolist() == [[4, 0], [4, 1], [4, 2]]
    assert layout.tiles(64, 257).shape == (0, 2)


def test_what_is_derived_is_derived_once():
    layout = Packed.from_lengths([3, 5])
    assert layout.tiles(64, 0, 64) is layout.tiles(64, 0, 64)
    assert layout.tiles(64, 0, 64) is not layout.tiles(64, 0, 128)
    assert layout.padded is layout.padded
    padded = Packed.from_lengths([3, 5]).padded
    assert packed_form(padded, 2, 5, torch.device("cpu")) is packed_form(padded, 2, 5, torch.device("cpu"))


@batches
def test_by_length_holds_every_row_once_beside_those_of_its_length(lengths):
    layout = Packed.from_lengths(lengths)
    groups, rows, order, back = layout.by_length
    rows = torch.arange(len(lengths)) if rows is None else rows
    order = torch.arange(sum(lengths)) if order is None else order
    begin, found = layout.cu_seqlens.tolist(), rows[len(lengths) - sum(R for R, _ in groups) :].tolist()
    tokens = order.split([n for R, n in groups for _ in range(R)])
    for row, places in zip(found, tokens, strict=True):
        assert places.tolist() == list(range(begin[row], begin[row] + lengths[row]))
    assert sorted(found) == [row for row, length in enumerate(lengths) if length]
    assert [n for _, n in groups] == sorted(set(lengths) - {0})
    assert back is None or torch.equal(order[back], torch.arange(sum(lengths)))


def test_rows_sorted_by_length_need_not_move():
    assert Packed.from_lengths([1, 2, 2, 5]).by_length[1:] == (None, None, None)
    assert Packed.from_lengths([2, 1]).by_length.rows.tolist() == [1, 0]


def test_a_row_without_tokens_has_no_first_one():
    assert Packed.from_lengths([2, 1, 3]).firsts.tolist() == [0, 2, 3]
    with pytest.raises(ValueError, match="row 1 has no tokens"):
        _ = Packed.from_lengths([2, 0]).firsts


def test_padded_from_lengths_is_padded_from_the_mask():
    layout = Packed.from_lengths([2, 0, 3], width=4).padded
    assert layout.keys.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert Packed.from_lengths([3, 3]).padded.keys is None
    assert Packed.from_lengths([3, 3], width=4).padded.keys is not None


def test_a_mask_that_hides_nothing_is_dropped():
    assert Padded.from_mask(torch.ones(2, 3, dtype=torch.long)).keys is None
    assert Padded.from_mask(None).keys is None
    assert Padded.from_mask(torch.tensor([[1, 0]])).keys.tolist() == [[True, False]]


def test_a_row_without_tokens_is_noticed():
    assert Padded.from_mask(HOLES).may_be_empty
    assert not Padded.from_mask(HOLES[[0, 1, 3]]).may_be_empty
    assert Packed.from_lengths([2, 0]).padded.may_be_empty
    assert not Packed.from_lengths([2, 1]).padded.may_be_empty
    assert not Padded(None).may_be_empty


def test_a_padded_batch_is_packed_with_or_without_a_mask():
    unmasked = Padded(None)
    assert packed_form(unmasked, 2, 3, torch.device("cpu")).lengths == (3, 3)
    assert packed_form(unmasked, 1, 4, torch.device("cpu")).lengths == (4,)
    assert packed_form(Padded.from_mask(HOLES), 4, 5, torch.device("cpu")).lengths == (3, 3, 0, 5)


def test_the_tensors_are_made_on_the_device_that_was_asked_for():
    layout = Packed.from_lengths([3, 0, 2], device="meta")
    tensors = layout.cu_seqlens, layout.indices, layout.position_ids, layout.tiles(64), *layout.by_length[1:]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert layout.lengths == (3, 0, 2)
    assert layout.padded.keys.device.type == "meta"
    assert layout.padded.may_be_empty


def test_lengths_may_be_an_array():
    assert Packed.from_lengths(np.array([3, 1], np.uint8)).lengths == (3, 1)
    assert Packed.from_lengths(torch.tensor([3, 1])).lengths == (3, 1)


@pytest.mark.parametrize(
    ("lengths", "width", "said"),
    [
        ([], None, "at least one"),
        ([[1, 2]], None, r"shape \[1, 2\]"),
        ([3, -1], None, r"holds -1 .* whole numbers >= 0"),
        ([1.5, 2], None, r"holds 1.5 \(float64\)"),
        ([True, False], None, "bool"),
        ([2**30, 2**30], None, "2147483648 tokens, not below 2147483648"),
        ([2, 7], 6, "width 6 is below the longest row, 7"),
    ],
)
def test_impossible_lengths_are_named(lengths, width, said):
    with pytest.raises(ValueError, match=said):
        Packed.from_lengths(lengths, width)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3, 4)])
def test_a_mask_of_another_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"give \[batch, sequence\]"):
        Packed.from_mask(torch.ones(shape))


def test_tensors_that_do_not_fit_the_layout_are_named():
    layout = Packed.from_lengths([2, 3], 4)
    with pytest.raises(ValueError, match=r"x has shape \[2, 5, 1\], but the layout has 2 rows of 4"):
        pack(torch.zeros(2, 5, 1), layout)
    with pytest.raises(ValueError, match=r"x has shape \[6, 1\], but the layout has 5 tokens"):
        pad(torch.zeros(6, 1), layout)
