"""Random JSON texts: numbers in all spellings, strings with everything in them, nested containers."""

from __future__ import annotations

import json
import random

NUMBERS = [
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "7",
    "42",
    "100",
    "255",
    "1.0",
    "0.0",
    "-0.0",
    "1.5",
    "0.1",
    "0.3",
    "2.50",
    "1e2",
    "1E2",
    "1e-2",
    "1.5e3",
    "1e400",
    "-1e400",
    "1e-400",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "0.1234567890123456789",
    "4611686018427387904",
    "1577836800",
    "86400",
    "3600",
    "18262",
    "1e16",
    "12345678.9",
]
STRINGS = [
    "", "a", "b", "abc", "ABC", " AB ", "hi", "1", " 1 ", "+1", "01", "1.0", "1_000", "1.5", "nan", "inf", "true", "yes", "on", "null",
    "red", "blue", "green", "x" * 70, "é", "日本", "😀", "\x00", "\n", '"', "\\", "aa\n", "a b", "2020-01-01", "2020-01-01T00:00:00",
    "2020-01-01T00:00:00Z", "2020-02-30", "2020-01-01T12:30:45.1234567Z", "2020-01-01T12:30:45+02:00", "12:30", "12:30:45",
    "23:59:59.9999999", "PT1H", "pt1h", "P1W", "P1D", "01:00:00", "3600", "1577836800", "1.10", "1E2", "NaN", "Infinity", "YWI=",
    "12345678-1234-5678-1234-567812345678", "{12345678-1234-5678-1234-567812345678}", "urn:uuid:12345678-1234-5678-1234-567812345678",
    "12345678123456781234567812345678", "not-a-uuid", "a@example.com", "a@", "http://example.com/x", "192.0.2.1", "::1", "/tmp", "[1,2]",
    '{"x": 1}', "cat", "dog", "2020-01-01 00:00", "20200101", "1970-01-01T00:00:00.5", "0000-01-01", "9999-12-31", "10000-01-01",
]  # fmt: skip
ESCAPED = ['"\\u0061"', '"\\ud83d\\ude00"', '"\\/"', '"\\n\\t"', '"\\u00e9x"', '"\\u0000"']
KEYS = ["x", "y", "a", "kind", "name", "tags", "n", "1", "", "id", "é", "X", "value"]


class Tokens:
    """A source of random JSON texts that is the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def number(self) -> str:
        r = self.random
        if r.random() < 0.6:
            return r.choice(NUMBERS)
        whole = str(r.randint(-(10 ** r.randint(0, 20)), 10 ** r.randint(0, 20)))
        if r.random() < 0.4:
            whole += "." + str(r.randint(0, 10 ** r.randint(1, 18)))
        if r.random() < 0.2:
            whole += r.choice("eE") + r.choice(["", "+", "-"]) + str(r.randint(0, 330))
        return whole

    def string(self) -> str:
        if self.random.random() < 0.1:
            return self.random.choice(ESCAPED)
        return json.dumps(self.random.choice(STRINGS), ensure_ascii=self.random.random() < 0.5)

    def scalar(self) -> str:
        return self.random.choice([self.number, self.string, self.string, self.word])()

    def word(self) -> str:
        return self.random.choice(["true", "false", "null"])

    def value(self, depth: int = 3) -> str:
        kind = self.random.random()
        if depth == 0 or kind < 0.6:
            return self.scalar()
        return self.array(depth) if kind < 0.8 else self.object(depth)

    def space(self) -> str:
        return self.random.choice(["", "", "", " ", "\n", "\t "])

    def array(self, depth: int = 2) -> str:
        same = self.random.random() < 0.5
        make = self.random.choice([self.number, self.string, self.word])
        items = [make() if same else self.value(depth - 1) for _ in range(self.random.randint(0, 4))]
        return f"[{self.space()}{(',' + self.space()).join(items)}]"

    def object(self, depth: int = 2) -> str:
        keys = [self.random.choice(KEYS) for _ in range(self.random.randint(0, 4))]
        same = self.random.random() < 0.5
        make = self.random.choice([self.number, self.string, self.word])
        items = [f"{json.dumps(k)}:{self.space()}{make() if same else self.value(depth - 1)}" for k in keys]
        return f"{{{self.space()}{','.join(items)}}}"
