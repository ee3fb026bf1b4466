"""Checking: numbers at the edge of what can be are taken, and the next beyond it is refused with its place."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hybrid.errors import BundleError
from hybrid.production.checking import check_confidence, check_llm, check_model, check_names
from hybrid.tiers.calibration import Calibrator, ConfidenceCalibrator
from hybrid.tiers.classifier import FastClassifier
from hybrid.tiers.confidence import SIGNALS, LearnedConfidence
from hybrid.tiers.embedders import EndpointEmbedder
from hybrid.tiers.embedding import AveragedClassifier, EmbeddingClassifier
from hybrid.tiers.gate import TrainedGate
from hybrid.tiers.llm.examples import Examples
from hybrid.tiers.llm.questions import LLMSettings
from hybrid.tiers.llm.tier import LLMTier
from hybrid.tiers.rules import Rule, Rules
from hybrid.tiers.scope import EmbeddingScope, WordScope

N = 3  # classes
NAN, INF = float("nan"), float("inf")


def line(**more):
    return ConfidenceCalibrator(**more)


def words(n=2, n_classes=N, **more):
    numbers = {"weights": np.zeros((n, n_classes), np.float32), "bias": np.zeros(n_classes, np.float32)} | more
    terms = numbers.pop("terms", tuple("abcdef"[:n]))
    return FastClassifier(terms, numbers.pop("idf", np.ones(n)), **numbers)


def embedding(**more):
    numbers = {"weights": np.zeros((2, N), np.float32), "bias": np.zeros(N, np.float32)} | more
    return EmbeddingClassifier(EndpointEmbedder("m", "http://127.0.0.1:9/v1"), **numbers)


def rules(*given):
    return Rules(tuple(given))


def word_scope(**more):
    numbers = {
        "terms": ("a", "b"),
        "idf": np.array([0.0, 1.0]),
        "unseen": 0.0,
        "data": np.ones(1),
        "indices": np.zeros(1, np.int32),
        "indptr": np.array([0, 1], np.int32),
        "distances": np.array([0.0, 0.5, 0.5, 2.0]),
    }
    return WordScope(**numbers | more)


def embedding_scope(**more):
    endpoint = EndpointEmbedder("m", "http://127.0.0.1:9/v1")
    return EmbeddingScope(**{"embedder": endpoint, "known": np.ones((1, 2)), "distances": np.zeros(1)} | more)


def with_line(**more):
    return words(calibrator=Calibrator(1.0, line(**more)))


FALLING = {"method": "isotonic", "said": (0.5, 0.4), "meant": (0.0, 1.0)}
LINES = [  # a line of confidence, and what is said of it where it cannot be
    (line(), None),
    (line(temperature=1e-3), None),
    (line(temperature=0.0), "m.temperature = 0.0 must be above 0"),
    (line(temperature=-1.0), "m.temperature = -1.0 must be above 0"),
    (line(method="magic"), "nothing here calibrates by 'magic'"),
    (line(method="constant", constant=0.0), None),
    (line(method="constant", constant=1.0), None),
    (line(method="constant", constant=1.01), "no rising line"),
    (line(constant=-0.01), "no rising line"),
    (line(method="constant", temperature=0.5), None),
    (line(method="beta", powers=(0.0, 2.0)), None),
    (line(method="beta", powers=(1.0,)), "has the powers"),
    (line(method="beta", powers=(1.0, 1.0, 1.0)), "has the powers"),
    (line(method="beta", powers=(1.0, -0.1)), "has the powers"),
    (line(method="isotonic", said=(0.5,), meant=(0.0,)), None),
    (line(method="isotonic", said=(0.5, 0.5), meant=(0.0, 1.0)), None),
    (line(method="venn_abers", said=(0.1, 0.5), meant=(0.3, 0.3)), None),
    (line(method="isotonic"), "0 points on one axis and 0 on the other"),
    (line(method="venn_abers", said=(0.1, 0.2), meant=(0.5,)), "2 points on one axis and 1 on the other"),
    (line(method="venn_abers", said=(0.1,), meant=(0.5, 0.6)), "1 points on one axis and 2 on the other"),
    (line(method="isotonic", said=((0.1,),), meant=((0.5,),)), "1 points on one axis and 1 on the other"),
    (line(**FALLING), "no rising line"),
    (line(method="isotonic", said=(0.5, 0.6), meant=(0.0, 1.1)), "no rising line"),
    (line(method="isotonic", said=(0.5, 0.6), meant=(-0.1, 1.0)), "no rising line"),
]
MODELS = [
    (rules(Rule("a", 0, 4, 4, 1.0), Rule("b", N - 1, 0, 0, 0.0)), None),
    (rules(Rule("a", N, 4, 3, 0.5)), "'a' has the label 3, which is the code of no class"),
    (rules(Rule("a", -1, 4, 3, 0.5)), "'a' has the label -1"),
    (rules(Rule("a", True, 4, 3, 0.5)), "has the label True"),
    (rules(Rule("a", 0, 4, True, 0.5)), "has the label 0"),
    (rules(Rule(7, 0, 4, 3, 0.5)), "the rule 7 has the label 0"),
    (rules(Rule("a", 0, 4, 5, 0.5)), "right 5 of 4 times"),
    (rules(Rule("a", 0, 4, -1, 0.5)), "right -1 of 4 times"),
    (rules(Rule("a", 0, 4, 3, 1.1)), "a confidence of 1.1"),
    (rules(Rule("a", 0, 4, 3, -0.1)), "a confidence of -0.1"),
    (rules(Rule("a", 0, 4, 3, NAN)), "m.rules.confidence holds a number that is not finite"),
    (Rules((), latency=-1.0), "m.latency = -1.0 must be 0 or more"),
    (words(), None),
    (words(idf=np.array([0.0, 1.0])), None),
    (words(bias=np.array([0, -INF, 0], np.float32)), None),  # a class that was never seen
    (words(bias=np.array([0, INF, 0], np.float32)), "m.bias holds a number that is not finite"),
    (words(bias=np.array([0, NAN, 0], np.float32)), "m.bias holds a number that is not finite"),
    (words(bias=np.full(N, -INF, np.float32)), "no class can ever be its answer"),
    (words(terms=("a", "a")), "a term stands twice"),
    (words(idf=np.ones(3)), r"2 terms have inverse document frequencies of shape \(3,\)"),
    (words(idf=np.ones(1)), r"2 terms have inverse document frequencies of shape \(1,\)"),
    (words(idf=np.ones((2, 1))), r"2 terms have inverse document frequencies of shape \(2, 1\)"),
    (words(idf=np.array([1.0, -0.1])), "or below 0"),
    (words(weights=np.zeros((3, N), np.float32)), r"2 terms have weights of shape \(3, 3\)"),
    (words(weights=np.zeros((1, N), np.float32)), r"2 terms have weights of shape \(1, 3\)"),
    (words(weights=np.zeros(2, np.float32)), r"weights of shape \(2,\)"),
    (words(weights=np.zeros((2, N, 1), np.float32)), r"weights of shape \(2, 3, 1\)"),
    (words(n_classes=2), r"weights of shape \(2, 2\) and a bias of shape \(2,\) for 3 classes"),
    (words(bias=np.zeros(2, np.float32)), r"a bias of shape \(2,\)"),
    (words(bias=np.zeros(4, np.float32)), r"a bias of shape \(4,\)"),
    (words(bias=np.zeros((N, 1), np.float32)), r"a bias of shape \(3, 1\)"),
    (words(n_classes=4), r"weights of shape \(2, 4\)"),
    (words(weights=np.zeros((2, 4), np.float32)), r"weights of shape \(2, 4\) and a bias of shape \(3,\)"),
    (words(weights=np.full((2, N), -INF, np.float32)), "m.weights holds a number that is not finite"),
    (words(latency=-1.0), "m.latency = -1.0 must be 0 or more"),
    (words(idf=np.array(["1", "2"])), "m.idf is no number"),
    (words(calibrator=Calibrator(0.0)), r"m\.calibrator\.temperature = 0\.0 must be above 0"),
    (with_line(), None),
    (with_line(**FALLING), "no rising line"),
    (TrainedGate(words(n_classes=2)), None),
    (TrainedGate(words()), "for 2 classes"),
    (TrainedGate(words(n_classes=1)), "for 2 classes"),
    (TrainedGate(words(n_classes=2, calibrator=Calibrator(1.0, line(**FALLING)))), "no rising line"),
    (embedding(), None),
    (embedding(weights=np.zeros((2, 2), np.float32)), r"weights of shape \(2, 2\)"),
    (embedding(bias=np.zeros(2, np.float32)), r"a bias of shape \(2,\)"),
    (embedding(calibrator=Calibrator(1.0, line(**FALLING))), "no rising line"),
    (AveragedClassifier(words(), embedding()), None),
    (AveragedClassifier(words(terms=("a", "a")), embedding()), "a term stands twice"),
    (AveragedClassifier(words(), embedding(bias=np.full(N, -INF, np.float32))), "no class can ever"),
    (AveragedClassifier(with_line(**FALLING), embedding()), "no rising line"),
    (AveragedClassifier(words(), embedding(calibrator=Calibrator(1.0, line(**FALLING)))), "no rising line"),
    (AveragedClassifier(words(), embedding(), Calibrator(1.0, line(**FALLING))), "no rising line"),
    (word_scope(), None),
    (word_scope(terms=("a", "a")), "a word stands twice"),
    (word_scope(idf=np.array([-0.1, 1.0])), "weighs less than nothing"),
    (word_scope(unseen=-0.1), "weighs less than nothing"),
    (word_scope(distances=np.zeros(0)), r"no rising numbers within \[0, 2\]"),
    (word_scope(distances=np.zeros((1, 1))), "no rising numbers"),
    (word_scope(distances=np.array(0.5)), "no rising numbers"),
    (word_scope(distances=np.array([0.5, 0.4])), "no rising numbers"),
    (word_scope(distances=np.array([-0.1, 0.4])), "no rising numbers"),
    (word_scope(distances=np.array([0.1, 2.1])), "no rising numbers"),
    (embedding_scope(), None),
    (embedding_scope(known=np.zeros((0, 2))), r"known texts of shape \(0, 2\)"),
    (embedding_scope(known=np.zeros(2)), r"known texts of shape \(2,\)"),
    (embedding_scope(known=np.ones((1, 1, 2))), r"known texts of shape \(1, 1, 2\)"),
]


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_a_model_whose_numbers_do_not_fit_is_refused(number):
    model, says = MODELS[number]
    if says is None:
        check_model("m", model, N)
    else:
        with pytest.raises(BundleError, match=says):
            check_model("m", model, N)


def test_a_line_that_cannot_be_is_refused_wherever_it_stands():
    settings = LLMSettings("m", "model")
    for calibrator, says in LINES:
        for model, check in (
            (LLMTier(settings, ("a", "b"), calibrator), check_llm),
            (words(calibrator=Calibrator(1.0, calibrator)), lambda name, model: check_model(name, model, N)),
        ):
            if says is None:
                check("m", model)
            else:
                with pytest.raises(BundleError, match=says.replace("m.temperature", "temperature")):
                    check("m", model)


def test_an_llm_at_the_edge_is_taken_and_beyond_it_refused():
    settings = LLMSettings("m", "model")
    for usual in (0.0, 1.0):
        check_llm("m", LLMTier(settings, ("a", "b"), usual=usual))
    check_llm("m", LLMTier(settings, ("a", "b"), examples=Examples(("x", "y"), ("a", "a"))))
    for says, model in {
        "m.usual = -0.1 must be in": LLMTier(settings, ("a", "b"), usual=-0.1),
        "m.usual = 1.1 must be in": LLMTier(settings, ("a", "b"), usual=1.1),
        "m.usual holds a number that is not finite": LLMTier(settings, ("a", "b"), usual=NAN),
        "calls itself 'other'": LLMTier(replace(settings, name="other"), ("a", "b")),
        "examples of a class": LLMTier(settings, ("a", "b"), examples=Examples(("x",), ("c",))),
    }.items():
        with pytest.raises(BundleError, match=says):
            check_llm("m", model)


def learned(**more):
    """A confidence over its own score with a bend, a level and a shape: 2 + 1 + 2 numbers."""
    fields = {
        "signals": SIGNALS[:1],
        "knots": ((0.5,),),
        "levels": (0,),
        "shapes": (N - 1,),
        "weights": np.zeros(5),
        "bias": 0.0,
    }
    return LearnedConfidence(**fields | more)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (learned(), None),
        (learned(signals=SIGNALS, knots=((), (), ()), weights=np.zeros(7), reader=words()), None),
        (learned(signals=SIGNALS, knots=((), (), ()), weights=np.zeros(7)), "do not fit each other"),
        (
            learned(signals=SIGNALS, knots=((), (), ()), weights=np.zeros(7), reader=words(bias=np.zeros(2))),
            "reader: w",
        ),
        (learned(signals=("mood",)), "rests on mood, which is not known here"),
        (learned(knots=((0.5,), ())), "rests on own score"),
        (learned(levels=(-1,)), "a label that is the code of no class"),
        (learned(levels=(N,)), "a label that is the code of no class"),
        (learned(shapes=(True,)), "a label that is the code of no class"),
        (learned(shapes=(N,)), "a label that is the code of no class"),
        (learned(weights=np.zeros(4)), "do not fit each other"),
        (learned(weights=np.zeros(6)), "do not fit each other"),
        (learned(knots=()), "rests on own score"),
        (learned(weights=np.zeros((5, 1))), "do not fit each other"),
        (learned(weights=np.full(5, NAN)), "m.weights holds a number that is not finite"),
        (learned(bias=-INF), None),
        (learned(bias=INF), "m.bias holds a number that is not finite"),
        (learned(knots=((INF,),)), "m.knots holds a number that is not finite"),
    ],
)
def test_a_learned_confidence_that_does_not_fit_is_refused(model, says):
    if says is None:
        check_confidence("m", model, N)
    else:
        with pytest.raises(BundleError, match=says):
            check_confidence("m", model, N)


def test_names_are_written_once_and_can_be_read():
    check_names("tiers", ["a", "b", "x" * 2100])
    for names, says in (
        (["a", "b", "b"], "'b' stands twice among the tiers"),
        (["a", " "], "a name among the tiers is empty"),
        (["x" * 2101], "more than 2,100 characters.*HYBRID_MAX_LABEL"),
    ):
        with pytest.raises(BundleError, match=says):
            check_names("tiers", names)


@dataclass
class Held:
    """Whatever a model may hold."""

    value: object
    _derived: float = NAN
    log_loss: float = NAN
    names: tuple = field(default=("a", "b"))


def test_every_number_is_looked_at_wherever_it_lies():
    check_model("m", Held({"a": [1.0, ("x", np.float32(2))], "b": None}), N)
    for value, where in (
        (NAN, "m.value holds"),
        ({"a": [1.0, (2.0, NAN)]}, "m.value.a holds"),
        ([Held(np.array([[0.0, INF]]))], "m.value.value holds"),
        ({"price": -0.1}, "m.value.price = -0.1 must be 0 or more"),
        ({"price": np.array([0.0, -1.0])}, "m.value.price"),
        (np.array([1j]), "m.value is no number"),
        ({"bias": np.array([-INF, 0.0]), "b": [-INF]}, "m.value.b holds"),
    ):
        with pytest.raises(BundleError, match=where):
            check_model("m", Held(value), N)
    for within in (lambda held: [held], lambda held: {"held": held}, Held):
        deep = 1.0
        for _ in range(11):  # the model itself is the twelfth
            deep = within(deep)
        check_model("m", Held(deep), N)
        with pytest.raises(BundleError, match="nested too deeply"):
            check_model("m", Held(within(deep)), N)
