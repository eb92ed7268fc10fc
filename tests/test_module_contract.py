"""What every module without prototypes of its own rows promises, checked through `MODULES` in _contract."""

import copy
import io
import pickle

import pytest
import torch

from _contract import MODULES
from _contract.ranks import run_module_rank, seeded_modules, sharded_rows, train_module

F64 = torch.float64
every_module = pytest.mark.parametrize("case", MODULES, ids=str)


def made(case, dtype=F64):
    torch.manual_seed(3)
    return case.make().to(dtype)


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors)


@every_module
def test_modules_equal_their_function_in_value_and_gradient(case):
    module, rows = made(case), case.rows()
    tensors = [*rows, *module.parameters()]
    ours, theirs = case.call(module, rows), case.function(*tensors)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    for a, b in zip(gradients(ours, tensors), gradients(theirs, tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@every_module
def test_modules_pass_gradcheck_of_first_and_second_order(case, one_thread):
    module = made(case)
    names = [name for name, _ in module.named_parameters()]
    tensors = [*case.rows(), *[p.detach().requires_grad_() for p in module.parameters()]]

    def loss(*given):
        rows, parameters = given[: case.inputs], given[case.inputs :]
        target = () if case.target is None else (case.target,)
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (*rows, *target))

    assert torch.autograd.gradcheck(loss, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, tensors, fast_mode=True)


@every_module
def test_autocast_and_halves_change_no_parameter_and_no_loss(case):
    module = made(case, torch.float32)
    rows = case.rows(torch.float32)
    outside = case.call(module, rows)
    with torch.autocast("cpu", torch.bfloat16):
        inside = case.call(module, rows)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
    for dtype in (torch.bfloat16, torch.float16):
        rows = case.rows(dtype)
        loss = case.call(module, rows)
        assert loss.dtype == torch.float32
        exact = case.call(made(case), [x.detach().double() for x in rows])
        torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
        loss.backward()
        assert all(x.grad.dtype == dtype and x.grad.isfinite().all() for x in rows)
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in module.parameters())


@pytest.mark.plain
@every_module
def test_modules_are_one_graph_forward_and_backward(case):
    torch._dynamo.reset()
    module, rows = made(case), case.rows()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    tensors = [*rows, *module.parameters()]
    loss = case.call(compiled, rows)
    torch.testing.assert_close(loss, case.call(module, rows), rtol=1e-13, atol=1e-14)
    for a, b in zip(gradients(loss, tensors), gradients(case.call(module, rows), tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@every_module
def test_state_representation_and_copies_are_as_documented(case):
    module, rows = made(case), case.rows()
    assert repr(module) == case.shown
    assert tuple(module.state_dict()) == case.keys
    assert all(f"`{key}`" in type(module).__doc__ for key in case.keys)
    with torch.no_grad():
        for saved in module.state_dict().values():
            saved.add_(0.1)
    expected = case.call(module, rows)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    loaded = case.make().double()
    if case.keys:
        assert not torch.equal(case.call(loaded, rows), expected)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module), loaded):
        assert torch.equal(case.call(other, rows), expected)
        assert repr(other) == case.shown


@every_module
def test_parameters_are_initialised_and_an_empty_batch_trains_nothing(case, poisoned_empty):
    module = case.make()
    assert all(p.isfinite().all() for p in module.parameters())
    settings = getattr(module, "options", None) or getattr(module, "settings", {})
    if "reduction" in settings:
        settings["reduction"] = "sum"
    rows = [torch.zeros(0, 4, requires_grad=True) for _ in range(case.inputs)]
    target = () if case.target is None else (case.target[:0],)
    loss = module(*rows, *target).sum()
    assert loss.item() == 0
    loss.backward()
    assert all((p.grad == 0).all() for p in module.parameters())


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_ranks_train_like_one_that_averages_the_losses_of_both_parts(tmp_path):
    """A loss of pairs looks at one rank's rows: DistributedDataParallel is the mean over the parts."""
    torch.multiprocessing.spawn(run_module_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    modules = seeded_modules()
    assert len(modules) > 3
    for i, (case, module) in enumerate(modules):
        losses = train_module(case, module, module, [sharded_rows(case, rank) for rank in range(2)])
        assert [sum(both) / 2 for both in zip(ranks[0][i][0], ranks[1][i][0], strict=True)] == pytest.approx(
            losses, rel=1e-12
        )
        assert losses[-1] != losses[0]
        for name, value in module.state_dict().items():
            assert torch.equal(ranks[0][i][1][name], ranks[1][i][1][name])
            torch.testing.assert_close(ranks[0][i][1][name], value, rtol=1e-12, atol=1e-13)
