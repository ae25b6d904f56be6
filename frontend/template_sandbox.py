"""A Jinja environment in which a template can neither reach the interpreter nor hold the server.

Templates come with models, or even with requests. Jinja's immutable sandbox keeps them from Python's internals; what it does
not bound, `template_budget` counts and `template_guards` refuses. This module puts them at every place where a template does
something: at loops, calls, filters, tests and operators, and, by rewriting the parsed template, at comparisons, subscripts,
long literals and output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.ext import Extension, loopcontrols
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from octavo.frontend.template_budget import MAX_CHARS, BudgetError, budget, check_length, made, metered, tick, touch, walked
from octavo.frontend.template_guards import check_binop, check_format, checked_arguments, guarded_filter, guarded_test

__all__ = ["BudgetError", "TemplateEnvironment", "budget", "render"]

MAX_MESSAGE = 1000
MAX_DATE_FORMAT = 256
_LONG_LITERAL = 64
_REMOVED_FILTERS = ("wordwrap", "xmlattr", "urlize", "pprint")
_UNSAFE_METHODS: dict[str, type] = {
    **dict.fromkeys(("translate", "maketrans", "expandtabs", "encode", "striptags"), str),
    **dict.fromkeys(("to_bytes", "from_bytes"), int),
    "fromkeys": dict,
}
"""What neither a template needs nor a guard bounds."""


def render(template: jinja2.Template, variables: dict[str, Any]) -> str:
    """Render within the budgets.

    Raises:
        BudgetError: over budget.
        jinja2.TemplateError: the template's own errors.
    """
    parts, length = [], 0
    with budget():
        for part in template.generate(variables):
            parts.append(part)
            length += len(part)
            if length > MAX_CHARS:
                raise BudgetError(f"it writes more than {MAX_CHARS} characters")
            tick()
    return "".join(parts)


class _MeteredCodeGenerator(CodeGenerator):
    """Compiling a long template takes its time, too."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        tick()
        return super().visit(node, *args, **kwargs)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (transformers' options, filters and globals), with budgets."""

    code_generator_class = _MeteredCodeGenerator
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols], finalize=walked)
        self.filters["tojson"] = _tojson
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        self.filters = {name: guarded_filter(name, func) for name, func in self.filters.items()}
        self.filters.update(_metered=metered, _walked=walked, _made=_touched_and_made)
        self.tests = {name: guarded_test(name, test) for name, test in self.tests.items()}
        del self.globals["lipsum"]
        self.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_Namespace)
        self.concat = _bounded_concat  # type: ignore[method-assign]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Guarding().visit(super()._parse(source, name, filename))
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        unsafe = attr in _UNSAFE_METHODS and isinstance(obj, _UNSAFE_METHODS[attr])
        return not unsafe and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapper = super().wrap_str_format(value)
        if wrapper is None:
            return None
        form = str(value.__self__)

        def bounded(*args: Any, **kwargs: Any) -> str:
            check_format(form, "{", [*args, *kwargs.values()])
            return wrapper(*args, **kwargs)

        return bounded

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_binop(operator, left, right)
        return made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063
        tick()
        if not isinstance(__obj, Macro | LoopContext):
            args = checked_arguments(__obj, args, kwargs)
        return made(super().call(__context, __obj, *args, **kwargs))


class _Guarding(NodeTransformer):
    """Puts a guard where compiled templates do something that no method of the environment stands before."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        tick()
        return super().visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_metered", [], [], None, None, lineno=node.lineno, environment=node.environment)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`a ~ b` is compiled to a function nobody can replace; [a, b] | join is the same with a bound."""
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "join")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if not _is_cheap(node):
            node.expr = _walked(node.expr)
            for operand in node.ops:
                operand.expr = _walked(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _filtered(node, "_made")
        node.arg = _walked(node.arg)
        return node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        for pair in node.items:
            pair.key = _walked(pair.key)
        return _filtered(node, "_made") if len(node.items) > _LONG_LITERAL else node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_made") if len(node.items) > _LONG_LITERAL else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_made") if len(node.items) > _LONG_LITERAL and node.ctx == "load" else node


def _is_cheap(node: nodes.Compare) -> bool:
    """Whether it asks if something equals a literal: never more than one string's length of work."""
    sides = [node.expr, *(operand.expr for operand in node.ops)]
    return all(operand.op in ("eq", "ne") for operand in node.ops) and any(isinstance(side, nodes.Const) for side in sides)


def _walked(value: nodes.Expr) -> nodes.Expr:
    return value if isinstance(value, nodes.Const) else _filtered(value, "_walked")


def _filtered(value: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno, environment=value.environment)


class _GenerationTag(Extension):
    """{% generation %}...{% endgeneration %} marks the assistant's tokens for training; here it is only its body.

    An extension is also who sees each token of a template that is parsed, and so counts it.
    """

    tags = {"generation"}  # noqa: RUF012

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        return metered(stream)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja's prints what it holds, and may hold itself."""

    def __repr__(self) -> str:
        return "<Namespace>"


def _raise_exception(message: Any) -> None:
    raise jinja2.TemplateError(str(message)[:MAX_MESSAGE])


def _strftime_now(form: str) -> str:
    if len(form) > MAX_DATE_FORMAT:
        raise BudgetError(f"it formats the date with more than {MAX_DATE_FORMAT} characters")
    return datetime.now().strftime(form)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _touched_and_made(value: Any) -> Any:
    touch(value)
    return made(value)


def _bounded_concat(parts: Any) -> str:
    """What blocks and macros end with."""
    parts = list(parts)
    check_length(sum(map(len, parts)))
    return str(made("".join(parts)))
