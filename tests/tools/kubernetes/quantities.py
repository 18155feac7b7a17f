"""Quantities as Kubernetes and hookcache write them."""

import re

UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
TIMES = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def cpu_millis(text):
    text = str(text)
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1_000)


def memory_bytes(text):
    number, unit = re.fullmatch(r"(\d+)([KMG]i|)", str(text)).groups()
    return int(number) * UNITS[unit]


def seconds(text):
    """`1h 30m`, as in hookcache.toml."""
    return sum(int(number) * TIMES[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h|d)", text))
