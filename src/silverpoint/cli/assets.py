"""silverpoint assets: the third-party weights, and filling the cache with them."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from typing import Any

from silverpoint.assets import ASSETS, Asset, cache_dir, fetch, state
from silverpoint.errors import AssetError, UsageError

EXAMPLES = """\
examples:
  silverpoint assets                              what there is, under which terms, and what is here already
  silverpoint assets fetch vgg19 inception-fid    fill the cache ahead; prints where each file is
  silverpoint assets fetch --all
  silverpoint assets fetch --all --offline        only check that all is here

SILVERPOINT_CACHE says where the files are kept; SILVERPOINT_OFFLINE=1 forbids the network everywhere.
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "assets",
        help="third-party weights: list them, fetch them",
        description="List the third-party weights that silverpoint can use, or fetch them into the cache.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per asset, a line each")
    parser.set_defaults(run=run, names=None)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    fetching = actions.add_parser(
        "fetch",
        help="fetch assets by name, or all of them",
        description="Fetch third-party weights into the cache, check them, print where each is.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fetching.add_argument("names", nargs="*", metavar="NAME", help="one of: " + ", ".join(ASSETS))
    fetching.add_argument("--all", action="store_true", help="every asset that this installation can use")
    fetching.add_argument("--offline", action="store_true", help="never touch the network")
    # SUPPRESS: the parser above has set it already, and a default here would undo `assets --json fetch`
    fetching.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as above")
    fetching.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """0 all listed or fetched; 1 some could not be fetched: each is named on stderr, the others are there."""
    if args.names is None:
        return list_assets(as_json=args.json)
    if unknown := [name for name in args.names if name not in ASSETS]:
        raise UsageError(f"no asset is called {', '.join(unknown)}; there are: {', '.join(ASSETS)}")
    if args.all == bool(args.names):
        raise UsageError("say which assets to fetch, or --all (`silverpoint assets` lists them)")
    return fetch_assets(args.names or usable(), offline=args.offline or None, as_json=args.json)


def list_assets(as_json: bool) -> int:
    if as_json:
        for asset in ASSETS.values():
            print(json.dumps(describe(asset)))
        return 0
    print(f"{'name':<14}{'MB':>6}  {'state':<8} {'licence':<15} what for")
    for asset in ASSETS.values():
        megabytes = asset.size / 1e6
        size = f"{megabytes:.1f}" if megabytes > 0.1 else f"{megabytes:.2f}"
        print(f"{asset.name:<14}{size:>6}  {state(asset.name):<8} {asset.licence:<15} {asset.purpose}")
    print(f"\ncache: {cache_dir()}")
    return 0


def fetch_assets(names: list[str], offline: bool | None, as_json: bool) -> int:
    failed = 0
    for name in dict.fromkeys(names):
        try:
            path = fetch(name, offline=offline)
        except AssetError as error:
            failed += 1
            print(f"silverpoint: {error}", file=sys.stderr)
        else:
            print(json.dumps(describe(ASSETS[name])) if as_json else f"{name}: {path}", flush=True)
    return 1 if failed else 0


def usable() -> list[str]:
    """All names but those whose conversion needs a package that is not here and not ours; says which."""
    names = []
    for asset in ASSETS.values():
        if asset.needs and not find_spec(asset.needs) and state(asset.name) != "ready":
            print(
                f"{asset.name}: left out, it needs {asset.needs} (pip install {asset.needs})", file=sys.stderr
            )
        else:
            names.append(asset.name)
    return names


def describe(asset: Asset) -> dict[str, Any]:
    """The asset as one JSON object."""
    return {
        "name": asset.name,
        "purpose": asset.purpose,
        "licence": asset.licence,
        "terms": asset.terms or None,
        "size": asset.size,
        "sha256": asset.sha256,
        "state": state(asset.name),
        "path": str(cache_dir() / asset.filename),
        "package": f"{asset.archive.package}=={asset.archive.version}",
    }
