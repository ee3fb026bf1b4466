"""Logs of an LLM's calls: whoever wrote them, the same texts, answers, costs and times come out."""

import csv
import io
import json

import numpy as np
import pytest
from conftest import labelled
from test_dashboard import no_small_model, open_page  # noqa: F401 - a fixture

from hybrid.cli import main
from hybrid.dashboard.answer import headline
from hybrid.data.chat_log import without_template
from hybrid.data.read import joined, read
from hybrid.errors import DatasetError, StudyError
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import Triage
from hybrid.study import reading
from hybrid.study.answer import answer_of
from hybrid.study.scan import open_log, scan
from hybrid.study.study import Study

N = 30
TEXTS = [f"my {w} number {i} is late" for i, w in zip(range(N), ["card", "parcel", "app"] * N, strict=False)]
LABELS = [["billing", "shipping", "technical"][i % 3] for i in range(N)]
SYSTEM = "Sort the message. Answer with JSON."
START, TOOK = 1_764_000_000.0, 0.25


def request(text):
    user = f"Message: <<{text}>>\nWhich label fits it?"
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}],
    }


def answer(label):
    return json.dumps({"label": label.title(), "confidence": 0.5})


def reply(i, content, **choice):
    message = {"role": "assistant", "content": content}
    return {
        "id": f"chatcmpl-{i}",
        "created": int(START + i),
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


def iso(seconds):
    return np.datetime_as_string(np.datetime64(round(1000 * seconds), "ms"), timezone="UTC")


def plain(i, content):
    return {**request(TEXTS[i]), **reply(i, content)}


def paired(i, content):
    return {"request": request(TEXTS[i]), "response": reply(i, content)}


def tuned(i, content):
    asked = request(TEXTS[i])
    return {"messages": [*asked["messages"], {"role": "assistant", "content": content}]}


def called(i, content):
    """The label as arguments of a tool, of a stored completion."""
    function = {"name": "sort", "arguments": content}
    message = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    return {**request(TEXTS[i]), **reply(i, None), "choices": [{"message": message, "finish_reason": "tool_calls"}]}


def responses(i, content):
    asked = request(TEXTS[i])
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": content}]}]
    said = {"id": f"resp-{i}", "model": "gpt-4o-mini-2024-07-18", "output": output}
    return {"request": {"model": "gpt-4o-mini", "input": asked["messages"]}, "response": said}


def litellm(i, content):
    cost = {"response_cost": 0.001, "prompt_tokens": 100, "completion_tokens": 10, "call_type": "acompletion"}
    times = {"startTime": START + i, "endTime": START + i + TOOK, "response_time": TOOK}
    return {"id": f"c{i}", **cost, **times, **request(TEXTS[i]), "response": reply(i, content), "status": "success"}


def spend(i, content):
    times = {"startTime": iso(START + i), "endTime": iso(START + i + TOOK)}
    log = {"request_id": f"c{i}", "call_type": "acompletion", "spend": 0.001, **times, "messages": {}}
    return {**log, "proxy_server_request": json.dumps(request(TEXTS[i])), "response": json.dumps(reply(i, content))}


def langfuse(i, content):
    return {
        "id": f"o{i}",
        "traceId": f"t{i}",
        "type": "GENERATION",
        "startTime": iso(START + i),
        "endTime": iso(START + i + TOOK),
        "model": "gpt-4o-mini-2024-07-18",
        "input": request(TEXTS[i])["messages"],
        "output": {"role": "assistant", "content": content},
        "usageDetails": {"input": 100, "output": 10, "total": 110},
        "costDetails": {"total": 0.001},
        "latency": TOOK,
    }


def phoenix(i, content):
    said = [{"message.role": m["role"], "message.content": m["content"]} for m in request(TEXTS[i])["messages"]]
    return {
        "context.span_id": f"s{i}",
        "span_kind": "LLM",
        "start_time": iso(START + i),
        "end_time": iso(START + i + TOOK),
        "attributes.llm.model_name": "gpt-4o-mini-2024-07-18",
        "attributes.llm.input_messages": said,
        "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": content}],
        "attributes.llm.token_count.prompt": 100,
        "attributes.llm.token_count.completion": 10,
    }


