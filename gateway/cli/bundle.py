"""``portcullis bundle``: one signed archive to install from where there is no network, and to check it there."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway import airgap
from gateway.cli.common import add_command, add_json, new_file, write_json
from gateway.cli.faults import Failed

EXAMPLE = "portcullis bundle make --wheels dist/ --key signing.pem portcullis.bundle.tar"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = add_command(
        actions, "make", "gather wheels, packs and the configuration's example into one archive",
        "portcullis bundle make --wheels dist/ --packs my-packs/ --key signing.pem portcullis.bundle.tar",
    )
    make.add_argument("archive", type=Path, help="the archive to write")
    make.add_argument(
        "--wheels", type=Path, required=True, metavar="FOLDER",
        help="wheels of Portcullis (with its model and packs inside) and of all it needs: `pip wheel -r requirements.lock .`",
    )  # fmt: skip
    make.add_argument("--packs", type=Path, nargs="*", default=[], metavar="PACK", help="more packs, files or folders")
    make.add_argument("--key", type=Path, required=True, help="Ed25519 private key (PEM) that signs it")
    open_ = add_command(
        actions, "open", "check an archive and unpack it; nothing of it is kept if anything is wrong",
        "portcullis bundle open portcullis.bundle.tar ./bundle --public-key signing.pem.pub",
    )
    open_.add_argument("archive", type=Path)
    open_.add_argument("folder", type=Path, help="where to unpack; must not exist yet")
    open_.add_argument("--public-key", type=Path, required=True, help="Ed25519 public key (PEM) of whoever made it")
    key = add_command(actions, "key", "make a pair of keys for signing", "portcullis bundle key signing.pem")
    key.add_argument("private", type=new_file, help="the private key's file; the public one's name ends in .pub")
    for one in (make, open_, key):
        add_json(one)


def run(arguments: argparse.Namespace) -> int:
    try:
        if arguments.action == "key":
            return _say(arguments, {"private": str(arguments.private), "public": str(airgap.new_key(arguments.private))})
        if arguments.action == "make":
            files = airgap.make(arguments.archive, arguments.wheels, arguments.packs, arguments.key)
            size = arguments.archive.stat().st_size
            return _say(arguments, {"archive": str(arguments.archive), "files": len(files), "bytes": size})
        files = airgap.unpack(arguments.archive, arguments.folder, arguments.public_key)
        install = airgap.install_command(arguments.folder)
        return _say(arguments, {"folder": str(arguments.folder), "files": len(files), "install": install})
    except airgap.BundleError as error:
        raise Failed(str(error)) from None


def _say(arguments: argparse.Namespace, done: dict[str, object]) -> int:
    if arguments.json:
        write_json(done)
    else:
        for name, value in done.items():
            print(f"{name}: {value}")
    return 0
