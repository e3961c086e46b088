"""Decoding in processes of their own: a file that kills or stalls its process is a refused file, and no more.

A worker is this module started anew. It and its owner exchange frames: two lengths, a JSON record, bytes. No frame is
ever unpickled: whoever takes over a decoder could answer anything. A few jobs are sent together, and answered one by
one: whichever answer does not come tells the file that failed.
"""

import atexit
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from fromnoise.images import decode
from fromnoise.images.decode import File, Target
from fromnoise.images.formats import BadFile
from fromnoise.images.kinds import Kind, Misfit
from fromnoise.images.raster import MOST_BYTES, Header, Raster

SECONDS = 20.0  # that one file may take
MEMORY = 3 * 2**30  # bytes of address space of one worker
COUNT = min(8, os.cpu_count() or 1)
TOGETHER, TOGETHER_BYTES = 16, 2**24  # files, and bytes of archived ones, that are waited for in one piece
STARTING = 120.0  # seconds that a worker may take until it is ready
MOST_TEXT = 2**24  # bytes of a record
_FRAME = struct.Struct("<IQ")
_START = (
    "import json, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = json.loads(sys.argv.pop(1))"
)

Answer = Header | Raster | int | None | BadFile


@dataclass(frozen=True)
class Job:
    """What is to be known of a file: its header, its pixels for a target, or its blocks as ``decode.read_block``."""

    file: File
    what: Literal["header", "pixels", "block"]
    target: Target | None = None


def answers(jobs: Iterable[Job | tuple[File, BadFile]]) -> Iterator[tuple[File, Answer]]:
    """The answer to each job, in order, a bounded number under way. A verdict in place of a job is passed on.

    Files come back without their bytes. Whoever stops listening, or is stopped, ends the work under way.
    """
    under_way: deque[Future[list[tuple[File, Answer]]]] = deque()
    pool, stop, threads = _pool(), threading.Event(), ThreadPoolExecutor(COUNT)
    try:
        for some in _pieces(jobs):
            under_way.append(threads.submit(pool.answer, some, stop))
            if len(under_way) > 2 * COUNT:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    except BaseException:
        stop.set()
        threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in under_way):
            pool.close()  # again, as a process may just have been starting
            time.sleep(0.02)
        raise
    finally:
        threads.shutdown(cancel_futures=True)


def _pieces(jobs: Iterable[Job | tuple[File, BadFile]]) -> Iterator[list[Job | tuple[File, BadFile]]]:
    """A few jobs together, fewer of large files."""
    some: list[Job | tuple[File, BadFile]] = []
    size = 0
    for job in jobs:
        some.append(job)
        size += len(job.file.data or b"") if isinstance(job, Job) else 0
        if len(some) == TOGETHER or size >= TOGETHER_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


class _Pool:
    """Workers waiting for files, started when first needed, and the clock that ends the ones that stall."""

    def __init__(self) -> None:
        self.workers = [_Worker() for _ in range(COUNT)]
        self.idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)
        threading.Thread(target=self._watch, daemon=True).start()
        atexit.register(self.close)

    def answer(self, jobs: list[Job | tuple[File, BadFile]], stop: threading.Event) -> list[tuple[File, Answer]]:
        """Of a few jobs by one worker. A file that fails it is tried once more: the failure may have been its own."""
        worker, found = self.idle.get(), list[Answer]()
        asked = [job for job in jobs if isinstance(job, Job)]
        try:
            while len(found) < len(asked) and not stop.is_set():
                rest = asked[len(found) :]
                got = worker.ask(rest)
                if isinstance(got[-1], Failed) and not stop.is_set():
                    got[-1:] = worker.ask([rest[len(got) - 1]])
                found += got
        finally:
            self.idle.put(worker)
        coming = iter(found)  # too few where it was stopped, and then nobody listens
        return [(replace(job.file, data=None), next(coming, None)) if isinstance(job, Job) else job for job in jobs]

    def _watch(self) -> None:
        while True:
            time.sleep(0.2)
            for worker in self.workers:
                worker.end_if_stalled()

    def close(self) -> None:
        """End all processes; they are started again when needed."""
        for worker in self.workers:
            worker.kill()


class Failed(BadFile):
    """A file whose worker died or stalled."""


class _Worker:
    """The owner's side of one process."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.deadline: float | None = None  # of the answer that is awaited
        self.stalled = False
        self.lock = threading.Lock()  # between an answer that comes and the clock that ends the process

    def ask(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers up to the first that is ``Failed``: none that makes sense came in time."""
        found = list[Answer]()
        try:
            process = self._started()
            self._wait_until(time.monotonic() + SECONDS)
            _send(process.stdin, {"jobs": len(jobs)}, b"")
            for job in jobs:
                _send(process.stdin, _record(job), job.file.data or b"")
            for job in jobs:
                self._wait_until(time.monotonic() + SECONDS)
                found.append(_understood(*_receive(process.stdout, _expected(job)), job))
            self._wait_until(None)
            return found
        except Exception:  # whatever a decoder that was taken over may have sent
            stalled = self.stalled
            self._end()
            why = f"decoding it did not end within {SECONDS:g} seconds" if stalled else "it crashes the decoder"
            return [*found, Failed(f"corrupt: {why}")]

    def _wait_until(self, deadline: float | None) -> None:
        with self.lock:
            self.deadline = deadline

    def end_if_stalled(self) -> None:
        """Called by the clock."""
        with self.lock:
            if self.process and self.deadline is not None and time.monotonic() > self.deadline:
                self.stalled = True
                self.process.kill()

    def kill(self) -> None:
        """From any thread: whoever waits for an answer sees the end of the stream."""
        if process := self.process:
            process.kill()

    def _end(self) -> None:
        self._wait_until(None)
        self.stalled = False
        process, self.process = self.process, None
        if process:
            process.kill()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            process.wait()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self.process and self.process.poll() is not None:
            self._end()
        if self.process is None:
            self._wait_until(time.monotonic() + STARTING)
            self.process = start_python("from fromnoise.images.workers import serve; serve()")
            _receive(self.process.stdout, 0)  # its greeting
        return self.process