def phoenix_flat(i, content):
    flat = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini-2024-07-18"}
    for k, m in enumerate(request(TEXTS[i])["messages"]):
        flat |= {f"llm.input_messages.{k}.message.{name}": m[name] for name in m}
    flat |= {"llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": content}
    return {"name": "ChatCompletion", "context": {"span_id": f"s{i}"}, "span_kind": "LLM", "attributes": flat}


def anthropic(i, content):
    asked = {"model": "claude-x", "system": SYSTEM, "messages": request(TEXTS[i])["messages"][1:]}
    message = {"role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": content}]}
    return {"custom_id": f"q{i}", "params": asked, "result": {"type": "succeeded", "message": message}}


def lines(records):
    return "\n".join(json.dumps(r) for r in records).encode()


def content_of(form, answers=None):
    return lines(form(i, a) for i, a in enumerate(answers or map(answer, LABELS)))


FORMS = [
    plain, paired, tuned, called, responses, litellm, spend, langfuse, phoenix, phoenix_flat, anthropic,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_texts_and_answers_are_found_in_every_form(form):
    found = read("log.jsonl", content_of(form))
    assert found.table["text"].tolist() == TEXTS
    assert [name.lower() for name in found.table["llm_label"]] == LABELS
    assert found.table["llm_confidence"].unique().tolist() == ["0.5"]
    assert any("Which label fits it?" in n.what for n in found.notes)
    study = reading.studied("log.jsonl", found, reading.guessed(found).columns)
    teacher = study.columns.teacher
    assert study.columns.agreement_with == teacher.name == found.log.model
    if form in (litellm, spend, langfuse):
        assert found.table["llm_cost"].unique().tolist() == ["0.001"]
    elif form not in (tuned, responses, phoenix_flat, anthropic):
        assert (found.table["llm_prompt_tokens"] == "100").all()
        assert teacher.prompt_price > 0  # of the price list
    if form in (litellm, spend, langfuse, phoenix):
        assert found.table["llm_latency"].astype(float).to_numpy() == pytest.approx(TOOK, abs=1e-5)
        assert float(found.table["llm_time"].iloc[3]) == pytest.approx(START + 3)


def test_a_spreadsheet_of_a_log_is_read_as_the_log():
    rows = [{k: v if isinstance(v, str | float) else json.dumps(v) for k, v in langfuse(i, answer(a)).items()}
            for i, a in enumerate(LABELS)]  # fmt: skip
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    found = read("export.csv", out.getvalue().encode())
    expected = read("log.jsonl", content_of(langfuse))
    assert found.table[["text", "llm_label", "llm_cost"]].equals(expected.table[["text", "llm_label", "llm_cost"]])


def test_the_halves_of_a_batch_meet_by_their_ids_in_either_order():
    asked = [{"custom_id": f"q{i}", "method": "POST", "body": request(t)} for i, t in enumerate(TEXTS)]
    said = [
        {"custom_id": f"q{i}", "response": {"status_code": 200, "body": reply(i, answer(a))}, "error": None}
        for i, a in enumerate(LABELS)
    ][::-1]
    said[0] = {"custom_id": f"q{N - 1}", "response": {"status_code": 500, "body": {}}, "error": None}
    requests, replies = (read(n, lines(r)) for n, r in (("in.jsonl", asked), ("out.jsonl", said[:-1])))
    assert (requests.log.half, replies.log.half) == ("requests", "replies")
    for first, second in ((requests, replies), (replies, requests)):
        both = joined(first, second)
        assert dict(zip(both.table["text"], both.table["llm_label"].str.lower(), strict=True)) == {
            **dict(zip(TEXTS[1:], LABELS[1:], strict=True)),
            TEXTS[-1]: "",
        }
        assert reading.guessed(both).columns.teacher.prompt_price == pytest.approx(0.075)  # half, in a batch
        said_so = " ".join(n.what for n in both.notes)
        assert "1 request has no reply" in said_so
        assert "1 call failed" in said_so
    with pytest.raises(DatasetError, match="requests and one with the replies"):
        joined(requests, requests)
    with pytest.raises(DatasetError, match="do not meet"):
        joined(requests, read("o.jsonl", lines([{**said[3], "custom_id": "elsewhere"}])))


def test_answers_that_name_no_class_are_counted_and_left_out():
    answers = [*map(answer, LABELS)]
    answers[0] = "I'm sorry, I can't help with that."
    answers[1] = 'Sure! Here is what you asked for: {"label": "shipping"}'
    answers[2] = "**technical**"
    answers[3] = "It might be several things, who knows."
    answers[4] = None
    found = read("log.jsonl", content_of(paired, answers))
    assert found.table["llm_label"].str.lower().tolist()[:6] == ["", "shipping", "technical", "", "", "technical"]
    assert found.log.n_left_out == 3
    assert any("1 call failed, 1 answer is a refusal, 1 answer names no class" in n.what for n in found.notes)


def test_bare_labels_are_read_and_a_sentence_among_them_is_no_class():
    said = [label if i % 2 else f"Category: {label}." for i, label in enumerate(LABELS)]
    said[7] = "That is hard to say."
    found = read("log.jsonl", content_of(plain, said))
    assert found.table["llm_label"].tolist() == [*LABELS[:7], "", *LABELS[8:]]


def test_a_schema_says_which_labels_there_are_also_the_rare_ones():
    rule = {
        "type": "json_schema",
        "json_schema": {"schema": {"properties": {"queue": {"enum": [*set(LABELS), "fraud"]}}}},
    }
    said = [json.dumps({"queue": label, "why": f"because {i}"}) for i, label in enumerate(LABELS)]
    said[0], said[1] = json.dumps({"queue": "fraud", "why": "x"}), json.dumps({"queue": "invented", "why": "y"})
    log = [{"request": {**request(t), "response_format": rule}, "response": reply(i, a)}
           for i, (t, a) in enumerate(zip(TEXTS, said, strict=True))]  # fmt: skip
    found = read("log.jsonl", lines(log))
    assert found.table["llm_label"].tolist() == ["fraud", "", *LABELS[2:]]


def test_another_prompt_with_other_labels_is_another_task():
    log = [json.loads(line) for line in content_of(plain).splitlines()]
    other = [json.loads(line) for line in content_of(plain, ["angry", "calm"] * 6).splitlines()]
    for record in other:
        record["messages"][0]["content"] = "Which mood?"
        record["id"] = "m" + record["id"]
    found = read("log.jsonl", lines([*log, *other]))
    assert len(found.table) == N
    assert any("12 calls have another prompt" in n.what for n in found.notes)


def test_one_odd_record_costs_no_other():
    big, many = int("9" * 400), "9" * 5_000
    made = [{**plain(i, answer(label)), "response_cost": 0.001} for i, label in enumerate(LABELS)]
    made[0]["messages"][1]["content"] = "Message: <<half an emoji \ud83d>>\nWhich label fits it?"
    made[1]["choices"][0]["message"]["content"] = f'{{"label": "shipping", "confidence": {big}}}'
    made[2]["choices"][0]["logprobs"] = {"content": [{"token": "technical", "logprob": big}]}
    made[3]["response_cost"], made[4]["response_cost"] = 1e308, -1
    found = read("log.jsonl", lines(made))
    assert found.table["text"][0] == "half an emoji \ufffd"
    assert found.table["llm_label"].str.lower().tolist() == LABELS
    assert found.table["llm_cost"].tolist() == ["0.001"] * N
    assert float(found.table["llm_confidence"][1]) == 0.5  # the mean of the others
    for name in (f"attributes.llm.{many}", "attributes." + "a." * 5_000):
        spans = [{**phoenix(i, answer(label)), name: 1} for i, label in enumerate(LABELS)]
        assert read("log.jsonl", lines(spans)).table["llm_label"].str.lower().tolist() == LABELS


def test_a_log_that_classifies_nothing_says_so():
    with pytest.raises(DatasetError, match=r"of no classification.*only 0 of 30 answers"):
        read("log.jsonl", content_of(plain, [f"Dear customer {i}, …" for i in range(N)]))
    with pytest.raises(DatasetError, match=r"of no classification.*hardly repeat"):
        read("log.jsonl", content_of(plain, [json.dumps({"label": f"kind {i}"}) for i in range(N)]))
    with pytest.raises(DatasetError, match="of no classification"):
        read("log.jsonl", content_of(plain, [None] * N))
    with pytest.raises(DatasetError, match="4 calls only"):
        read("log.jsonl", content_of(plain, [answer("a")] * 4))


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": t, "label": a} for t, a in zip(TEXTS, LABELS, strict=True)],
        [
            {"text": t, "category": a, "response": "Dear customer, thank you"}
            for t, a in zip(TEXTS, LABELS, strict=True)
        ],
        [{"input": t, "output": a} for t, a in zip(TEXTS, LABELS, strict=True)],
    ],
)
def test_a_table_is_no_log(rows):
    found = read("table.jsonl", lines(rows))
    assert found.log is None
    assert list(found.table.columns) == list(rows[0])


