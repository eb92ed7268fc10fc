"""What every loss and head promises, checked through the lists in _contract."""

import copy
import io
import itertools
import math
import pickle
import shutil

import pytest
import torch
import torch.nn.functional as F

from _contract import CASES, HEADS
from _contract.case import CLASSES, FEATURES, ROWS, TARGET, head_loss
from _contract.classes import PROBABILITIES
from _contract.ranks import run_rank, seeded_heads, sharded_batch, train
from _golden import assert_close
from smoothmax import SharpenWhileErrors
from smoothmax.functional import cosface, normface, softmax_cross_entropy
from smoothmax.nn import CosineHead, LinearHead, MagFaceHead

F64 = torch.float64
HALVES = [torch.float16, torch.bfloat16]

every_loss = pytest.mark.parametrize("case", CASES, ids=str)
every_head = pytest.mark.parametrize("head", HEADS, ids=str)


def made(head, dtype=F64):
    torch.manual_seed(3)
    return head.make().to(dtype)


def inputs(dtype=F64):
    return torch.randn(ROWS, FEATURES, dtype=F64).to(dtype).requires_grad_()


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors)


# Derivatives


@every_loss
def test_losses_pass_gradcheck_of_first_and_second_order(case, one_thread):
    tensors = case.tensors()
    assert torch.autograd.gradcheck(case.loss, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(case.loss, tensors, fast_mode=True)


@every_head
def test_heads_pass_gradcheck_of_first_and_second_order(head, one_thread):
    module = made(head)
    names = [name for name, _ in module.named_parameters()]
    tensors = (inputs(), *[p.detach().requires_grad_() for p in module.parameters()])

    def loss(*given):
        return head_loss(module, names, *given)

    assert torch.autograd.gradcheck(loss, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, tensors, fast_mode=True)


@every_loss
def test_losses_equal_the_naive_formula_in_value_and_gradient(case):
    for dtype, tolerance in ((F64, 1e-12), (torch.float32, 2e-5)):
        tensors = case.tensors(dtype)
        ours, theirs = case.loss(*tensors), case.naive(*tensors)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        for a, b in zip(gradients(ours, tensors), gradients(theirs, tensors), strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@every_head
def test_heads_equal_the_naive_formula_in_value_and_gradient(head):
    module, x = made(head), inputs()
    tensors = (x, *module.parameters())
    ours, theirs = module(x, TARGET), head.naive(module, x, TARGET)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(ours, tensors), gradients(theirs, tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@every_loss
def test_torch_func_agrees_with_autograd(case):
    tensors = [t.detach() for t in case.tensors()]
    everything = tuple(range(len(tensors)))
    by_func = torch.func.grad(case.loss, argnums=everything)(*tensors)
    wanted = case.tensors()
    by_autograd = gradients(case.loss(*wanted), wanted)
    for a, b in zip(by_func, by_autograd, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    tangents = tuple(torch.randn_like(t) for t in tensors)
    value, slope = torch.func.jvp(case.loss, tuple(tensors), tangents)
    assert_close(value, case.loss(*tensors))
    expected = sum((g * t).sum() for g, t in zip(by_autograd, tangents, strict=True))
    assert_close(slope, expected)


@every_loss
def test_hessian_is_symmetric_and_that_of_the_naive_formula(case):
    tensors = [t.detach() for t in case.tensors()]
    n = tensors[0].numel()
    ours, theirs = (torch.func.hessian(loss)(*tensors).reshape(n, n) for loss in (case.loss, case.naive))
    assert_close(ours, ours.T)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("labels", [TARGET, PROBABILITIES], ids=["indices", "probabilities"])
def test_vmap_gives_per_sample_gradients(labels):
    z = torch.randn(ROWS, CLASSES, dtype=F64)
    per_sample = torch.func.vmap(torch.func.grad(lambda z, y: softmax_cross_entropy(z, y, scale=3.0)))(
        z, labels
    )
    total = torch.func.grad(lambda z: softmax_cross_entropy(z, labels, scale=3.0, reduction="sum"))(z)
    assert_close(per_sample, total)


def test_vmap_gives_per_sample_gradients_of_prototypes():
    x, w = torch.randn(ROWS, FEATURES, dtype=F64), torch.randn(CLASSES, FEATURES, dtype=F64)

    def one(w, x, y):
        return cosface(x, w, y, scale=8.0, margin=0.2)

    per_sample = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(w, x, TARGET)
    whole = torch.func.grad(lambda w: cosface(x, w, TARGET, scale=8.0, margin=0.2))(w)
    assert_close(per_sample.mean(0), whole)


# Precision


@every_loss
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_gives_a_float32_loss_close_to_float64(case, dtype):
    tensors = case.tensors(dtype)
    exact = case.loss(*[t.detach().double() for t in tensors])
    loss = case.loss(*tensors)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact.double(), rtol=1e-5, atol=0)
    for tensor, gradient in zip(tensors, gradients(loss, tensors), strict=True):
        assert gradient.dtype == tensor.dtype == dtype
        assert gradient.isfinite().all()


@every_loss
def test_autocast_changes_nothing_in_a_loss(case):
    tensors = case.tensors(torch.float32)
    outside = case.loss(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        inside = case.loss(*tensors)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
    for a, b in zip(gradients(inside, tensors), gradients(outside, tensors), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@every_loss
def test_float64_stays_float64_and_float32_stays_float32(case):
    for dtype in (F64, torch.float32):
        assert case.loss(*case.tensors(dtype)).dtype == dtype


@every_head
def test_training_under_autocast_keeps_the_dtype_of_the_parameters(head):
    module, x = made(head, torch.float32), inputs(torch.float32)
    exact = made(head)(x.detach().double(), TARGET)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = [p.detach().clone() for p in module.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(x, TARGET)
    assert loss.dtype == torch.float32
    # Cosines are computed in float32; W f of a linear head is autocast's affair, as nn.Linear's is.
    tolerance = 1e-5 if isinstance(module, CosineHead) else 2e-2
    torch.testing.assert_close(loss.double(), exact, rtol=tolerance, atol=0)
    loss.backward()
    optimizer.step()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in module.parameters())
    assert all(not torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, F64], ids=str)
def test_features_of_another_dtype_leave_float32_prototypes_as_they_are(dtype):
    """A published head re-casts its class weights to the dtype of the batch, for good."""
    module = CosineHead(FEATURES, CLASSES, scale=16.0)
    stored = module.prototypes.data_ptr(), module.prototypes.detach().clone()
    x = torch.randn(ROWS, FEATURES).to(dtype).requires_grad_()
    loss = module(x, TARGET)
    exact = normface(x.detach().double(), stored[1].double(), TARGET, scale=16.0)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    loss.backward()
    assert module.prototypes.dtype == module.prototypes.grad.dtype == torch.float32
    assert x.grad.dtype == dtype
    assert module.prototypes.data_ptr() == stored[0]
    assert torch.equal(module.prototypes, stored[1])


# One graph


@pytest.mark.plain
@every_loss
def test_losses_are_one_graph_forward_and_backward(case):
    torch._dynamo.reset()
    compiled = torch.compile(case.loss, fullgraph=True, backend="aot_eager")
    tensors = case.tensors()
    loss = compiled(*tensors)
    torch.testing.assert_close(loss, case.loss(*tensors), rtol=1e-13, atol=1e-14)
    for a, b in zip(gradients(loss, tensors), gradients(case.loss(*tensors), tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.plain
@every_head
def test_heads_are_one_graph_forward_and_backward(head):
    torch._dynamo.reset()
    module, x = made(head), inputs()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    tensors = (x, *module.parameters())
    loss = compiled(x, TARGET)
    torch.testing.assert_close(loss, module(x, TARGET), rtol=1e-13, atol=1e-14)
    for a, b in zip(gradients(loss, tensors), gradients(module(x, TARGET), tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.plain
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_generated_kernel_gives_the_loss_of_eager():
    torch._dynamo.reset()
    module = made(HEADS[3], torch.float32)
    x = inputs(torch.float32)
    compiled = torch.compile(module, fullgraph=True)
    tensors = (x, *module.parameters())
    loss = compiled(x, TARGET)
    assert_close(loss, module(x, TARGET))
    for a, b in zip(gradients(loss, tensors), gradients(module(x, TARGET), tensors), strict=True):
        assert_close(a, b)


# The contract of F.cross_entropy

SHAPES = [(CLASSES,), (ROWS, CLASSES), (2, CLASSES, 3), (2, CLASSES, 3, 2)]


def _without_classes(shape):
    return shape[:0] if len(shape) == 1 else shape[:1] + shape[2:]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_indices_weights_smoothing_and_ignoring_are_those_of_cross_entropy(shape, reduction):
    for weighted, smoothing, ignore in itertools.product((False, True), (0.0, 0.1, 1.0), (-100, 3, 255)):
        z = torch.randn(shape, dtype=F64, requires_grad=True)
        target = torch.randint(CLASSES, _without_classes(shape))
        if target.ndim:
            target.view(-1)[0] = ignore
        options = {
            "weight": torch.rand(CLASSES, dtype=F64) if weighted else None,
            "label_smoothing": smoothing,
            "ignore_index": ignore,
            "reduction": reduction,
        }
        ours, theirs = softmax_cross_entropy(z, target, **options), F.cross_entropy(z, target, **options)
        assert_close(ours, theirs, equal_nan=True)
        if not theirs.isnan().any():
            slopes = [gradients(loss.sum(), z)[0] for loss in (ours, theirs)]
            assert_close(*slopes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_probabilities_weights_and_smoothing_are_those_of_cross_entropy(shape, reduction):
    for weighted, smoothing in itertools.product((False, True), (0.0, 0.1, 1.0)):
        z = torch.randn(shape, dtype=F64, requires_grad=True)
        target = torch.rand(shape, dtype=F64, requires_grad=True)
        options = {
            "weight": torch.rand(CLASSES, dtype=F64) if weighted else None,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        ours, theirs = softmax_cross_entropy(z, target, **options), F.cross_entropy(z, target, **options)
        assert_close(ours, theirs)
        for a, b in zip(
            gradients(ours.sum(), (z, target)), gradients(theirs.sum(), (z, target)), strict=True
        ):
            assert_close(a, b)


@pytest.mark.parametrize("loss", [softmax_cross_entropy, F.cross_entropy])
def test_one_hot_probabilities_cost_what_the_index_costs(loss):
    z = torch.randn(ROWS, CLASSES, dtype=F64)
    one_hot = F.one_hot(TARGET, CLASSES).double()
    assert_close(loss(z, one_hot), softmax_cross_entropy(z, TARGET))


def test_an_empty_batch_is_what_it_is_for_cross_entropy():
    z, target = torch.zeros(0, CLASSES, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    w = torch.randn(CLASSES, FEATURES, requires_grad=True)
    for loss in (
        lambda **options: softmax_cross_entropy(z, target, **options),
        lambda **options: normface(torch.zeros(0, FEATURES), w, target, scale=8.0, **options),
    ):
        assert loss().isnan()
        assert loss(reduction="sum").item() == 0.0
        assert loss(reduction="none").shape == (0,)
        assert loss(num_items=4.0).item() == 0.0
    assert F.cross_entropy(z, target).isnan()
    gradient = gradients(normface(torch.zeros(0, FEATURES), w, target, scale=8.0, reduction="sum"), w)[0]
    assert (gradient == 0).all()


@every_head
def test_an_empty_batch_trains_nothing_and_does_not_fail(head):
    module = made(head, torch.float32)
    module.options["reduction"] = "sum"
    module(torch.zeros(0, FEATURES), torch.zeros(0, dtype=torch.int64)).backward()
    assert all((p.grad == 0).all() for p in module.parameters())


@every_head
def test_a_batch_of_one_equals_its_row_alone(head):
    module, x = made(head), inputs()
    module.options["reduction"] = "sum"
    alone = sum(module(x[i : i + 1], TARGET[i : i + 1]) for i in range(ROWS))
    assert_close(alone, module(x, TARGET))


def test_all_rows_ignored_is_nan_for_the_mean_and_zero_for_the_sum():
    z = torch.randn(3, CLASSES, requires_grad=True)
    target = torch.full((3,), -100)
    assert softmax_cross_entropy(z, target).isnan()
    assert F.cross_entropy(z, target).isnan()
    total = softmax_cross_entropy(z, target, reduction="sum")
    assert total.item() == 0.0
    assert (gradients(total, z)[0] == 0).all()
    assert softmax_cross_entropy(z, target, num_items=5.0).item() == 0.0


@pytest.mark.parametrize("label", [-1, CLASSES, 10**6])
def test_a_label_out_of_range_is_an_index_error(label):
    target = TARGET.clone()
    target[2] = label
    x, w = torch.randn(ROWS, FEATURES), torch.randn(CLASSES, FEATURES)
    for call in (
        lambda: softmax_cross_entropy(torch.randn(ROWS, CLASSES), target),
        lambda: normface(x, w, target, scale=8.0),
        lambda: LinearHead(FEATURES, CLASSES)(x, target),
        lambda: CosineHead(FEATURES, CLASSES, scale=8.0)(x, target),
    ):
        with pytest.raises(IndexError, match=f"Target {label} is out of bounds"):
            call()


@every_head
def test_one_class_is_learned_from_the_start(head):
    kind = type(head.make())
    module = kind(FEATURES, 1, scale=16.0, **({"penalty": 0.0} if kind is MagFaceHead else {}))
    loss = module(torch.randn(3, FEATURES), torch.zeros(3, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
    assert all((p.grad == 0).all() for p in module.parameters())


# State


@every_head
def test_state_has_the_documented_keys_and_goes_round(head):
    module, x = made(head), inputs()
    assert tuple(module.state_dict()) == head.keys
    assert all(f"`{key}`" in type(module).__doc__ for key in head.keys)
    other = head.make().double()
    assert not torch.equal(other(x, TARGET), module(x, TARGET))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x, TARGET), module(x, TARGET))


@every_head
def test_pickles_copies_and_checkpoints_give_the_same_loss(head):
    module, x = made(head), inputs()
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    loaded = head.make().double()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module), loaded):
        assert torch.equal(other(x, TARGET), module(x, TARGET))
        assert other.extra_repr() == module.extra_repr()
        with torch.no_grad():
            other.prototypes.zero_()
        assert module.prototypes.abs().sum() > 0


def test_a_rule_saves_its_state_under_the_scale():
    head = CosineHead(FEATURES, CLASSES, scale=SharpenWhileErrors(CLASSES, 10))
    head(torch.randn(ROWS, FEATURES), TARGET).backward()
    assert sorted(head.state_dict()) == [
        "prototypes",
        "scale.error",
        "scale.scale",
        "scale.seen",
        "scale.step",
    ]
    other = CosineHead(FEATURES, CLASSES, scale=SharpenWhileErrors(CLASSES, 10))
    other.load_state_dict(head.state_dict())
    x = torch.randn(ROWS, FEATURES)
    assert torch.equal(other(x, TARGET), head(x, TARGET))
    assert other.scale.step.item() == 2


@every_head
def test_every_parameter_is_initialised(head, poisoned_empty):
    assert torch.empty(3).isnan().all()
    assert all(p.isfinite().all() for p in head.make().parameters())


# Two ranks


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_ranks_train_like_one(tmp_path):
    """DistributedDataParallel over gloo, every head: the same mean losses and the same parameters."""
    torch.multiprocessing.spawn(run_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    x, y = sharded_batch()
    for i, head in enumerate(seeded_heads()):
        losses = train(head, head, x, y)
        shared = [(a + b) / 2 for a, b in zip(ranks[0][i][0], ranks[1][i][0], strict=True)]
        assert shared == pytest.approx(losses, rel=1e-12)
        assert math.isfinite(losses[-1])
        for name, value in head.state_dict().items():
            assert torch.equal(ranks[0][i][1][name], ranks[1][i][1][name])
            torch.testing.assert_close(ranks[0][i][1][name], value, rtol=1e-12, atol=1e-13)
