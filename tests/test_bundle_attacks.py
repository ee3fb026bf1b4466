"""Bundles of strangers: bombs, damage, edits and wrong addresses are refused in words, and reach nobody."""

import hashlib
import io
import json
import os
import socket
import sys
import zipfile
import zlib
from functools import cache

import numpy as np
import pytest
from test_bundle import OLD, export, policy_of, rewrite

import hybrid
from hybrid.errors import BundleError, HybridError
from hybrid.production import archive, binding, checking
from hybrid.production.bundle import load_bundle
from hybrid.production.signature import check_signature, sign
from hybrid.tiers.calibration import ConfidenceCalibrator


@pytest.fixture(scope="module")
def content(recording):
    return export(recording, policy_of(recording, "triage", threshold=0.5))


@pytest.fixture(scope="module")
def files(content):
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {n: opened.read(n) for n in opened.namelist()}


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    reached = []

    def refuse(*arguments, **more):
        reached.append(arguments)
        raise OSError("a bundle reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert reached == []


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, value in members:
            opened.writestr(name, value)
    return out.getvalue()


def compressed(bundle):
    with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
        return zipped([(n, opened.read(n)) for n in opened.namelist()])


def arrays(files, **changes):
    with np.load(io.BytesIO(files["classifier.npz"])) as stored:
        values = {**stored, **changes}
    out = io.BytesIO()
    np.savez_compressed(out, **{n: v for n, v in values.items() if v is not None})
    return out.getvalue()


def header(shape, dtype="<f8"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue()


@cache
def lying(name, size, method=zipfile.ZIP_DEFLATED):
    """Return a zip of one member of zeros, which says that it has ten bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as opened, opened.open(name, "w") as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    with zipfile.ZipFile(out) as opened:
        crc = opened.getinfo(name).CRC
    says = out.getvalue().replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little"))
    return says.replace(crc.to_bytes(4, "little"), zlib.crc32(bytes(10)).to_bytes(4, "little"))


def peak_mb(work):
    """Return how much more memory a call needs at its height, by the count of the kernel."""

    def high():
        with open("/proc/self/status") as status:
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024

    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = high()
    work()
    return high() - before


def test_bombs_are_refused_before_they_are_unpacked(content, files, monkeypatch):
    zeros = bytes(1 << 20)
    inner = io.BytesIO()
    deflated = zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with deflated as opened, opened.open("weights.npy", "w") as out:
        out.write(header((600 << 17,)))
        for _ in range(600):
            out.write(zeros)
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as opened:
        with opened.open("policy.json", "w") as out:
            for _ in range(80):
                out.write(zeros)
        for name in ("golden.json", "evidence.json", "manifest.json"):
            opened.writestr(name, files[name])
    bombs = {
        "classifier.npz unpacks to 600 MB, more than the 512 MB .* HYBRID_BUNDLE_MB": rewrite(
            content, {"classifier.npz": inner.getvalue()}
        ),
        "policy.json unpacks to 80 MB, more than 64 MB": outer.getvalue(),
        "its header and its length contradict": rewrite(
            content, {"classifier.npz": zipped([("weights.npy", header((10**6, 10**6)))])}
        ),
        "evidence.json holds more than 4,000,000 values": compressed(
            rewrite(content, {"evidence.json": b"[" + b"[]," * 4_000_001 + b"1]"})
        ),
        "manifest.json holds more than 4,000,000 values": compressed(
            rewrite(content, {"manifest.json": b"[" + b"[]," * 4_000_001 + b"1]"}, sums=False)
        ),
        "more than 200 files": zipped([(f"f{i}", b"") for i in range(5_000)]),
        r"damaged \(Bad CRC": lying("manifest.json", 100 << 20),
        "packed otherwise than a zip usually is": lying("manifest.json", 100 << 20, zipfile.ZIP_BZIP2),
        "classifier.npz is damaged .*packed otherwise": rewrite(
            content, {"classifier.npz": lying("weights.npy", 100 << 20, zipfile.ZIP_BZIP2)}
        ),
    }

    def all_of_them():
        for says, bomb in bombs.items():
            assert len(bomb) < 3 << 20
            with pytest.raises(BundleError, match=says):
                load_bundle(bomb)

    assert peak_mb(all_of_them) < 150
    monkeypatch.setenv(archive.SIZE_VARIABLE, "1")
    with pytest.raises(BundleError, match="more than the 1 MB"):
        load_bundle(rewrite(content, {"evidence.json": b" " * (2 << 20)}))
    monkeypatch.setenv(archive.SIZE_VARIABLE, "-3")
    with pytest.raises(BundleError, match="whole number of megabytes"):
        load_bundle(content)


def test_what_the_manifest_does_not_list_is_refused(content, files, tmp_path):
    extra = {"more.json": b"{}"}
    for says, broken in {
        r"holds more\.json, which its manifest does not list": rewrite(content, extra, sums=False),
        r"holds more\.json, which nothing in it uses": rewrite(content, extra),
        "not the name of one of its files": rewrite(content, {"../up.json": b"{}"}),
        "classifier.npz, which its manifest does not list": zipped(
            [
                *((n, c) for n, c in files.items() if n != "manifest.json"),
                ("manifest.json", drop(files, "classifier.npz")),
            ]
        ),
    }.items():
        with pytest.raises(BundleError, match=says):
            load_bundle(broken)
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped([*files.items(), ("policy.json", files["policy.json"])])
    with pytest.raises(BundleError, match="two files of one name"):
        load_bundle(twice)
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        opened.extractall(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"left behind")
    assert load_bundle(tmp_path).golden
    (tmp_path / "notes.txt").write_bytes(b"mine")
    with pytest.raises(BundleError, match=r"notes\.txt, which its manifest"):
        load_bundle(tmp_path)
    (tmp_path / "notes.txt").unlink()
    (tmp_path / "golden.json").unlink()
    (tmp_path / "golden.json").symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(tmp_path)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(BundleError, match="neither a file nor a folder"):
        load_bundle(tmp_path / "pipe.zip")


def drop(files, name):
    sums = json.loads(files["manifest.json"])["sha256"]
    return json.dumps({"sha256": {n: s for n, s in sums.items() if n != name}}).encode()


def edited(name, change):
    """Return an attack that changes the values of a JSON file and lets the checksums fit."""

    def attack(content, files):
        values = json.loads(files[name])
        change(values)
        return rewrite(content, {name: json.dumps(values).encode()})

    return attack


def replaced(name, raw):
    return lambda content, files: rewrite(content, {name: raw})


def weights(**changes):
    def attack(content, files):
        with np.load(io.BytesIO(files["classifier.npz"])) as stored:
            made = {n: v(stored[n]) if callable(v) else v for n, v in changes.items()}
        return rewrite(content, {"classifier.npz": arrays(files, **made)})

    return attack


ATTACKS = {
    "threshold: true": edited("policy.json", lambda p: p["parameters"].update(threshold=True)),
    "threshold: a list": edited("policy.json", lambda p: p["parameters"].update(threshold=[0.5])),
    "threshold: 400 digits": edited("policy.json", lambda p: p["parameters"].update(threshold=10**400)),
    "thresholds of classes as a list": edited("policy.json", lambda p: p["parameters"].update(by_class=[0.5])),
    "two classes of one name": edited("policy.json", lambda p: p["classes"].__setitem__(1, p["classes"][0])),
    "a class without a name": edited("policy.json", lambda p: p["classes"].__setitem__(1, " ")),
    "one class more": edited("policy.json", lambda p: p["classes"].append("more")),
    "two tiers of one name": edited("policy.json", lambda p: p["tiers"][1].update(name="classifier")),
    "a price below 0": edited("policy.json", lambda p: p["tiers"][1].update(price=-1)),
    "a price of true": edited("policy.json", lambda p: p["tiers"][1].update(price=True)),
    "a usual confidence of 7": edited("policy.json", lambda p: p["tiers"][1].update(default_confidence=7)),
    "a model of another kind": edited("policy.json", lambda p: p["tiers"][0].update(model="trained_gate")),
    "files elsewhere": edited("policy.json", lambda p: p["tiers"][0].update(files="../../etc/passwd")),
    "an LLM without settings": edited("policy.json", lambda p: p["tiers"][1].update(model="llm")),
    "a price that was changed": edited("policy.json", lambda p: p["tiers"][0].update(cost_fixed=0.5)),
    "no golden rows": edited("golden.json", lambda g: g.update(rows=[])),
    "golden rows of another tier": edited("golden.json", lambda g: g["rows"][0].update(tier="other")),
    "golden rows without answers": edited("golden.json", lambda g: [r.update(answers={}) for r in g["rows"]]),
    "golden rows of another class": edited("golden.json", lambda g: g["rows"][0].update(label=99)),
    "golden rows of true": edited("golden.json", lambda g: g["rows"][0].update(label=True)),
    "evidence is a list": replaced("evidence.json", b"[]"),
    "evidence holds nan": replaced("evidence.json", b'{"a": NaN}'),
    "evidence holds 1e999": replaced("evidence.json", b'{"a": [-1e999]}'),
    "evidence holds 400 digits": replaced("evidence.json", b'{"a": ' + b"9" * 400 + b"}"),
    "evidence holds half an emoji": replaced("evidence.json", b'{"a": "\\ud83d"}'),
    "evidence is deep": replaced("evidence.json", b"[" * 200_000),
    "policy is deep": replaced("policy.json", b'{"classes":' + b"[" * 200_000),
    "policy is empty": replaced("policy.json", b""),
    "half an emoji": replaced("policy.json", b'{"schema_version": 1, "pattern": "\\ud83d"}'),
    "golden rows are no text": replaced("golden.json", b"\xff\xfe\x00"),
    "not arrays": replaced("classifier.npz", b"not arrays"),
    "arrays of objects": weights(terms=np.array([None, {}], dtype=object)),
    "arrays of texts": weights(terms=np.array(["a" * 10_000] * 10)),
    "nan among the weights": weights(weights=lambda w: np.full_like(w, np.nan)),
    "infinity among the weights": weights(weights=lambda w: np.full_like(w, np.inf)),
    "one class fewer": weights(weights=lambda w: w[:, :-1], bias=lambda b: b[:-1]),
    "one term fewer": weights(terms=lambda t: t[:-12]),
    "a bias of infinity": weights(bias=lambda b: np.full_like(b, np.inf)),
    "no class at all": weights(bias=lambda b: np.full_like(b, -np.inf)),
    "a temperature of 0": weights(temperature=np.array(0.0)),
    "a temperature below 0": weights(temperature=np.array(-1.0)),
    "a latency of nan": weights(latency=np.array(np.nan)),
    "a latency of several": weights(latency=np.array([1.0, 2.0])),
    "no weights": weights(weights=None),
    "weights of three dimensions": weights(weights=lambda w: w[:, :, None]),
    "idf below 0": weights(idf=lambda i: -i),
    "complex weights": weights(weights=lambda w: w.astype(complex)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_numbers_that_cannot_be_are_refused_in_words(content, files, attack):
    with pytest.raises(BundleError) as caught:
        load_bundle(ATTACKS[attack](content, files))
    assert type(caught.value) is BundleError
    assert any(word in str(caught.value) for word in ("xport", "Sign", "pgrade", "must be", "limit"))


def test_damage_anywhere_is_refused_in_words(content, files):
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(150):
        if number % 3 == 0:  # a bit of the zip
            broken = bytearray(content)
            broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
            broken = bytes(broken)
        elif number % 3 == 1:  # the end is missing
            broken = content[: rng.integers(len(content))]
        else:  # bytes of a member, with checksums that fit
            name = list(files)[rng.integers(len(files) - 1)]
            raw = bytearray(files[name])
            at = rng.integers(len(raw), size=3)
            raw[at[0]] ^= 1 << rng.integers(8)
            raw[min(at[1:]) : max(at[1:])] = b"" if number % 2 else rng.bytes(8)
            broken = rewrite(content, {name: bytes(raw)})
        try:
            load_bundle(broken)
        except HybridError:
            refused += 1
    assert refused > 120


def stranger(recording, url, variable):
    """Return a bundle that asks an LLM at an address of its author's choice."""
    from dataclasses import replace

    from hybrid.production.bundle import save_bundle
    from hybrid.tiers.llm.questions import LLMSettings
    from hybrid.tiers.llm.tier import LLMTier

    policy, test = policy_of(recording, "triage", threshold=1.0), recording.split.test
    llm = LLMTier(LLMSettings("llm", "m", base_url=url, key_variable=variable), recording.dataset.classes)
    return save_bundle(
        policy=replace(policy),
        classes=recording.dataset.classes,
        models=recording.models,
        texts=list(recording.dataset.texts[test]),
        recorded=recording.predictions.take(test),
        evidence={},
        llms={"llm": llm},
    )


@pytest.mark.parametrize(
    ("says", "change"),
    [
        ("retries = 1000000000 must be .* at most", lambda m: m["settings"].update(retries=10**9)),
        ("concurrency = 100000 must be .* at most", lambda m: m["settings"].update(concurrency=10**5)),
        ("temperature = nan|damaged", lambda m: m["settings"].update(temperature=float("nan"))),
        ("must be the name|end in _API_KEY", lambda m: m["settings"].update(key_variable="HOME")),
        ("not an address", lambda m: m["settings"].update(base_url="file:///etc/passwd")),
        ("usual = 7.0 must be in", lambda m: m.update(usual=7)),
        ("calls itself 'other'", lambda m: m["settings"].update(name="other")),
    ],
)
def test_an_llm_that_cannot_be_is_refused_in_words(recording, says, change):
    bundle = stranger(recording, "http://127.0.0.1:9/v1", "X_API_KEY")
    with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
        policy = json.loads(opened.read("policy.json"))
    change(policy["tiers"][1]["llm"])
    with pytest.raises(BundleError, match=says):
        load_bundle(rewrite(bundle, {"policy.json": json.dumps(policy).encode()}))


def test_an_endpoint_of_embeddings_is_not_asked_before_it_is_allowed():
    bundle = (OLD / "embedding.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
        golden, about = json.loads(opened.read("golden.json")), json.loads(opened.read("embedding.json"))
    assert about["kind"] == "endpoint"
    assert load_bundle(bundle).golden  # exported before, and proved by what the endpoint said then
    with pytest.raises(BundleError, match=rf"asks 'small' at {about['base_url']}, which is not allowed here"):
        hybrid.load(bundle)
    tiers = ("small", "small + classifier")
    assert hybrid.load(bundle, servers=dict.fromkeys(tiers, about["base_url"])).policy.names[1:] == tiers
    for row in golden["rows"]:
        del row["answers"]["small"]
    with pytest.raises(BundleError, match="names tiers or classes that the policy does not have"):
        load_bundle(rewrite(bundle, {"golden.json": json.dumps(golden).encode()}))


def test_a_bundle_chooses_neither_the_server_nor_the_key(recording, monkeypatch, tmp_path):
    monkeypatch.setenv("STRIPE_API_KEY", "sk-stripe")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    bundle = stranger(recording, "http://127.0.0.1:9/v1", "STRIPE_API_KEY")
    with pytest.raises(BundleError) as caught:
        hybrid.load(bundle)
    for word in ("http://127.0.0.1:9/v1", "servers={'llm'", "HYBRID_SERVERS"):
        assert word in str(caught.value)

    def placed(**how):
        pipeline = hybrid.load(bundle, **how)
        asker = pipeline._askers["llm"]
        return asker.model.settings.base_url, asker._key

    assert placed(servers={"llm": "http://127.0.0.1:9/v1"}) == ("http://127.0.0.1:9/v1", None)
    mine = hybrid.Server("https://mine.example/v1", "MINE_API_KEY")
    monkeypatch.setenv("MINE_API_KEY", "sk-mine")
    assert placed(servers={"llm": mine}) == ("https://mine.example/v1", "sk-mine")
    monkeypatch.setenv("HYBRID_SERVERS", "https://other.example http://127.0.0.1:9/v1/")
    assert placed() == ("http://127.0.0.1:9/v1/", None)  # the list names no key, so none goes there
    listed = tmp_path / "servers.txt"
    listed.write_text("# ours\nhttp://127.0.0.1:9/v1=MINE_API_KEY\n")
    monkeypatch.setenv("HYBRID_SERVERS", str(listed))
    assert placed() == ("http://127.0.0.1:9/v1", "sk-mine")
    bundle = stranger(recording, "https://API.openai.com:443/v1/", "STRIPE_API_KEY")
    assert placed() == ("https://api.openai.com/v1", "sk-openai")  # and not STRIPE's
    with pytest.raises(BundleError, match="servers has 'gpt'"):
        hybrid.load(bundle, servers={"gpt": "http://127.0.0.1:9/v1"})
    with pytest.raises(HybridError, match="name of an environment variable") as caught:
        hybrid.Server("https://mine.example/v1", "sk-typed-by-mistake")
    assert "sk-typed" not in str(caught.value)


def test_a_signed_bundle_tells_whose_it_is(content, files, tmp_path, monkeypatch):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

    def pem(key):
        return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()

    signed = sign(content, pem(mine))
    public = mine.public_key().public_bytes_raw().hex()
    in_pem = mine.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(in_pem)
    (tmp_path / "key.hex").write_text(f"{public}\n")
    held = [[in_pem.decode()], *([str(tmp_path / name)] for name in ("key.pub", "key.hex"))]
    for trust in ([public], public, f" {public}\n", *held, [other.public_key().public_bytes_raw().hex(), public]):
        assert load_bundle(signed, trust=trust).golden
    assert load_bundle(signed).golden  # who trusts nobody in particular asks for no signature
    assert load_bundle(sign(signed, pem(other)), trust=[other.public_key().public_bytes_raw().hex()]).golden
    with pytest.raises(BundleError, match="not signed"):
        load_bundle(content, trust=[public])
    with pytest.raises(BundleError, match="comes from somebody else"):
        load_bundle(sign(content, pem(other)), trust=[public])
    with zipfile.ZipFile(io.BytesIO(signed)) as opened:
        signature = opened.read("signature.json")
    evidence = json.dumps({**json.loads(files["evidence.json"]), "note": "better"}).encode()
    edited_since = rewrite(content, {"evidence.json": evidence})
    with zipfile.ZipFile(io.BytesIO(edited_since)) as opened:
        members = [(n, opened.read(n)) for n in opened.namelist()]
    with pytest.raises(BundleError, match="changed after it was signed"):
        load_bundle(zipped([*members, ("signature.json", signature)]), trust=[public])
    for bad in ("no key", "ab" * 31):
        with pytest.raises(BundleError, match="no public Ed25519 key"):
            load_bundle(signed, trust=[bad])
    for bad in ("-----BEGIN", pem(ec.generate_private_key(ec.SECP256R1()))):
        with pytest.raises(BundleError, match="no Ed25519 key in PEM"):
            sign(content, bad)
    with pytest.raises(BundleError, match=f"signed by {other.public_key().public_bytes_raw().hex()[:16]}…, and not"):
        load_bundle(sign(content, pem(other)), trust=public)
    said = json.loads(signature)
    assert said == {"algorithm": "ed25519", "public_key": public, "signature": said["signature"]}
    with zipfile.ZipFile(io.BytesIO(sign(signed, pem(other)))) as opened:  # in place of the one that it had
        assert json.loads(opened.read("signature.json"))["public_key"] != public
    for damaged in ([], {}, said | {"signature": "zz"}, said | {"public_key": 7}, {"signature": said["signature"]}):
        with pytest.raises(BundleError, match=r"signature\.json is damaged\. Sign the bundle again"):
            check_signature(files | {"signature.json": json.dumps(damaged).encode()}, public)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    for work in (lambda: sign(content, pem(mine)), lambda: load_bundle(signed, trust=public)):
        with pytest.raises(BundleError, match=r"pip install \"hybrid-tuner\[sign\]\""):
            work()


@pytest.mark.parametrize(("constant", "fits"), [(0.0, True), (1.0, True), (-0.1, False), (1.1, False)])
def test_a_constant_confidence_is_a_share(constant, fits):
    line = ConfidenceCalibrator("constant", constant=constant, informative=False)
    if fits:
        checking._check_line("llm", line)
    else:
        with pytest.raises(BundleError, match=r"no rising line within \[0, 1\]"):
            checking._check_line("llm", line)


PLAIN = {"policy.json": b'{"a": [1, 2]}', "golden.json": b"{}", "evidence.json": b"{}"}


def numbers(*members):
    """Return a file of arrays by the bytes of each."""
    return zipped([(f"{name}.npy", raw) for name, raw in members])


def array(shape, dtype="<f8", write=np.lib.format.write_array_header_1_0, spare=0):
    out = io.BytesIO()
    write(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue() + bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize + spare)


def of_arrays(*members):
    return archive.pack_files(PLAIN | {"m.npz": numbers(*members)})


def test_what_is_declared_is_bounded_to_the_last_byte_file_and_value(monkeypatch, tmp_path):
    """At each bound a bundle is read, and one less is refused."""
    content = of_arrays(("a", array((3, 5))), ("b", array((7,))))
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        opened.extractall(tmp_path)
        sizes = {i.filename: i.file_size for i in opened.infolist()}
        inner = zipfile.ZipFile(io.BytesIO(opened.read("m.npz"))).infolist()
    arrays_take = sum(i.file_size for i in inner)
    biggest = max(size for name, size in sizes.items() if name.endswith(".json"))
    values = max(archive._values((tmp_path / n).read_bytes()) for n in sizes if n.endswith(".json"))
    for source in (content, tmp_path):
        for name, least, says in (
            ("MAX_FILES", len(sizes), "more than 4 files"),
            ("MAX_JSON", biggest, "manifest.json unpacks to 0 MB, more than 0 MB"),
            ("MAX_VALUES", values, f"holds more than {values - 1} values"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(archive, name, least)
                assert archive.read_files(source).keys() == sizes.keys()
                patch.setattr(archive, name, least - 1)
                with pytest.raises(BundleError, match=says):
                    archive.read_files(source)
        for least, says in (
            (sum(sizes.values()) + arrays_take, "m.npz unpacks"),
            (sum(sizes.values()), "The bundle u"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(archive, "limit", lambda: least)  # noqa: B023
                if says.startswith("m"):
                    assert archive.read_files(source)
                patch.setattr(archive, "limit", lambda: least - 1)  # noqa: B023
                with pytest.raises(BundleError, match=says):
                    archive.read_files(source)
    two = archive.pack_files(PLAIN | dict.fromkeys(("m.npz", "n.npz"), numbers(("a", array((500,))))))
    with zipfile.ZipFile(io.BytesIO(two)) as opened:
        whole = sum(i.file_size for i in opened.infolist()) + 2 * len(array((500,)))
    monkeypatch.setattr(archive, "limit", lambda: whole)
    assert archive.read_files(two)
    monkeypatch.setattr(archive, "limit", lambda: whole - 1)  # what the first took is taken from what the second may
    with pytest.raises(BundleError, match=r"n\.npz unpacks"):
        archive.read_files(two)
    path = tmp_path / "packed.zip"
    path.write_bytes(content)
    monkeypatch.setattr(archive, "limit", lambda: len(content) - 1)
    with pytest.raises(BundleError, match=r"packed\.zip unpacks to"):
        archive.read_files(path)


def test_arrays_of_numbers_are_read_and_no_others():
    two = np.lib.format.write_array_header_2_0
    for fits in (array(()), array((0, 3)), array((2, 3), "<i4"), array((2,), "|u1"), array((2,), "<f4", two)):
        assert archive.read_files(of_arrays(("a", fits)))
    for odd, says in (
        (array((1, 1, 1)), "no array of numbers, float64 of shape"),
        (array((1,), "|b1"), "no array of numbers, bool"),
        (array((1,), "<U3"), "no array of numbers"),
        (array((3,), spare=1), "its header and its length contradict"),
        (array((3,))[:-1], "its header and its length contradict"),
        (b"", "m.npz is damaged"),
    ):
        with pytest.raises(BundleError, match=says):
            archive.read_files(of_arrays(("a", odd)))
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        pytest.raises(BundleError, match="arrays repeat, or are too many"),
    ):
        archive.read_files(of_arrays(("a", array((1,))), ("a", array((1,)))))
    many = [(f"a{i}", array((0,))) for i in range(201)]
    assert archive.read_files(of_arrays(*many[:200]))
    with pytest.raises(BundleError, match="arrays repeat, or are too many"):
        archive.read_files(of_arrays(*many))


def with_manifest(sums):
    return archive.zipped(PLAIN | {"manifest.json": json.dumps(sums).encode()})


def test_a_manifest_lists_each_file_once_and_neither_itself_nor_the_signature(tmp_path):
    whole = archive.pack_files(PLAIN)
    files = archive.read_files(whole)
    assert files == PLAIN | {"manifest.json": files["manifest.json"]}
    sums = json.loads(files["manifest.json"])["sha256"]
    assert archive.digest_of(whole) == hashlib.sha256(files["manifest.json"]).hexdigest()[:12]
    one = sums["policy.json"]
    for odd in (
        [],
        {},
        {"sha256": [*sums]},
        {"sha256": sums | {"policy.json": one.upper()}},
        {"sha256": sums | {"policy.json": one[:-1]}},
        {"sha256": sums | {"policy.json": 7}},
    ):
        with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
            archive.read_files(with_manifest(odd))
    for name in ("manifest.json", "signature.json"):
        with pytest.raises(BundleError, match="lists itself or the signature"):
            archive.read_files(with_manifest({"sha256": sums | {name: one}}))
    for name in PLAIN:
        with pytest.raises(BundleError, match=f"lacks {name}"):
            archive.read_files(archive.pack_files({n: c for n, c in PLAIN.items() if n != name}))
    for name, says in {
        "a" * 100: None,
        "a" * 101: "is not the name",
        ".hidden": "is not the name",
        "-x": "is not the name",
        "a b": "is not the name",
        "A_1.b-c": None,
    }.items():
        extra = archive.pack_files(PLAIN | {name: b""})
        if says is None:
            assert name in archive.read_files(extra)
        else:
            with pytest.raises(BundleError, match=says):
                archive.read_files(extra)
    signed = archive.zipped(files | {"signature.json": b"[1]"})
    assert archive.read_files(signed)["signature.json"] == b"[1]"
    with pytest.raises(BundleError, match="cannot be read"):
        archive.read_files("a\0b")
    path = tmp_path / "b.zip"
    path.write_bytes(whole)
    assert archive.read_files(str(path)) == files
    path.write_bytes(whole[:-30])
    with pytest.raises(BundleError, match=r"b\.zip is not a zip or is damaged"):
        archive.read_files(path)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"12345678901234567890", 12345678901234567890),
        (b"123456789012345678901", None),
        (b"-1.5e3", -1500.0),
        (b"1e400", None),
        (b"NaN", None),
        (b"-Infinity", None),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud83d"', None),
        (b'{"\\ude00": 1}', None),
        (b"{", None),
    ],
)
def test_json_holds_numbers_and_texts_that_can_be_written(raw, found):
    if found is None:
        with pytest.raises(BundleError, match=r"x\.json is damaged"):
            archive.read_json({"x.json": raw}, "x.json")
    else:
        assert archive.read_json({"x.json": raw}, "x.json") == found
    assert archive._values(b'{"a": [1, {"b": 2}]}') >= 5


def test_addresses_are_compared_as_servers_and_keys_stay_with_theirs(monkeypatch, tmp_path):
    for name in ("HYBRID_SERVERS", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for url, same in {
        "https://Llm.Example:443/v1/": "https://llm.example/v1",
        "http://llm.example:80": "http://llm.example",
        "http://llm.example:443/": "http://llm.example:443",
        "https://llm.example.:8443/V1": "https://llm.example:8443/V1",
    }.items():
        assert binding._same(url) == same
    assert set(binding.allowed_servers()) == {"https://api.openai.com/v1"}
    assert binding.is_allowed("https://api.openai.com:443/v1/")
    assert not binding.is_allowed("http://api.openai.com/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://own.example/v1")
    assert set(binding.allowed_servers()) == {"https://api.openai.com/v1", "http://own.example/v1"}
    monkeypatch.setenv("A_API_KEY", "sk-a")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    listed = "http://a.example/v1=A_API_KEY,http://b.example/v1  http://c.example"
    expected = {"http://a.example/v1": "A_API_KEY", "http://b.example/v1": None, "http://c.example": None}
    file = tmp_path / "servers.txt"
    file.write_text("# ours\nhttp://a.example/v1=A_API_KEY  # the first\nhttp://b.example/v1, http://c.example\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (listed, str(file), f"@{file}", "~/servers.txt"):
        monkeypatch.setenv("HYBRID_SERVERS", given)
        allowed = binding.allowed_servers()
        assert set(allowed) == {*expected, "https://api.openai.com/v1", "http://own.example/v1"}
        for url, variable in expected.items():
            assert allowed[url].key_variable == (variable or "OPENAI_API_KEY")
            assert binding.operators_key(url + "/") == ("sk-a" if variable else None)
            assert allowed[url].key() == ("sk-a" if variable else None)
    assert binding.operators_key("http://nobody.example") is None
    for given, says in (
        ("ftp://a.example", "HYBRID_SERVERS: .*not an address"),
        ("http://a.example=HOME", "HYBRID_SERVERS: .*ends in _API_KEY"),
        ("/nowhere/servers.txt", "HYBRID_SERVERS names the file '/nowhere/servers.txt', which cannot be read"),
    ):
        monkeypatch.setenv("HYBRID_SERVERS", given)
        with pytest.raises(BundleError, match=says):
            binding.allowed_servers()
    monkeypatch.delenv("HYBRID_SERVERS")
    for variable, how, entry in (
        ("OPENAI_API_KEY", r"Server\('http://x.example'\)\}", "HYBRID_SERVERS: http://x.example. A"),
        ("X_API_KEY", r"Server\('http://x.example', 'X_API_KEY'\)\}", "HYBRID_SERVERS: http://x.example=X_API_KEY. A"),
    ):
        for says in (how, entry):
            with pytest.raises(BundleError, match=says):
                binding.server_for("llm", "http://x.example", {}, key_variable=variable)
    given = hybrid.Server("http://y.example", "Y_API_KEY")
    assert binding.server_for("llm", "http://x.example", {"llm": given}) is given
    assert binding.server_for("llm", "http://x.example", {"llm": "http://z.example"}).base_url == "http://z.example"
    binding.check_names({"llm": given}, {"llm", "small"})
    with pytest.raises(BundleError, match="servers has 'gpt', but the bundle asks a server for: llm, small"):
        binding.check_names({"llm": given, "gpt": given}, {"small", "llm"})
