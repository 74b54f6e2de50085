"""What each operator means, in the plainest Python: whole lists, exact fractions, no state. The oracle of the conformance tests."""

import math
from collections import Counter
from fractions import Fraction


def count(rows, where=lambda row: True):
    return sum(1 for row in rows if where(row))


def values(rows, field, where=lambda row: True):
    return [row[field] for row in rows if where(row) and row.get(field) is not None]


def total(found):
    return float(sum(map(Fraction, found))) if found else None


def mean(found):
    return float(sum(map(Fraction, found)) / len(found)) if found else None


def var(found):
    if len(found) < 2:
        return None
    exact = [Fraction(value) for value in found]
    middle = sum(exact) / len(exact)
    return float(sum((value - middle) ** 2 for value in exact) / (len(exact) - 1))


def std(found):
    variance = var(found)
    return None if variance is None else math.sqrt(variance)


def ratio(rows, where):
    return count(rows, where) / len(rows) if rows else None


def quantile(found, q):
    """Linear interpolation at q * (n - 1), the exact tier's rule."""
    if not found:
        return None
    ordered = sorted(found)
    at = q * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def at_rank(found, q):
    """The value of rank floor(q * (n - 1)), the sketch's rule."""
    return sorted(found)[math.floor(q * (len(found) - 1))]


def n_unique(found):
    return len(set(found))


def top_k(found, k):
    ordered = sorted(Counter(found).items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"count": times, "value": value} for value, times in ordered[:k]]
