"""What this machine can do: cores, memory, device, and the matrix rate it reaches, measured.

The rate is that of the two products a net spends its time on, a 3x3 convolution and a linear layer, forward, the
best of a few repeats: a limit to plan with and to compare a training step against, not a benchmark. Figures
move with the hour; trust ratios.
"""

import ctypes
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import conv2d, linear

from fromnoise.errors import UseError

SECONDS_PER_TURN = 0.06
SECONDS_PER_PRODUCT = 0.12  # four products; with their set-up the probe stays within a second
MAX_REPEATS = 20
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as malloc.h of glibc numbers them; -1 = never trim, 0 = no block of its own
BF16_GAIN = 1.5  # bf16 must be so many times as fast, to pay for its casts and its rounding


@dataclass(frozen=True)
class Machine:
    """What ``probe`` found. ``dataclasses.asdict`` and ``Machine(**...)`` carry it through JSON."""

    cores: int  # this process may use: affinity and container limits counted
    memory_bytes: int  # that a net and its batch must fit into: the GPU's own, else the main memory allowed
    device: str  # as torch names it: "cuda", "cuda:1", "mps", "cpu"
    device_name: str  # for people
    threads: int  # of the processor, the rates were measured with so many
    bf16: bool  # worth using: at least 1.5 times as fast as float32
    matrix_gflops_float32: float  # 1e9 multiplications and additions a second
    matrix_gflops_bf16: float
    torch_version: str


def probe(device: str | None = None, threads: int | None = None) -> Machine:
    """Look at the machine, in at most about a second; starting a GPU comes on top once per process.

    device: None takes the best there is: cuda, then mps, then cpu. threads: None takes ``free_threads``. Neither the
    thread count nor any random state is changed. Raises ``UseError``.
    """
    chosen = choose_device(device)
    cores = _cores()
    if threads is not None and threads < 1:
        raise UseError(f"--threads {threads} was asked for, but it takes at least one: leave it out to use {cores}.")
    used = threads or free_threads(cores)
    with _threads(used):
        float32 = _matrix_gflops(chosen, torch.float32)
        bf16 = _matrix_gflops(chosen, torch.bfloat16)
    return Machine(
        cores=cores,
        memory_bytes=_memory_bytes(chosen),
        device=chosen,
        device_name=_device_name(chosen),
        threads=used,
        bf16=bf16 >= BF16_GAIN * float32,
        matrix_gflops_float32=float32,
        matrix_gflops_bf16=bf16,
        torch_version=torch.__version__,
    )


def free_threads(cores: int) -> int:
    """All cores, or one fewer where another program keeps one busy.

    Threads wait for each other some thousands of times a training step; a core that is shared stalls all of them at
    every turn, and training slows not by half but many times over. So the choice is made by trying: the pace of small
    operations, the better of two turns each, as a thread's first one is slow; a quarter of a second in all. One fewer
    must be twice as fast: a core that is taken stalls by far more, and one that is but disturbed is worth having.
    """
    if cores == 1:
        return 1
    paces = [(_small_steps(cores), _small_steps(cores - 1)) for _ in range(2)]
    of_all, of_fewer = map(max, zip(*paces, strict=True))
    return cores if 2.0 * of_all >= of_fewer else cores - 1


def _small_steps(number: int) -> float:
    """Small operations a second with so many threads."""
    x, done, start = torch.ones(200_000), 0, time.perf_counter()
    with _threads(number), torch.inference_mode():
        while time.perf_counter() - start < SECONDS_PER_TURN:
            torch.nn.functional.silu(x)
            done += 1
    return done / (time.perf_counter() - start)


def devices() -> list[str]:
    """The devices this torch can use here, best first."""
    found = []
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_device(device: str | None) -> str:
    """``device`` if it exists, the best one if None. Raises ``UseError`` naming those that exist."""
    found = devices()
    if device is None:
        return found[0]
    if device not in found:
        raise UseError(f"--device {device} was asked for, but torch finds {', '.join(found)} here: choose one of them.")
    return device


