"""Command line: from a file to a bundle without a screen; tune on a log of any size; route, check and serve."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hybrid.data.notes import Note
from hybrid.errors import DatasetError, HybridError, StudyError
from hybrid.routing.patterns import PATTERNS

if TYPE_CHECKING:
    from hybrid.metrics.summary import Summary
    from hybrid.routing.engine import Policy
    from hybrid.study.study import Study
    from hybrid.tiers.human import Assist, Human

    _P = TypeVar("_P", Human, Assist)

HOLDS, BROKEN, UNUSABLE = 0, 1, 2  # exit codes
ROLES = ("label", "text")  # columns that an option names
PEOPLE = "SHARE=USD[=MINUTES]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code.

    0: done, or the promise holds. 1: no threshold reaches the goal, or the promise is broken. 2: something cannot be
    used, and the message on the standard error says what.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except HybridError as error:
        print(f"hybrid: {error}", file=sys.stderr)
        return UNUSABLE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybrid", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="command")

    look = commands.add_parser("scan", help="how much of an LLM's log can be answered without it? exit code 1: nothing")
    look.add_argument("data", nargs="+", help="a log (OpenAI, LiteLLM, Langfuse, Phoenix, …), or texts and answers")
    look.add_argument("--min-agreement", type=float, default=0.95, help="share of answers to agree; default: 0.95")
    look.add_argument("--of", choices=("all", "answered"), default="all", help="all answers, or those without the LLM")
    look.add_argument("--delta", type=float, default=0.1, help="the promise may fail with; default: 0.1")
    look.add_argument("--volume", type=int, help="texts a month; default: as the log's times say, else 100,000")
    look.add_argument("--price", type=float, metavar="USD", help="of one answer, where the log does not say it")
    look.add_argument("--label", help="column of the LLM's answers, of a file that is no log; default: guessed")
    look.add_argument("--text", help="column of the texts, likewise")
    look.add_argument("--model", help="what the LLM is called; default: as the log or the column says")
    look.add_argument("--embedding", action="store_true", help="try the small model too; needs the extra 'embedding'")
    look.add_argument("--project", metavar="FOLDER", help="keep what was fitted there, for 'hybrid app'")
    look.set_defaults(run=_scan)

    fit = commands.add_parser("fit", help="read labelled texts, fit what runs here, and keep it all as a project")
    fit.add_argument("data", nargs="+", help="CSV, JSONL, Parquet, .xlsx or an LLM's log; further files are joined")
    fit.add_argument("--project", required=True, metavar="FOLDER", help="where to keep it")
    fit.add_argument("--replace", action="store_true", help="a project that is in the folder already is lost")
    fit.add_argument("--label", help="column of the true label; default: guessed")
    fit.add_argument("--text", help="column of the texts; default: guessed")
    fit.add_argument("--embedding", action="store_true", help="fit the small model too; needs the extra 'embedding'")
    fit.add_argument(
        "--several",
        metavar="HOW",
        help="labels a row: first, combinations, or the label that is asked about, yes or no",
    )
    fit.add_argument(
        "--hard", default="", metavar="WORDS", help="that make a text hard, with commas: for the heuristic gate"
    )
    fit.add_argument("--easy", default="", metavar="WORDS", help="that make a text easy, likewise")
    fit.set_defaults(run=_fit)

    best = commands.add_parser("recommend", help="find a project's best policy for a goal, and make it the one at hand")
    best.add_argument("project")
    wish = best.add_mutually_exclusive_group()
    wish.add_argument("--min-accuracy", type=float, help="the cheapest at or above this; default: the best model's own")
    wish.add_argument("--max-cost", type=float, help="the most accurate up to this, USD per 1,000")
    wish.add_argument("--wrong-cost", type=float, help="the least total cost, at this many USD a wrong answer")
    best.add_argument("--pattern", choices=PATTERNS, help="only this way of routing; default: all")
    best.add_argument("--seconds", type=float, default=30.0, help="to search for, at most")
    best.add_argument("--dry-run", action="store_true", help="leave the project as it is")
    best.set_defaults(run=_recommend)
    for command in (fit, best):
        command.add_argument(
            "--price", action="append", default=[], metavar="TIER=USD", help="per answer, instead of the file's"
        )
        command.add_argument(
            "--person",
            metavar=PEOPLE,
            help="a last tier, simulated: share right, USD a case; none: nobody",
        )
        command.add_argument(
            "--picking", metavar=PEOPLE, help="they pick from a classifier's three likeliest answers, likewise"
        )
        command.add_argument("--out-of-scope", metavar="CLASS", help="of texts out of scope; default: by its name")

    pack = commands.add_parser("export", help="pack a project's policy as a bundle")
    pack.add_argument("project")
    pack.add_argument("out", help="the bundle to write, such as policy.zip")
    pack.add_argument("--pattern", choices=PATTERNS, help="tuned as 'recommend' does, unless it is the one at hand")
    pack.set_defaults(run=_export)
    for command in (best, pack):
        command.add_argument(
            "--set-aside",
            type=float,
            metavar="SHARE",
            help="texts farther from anything seen than this share of yours are not decided, such as 0.01; 0: all are",
        )

    app = commands.add_parser("app", help="open the dashboard in a browser")
    app.add_argument("project", nargs="?", help="a folder that 'fit' made; what you do on the pages is kept in it")
    app.add_argument("--host", default="127.0.0.1", help="another than this machine's own lets others connect")
    app.add_argument("--port", type=int, default=8501)
    app.add_argument("--no-browser", action="store_true", help="only print the address")
    app.set_defaults(run=_app)

    tune = commands.add_parser("tune", help="find thresholds on a file of scored, labelled rows")
    tune.add_argument(
        "data", help="Parquet, CSV, JSONL or .xlsx, or a folder of one of them: labels and models' answers"
    )
    tune.add_argument("--pattern", choices=("triage", "cascade"), default="triage")
    tune.add_argument("--tiers", help="names of the tiers from cheap to dear, with commas; default: all in the file")
    goal = tune.add_mutually_exclusive_group(required=True)
    goal.add_argument("--min-accuracy", type=float, help="find the cheapest thresholds at or above this, such as 0.9")
    goal.add_argument("--max-cost", type=float, help="find the most accurate thresholds up to this, USD per 1,000")
    tune.add_argument("--label", help="column of the true label; default: guessed")
    tune.add_argument("--group", help="column of what belongs together, such as a customer; default: guessed")
    tune.add_argument("--price", action="append", default=[], metavar="TIER=USD", help="per answer, without a column")
    tune.set_defaults(run=_tune)

    route = commands.add_parser("route", help="decide every text of a file with a bundle")
    route.add_argument("bundle")
    route.add_argument("texts", help="Parquet, CSV, JSONL or .xlsx, or a folder of one of them")
    route.add_argument("--out", required=True, help="Parquet file to write; a run that was broken off goes on")
    route.add_argument("--text", help="column of the texts; default: guessed")
    route.add_argument("--keep", default="", help="columns to copy beside the decisions, with commas")
    route.set_defaults(run=_route)

    check = commands.add_parser("evaluate", help="does a bundle keep its promise on labelled rows? exit code 1: no")
    check.add_argument("bundle")
    check.add_argument("data", help="a labelled file; may hold answers of the bundle's external tiers as columns")
    check.add_argument("--min-accuracy", type=float, help="default: lower end of the accuracy on test, from the bundle")
    check.add_argument("--label", help="column of the true label; default: guessed")
    check.add_argument("--text", help="column of the texts; default: guessed")
    check.set_defaults(run=_evaluate)

    serve = commands.add_parser("serve", help="answer over HTTP, also in the place of the LLM that was asked before")
    serve.add_argument("bundle")
    serve.add_argument("--host", default="127.0.0.1", help="another than this machine's own needs HYBRID_SERVE_TOKENS")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--mode", choices=("live", "shadow", "canary"), default="live", help="shadow: the LLM answers")
    serve.add_argument(
        "--share", type=float, help="of the texts: as a canary, those that the policy answers (0.1); of B (0.5)"
    )
    serve.add_argument("--against", metavar="BUNDLE", help="a bundle B to compare with, on a share of the texts")
    serve.add_argument(
        "--review-share", type=float, default=0.0, metavar="SHARE", help="of decisions, drawn for a review of the label"
    )
    serve.add_argument("--models", metavar="MODULE:NAME", help="a dict from external tiers to functions")
    serve.add_argument(
        "--server", action="append", default=[], metavar="TIER=URL[=VARIABLE]", help="where a tier is asked"
    )
    serve.add_argument("--upstream", metavar="URL[=VARIABLE]", help="where requests that do not classify are passed on")
    serve.add_argument("--upstream-model", help="the model to ask for there; default: the one that the client names")
    serve.add_argument("--trust", action="append", default=[], metavar="KEY", help="serve only what this key signed")
    serve.add_argument("--log", metavar="FOLDER", help="keep every decision there")
    serve.add_argument("--log-texts", choices=("hash", "full"), default="hash", help="what of each text is kept")
    serve.add_argument("--log-redact", metavar="MODULE:NAME", help="a function that takes out what must not be kept")
    serve.add_argument("--text-pattern", metavar="REGEX", help="its first group is the text within a chat's message")
    serve.add_argument("--deadline", type=float, default=30.0, help="seconds for the LLM calls of a request")
    serve.set_defaults(run=_serve)

    daily = commands.add_parser("watch", help="is production as promised? exit code 1: an alarm, or a broken promise")
    daily.add_argument("log", help="the log's folder, or a server on this machine, such as http://127.0.0.1:8000")
    daily.add_argument(
        "--bundle", action="append", default=[], metavar="BUNDLE", help="that decided; a second one is compared with it"
    )
    daily.add_argument("--alarm", type=float, default=0.05, metavar="CHANCE", help="of a false alarm in a year")
    daily.add_argument("--new-bundle", metavar="OUT", help="write one with the threshold that corrections prove")
    daily.set_defaults(run=_watch)

    sign = commands.add_parser("sign", help="sign a bundle, so that others can tell that it is yours")
    sign.add_argument("bundle")
    sign.add_argument("--key", required=True, help="file of an Ed25519 key: openssl genpkey -algorithm ed25519")
    sign.set_defaults(run=_sign)

    for command in (route, check):
        command.add_argument("--models", metavar="MODULE:NAME", help="a dict from external tiers to functions")
    for command in (tune, route):
        command.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://host:8786")
    for command in (look, daily, best, tune, route, check):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _scan(options: argparse.Namespace) -> int:
    from hybrid.study import project
    from hybrid.study.scan import lines, open_log, plain_scan, scan
    from hybrid.tiers.embedders import MiniLM, is_installed

    if options.project is not None and project.holds_one(Path(options.project)):
        raise StudyError(f"{options.project!r} holds a project already: name another folder.")
    study = open_log(
        options.data,
        label=options.label,
        text=options.text,
        model=options.model,
        price=options.price,
        volume=options.volume,
    )
    study.fit(embedder=MiniLM.installed() if options.embedding else None)
    _say(study.notes)
    found = scan(study, min_agreement=options.min_agreement, delta=options.delta, of=options.of)
    how = "the same with --project FOLDER, then hybrid app FOLDER."
    if is_installed() and not options.embedding:
        how += " With --embedding the small model is tried too, which takes longer."
    if options.project is not None:
        if found.policy is not None:
            study.use(found.policy)
        study.save(options.project)
        how = f"hybrid app {options.project}, or hybrid export {options.project} policy.zip."
    print(json.dumps(plain_scan(study, found), indent=2) if options.json else "\n".join(lines(study, found, how=how)))
    return HOLDS if found.certified else BROKEN


def _fit(options: argparse.Namespace) -> int:
    from hybrid.study import project
    from hybrid.study.answer import is_unpriced
    from hybrid.study.reading import open_files
    from hybrid.tiers.embedders import MiniLM
    from hybrid.tiers.gate import KeyWords

    folder = Path(options.project)
    if not options.replace and project.holds_one(folder):
        raise StudyError(f"{options.project!r} holds a project already: name another folder, or add --replace.")
    embedder = MiniLM.installed() if options.embedding else None
    picked = {role: getattr(options, role) for role in ROLES if getattr(options, role) is not None}
    study = open_files(options.data, picked=picked, needed=ROLES, several=options.several)
    study.fit(embedder=embedder, key_words=KeyWords.of(options.hard, options.easy))
    _assume(study, options)
    study.save(folder)
    _say(study.notes)
    worthless = [study.at_chance(t.name) for t in study.tiers if t.kind != "rules" and not t.scores]
    for problem in filter(None, (*study.evidence.problems, *study.evidence.left_out, study.late, *worthless)):
        print(problem, file=sys.stderr)
    columns, parts = study.columns, study.split
    print(f"{study.dataset.n_rows:,} rows, {len(study.classes):,} classes; label {columns.label}, text {columns.text}")
    print(f"{len(parts.tune):,} rows to tune on, {len(parts.test):,} to test on")
    accuracy = study.accuracy("test")
    for tier in study.tiers:
        alone = f"{accuracy[tier.name]:.2%} alone on test" if tier.name in accuracy else "no answer on test rows"
        alone = f"picks from the likeliest of {tier.picks_from}" if tier.picks_from else alone
        price = "price unknown" if is_unpriced(study, tier) else f"${1000 * tier.price:.4g} per 1,000"
        made_up = ", simulated" if tier.simulated else ""
        print(f"{tier.name}: {'a gate' if tier.kind == 'gate' else alone}, {price}{made_up}")
    if study.out_class is not None:
        print(f"texts labelled {study.out_class} are out of scope")
    print(f"kept in {options.project} ({study.seconds:.1f} s)")
    return HOLDS


def _assume(study: Study, options: argparse.Namespace) -> None:
    """Take over what is said of prices, of people, and of what is out of scope."""
    from dataclasses import replace

    from hybrid.tiers.human import Assist, Human

    terms = study.terms
    if options.person is not None:
        human = _person("--person", options.person, terms.human or Human())
        terms = replace(terms, human=human, assist=terms.assist if human else None)
    if options.picking is not None:
        terms = replace(terms, assist=_person("--picking", options.picking, terms.assist or Assist()))
    if terms.assist is not None and terms.human is None:
        raise StudyError(f"--picking: nobody is there who could pick. Say what a person costs with --person {PEOPLE}.")
    if terms.assist is not None and not study.evidence.likely:
        raise StudyError("--picking: no classifier is here whose likeliest answers a person could pick from.")
    if options.out_of_scope is not None:
        if options.out_of_scope not in ("", *study.classes):
            raise StudyError(f"--out-of-scope: there is no class {options.out_of_scope!r}.")
        terms = replace(terms, out_of_scope=options.out_of_scope)
    study.terms = terms
    prices = _prices(options.price)
    unknown = sorted(set(prices) - {t.name for t in study.tiers})
    if unknown:
        here = ", ".join(t.name for t in study.tiers)
        raise StudyError(f"--price: there is no tier called {unknown[0]!r}. The tiers are {here}.")
    study.terms = replace(terms, prices=tuple((dict(terms.prices) | prices).items()))


def _person(option: str, given: str, before: _P) -> _P | None:
    """Return a person at the numbers that are given; None where nobody is wanted."""
    from dataclasses import replace

    if given == "none":
        return None
    try:
        numbers = [float(part) for part in given.split("=")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise DatasetError(f"{option} {given}: write {PEOPLE}, such as 0.97=2.50, or none.")
    accuracy, cost, *rest = numbers
    return replace(before, accuracy=accuracy, cost=cost, minutes=rest[0] if rest else before.minutes)


def _set_aside(study: Study, share: float | None, before: Policy | None) -> None:
    """Put another scope before the policy at hand; without a word on it the one that was there before."""
    policy, tier = study.policy or study.cheap_alone, study.scope_tier
    if share is not None:
        study.use(study.scoped(policy, share=_part("--set-aside", share)) if share else policy.bare)
    elif before is not None and before.scope is not None and tier is not None:
        study.use(policy.within(tier, before.scope))


def _far(study: Study, policy: Policy) -> Iterator[str]:
    """Yield what a policy sets aside, in words; nothing where it does not."""
    if policy.scope is None:
        return
    from hybrid.routing.table import NONE_LABEL

    on, tune = study.scope_numbers(policy, study.headline(policy).side), study.scope_numbers(policy, "tune")
    goes = f"go to {policy.names[-1]}" if policy.to_person else f"are answered {study.out_class or NONE_LABEL!r}"
    yield f"out of scope: texts farther than {min(policy.scope.threshold, 1):.9g} of the known ones {goes}"
    yield (
        f"  {on.aside.value:.2%} of texts in scope (95% {on.aside.low:.2%} to {on.aside.high:.2%}); at most "
        f"{tune.bound:.2%} with {tune.level:.0%} confidence; {on.rest.value:.2%} right among the rest"
    )
    if not (policy.to_person or on.n_out):
        yield "  no row is labelled as out of scope, so each of them counts as a mistake"
    if on.n_out:
        yield f"  {on.out.value:.2%} of {on.n_out:,} texts labelled {study.out_class}"


def _recommend(options: argparse.Namespace) -> int:
    from hybrid.study.naming import named
    from hybrid.study.plain import plain, plain_policy
    from hybrid.study.study import Study
    from hybrid.tuning import CHEAPEST, LEAST_TOTAL, MOST_ACCURATE, Goal

    study = Study.open(options.project)
    before = study.policy
    _assume(study, options)
    _set_aside(study, options.set_aside, before)
    if options.wrong_cost is not None:
        goal = Goal(LEAST_TOTAL, wrong=options.wrong_cost)
    elif options.max_cost is not None:
        goal = Goal(MOST_ACCURATE, budget=options.max_cost)
    elif options.min_accuracy is not None:
        goal = Goal(CHEAPEST, floor=options.min_accuracy)
    else:
        goal = study.usual_goal()
    found = study.recommend(goal, policies=_only(study, options.pattern), seconds=options.seconds)
    used = found.feasible and not options.dry_run
    if used:
        study.use(found.policy)
        study.save(options.project)
    told = plain_policy(found.policy, study.classes)
    if options.json:
        sides = {side: s and _numbers(s) for side, s in (("tune", found.tune), ("test", found.test))}
        how: dict[str, Any] = {
            "goal": goal.words,
            "feasible": found.feasible,
            "exact": found.exact,
            "method": found.method,
        }
        how["selection"] = None if found.selection is None else plain(found.selection)
        how["contradiction"] = None if found.contradiction is None else found.contradiction.words
        if found.policy.scope is not None:
            how["out_of_scope"] = plain(study.scope_numbers(found.policy, "tune"))
        print(json.dumps({**told, **sides, **how, "used": used}, indent=2))
        return HOLDS if found.feasible else BROKEN
    if not found.feasible:
        print(f"No policy keeps the goal on the tune rows ({goal.words}). The nearest:")
    print(f"{found.policy.pattern.title}: {' → '.join(found.policy.names)}")
    for name, value in told["parameters"].items():
        if value is not None and value != {}:
            print(f"  {name} {json.dumps(value, ensure_ascii=False)}")
    model = study.dataset.agreement_with
    print(_in_words("tune", found.tune, model))
    if found.test is not None:
        print(_in_words("test", found.test, model))
    for line in _far(study, found.policy):
        print(line)
    for heard in (found.selection, found.contradiction):
        if heard is not None:
            print(named(heard.words, model))
    print(f"{goal.words}; found {found.method}")
    if used:
        print(f"the policy at hand of {options.project} now")
    return HOLDS if found.feasible else BROKEN


def _only(study: Study, pattern: str | None) -> list[Any] | None:
    """Return the policy that a pattern starts with, to set its thresholds; None: everything."""
    if pattern is None:
        return None
    start = study.start(pattern)
    if start is None:
        here = ", ".join(t.name for t in study.tiers)
        picks = f" A person who picks is there with --person {PEOPLE} --picking {PEOPLE}."
        raise StudyError(
            f"{PATTERNS[pattern].title} needs other tiers than these: {here}.{picks if PATTERNS[pattern].picks else ''}"
        )
    return [start]


def _numbers(summary: Summary) -> dict[str, float]:
    low, high = summary.accuracy.low, summary.accuracy.high
    found = {"rows": summary.n_rows, "accuracy": summary.accuracy.value, "low": low, "high": high}
    return found | {"cost_per_1000": summary.cost_per_1000.value, "escalation_rate": summary.escalation_rate.value}


def _in_words(side: str, summary: Summary, model: str | None) -> str:
    from hybrid.study.naming import named

    accuracy = summary.accuracy
    return named(
        f"{side}  {accuracy.value:.2%} accurate (95% {accuracy.low:.2%} to {accuracy.high:.2%}), "
        f"${summary.cost_per_1000.value:.4g} per 1,000, {summary.n_rows:,} rows",
        model,
    )


def _export(options: argparse.Namespace) -> int:
    from hybrid.study.study import Study

    study = Study.open(options.project)
    _set_aside(study, options.set_aside, study.policy)
    policy = study.policy
    if options.pattern and (policy is None or not isinstance(policy.pattern, PATTERNS[options.pattern])):
        policy = study.recommend(policies=_only(study, options.pattern)).policy
    try:
        content = study.export(policy, options.out)
    except OSError as error:
        raise StudyError(f"{options.out!r} cannot be written: {error.strerror}.") from error
    on = study.headline(policy)
    print(f"{on.policy.pattern.title}: {' → '.join(on.policy.names)}")
    if on.n_rows:
        print(_in_words(on.side, on.summary, study.dataset.agreement_with))
    for line in _far(study, on.policy):
        print(line)
    picking = {t.name for t in on.policy.tiers if t.picks_from}
    for tier in study.external(policy):
        what = "a function of texts and of the three answers for each" if tier in picking else "a function"
        print(f"{tier} is asked by you: hybrid.load({options.out!r}, models={{{tier!r}: {what}}})", file=sys.stderr)
    print(f"{len(content) / 1024:,.0f} KB → {options.out}")
    return HOLDS


def _app(options: argparse.Namespace) -> int:
    import importlib.util
    import os
    import signal
    import subprocess

    from hybrid.study import app, project

    if importlib.util.find_spec("streamlit") is None:
        raise DatasetError("The dashboard needs streamlit: pip install hybrid-tuner.")
    address = f"http://{options.host}:{options.port}/"
    if options.project is not None:
        address += f"?project={project.id_of(Path(options.project))}"
    command = [sys.executable, "-m", "streamlit", "run", str(app.folder() / "app.py"), "--server.headless=true"]
    command += [f"--server.address={options.host}", f"--server.port={options.port}"]
    # the settings of the pages are found from their folder; what the user named stays where it was
    here = {project.VARIABLE: str(project.projects_folder().absolute())}
    server = subprocess.Popen(command, cwd=app.folder(), env=os.environ | here)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(HOLDS))  # the server ends with this
    print(f"Open {address}", flush=True)
    try:
        if not options.no_browser:
            _open_when_ready(address, options.host, options.port)
        return server.wait()
    except KeyboardInterrupt:
        return HOLDS
    finally:
        server.terminate()
        server.wait()


def _open_when_ready(address: str, host: str, port: int) -> None:
    import socket
    import webbrowser

    for _ in range(100):
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            webbrowser.open(address)
            return


def _tune(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from hybrid.data import pieces
    from hybrid.data.columns import from_file, named_apart
    from hybrid.data.labels import most_frequent
    from hybrid.metrics.lattice import Lattice
    from hybrid.production.bundle import spoken
    from hybrid.routing.table import NEVER
    from hybrid.tuning import CHEAPEST, MOST_ACCURATE, Goal, streaming
    from hybrid.tuning.edges import optimum_at_edges

    if options.min_accuracy is not None:
        goal = Goal(CHEAPEST, floor=options.min_accuracy)
    else:
        goal = Goal(MOST_ACCURATE, budget=options.max_cost)
    source = pieces.pieces(options.data)
    picked = {role: name for role in ("label", "group") if (name := getattr(options, role))}
    columns = streaming.guess(source, picked=picked or None).settled("label")
    prices = {from_file(name): price for name, price in _prices(options.price).items()}
    apart = named_apart(columns.recorded)
    recorded = [replace(r, price=prices.get(own.name, r.price)) for r, own in zip(columns.recorded, apart, strict=True)]
    columns = replace(columns, recorded=tuple(recorded))
    names = [*map(from_file, options.tiers.split(","))] if options.tiers else [r.name for r in apart]
    if len(apart) < 2 and not options.tiers:
        holds = f"answers of one model, {apart[0].name}," if apart else "no model's answers,"
        raise DatasetError(
            f"The file holds {holds} and thresholds lie between two: 'hybrid fit' fits a classifier on its texts, and "
            "'hybrid recommend' then finds the thresholds."
        )
    if options.pattern == "triage" and len(names) != 2:
        raise DatasetError(
            f"Triage takes two tiers, not {', '.join(names) or 'none'}: name them with --tiers cheap,dear."
        )
    if len(names) > MOST_TIERS:
        raise DatasetError(f"A cascade is tuned over up to {MOST_TIERS} tiers at once: name them with --tiers.")
    run = pieces.on_dask(options.scheduler) if options.scheduler else None
    plan = streaming.plan(source, columns, names, run=run)
    _say(plan.notes)
    if len(names) == MOST_TIERS:
        plan = replace(plan, lattice=Lattice(octaves=8, parts=4))  # three axes: fewer edges on each
    sides = streaming.tally_pieces(source, plan, run=run, progress=_progress("pieces read"))
    _say(sides.notes())
    for r in plan.tiers:
        if not (r.cost or r.prompt_tokens or r.completion_tokens or r.price):
            print(
                f"{r.name} has neither a cost column nor a price. Its answers count $0: --price '{r.name}=USD'.",
                file=sys.stderr,
            )
    for name, answers in sorted(sides.strange.items()):
        said = f"{answers.total():,} answers of {name} are not one of the {len(plan.classes)} classes"
        print(f"{said} and count as failed: {most_frequent(answers)}", file=sys.stderr)
    found = optimum_at_edges(sides.tune, goal)
    if found is None:
        print("No thresholds reach the goal on the tune rows.")
        return BROKEN
    at = tuple(int(plan.lattice.edges.searchsorted(t)) for t in found.thresholds)
    n_test = sides.test.n_rows
    test = _test_numbers(sides.test, at) if n_test else None
    if test and plan.group:
        sums = streaming.groups_of_test(source, plan, found.thresholds, run=run, progress=_progress("groups counted"))
        test |= {"low": sums.accuracy.low, "high": sums.accuracy.high, "groups": len(sums.key)}
    summary = {
        "pattern": options.pattern,
        "tiers": list(names),
        "thresholds": spoken(dict(zip(names, found.thresholds, strict=False)), NEVER, "never"),
        "tune": {"rows": found.n_rows, "accuracy": found.accuracy, "cost_per_1000": found.cost_per_1000},
        "test": test,
        "bound": found.bound,
    }
    if options.json:
        print(json.dumps(summary, indent=2))
        return HOLDS
    for name, threshold in zip(names, found.thresholds, strict=False):
        print(f"{name}: keep " + ("nothing" if threshold == NEVER else f"at or above {threshold:.9g}"))
    print(f"tune  {found.accuracy:.2%} accurate, ${found.cost_per_1000:.4g} per 1,000, {found.n_rows:,} rows")
    if test:
        print(
            f"test  {test['accuracy']:.2%} accurate (95% {test['low']:.2%} to {test['high']:.2%}), "
            f"${test['cost_per_1000']:.4g} per 1,000, {n_test:,} rows"
            + (f" in {test['groups']:,} groups of {plan.group}" if plan.group else "")
        )
    if found.bound is not None:
        best = f"${found.bound:.4g} per 1,000" if options.min_accuracy is not None else f"{found.bound:.2%} accurate"
        print(f"no other thresholds do better than {best} on the tune rows")
    return HOLDS


MOST_TIERS = 4


def _test_numbers(sums: Any, at: tuple[int, ...]) -> dict[str, float]:
    from hybrid.metrics.intervals import wilson

    n, right = sums.n_rows, int(sums.correct()[at])
    low, high = wilson(right, n)
    cost = 1000 * float(sums.cost_grid()[at]) / n
    return {"rows": n, "accuracy": right / n, "low": float(low), "high": float(high), "cost_per_1000": cost}


def _route(options: argparse.Namespace) -> int:
    from hybrid.data import pieces
    from hybrid.production.scoring import Job, score_file
    from hybrid.tuning import streaming

    source = pieces.pieces(options.texts)
    text = options.text or _text_column(streaming.guess(source).settled("text").text)
    keep = tuple(c for c in options.keep.split(",") if c)
    _say(dict.fromkeys(note for piece in source for note in piece.form.notes))
    run = pieces.on_dask(options.scheduler) if options.scheduler else None
    job = Job(str(Path(options.bundle).resolve()), options.models, text, keep)
    start = time.perf_counter()
    n = score_file(job, source, options.out, run=run, progress=_progress("pieces decided"))
    seconds = time.perf_counter() - start
    if options.json:
        print(json.dumps({"rows": n, "seconds": seconds, "out": options.out}))
    else:
        print(f"{n:,} texts decided in {seconds:.1f} s → {options.out}")
    return HOLDS


def _evaluate(options: argparse.Namespace) -> int:
    from hybrid.data.labels import most_frequent
    from hybrid.production.promise import evaluate, read_labelled
    from hybrid.production.scoring import load_models

    labelled = read_labelled(options.data, label=options.label, text=options.text)
    _say(n for n in labelled.notes if n.level == "warning")
    found = evaluate(options.bundle, labelled, models=load_models(options.models))
    promised = options.min_accuracy if options.min_accuracy is not None else found.promised
    if promised is None:
        raise DatasetError("The bundle's evidence names no accuracy on test: say what must hold with --min-accuracy.")
    # broken only where chance does not explain it: the whole interval lies below the promise
    accuracy = found.accuracy
    holds = accuracy.high >= promised
    if options.json:
        said: dict[str, Any] = {"rows": found.n_rows, "accuracy": accuracy.value}
        said |= {"low": accuracy.low, "high": accuracy.high}
        said |= {"cost_per_1000": found.cost_per_1000, "promised": promised, "holds": holds}
        said |= {"unknown_labels": dict(found.unknown), "out_of_scope": found.outside, "said_so": found.said}
        said["left_out"] = found.left_out
        if found.aside is not None:
            low, high = found.aside.low, found.aside.high
            said["set_aside"] = {"share": found.aside.value, "low": low, "high": high, "promised": found.bound}
        print(json.dumps(said))
    else:
        print(
            f"{accuracy.value:.2%} accurate (95% {accuracy.low:.2%} to {accuracy.high:.2%}) on {found.n_rows:,} rows, "
            f"${found.cost_per_1000:.4g} per 1,000; promised {promised:.2%}: {'holds' if holds else 'BROKEN'}"
        )
        if found.left_out:
            print(f"{found.left_out:,} rows left out: an external tier has no answer about them in the file")
        if found.unknown:
            print(
                f"{sum(found.unknown.values()):,} rows carry labels that are not classes of the bundle: "
                f"{most_frequent(found.unknown)}"
            )
        if found.outside:
            print(
                f"{found.said:,} of {found.outside:,} rows that are none of the classes are answered so, which is "
                "right; any other answer there counts as wrong"
            )
        if found.aside is not None:
            most = "" if found.bound is None else f"; promised at most {found.bound:.2%}"
            low, high = found.aside.low, found.aside.high
            print(f"of rows in scope {found.aside.value:.2%} set aside (95% {low:.2%} to {high:.2%}){most}")
    return HOLDS if holds else BROKEN


def _serve(options: argparse.Namespace) -> int:
    import re

    from hybrid.production.scoring import load_function, load_models

    try:
        from hybrid.production import serve
        from hybrid.production.log import DecisionLog
    except ImportError as error:
        raise DatasetError(f"Serving needs the extra ({error}): pip install 'hybrid-tuner[serve]'.") from error
    try:
        inside = re.compile(options.text_pattern) if options.text_pattern else None
    except re.error as error:
        raise DatasetError(f"--text-pattern: {error}.") from error
    if inside is not None and not inside.groups:
        raise DatasetError("--text-pattern needs a group, in round brackets, around the text.")
    servers = dict(_server(one) for one in options.server)
    redact = load_function(options.log_redact) if options.log_redact else None
    log = DecisionLog(options.log, texts=options.log_texts, redact=redact) if options.log else None
    settings = serve.Settings(
        options.bundle,
        models=load_models(options.models),
        servers=servers,
        trust=tuple(options.trust),
        deadline=options.deadline,
        mode=options.mode,
        share=_part("--share", (0.1 if options.against is None else 0.5) if options.share is None else options.share),
        against=options.against,
        review_share=_part("--review-share", options.review_share),
        tokens=serve.tokens_here(),
        upstream=_server(f"={options.upstream}")[1] if options.upstream else None,
        upstream_model=options.upstream_model,
        log=log,
        inside=inside,
    )
    serve.run(settings, host=options.host, port=options.port)
    return HOLDS


def _watch(options: argparse.Namespace) -> int:
    import datetime

    from hybrid.metrics.drift import ALARM
    from hybrid.production.bundle import load_bundle
    from hybrid.study import corrections
    from hybrid.study.watching import observe

    found = observe(options.log, options.bundle, alpha=options.alarm)
    if options.json:
        print(json.dumps(found.plain(), indent=2, ensure_ascii=False))
    else:
        for one in found.bundles:
            print("\n".join(one.lines))
        if found.trial is not None:
            print(found.trial.words)
        if found.others:
            print(f"Not looked at: {', '.join(f'{n:,} decisions of {name}' for name, n in found.others.items())}")
    if options.new_bundle:
        first = found.bundles[0]
        content = first.new_bundle(on=datetime.datetime.now(datetime.UTC).date())
        _written(options.new_bundle, content)
        for what, before, after in corrections.differences(first.bundle, load_bundle(content)):
            print(f"{what}: {before} → {after}", file=sys.stderr)
        print(f"{len(content) / 1024:,.0f} KB → {options.new_bundle}; the old one stays", file=sys.stderr)
    bad = any(w.watch.level == ALARM or w.review.level == corrections.BROKEN for w in found.bundles)
    return BROKEN if bad else HOLDS


def _written(path: str, content: bytes) -> None:
    try:
        with open(path, "xb") as file:
            file.write(content)
    except FileExistsError:
        raise DatasetError(f"{path!r} is there already: name another file, so that no bundle is lost.") from None
    except OSError as error:
        raise DatasetError(f"{path!r} cannot be written: {error.strerror}.") from error


def _part(name: str, share: float) -> float:
    if not 0 <= share <= 1:
        raise DatasetError(f"{name} {share:g}: a share is between 0 and 1. Percent? Divide by 100.")
    return share


def _sign(options: argparse.Namespace) -> int:
    from hybrid.production.signature import sign

    path = Path(options.bundle)
    try:
        content, key = path.read_bytes(), Path(options.key).read_text(encoding="ascii")
        path.write_bytes(sign(content, key))
    except (OSError, UnicodeError) as error:
        raise DatasetError(f"The bundle or the key cannot be read or written: {error}.") from error
    print(f"{path} is signed.")
    return HOLDS


def _server(given: str) -> tuple[str, Any]:
    """Return a tier and its server, written as ``TIER=URL`` or ``TIER=URL=VARIABLE``."""
    from hybrid.production.binding import Server

    tier, _, rest = given.partition("=")
    url, _, variable = rest.partition("=")
    return tier, Server(url, variable) if variable else Server(url)


def _text_column(found: str | None) -> str:
    if found is None:
        raise DatasetError("No column looks like texts: name it with --text.")
    return found


def _say(notes: Iterable[Note]) -> None:
    for note in notes:
        print(f"{note.what} {note.done}", file=sys.stderr)


def _prices(given: Sequence[str]) -> dict[str, float]:
    prices = {}
    for one in given:
        name, _, value = one.rpartition("=")
        try:
            prices[name] = float(value)
        except ValueError:
            raise DatasetError(f"--price {one}: write TIER=USD, such as llm=0.003.") from None
    return prices


def _progress(what: str) -> Callable[[int, int], None]:
    def show(done: int, of: int) -> None:
        end = "\n" if done == of else "\r"
        print(f"{done:,} of {of:,} {what}", end=end, file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
