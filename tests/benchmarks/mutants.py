"""Mutants, always the same ones: do the tests notice when a place of the code says something else?

``python tests/benchmarks/mutants.py metrics 40 1`` draws 40 places of hybrid/metrics (with seed 1), makes one of Cosmic
Ray's mutants of each, and runs the tests that run the changed line, the quick ones first, in a fork of one process that
has collected them once. A place outside functions is changed in its file for as long as its tests run, so run it in a
clone. Linux and macOS; needs ``pip install -e ".[test,bench]"``.
"""

from __future__ import annotations

import ast
import gc
import os
import random
import resource
import subprocess
import sys
import time
import types
from collections import defaultdict
from pathlib import Path

import coverage
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[2]
WATCHED = ["hybrid/routing/**", "hybrid/metrics/**", "hybrid/tuning/**", "hybrid/production/**"]
ENDS = "tests/test_tuning.py::test_where_rows_end_is_where_the_replay_ends_them"
TESTS = {  # those whose subject a room is; the others would find more, in hours
    "routing": ["routing", "patterns", "scope", "curves", ENDS],
    "metrics": [
        "metrics",
        "curves",
        "quick",
        "ranking",
        "lattice",
        "edges",
        "tally",
        "audit",
        "watching",
        "scope",
        "confidence",
        "dashboard_parts",
    ],
    "tuning": ["tuning", "certify", "certificates", "edges", "labelling", "streaming", "scope"],
    "production": [
        "runtime",
        "reference",
        "checking",
        "promise",
        "bundle",
        "bundle_attacks",
        "assisted",
        "confidence",
        "llm_runtime",
        "tests/test_scope.py::test_a_bundle_sets_aside_what_the_dashboard_did_and_says_so",
        "tests/test_watching.py::test_a_bundle_of_before_says_that_it_has_no_reference",
        "tests/test_study.py::test_a_bundle_costs_on_the_same_rows_what_the_study_says",
    ],
}
NOT_BUNDLES = {"serve.py", "chat.py", "log.py", "watching.py", "feedback.py", "trial.py"}
SECONDS = float(os.environ.get("MUTANT_SECONDS", "25"))  # of tests for one mutant
MEMORY = 8 << 30  # bytes of the same

FIXTURE = "fixture "
UNSEEN = {"tfpdef", "decorator", "raise_stmt", "assert_stmt", "fstring"}


def can_be_seen(node):
    """Whether a change may be noticed: annotations are not evaluated, the words of messages are not tested."""
    while node.parent is not None:
        above = node.parent
        annotation = above.children[1] if above.type == "annassign" else getattr(above, "annotation", None)
        if node is annotation or node.type in UNSEEN:
            return False
        node = above
    return True


def places_of(source):
    """What Cosmic Ray changes in a file: each (start, end), as line and column, with its mutants."""
    nodes = list(ast_nodes(get_ast(source)))
    found = defaultdict(list)
    for name in operator_names():
        if not get_operator(name).arguments():
            operator = get_operator(name)()
            places = ((node, place) for node in nodes for place in operator.mutation_positions(node))
            for occurrence, (node, place) in enumerate(places):
                if can_be_seen(node):
                    found[place].append((operator, occurrence))
    return found


def exchange(path, source):
    """Exchange the code of the functions that a changed file has otherwise; returns how many."""
    codes = {}

    def collect(code):
        codes[code.co_qualname, code.co_firstlineno] = code
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                collect(inner)

    collect(compile(source, str(path), "exec"))
    n = 0
    for found in gc.get_objects():
        if isinstance(found, types.FunctionType) and found.__code__.co_filename == str(path):
            new = codes.get((found.__code__.co_qualname, found.__code__.co_firstlineno))
            if new is not None and new != found.__code__ and new.co_freevars == found.__code__.co_freevars:
                found.__code__ = new
                n += 1
    return n


def parses(changed):
    try:
        compile(changed, "mutant", "exec")
    except SyntaxError:  # Cosmic Ray takes the star of a signature for a multiplication
        return False
    return True


