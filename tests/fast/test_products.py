"""Proves that a product by oneDNN is `F.linear`: its values, its gradients, and that it stands aside where it must.
Run: pytest tests/fast/test_products.py
"""

import contextlib
import copy
import os
import pickle
import platform
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from conftest import GOOD_KERNELS, assert_near, outputs, small_config, stir
from test_model import loss_of, packed_batch, rectangle
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from minibert.core.model import activation
from minibert.fast import products
from minibert.fast.models import BertForPreTraining
from minibert.fast.twins import prepare

pytestmark = [pytest.mark.numeric, pytest.mark.usefixtures("onednn")]

ACTS = [None, "relu", "gelu", "gelu_new", "gelu_pytorch_tanh"]
needs_onednn = pytest.mark.skipif(
    products.OPERATOR is None or not GOOD_KERNELS, reason="PyTorch has no oneDNN here, or the CPU no AVX2"
)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The activation, or "add", of each product that oneDNN is asked for."""
    asked = []

    class Watched:
        def __call__(self, *given: object) -> Tensor:
            asked.append(given[3])
            return torch.ops.mkldnn._linear_pointwise(*given)

        def binary(self, *given: object) -> Tensor:
            asked.append(given[4])
            return torch.ops.mkldnn._linear_pointwise.binary(*given)

    if products.OPERATOR is not None:
        monkeypatch.setattr(products, "OPERATOR", Watched())
    return asked


def given(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """x of this shape, a weight [41, E] and a bias [41]."""
    torch.manual_seed(0)
    return torch.randn(*shape), torch.randn(41, shape[-1]), torch.randn(41)


def wanted(x: Tensor, weight: Tensor, bias: Tensor, act: str | None = None) -> Tensor:
    y = F.linear(x, weight, bias)
    return y if act is None else activation(act, y)


FORMS = {
    "packed": lambda: given(53, 37),
    "a sentence": lambda: given(13, 37),
    "padded": lambda: given(5, 7, 37),
    "one token": lambda: given(1, 37),
    "no token": lambda: given(0, 37),
    "every other row": lambda: (given(53, 37)[0][::2], *given(53, 37)[1:]),
    "columns of a wider table": lambda: (given(53, 74)[0][:, 37:], *given(53, 37)[1:]),
    "rows and columns turned": lambda: (given(5, 7, 37)[0].transpose(0, 1), *given(53, 37)[1:]),
    "one row many times": lambda: (given(1, 37)[0].expand(11, 37), *given(1, 37)[1:]),
    "a turned weight": lambda: (given(53, 37)[0], given(53, 37)[1].t().contiguous().t(), given(53, 37)[2]),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_product_and_its_activation_are_those_of_linear(form, act):
    parts = FORMS[form]()
    found = products.linear(*parts, act)
    assert found.shape == wanted(*parts).shape
    if found.numel():
        assert_near([found], [wanted(*parts, act)], limit=3e-6)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_sum_with_a_product_is_the_sum(form):
    x, weight, bias = FORMS[form]()
    other = torch.randn(len(bias), *x.shape[:-1]).movedim(0, -1)
    found = products.linear_plus(x, weight, bias, other)
    assert found.shape == other.shape
    if found.numel():
        assert_near([found], [other + wanted(x, weight, bias)], limit=3e-6)


@pytest.mark.parametrize("act", ACTS[2:])
@torch.no_grad()
def test_where_it_is_linear_what_follows_is_written_over_its_answer(act, plain_products, monkeypatch):
    parts, made = given(53, 37), []
    other = torch.randn(53, 41)
    true = wanted(*parts, act), other + wanted(*parts)
    itself = F.linear
    monkeypatch.setattr(F, "linear", lambda *given: made.append(itself(*given)) or made[-1])
    found = products.linear(*parts, act), products.linear_plus(*parts, other)
    assert [one.data_ptr() for one in found] == [one.data_ptr() for one in made]
    assert_near(list(found), list(true), limit=3e-6)


@pytest.mark.parametrize("act", ACTS)
def test_where_it_is_linear_gradients_go_through_what_follows(act, plain_products):
    parts, other = given(53, 37), torch.randn(53, 41)
    whole = (True, True, True)
    found = differentiated(lambda *given: products.linear(*given, act), parts, whole, False)
    assert_near(found, differentiated(lambda *given: wanted(*given, act), parts, whole, False), limit=3e-6)
    found = differentiated(lambda *given: products.linear_plus(*given, other), parts, whole, False)
    assert_near(found, differentiated(lambda *given: other + wanted(*given), parts, whole, False), limit=3e-6)


@torch.no_grad()
def test_a_sum_with_numbers_of_another_type_is_of_the_larger_one():
    parts = given(53, 37)
    assert products.linear_plus(*parts, torch.ones(53, 41, dtype=torch.float64)).dtype is torch.float64


def differentiated(
    product: object, parts: tuple[Tensor, ...], asked: tuple[bool, ...], spread: bool
) -> list[Tensor | None]:
    """The gradients of x, weight and bias. spread: of the plain sum, whose gradient is one number seen many times."""
    leaves = [part.detach().clone().requires_grad_(wish) for part, wish in zip(parts, asked, strict=True)]
    y = product(*leaves)
    (y.sum() if spread else y.pow(2).sum()).backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize(
    "asked", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
@pytest.mark.parametrize("form", [form for form in FORMS if form != "no token"])
def test_gradients_are_those_of_linear_and_no_others_are_made(form, asked, spread, calls):
    parts = FORMS[form]()
    found, true = (differentiated(f, parts, asked, spread) for f in (products.linear, wanted))
    assert [gradient is None for gradient in found] == [not wish for wish in asked]
    assert_near([x for x in found if x is not None], [x for x in true if x is not None], limit=3e-6)
    if calls:  # where oneDNN is
        assert len(calls) == 1 + asked[0] + asked[1]


@needs_onednn
def test_a_gradient_of_a_gradient_is_refused():
    x, weight, bias = given(5, 37)
    (gradient,) = torch.autograd.grad(
        products.linear(x.requires_grad_(), weight, bias).pow(2).sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def under_autocast(parts: tuple[Tensor, ...]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return products.linear(*parts)


def turned_off(parts: tuple[Tensor, ...]) -> Tensor:
    torch.backends.mkldnn.set_flags(False)
    try:
        return products.linear(*parts)
    finally:
        torch.backends.mkldnn.set_flags(True)


def with_tangents(parts: tuple[Tensor, ...]) -> Tensor:
    x, weight, bias = parts
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of its torch.jit
        with forward_ad.dual_level():
            y = products.linear(forward_ad.make_dual(x, x), weight, bias)
            return forward_ad.unpack_dual(y).tangent + bias


def in_vmap(parts: tuple[Tensor, ...]) -> Tensor:
    x, weight, bias = parts
    with torch.no_grad():
        return torch.func.vmap(lambda weight: products.linear(x, weight, bias))(weight[None])[0]


def while_operations_are_counted(parts: tuple[Tensor, ...]) -> Tensor:
    with FlopCounterMode(display=False) as counter:
        found = products.linear(*parts)
    assert counter.get_total_flops() == 2 * 53 * 37 * 41
    return found


class Marked(Tensor):
    """A tensor of somebody's own kind."""


