"""The command line: what a user types, what comes out, and which exit code CI sees."""

import json
import sys
import zipfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import again, labelled
from test_bundle import export, llm_of, policy_of
from test_streaming import scored

import hybrid
from hybrid.cli import main
from hybrid.metrics.summary import summarize
from hybrid.production import scoring
from hybrid.production.bundle import load_bundle, save_bundle
from hybrid.routing.engine import Policy, replay
from hybrid.routing.patterns import Triage
from hybrid.study import project


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "log.parquet"
    scored(4_000).to_parquet(path, row_group_size=500, index=False)
    return str(path)


@pytest.fixture(scope="module")
def exported(recording, tmp_path_factory):
    """A bundle with evidence as the Export page writes it, and the texts of its test rows."""
    folder = tmp_path_factory.mktemp("bundle")
    rows = recording.split.test
    policy = policy_of(recording, "triage", threshold=0.8)
    table, truth = recording.predictions.take(rows), recording.dataset.truth[rows]
    accuracy = summarize(replay(policy, table), truth).accuracy
    content = save_bundle(
        policy=policy,
        classes=recording.dataset.classes,
        models=recording.models,
        texts=list(recording.dataset.texts[rows]),
        recorded=table,
        evidence={"metrics": {"test": {"accuracy": {"value": accuracy.value, "low": accuracy.low}}}},
    )
    bundle = folder / "triage.zip"
    bundle.write_bytes(content)
    names = np.array([*recording.dataset.classes, None], dtype=object)
    said = table.answers(table.index("llm"))
    frame = pd.DataFrame(
        {
            "text": recording.dataset.texts[rows],
            "label": names[truth],
            "llm_label": names[said.label],
            "llm_confidence": said.confidence,
            "llm_cost": said.cost,
        }
    )
    return folder, bundle, frame, accuracy