def start_python(code: str, *words: str) -> "subprocess.Popen[bytes]":
    """A Python of its own, of one thread, that finds this package and runs ``code``; sys.argv[1:] are ``words``.

    Ctrl-C passes it by: that is for its owner.
    """
    here = str(Path(__file__).parents[2])
    paths = json.dumps([*(path for path in sys.path if path), here])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"{_START}; {code}", paths, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders written in C complain there; what matters becomes a verdict
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )


_one_pool: _Pool | None = None
_making = threading.Lock()


def _pool() -> _Pool:
    global _one_pool
    with _making:
        _one_pool = _one_pool or _Pool()
        return _one_pool


def _send(stream: Any, record: dict[str, Any], data: bytes | memoryview) -> None:
    text = json.dumps(record).encode()
    stream.write(_FRAME.pack(len(text), len(data)) + text)
    stream.write(data)
    stream.flush()


def _receive(stream: Any, most: int) -> tuple[dict[str, Any], bytes]:
    """A record and at most so many bytes. Raises EOFError at the end of the stream, ValueError for more."""
    text, data = _FRAME.unpack(_exactly(stream, _FRAME.size))
    if text > MOST_TEXT or data > most:
        raise ValueError("a frame larger than any answer")
    return json.loads(_exactly(stream, text)), _exactly(stream, data)


def _record(job: Job) -> dict[str, Any]:
    """What a worker is asked, beside the bytes of the file."""
    record = {"what": job.what, "name": job.file.name, "size": job.file.size, "path": job.file.path}
    return record | {"target": asdict(job.target) if job.target else None, "inside": job.file.data is not None}


def _expected(job: Job) -> int:
    """Bytes of the pixels that answer a job."""
    if job.target is None:
        return 0
    kind, (height, width) = job.target.kind, job.target.size
    return height * width * kind.channels * kind.dtype.itemsize


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _understood(record: dict[str, Any], data: bytes, job: Job) -> Answer:
    """The owner's reading of an answer. Raises KeyError, TypeError or ValueError for one that makes no sense."""
    if "refused" in record:
        return (Misfit if record["misfit"] else BadFile)(str(record["refused"]))
    if job.what == "block":
        return None if record["block"] is None else int(record["block"])
    if record["header"] is None:
        return None
    header = Header.from_json(record["header"])
    if job.target is None:
        return header
    kind, size = job.target.kind, job.target.size
    return Raster(header, np.frombuffer(data, kind.dtype).reshape(*size, kind.channels))


def serve() -> None:
    """The worker's side: answer until the owner is gone."""
    _bound_memory()
    out = _Pipe(os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not become an answer
    _send(out, {}, b"")
    with suppress(EOFError, BrokenPipeError):
        while True:
            count = _receive(sys.stdin.buffer, 0)[0]["jobs"]
            asked = [_receive(sys.stdin.buffer, MOST_BYTES + 1) for _ in range(count)]  # all before the first answer:
            for record, data in asked:  # so the two never wait for each other with both pipes full
                _send(out, *_performed(record, data))


class _Pipe:
    """The writing end of a pipe, unbuffered."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.number, rest) :]

    def flush(self) -> None: ...


def _performed(record: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes | memoryview]:
    file = File(record["name"], record["size"], record["path"], data if record["inside"] else None)
    try:
        if record["what"] == "block":
            return {"block": decode.read_block(file)}, b""
        if record["what"] == "header":
            header = decode.read_header(file)
            return {"header": header.to_json() if header else None}, b""
        raster = decode.read_pixels(file, _target(record["target"]))
        return {"header": raster.header.to_json()}, np.ascontiguousarray(raster.values).data.cast("B")
    except BadFile as bad:
        return {"refused": str(bad), "misfit": isinstance(bad, Misfit)}, b""
    except MemoryError:
        return {"refused": "too-large: decoding it takes too much memory", "misfit": False}, b""
    except Exception as error:  # no file may end the scan
        return {"refused": f"corrupt: it cannot be decoded ({type(error).__name__})", "misfit": False}, b""


def _target(record: dict[str, Any]) -> Target:
    flatten = tuple(record["flatten"]) if record["flatten"] else None
    known = {"kind": Kind(**record["kind"]), "size": tuple(record["size"]), "flatten": flatten}
    return Target(**(record | known))


def _bound_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # not every system can
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