def in_function(raw, line):
    """Whether a line lies in the body of a function."""
    functions = (n for n in ast.walk(ast.parse(raw)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(f.body[0].lineno <= line <= f.end_lineno for f in functions)


class Warm:
    """Runs the tests with mutants instead of as they are."""

    def __init__(self, room, n, seed):
        self.room, self.n, self.seed = room, n, seed
        self.lines, self.took, self.uses, self.good = {}, {}, {}, set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if not hasattr(self, "measured") or fixturedef.scope == "function":
            return (yield)
        self.measured.switch_context(f"{FIXTURE}{fixturedef.argname}")  # counts for every test that uses it
        try:
            return (yield)
        finally:
            self.measured.switch_context(self.test)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.good.add(report.nodeid)
        if report.failed:
            self.failed = True

    def run(self, items, *, stop):
        self.failed = False
        for item, after in zip(items, [*items[1:], None], strict=True):
            if hasattr(self, "measured"):
                self.test = item.nodeid
                self.measured.switch_context(self.test)
            start = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            self.took[item.nodeid] = time.process_time() - start
            if self.failed and stop:
                return 1
        return 0

    def measure(self, items):
        """Find which tests run which lines, in a fork: what the tests leave in memory would shield mutants."""
        reading, writing = os.pipe()
        if not os.fork():
            self.measured = coverage.Coverage(data_file=None, include=[str(ROOT / w) for w in WATCHED], config_file="")
            examples(8)
            self.measured.start()
            self.run(items, stop=False)
            self.measured.stop()
            data = self.measured.get_data()
            lines = {(f, n): tests for f in data.measured_files() for n, tests in data.contexts_by_lineno(f).items()}
            with os.fdopen(writing, "w") as out:
                out.write(repr((lines, self.took, self.good)))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as found:
            self.lines, self.took, self.good = ast.literal_eval(found.read())
        os.wait()

    def places(self):
        for path in sorted((ROOT / "hybrid" / self.room).rglob("*.py")):
            if self.room != "production" or path.name not in NOT_BUNDLES:
                yield from ((path, *found) for found in places_of(path.read_text()).items())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        items = {item.nodeid: item for item in session.items}
        self.measure(list(items.values()))
        pool = list(self.places())
        print(f"{self.room}: {len(pool)} places, {self.n} of them, seed {self.seed}; {len(self.good)} tests", file=said)
        ends = dict.fromkeys(("killed", "timeout", "survived", "uncovered"), 0)
        drawn = random.Random(self.seed)
        for path, ((first, _), (last, _)), mutants in drawn.sample(pool, len(pool)):
            operator, occurrence = drawn.choice(mutants)
            source = path.read_text()
            changed = mutate_code(source, operator, occurrence)
            if not parses(changed):
                continue
            if sum(ends.values()) == self.n:
                break
            outside = not in_function(source, first)
            own = {n: tests for (f, n), tests in self.lines.items() if f == str(path)}
            near = [tests for n, tests in own.items() if outside or first <= n <= last] or own.values()
            names = {t for tests in near for t in tests}
            named = {name.removeprefix(FIXTURE) for name in names}
            tests = [t for t in self.good if t in names or not named.isdisjoint(items[t].fixturenames)]
            if outside:  # a constant may be read by a test that runs no line beside it
                files = {t.split("::")[0] for t in tests}
                tests = [t for t in self.good if t.split("::")[0] in files]
            tests.sort(key=lambda t: (self.took[t], t))
            total = 0.0
            chosen = [t for t in tests if (total := total + self.took[t]) <= SECONDS or t == tests[0]]
            how = self.judge(path, changed, [items[t] for t in chosen], outside) if chosen else "uncovered"
            ends[how] += 1
            if how != "killed":
                line = changed.splitlines()[first - 1].strip()
                what = type(operator).__name__
                print(f"{how}: {path.relative_to(ROOT)}:{first} {what}: {line} ({len(chosen)} tests)", file=said)
        share = (ends["killed"] + ends["timeout"]) / sum(ends.values())
        print(f"{self.room}: {ends}: {share:.1%} killed", file=said)
        os._exit(0)

    def judge(self, path, changed, items, outside):
        child = os.fork()
        if not child:
            most = int(25 + 4 * sum(self.took[i.nodeid] for i in items))
            resource.setrlimit(resource.RLIMIT_CPU, (most, most + 2))
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            if outside or not exchange(path, changed):
                os._exit(afresh(path, changed, [i.nodeid for i in items]))
            os._exit(self.run(items, stop=True))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return {0: "survived", 1: "killed"}.get(code, "timeout")


def afresh(path, changed, tests):
    """Run tests in a process of their own over a changed file."""
    raw, stat = path.read_bytes(), path.stat()
    try:
        path.write_text(changed)
        os.utime(path, (stat.st_atime, stat.st_mtime + 1e6 + time.time() % 1e5))  # no compiled file fits
        code = "import pytest, sys, mutants; mutants.examples(); sys.exit(pytest.main(sys.argv[1:]))"
        command = [sys.executable, "-B", "-c", code, *OPTIONS, "-x", *tests]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True)
        return min(1, ended.returncode)
    finally:
        path.write_bytes(raw)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def examples(n=25):
    settings.register_profile("mutants", deadline=None, derandomize=True, max_examples=n, phases=[Phase.generate])
    settings.load_profile("mutants")


OPTIONS = ["-o", "addopts=", "--doctest-modules", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not browser"]

if __name__ == "__main__":
    room, n_mutants, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    files = [t if "::" in t else f"tests/test_{t}.py" for t in TESTS[room]]

    class Few:
        @staticmethod
        def pytest_collection_finish(session):
            examples()

    pytest.main([*OPTIONS, "-s", *files, f"hybrid/{room}"], plugins=[Warm(room, n_mutants, seed), Few()])
