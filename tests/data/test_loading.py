import http.server
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from guardlib.data import loading
from guardlib.data.loading import check_mirror, read_dataset
from guardlib.data.records import SourceError
from guardlib.evaluation.suites.supplied import SUPPLIED, supplied_status

from .mirrors import add_dataset, github_rows

WHY_NO_HUB = loading.why_no_hub  # before the fixture that keeps tests offline replaces it


def test_a_mirror_must_be_one(tmp_path):
    assert check_mirror(None) is None
    assert check_mirror("") is None
    with pytest.raises(SourceError, match="is not a folder; set GUARDLIB_DATA"):
        check_mirror(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"not a mirror; set GUARDLIB_DATA.*HF_TOKEN.*built-in corpus"):
        check_mirror(tmp_path)
    add_dataset(tmp_path, "github/x", {"train": github_rows(("a", 0, "benign", ""))})
    assert check_mirror(str(tmp_path)) == tmp_path


def test_a_mirror_may_hold_only_what_a_benchmark_asks_for(tmp_path):
    """Whatever file a benchmark asks for, the folder it is put into is a mirror."""
    (tmp_path / "empty").mkdir()
    why_not = {row["name"]: row["why_not"] for row in supplied_status(tmp_path / "empty")}
    assert set(why_not) == set(SUPPLIED)
    for name, why in why_not.items():
        asked = Path(re.search(r"put it into (\S+\.yaml)", why)[1]).relative_to(tmp_path / "empty")
        (tmp_path / name / asked).parent.mkdir(parents=True)
        (tmp_path / name / asked).write_text("- {text: hello, label: 0}\n")
        assert check_mirror(tmp_path / name) == tmp_path / name


def test_reading_a_mirror_keeps_values_as_they_are_and_writes_nothing_into_it(tmp_path):
    add_dataset(tmp_path, "github/x", {"train": github_rows(("a", 0, "benign", ""), (" ", 1, "jailbreak", "s"))})
    before = sorted(tmp_path.rglob("*"))
    raw = read_dataset("github/x", None, tmp_path, on_hub=False)
    assert raw.origin == "mirror"
    assert raw.splits["train"]["text"].tolist() == ["a", " "]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_changed_mirror_is_read_anew(tmp_path):
    for text in ("first", "second"):
        add_dataset(tmp_path, "github/x", {"train": github_rows((text, 0, "benign", ""))})
        assert read_dataset("github/x", None, tmp_path, on_hub=False).splits["train"]["text"].tolist() == [text]


def test_what_cannot_be_had_is_one_line(tmp_path):
    with pytest.raises(SourceError, match="no mirror given, and it is not on the Hub; give a mirror"):
        read_dataset("github/x", None, None, on_hub=False)
    with pytest.raises(SourceError, match="no mirror given, and offline: the tests stay offline"):
        read_dataset("deepset/prompt-injections", None, None, on_hub=True)


def test_the_offline_switch_of_the_hub_is_obeyed(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    WHY_NO_HUB.cache_clear()
    assert WHY_NO_HUB() == "HF_HUB_OFFLINE is set"
    WHY_NO_HUB.cache_clear()


def test_a_hub_that_never_answers_costs_seconds_not_minutes(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(loading, "PROBE_SECONDS", 0.3)
        WHY_NO_HUB.cache_clear()
        start = time.perf_counter()
        assert "127.0.0.1" in WHY_NO_HUB()
        assert time.perf_counter() - start < 2
        WHY_NO_HUB()
        assert WHY_NO_HUB.cache_info().hits == 1, "asked once per run"
    WHY_NO_HUB.cache_clear()
    assert threading.active_count() < 50


def test_a_mirror_of_the_hub_without_a_front_page_answers(monkeypatch):
    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        WHY_NO_HUB.cache_clear()
        assert WHY_NO_HUB() is None
    WHY_NO_HUB.cache_clear()


GATED = "Dataset 'a/b' is a gated dataset on the Hub."


@pytest.mark.parametrize(
    ("said", "token", "way"),
    [
        (f"{GATED} You must be authenticated to access it.", None, "no token: accept its licence at .*/a/b and set"),
        (f"403 Client Error. {GATED} Visit its page to ask for access.", "hf_x", "licence not accepted: accept it at"),
        ("401 Client Error: Unauthorized. Invalid credentials.", "hf_x", "HF_TOKEN is not valid"),
        ("the connection was reset", "hf_x", "allow the network"),
    ],
)
def test_a_refusal_says_what_is_missing(monkeypatch, said, token, way):
    def refuse(*args, **kwargs):
        raise OSError(said)

    monkeypatch.setattr("guardlib.data.loading.why_no_hub", lambda: None)
    monkeypatch.setattr("guardlib.data.loading._load", refuse)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SourceError, match=way) as error:
        read_dataset("a/b", None, None, on_hub=True, revision="0" * 40)
    assert "offline" not in str(error.value)


def test_without_a_network_it_says_offline(monkeypatch):
    monkeypatch.setattr("guardlib.data.loading.why_no_hub", lambda: "nobody answers")
    with pytest.raises(SourceError, match="a/b: no mirror given, and offline: nobody answers"):
        read_dataset("a/b", None, None, on_hub=True)