def without_numbers(parts: tuple[Tensor, ...]) -> Tensor:
    with FakeTensorMode() as mode:
        return products.linear(*map(mode.from_tensor, parts))


OTHERS = {
    "while operations are counted": while_operations_are_counted,
    "of another kind of tensor": lambda parts: products.linear(parts[0].as_subclass(Marked), *parts[1:]).as_subclass(
        Tensor
    ),
    "in another type": lambda parts: products.linear(*(part.double() for part in parts)).float(),
    "under autocast": under_autocast,
    "where oneDNN is turned off": turned_off,
    "with a tangent beside": with_tangents,
    "of several weights at once": in_vmap,
    "without numbers": lambda parts: products.linear(*(part.to("meta") for part in parts)),
    "in a mode without numbers": without_numbers,
    "while it is compiled": lambda parts: torch.compile(products.linear, backend="eager", fullgraph=True)(*parts),
    "for another CPU": lambda parts: products.linear(*parts),
}


@needs_onednn
@pytest.mark.parametrize("how", OTHERS)
def test_elsewhere_it_is_linear_itself(how, calls, monkeypatch):
    if how == "for another CPU":
        monkeypatch.setattr(products, "FAST_ENOUGH", False)
    parts = given(53, 37)
    found = OTHERS[how](parts)
    assert calls == []
    if "without numbers" not in how:
        assert_near([found.float()], [wanted(*parts)], limit=1e-2 if how == "under autocast" else 1e-5)


# ---- a sentence alone, dealt out to the threads ----


@pytest.fixture
def parts(monkeypatch) -> list[int]:
    """How many tokens each product had that was done by parts, as on a CPU with AVX2 alone, two threads and MKL."""
    asked, itself = [], products.by_parts
    monkeypatch.setattr(products, "FAST_ENOUGH", False)
    monkeypatch.setattr(products, "LARGE", 48 * 37)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(products, "by_parts", lambda *given: asked.append(len(given[0])) or itself(*given))
    return asked


