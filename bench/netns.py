"""Network namespaces whose links lose, delay, block and part as a test says: one for each process of a cluster.

Each namespace has a TUN device whose other end is held here, and a thread that carries packets between them: what the
kernel's `tc netem` does, where the kernel has none, and partitions of any shape besides. Packets are real, so TCP and QUIC
repeat by themselves what is lost. It needs root and ``/dev/net/tun``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

from bench.processes import BenchError

_SUBNET: Final = ipaddress.IPv4Network("10.213.77.0/24")
_ETC: Final = Path("/etc/netns")
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_PROTOCOL: Final = 9  # where in an IPv4 header the protocol stands, and what UDP is there
_UDP: Final = 17
_DESTINATION: Final = slice(16, 20)
_MTU: Final = 1_500


class Network:
    """Namespaces by name, and the weather between them, which may be changed at any time. A context manager.

    Attributes:
        delay: seconds that a packet takes one way. loss: the share of packets that never arrive. udp_blocked: whether none
            of UDP do. carried, dropped: packets so far.
    """

    def __init__(self, names: Sequence[str], seed: int = 1) -> None:
        """
        Raises:
            BenchError: this process may not make namespaces, or has no `ip`.
        """
        self.delay = self.loss = 0.0
        self.udp_blocked = False
        self.carried = self.dropped = 0
        self._random = Random(seed)
        self._names = list(names)
        self._blocked: set[tuple[str, str]] = set()
        self._devices: dict[str, int] = {}
        self._places = {str(_SUBNET[number]): name for number, name in enumerate(["", *names], 1)}
        self._by_bytes = {ipaddress.IPv4Address(at).packed: name for at, name in self._places.items()}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        try:
            for number, (address, name) in enumerate(self._places.items()):
                self._devices[name] = self._device(name, f"pcl{os.getpid() % 100_000}x{number}", address)
        except (OSError, BenchError) as error:
            self._remove()
            raise BenchError(f"network namespaces cannot be made (it takes root, iproute2 and /dev/net/tun): {error}") from None
        for name, device in self._devices.items():
            self._loop.add_reader(device, self._carry, name, device)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._remove()

    def address(self, name: str) -> str:
        """The IPv4 address of a namespace."""
        return next(address for address, one in self._places.items() if one == name)

    def prefix(self, name: str) -> list[str]:
        """What a command begins with to run there. This process itself is reached by all, and reaches all."""
        return ["ip", "netns", "exec", _namespace(name)]

    def nameserver(self, address: str) -> None:
        """Let commands that are started from now on ask this address for names."""
        for name in self._names:
            folder = _ETC / _namespace(name)  # `ip netns exec` lays what is in there over /etc
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:1 attempts:2\n", encoding="ascii")

    # The weather

    def block(self, sender: str, receiver: str) -> None:
        """Drop what one sends to another; the way back stays open."""
        self._blocked = self._blocked | {(sender, receiver)}

    def sever(self, one: str, other: str) -> None:
        """Part two, and nobody else."""
        self.block(one, other)
        self.block(other, one)

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Only those of one group reach each other; those in no group are a group."""
        group = {name: number for number, names in enumerate(groups, 1) for name in names}
        self._blocked = {
            (a, b) for a in self._names for b in self._names if group.get(a, 0) != group.get(b, 0)
        }

    def reach(self, one: str, other: str) -> bool:
        """Whether each of two hears the other."""
        return not {(one, other), (other, one)} & self._blocked

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self._blocked = set()

    # On the thread

    def _carry(self, sender: str, device: int) -> None:
        try:
            packet = os.read(device, _MTU + 100)
        except BlockingIOError:
            return
        receiver = self._by_bytes.get(packet[_DESTINATION])
        if receiver is None or packet[0] >> 4 != 4:  # IPv6 neighbours are asked for; nobody is there
            return
        if (
            (sender, receiver) in self._blocked
            or (self.udp_blocked and packet[_PROTOCOL] == _UDP)
            or self._random.random() < self.loss
        ):
            self.dropped += 1
            return
        self.carried += 1
        if self.delay:
            self._loop.call_later(self.delay, self._deliver, receiver, packet)
        else:
            self._deliver(receiver, packet)

    def _deliver(self, receiver: str, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # a full queue drops, as queues do
            os.write(self._devices[receiver], packet)

    # Making and removing

    def _device(self, name: str, interface: str, address: str) -> int:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", interface.encode(), _IFF_TUN | _IFF_NO_PI))
        inside: list[str] = []
        if name:
            _ip("netns", "add", _namespace(name))
            _ip("link", "set", interface, "netns", _namespace(name))
            inside = ["-n", _namespace(name)]
            _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "address", "add", f"{address}/{_SUBNET.prefixlen}", "dev", interface)
        _ip(*inside, "link", "set", interface, "up", "mtu", str(_MTU))
        return device

    def _remove(self) -> None:
        for device in self._devices.values():
            os.close(device)
        self._devices.clear()
        for name in self._names:
            with contextlib.suppress(BenchError, FileNotFoundError):
                _ip("netns", "delete", _namespace(name))
            shutil.rmtree(_ETC / _namespace(name), ignore_errors=True)


def _namespace(name: str) -> str:
    return f"portcullis-{os.getpid()}-{name}"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"ip {' '.join(words)}: {done.stderr.strip()}")
