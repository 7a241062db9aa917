"""The house of the design: floors that import only downwards, and a user's wing without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import silverpoint

PACKAGE = Path(silverpoint.__file__).parent
# A room may import from itself and from rooms of a lower floor.
FLOORS = {
    "cli": 6,
    "training": 5,
    "methods": 4,
    "losses": 3,
    "metrics": 3,
    "recognition": 2,  # metrics ask it who is drawn
    "nets": 1,
    "data": 2,
    "synthesis": 2,
    "web": 3,
    "faces": 1,
    "assets": 0,
    "image": 0,
    "scores": -1,
    "files": -1,
    "errors": -1,
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem in FLOORS)
USERS_WING = ("faces", "synthesis", "web", "image")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "silverpoint" or len(parts) == 1 or parts[1] not in FLOORS or parts[1] == room(path):
            continue
        assert FLOORS[parts[1]] < FLOORS[room(path)], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in USERS_WING], ids=lambda p: p.name)
def test_the_users_wing_does_not_know_torch(path):
    assert not [n for n in imports(path) if n.split(".")[0] in ("torch", "lightning_fabric")]


def test_a_sketch_is_drawn_without_torch(tmp_path):
    """In a process where importing torch fails, as on a machine that has none."""
    if not list((PACKAGE / "synthesis" / "models").glob("*.onnx")):
        pytest.skip("no built-in model yet")
    portrait = Path(__file__).parents[1] / "examples" / "portrait.jpg"
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from silverpoint.cli.main import main\n"
        f"sys.exit(main(['sketch', {str(portrait)!r}, '-o', {str(tmp_path / 'out.png')!r}]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "out.png").is_file()
