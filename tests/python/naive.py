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


def run_of(rows, where):
    """Rows at the end that match, and that do not; the longest run that matched."""
    matching = others = longest = 0
    for row in rows:
        matching, others = (matching + 1, 0) if where(row) else (0, others + 1)
        longest = max(longest, matching)
    return matching, others, longest


def lag(found, n):
    return found[-n - 1] if len(found) > n else None


def changes(found):
    return sum(1 for before, after in zip(found, found[1:]) if before != after)


def entropy(found):
    shares = [times / len(found) for times in Counter(found).values()]
    return sum(share * math.log2(1 / share) for share in shares)


def mix(found):
    return {value: times / len(found) for value, times in Counter(found).items()}


def histogram(found, edges):
    names = [f"<{edges[0]}", *(f"{low}-{high}" for low, high in zip(edges, edges[1:])), f">={edges[-1]}"]
    counts = Counter(sum(1 for edge in edges if value >= edge) for value in found)
    return {name: counts[cell] for cell, name in enumerate(names)}


def z_score(found):
    deviation = std(found)
    return (found[-1] - mean(found)) / deviation if deviation else None


def outliers(found, sigma):
    """Numbers that are far from the mean of those before them, of which there are five that are not all equal."""
    far = lambda before, value: abs(value - mean(before)) > sigma * std(before)
    return sum(1 for at, value in enumerate(found) if at >= 5 and len(set(found[:at])) > 1 and far(found[:at], value))


def top_k(found, k):
    ordered = sorted(Counter(found).items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"count": times, "value": value} for value, times in ordered[:k]]


def kilometres(one, other):
    """Haversine on a sphere of 6,371 km, as the contract has it."""
    (lat, lon), (lat_2, lon_2) = (tuple(map(math.radians, place)) for place in (one, other))
    a = math.sin((lat_2 - lat) / 2) ** 2 + math.sin((lon_2 - lon) / 2) ** 2 * math.cos(lat) * math.cos(lat_2)
    return 6371.0 * 2 * math.atan2(math.sqrt(a), math.sqrt(1 - a))


def path(places):
    return sum(kilometres(one, other) for one, other in zip(places, places[1:]))


def middle(places):
    return tuple(sum(place[axis] for place in places) / len(places) for axis in (0, 1))


def spread(places):
    if len(places) < 2:
        return None
    lat, lon = middle(places)
    off_lat = sum((place[0] - lat) ** 2 for place in places) / len(places)
    off_lon = sum((place[1] - lon) ** 2 for place in places) / len(places)
    return math.sqrt(off_lat * 111.32 ** 2 + off_lon * (111.32 * math.cos(math.radians(lat))) ** 2)


def from_home(places, samples):
    return kilometres(places[-1], middle(places[-samples:]))
