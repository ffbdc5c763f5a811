"""Markup in prompts: read as AUTOMATIC1111's web UI reads it, or told in a notice."""

from __future__ import annotations

import pytest

from engine.inputs.prompt_syntax import MAX_WEIGHT, Words, parse_weights, read_a1111, read_plain


def runs(text: str) -> list[tuple[str, float]]:
    (section,) = parse_weights(text)
    return [(words.text, pytest.approx(words.weight)) for words in section]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("a [faint] word", [("a ", 1.0), ("faint", 1 / 1.1), (" word", 1.0)]),
        ("(snow:1.4)", [("snow", 1.4)]),
        ("(snow : .5)", [("snow ", 0.5)]),
        ("(snow:-1)", [("snow", -1.0)]),
        ("((snow))", [("snow", 1.21)]),
        ("(a (b:2) c:3)", [("a ", 3.0), ("b", 6.0), (" c", 3.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("[unbalanced", [("unbalanced", 1 / 1.1)]),
        ("unbalanced) and] more:1.2)", [("unbalanced) and] more:1.2)", 1.0)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        (r"saber \(fate\), (big:1.2)", [("saber (fate), ", 1.0), ("big", 1.2)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("time 12:30, ratio 1:2", [("time 12:30, ratio 1:2", 1.0)]),
        ("(x:1.2.3)", [("x:1.2.3", 1.1)]),
        ("a BREAKFAST", [("a BREAKFAST", 1.0)]),
        ("", []),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
    ],
)
def test_weights_are_those_of_a1111(text: str, expected: list[tuple[str, float]]) -> None:
    assert runs(text) == expected


def test_break_begins_a_section_also_inside_brackets() -> None:
    assert parse_weights("a BREAK\nb") == [[Words("a")], [Words("b")]]
    assert parse_weights("(a BREAK b:1.5)") == [[Words("a", 1.5)], [Words("b", 1.5)]]
    assert parse_weights("BREAK BREAK a") == [[], [], [Words("a")]]


@pytest.mark.parametrize(
    "text",
    ["(snow:1.4)", "(snow : 1.4 )", "((snow))", "[[snow]]", "a BREAK b", r"saber \(fate\)", "by embedding:cat"],
)
def test_plain_syntax_tells_of_markup_and_of_the_field_that_reads_it(text: str) -> None:
    reading = read_plain(f"hills, {text}", "negative_prompt")
    assert reading.sections == [[Words(f"hills, {text}")]]
    (notice,) = reading.notices
    assert notice.code == "prompt-syntax-ignored"
    assert "negative_prompt" in notice.detail
    assert 'prompt_syntax "a1111"' in notice.detail


@pytest.mark.parametrize(
    "text",
    [
        "hills",
        "lake (in summer)",
        "[sic]",
        "at 12:30",
        "(see: there)",
        "breakfast",
        "BREAKING",
        "the embedding: deep",
    ],
)
def test_plain_syntax_is_silent_where_nothing_looks_like_markup(text: str) -> None:
    assert read_plain(text, "prompt").notices == ()


def test_a_lora_in_a_prompt_is_told_in_both_syntaxes_and_no_word_in_a1111() -> None:
    text = "hills <lora:snow:0.8>, <hypernet:x:1> lake"
    plain, a1111 = read_plain(text, "prompt"), read_a1111(text, "prompt")
    assert plain.sections == [[Words(text)]]
    assert a1111.sections == [[Words("hills ,  lake")]]
    for reading in (plain, a1111):
        (notice,) = reading.notices
        assert notice.code == "prompt-syntax-ignored"
        assert "<lora:snow:0.8>" in notice.detail


def test_an_unknown_embedding_is_left_out_and_told() -> None:
    reading = read_a1111("(embedding:nobody:1.2), embedding:Cat. embedding:no.one", "prompt", {"cat"})
    assert reading.sections == [[Words(", embedding:Cat. ")]]
    (notice,) = reading.notices
    assert notice.code == "prompt-embedding-unknown"
    assert "'embedding:nobody', 'embedding:no.one'" in notice.detail


@pytest.mark.parametrize("text", ["[hills:lake:0.5]", "[hills:10]", "[hills|lake]", "hills AND lake"])
def test_prompts_that_change_or_are_several_are_told(text: str) -> None:
    assert [notice.code for notice in read_a1111(text, "prompt").notices] == ["prompt-syntax-ignored"]


@pytest.mark.parametrize("text", ["[hills]", r"\[hills|lake\]", "SAND", "[a] and | [b]", "(hills:1.2)"])
def test_what_a1111_syntax_reads_is_not_told(text: str) -> None:
    assert read_a1111(text, "prompt").notices == ()


def test_a_weight_that_would_drown_everything_is_limited_and_told() -> None:
    reading = read_a1111("(" * 99 + "snow" + ")" * 99 + ", (rain:-1000000)", "prompt")
    assert MAX_WEIGHT in {words.weight for words in reading.sections[0]}
    assert max(abs(words.weight) for words in reading.sections[0]) == MAX_WEIGHT
    assert [notice.code for notice in reading.notices] == ["prompt-weight-limited"]


def test_no_weight_is_infinite_or_no_number() -> None:
    nested = "(" * 150 + "x" + ":999999)" * 149
    for text in (nested + ":0)", f"(x:{'9' * 400})", f"((x:0):{'9' * 400})"):
        weights = [words.weight for section in read_a1111(text, "prompt").sections for words in section]
        assert all(abs(weight) <= MAX_WEIGHT for weight in weights)
