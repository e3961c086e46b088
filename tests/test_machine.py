"""The probe: it finishes, measures, refuses what is not there, and leaves the process as it was."""

import os
import platform
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch

from fromnoise import durable, machine
from fromnoise.errors import UseError


@pytest.fixture(scope="module")
def found() -> machine.Machine:
    return machine.probe("cpu")


def test_the_probe_measures_this_machine(found: machine.Machine) -> None:
    assert found.matrix_gflops_float32 > 0 and found.matrix_gflops_bf16 > 0
    assert 1 <= found.threads <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes > 2**28
    assert found.device == "cpu" and found.device_name
    assert found.torch_version == torch.__version__


def test_the_record_returns_from_json(found: machine.Machine) -> None:
    record: Any = durable.from_json(durable.to_json(asdict(found)), "machine")
    assert machine.Machine(**record) == found


def test_the_probe_changes_neither_threads_nor_random_state() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert machine.probe("cpu", threads=threads + 1).threads == threads + 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("rate", "worth"), [(0.1, False), (1.4, False), (1.5, True), (4.0, True)])
def test_bf16_is_worth_using_from_half_as_fast_again(monkeypatch: pytest.MonkeyPatch, rate: float, worth: bool) -> None:
    rates = {torch.float32: 100.0, torch.bfloat16: 100.0 * rate}
    monkeypatch.setattr(machine, "_matrix_gflops", lambda device, dtype: rates[dtype])
    assert machine.probe("cpu").bf16 is worth


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    for device in ("warp", "cuda:99", ""):
        with pytest.raises(UseError, match=r"--device .*cpu here"):
            machine.probe(device)


def test_the_best_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.choose_device(None) == machine.devices()[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert machine.devices() == ["cuda", "cuda:0", "cuda:1", "cpu"]
    assert machine.choose_device(None) == "cuda"
    assert machine.choose_device("cuda:1") == "cuda:1"


def test_no_threads_are_refused() -> None:
    with pytest.raises(UseError, match="--threads 0"):
        machine.probe("cpu", threads=0)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": ["max 100000"]}, 8),
        ({"cpu.max": ["150000 100000", "400000 100000"]}, 2),
        ({"cpu/cpu.cfs_quota_us": ["-1"], "cpu/cpu.cfs_period_us": ["100000"]}, 8),
        ({"cpu/cpu.cfs_quota_us": ["300000"], "cpu/cpu.cfs_period_us": ["100000"]}, 3),
        ({}, 8),
    ],
)
def test_a_container_limits_the_cores(monkeypatch: pytest.MonkeyPatch, files: dict[str, list[str]], cores: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_group_files", lambda name: files.get(name, []))
    assert machine._cores() == cores


def test_a_container_limits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"memory.max": ["max", "4096"]}
    monkeypatch.setattr(machine, "_group_files", lambda name: limits.get(name, []))
    assert machine._memory_bytes("cpu") == 4096


@pytest.mark.parametrize(("of_all", "left"), [(190.0, 4), (60.0, 4), (1.0, 3)])
def test_a_core_is_left_to_another_program_only_where_it_stalls_the_others(
    monkeypatch: pytest.MonkeyPatch, of_all: float, left: int
) -> None:
    monkeypatch.setattr(machine, "_small_steps", lambda number: {4: of_all, 3: 100.0}[number])
    assert machine.free_threads(4) == left


GROWN = """
import resource, torch
from fromnoise.machine import keep_memory
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
keep_memory()
for _ in range(20):
    torch.ones(4_000_000)
before = faults()
for _ in range(10):
    torch.ones(4_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_memory_that_is_kept_is_not_taken_from_the_system_again() -> None:
    """Ten times 16 MB are some 40,000 pages. A process of its own, as what is kept stays kept; 20 find their place."""
    said = subprocess.run([sys.executable, "-c", GROWN], capture_output=True, text=True, check=True)
    assert int(said.stdout) < 400
