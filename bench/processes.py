"""The processes of a benchmark: started on free loopback ports, pinned to a core, watched, and ended whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

START_SECONDS: Final = 90.0
"""How long a server may take until it answers; the slowest of the rivals imports for half a minute."""

END_SECONDS: Final = 5.0
"""How long a process may take to end before it is killed."""

AUTOGROUP_NICE: Final = -15
"""What the measured processes ask of a scheduler that weighs sessions against each other: neighbours disturb less."""

ROOT: Final = Path(__file__).resolve().parent.parent

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """Something that the benchmark needs is not on this machine, or does not start. The message is for people."""


class Memory(NamedTuple):
    """Memory of a process tree, in megabytes (10^6 bytes)."""

    largest_rss: float
    """Resident memory of its largest process: a worker, shared libraries included."""
    pss: float
    """Of all of it, shared pages divided among those who share them."""


class Child:
    """A process that the harness started, with all that it started in turn."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.name = name
        self.port = port
        self._process = process
        self._log = log

    def tree(self) -> list[int]:
        """The ids of the process and its descendants."""
        found, queue = [], [self._process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in _read_dir(f"/proc/{pid}/task"):
                queue += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
        return found

    def cpu_ns(self) -> int:
        """Nanoseconds on a CPU so far, kernel work included, of all living threads of the tree."""
        return sum(
            int((_read(f"/proc/{pid}/task/{task}/schedstat") or "0").split()[0])
            for pid in self.tree()
            for task in _read_dir(f"/proc/{pid}/task")
        )

    def memory(self) -> Memory:
        rss, pss = [], []
        for pid in self.tree():
            rollup = dict(line.split(":", 1) for line in _read(f"/proc/{pid}/smaps_rollup").splitlines() if ":" in line)
            if "Rss" in rollup:
                rss.append(_kilobytes(rollup["Rss"]))
                pss.append(_kilobytes(rollup["Pss"]))
        return Memory(max(rss, default=0) / 1000, sum(pss) / 1000)

    def alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        return self._process.wait(60)

    def yield_to_others(self, yields: bool) -> None:
        """Let it take its turn as any process does, or again as `before_exec` asked, where the scheduler takes such wishes."""
        wish = 0 if yields else AUTOGROUP_NICE
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/autogroup").write_text(str(wish), encoding="ascii")

    def said(self) -> str:
        """All that it printed."""
        return self._log.read_text(errors="replace")

    def last_words(self) -> str:
        """The end of what it printed."""
        lines = [line for line in self.said().splitlines() if line.strip()]
        return " / ".join(lines[-3:])[-400:]

    def end(self) -> None:
        for number, patience in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            if number == signal.SIGTERM and not self._group_lives():
                break
        self._process.wait()

    def _group_lives(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Lab:
    """A temporary folder and the processes that run in it. Use it as a context manager: leaving it ends all of them."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core = cores[0]
        self.load_core = cores[1 % len(cores)]
        self.folder = Path(tempfile.mkdtemp(prefix="portcullis-bench-"))
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def compile(self, source: str) -> Path:
        """Compile a C file of this package; returns the program.

        Raises:
            BenchError: there is no C compiler, or it fails.
        """
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise BenchError("no C compiler (gcc or cc) is installed; the benchmark's upstream and clients are in C")
        program = self.folder / Path(source).stem
        done = subprocess.run(
            [compiler, "-O2", "-o", program, Path(__file__).parent / source], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"{source} does not compile: {done.stderr.strip()[:400]}")
        return program

    def start(
        self, name: str, argv: Sequence[str | Path], core: int, port: int, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start a server that will listen on ``port``, pinned to ``core`` with all its threads and children.

        Python may keep its bytecode, whatever is usual here: what is installed has it, and a start is not to compile it.
        """
        log = self.folder / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                argv, cwd=ROOT, env={**inherited, **(environment or {})}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: before_exec(core),
            )  # fmt: skip
        child = Child(name, process, log, port)
        self._children.append(child)
        return child

    def discard(self, child: Child) -> None:
        """End a process before the others."""
        self._children.remove(child)
        child.end()

    def run(self, argv: Sequence[str | Path], seconds: float) -> tuple[str, float]:
        """Run a load to its end on the load's core; returns what it printed and the CPU seconds that it used.

        Raises:
            BenchError: it fails or hangs.
        """
        before = _children_cpu()
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=seconds, check=False, start_new_session=True,
                preexec_fn=lambda: before_exec(self.load_core),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BenchError(f"{Path(argv[0]).name} hangs") from None
        if done.returncode:
            raise BenchError(f"{Path(argv[0]).name} fails: {(done.stderr or done.stdout).strip()[-400:]}")
        return done.stdout, _children_cpu() - before


def free_port() -> int:
    """A loopback port that nobody listens on now, and that was not asked for before: it is let go until it is used."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


_given: Final[set[int]] = set()


def wait_until_it_answers(child: Child, path: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Wait until a chat completion through ``child`` comes back whole.

    Raises:
        BenchError: it ends, or does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    problem = "no answer"
    while time.monotonic() < deadline:
        if not child.alive():
            raise BenchError(f"does not start: {child.last_words()}")
        try:
            answer = json.loads(post(child.port, path, body, headers))
        except (OSError, ValueError) as error:
            problem = str(error)
            time.sleep(0.1)
            continue
        if isinstance(answer, dict) and answer.get("choices"):
            return
        raise BenchError(f"answers something else: {str(answer)[:200]}")
    raise BenchError(f"{problem}; {child.last_words()}")


def post(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """One request over loopback, past any configured proxy.

    Raises:
        OSError: it fails; an HTTP error carries the start of its body.
    """
    every = {"content-type": "application/json", "authorization": "Bearer sk-bench", **headers}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, every)
    return _open(request)


def get(port: int, path: str) -> bytes:
    """As `post`, without a body."""
    return _open(urllib.request.Request(f"http://127.0.0.1:{port}{path}"))


def _open(request: urllib.request.Request) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as reply:
            data: bytes = reply.read()
            return data
    except urllib.error.HTTPError as error:
        raise OSError(f"status {error.code}: {error.read(200).decode(errors='replace')}") from None


def find(command: str) -> str | None:
    """A command of the path, or else of this Python's environment."""
    return shutil.which(command) or shutil.which(command, path=str(Path(sys.executable).parent))


def busy_ticks(cores: Sequence[int]) -> int:
    """Clock ticks that these cores spent on processes, anybody's, since the machine started."""
    wanted = {f"cpu{core}" for core in cores}
    rows = (line.split() for line in _read("/proc/stat").splitlines())
    return sum(sum(map(int, row[1:4])) for row in rows if row and row[0] in wanted)


def before_exec(core: int | None = None) -> None:
    """Run in a child between fork and exec, in a session of its own: pin it, and ask for a scheduler's favour. Should the
    harness be killed, its children are told to end."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write(str(AUTOGROUP_NICE))
    except OSError:
        pass  # not permitted or not such a scheduler: it is measured as it is


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _kilobytes(field: str) -> int:
    return int(field.split()[0]) * 1024 // 1000


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""  # the process has ended


def _read_dir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
