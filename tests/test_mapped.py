"""Large compiled sets whose memory is a file of the cache. How memory is laid out is a process's own affair, so each case has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LARGE = """
import gc, sys
from pathlib import Path
from detectors import automata, mapped
from detectors.automata import Block, Expression, Flow, FlowAutomata

mapped.set_memory_apart()
folder = Path(sys.argv[1])
many = [Expression(f"e{n}", rf"crow{n}[a-z ]{{0,90}}flies", True) for n in range(400)]
data = b"crow7 flies, crow399 and the gull flies"

def placed():
    lines = [line.split() for line in open("/proc/self/maps") if "/hyperscan-" in line]
    return [line[-1].rpartition("/")[2] for line in lines]

def plain():
    (file,) = folder.glob("hyperscan-*.db")
    return file

def ends(block):
    return sorted(block.scan(data).found)
"""


def said(tmp_path: Path, program: str) -> str:
    argv = [sys.executable, "-c", LARGE + program, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    said(folder, "Block(many, folder)")
    return folder


def test_the_memory_of_a_large_set_is_its_file_and_goes_with_it(compiled: Path) -> None:
    program = """
alone = ends(Block(many))
block = Block(many, folder)
twin = block.twin()
print(ends(block) == ends(twin) == alone, len(alone), placed() == [plain().name])
del block
print(ends(twin) == alone, placed() == [plain().name])
del twin
gc.collect()
print(placed(), len(sorted(folder.glob("hyperscan-*"))))
"""
    assert said(compiled, program) == "True 2 True\nTrue True\n[] 2\n"


def test_a_file_that_is_gone_from_the_folder_still_holds_what_serves(compiled: Path) -> None:
    program = """
block = Block(many, folder)
plain().unlink()
print(len(ends(block)), len(placed()))
print(len(ends(Block(many, folder))), plain().exists())
"""
    assert said(compiled, program) == "2 1\n2 True\n"


def test_a_file_that_is_damaged_is_unpacked_again(compiled: Path) -> None:
    program = """
good = plain().read_bytes()
for bad in (b"", b"nonsense", good[:-200_000], good[:500_000] + b"x" + good[500_001:]):
    plain().write_bytes(bad)
    block = Block(many, folder)
    print(len(ends(block)), plain().read_bytes() == good, len(placed()))
    del block
"""
    assert said(compiled, program) == "2 True 1\n" * 4


def test_nothing_is_put_in_the_place_of_what_differs_from_it(compiled: Path) -> None:
    program = """
good = plain().read_bytes()
at = len(good) // 2
wrong = good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]
block = Block(many)
for bytes_there in (wrong, good[:-5_000], bytes(len(good)), good):
    file = folder / "hyperscan-other"
    file.unlink(missing_ok=True)
    file.write_bytes(bytes_there)
    with file.open("rb") as source:
        print(mapped.place(block._database, source.fileno(), good[mapped.BEFORE:]), len(placed()), len(ends(block)))
file.unlink()
print(mapped.place(block._database, sys.stdin.fileno(), good[:1000]))
"""
    assert said(compiled, program) == "False 0 2\n" * 3 + "True 1 2\nFalse\n"


def test_where_the_folder_cannot_be_written_to_it_is_unpacked_to_memory(compiled: Path, tmp_path: Path) -> None:
    program = """
import shutil
from patterns import cache
packed = next(Path(sys.argv[1]).glob("hyperscan-*.db.z"))
folder = Path(sys.argv[2])
folder.mkdir()
shutil.copy(packed, folder)
(folder / packed.with_suffix("").name).mkdir()  # stands where the file should
print(len(ends(Block(many, folder))), placed())
"""
    argv = [sys.executable, "-c", LARGE + program, str(compiled), str(tmp_path / "other")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "2 []\n"


def test_streams_are_followed_from_a_file_too(tmp_path: Path) -> None:
    program = """
many = [one._replace(body=one.body.replace("crow", bird)) for bird in ("crow", "gull", "rook") for one in many]
flow = FlowAutomata(many, folder).open()
print(len(placed()))
found = [one for at in range(len(data)) for one in flow.scan(data[at : at + 1])]
print(sorted(found + flow.close()) == ends(Block(many[:400], folder)))  # the crows, of which alone the text speaks
"""
    for _ in range(2):
        assert said(tmp_path, program) == "1\nTrue\n"


def test_what_a_store_lays_over_leaves_no_file_of_its_own(tmp_path: Path) -> None:
    program = """
from detectors.lexical import Lexical
from patterns.schema import Kind, Pattern, Severity

def pattern(number):
    return Pattern(id=f"own.p{number}", kind=Kind.REGEX, body=many[number].body, category="jailbreak.persona",
                   severity=Severity.HIGH, reach=120)

lexical = Lexical([pattern(0)], folder)
laid = lexical.overlaid([pattern(n) for n in range(1, 400)], ())
print(placed(), [file for file in folder.iterdir() if file.name.endswith(".db")], len(list(folder.glob("hyperscan-*.db.z"))))
"""
    assert said(tmp_path, program) == "[] [] 2\n"


def test_what_only_beginning_took_is_given_back_and_what_was_written_stays(tmp_path: Path) -> None:
    program = """
import ctypes, mmap
(folder / "constants").write_bytes(bytes(range(256)) * 256)
with (folder / "constants").open("rb") as source:
    read, written = (mmap.mmap(source.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) for _ in range(2))
at = [ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in (read, written)]
written[0] = 7
sums = [sum(one[:]) for one in (read, written)]
libc = ctypes.CDLL(None)
for one in at:  # as a linker does when it has filled constants in
    assert libc.mprotect(ctypes.c_void_p(one), ctypes.c_size_t(len(read)), mmap.PROT_READ) == 0

def resident():
    lines = open("/proc/self/smaps").read().splitlines()
    found = {}
    for line in lines:
        if "-" in line.split()[0] and line.endswith("/constants"):
            low = int(line.split("-")[0], 16)
        elif line.startswith("Rss:"):
            found[low] = int(line.split()[1])
        elif "-" in line.split()[0]:
            low = None
    return [found[one] for one in at]

print(resident())
mapped.let_go()
print(resident(), [sum(one[:]) for one in (read, written)] == sums, written[0], read[1])
print(resident()[0] > 0)
"""
    assert said(tmp_path, program) == "[64, 64]\n[0, 64] True 7 1\nTrue\n"
