"""Lengths of prompts, with CLIP's real vocabulary: where they are cut, and how longer ones are read in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.families.stable_diffusion import StableDiffusion
from engine.inputs.chunks import MAX_CHUNKS, Chunk, Vocabulary, many_chunks, one_chunk
from engine.inputs.prompt_syntax import parse_weights
from engine.loading import load_model
from recipe.models import find_model
from testkit.clip import encoded, tokenizer_in, with_real_vocabulary, write_clip_tokenizer
from testkit.tiny import build_tiny_model, build_tiny_xl

START, END, COMMA, A = 49406, 49407, 267, 320


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = write_clip_tokenizer(tmp_path_factory.mktemp("clip") / "tokenizer")
    return Vocabulary(tokenizer_in(folder.parent), {})


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    folder = build_tiny_model(tmp_path_factory.mktemp("sd") / "model", window=16)
    return load_model(find_model(str(with_real_vocabulary(folder))), device="cpu")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    folder = build_tiny_xl(tmp_path_factory.mktemp("xl") / "model")
    return load_model(find_model(str(with_real_vocabulary(folder))), device="cpu")


def chunks(vocabulary: Vocabulary, text: str) -> list[Chunk]:
    pieces = [vocabulary.pieces(section, None) for section in parse_weights(text)]
    return many_chunks(pieces, vocabulary.limit, COMMA)[0]


def lengths(vocabulary: Vocabulary, text: str) -> list[int]:
    return [len(chunk.ids) for chunk in chunks(vocabulary, text)]


def test_the_vocabulary_is_the_real_one(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.tokenizer) == 49_408
    assert vocabulary.ids("a photo of a cat") == (320, 1125, 539, 320, 2368)
    assert vocabulary.ids(",") == (COMMA,)


@pytest.mark.parametrize("text", ["", "hills", "a " * 75, "a " * 76, "a lake, " * 60, "naïve 山水 ☃ isn't 2048"])
@pytest.mark.parametrize("end", ["", "_2"])
def test_a_plain_row_is_the_tokenizers_own(xl: StableDiffusion, text: str, end: str) -> None:
    tokenizer: Any = xl.text.tokenizers[bool(end)]
    theirs = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    vocabulary = Vocabulary(tokenizer, {})
    (chunk,), _ = one_chunk((((token,), 1.0) for token in vocabulary.ids(text)), vocabulary.limit)
    assert vocabulary.row(chunk) == theirs


def test_75_tokens_are_read_and_the_76th_is_told(sd: StableDiffusion) -> None:
    assert encoded(sd, "a " * 75).notices == ()
    (notice,) = encoded(sd, "a " * 75 + "forgotten castle").notices
    assert notice.code == "prompt-truncated"
    assert "prompt has 77 tokens and the model reads 75" in notice.detail
    assert "'forgotten castle'" in notice.detail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0]),
        ("a " * 75, [75]),
        ("a " * 76, [75, 1]),
        ("a " * 151, [75, 75, 1]),
        ("a BREAK a a", [1, 2]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("a BREAK BREAK a", [1, 0, 1]),
        ("a " * 76 + "BREAK a", [75, 1, 1]),
        # A comma within the last 20 tokens ends a chunk that is full, and an earlier one does not.
        ("a " * 60 + ", " + "a " * 20, [61, 20]),
        ("a " * 55 + ", " + "a " * 20, [56, 20]),
        ("a " * 54 + ", " + "a " * 21, [75, 1]),
        ("a " * 74 + ", a", [75, 1]),
        ("a " * 75 + ", a", [75, 2]),
    ],
)
def test_chunks_end_where_those_of_a1111_end(vocabulary: Vocabulary, text: str, expected: list[int]) -> None:
    assert lengths(vocabulary, text) == expected


def test_weights_are_of_the_tokens_of_their_words_and_of_no_mark(vocabulary: Vocabulary) -> None:
    (chunk,) = chunks(vocabulary, "a (photo of:1.5) a [cat]")
    assert chunk.weights == pytest.approx((1.0, 1.5, 1.5, 1.0, 1 / 1.1))
    row, weights = vocabulary.row(chunk), vocabulary.row_weights(chunk)
    assert (len(row), len(weights)) == (77, 77)
    assert (row[0], row[6], row[76]) == (START, END, END)
    assert [weight for token, weight in zip(row, weights, strict=True) if token in {START, END}] == [1.0] * 72


@pytest.mark.parametrize("model", ["sd", "xl"])
def test_a1111_syntax_without_markup_is_plain_to_the_bit(model: str, request: pytest.FixtureRequest) -> None:
    loaded = request.getfixturevalue(model)
    for prompt in (",", "a photo of a cat", "a " * 75, "a lake at dawn, mist 12:30"):
        plain, a1111 = encoded(loaded, prompt, "people"), encoded(loaded, prompt, "people", "a1111")
        assert torch.equal(plain.positive.states, a1111.positive.states)
        assert torch.equal(plain.negative.states, a1111.negative.states)
        assert a1111.notices == ()


@pytest.mark.parametrize("model", ["sd", "xl"])
def test_both_prompts_are_padded_to_one_length_with_chunks_of_no_words(
    model: str, request: pytest.FixtureRequest
) -> None:
    loaded = request.getfixturevalue(model)
    conditioning = encoded(loaded, "a " * 151, "people", "a1111")
    empty = encoded(loaded, "x", " ").negative.states
    assert conditioning.positive.states.shape[1] == conditioning.negative.states.shape[1] == 3 * 77
    assert torch.equal(conditioning.negative.states[:, :77], encoded(loaded, "x", "people").negative.states)
    assert torch.equal(conditioning.negative.states[:, 77:], torch.cat([empty, empty], 1))
    assert conditioning.notices == ()


def test_sdxls_whole_text_is_the_first_chunks(xl: StableDiffusion) -> None:
    long, first = encoded(xl, "hills BREAK lake", syntax="a1111"), encoded(xl, "hills")
    assert torch.equal(long.positive.pooled, first.positive.pooled)
    assert torch.equal(long.positive.states[:, :77], first.positive.states)
    assert torch.equal(long.positive.states[:, 77:], encoded(xl, "lake").positive.states)
    assert not long.negative.states.any()


def test_chunks_are_bounded_and_what_lies_beyond_is_told(sd: StableDiffusion) -> None:
    conditioning = encoded(sd, "a BREAK " * MAX_CHUNKS + "castle", syntax="a1111")
    assert conditioning.positive.states.shape[1] == MAX_CHUNKS * 77
    (notice,) = conditioning.notices
    assert notice.code == "prompt-truncated"
    assert "'castle'" in notice.detail
    assert encoded(sd, ("BREAK " * 333)[:2000], syntax="a1111").positive.states.shape[1] == MAX_CHUNKS * 77


def test_two_thousand_characters_of_english_are_read(sd: StableDiffusion) -> None:
    sentence = "a wide valley with a winding river, old stone bridges, snow on the distant peaks, soft light, "
    assert encoded(sd, (sentence * 30)[:2000], syntax="a1111").notices == ()


def test_the_cache_tells_weights_and_skipped_layers_apart(sd: StableDiffusion) -> None:
    prompts = ["snow", "(snow:1.5)", "(snow:1.2)"]
    ways: list[dict[str, Any]] = [{}, {"syntax": "a1111"}, {"syntax": "a1111", "clip_skip": 1}]
    texts = [encoded(sd, prompt, **way) for prompt in prompts for way in ways]
    different = {tuple(text.positive.states.flatten().tolist()) for text in texts}
    assert len(different) == 2 + 2 * 3  # plain and unweighted are one; each plain prompt, weight and layer is its own
