"""Mutation run: changes one place of a module at a time and asks whether a test notices.

    pip install cosmic-ray
    python -m tests.mutation run.jsonl sfnn_pyro/particles/weights.py sfnn_pyro/estimators/*.py
    python -m tests.mutation run.jsonl sfnn_pyro/particles/*.py --tests tests/test_particles.py
    python -m tests.mutation run.jsonl --report

The operators are cosmic-ray's and a few of our own. Nothing is written to the sources: a process
that has collected the tests forks once per mutant, and the child gives the functions that changed
their new code and runs the tests that run the changed statement. Mutants that the file of results
already holds are not run again, and which test runs which line is kept beside it while sources and
tests stay as they are: a run that was stopped resumes at once. ``--again`` reruns the mutants that
survived. docs/mutation.md says what came out.
"""

import argparse
import ast
import contextlib
import functools
import gc
import hashlib
import importlib.machinery
import importlib.util
import json
import math
import os
import re
import resource
import select
import signal
import sys
import time
import types
import zlib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = "sites particles evaluation exact imputation predictions completions numbers"
MORE_NAMES = "bad_input bernoulli first_mistakes random_bits reparam resampling units"
TESTS = [
    "tests/estimators",
    "tests/guides",
    "tests/models",
    *(f"tests/test_{name}.py" for name in f"{NAMES} {MORE_NAMES}".split()),
    "tests/programs/test_found.py",
    *(f"sfnn_pyro/{name}" for name in ("particles", "estimators", "evaluation", "distributions")),
]
TRACED = "sfnn_pyro"
OPERATORS = re.compile(
    r"core/(NumberReplacer|RemoveDecorator|ZeroIterationForLoop|ExceptionReplacer|Replace("
    r"TrueWithFalse|FalseWithTrue|AndWithOr|OrWithAnd|BreakWithContinue|ContinueWithBreak|"
    r"BinaryOperator_(Add_Sub|Add_Mul|Sub_Add|Mul_Div|Mul_Add|Div_Mul|Div_Sub|FloorDiv_Mul|Mod_Mul"
    r"|Pow_Mul|BitOr_BitAnd|BitAnd_BitOr)|"
    r"ComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt"
    r"|Is_IsNot|IsNot_Is|In_NotIn|NotIn_In)|"
    r"UnaryOperator_(Delete_USub|USub_Invert|Delete_Not|Delete_Invert)))$"
)
TIMEOUT = 60  # seconds of processor time, whatever else the machine does


# --- mutants ------------------------------------------------------------------------------------


def mutants(path):
    """``(id, line, changed source)`` of every mutant of a file."""
    source = (ROOT / path).read_text()
    tree = ast.parse(source)
    skipped = [(node.lineno, node.end_lineno, node) for node in _skipped(tree)]
    found = [*_from_cosmic_ray(source), *_own(source, tree)]
    seen = {source}
    for name, (line, column), changed in found:
        if any(_holds(node, line, column) for _, _, node in skipped):
            continue
        if changed not in seen and _compiles(changed):
            seen.add(changed)
            yield f"{path}:{line}:{column}:{name}", line, changed


def _compiles(source):
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _skipped(tree):
    """Annotations, aliases of types, and the messages of errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns
        elif isinstance(node, ast.Raise) and node.exc:
            yield node.exc
        elif isinstance(node, ast.Assert):
            yield node
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            yield node


def _holds(node, line, column):
    return (node.lineno, node.col_offset) <= (line, column) < (node.end_lineno, node.end_col_offset)


def _from_cosmic_ray(source):
    import cosmic_ray.plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    for name in cosmic_ray.plugins.operator_names():
        if not OPERATORS.match(name):
            continue
        operator = cosmic_ray.plugins.get_operator(name)()
        places = [p[0] for n in ast_nodes(get_ast(source)) for p in operator.mutation_positions(n)]
        for number, place in enumerate(places):
            label = name.removeprefix("core/") + (f"#{number}" if "Number" in name else "")
            yield label, place, mutate_code(source, operator, number)


def _own(source, tree):
    """Statements, keywords, calls and conditions taken away."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue) or (
            isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name)
        ):
            yield "drop-statement", *_edit(source, node, "pass")
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg:
                    yield f"drop-keyword-{keyword.arg}", *_drop_keyword(source, keyword)
            if isinstance(node.func, ast.Attribute):
                kept = ast.get_source_segment(source, node.func.value)
                yield f"drop-call-{node.func.attr}", *_edit(source, node, kept)
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            yield "always", *_edit(source, node.test, "True")
            yield "never", *_edit(source, node.test, "False")
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield "no-filter", *_edit(source, test, "True")
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                kept = isinstance(node.op, ast.And)
                yield "drop-operand", *_edit(source, value, str(kept))
        elif isinstance(node, ast.Return) and node.value is not None:
            yield "return-none", *_edit(source, node.value, "None")