def wide(T: int, F: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """x [T, 37], a weight [F, 37] and a bias [F]."""
    torch.manual_seed(0)
    return torch.randn(T, 37), torch.randn(F, 37), torch.randn(F)


SENTENCES = {
    "of one token": lambda: wide(1),
    "of no token": lambda: wide(0),
    "of 13 tokens": lambda: wide(13),
    "in every other row": lambda: (wide(26)[0][::2], *wide(26)[1:]),
    "by a turned weight": lambda: (wide(13)[0], wide(13)[1].t().contiguous().t(), wide(13)[2]),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("form", SENTENCES)
@torch.no_grad()
def test_a_product_by_parts_is_that_of_linear(form, act, parts):
    x, weight, bias = SENTENCES[form]()
    other = torch.randn(len(x), len(bias))
    found = products.linear(x, weight, bias, act), products.linear_plus(x, weight, bias, other)
    assert parts == [len(x)] * 2
    assert all(one.is_contiguous() for one in found)
    if len(x):
        assert_near(list(found), [wanted(x, weight, bias, act), other + wanted(x, weight, bias)], limit=3e-6)


WHOLE = {
    "of more rows": lambda: wide(49),
    "of a batch": lambda: (wide(12)[0].view(3, 4, 37), *wide(12)[1:]),
    "by a small weight": lambda: wide(13, 44),
    "of outputs that do not divide": lambda: wide(13, 49),
    "in another type": lambda: tuple(each.double() for each in wide(13)),
}


@pytest.mark.parametrize("form", WHOLE)
@torch.no_grad()
def test_other_products_stay_whole(form, parts):
    given = WHOLE[form]()
    assert products.linear(*given).shape == wanted(*given).shape
    assert parts == []


@pytest.mark.parametrize("how", ["with one thread", "with AVX-512", "without MKL", "with gradients", "while counted"])
@torch.no_grad()
def test_elsewhere_a_sentence_stays_whole(how, parts, monkeypatch):
    given = wide(13)
    if how == "with one thread":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    elif how == "with AVX-512":
        monkeypatch.setattr(products, "FAST_ENOUGH", True)
        monkeypatch.setattr(products, "OPERATOR", None)
    elif how == "without MKL":
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    counter = FlopCounterMode(display=False) if how == "while counted" else contextlib.nullcontext()
    with torch.set_grad_enabled(how == "with gradients"), counter:
        found = products.linear(*given)
    assert parts == []
    assert_near([found], [wanted(*given)], limit=3e-6)


# ---- what must not be lost ----


@pytest.mark.parametrize("act", ACTS[1:])
@torch.no_grad()
def test_no_activation_hides_what_is_no_number(act):
    x, weight, bias = given(53, 37)
    weight[3] = float("nan")
    assert products.linear(x, weight, bias, act)[:, 3].isnan().all()


@torch.no_grad()
def test_a_change_of_one_row_through_its_data_is_seen():
    x, weight, bias = given(53, 37)
    for _ in range(3):
        products.linear(x, weight, bias)
    weight.data[2:3] = 100.0
    assert_near([products.linear(x, weight, bias)], [wanted(x, weight, bias)], limit=3e-6)


def test_of_a_frozen_weight_the_input_is_not_kept():
    x, weight, bias = given(53, 37)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape), lambda t: t):
        products.linear(x.requires_grad_(), weight, bias)
    assert x.shape not in kept


def test_a_prepared_model_that_is_copied_pickled_or_moved_answers_the_same():
    model = stir(BertForPreTraining(small_config()))
    batch = packed_batch([5, 1, 13, 5])
    with torch.no_grad():
        first, second = (outputs(prepare(model)(**batch)) for _ in range(2))
        others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.double().float()]
        for other in others:
            for _ in range(2):
                assert_near(outputs(prepare(other)(**batch)), first, limit=3e-6)
        assert_near(second, first, limit=3e-6)


# ---- a whole model ----


def gradients(model: torch.nn.Module, batch: dict) -> list[Tensor]:
    loss_of(outputs(model(**batch))).backward()
    return [parameter.grad for parameter in model.parameters()]


@needs_onednn
@pytest.mark.parametrize("act", ACTS[1:])
@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_a_prepared_model_has_all_products_of_its_layers_and_of_the_masked_lm_from_onednn(act, padded, calls):
    model = stir(BertForPreTraining(small_config(hidden_act=act)))
    batch = packed_batch([5, 1, 13, 5])
    if padded:
        batch, _ = rectangle(batch)
    assert_near(outputs(prepare(model)(**batch)), outputs(model(**batch)), limit=3e-6)
    fused = "none" if act == "relu" else "gelu"
    assert calls == ["none", "none", "none", "add", fused, "add"] * 2 + [fused, "none"]


