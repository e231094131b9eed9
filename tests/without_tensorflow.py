"""A PennyLane that knows nothing of TensorFlow, as a later release is announced to be.

Once `install` has been called, PennyLane's modules are compiled without all that is for TensorFlow:
what they register in autoray, the branches for its tensors and interfaces, and their imports of it.
What is left is what autoray knows of TensorFlow itself. `REMOVED` counts what was taken out.

As a plugin, `PYTHONPATH=tests python -m pytest -p without_tensorflow tests/...`, it does so to any
test.
"""

import ast
import collections
import importlib.machinery
import importlib.util
import re
import sys

NAMES = ("tensorflow", "tf", "tf-autograph", "tensorflow-autograph", "tensorflow-macos")
MEMBERS = ("TF", "TF_AUTOGRAPH")  # of `Interface`
_NAMED = re.compile(rb"tensorflow|\btf\b|\bTF")  # any of these, in a module's source
REMOVED = collections.Counter()


def is_name(node: ast.AST) -> bool:
    """Whether an expression names TensorFlow or one of PennyLane's interfaces to it."""
    if isinstance(node, ast.Attribute):
        return node.attr in MEMBERS
    return isinstance(node, ast.Constant) and node.value in NAMES


def is_registration(node: ast.stmt) -> bool:
    """Whether a statement tells autoray how TensorFlow does something."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        key = node.targets[0].slice
        return isinstance(key, ast.Tuple) and any(map(is_name, key.elts[:1]))
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr == "register_function" and is_name(call.args[0])


class Without(ast.NodeTransformer):
    """Takes everything that is for TensorFlow out of a module."""

    def visit(self, node):
        if isinstance(node, ast.stmt) and is_registration(node):
            REMOVED["registrations"] += 1
            return ast.copy_location(ast.Pass(), node)
        return super().visit(node)

    def visit_Compare(self, node):
        one = node.ops[0]
        if any(map(is_name, (node.left, *node.comparators))):
            REMOVED["branches"] += 1
            return ast.copy_location(ast.Constant(isinstance(one, ast.NotEq | ast.NotIn)), node)
        return self.generic_visit(node)

    def _container(self, node):
        left = [each for each in node.elts if not is_name(each)]
        context = getattr(node, "ctx", ast.Load())
        if len(left) == len(node.elts) or not isinstance(context, ast.Load):
            return self.generic_visit(node)
        REMOVED["branches"] += 1
        made = ast.List if isinstance(node, ast.Set) and not left else type(node)
        more = {} if made is ast.Set else {"ctx": ast.Load()}
        return self.generic_visit(ast.copy_location(made(elts=left, **more), node))

    visit_Set = visit_List = visit_Tuple = _container

    def visit_Dict(self, node):
        pairs = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if not is_name(k)]
        node.keys, node.values = [k for k, _ in pairs], [v for _, v in pairs]
        return self.generic_visit(node)

    def visit_ClassDef(self, node):
        def is_member(line):
            targets = line.targets if isinstance(line, ast.Assign) else ()
            return any(isinstance(x, ast.Name) and x.id in MEMBERS for x in targets)

        node.body = [line for line in node.body if not is_member(line)]
        return self.generic_visit(node)

    def visit_match_case(self, node):
        value = node.pattern.value if isinstance(node.pattern, ast.MatchValue) else None
        if value is None or not is_name(value):
            return self.generic_visit(node)
        REMOVED["branches"] += 1
        return None

    def _import(self, node):
        module = getattr(node, "module", None) or node.names[0].name
        if module.split(".")[0] != "tensorflow" or getattr(node, "level", 0):
            return node
        REMOVED["imports"] += 1
        error = ast.parse("raise ImportError('PennyLane has no TensorFlow')").body[0]
        return ast.fix_missing_locations(ast.copy_location(error, node))

    visit_Import = visit_ImportFrom = _import


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):  # not from the file of compiled code, nor into it
        path = self.get_filename(fullname)
        source = self.get_data(path)
        if not _NAMED.search(source):  # as in nine of ten modules; parsing takes long
            return super().get_code(fullname)
        tree = Without().visit(ast.parse(source, path))
        return compile(ast.fix_missing_locations(tree), path, "exec")


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] != "pennylane":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin and spec.origin.endswith(".py"):
            spec.loader = _Loader(name, spec.origin)
        return spec


def install() -> None:
    """Has PennyLane imported without TensorFlow from here on, in this process."""
    if any(name.split(".")[0] == "pennylane" for name in sys.modules):
        raise RuntimeError("PennyLane has been imported before")
    sys.meta_path.insert(0, _Finder)


if "pytest" in sys.modules and "-p" in sys.argv and "without_tensorflow" in sys.argv:
    install()