def _offset(source, line, column):
    lines = source.splitlines(keepends=True)
    return len("".join(lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())


def _edit(source, node, text):
    start = _offset(source, node.lineno, node.col_offset)
    stop = _offset(source, node.end_lineno, node.end_col_offset)
    return (node.lineno, node.col_offset), source[:start] + text + source[stop:]


def _drop_keyword(source, keyword):
    start = _offset(source, keyword.lineno, keyword.col_offset)
    stop = _offset(source, keyword.end_lineno, keyword.end_col_offset)
    rest = re.sub(r"^\s*,\s*", "", source[stop:])
    before = source[:start]
    if rest[:1] == ")":
        before = re.sub(r",\s*$", "", before)
    return (keyword.lineno, keyword.col_offset), before + rest


# --- one mutant ---------------------------------------------------------------------------------


def swap(path, text):
    """Gives the functions and classes of a loaded module the code and values of changed source.

    Returns the names of those that changed: none when the change lies outside all of them.
    """
    module = sys.modules[_module(path)]
    fresh = types.ModuleType(module.__name__)
    fresh.__file__ = module.__file__
    exec(compile(text, module.__file__, "exec"), fresh.__dict__)
    changed, new = [], dict(_functions(vars(fresh), module.__file__))
    for name, old in _functions(vars(module), module.__file__):
        other = new[name]
        same = _plain(old.__code__) == _plain(other.__code__)
        if not same:
            old.__code__ = other.__code__
        for kind in ("__defaults__", "__kwdefaults__"):
            if repr(getattr(old, kind)) != repr(getattr(other, kind)):
                setattr(old, kind, getattr(other, kind))
                same = False
        if not same:
            changed.append(old.__code__.co_qualname)
    for name, value in vars(fresh).items():
        if isinstance(value, type) and value.__module__ == module.__name__:
            changed += _swap_attributes(getattr(module, name), value)
    return changed


def _swap_attributes(old, new):
    """Gives a class the changed values among its attributes; returns their names."""
    changed, fields = [], getattr(old, "__dataclass_fields__", {})  # whose defaults __init__ has
    for name, value in vars(new).items():
        plain = isinstance(value, bool | int | float | str | tuple | frozenset | None)
        plain = plain and name not in fields and not name.startswith("__")
        if plain and repr(vars(old).get(name)) != repr(value):
            setattr(old, name, value)
            changed.append(name)
    return changed


def _module(path):
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _functions(namespace, file, prefix=""):
    for name, value in namespace.items():
        if isinstance(value, property):
            value = value.fget
        value = getattr(value, "__func__", value)
        while hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        if isinstance(value, types.FunctionType) and value.__code__.co_filename == file:
            yield prefix + name, value
        elif isinstance(value, type) and value.__module__ == namespace.get("__name__"):
            yield from _functions(dict(vars(value)), file, f"{prefix}{name}.")


def _plain(code):
    """What a code object does, without the places in the source."""
    constants = [_plain(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames


class Finder:
    """Loads one module from a changed source."""

    def __init__(self, path, text):
        self.path, self.text = path, text

    def find_spec(self, name, path=None, target=None):
        if name != _module(self.path):
            return None
        loader = Changed(name, str(ROOT / self.path))
        loader.text = self.text
        return importlib.util.spec_from_file_location(name, ROOT / self.path, loader=loader)


class Changed(importlib.machinery.SourceFileLoader):
    text = ""

    def get_data(self, path):
        return self.text.encode()

    def path_stats(self, path):
        raise OSError("no cached bytecode")

    def set_data(self, path, data, *, _mode=0o666):
        pass


class Watch:
    """Notes the first test that failed and how long each took."""

    def __init__(self, order=None, finder=None):
        self.failed, self.seconds = None, Counter()
        self.order, self.finder = order, finder

    def pytest_sessionstart(self, session):
        if self.finder:  # before pytest's own, which would read the file
            sys.meta_path.insert(0, self.finder)

    def pytest_collection_modifyitems(self, items):
        if self.order:
            items.sort(key=lambda item: self.order(item.nodeid))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid

    def pytest_collectreport(self, report):
        if report.failed and self.failed is None:
            self.failed = f"import of {report.nodeid}"


class Child:
    """A fork that runs a function and sends back its answer."""

    def __init__(self, work, timeout):
        self.start, self.data = time.monotonic(), b""
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writer)
            return
        os.close(self.reader)
        os.setsid()
        spent = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + timeout, spent + timeout))
        answer = {"failed": "an exception outside the tests"}
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            answer = work()
        except BaseException as error:
            answer["failed"] += f": {error!r}"[:200]
        data = json.dumps(answer).encode()
        while data:
            data = data[os.write(writer, data) :]
        os._exit(0)

    def finished(self):
        """The answer, or None while it runs."""
        while select.select([self.reader], [], [], 0)[0]:
            piece = os.read(self.reader, 1 << 20)
            self.data += piece
            if not piece:
                return self._end()
        return None

    def _end(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.reader)
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        died = {"failed": "timeout" if late else "the process died"}
        answer = json.loads(self.data) if self.data else died
        return answer | {"took": round(time.monotonic() - self.start, 2)}

    def wait(self):
        while (answer := self.finished()) is None:
            time.sleep(0.02)
        return answer