def test_a_prompt_is_cut_at_its_end_and_not_within_the_texts():
    texts = [f"Text: {t}" for t in ("I like it", "I do not", "In no way", "I may")]
    assert without_template(texts)[0] == texts  # too little to be a prompt
    framed = [f"Please sort this message. Text: {t}\nAnswer:" for t in ("I like it", "I do not", "In no way", "I may")]
    assert without_template(framed)[0] == ["I like it", "I do not", "In no way", "I may"]
    cut, notes = without_template([*(request(t)["messages"][1]["content"] for t in TEXTS), "no prompt at all"])
    assert cut == [*TEXTS, "no prompt at all"]
    assert "1 message has it not" in notes[0].done


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log in which one model answered easy texts, now and then at random."""
    frame, rng = labelled(400), np.random.default_rng(5)
    said = np.where(rng.random(len(frame)) < 0.03, "billing", frame["label"])
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    spread = 86_400 / 20  # seconds between calls
    records = [
        {**litellm(0, answer(a)), **request(t), "id": f"c{i}", "startTime": START + i * spread}
        for i, (t, a) in enumerate(zip(frame["text"], said, strict=True))
    ]
    path.write_bytes(lines(records))
    return path


@pytest.fixture(scope="module")
def fitted(log):
    return open_log([log]).fit()


def test_the_llm_is_the_truth_and_a_tier_that_costs(fitted):
    assert fitted.dataset.teacher == fitted.dataset.agreement_with == "gpt-4o-mini"
    assert fitted.accuracy("test")["gpt-4o-mini"] == 1.0
    assert fitted.llm.price == pytest.approx(0.001)
    assert fitted.terms.volume == pytest.approx(20 * 365.25 / 12, abs=1)
    assert fitted.usual_goal().floor == 0.95
    assert not [n for n in fitted.notes if "too good to be true" in n.done]
    assert not [g for g in fitted.tiers if g.kind == "gate" and "gpt" in g.name]  # it is always right


def test_what_is_scanned_is_what_replay_says_and_is_certified(fitted, own_fitted):
    found = scan(fitted, min_agreement=0.9)
    assert found.certified
    on = fitted.measure(found.policy, "test")
    assert found.share == pytest.approx(1 - on.outcomes.asked[:, 1].mean())
    assert found.saving == pytest.approx(found.share * found.llm_month)
    tune = fitted.graded(found.policy.names, "tune")
    wrong = (tune.outcomes(found.policy).label != tune.truth).sum()
    assert wrong / len(tune) <= 0.1
    assert scan(fitted, min_agreement=0.9, of="answered").share <= found.share
    with pytest.raises(StudyError, match="lies between 0 and 1"):
        scan(fitted, min_agreement=95)
    with pytest.raises(StudyError, match="not an LLM's answers"):
        scan(own_fitted)


def test_the_command_prints_the_number_and_keeps_the_project(log, tmp_path, capsys):
    folder = str(tmp_path / "kept")
    assert main(["scan", str(log), "--min-agreement", "0.9", "--json", "--project", folder]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["certified"]
    assert said["usd_a_month"]["saved"] == pytest.approx(said["share_without_llm"] * said["usd_a_month"]["llm"])
    again = Study.open(folder)
    assert again.policy.names == ("classifier", "gpt-4o-mini")
    assert again.dataset.teacher == "gpt-4o-mini"
    assert main(["scan", str(log), "--project", folder]) == 2
    assert "holds a project already" in capsys.readouterr().err


def test_a_table_of_texts_and_answers_is_scanned_too(tmp_path, capsys):
    frame = labelled(200).rename(columns={"label": "category"})
    frame.to_csv(tmp_path / "log.csv", index=False)
    study = open_log([tmp_path / "log.csv"], model="gpt-x", price=0.002)
    assert study.columns.agreement_with == study.columns.teacher.name == "gpt-x"
    assert study.columns.teacher.price == 0.002
    frame["llm_label"] = frame["category"]
    frame.to_csv(tmp_path / "both.csv", index=False)
    both = open_log([tmp_path / "both.csv"])
    assert both.columns.label == "llm_label"
    assert any("'category' is not read" in n.what for n in both.joined)
    (tmp_path / "half.jsonl").write_bytes(lines([{"custom_id": "q", "body": request("hi")}]))
    assert main(["scan", str(tmp_path / "half.jsonl")]) == 2
    assert "name the file with its replies as well" in capsys.readouterr().err


def test_the_page_joins_the_halves_and_says_whose_answers_these_are():
    asked = lines({"custom_id": f"q{i}", "body": request(t)} for i, t in enumerate(TEXTS))
    said = lines({"custom_id": f"q{i}", "response": {"body": reply(i, answer(a))}} for i, a in enumerate(LABELS))
    at = open_page()
    at.file_uploader(key="upload").upload("in.jsonl", asked).run()
    assert any("holds the requests of 30 calls. Add the file with the replies" in i.value for i in at.info)
    at.file_uploader(key="upload_half").upload("out.jsonl", said).run()
    assert not at.exception
    draft = at.session_state["draft"]
    assert draft.study.columns.teacher.name == "gpt-4o-mini-2024-07-18"
    assert any("These labels are gpt-4o-mini-2024-07-18's answers" in w.value for w in at.warning)
    assert not [s for s in at.selectbox if str(s.key).startswith("ask.")]  # a log need not be asked about
    people = next(t.key for t in at.toggle if ".people." in t.key)
    at.toggle(key=people).set_value(True).run()
    assert draft.study.columns.teacher is None  # then it is no tier either
    at.toggle(key=people).set_value(False).run()
    assert draft.study.columns.teacher is not None
    assert draft.study.columns.agreement_with == "gpt-4o-mini-2024-07-18"


def test_the_card_says_how_much_of_the_log_needs_no_llm(fitted):
    classifier, llm = (fitted.column(n)[0] for n in ("classifier", "gpt-4o-mini"))
    policy = Policy(Triage(0.3), (classifier, llm))
    found = fitted.recommend(policies=[policy])
    said = answer_of(fitted, found)
    assert said.kind == "saves"
    without = 1 - said.measured.escalation_rate.value
    assert headline(fitted, said).startswith(f"{without:.0%} of this log can be answered without gpt-4o-mini: ")
    worse = answer_of(fitted, found, Policy(Triage(0.0), (classifier, llm)))
    assert (worse.kind == "saves") == (worse.measured.accuracy.high >= 0.95)
