"""What real servers say instead of an answer, by kind: a class comes out, a refusal, or a failure in their words."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Usage
from llm_server import KEY, completion
from test_llm import ask, settings

from hybrid.routing.table import UNKNOWN
from hybrid.tiers.llm.client import CallError
from hybrid.tiers.llm.completions import read_body, read_reply
from hybrid.tiers.llm.prices import _price_of, price
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.refusals import error_in, read_refusal, status_in
from hybrid.tiers.llm.replies import OK, Reply, check_label, read_gate, read_label
from hybrid.tiers.llm.tier import cost_of

CLASSES = ["billing", "shipping", "technical"]
SHIPPING = '{"label": "shipping"}'
SENT = {"model": "m", "messages": [], "temperature": 0, "max_tokens": 100, "logprobs": True, "response_format": {}}


def openai(message, code=None, param=None, **more):
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": param, **more}}


def google(message, status="INVALID_ARGUMENT", **more):
    return [{"error": {"code": 400, "message": message, "status": status, **more}}]


# status, body, and the parameter that the model is then asked without
PARAMETERS = [
    (403, openai("This model may not be asked for logprobs"), "logprobs"),
    (400, google("Logprobs is disabled for models/x"), "logprobs"),
    (422, {"object": "error", "message": {"detail": [{"loc": ["body", "logprobs"], "msg": "Extra"}]}}, "logprobs"),
    (422, {"detail": [{"type": "extra", "loc": ["body", "temperature"], "msg": "not permitted"}]}, "temperature"),
    (400, google("The schema has too many states to be served."), "response_format"),
    (400, openai("Invalid schema for response_format 'label': too many enum values"), "response_format"),
    (500, openai("failed to load the vocabulary required for format"), "response_format"),
    (501, "structured outputs: the grammar backend is not built in", "response_format"),
    (400, {"detail": "Structured outputs are not implemented"}, "response_format"),
    (400, {"error": "TEMPERATURE is fixed for this model"}, "temperature"),
    (400, openai("Only the default is supported.", "unsupported_value", "temperature"), "temperature"),
    (400, openai("Use max_completion_tokens", "unsupported_parameter", "max_tokens"), "max_tokens"),
    (404, openai("No endpoints found that can handle the requested parameters."), "logprobs"),
    (400, '{"message": "{\\"error\\": {\\"message\\": \\"json_schema unknown\\"}}"}', "response_format"),
]

# status, body, kind
REFUSALS = [
    (401, openai("nope"), "auth"),
    (400, google("API key not valid. Please pass another."), "auth"),
    (400, {"code": "Client error", "error": "Incorrect API key provided: xx"}, "auth"),
    (403, {"error": {"message": "Your API key has expired"}}, "auth"),
    (402, openai("Insufficient Balance"), "quota"),
    (400, openai("Your credit balance is too low."), "quota"),
    (429, openai("Billing hard limit has been reached", "billing_hard_limit_reached"), "quota"),
    (429, openai("over", "insufficient_quota"), "quota"),
    (403, {"error": {"message": "Access denied: the account is in arrears"}}, "quota"),
    (403, openai("Country, region, or territory not supported", "unsupported_country_region_territory"), "country"),
    (400, google("User location is not supported for the API use.", "FAILED_PRECONDITION"), "country"),
    (451, "Unavailable For Legal Reasons", "country"),
    (403, openai("no"), "forbidden"),
    (404, openai("Your organization must be verified to use this model", "model_not_found"), "forbidden"),
    (403, google("caller does not have access to the model", "PERMISSION_DENIED"), "forbidden"),
    (400, openai("filtered", "content_filter", "prompt", innererror={"code": "ResponsibleAIPolicy"}), "refusal"),
    (400, openai("Your prompt was flagged as violating our usage policy.", "invalid_prompt"), "refusal"),
    (403, {"error": {"message": "Input was flagged", "metadata": {"reasons": ["harassment"]}}}, "refusal"),
    (400, {"error": {"code": "data_inspection_failed", "message": "inappropriate content"}}, "refusal"),
    (400, openai("the request exceeds the available context size, try increasing it"), "context_too_long"),
    (400, openai("prompt is too long: 212000 tokens > 200000 maximum"), "context_too_long"),
    (400, google("The input token count (1200000) exceeds the maximum number of tokens allowed."), "context_too_long"),
    (413, "<html><h1>Payload too large</h1></html>", "context_too_long"),
    (400, {"message": "maximum context length is 10 tokens. However, you requested 99 (98 in the messages, 1 in "
           "the completion)."}, "context_too_long"),
    (429, openai("slow", "rate_limit_exceeded"), "rate_limit"),
    (429, google("You exceeded your current quota.", "RESOURCE_EXHAUSTED"), "rate_limit"),
    (400, {"detail": "Too many requests for this key"}, "rate_limit"),
    (429, openai("Request too large: Limit 30000 tokens per min, Requested 45000."), "too_large"),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "server"),
    (500, "oops", "server"),
    (404, b"404 page not found".decode(), "not_found"),
    (404, openai("This is not a chat model. Did you mean v1/completions?"), "not_found"),
    (404, {"error": {"code": "DeploymentNotFound", "message": "no such deployment"}}, "not_found"),
    (307, "", "redirect"),
    (400, openai("something else"), "bad_request"),
    (400, openai("Invalid model: m", "1500"), "not_found"),
    (422, openai("`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs`"), "context_too_long"),
    (400, {"error": {"code": "1301", "message": "系统检测到输入内容可能包含不安全或敏感内容"}}, "refusal"),
    (429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}, "quota"),
    (400, {}, "bad_request"),
    (400, [], "bad_request"),
    (400, [[[[[[[[[[[["deep"]]]]]]]]]]]], "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "parameter"), PARAMETERS)
def test_a_refused_parameter_is_found_in_any_body(status, body, parameter):
    body = json.loads(body) if isinstance(body, str) and body.startswith("{") else body
    found = read_refusal(status, body, SENT)
    assert found.parameter == parameter
    assert found.says
    left = {k: v for k, v in SENT.items() if k != parameter}
    assert read_refusal(status, body, left).parameter != parameter  # it is not looked for where it was not sent


@pytest.mark.parametrize(("status", "body", "kind"), REFUSALS)
def test_refusals_are_told_apart(status, body, kind):
    found = read_refusal(status, body, {"model": "m", "messages": []})
    assert (found.kind, found.parameter) == (kind, None)


def test_what_a_server_repeats_of_the_text_decides_nothing():
    echo = {"detail": [{"loc": ["body"], "msg": "no", "input": "my api key is invalid, logprobs, credit balance"}]}
    assert read_refusal(400, echo, SENT).kind == "bad_request"
    assert read_refusal(400, echo, SENT).parameter is None


def test_words_of_a_server_are_one_short_line_without_hidden_signs():
    says = read_refusal(400, openai("a\n\u202eb\u200b" + "x" * 9999), {}).says
    assert says.startswith("a b x")
    assert len(says) == 300


def test_a_reply_that_may_be_too_long_is_asked_for_shorter(server):
    body = openai("max_tokens is too large: 100000. This model supports at most 16384 tokens.", None, "max_tokens")
    server.control(script=[{"status": 400, "body": body}])
    assert ask(settings(server, max_tokens=100_000), times=2).kind == OK
    assert [b["max_tokens"] for b in server.served()["bodies"]] == [100_000, 16_384, 16_384]
    left = (
        "The context length is 4096 tokens. You requested 100150 tokens (150 in the messages, 100000 in the completion)"
    )
    assert read_refusal(400, {"message": left}, SENT | {"max_tokens": 100_000}).most == 4096 - 150
    assert read_refusal(400, {"message": left}, SENT).kind == "context_too_long"  # a shorter reply would not help


def test_parameters_are_dropped_one_by_one_remembered_and_said(server):
    script = [
        {"status": 400, "body": openai("no", None, "max_tokens"), "having": "max_tokens"},
        {"status": 400, "body": openai("no", None, "temperature"), "having": "temperature"},
        {"status": 403, "body": openai("You may not request logprobs"), "having": "logprobs"},
    ]
    server.control(script=script)
    reply = ask(settings(server))
    assert (reply.kind, reply.without) == (OK, ("logprobs", "max_tokens", "temperature"))
    assert ask(settings(server)).without == reply.without  # another client of the process knows it
    assert server.served()["calls"] == 5


def test_a_filtered_text_is_a_refusal_with_the_words_of_the_filter(server):
    server.control(always={"status": 400, "body": openai("blocked by our policy", "content_filter")})
    reply = ask(settings(server))
    assert (reply.kind, reply.probability) == ("refusal", None)
    assert "blocked by our policy" in reply.content
    assert reply.guessed
    assert reply.prompt_tokens > 0


@pytest.mark.parametrize("key", ["error", "choice", "null"])
def test_an_error_inside_a_reply_of_200_is_no_answer(server, key):
    error = {"message": "upstream is gone", "code": 502}
    body = {
        "error": {"error": error, "user_id": "u"},
        "choice": {"choices": [{"error": error, "finish_reason": "error", "message": {"content": ""}}]},
        "null": {"choices": None, "error": error},
    }[key]
    server.control(always={"body": body})
    with pytest.raises(CallError) as caught:
        ask(settings(server, retries=0))
    assert (caught.value.kind, caught.value.lost) == ("server", 0)
    assert "upstream is gone" in str(caught.value)


def test_an_error_of_200_is_read_by_its_code():
    assert status_in(error_in({"error": {"code": "429", "message": "x"}})) == 429
    assert status_in(error_in({"error": "oops"})) == 502
    assert error_in(completion(SHIPPING)) is None


@pytest.mark.parametrize(
    "raw",
    [
        "\n\n: STILL WORKING\n\n" + json.dumps(completion(SHIPPING)),
        "   \n" + json.dumps(completion(SHIPPING)),
        f"data: {json.dumps({'choices': [{'delta': {'content': SHIPPING}}]})}\n\ndata: [DONE]\n\n",
        "".join(f"data: {json.dumps({'choices': [{'delta': {'content': c}}]})}\n\n" for c in SHIPPING),
    ],
)
def test_a_body_is_read_through_comments_and_events(raw):
    reply = read_reply(read_body(raw.encode()), SENT, lambda said: check_label(said, CLASSES), 0.1)
    assert (reply.kind, read_label(reply.content, CLASSES)) == (OK, 1)


@pytest.mark.parametrize(
    "content",
    [
        '{"label": "Shipping"}',
        '[{"label": "shipping"}]',
        '{"label": ["shipping"]}',
        '["shipping"]',
        '"shipping"',
        SHIPPING + "\n" + SHIPPING,
        "It is about {parcels}: " + SHIPPING,
        "Here, for {your text}:\n```json\n" + SHIPPING + "\n```\nAnything else {dear}?",
        '{"label": "shipping",}',
        "{'label': 'shipping'}",
        "{“label”: “shipping”}",
        '{"Label": "shipping", "reason": "x"}',
        '{"category": "shipping", "confidence": 0.9}',
        '{"result": {"label": "shipping"}}',
        '{"label": "shipping: parcels and the like"}',
        '{"label": "shipping\u200b\u00a0"}',
        "<think>billing?</think>" + SHIPPING,
        'Well, {"label": "billing"} it is not.</think>' + SHIPPING,
        "<reasoning>{label}</reasoning>" + SHIPPING,
        SHIPPING + "<think>was that right?</think>",
        "<|channel|>analysis<|message|>billing?<|end|><|start|>assistant<|channel|>final<|message|>" + SHIPPING,
        "**shipping**",
        "Label: shipping",
        "The class is: **Shipping**.",
        'The text belongs to the class "shipping".',
        "label = 'shipping'",
        '{"label": shipping}',
        "{label: shipping, confidence: high}",
        "Category: Shipping\nReason: a parcel is late",
        "**Label:** shipping",
        "<answer>shipping</answer>",
        "so the answer is \\boxed{\\text{shipping}}",
        '{"labels": ["shipping"], "confidence": 1}',
        '{"shipping": 0.9, "billing": 0.1}',
        '{"thought": "a {parcel}", "n": 1} ' + SHIPPING,
        "2. shipping",
        "- Shipping",
        "### Answer\nshipping",
        "shipping\n\nIt asks for a parcel, and not about billing.",
        "Catégorie : shipping",
        "shipping (sure: 0.95)",
        "shipping - as the parcel is late",
    ],
)
def test_a_label_is_read_where_a_person_would_read_one(content):
    assert read_label(content, CLASSES) == 1


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"label": "shipping"} {"label": "billing"}', "unknown_label"),
        ('This is not "shipping".', "unknown_label"),
        ("shipping or billing", "unknown_label"),
        ('{"label": null}', "unknown_label"),
        ('{"shipping": 0.5, "billing": 0.5}', "unknown_label"),
        ("Category: shipping\nCategory: billing", "unknown_label"),
        ("the parcel's label: none, I think shipping", "unknown_label"),
        ('{"label": ["shipping", "billing"]}', "unknown_label"),
        ("Some classes:\n- shipping\n- billing", "unknown_label"),
        ("shipping - or rather billing", "unknown_label"),
        ('{"label": ', "malformed"),
        ("[" * 1000, "malformed"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I cannot classify this text.", "refusal"),
        ("Unfortunately, I am not able to do so.", "refusal"),
    ],
)
def test_what_a_person_would_not_read_is_not_guessed_at(content, kind):
    assert check_label(content, CLASSES) == kind


@pytest.mark.parametrize(
    ("content", "classes", "code"),
    [
        ('{"label": 2}', ["1", "2"], 1),
        ('{"label": 2.0}', ["1", "2"], 1),
        ("2", ["1.0", "2.0"], 1),
        ('{"label": false}', ["True", "False"], 1),
        ('{"label": "C#"}', ["C", "C++"], UNKNOWN),
        ('{"label": "C"}', ["C#", "C++"], UNKNOWN),
        ('{"label": "1.5"}', ["15", "1"], UNKNOWN),
        ('{"label": -1}', ["1", "-1"], 1),
        ('{"label": "दिन"}', ["दान", "दीन"], UNKNOWN),
        ('{"label": "cafe\u0301"}', ["bar", "caf\u00e9"], 1),
        ('{"label": "card arrival"}', ["card_arrival", "card_lost"], 0),
    ],
)
def test_labels_are_matched_as_they_are_in_files(content, classes, code):
    assert read_label(content, classes) == code


def message(**given):
    return {"choices": [{"message": {"role": "assistant", "content": None, **given}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (message(content=[{"type": "text", "text": SHIPPING}]), OK),
        (message(content=[{"type": "thinking", "thinking": []}, {"type": "text", "text": SHIPPING}]), OK),
        (message(tool_calls=[{"function": {"name": "json", "arguments": SHIPPING}}]), OK),
        (message(function_call={"arguments": SHIPPING}), OK),
        (message(reasoning_content=SHIPPING), OK),
        (message(reasoning=f"so: {SHIPPING}", content=""), OK),
        (message(reasoning="the user talks about shipping", content=""), "empty"),
        (message(refusal="no"), "refusal"),
        ({"choices": [{"message": {"content": SHIPPING}, "finish_reason": "SAFETY"}]}, "refusal"),
        ({"choices": [{"message": {"content": "<think>hm"}, "finish_reason": "length"}]}, "truncated"),
        ({"choices": [{"message": {"reasoning_content": SHIPPING}, "finish_reason": "length"}]}, "truncated"),
    ],
)
def test_an_answer_is_found_in_any_field(data, kind):
    reply = read_reply(data, SENT, lambda said: check_label(said, CLASSES), 0.1)
    assert reply.kind == kind
    assert kind != OK or read_label(reply.content, CLASSES) == 1


def test_of_an_endless_reply_the_end_is_kept():
    endless = completion("x" * 300_000 + SHIPPING)
    reply = read_reply(endless, SENT, lambda said: check_label(said, CLASSES), 0.1)
    assert len(reply.content) == 200_000
    assert read_label(reply.content, CLASSES) == 1


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 100.0, "completion_tokens": 10.0}, (100, 10, False, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (8, 7, True, 0)),
        ({"prompt_tokens": 100, "total_tokens": 100}, (100, 7, True, 0)),
        ({"prompt_tokens": None, "completion_tokens": None}, (8, 7, True, 0)),
        ({"prompt_tokens": 10**400, "completion_tokens": -1}, (8, 7, True, 0)),
        ({"prompt_tokens": "many", "completion_tokens": True}, (8, 7, True, 0)),
        ({"input_tokens": 50, "output_tokens": 5}, (50, 5, False, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 400}, (100, 300, False, 0)),
        (
            {"prompt_tokens": 90, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 80}},
            (90, 1, False, 80),
        ),
        ({"prompt_tokens": 90, "completion_tokens": 1, "prompt_cache_hit_tokens": 64}, (90, 1, False, 64)),
    ],
)
def test_usage_is_what_was_counted_and_never_nothing(usage, expected):
    sent = {"messages": [{"content": "x" * 12}]}
    reply = read_reply({**completion(SHIPPING), "usage": usage}, sent, lambda said: check_label(said, CLASSES), 0.1)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.guessed, reply.cached_tokens) == expected


TOKEN = {"token": SHIPPING, "bytes": list(SHIPPING.encode()), "logprob": -0.1}


@pytest.mark.parametrize(
    ("token", "probability"),
    [
        (TOKEN, pytest.approx(0.904837)),
        ({**TOKEN, "bytes": None}, pytest.approx(0.904837)),
        ({**TOKEN, "logprob": 1e-7}, 1.0),
        ({**TOKEN, "logprob": 5000}, None),
        ({**TOKEN, "logprob": -9999.0}, None),
        ({**TOKEN, "logprob": 10**400}, None),
        ({**TOKEN, "logprob": "-0.1"}, None),
        ({**TOKEN, "bytes": 10**13}, pytest.approx(0.904837)),
        ({**TOKEN, "bytes": [10**13]}, pytest.approx(0.904837)),
        (None, None),
    ],
)
def test_log_probabilities_are_probabilities_or_none(token, probability):
    reply = read_reply(completion(SHIPPING, logprobs=[token]), SENT, lambda said: check_label(said, CLASSES), 0.1)
    assert (reply.kind, reply.probability) == (OK, probability)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"tier": "regex", "reasoning": "a date", "estimated_difficulty": 1}', ("regex", 1, 0.975)),
        ('{"tier": "large_llm", "reasoning": "vague", "estimated_difficulty": 5}', ("large_llm", 5, 0.025)),
        ('{"tier": "Small LLM", "estimated_difficulty": "3/5"}', ("small_llm", 3, 0.375)),
        ('{"tier": "cheap", "difficulty": 1.0}', ("cheap", 1, 0.95)),
        ('<think>{"tier": "llm", "difficulty": 5}</think>{"Tier": "cheap", "Difficulty": 1}', ("cheap", 1, 0.95)),
        ('{"tier": "gpt-5", "difficulty": 2}', ("gpt-5", 2, pytest.approx(0.3))),
    ],
)
def test_a_gate_is_read_in_the_forms_that_prompts_ask_for(content, expected):
    said = read_gate(content, ("rules", "mini", "gpt-5"))
    if said.tier == "gpt-5":
        expected = (*expected[:2], pytest.approx(round((0.1 + 0.2 * 3) / 3, 9)))
    assert (said.tier, said.difficulty, said.score) == expected


def test_organisation_headers_and_keys_stay_with_their_own_server(server, monkeypatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: of-openai")
    ask(settings(server, headers={"X-Mine": "a", "api-key": "{key}"}, query={"api-version": "1"}))
    head = server.served()["heads"][-1]
    assert "of-openai" not in repr(head)
    assert (head["x-mine"], head["api-key"], head["path"]) == ("a", KEY, "/v1/chat/completions?api-version=1")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    ask(settings(server))
    assert server.served()["heads"][-1]["x-team"] == "of-openai"  # whoever runs it said that this server is meant


@pytest.mark.parametrize("status", [301, 307, 308])
def test_no_redirect_is_followed(server, status):
    server.control(script=[{"status": status, "body": "", "headers": {"Location": f"{server.url}/elsewhere"}}])
    with pytest.raises(CallError) as caught:
        ask(settings(server))
    assert caught.value.kind == "redirect"
    assert f"{server.url}/elsewhere" in str(caught.value)
    assert server.served()["calls"] == 1


def test_half_an_emoji_in_a_text_costs_no_other(server):
    assert ask(settings(server), text="my shipping \ud83d is late").kind == OK
    assert "\ufffd" in server.served()["bodies"][-1]["messages"][-1]["content"]


def test_free_parameters_are_in_the_question(server):
    given = {"reasoning_effort": "low", "temperature": None, "max_completion_tokens": 50}
    ask(settings(server, parameters=given))
    body = server.served()["bodies"][-1]
    assert body["reasoning_effort"] == "low"
    assert body["max_completion_tokens"] == 50
    assert not {"temperature", "max_tokens"} & set(body)
    one, other = settings(server), settings(server, query={"api-version": "2"})
    request = one.request("x", CLASSES)
    assert one.question_key(request) != other.question_key(request)


@pytest.mark.parametrize(
    ("model", "url", "base"),
    [
        ("claude-sonnet-4-5", "https://api.anthropic.com/v1", (3.0, 15.0)),
        ("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai/", (1.25, 10.0)),
        ("gpt-4o-mini", "https://api.openai.com/v1", (0.15, 0.6)),
    ],
)
def test_a_price_is_that_of_a_call_of_real_size(model, url, base):
    found = price(model, url)
    assert (found.input, found.output) == base
    assert found == price(model)
    long = LLMSettings("llm", model, base_url=url, input_price=base[0], output_price=base[1], steps=found.steps)
    assert long.cost(1_000, 10) == pytest.approx((1_000 * base[0] + 10 * base[1]) / 1e6)
    if found.steps:
        above, inwards, outwards, _ = found.steps[0]
        assert long.cost(above, 10) == pytest.approx((above * base[0] + 10 * base[1]) / 1e6)
        assert long.cost(above + 1, 10) == pytest.approx(((above + 1) * inwards + 10 * outwards) / 1e6)
        assert f"{above:,}" in found.note


def test_every_price_of_the_table_is_what_its_makers_code_takes_for_the_call():
    now, n_checked = datetime.now(UTC), 0
    for info in (m for p in get_snapshot().providers for m in p.models):
        found, theirs = _price_of(info, now), info.get_prices(now)
        if found is None:
            continue
        for prompt, cached in ((1_000, 0), (150_000, 900), (900_000, 0)):
            cached = 0 if theirs.cache_read_mtok is None else cached
            cost = theirs.calc_price(Usage(input_tokens=prompt, output_tokens=50, cache_read_tokens=cached))
            each = 0 if theirs.requests_kcount is None else theirs.requests_kcount / 1000
            assert found.cost(prompt, 50, cached) == pytest.approx(float(cost["total_price"] - each)), info.id
            assert bool(each) == ("Each request costs" in found.note)
        n_checked += 1
    assert n_checked > 1_000


def test_cached_tokens_cost_what_they_cost():
    llm = LLMSettings("llm", "m", input_price=1.0, cached_price=0.1, output_price=2.0)
    assert llm.cost(2_000, 10, 1_500) == pytest.approx((500 + 150 + 20) / 1e6)
    assert replace(llm, cached_price=None).cost(2_000, 10, 1_500) == pytest.approx(2_020 / 1e6)
    assert cost_of(llm, Reply(OK, "", None, 2_000, 10, cached_tokens=1_500)) == llm.cost(2_000, 10, 1_500)


def test_a_price_that_depends_on_the_hour_says_so():
    assert "depends on the hour" in price("deepseek-chat", "https://api.deepseek.com").note
    assert price("no-such-model") is None