def keep_memory() -> None:
    """Let this process keep the memory it frees for its next large tensors, instead of giving it back to the system.

    glibc gives large blocks back at once; taken anew, each page of theirs is cleared at its first use. A training step
    frees and takes the same blocks as the one before, and spent an eighth of its time on that. Other C libraries have
    no such call, and nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def has_bf16(device: str) -> bool:
    """Whether the device has instructions for bfloat16, by what it says of itself: nothing is measured."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _matrix_gflops(device: str, dtype: torch.dtype) -> float:
    products = (_convolution, _linear)
    return max(_rate(*product(device, dtype), device) for product in products)


Product = tuple[Callable[[], object], int]  # the call, and its multiplications and additions


@torch.inference_mode()
def _convolution(device: str, dtype: torch.dtype) -> Product:
    """3x3 on channels-last images; a GPU needs larger ones to be busy."""
    n, c, size = (64, 64, 14) if device == "cpu" else (64, 256, 28)
    x = _noise((n, c, size, size), device, dtype).to(memory_format=torch.channels_last)
    weight = _noise((c, c, 3, 3), device, dtype).to(memory_format=torch.channels_last)
    return lambda: conv2d(x, weight, padding=1), 2 * n * size * size * c * c * 9


@torch.inference_mode()
def _linear(device: str, dtype: torch.dtype) -> Product:
    """The products of attention and of 1x1 layers: many rows, few columns."""
    rows, width = (12_544, 128) if device == "cpu" else (50_176, 1024)
    x, weight = _noise((rows, width), device, dtype), _noise((width, width), device, dtype)
    return lambda: linear(x, weight), 2 * rows * width * width


def _noise(shape: tuple[int, ...], device: str, dtype: torch.dtype) -> torch.Tensor:
    # Zeros would flatter a GPU, which saves power on them and clocks higher.
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(shape, generator=generator, device=device).to(dtype)


@torch.inference_mode()
def _rate(call: Callable[[], object], operations: int, device: str) -> float:
    """1e9 operations a second, the best of a few repeats after one that sets up."""
    call()
    _wait(device)
    start = time.perf_counter()
    best = math.inf
    for _ in range(MAX_REPEATS):
        before = time.perf_counter()
        call()
        _wait(device)
        now = time.perf_counter()
        best = min(best, now - before)
        if now - start > SECONDS_PER_PRODUCT:
            break
    return operations / best / 1e9


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _cores() -> int:
    """Cores this process may keep busy. A container's share of 1.5 counts as 2."""
    if sys.platform == "linux":
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return min([allowed, *(math.ceil(share) for share in _core_shares())])


def _core_shares() -> Iterator[float]:
    """The shares of processor time that control groups grant, in cores."""
    quotas = [words.split() for words in _group_files("cpu.max")]
    old = _group_files("cpu/cpu.cfs_quota_us") + _group_files("cpu/cpu.cfs_period_us")
    for quota, period in [*quotas, *([old] if len(old) == 2 else [])]:
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)


def _memory_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = _group_files("memory.max") + _group_files("memory/memory.limit_in_bytes")
    return min([_main_memory(), *(int(limit) for limit in limits if limit != "max")])


def _group_files(name: str) -> list[str]:
    """The texts of a control group's file, from this process's own group up to the root; none outside Linux."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    root = Path("/sys/fs/cgroup")
    groups = [folder for folder in [root / own, *(root / own).parents] if folder.is_relative_to(root)]
    return [(folder / name).read_text().strip() for folder in groups if (folder / name).is_file()]


if sys.platform == "win32":
    import ctypes

    class _MemoryStatus(ctypes.Structure):
        # MEMORYSTATUSEX of the Windows API; only the second 64-bit field is read.
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 6),
        )

    def _main_memory() -> int:
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.total)

else:

    def _main_memory() -> int:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
