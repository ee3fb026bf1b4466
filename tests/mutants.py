"""Mutants, always the same ones: do the tests notice when a place of the code says something else?

``python tests/mutants.py metrics 40 1`` changes 40 places of hybrid/metrics (drawn with seed 1), one at a time, and
runs the tests that run the changed line, the quick ones first, in a fork of one process that has collected them once. A
place outside functions is changed in its file for as long as its tests run, so run it in a clone. Linux and macOS.
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
from itertools import pairwise
from pathlib import Path

import coverage
import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[1]
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
        "dashboard_parts",
    ],
    "tuning": ["tuning", "certify", "certificates", "edges", "labelling", "streaming"],
    "production": ["bundle", "bundle_attacks", "watching", "study"],
}
NOT_BUNDLES = {"serve.py", "chat.py", "log.py", "watching.py", "feedback.py", "trial.py"}
SECONDS = float(os.environ.get("MUTANT_SECONDS", "25"))  # of tests for one mutant

COMPARED = {
    ast.Lt: ("<", ("<=", ">")), ast.LtE: ("<=", ("<", ">=")), ast.Gt: (">", (">=", "<")), ast.GtE: (">=", (">", "<=")),
    ast.Eq: ("==", ("!=",)), ast.NotEq: ("!=", ("==",)), ast.Is: ("is", ("is not",)), ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)), ast.NotIn: ("not in", ("in",)),
}  # fmt: skip
REACHED = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.MatMult: ("@", "*"),
}  # fmt: skip
PAIRS = [("min", "max"), ("any", "all"), ("minimum", "maximum"), ("floor", "ceil"), ("argmin", "argmax")]
PAIRS += [("nanmin", "nanmax"), ("zeros", "ones"), ("cumsum", "cumprod")]
CALLED = dict(PAIRS) | {b: a for a, b in PAIRS}
FIXTURE = "fixture "
WORDS = ("label", "help", "title", "summary", "unit", "match", "description")  # what users read
LOGS = ("log", "_LOG", "logger", "logging", "warnings")


class Places(ast.NodeVisitor):
    """Collects (start, end, new text, what, first line, last line) of a file's mutants, places in bytes."""

    def __init__(self, source):
        self.raw = source.encode()
        self.starts = [0]
        for line in self.raw.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found = []
        self.visit(ast.parse(source))

    def at(self, node):
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node):
        return self.raw[slice(*self.at(node))].decode()

    def change(self, node, new, what, span=None):
        self.found.append((*(span or self.at(node)), new, what, node.lineno, node.end_lineno))

    def between(self, left, right, old, new):
        start, end = self.at(left)[1], self.at(right)[0]
        within = self.raw[start:end].decode().find(old)
        if within >= 0:
            start += within
            span = ast.Pass(lineno=left.end_lineno, end_lineno=right.lineno)
            self.change(span, new, f"{old} → {new}", (start, start + len(old)))

    def visit(self, node):
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert):
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.keyword) and node.arg in WORDS:
            return
        if isinstance(node, ast.If) and self.text(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Call) and self.is_words(node.func):
            return
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(t, ast.Name) and t.id in ("__all__", "__slots__", *WORDS) for t in targets):
            return
        self.mutate(node)
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "decorator_list"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self.visit(child)

    @staticmethod
    def is_words(called):
        if isinstance(called, ast.Attribute):
            return isinstance(called.value, ast.Name) and called.value.id in LOGS
        return isinstance(called, ast.Name) and (called.id.endswith(("Error", "Warning")) or called.id == "cast")

    def mutate(self, node):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                for one, op, other in zip([left, *others], ops, others, strict=False):
                    old, news = COMPARED[type(op)]
                    for new in news:
                        self.between(one, other, old, new)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in REACHED:
                self.between(left, right, *REACHED[type(op)])
            case ast.AugAssign(target=target, op=op, value=value) if type(op) in REACHED:
                self.between(target, value, *(f"{sign}=" for sign in REACHED[type(op)]))
            case ast.BoolOp(op=op, values=values):
                old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
                for left, right in pairwise(values):
                    self.between(left, right, old, new)
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
                self.change(node, f"({self.text(operand)})", "sign dropped")
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                self.change(test, f"(not ({self.text(test)}))", "condition negated")
            case ast.comprehension(ifs=tests):
                for test in tests:
                    self.change(test, f"(not ({self.text(test)}))", "filter negated")
            case ast.Return(value=ast.expr() as value) | ast.Assign(value=value) if not isinstance(value, ast.Constant):
                self.change(value, "None", "None instead")
            case ast.Expr(value=ast.Call()):
                self.change(node, "pass", "call dropped")
            case ast.Break():
                self.change(node, "continue", "break → continue")
            case ast.Continue():
                self.change(node, "break", "continue → break")
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in CALLED:
                end = self.at(node.func)[1]
                self.change(node.func, CALLED[name], f"{name} → {CALLED[name]}", (end - len(name), end))
            case ast.Constant(value=bool() as value):
                self.change(node, str(not value), f"{value} → {not value}")
            case ast.Constant(value=int() | float() as value):
                new = value + 1 if isinstance(value, int) or not value else 1.5 * value
                self.change(node, repr(new), f"{value} → {new}")
            case ast.Constant(value=str() as value) if value and " " not in value and len(value) < 30:
                self.change(node, repr(f"XX{value}"), f"another string than {value!r}")


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
    except SyntaxError:
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
                yield from ((path, *place) for place in Places(path.read_text()).found)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        items = {item.nodeid: item for item in session.items}
        self.measure(list(items.values()))
        pool = list(self.places())
        print(f"{self.room}: {len(pool)} places, {self.n} of them, seed {self.seed}; {len(self.good)} tests", file=said)
        ends = dict.fromkeys(("killed", "timeout", "survived", "uncovered"), 0)
        for path, start, end, new, what, first, last in random.Random(self.seed).sample(pool, len(pool)):
            if sum(ends.values()) == self.n:
                break
            raw = path.read_bytes()
            changed = (raw[:start] + new.encode() + raw[end:]).decode()
            if not parses(changed):
                continue
            outside = not in_function(raw, first)
            names = {
                t for (f, n), ts in self.lines.items() if f == str(path) and (outside or first <= n <= last) for t in ts
            }
            named = {name.removeprefix(FIXTURE) for name in names}
            tests = [t for t in self.good if t in names or not named.isdisjoint(items[t].fixturenames)]
            tests.sort(key=lambda t: (self.took[t], t))
            total = 0.0
            chosen = [t for t in tests if (total := total + self.took[t]) <= SECONDS or t == tests[0]]
            how = self.judge(path, changed, [items[t] for t in chosen], outside) if chosen else "uncovered"
            ends[how] += 1
            if how != "killed":
                line = raw.decode().splitlines()[first - 1].strip()
                print(f"{how}: {path.relative_to(ROOT)}:{first} [{what}] {line} ({len(chosen)} tests)", file=said)
        share = (ends["killed"] + ends["timeout"]) / sum(ends.values())
        print(f"{self.room}: {ends}: {share:.1%} killed", file=said)
        os._exit(0)

    def judge(self, path, changed, items, outside):
        child = os.fork()
        if not child:
            most = int(25 + 4 * sum(self.took[i.nodeid] for i in items))
            resource.setrlimit(resource.RLIMIT_CPU, (most, most + 2))
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
