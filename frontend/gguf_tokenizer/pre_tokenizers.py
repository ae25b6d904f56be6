"""How byte-pair encoding cuts a text into words before it merges: by the names that `tokenizer.ggml.pre` gives.

The patterns are those the models were trained with, as their own tokenizer.json files have them. Each pattern cuts what the
one before left, and what no pattern matches is a word of its own, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CJK_AND_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_HAN_TO_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_ASCII_PUNCTUATION = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
DIGIT = r"\p{N}"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LINES = r"[^\n]+|[\n]+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


def _llama3(digits: str, contraction: str = _CONTRACTION + "|") -> str:
    return contraction + rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


def _cased(digits: str, upper: str, lower: str, contraction: str = _CONTRACTION + "?", punctuation_end: str = "/") -> str:
    """Words by case: a run that ends in small letters, or one of capitals."""
    start = r"[^\r\n\p{L}\p{N}]?"
    words = f"{start}{upper}*{lower}+{contraction}|{start}{upper}+{lower}*{contraction}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n{punctuation_end}]*|{_SPACES}"


_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_UPPER_NOT_HAN, _LOWER_NOT_HAN = (f"[{letters[1:-1]}&&[^\\p{{Han}}]]" for letters in (_UPPER, _LOWER))
_GPT4O = _cased(r"\p{N}{1,3}", _UPPER, _LOWER)


def _deepseek3(punctuation_end: str, spaces: str) -> str:
    words = rf"{_ASCII_PUNCTUATION}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    return rf"{words}| ?[\p{{P}}\p{{S}}]+{punctuation_end}|{spaces}"


_DEEPSEEK3 = _deepseek3(r"[\r\n]*", _SPACES)
_DEEPSEEK_LETTERS = (
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-"
    "\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-"
    "\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15"
    "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc"
    "\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149"
    "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f"
    "\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
)
_AFMOE_SCRIPTS = (
    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
    "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
_YOUTU_SCRIPTS = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
    "|[\u3105-\u312f]+|" + _CJK_AND_KANA
)
_JAIS2_SPACES = (
    r"\s*[\r\n]+|" + "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s{1}"
)


@dataclass(frozen=True)
class PreTokenizer:
    """What a name stands for.

    Attributes:
        patterns: applied one after the other.
        ignore_merges: a word that is a token is that token, whatever the merges say.
        add_bos: prompts begin with BOS where the file does not say.
        byte_level: tokens are spelled in GPT-2's alphabet of bytes; else in plain text.
        spaces_as_blocks: spaces are written as U+2581 first.
        forces_bos: prompts begin with BOS even if the file says otherwise.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    byte_level: bool = True
    spaces_as_blocks: bool = False
    forces_bos: bool = False


_PLAIN_GPT2 = PreTokenizer((GPT2,))
_DIGITS_AND_GPT2 = PreTokenizer((DIGIT, GPT2))
_LLAMA3 = PreTokenizer((_llama3(r"\p{N}{1,3}"),))
_QWEN2 = PreTokenizer((_llama3(r"\p{N}"),))
_DEEPSEEK_V3 = PreTokenizer((r"\p{N}{1,3}", _CJK_AND_KANA, _DEEPSEEK3))
_TINY_AYA = PreTokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O))
_GEMMA4 = PreTokenizer((_LINES,), byte_level=False, spaces_as_blocks=True, forces_bos=True, add_bos=True)

DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))
"""For files that do not say; what llama.cpp takes then."""

_GROUPS: tuple[tuple[str, PreTokenizer], ...] = (
    ("default", DEFAULT),
    ("llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     replace(_LLAMA3, ignore_merges=True, add_bos=True)),
    ("dbrx smaug-bpe chatglm-bpe", _LLAMA3),
    ("glm4 glm5", replace(_LLAMA3, ignore_merges=True)),
    ("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", _QWEN2),
    ("qwen35", PreTokenizer((
        _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _SPACES,
    ))),
    ("gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert", _PLAIN_GPT2),
    ("jina-v1-en jina-v2-code roberta-bpe mpt olmo jais trillion granite-docling exaone4", _PLAIN_GPT2),
    ("starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", _DIGITS_AND_GPT2),
    ("falcon", PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"))),
    ("deepseek-llm", PreTokenizer((
        "[\r\n]", rf"\s?[{_DEEPSEEK_LETTERS}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$",
        _HAN_TO_HANGUL, r"\p{N}+",
    ))),
    ("deepseek-coder", PreTokenizer(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_TO_HANGUL, DIGIT))),
    ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", _DEEPSEEK_V3),
    ("spark2_5", PreTokenizer((r"\p{N}{1,3}", _CJK_AND_KANA, _deepseek3("", r"[\r\n]|\s+(?!\S)|\s+"), DIGIT))),
    ("youtu", PreTokenizer((_YOUTU_SCRIPTS, _cased(r"\p{N}", _UPPER, _LOWER)), ignore_merges=True)),
    ("poro-chat bloom gpt3-finnish", PreTokenizer((_BLOOM,))),
    ("viking", PreTokenizer((_BLOOM, DIGIT))),
    ("tekken", PreTokenizer((_cased(r"\p{N}", _UPPER, _LOWER, contraction=""),), ignore_merges=True, add_bos=True)),
    ("chameleon", PreTokenizer((
        "<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", DIGIT, r"[\p{P}!-/:-@\[-`{-~]", GPT2,
    ), add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", PreTokenizer((_GPT4O,))),
    ("granite-embed-multi-97m", PreTokenizer((_GPT4O,), ignore_merges=True)),
    ("tiny_aya cohere2moe", _TINY_AYA),
    ("kimi-k2", PreTokenizer((
        r"\p{Han}+|" + _cased(r"\p{N}{1,3}", _UPPER_NOT_HAN, _LOWER_NOT_HAN, punctuation_end=""),
    ))),
    ("superbpe", PreTokenizer((r"\p{N}+", r"(?=(\d{3})+(?!\d))"))),
    ("bailingmoe bailingmoe2 llada-moe", PreTokenizer((
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ))),
    ("seed-coder", PreTokenizer((
        _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|" + _SPACES,
    ))),
    ("ufakzeka", PreTokenizer((_llama3(r"\p{N}", contraction=""),))),
    ("afmoe", PreTokenizer((r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", _AFMOE_SCRIPTS, _DEEPSEEK3))),
    ("laguna", PreTokenizer((_LINES, *_QWEN2.patterns))),
    ("exaone-moe", PreTokenizer((
        _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    ))),
    ("minicpm5", PreTokenizer((r"\p{N}{1,3}", _llama3(r"\p{N}+")), ignore_merges=True)),
    ("jais-2", PreTokenizer((_llama3(r"\p{N}{1,3}").removesuffix(_SPACES) + _JAIS2_SPACES,))),
    ("gemma4 granite-embed-multi-311m", _GEMMA4),
    ("sarvam-moe", replace(_GEMMA4, forces_bos=False, add_bos=False)),
    ("whitespace", PreTokenizer((r"\S+",), byte_level=False)),
)  # fmt: skip

PRE_TOKENIZERS = {name: kind for names, kind in _GROUPS for name in names.split()}
"""Every name that llama.cpp knows."""
