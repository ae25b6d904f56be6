"""Flags are made from dataclasses: every option has exactly one, and what is given arrives as the field's type."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from octavo.config import EngineArgs, option
from octavo.errors import ConfigError
from octavo.flags import Flag, Parser, add_flags, flags_of, normalized
from octavo.foreign_args import FOREIGN_ARGS
from octavo.frontend.cli import chat, complete, serve
from octavo.frontend.server.options import ServerOptions
from octavo.tools import bench_latency, bench_perplexity, bench_serve, bench_throughput

ALL_FLAGS = [(cls, flag) for cls in (EngineArgs, ServerOptions) for flag in flags_of(cls)]
PARSERS = [
    serve.make_parser(),
    bench_serve.make_parser(),
    bench_throughput.make_parser(),
    bench_latency.make_parser(),
    bench_perplexity.make_parser(),
]


def example(flag: Flag) -> tuple[list[str], Any]:
    """Words for a flag with a value that is not its default, and the value they mean."""
    name = flag.names[0]
    if flag.choices:
        value: Any = next(choice for choice in flag.choices if choice != flag.default)
        return [name, value], value
    values: dict[str, tuple[list[str], Any]] = {
        "bool": ([name if not flag.default else "--no-" + name[2:]], not flag.default),
        "int": ([name, "7"], 7),
        "float": ([name, "0.25"], 0.25),
        "str": ([name, "some text"], "some text"),
        "number or text": ([name, "8k"], "8k"),
        "list": ([name, "a", "b"], ["a", "b"]),
        "json": ([name, '{"a": {"b": 1}}'], {"a": {"b": 1}}),
    }
    return values[flag.kind]


@pytest.mark.parametrize(("cls", "flag"), ALL_FLAGS, ids=[flag.names[0] for _, flag in ALL_FLAGS])
def test_flag_reaches_its_field(cls: type, flag: Flag) -> None:
    words, value = example(flag)
    parts = dict(zip((EngineArgs, ServerOptions), serve.parse(words), strict=True))
    assert getattr(parts[cls], flag.field) == value
    others = [getattr(parts[c], f.field) == f.default for c, f in ALL_FLAGS if f.field != flag.field]
    assert all(others)


@pytest.mark.parametrize(("cls", "flag"), ALL_FLAGS, ids=[flag.names[0] for _, flag in ALL_FLAGS])
def test_second_spelling_means_the_same(cls: type, flag: Flag) -> None:
    words, _ = example(flag)
    for other in flag.names[1:]:
        assert serve.parse([other, *words[1:]]) == serve.parse(words)
    underscored = [words[0].replace("-", "_").replace("__", "--", 1), *words[1:]]
    assert serve.parse(underscored) == serve.parse(words)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_option_is_documented_once(parser: Parser) -> None:
    shown = [action for action in parser._actions if action.help != "==SUPPRESS=="]
    counts = Counter(name for action in shown for name in action.option_strings)
    assert set(counts.values()) == {1}
    assert all(action.help for action in shown)
    assert len({action.dest for action in shown}) == len(shown)


def test_serve_offers_every_option() -> None:
    help_text = PARSERS[0].format_help()
    for _, flag in ALL_FLAGS:
        assert flag.names[0] in help_text


def test_model_positional_or_flag() -> None:
    assert serve.parse(["some/model"])[0].model == "some/model"
    assert serve.parse(["--model", "some/model"])[0].model == "some/model"
    assert serve.parse(["--port", "1", "some/model"])[1].port == 1
    assert serve.parse([]) == (EngineArgs(), ServerOptions())


def test_two_different_models_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse(["a", "--model", "b"])
    assert "MODEL is 'a' but --model is 'b'" in capsys.readouterr().err


def test_json_flags_by_dotted_keys() -> None:
    words = ["--hf-overrides.rope_scaling.factor", "2.5", "--hf_overrides.names+", "x", "--hf-overrides.names+=y"]
    engine, _ = serve.parse([*words, "--hf-overrides", '{"rope_scaling": {"type": "linear"}}'])
    assert engine.hf_overrides == {"rope_scaling": {"factor": 2.5, "type": "linear"}, "names": ["x", "y"]}


@pytest.mark.parametrize("value", ["{", "[1]", "5", "text"])
def test_json_flag_refuses_what_is_no_object(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse(["--hf-overrides", value])
    assert "--hf-overrides" in capsys.readouterr().err


def test_lists_given_twice_add_up() -> None:
    assert serve.parse(["--api-key", "a", "b", "--api-key", "c"])[1].api_key == ["a", "b", "c"]


def test_abbreviations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse(["--max-model", "5"])
    assert "--max-model" in capsys.readouterr().err


def test_normalized_leaves_values_alone() -> None:
    words = ["a_b", "--x_y=c_d.e", "--x", "f_g.h", "--", "--i_j"]
    assert normalized(words) == ["a_b", "--x-y=c_d.e", "--x", "f_g.h", "--", "--i_j"]


class TestForeign:
    """Flags of other engines."""

    @pytest.mark.parametrize("name", sorted(FOREIGN_ARGS))
    def test_accepted_and_hidden(self, name: str) -> None:
        flag, arg = "--" + name.replace("_", "-"), FOREIGN_ARGS[name]
        words = ["--no-" + flag[2:]] if arg.switch else [flag, json.dumps(arg.only[0]) if arg.only else "auto"]
        assert serve.parse(["m", *words])[0] == EngineArgs(model="m")
        assert flag not in PARSERS[0].format_help()

    def test_value_that_would_have_an_effect_is_refused(self) -> None:
        for words in (["-tp", "2"], ["--data-parallel-size=4"], ["-sc", '{"method": "ngram"}'], ["--enable-lora"]):
            with pytest.raises(ConfigError, match="this version"):
                serve.parse(words)


FILE_OPTIONS = {"model": "m", "port": 9000, "max_model_len": "4k", "enable-prefix-caching": False, "api-key": ["a", "b"]}


class TestConfigFile:
    """--config: options from a file beneath those of the command line."""

    @pytest.mark.parametrize("name", ["options.yaml", "options.json"])
    def test_file_is_read(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text(json.dumps({**FILE_OPTIONS, "hf_overrides": {"a": 1}, "seed": None}))
        engine, server = serve.parse(["--config", str(path)])
        assert (engine.model, engine.max_model_len, engine.enable_prefix_caching) == ("m", "4k", False)
        assert (server.port, server.api_key, engine.hf_overrides) == (9000, ["a", "b"], {"a": 1})

    def test_command_line_goes_first(self, tmp_path: Path) -> None:
        path = tmp_path / "options.json"
        path.write_text(json.dumps(FILE_OPTIONS))
        engine, server = serve.parse(["other", "--config", str(path), "--port", "1", "--api-key", "c"])
        assert (engine.model, server.port, server.api_key) == ("other", 1, ["c"])

    @pytest.mark.parametrize(
        "text",
        ["api_key:", "api-key: null", "api_key: []", 'api_key: ""', 'api_key: [""]', "ssl_certfile:", 'ssl-keyfile: ""'],
    )
    def test_an_option_that_protects_is_not_left_out_silently(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "options.yaml"
        path.write_text(f"model: m\nport:\n{text}\n")
        _, server = serve.parse(["--config", str(path)])
        with pytest.raises(ConfigError, match=r"--api-key|--ssl-"):
            server.check()

    @pytest.mark.parametrize(
        ("text", "message"),
        [("[1, 2]", "must hold an object"), ('{"prt": 1}', "--prt"), ('{"port": "x"}', "--port"), ("{", "options.json")],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "options.json"
        path.write_text(text)
        with pytest.raises(SystemExit):
            serve.parse(["--config", str(path)])
        assert message in capsys.readouterr().err

    def test_missing_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            serve.parse(["--config", str(tmp_path / "none.yaml")])
        assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--api-key"], ["--api-key", ""], ["--api-key="], ["--api-key", "--port", "1"]])
def test_a_key_that_is_not_there_is_refused(words: list[str]) -> None:
    _, server = serve.parse(["m", *words])
    with pytest.raises(ConfigError, match="--api-key"):
        server.check()
    _, server = serve.parse(["m"])
    server.check()


def test_field_of_an_unknown_type_is_refused() -> None:
    @dataclass
    class Odd:
        field: complex = option(1j, "Odd.")

    with pytest.raises(TypeError, match="field"):
        add_flags(Parser(), Odd, "odd")


def test_chat_and_complete_options() -> None:
    assert chat.parse(["-q", "hi", "--temperature", "0"]).sampling() == {"temperature": 0.0}
    assert complete.parse(["Once", "upon", "--max-tokens", "5"]).quick == "Once upon"
