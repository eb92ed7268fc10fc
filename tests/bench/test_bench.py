"""The command bench: what it runs, writes and refuses; peers that are missing or fail."""

import json
import subprocess
import sys

import pytest
import torch

from smoothmax.bench import memory, peers, run
from smoothmax.bench.command import chosen
from smoothmax.bench.machine import machine
from smoothmax.bench.report import as_markdown, speedups, table, table_lines
from smoothmax.bench.timing import Timing
from smoothmax.bench.workloads import GROUPS, WORKLOADS, Workload
from smoothmax.cli import main

#: Under the type hook pytest's captured streams are not the TextIO that the annotations name.
pytestmark = pytest.mark.plain


@pytest.fixture
def small(monkeypatch):
    """Two workloads that take no time."""

    def calls():
        x = torch.ones(1000)
        return {
            "x.sum()": x.sum,
            "smoothmax, forward": x.sum,
            "peer, forward": lambda: [x.sum() for _ in range(20)],
        }

    small = {"a": Workload("operators", "Sums", calls), "b": Workload("heads", "More sums", calls)}
    monkeypatch.setattr("smoothmax.bench.command.WORKLOADS", small)
    monkeypatch.setattr(run, "WORKLOADS", small)
    return small


def test_tables_a_picture_and_json_are_written(small, tmp_path, capsys):
    out = tmp_path / "there" / "bench"
    assert main(["bench", "--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "## Sums" in printed.out
    assert "## More sums" in printed.out
    assert "times as fast as peer, forward" in printed.out
    assert "1 of 2: Sums" in printed.err
    found = json.loads((out / "bench.json").read_text())
    assert [t["title"] for t in found["tables"]] == ["Sums", "More sums"]
    assert found["machine"]["torch"] == torch.__version__
    names = [row["name"] for row in found["tables"][0]["rows"]]
    assert names == ["x.sum()", "smoothmax, forward", "peer, forward"]
    assert (out / "bench.md").read_text() in printed.out
    assert "<svg" in (out / "bench.svg").read_text()


def test_a_group_and_json_on_the_standard_output(small, tmp_path, capsys):
    assert main(["bench", "heads", "--quick", "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [t["title"] for t in found["tables"]] == ["More sums"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["operatrs"],
            "smoothmax bench: there is no group 'operatrs'. Choose from operators, losses, heads.",
        ),
        (["--out", "{file}/x"], "smoothmax bench: --out {file}/x cannot be made: "),
        (["--rounds", "0"], "smoothmax bench: argument --rounds: must be a whole number of at least 1"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    try:
        code = main(["bench", *(a.format(file=file) for a in arguments)])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(message.format(file=file))


def test_every_group_has_small_workloads_and_large_ones():
    for group in GROUPS:
        quick, full = set(chosen([group], quick=True)), set(chosen([group], quick=False))
        assert quick
        assert len(full) >= 2
        assert {WORKLOADS[name].group for name in quick | full} == {group}
    assert set(chosen([], quick=False)) == {name for name in WORKLOADS if not name.endswith("-quick")}


@pytest.mark.parametrize("name", chosen([], quick=True))
def test_quick_workloads_compute_the_same_thing_everywhere(name):
    """Each call of one kind of work returns the numbers that the others return."""
    torch.manual_seed(0)
    calls = {k: call for k, call in WORKLOADS[name].calls().items() if "JAX" not in k}
    for work in ("forward", "forward and backward"):
        results = {k: call() for k, call in calls.items() if k.endswith(f", {work}") and "alone" not in k}
        numbers = [torch.as_tensor(r[0] if isinstance(r, tuple) else r).detach() for r in results.values()]
        for other in numbers[1:]:
            torch.testing.assert_close(other, numbers[0], rtol=1e-3, atol=1e-6, check_dtype=False)
    assert len(calls) >= 3


def test_a_peer_that_fails_is_told_and_left_out(monkeypatch):
    def broken():
        raise ValueError("needs\nanother version")

    workload = Workload(
        "operators", "Sums", lambda: {"floor": lambda: 1, "peer": broken}, lambda: {"b": "not installed"}
    )
    monkeypatch.setattr(run, "WORKLOADS", {"w": workload})
    result = run.run_workload("w", rounds=3, seconds=1.0, memory=False)
    assert result["missing"] == {"b": "not installed", "peer": "ValueError: needs another version"}
    assert [row["name"] for row in result["rows"]] == ["floor"]


def test_what_is_ours_must_work(monkeypatch):
    def broken():
        raise ValueError("a bug")

    workload = Workload("operators", "Sums", lambda: {"floor": lambda: 1, "smoothmax, forward": broken})
    monkeypatch.setattr(run, "WORKLOADS", {"w": workload})
    with pytest.raises(ValueError, match="a bug"):
        run.run_workload("w", rounds=3, seconds=1.0, memory=False)


def test_missing_peers_are_named(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert peers.missing() == dict.fromkeys(("BoTorch", "softtorch", "SciPy", "JAX"), "not installed")
    calls = peers.smooth_max_calls(torch.randn(2, 3), compiled=False)
    assert {name.split(",")[0] for name in calls} == {"smoothmax", "torch.logsumexp", "smoothmax on an array"}


def test_speedups_compare_the_same_work():
    ms = {
        "x.sum()": 1.0,
        "smoothmax, forward": 2.0,
        "smoothmax, forward and backward": 4.0,
        "smoothmax on an array, forward": 5.0,
        "torch.logsumexp, forward": 20.0,
        "torch.logsumexp, forward and backward": 80.0,
        "SciPy logsumexp, forward": 100.0,
    }
    result = table("t", {name: Timing(value, value, value, value, 3) for name, value in ms.items()}, {})
    assert speedups(result) == {
        "torch.logsumexp, forward": 10.0,
        "torch.logsumexp, forward and backward": 20.0,
        "SciPy logsumexp, forward": 20.0,
    }


def test_a_table_has_columns_for_what_is_known():
    timings = {"x.sum()": Timing(1.0, 1.0, 1.0, 1.0, 3), "a": Timing(2.0, 2.0, 1.9, 2.1, 3)}
    plain = table("t", timings, {"b": "not installed"})
    assert table_lines(plain)[0] == "|  | ms | over x.sum() (quartiles) |"
    assert table_lines(plain)[3] == "| a | 2 | 2 (1.9 to 2.1) |"
    known = table("t", timings, {}, {"a": 3 << 20})
    assert table_lines(known)[3] == "| a | 2 | 2 (1.9 to 2.1) | 3.0 |"
    page = as_markdown("Title", {"torch": "1"}, [plain])
    assert page.startswith("# Title\n\n- torch: 1\n")
    assert page.endswith("- b: not installed\n")


def test_the_peak_of_a_call_is_what_it_holds_at_most():
    def call():
        torch.zeros(64 << 20, dtype=torch.uint8).add_(1)

    grown = memory.peak_growth(call)
    if grown is None:
        pytest.skip("this system does not tell")
    assert 60 << 20 <= grown <= 80 << 20
    assert memory.peak_growth(lambda: None) <= 4 << 20


def test_the_peak_in_a_child_and_its_failure():
    grown = memory.peak_in_child("max-quick", "smoothmax, forward and backward")
    assert grown is None or 3 << 20 <= grown <= 40 << 20
    assert memory.peak_in_child("max-quick", "nobody") is None


def test_the_machine_names_what_numbers_depend_on():
    found = machine()
    assert found["threads"] == str(torch.get_num_threads())
    assert "back end" in found["smoothmax"]
    assert "softtorch" in found["peers"]


def test_help_needs_no_torch():
    program = (
        "import sys; from smoothmax.cli import main\n"
        "try: main(['bench', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert told.stdout.endswith("False\n")
    assert "--quick" in told.stdout
