"""Flags are made from dataclasses: every option has exactly one, and what is given arrives as the field's type."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import vllm_surface as vllm

from octavo.config import EngineArgs
from octavo.config.flags import Flag, Parser, add_flags, flags_of, normalized
from octavo.config.foreign_args import FOREIGN_ARGS, FOREIGN_VALUES
from octavo.config.foreign_flags import FOREIGN_FLAGS, SERVED_FLAGS
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.frontend.cli import chat, complete, serve
from octavo.frontend.cli.config_file import FileKeys
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


class TestVllm:
    """No flag of vLLM's is unknown, and what is refused is refused by name."""

    @pytest.mark.parametrize("name", (vllm.SERVE_FLAGS + vllm.OLD_SERVE_FLAGS).split())
    def test_every_flag_is_served_or_has_its_reason(self, name: str) -> None:
        field = name.replace("-", "_")
        tables = [table[field] for table in (FOREIGN_ARGS, FOREIGN_FLAGS) if field in table]
        assert (name in SERVED_FLAGS) is not bool(tables)
        assert "--" + name in PARSERS[0]._option_string_actions
        for arg in tables:
            if arg.only is not None:
                assert arg.why.startswith("this version has no "), "it names the capability that is missing"

    def test_no_flag_is_said_to_be_served_that_vllm_has_not(self) -> None:
        assert set(SERVED_FLAGS) <= set((vllm.SERVE_FLAGS + vllm.OLD_SERVE_FLAGS).split())

    def test_short_spellings(self) -> None:
        assert set(vllm.SHORT_SERVE_FLAGS.split()) <= set(PARSERS[0]._option_string_actions)
        assert serve.parse(["-q", "int8", "-O3", "-cc.level", "3"])[0] == EngineArgs(quantization="int8")

    @pytest.mark.parametrize("name", [name for name, arg in FOREIGN_FLAGS.items() if arg.only is None])
    def test_server_flags_without_effect(
        self, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octavo.config.foreign_args._told", set())
        flag, arg = "--" + name.replace("_", "-"), FOREIGN_FLAGS[name]
        assert serve.parse([flag] if arg.switch else [flag, "5"]) == (EngineArgs(), ServerOptions())
        assert f"{flag} has no effect: {arg.why}" in caplog.text

    @pytest.mark.parametrize("name", [name for name, arg in FOREIGN_FLAGS.items() if arg.only is not None])
    def test_server_flags_that_are_refused(self, name: str) -> None:
        flag, arg = "--" + name.replace("_", "-"), FOREIGN_FLAGS[name]
        with pytest.raises(ConfigError, match=f"{flag} is not supported: {re.escape(arg.why)}"):
            serve.parse([flag] if arg.switch else [flag, "7"])

    def test_values_of_a_list_are_not_the_model(self) -> None:
        with pytest.raises(ConfigError, match="--lora-modules is not supported: this version has no LoRA"):
            serve.parse(["m", "--lora-modules", "a=/a/", "b=/b/"])
        assert serve.parse(["m", "--allowed-media-domains", "a", "b"])[0].model == "m"

    @pytest.mark.parametrize(("name", "value"), [(name, value) for name, table in FOREIGN_VALUES.items() for value in table])
    def test_values_that_are_refused(self, name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
        why = FOREIGN_VALUES[name][value]
        assert why.startswith("this version has no ")
        with pytest.raises(SystemExit):
            serve.parse(["--" + name.replace("_", "-"), value])
        assert why in capsys.readouterr().err
        with pytest.raises(ConfigError, match=re.escape(why)):
            EngineArgs.from_kwargs(**{name: value})

    def test_values_that_mean_one_of_ours(self) -> None:
        engine, _ = serve.parse(["--load-format", "hf", "--distributed-executor-backend=mp", "--generation-config", "vllm"])
        assert engine == EngineArgs(generation_config="octavo")
        assert EngineArgs(load_format="hf", distributed_executor_backend="mp", generation_config="vllm") == engine


class TestSwitches:
    """They take values, as YAML files and shell scripts write them."""

    @pytest.mark.parametrize(
        "words", ["--enable-prefix-caching=false", "--enable-prefix-caching False", "--no-enable-prefix-caching"]
    )
    def test_off(self, words: str) -> None:
        assert serve.parse([*words.split(), "m"])[0] == EngineArgs(model="m", enable_prefix_caching=False)

    @pytest.mark.parametrize("words", ["--skip_tokenizer_init=1", "--skip-tokenizer-init true", "--no-skip-tokenizer-init=off"])
    def test_on(self, words: str) -> None:
        assert serve.parse([*words.split(), "m"])[0] == EngineArgs(model="m", skip_tokenizer_init=True)

    def test_of_others(self) -> None:
        assert serve.parse(["--multi-step-stream-outputs", "false"])[0] == EngineArgs()
        with pytest.raises(ConfigError, match="parallelism"):
            serve.parse(["-ep", "true"])

    def test_neither(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            serve.parse(["--enable-prefix-caching=maybe"])
        assert (
            "--enable-prefix-caching/--no-enable-prefix-caching: a switch takes true or false, got 'maybe'"
            in capsys.readouterr().err
        )

    def test_words_that_stand_for_themselves_are_left_alone(self) -> None:
        parser = Parser()
        parser.add_argument("prompt", nargs="*")
        parser.add_argument("--loud", action=argparse.BooleanOptionalAction)
        assert parser.parse_args(["--loud", "true", "story"]).prompt == ["true", "story"]


@pytest.mark.parametrize(
    ("word", "meant"), [("--max-modle-len", "--max-model-len"), ("--api_keys=x", "--api-key"), ("--zzz", "")]
)
def test_the_nearest_flag_is_named(word: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.parse([word])
    error = capsys.readouterr().err
    assert "unrecognized arguments: --" in error
    assert f"(did you mean {meant}?)" in error if meant else "did you mean" not in error


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
        [
            ("[1, 2]", "must hold an object"),
            ('{"host": "h", "prt": 1}', "--config FILE: prt: unrecognized arguments: --prt=1 (did you mean --port?)"),
            ('{"port": "x"}', "--config FILE: port: argument --port: must be a whole number, got 'x'"),
            ('{"port": true}', "--config FILE: port: "),
            ('{"load-format": "tensorizer"}', "--config FILE: load-format: argument --load-format: "),
            ("{", "options.json"),
            ('{"config": "other.yaml"}', "--config FILE: config: a file of options names no other one"),
            ("[" * 20_000, "--config: FILE is nested too deep"),
            (
                '{"hf_overrides": ' + '{"a": ' * 100 + "1" + "}" * 101,
                "--hf-overrides: the value is nested deeper than 64 levels",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "options.json"
        path.write_text(text)
        with pytest.raises(SystemExit):
            serve.parse(["--config", str(path)])
        assert message.replace("FILE", str(path)) in capsys.readouterr().err

    def test_what_turns_out_wrong_later_is_named_too(self, tmp_path: Path) -> None:
        path = tmp_path / "options.yaml"
        path.write_text("enable_lora: true\n")
        with pytest.raises(ConfigError, match=re.escape(f"(enable_lora in {path})")):
            serve.parse(["--config", str(path)])
        path.write_text("max_body_size: 0\nbody-timeout: 5\n")
        origin = FileKeys()
        _, options = serve.parse(["--config", str(path)], origin)
        with pytest.raises(ConfigError, match=re.escape(f"got 0 (max_body_size in {path})")), origin.named():
            options.check()
        _, options = serve.parse(["--config", str(path), "--max-body-size=-1"], origin)
        with pytest.raises(ConfigError, match=r"got -1$"), origin.named():
            options.check()

    @pytest.mark.parametrize("text", ["seed: " + "[" * 20_000, "hf_overrides: &a {b: *a}", "hf_overrides: {a: 2020-01-01}"])
    def test_yaml_that_is_no_json_is_named(self, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "options.yaml"
        path.write_text(text)
        with pytest.raises(SystemExit):
            serve.parse(["--config", str(path)])
        assert str(path) in capsys.readouterr().err

    def test_deep_json_on_the_command_line_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            serve.parse(["--hf-overrides", '{"a": ' * 20_000 + "1" + "}" * 20_000])
        assert "--hf-overrides: the value is nested deeper" in capsys.readouterr().err
        for words in (["--hf-overrides" + ".a" * 20_000, "1"], ["--hf-overrides.a", "[" * 20_000 + "]" * 20_000]):
            with pytest.raises(ConfigError, match="--hf-overrides is nested deeper"):
                serve.parse(words)

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
