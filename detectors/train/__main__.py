"""Make and measure the shipped models.

    python -m detectors.train folds      train on half of the sources, score the other half; both ways
    python -m detectors.train fit        train on all sources and export to ONNX
    python -m detectors.train exemplars  write the exemplar packs
    python -m detectors.train index      write the index over them
    python -m detectors.train calibrate  turn the folds' scores into probabilities and thresholds
    python -m detectors.train replies    fit what judges an assistant's words, on the encoder that ships
    python -m detectors.train results    fit what is added to what the encoder says of tools' results and documents
    python -m detectors.train scales     set where the scales of users' texts and tools' definitions lie
    python -m detectors.train evaluate   print the folds' figures; --card writes them into the model card
    python -m detectors.train all        the above in order: some hours of two cores, minutes on a GPU

What a step needs from an earlier one lies in --work; a training that was stopped goes on where it was, and a fold that
was scored is not trained again. `fit --start shipped` goes on from the encoder that ships instead of the base model,
`--start FILE.pt` from a training in stages. With `--front` that encoder stays, and the front stage alone is fitted anew; with
`--written` the encoder is trained further, on what was written for it and a few windows beside that, and the front stage is
fitted anew; with `--words` nothing is trained: the encoder gets tokens for the words that the lexicon of other languages has
gained. `index`, `replies`, `results` and `scales` want to be run after each, since what they write is of one encoder and one
front stage; what `calibrate` writes is of those of the folds, and stays nearly right for others while they say nearly the same.
So a front stage that is fitted without `calibrate` is brought to the scale of the one before it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import torch

from detectors.semantic.encoder import Encoder as ServedEncoder
from detectors.semantic.fast import FastModel
from detectors.semantic.judge import MODELS, SemanticModel
from detectors.train import (
    calibrate,
    card,
    dataset,
    evaluate,
    exemplars,
    export,
    folds,
    reference,
    replies,
    results,
    scales,
    shipped,
    tune,
    written,
)
from detectors.train.base import BaseModelError
from detectors.train.model import Encoder
from detectors.train.vocabulary import tokenizer_json
from detectors.values import Origin

SEED: Final = 2026
TRAINED: Final = "trained.pt"


def folds_command(options: argparse.Namespace) -> None:
    """Score every source by a model that never saw it."""
    shared = dataset.load_shared(options.data)
    for name in folds.FOLDS:
        if not (options.work / f"fold_{name}.npz").exists():
            print(f"fold {name}", flush=True)
            folds.run(name, shared, options.work, options.minutes / 2, options.scale / 2, options.seed,
                      members=options.members)


def fit_command(options: argparse.Namespace) -> None:
    """Train what is shipped."""
    start = _start(options.start, options.models)
    if options.words:
        assert start is not None  # `main` has seen to it
        _export(start, options)
        return
    shared = dataset.load_shared(options.data)
    learnt = tune.examples(shared, options.seed, None)
    if not options.front:
        options.models.mkdir(parents=True, exist_ok=True)
        trained = options.work / TRAINED
        if not options.written:
            if not trained.exists():
                encoder = folds.train(
                    shared, options.work / "final.checkpoint", options.minutes, options.scale, options.seed, None, start,
                    options.members,
                )  # fmt: skip
                torch.save(encoder.state_dict(), trained)
            start = _start(str(trained), options.models)
        assert start is not None
        start = tune.further(start, learnt, options.work / "final.tune.checkpoint", options.minutes, options.seed)
        _export(start, options)
    assert start is not None
    path = options.models / "fast.npz"
    served = ServedEncoder(options.models / "encoder.onnx", options.models / "tokenizer.json")
    front = tune.front(start, served, learnt.front, options.seed)
    if options.front or options.written:
        front = tune.scaled(front, FastModel.load(path), learnt.front)
    front.save(path)
    (options.work / TRAINED).unlink(missing_ok=True)


def _export(encoder: Encoder, options: argparse.Namespace) -> None:
    torch.save(encoder.state_dict(), options.work / "final.pt")
    export.export(encoder, options.work / "encoder.onnx")
    (options.models / "encoder.onnx").write_bytes((options.work / "encoder.onnx").read_bytes())
    (options.models / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    reference.write(options.work / "encoder.fp32.onnx", options.models)
    path = options.models / "calibration.json"
    if path.exists():
        calibrate.save(_named(orjson.loads(path.read_bytes()), options.models), path)


def _named(calibration: dict[str, Any], models: Path) -> dict[str, Any]:
    """The calibration with the name of the encoder that it is for, where there is one yet."""
    encoder = models / "encoder.onnx"
    if not encoder.exists():
        return calibration
    return calibration | {"encoder": ServedEncoder(encoder, models / "tokenizer.json").digest}


def exemplars_command(options: argparse.Namespace) -> None:
    """Write the packs."""
    exemplars.write_packs(ServedEncoder(options.models / "encoder.onnx", options.models / "tokenizer.json"))


def index_command(options: argparse.Namespace) -> None:
    """Write the index over the packs."""
    served = ServedEncoder(options.models / "encoder.onnx", options.models / "tokenizer.json")
    exemplars.index(served).save(options.models / "index.npz")


def calibrate_command(options: argparse.Namespace) -> None:
    """Fit the calibration on the folds' scores."""
    made = calibrate.calibrate(_scored(options.work))
    calibrate.save(_named(made, options.models), options.models / "calibration.json")
    print(orjson.dumps(made, option=orjson.OPT_INDENT_2).decode())