def test_a_step_of_a_prepared_model_is_that_of_the_model(calls):
    """In float64's eyes: neither is nearer to it than float32 allows."""
    model = stir(BertForPreTraining(small_config())).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.bert.layers:
        layer.attention.dropout_p = 0.0
    batch = packed_batch([5, 1, 13, 5])
    exact, plain = copy.deepcopy(model).double(), copy.deepcopy(model)
    found, near, true = (gradients(each, batch) for each in (prepare(model), plain, exact))
    for a, b, c in zip(found, near, true, strict=True):
        size = max(c.abs().max().item(), 1e-2)
        distances = [(x - c).abs().max().item() / size for x in (a, b)]
        assert distances[0] <= max(1e-5, 3 * distances[1])


MANY_NUMBERS_OF_ROWS = """
import torch
torch.backends.cpu.get_cpu_capability = lambda: "AVX512"  # there its import sets the bounds
from minibert.fast.products import linear
torch.set_grad_enabled(False)
weight, bias = torch.ones(41, 37), torch.ones(41)
for T in range(51, 92):
    linear(torch.ones(T, 37), weight, bias)
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
    for _ in range(2):
        linear(torch.ones(51, 37), weight, bias)
"""


@needs_onednn
def test_only_a_few_kernels_are_kept_however_many_numbers_of_rows_there_were():
    done = subprocess.run([sys.executable, "-c", MANY_NUMBERS_OF_ROWS], capture_output=True, text=True, check=True)
    assert kernels_made(done.stdout) == ["create:cache_miss", "create:cache_hit"]  # the 40 others had taken its place


def kernels_made(said: str) -> list[str]:
    """What oneDNN says of the kernels that it is asked for."""
    lines = [line for line in said.splitlines() if "inner_product" in line]
    return [hit for line in lines for hit in ("create:cache_miss", "create:cache_hit") if hit in line]


@needs_onednn
@torch.no_grad()
def test_sentences_of_nearly_one_length_share_their_kernels(capfd):
    _, weight, bias = given(2, 41)
    products.linear(torch.ones(17, 41), weight, bias)
    products.linear_plus(torch.ones(17, 41), weight, bias, torch.ones(17, len(bias)))

    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON_CREATION):
        for T in range(18, 25):
            products.linear(torch.ones(T, 41), weight, bias)
            products.linear_plus(torch.ones(T, 41), weight, bias, torch.ones(T, len(bias)))
    assert set(kernels_made(capfd.readouterr().out)) <= {"create:cache_hit"}


AVX2 = """
from minibert.fast.products import FAST_ENOUGH, F, linear, torch
torch.set_grad_enabled(False)
x, weight, bias = torch.randn(53, 384), torch.randn(1536, 384), torch.randn(1536)
print(FAST_ENOUGH, torch.equal(linear(x, weight, bias), F.linear(x, weight, bias)))
"""


def test_on_a_cpu_without_avx512_products_are_pytorchs_own():
    done = subprocess.run(
        [sys.executable, "-c", AVX2], env={**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}, capture_output=True, text=True
    )
    assert done.stdout == "False True\n", done.stderr


@needs_onednn
def test_other_libraries_are_not_told_how_many_kernels_to_keep(monkeypatch):
    first, *others = products.CACHES
    monkeypatch.setenv(first, "33")
    for name in others:
        monkeypatch.delenv(name, raising=False)
    products.bound_caches()
    assert {name: os.environ.get(name) for name in products.CACHES} == {first: "33"} | dict.fromkeys(others)


@needs_onednn
def test_kernels_are_bounded_whatever_tensors_are_by_default(monkeypatch):
    made = []
    monkeypatch.setattr(products, "OPERATOR", lambda x, *rest: made.append((x.dtype, x.device.type)))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            products.bound_caches()
    finally:
        torch.set_default_dtype(torch.float32)
    assert made == [(torch.float32, "cpu")]


LAYER = """
import torch
from minibert.fast import products
block = torch.empty(20 << 20, dtype=torch.uint8).data_ptr()
heap = [line.split()[0].split("-") for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]")]
print(any(int(first, 16) <= block < int(end, 16) for first, end in heap))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library, which keeps memory by other rules")
def test_memory_of_a_layer_is_of_the_heap_which_is_kept_and_no_mapping_of_its_own():
    done = subprocess.run([sys.executable, "-c", LAYER], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
