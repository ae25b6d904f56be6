"""Chat templates that come with the request, made to hold the server: they need --trust-request-chat-template to be tried at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chaos.inputs import Input, post

_NEST = "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
_DICTS = "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}"
_TUPLES = "{% set ns = namespace(x=()) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}"
_DOUBLED = "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
_DEEP = "{% set ns = namespace(x=[]) %}{% for i in range(20000) %}{% set ns.x = [ns.x] %}{% endfor %}"
_USES = {
    "printed": "{{ ns.x }}",
    "compared": "{% set a = ns.x %}" + _NEST + "{{ a == ns.x }}",
    "sorted": "{{ [ns.x, ns.x] | sort | length }}",
    "joined": "{{ [ns.x] | join }}",
    "as JSON": "{{ ns.x | tojson }}",
    "as a string": "{{ ns.x | string | length }}",
    "formatted": "{{ '%s' | format(ns.x) | length }}",
    "as a list": "{{ ns.x | list | string | length }}",
    "its largest": "{{ [ns.x, ns.x] | max }}",
    "its unique ones": "{{ [ns.x, ns.x] | unique | list | length }}",
    "looked for": "{{ ns.x in [ns.x ~ ''] }}",
    "grouped": "{{ [{'k': ns.x}, {'k': ns.x}] | groupby('k') | length }}",
    "concatenated": "{{ ns.x ~ ns.x }}",
    "counted": "{{ [ns.x].count([ns.x]) }}",
    "in an f-string": "{{ '{}'.format(ns.x) | length }}",
    "in a percent": "{{ ('%r' % ([ns.x],)) | length }}",
    "dumped": "{{ {'a': ns.x} | dictsort(false, 'value') | length }}",
    "as a key": "{{ {ns.x: 1} }}",
}
_LOOPS = {
    "a loop of 10^9": "{% for i in range(10**9) %}{% endfor %}",
    "loops in loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "a recursive loop": "{% for x in [[1]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "doubling": _DOUBLED + "{{ ns.x }}",
    "a string of 10^9": "{{ 'a' * 10**9 }}",
    "a list of 10^9": "{{ [1] * 10**9 }}",
    "a range of 10^9 as a list": "{{ range(10**9) | list | length }}",
    "10^10^10": "{{ 10 ** 10 ** 10 }}",
    "a power that is printed": "{{ 7 ** 99999 }}",
    "shifts": "{{ (2 ** 4000) * (2 ** 4000) * (2 ** 4000) }}",
    "a width": "{{ '%999999999d' % 1 }}",
    "a format's width": "{{ '{:999999999}'.format(1) }}",
    "a format's nested width": "{{ '{:{}}'.format(1, 999999999) }}",
    "a precision": "{{ '%.999999999f' % 1.5 }}",
    "center": "{{ 'a'.center(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "replace": "{{ ('a' * 9999).replace('', 'b' * 9999).replace('', 'c' * 9999) }}",
    "join": "{{ ('b' * 99999).join('a' * 99999) }}",
    "title": "{{ ('a ' * 7000000) | title | length }}",
    "title in a loop": "{% for i in range(9999) %}{% set x = ('a ' * 999999) | title %}{% endfor %}",
    "capitalize in a loop": "{% for i in range(99999) %}{% set x = ('a ' * 999999) | capitalize %}{% endfor %}",
    "upper in a loop": "{% for i in range(99999) %}{% set x = ('a ' * 999999).upper() %}{% endfor %}",
    "split": "{{ ('a ' * 7000000).split() | length }}",
    "split in a loop": "{% for i in range(9999) %}{% set x = ('a ' * 99999).split() %}{% endfor %}",
    "groupby": "{{ range(900000) | groupby('x') | length }}",
    "sort": "{{ range(900000) | map('string') | sort | length }}",
    "sort in a loop": "{% for i in range(999) %}{% set x = range(90000) | map('string') | sort %}{% endfor %}",
    "unique": "{{ range(900000) | unique | list | length }}",
    "sum of lists": "{{ ([[1]] * 90000) | sum(start=[]) | length }}",
    "sum of strings": "{{ (['a'] * 900000) | sum(start='') | length }}",
    "batch": "{{ range(900000) | batch(1) | list | length }}",
    "slice": "{{ range(900000) | slice(900000) | list | length }}",
    "wordcount": "{% for i in range(999) %}{% set x = ('a ' * 999999) | wordcount %}{% endfor %}",
    "striptags": "{{ ('<' * 999999) | striptags | length }}",
    "striptags of comments": "{{ ('<!--' * 999999) | striptags | length }}",
    "escape": "{{ ('<' * 7000000) | escape | length }}",
    "urlencode": "{{ ('é' * 7000000) | urlencode | length }}",
    "indent": "{{ ('\\n' * 999999) | indent(9999) | length }}",
    "truncate": "{{ ('a ' * 7000000) | truncate(6999999) | length }}",
    "filesizeformat": "{{ 10 ** 4000 | filesizeformat }}",
    "round": "{{ 1.5 | round(10**9) }}",
    "int in base 36": "{{ ('z' * 99999) | int(0, 36) }}",
    "int of many digits": "{{ ('9' * 999999) | int }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "cycler": "{% set c = cycler(1, 2) %}{% for i in range(10**8) %}{{ c.next() }}{% endfor %}",
    "in": "{{ ('a' * 999999 ~ 'b') in ('a' * 9999999) }}",
    "find": "{{ ('a' * 9999999).find('a' * 4999999 ~ 'b') }}",
    "encode": "{{ ('a' * 9999999).encode('idna') }}",
    "a bad codec": "{{ 'a'.encode('zip') }}",
    "strftime": "{{ strftime_now('%c' * 999999) | length }}",
    "comparison of long strings": "{% set a = 'a' * 9999999 %}{% for i in range(99999) %}{% if a == ('a' * 9999999) %}{% endif %}{% endfor %}",
    "map of map of map": "{% for x in range(999) %}{{ range(9999) | map('string') | map('length') | sum }}{% endfor %}",
    "a long chain": "{% set a = 'a' * 9999 %}{{ " + " ~ ".join(["a"] * 5000) + " }}",
    "a long sum": "{{ " + " + ".join(["1"] * 5000) + " }}",
    "parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "brackets": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "ifs in ifs": "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "nots": "{{ " + "not " * 20000 + "1 }}",
    "minuses": "{{ " + "-" * 20000 + "1 }}",
    "attributes": "{{ a" + ".b" * 20000 + " }}",
    "filters": "{{ 1" + " | string" * 20000 + " }}",
    "a megabyte of text": "a" * 1_000_000,
    "a megabyte of braces": "{{" * 500_000,
    "a megabyte of comments": "{#" * 500_000,
    "a megabyte of statements": "{% set a = 1 %}" * 70_000,
    "a number of many digits": "{{ " + "9" * 100_000 + " }}",
    "an identifier of a megabyte": "{{ " + "a" * 1_000_000 + " }}",
    "a string literal of escapes": "{{ '" + "\\x41" * 200_000 + "' }}",
    "no end": "{% for a in b %}",
    "unicode names": "{{ ａ }}{{ ﬁ }}{{ Ⅳ }}",
}
_REACHES = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ self.__init__.__globals__ }}",
    "cycler's globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "attr": "{{ ''|attr('__class__') }}",
    "format": "{{ '{0.__class__}'.format('') }}",
    "format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "map attr": "{{ ['']|map(attribute='__class__')|list }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as x %}",
    "extends": "{% extends '/etc/passwd' %}",
    "change": "{{ messages.append(1) }}{{ messages.clear() }}{{ messages[0].update({'a': 1}) }}",
    "generator": "{{ (range(3)|map('string')).gi_frame }}",
    "undefined": "{{ a.b.c }}",
    "raise": "{{ raise_exception('x' * 100000) }}",
    "raise nothing": "{{ raise_exception() }}",
    "division": "{{ 1 // 0 }}",
    "overflow": "{{ 1e308 * 10 }}{{ 10.0 ** 400 }}",
    "a surrogate": "{{ '\\ud83d' }}",
    "NUL": "{{ '\\x00' * 5 }}",
    "self block": "{% block a %}{{ self.a() }}{% endblock %}",
    "a tuple call": "{{ ().count(1, 2, 3) }}",
    "an endless iterator": "{% for x in cycler(1) %}{% endfor %}",
}


def inputs() -> Iterator[Input]:
    for kind, structure in {"lists": _NEST, "dicts": _DICTS, "tuples": _TUPLES, "20,000 deep": _DEEP}.items():
        for name, use in _USES.items():
            yield _template(f"shared {kind} {name}", structure + use)
    for name, template in {**_LOOPS, **_REACHES}.items():
        yield _template(name, template)
    # The messages themselves can be what is expensive.
    shared: Any = "a"
    for _ in range(90):
        shared = [shared]
    yield _template(
        "a message nested 90 deep, printed", "{{ messages }}" * 500, [{"role": "user", "content": "a", "x": shared}]
    )
    yield _template(
        "20,000 messages, sorted",
        "{{ messages | sort(attribute='content') | length }}",
        [{"role": "user", "content": "a"}] * 20_000,
    )
    yield _template(
        "20,000 messages, each searched",
        "{% for m in messages %}{{ m in messages }}{% endfor %}",
        [{"role": "u", "content": "a"}] * 20_000,
    )


def _template(name: str, template: str, messages: list[Any] | None = None) -> Input:
    body = {"messages": messages or [{"role": "user", "content": "Hi"}], "max_tokens": 1, "chat_template": template}
    return post(f"templates/{name}", "/v1/chat/completions", body, 200, 400, 403, 413)