def replies_command(options: argparse.Namespace) -> None:
    """Fit the assistant's part of the calibration anew."""
    path = options.models / "calibration.json"
    made = orjson.loads(path.read_bytes())
    found = replies.fit(SemanticModel.load(options.models), replies.replies(options.data, options.seed))
    for part, value in found.made.items():
        made.setdefault(part, {})[Origin.ASSISTANT.value] = value
    calibrate.save(made, path)
    print(orjson.dumps(found.figures, option=orjson.OPT_INDENT_2).decode())


def results_command(options: argparse.Namespace) -> None:
    """Fit what is added for tools' results and documents anew."""
    path = options.models / "calibration.json"
    made = orjson.loads(path.read_bytes())
    found = results.fit(SemanticModel.load(options.models), results.pieces(options.data, options.seed))
    made.setdefault("directions", {}).update({origin.value: found.direction for origin in results.ORIGINS})
    calibrate.save(made, path)
    print(orjson.dumps(found.figures, option=orjson.OPT_INDENT_2).decode())


def scales_command(options: argparse.Namespace) -> None:
    """Set where scales lie and what is settled on them; print what becomes of the kept written texts."""
    path, texts = options.models / "calibration.json", list(written.texts())
    made = orjson.loads(path.read_bytes())
    model = SemanticModel.load(options.models)
    for origin, moved in scales.SCALED.items():
        direction = scales.fit(model, texts, origin)
        made["sure"][origin.value] = scales.sure(model, texts, origin)
        if origin is Origin.TOOL_DEFINITION:
            made["fast"][origin.value] = scales.front(model, texts, origin)
        made.setdefault("directions", {}).update({each.value: direction for each in moved})
    calibrate.save(made, path)
    print(orjson.dumps(scales.figures(SemanticModel.load(options.models), texts), option=orjson.OPT_INDENT_2).decode())


def evaluate_command(options: argparse.Namespace) -> None:
    """Print the figures; into the model card where asked."""
    made = orjson.loads((options.models / "calibration.json").read_bytes())
    found = evaluate.figures(calibrate.merged(_scored(options.work)), made)
    (options.work / "figures.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    print(evaluate.markdown(found))
    if options.card:
        card.write(found, options.models / "MODEL_CARD.md")


def _scored(work: Path) -> list[folds.Scored]:
    paths = [path for path in (work / f"fold_{name}.npz" for name in folds.FOLDS) if path.exists()]
    if not paths:
        raise FileNotFoundError(f"{work}: no fold was scored there; run `python -m detectors.train folds` first")
    return [folds.Scored.load(path) for path in paths]


def _start(wanted: str, models: Path) -> Encoder | None:
    if wanted == "base":
        return None
    if wanted == "shipped":
        return shipped.load(models / "encoder.onnx")
    encoder = Encoder()
    encoder.load_state_dict(torch.load(wanted, weights_only=True))
    return encoder


COMMANDS: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "folds": folds_command, "fit": fit_command, "exemplars": exemplars_command, "index": index_command,
    "calibrate": calibrate_command,
    "replies": replies_command, "results": results_command, "scales": scales_command, "evaluate": evaluate_command,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command, or all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m detectors.train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*COMMANDS, "all"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of labelled *.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("var/train"), help="folder for what lies between steps")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the shipped models")
    parser.add_argument("--minutes", type=float, default=24.0, help="longest time of one training; of a fold's half of it")
    parser.add_argument("--scale", type=float, default=0.7, help="size of the training set; folds get half")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of all draws; another one for each stage of a training")
    parser.add_argument("--start", default="base", help="where `fit` begins: base, shipped, or a FILE.pt of an earlier stage")
    parser.add_argument("--front", action="store_true", help="`fit` leaves the encoder of --start as it is")
    parser.add_argument("--words", action="store_true", help="`fit` gives the encoder of --start the lexicon's words, no more")
    parser.add_argument("--written", action="store_true", help="`fit` trains --start further, and the front stage anew")
    parser.add_argument("--members", type=int, default=1,
                        help="encoders to train and learn from; 4 on a GPU, 1 on a processor")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use")
    parser.add_argument("--card", action="store_true", help="write the figures into the model card")
    options = parser.parse_args(arguments)
    if options.words + options.front + options.written > 1:
        parser.error("--front, --words and --written exclude each other")
    if (options.front or options.words or options.written) and options.start == "base":
        parser.error("--front, --words and --written want a trained encoder: name one with --start")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        for name, command in COMMANDS.items():
            if options.command in (name, "all"):
                command(options)
    except (FileNotFoundError, BaseModelError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