def test_tune_finds_thresholds_that_do_what_it_prints(log, capsys):
    assert main(["tune", log, "--tiers", "fast,llm", "--min-accuracy", "0.88", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tune"]["accuracy"] >= 0.88
    assert said["bound"] <= said["tune"]["cost_per_1000"]
    assert said["tune"]["rows"] + said["test"]["rows"] == 4_000
    threshold = said["thresholds"]["fast"]
    frame = pd.read_parquet(log)
    final = np.where(
        frame["fast_confidence"].where(frame["fast_label"].notna(), 0) >= threshold,
        frame["fast_label"] == frame["label"],
        frame["llm_label"] == frame["label"],
    )
    both = said["tune"]["rows"] * said["tune"]["accuracy"] + said["test"]["rows"] * said["test"]["accuracy"]
    assert both == pytest.approx(final.sum())


def test_tune_speaks_plainly_and_takes_a_budget(log, capsys):
    assert main(["tune", log, "--pattern", "cascade", "--tiers", "fast,llm", "--max-cost", "300"]) == 0
    out = capsys.readouterr()
    assert "fast: keep at or above" in out.out
    assert "no other thresholds do better" in out.out
    assert "8 of 8 pieces read" in out.err


def test_what_a_page_says_of_a_file_the_command_line_says(tmp_path, capsys):
    rows = ["text;label;classifier_label;classifier_confidence;llm_label;llm_cost"]
    rows += [f"text {i};{i % 3};{i % 3}.0;0,9{i % 10};{'' if i % 10 == 0 else i % 3};0.002" for i in range(200)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows))
    assert main(["tune", str(path), "--tiers", "classifier,llm", "--max-cost", "1"]) == 0
    out = capsys.readouterr()
    assert "classifier (recorded): keep at or above" in out.out
    assert "decimal comma" in out.err
    assert "20 blank answers. Counted as failed" in out.err
    assert "'classifier' is called 'classifier (recorded)'" in out.err
    assert "--price 'classifier (recorded)=USD'" in out.err
    nested = tmp_path / "log.jsonl"
    nested.write_text("".join(f'{{"text": "a {i}", "label": "{i % 2}", "tags": [1]}}\n' for i in range(40)))
    assert main(["tune", str(nested), "--max-cost", "1"]) == 2
    assert "no model's answers" in capsys.readouterr().err  # not the tags, which nobody needs
    unsure = tmp_path / "cases.csv"
    unsure.write_text("\n".join(["body,product,issue", *(f"some words {i},p{i % 2},q{i % 2}" for i in range(40))]))
    assert main(["fit", str(unsure), "--project", str(tmp_path / "p")]) == 2
    assert "--label" in capsys.readouterr().err


def test_none_of_these_is_right_of_rows_that_are_none_of_the_bundles_classes(own_fitted, tmp_path, capsys):
    study = again(own_fitted)
    bundle = tmp_path / "b.zip"
    study.export(study.scoped(study.cheap_alone, share=0.2), bundle)
    decide = hybrid.load(bundle)
    known, far = list(study.dataset.texts[study.split.test]), ["Sing me a sea shanty about whales", "Gâteau ou tarte?"]
    aside = [decide(text).label == "none of these" for text in known]
    assert any(aside)
    rows = [*zip(known, np.array(study.classes)[study.dataset.truth[study.split.test]], strict=True)]
    rows += [(far[0], "none of these"), (far[1], "cakes"), (known[aside.index(False)], "cakes")]
    path = tmp_path / "fresh.csv"
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    main(["evaluate", str(bundle), str(path), "--json"])
    said = json.loads(capsys.readouterr().out)
    right = sum(decide(text).label == label for text, label in rows) + 1  # whales by its name, and the first cakes
    assert said["accuracy"] == pytest.approx(right / len(rows))
    assert (said["out_of_scope"], said["said_so"], said["unknown_labels"]) == (3, 2, {"cakes": 2})
    assert said["set_aside"]["share"] == pytest.approx(np.mean(aside))
    assert 0 < said["set_aside"]["promised"] < 1
    main(["evaluate", str(bundle), str(path)])
    assert "2 of 3 rows that are none of the classes are answered so" in capsys.readouterr().out


def test_several_labels_a_row_are_made_one_as_the_page_offers(tmp_path, capsys):
    frame, path, place = labelled(60)[["text"]], tmp_path / "tags.csv", str(tmp_path / "p")
    marks = {name: [str(int(i % k == 0)) for i in range(60)] for name, k in (("i", 2), ("o", 3), ("s", 5))}
    frame.assign(**marks).to_csv(path, index=False)
    assert main(["fit", str(path), "--project", place]) == 2
    assert "--several" in capsys.readouterr().err
    assert main(["fit", str(path), "--project", place, "--several", "combinations"]) == 0
    assert "i | o | s" in hybrid.Study.open(place).classes
    joined = ["|".join(n for n in marks if marks[n][i] == "1") or "none" for i in range(60)]
    frame.assign(label=joined, llm_label=joined[::-1]).to_csv(path, index=False)
    how = ["--replace", "--several", "i", "--hard", "twice, parcel"]
    assert main(["fit", str(path), "--project", place, *how]) == 0
    study = hybrid.Study.open(place)
    assert (study.classes, study.key_words.hard) == (("no", "yes"), ("twice", "parcel"))
    assert set(study.table["llm_label"]) == {"yes", "no"}


def test_answers_without_texts_are_evaluated(tmp_path, capsys):
    rows = ["label,small_label,small_confidence,llm_label,llm_confidence,llm_cost"]
    rows += [f"{'ab'[i % 2]},{'ab'[i % 3 % 2]},0.{5 + i % 5},{'ab'[i % 2]},0.9,0.002" for i in range(80)]
    path = tmp_path / "answers.csv"
    path.write_text("\n".join(rows))
    study = hybrid.Study.read(path).fit()
    bundle = tmp_path / "b.zip"
    study.export(study.start("triage"), bundle)
    assert main(["evaluate", str(bundle), str(path)]) == 0
    assert "on 80 rows" in capsys.readouterr().out


def test_a_goal_out_of_reach_has_exit_code_1(log, capsys):
    assert main(["tune", log, "--tiers", "fast,llm", "--min-accuracy", "1.0"]) == 1
    assert "No thresholds reach" in capsys.readouterr().out


def test_a_mistake_is_a_message_and_exit_code_2(log, capsys):
    for wrong in (
        ["tune", "nowhere.parquet", "--min-accuracy", "0.9"],
        ["tune", log, "--tiers", "fast", "--min-accuracy", "0.9"],
        ["tune", log, "--tiers", "fast,llm", "--min-accuracy", "90"],
        ["tune", log, "--tiers", "fast,llm", "--min-accuracy", "0.9", "--price", "llm"],
        ["route", "nowhere.zip", log, "--out", "x.parquet", "--text", "label"],
        ["evaluate", "nowhere.zip", log],
    ):
        assert main(wrong) == 2, wrong
        error = capsys.readouterr().err
        assert error.splitlines()[-1].startswith("hybrid: ")
        assert "Traceback" not in error


def test_evaluate_tells_ci_whether_the_promise_holds(exported, tmp_path, capsys):
    _, bundle, frame, accuracy = exported
    path = tmp_path / "labelled.csv"
    frame.to_csv(path, index=False)
    assert main(["evaluate", str(bundle), str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accuracy"] == pytest.approx(accuracy.value)
    assert said["promised"] == pytest.approx(accuracy.low)
    frame.assign(label=np.roll(frame["label"], 1)).to_csv(path, index=False)  # the world has changed
    assert main(["evaluate", str(bundle), str(path)]) == 1
    assert "BROKEN" in capsys.readouterr().out
    frame[["text", "label"]].to_csv(path, index=False)
    assert main(["evaluate", str(bundle), str(path)]) == 2
    assert "llm_label" in capsys.readouterr().err


@pytest.fixture
def models(recording, monkeypatch):
    """A module with the recorded LLM as a function, and a count of what it was asked."""
    answer = llm_of(recording)
    asked = []

    def counting(texts):
        asked.extend(texts)
        return answer(texts)

    module = type(sys)("answering")
    module.models = {"llm": counting}
    module.nothing = 3
    monkeypatch.setitem(sys.modules, "answering", module)
    scoring._runtime.cache_clear()
    yield asked
    scoring._runtime.cache_clear()


def route(bundle, texts, out):
    return ["route", str(bundle), str(texts), "--out", str(out), "--models", "answering:models", "--keep", "label"]


def test_a_routed_file_is_what_the_runtime_decides(exported, models, recording, tmp_path, capsys):
    _, bundle, frame, _ = exported
    texts, out = tmp_path / "texts.parquet", tmp_path / "decisions.parquet"
    frame.to_parquet(texts, row_group_size=20, index=False)
    assert main(route(bundle, texts, out)) == 0
    found = pd.read_parquet(out)
    pipeline = hybrid.load(bundle, models={"llm": llm_of(recording)})
    decisions = pipeline.decide(list(frame["text"]))
    assert found["tier"].tolist() == [d.tier for d in decisions]
    assert [x if isinstance(x, str) else None for x in found["decision"]] == [d.label for d in decisions]
    assert found["confidence"].tolist() == [d.confidence for d in decisions]
    assert found["cost"].tolist() == [d.cost for d in decisions]
    assert not out.with_name(out.name + ".parts").exists()
    capsys.readouterr()
    assert main(["evaluate", str(bundle), str(texts), "--models", "answering:models"]) == 0


def test_a_broken_run_goes_on_where_it_stopped(exported, models, recording, tmp_path, monkeypatch, capsys):
    _, bundle, frame, _ = exported
    texts, out = tmp_path / "texts.parquet", tmp_path / "decisions.parquet"
    frame.to_parquet(texts, row_group_size=10, index=False)
    whole = tmp_path / "whole.parquet"
    assert main(route(bundle, texts, whole)) == 0
    models.clear()
    decide, calls = scoring._decide, []

    def dies(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decide(*args)

    monkeypatch.setattr(scoring, "_decide", dies)
    with pytest.raises(KeyboardInterrupt):
        main(route(bundle, texts, out))
    assert not out.exists()
    before = len(models)
    other = tmp_path / "other.zip"
    other.write_bytes(export(recording, Policy(Triage(0.1), policy_of(recording, "triage").tiers)))
    assert main(route(other, texts, out)) == 2
    assert "parts of another run" in capsys.readouterr().err
    assert main(route(bundle, texts, out)) == 0
    assert before > 0
    rehearsed = load_bundle(bundle).golden[0].text
    asked = [text for text in models if text != rehearsed]
    assert len(set(asked)) == len(asked)  # no text was asked about twice, but for the one that each run begins with
    assert pq.read_table(out).equals(pq.read_table(whole))


def test_a_cluster_routes_to_the_same_file(recording, exported, tmp_path):
    distributed = pytest.importorskip("distributed")
    _, _, frame, _ = exported
    tiers = recording.predictions.select(["rules", "classifier"]).tiers
    bundle = tmp_path / "local.zip"
    bundle.write_bytes(export(recording, Policy(Triage(0.6), tiers)))
    texts = tmp_path / "texts.parquet"
    frame.to_parquet(texts, row_group_size=15, index=False)
    assert main(["route", str(bundle), str(texts), "--out", str(tmp_path / "here.parquet")]) == 0
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
    with cluster:
        there = ["--out", str(tmp_path / "there.parquet"), "--scheduler", cluster.scheduler_address]
        assert main(["route", str(bundle), str(texts), *there]) == 0
    assert pq.read_table(tmp_path / "there.parquet").equals(pq.read_table(tmp_path / "here.parquet"))


def test_models_that_cannot_be_imported_are_said(exported, models, tmp_path, capsys):
    _, bundle, frame, _ = exported
    texts = tmp_path / "texts.csv"
    frame.to_csv(texts, index=False)
    for spec, says in (("nowhere:models", "cannot be imported"), ("answering:nothing", "not a dict")):
        command = ["route", str(bundle), str(texts), "--out", str(tmp_path / "x.parquet"), "--models", spec]
        assert main(command) == 2
        assert says in capsys.readouterr().err
    assert main(["route", str(bundle), str(texts), "--out", str(tmp_path / "x.parquet")]) == 2
    assert "Supply it" in capsys.readouterr().err


def test_from_a_file_to_a_bundle_without_a_screen(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HYBRID_PROJECTS_DIR", str(tmp_path / "projects"))
    frame = labelled(160)
    frame["llm_label"] = frame["label"]
    data, place, bundle = (str(tmp_path / name) for name in ("mine.csv", "kept", "policy.zip"))
    frame.to_csv(data, index=False)
    people = ["--person", "0.9=2.5=3", "--picking", "0.99=0.5"]
    assert main(["fit", data, "--project", place, "--picking", "0.99=0.5"]) == 2  # nobody is there to pick
    assert main(["fit", data, "--project", place, "--price", "llm=0.002", *people]) == 0
    said = capsys.readouterr().out
    assert "llm: 100.00% alone on test, $2 per 1,000" in said
    assert "person (top 3 of classifier): picks from the likeliest of classifier, $500 per 1,000, simulated" in said
    assert hybrid.Study.open(place).terms.human.minutes == 3
    assert main(["recommend", place, "--min-accuracy", "0.5", "--pattern", "assisted", "--set-aside", "0.1"]) == 0
    assert "texts farther than 0.9 of the known ones" in capsys.readouterr().out
    assert main(["recommend", place, "--price", "llm=0.001", "--person", "none", "--dry-run"]) == 1
    said = capsys.readouterr().out
    assert "texts farther than 0.9 of the known ones are answered 'none of these'" in said  # the scope stays
    assert "each of them counts as a mistake" in said  # so the LLM's own accuracy cannot be reached
    assert main(["recommend", place, "--set-aside", "0", "--min-accuracy", "0.5", "--pattern", "triage"]) == 0
    assert "out of scope" not in capsys.readouterr().out
    assert main(["fit", data, "--project", place]) == 2  # what is kept is not lost by typing it twice
    assert main(["recommend", place, "--min-accuracy", "0.9", "--pattern", "triage", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main(["export", place, bundle]) == 0
    study = hybrid.Study.open(place)
    assert study.chosen
    on_test = study.measure().summary
    assert said["test"]["accuracy"] == on_test.accuracy.value
    assert said["test"]["cost_per_1000"] == on_test.cost_per_1000.value
    with zipfile.ZipFile(bundle) as packed:
        stored = json.loads(packed.read("evidence.json"))["metrics"]["test"]
    assert stored["accuracy"]["value"] == on_test.accuracy.value
    name = project.id_of(tmp_path / "kept")
    assert name == project.id_of(tmp_path / "kept")
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    project.forget(name)
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["notes.txt"]
    assert main(["export", place, bundle]) == 2
