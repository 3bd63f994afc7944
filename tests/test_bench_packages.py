"""What ``bench packages`` takes out of a wheel, and who is taken to say it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from bench import packages
from bench.packages import EACH, LONGEST, SHORTEST
from detectors.values import Origin

TOOLS = '''
@server.tool(name="rain")
async def rain(place: str) -> str:
    """Tells how much rain falls at a place, in millimetres, for each of the next three days."""

def helper():
    """Tells nobody but those who read the source what it is good for, at some length."""

snow = Tool(name="snow", description=f"Tells how much snow lies at {HERE}, in centimetres, this morning.")
menu = Menu(description="Lists what is on the menu of the canteen today, with allergens and prices.")

class HailTool(BaseTool):
    name: str = "hail"
    description: str = "Tells whether hail is expected at a place within the next hour, or not."

SUMMARY_PROMPT = (
    "Summarise the reports below in at most five lines. Name the places that had more than ten millimetres of rain, "
    "the warmest one first."
)
PROMPT_SHORT = "Too short."
'''
README = "A package about the weather. " * 20


def wheel(folder: Path, files: dict[str, str], name: str = "weather") -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def test_each_sort_is_taken_as_who_says_it(tmp_path: Path) -> None:
    found = packages.texts([wheel(tmp_path, {
        "weather/tools.py": TOOLS, "weather/old.py": "print 'for Python 2'", "weather/prompts/answer.md": "Answer kindly. " * 20,
        "weather/notes.md": "Nothing for a model. " * 20, "weather-1.0.dist-info/METADATA": f"Name: weather\n\n{README}",
    })])  # fmt: skip
    assert {(one.origin, one.text.split(".")[0]) for one in found} == {
        (Origin.TOOL_DEFINITION, "Tells how much rain falls at a place, in millimetres, for each of the next three days"),
        (Origin.TOOL_DEFINITION, "Tells how much snow lies at {HERE}, in centimetres, this morning"),
        (Origin.TOOL_DEFINITION, "Tells whether hail is expected at a place within the next hour, or not"),
        (Origin.SYSTEM, "Summarise the reports below in at most five lines"), (Origin.SYSTEM, "Answer kindly"),
        (Origin.DOCUMENT, "A package about the weather"), (Origin.TOOL_RESULT, TOOLS.strip().split(".")[0]),
    }  # fmt: skip
    assert {one.package for one in found} == {"weather"}


def test_a_package_gives_so_many_of_a_sort_and_none_twice(tmp_path: Path) -> None:
    said = [
        f'@tool\ndef t{n}():\n    """Tells the number {n} to whoever asks for it, and nothing else."""\n' for n in range(99)
    ]
    long = f'PROMPT = "{"Go on. " * LONGEST}"\n'
    wheels = [wheel(tmp_path, {"a.py": "".join(said) + long}, "first"), wheel(tmp_path, {"a.py": said[0]}, "second")]
    found = packages.texts(wheels)
    assert sum(one.origin is Origin.TOOL_DEFINITION for one in found if one.package == "first") == EACH
    assert max(len(one.text) for one in found) == LONGEST
    assert all(len(one.text) >= SHORTEST[one.origin] for one in found)
    assert len({(one.origin, one.text) for one in found}) == len(found)
    assert packages.texts(wheels) == found


def test_a_folder_without_wheels_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.__main__ import main

    monkeypatch.setattr("sys.argv", ["bench", "packages", "--wheels", str(tmp_path)])
    assert main() == 2
    assert "no wheel there" in capsys.readouterr().err