# --- the run ------------------------------------------------------------------------------------

ARGUMENTS = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
ARGUMENTS += ["--tb=native"]  # the quickest
ARGUMENTS += ["-k", "not learnt and not trains_a_plain"]  # long, and others see more


class Run:
    """A pytest plugin: in the place of running the tests once, runs them for every mutant."""

    def __init__(self, options):
        self.results, self.paths, self.workers = options.results, options.paths, options.workers
        self.limit, self.share, self.again = options.limit, options.share, options.again
        self.tests = options.tests

    def pytest_runtestloop(self, session):
        self.items, self.watch = {item.nodeid: item for item in session.items}, Watch()
        session.config.pluginmanager.register(self.watch)
        base = self.baseline()
        self.seconds, self.lines = base["seconds"], base["lines"]
        done = {r["id"]: r for r in read(self.results)}
        todo = (
            (path, *mutant)
            for path in self.paths
            for mutant in mutants(path)
            if (mutant[0] not in done and zlib.crc32(mutant[0].encode()) < self.share * 2**32)
            or (self.again and done[mutant[0]]["outcome"] == "survived")
        )
        self.killers = {path: Counter() for path in self.paths}
        gc.collect()
        gc.freeze()  # what is shared with the children stays shared
        with open(self.results, "a") as file:
            for row in self.outcomes(todo):
                file.write(json.dumps(row) + "\n")
                file.flush()
        return True

    def baseline(self):
        """How long each test takes and which lines it runs, without a mutant; kept in a file."""
        kept = Path(f"{self.results}.baseline")
        key = digest([TRACED, *self.tests])
        if kept.exists() and (base := json.loads(kept.read_text()))["key"] == key:
            return base
        base = Child(self.trace, 3600).wait()
        if base["failed"]:
            pytest.exit(f"without a mutant: {base['failed']}", 1)
        print(f"{len(self.items)} tests in {base['took']} s without a mutant", flush=True)
        kept.write_text(json.dumps(base | {"key": key}))
        return base

    def trace(self):
        """In a child: every test once, with the lines that it runs."""
        import coverage

        traced = coverage.Coverage(data_file=None, config_file=False, include=f"{ROOT}/{TRACED}/*")
        traced.start()
        items = list(self.items.values())
        for item, after in zip(items, [*items[1:], None], strict=True):
            traced.switch_context(item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        traced.stop()
        data = traced.get_data()
        files = [Path(name).relative_to(ROOT) for name in data.measured_files()]
        lines = {str(p): data.contexts_by_lineno(str(ROOT / p)) for p in files}
        return {"failed": self.watch.failed, "seconds": dict(self.watch.seconds), "lines": lines}

    def outcomes(self, todo):
        queue, running = iter(todo), []
        while True:
            while len(running) < self.workers and (task := next(queue, None)):
                work = functools.partial(self.test, task[0], task[2], task[3])
                running.append((task, Child(work, TIMEOUT)))
            if not running:
                return
            for task, child in list(running):
                if (answer := child.finished()) is not None:
                    running.remove((task, child))
                    killer = answer["failed"]
                    self.killers[task[0]][killer] += 1
                    kind = "killed" if killer else "survived"
                    outcome = killer if killer == "timeout" else kind
                    head = {"id": task[1], "path": task[0], "line": task[2], "outcome": outcome}
                    yield head | answer
            time.sleep(0.01)

    def order(self, path):
        """Those that killed lately; then one of every parametrized test, the quick first."""
        killers, seconds, nth, count = self.killers[path], self.seconds, {}, Counter()
        for node in self.items:
            name = node.partition("[")[0]
            nth[node] = count[name]
            count[name] += 1
        return lambda node: (-killers[node], nth.get(node, 0), seconds.get(node, 0.1))

    def test(self, path, line, text):
        """In a child: the tests that run the changed statement, until the first failure."""
        order = self.order(path)
        try:
            changed = swap(path, text)
        except Exception as error:
            return {"failed": f"import: {error!r}"[:200]}
        first, last = statement(path, line)
        run = self.lines.get(path, {})
        nodes = {n for i in range(first, last + 1) for n in run.get(str(i), ())} & set(self.items)
        if not nodes:  # it runs when the module is imported
            nodes = {n for some in run.values() for n in some} & set(self.items)
        chosen, seconds = [], 0.0
        for node in sorted(nodes, key=order):
            seconds += self.seconds.get(node, 0.1)
            if chosen and self.limit is not None and seconds > self.limit:
                break
            chosen.append(node)
        answer = {"tests": len(chosen), "of": len(nodes)}
        if not changed:
            return answer | self.test_anew(path, text, order, chosen)
        items = [self.items[node] for node in chosen]
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.watch.failed:
                break
        return answer | {"failed": self.watch.failed}

    def test_anew(self, path, text, order, chosen):
        """The same where what changed is not a function: everything is imported anew."""
        for name in list(sys.modules):
            if name.partition(".")[0] in ("sfnn_pyro", "tests") and name != __name__:
                del sys.modules[name]
        watch = Watch(order, Finder(path, text))
        with contextlib.suppress(BaseException):
            pytest.main([*ARGUMENTS, *chosen], plugins=[watch])
        return {"failed": watch.failed, "anew": True}


def statement(path, line):
    """First and last line of the innermost statement at a line.

    Of a block, its head alone; of a function, whose head runs on import, all of it.
    """
    best = line, line
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        head = node.end_lineno if body is None else body[0].lineno - 1
        if node.lineno <= line <= head:
            best = node.lineno, node.end_lineno if isinstance(node, ast.FunctionDef) else head
    return best


def digest(paths):
    """Of the contents of all modules in some folders and files."""
    whole = hashlib.sha256()
    for path in map(ROOT.joinpath, paths):
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            whole.update(file.read_bytes())
    return whole.hexdigest()


def run(options):
    import torch
    from hypothesis import HealthCheck, Phase, settings

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    settings.register_profile(
        "mutation",
        max_examples=5,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # a failure is enough: no simpler one is sought
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    # hypothesis is loaded already, which pytest warns of
    ignored = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    ARGUMENTS.extend(ignored)
    pytest.main([*ARGUMENTS, *options.tests], plugins=[Run(options)])


def read(results):
    if not Path(results).exists():
        return []
    return list(
        {r["id"]: r for r in map(json.loads, Path(results).read_text().splitlines())}.values()
    )


def report(results):
    rows = read(results)
    for path in sorted({r["path"] for r in rows}):
        count = Counter(r["outcome"] for r in rows if r["path"] == path)
        print(path, dict(count))
    for row in rows:
        if row["outcome"] == "survived":
            print(row["id"], "|", (ROOT / row["path"]).read_text().splitlines()[row["line"] - 1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", help="file of outcomes, one JSON object a line")
    parser.add_argument("paths", nargs="*", help="modules, relative to the repository")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and folders of tests")
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at a time")
    parser.add_argument("--limit", type=float, help="seconds of tests for each mutant, at most")
    parser.add_argument("--share", type=float, default=1.0, help="part of the mutants to try")
    parser.add_argument("--again", action="store_true", help="rerun those that survived")
    parser.add_argument("--report", action="store_true", help="counts and survivors")
    options = parser.parse_args()
    if options.report:
        report(options.results)
    else:
        run(options)


if __name__ == "__main__":
    main()
