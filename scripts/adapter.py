#!/usr/bin/env python
"""Look into adapter files, and exchange them with Hugging Face PEFT.

    python scripts/adapter.py show adapter.safetensors
    python scripts/adapter.py export adapter.safetensors peft_folder
    python scripts/adapter.py import peft_folder adapter.safetensors

An exported folder is loaded by `PeftModel.from_pretrained(net, peft_folder)`, `net` being the timm
network with its original weights.
"""

import argparse
import json
import sys
from pathlib import Path

from sora_det.adapt import export_peft, import_peft, read_adapter, read_header, write_adapter


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="show|export|import")
    show = commands.add_parser("show", help="print the header, without a line for every layer")
    show.add_argument("file", type=Path)
    show.add_argument("--layers", action="store_true", help="with the layers")
    export = commands.add_parser("export", help="adapter file to PEFT folder")
    export.add_argument("file", type=Path)
    export.add_argument("folder", type=Path)
    imported = commands.add_parser("import", help="PEFT folder to adapter file")
    imported.add_argument("folder", type=Path)
    imported.add_argument("file", type=Path)
    args = parser.parse_args()
    try:
        if args.command == "show":
            print(shown(args.file, layers=args.layers))
        elif args.command == "export":
            export_peft(read_adapter(args.file), args.folder)
        else:
            write_adapter(import_peft(args.folder), args.file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def shown(file: Path, *, layers: bool) -> str:
    header = read_header(file)
    if not layers:
        header["layers"] = len(header["layers"])
    return json.dumps(header, indent=2)


if __name__ == "__main__":
    main()
